"""Presets: what they decide, what they leave alone, and what happens where a head is missing."""

import pytest

from spec_vla_ros.decoding.drafters import make_drafters
from spec_vla_ros.decoding.presets import CUSTOM, NAMES, PRESETS, resolve
from spec_vla_ros.policy_types import DecodeSettings

BOTH = ("vision", "eagle")


def test_auto_is_the_fastest_that_there_is():
    settings = DecodeSettings(preset="auto")
    assert resolve(settings, BOTH).preset == "fastest"
    assert resolve(settings, ()).preset == "training_free"


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
