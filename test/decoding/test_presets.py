"""Presets: what they decide, what they leave alone, and what happens where a head is missing."""

import pytest

from spec_vla_ros.decoding.drafters import make_drafters
from spec_vla_ros.decoding.presets import CUSTOM, NAMES, PRESETS, resolve
from spec_vla_ros.policy_types import DecodeSettings

BOTH = ("vision", "eagle")


def test_auto_may_take_whatever_drafts_well_somewhere():
    """Which of them is quickest depends on the device; the planner chooses for every action."""
    settings = DecodeSettings(preset="auto")
    with_head, without = resolve(settings, BOTH), resolve(settings, ())
    assert set(with_head.drafters) == {*PRESETS["training_free"].drafters, *PRESETS["fastest"].drafters}
    assert set(without.drafters) == set(PRESETS["training_free"].drafters)
    assert (with_head.preset, with_head.draft_width, without.draft_width) == ("auto", 0, 0)


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in ("spec_vla", "autoregressive")])
def test_trees_are_chosen_by_what_they_cost_here(name):
    assert resolve(DecodeSettings(preset=name, draft_width=7), BOTH).draft_width == 0


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("heads", [(), ("vision",), ("eagle",), BOTH])
def test_what_comes_out_can_be_made_from_the_heads_that_there_are(name, heads):
    resolved = resolve(DecodeSettings(preset=name), heads)
    make_drafters(resolved.drafters, dict.fromkeys(heads, make_drafters(["hold"])[0]))
    assert resolved.preset in (name, "training_free")


@pytest.mark.parametrize("name", NAMES)
def test_radius_and_depth_stay_the_operators(name):
    resolved = resolve(DecodeSettings(preset=name, acceptance_radius=3, draft_depth=2), BOTH)
    assert (resolved.acceptance_radius, resolved.draft_depth) == (3, 2)


def test_custom_keeps_everything_but_drafters_without_a_head():
    settings = DecodeSettings(preset=CUSTOM, drafters=("vision", "hold"), emit="draft", draft_width=3)
    assert resolve(settings, ("vision",)) == settings
    assert resolve(settings, ()).drafters == ("hold",)


def test_the_paper_is_the_paper():
    resolved = resolve(DecodeSettings(preset="spec_vla"), BOTH)
    assert (resolved.drafters, resolved.emit, resolved.draft_width) == (("eagle",), "draft", 8)
