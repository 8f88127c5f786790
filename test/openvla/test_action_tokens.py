"""Action tokens: all 256 of them, everything around them, and the scale of a bin."""

import json
from pathlib import Path

import numpy as np
import pytest

from spec_vla_ros.errors import NonActionTokenError, NonFiniteError, StatisticsError
from spec_vla_ros.openvla.action_tokens import ActionTokens, choose_statistics

TOKENS = ActionTokens(32000, 256)
GOLDEN = Path(__file__).parents[2].parent / "shared" / "real" / "golden_actions.json"
Q01, Q99 = [-0.03, -0.02, -0.04, -0.1, -0.2, -0.3, 0.0], [0.02, 0.05, 0.04, 0.2, 0.1, 0.3, 1.0]
MASK = [True] * 6 + [False]


def statistics(**changes):
    """One entry of dataset_statistics.json."""
    return {"action": {"q01": Q01, "q99": Q99, "mask": MASK, **changes}}


def test_all_ids_decode_to_their_bin_and_back():
    ids = np.arange(31744, 32000)
    bins = TOKENS.to_bins(ids)
    assert bins.tolist() == [254, *range(254, -1, -1)]
    assert TOKENS.to_ids(bins[1:]).tolist() == ids[1:].tolist()
    assert (TOKENS.encode(TOKENS.decode(ids[1:])) == ids[1:]).all()


def test_known_values():
    assert TOKENS.encode([-1, 0, 0.9999, 1, -5, 5]).tolist() == [31999, 31872, 31745, 31744, 31999, 31744]
    assert TOKENS.decode([31999, 31872, 31745, 31744]) == pytest.approx([-0.99608, 0, 0.99608, 0.99608], abs=1e-5)


def test_rounding_error_is_at_most_half_a_bin():
    values = np.linspace(-1, 1, 5001)
    assert np.abs(TOKENS.decode(TOKENS.encode(values)) - values).max() <= 1 / 255 + 1e-12


@pytest.mark.parametrize("token", [0, 2, 31743, 32000, 32063, -1])
def test_other_ids_are_refused_and_named(token):
    # Clipping would turn the end token, 2, into full motion in the positive direction.
    with pytest.raises(NonActionTokenError, match=rf"\[{token}\]"):
        TOKENS.decode([31800, token])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_actions_have_no_token(value):
    with pytest.raises(NonFiniteError):
        TOKENS.encode([0.0, value])


def test_small_vocabularies_shift_the_ids():
    small = ActionTokens(768, 256)
    assert small.encode([-1, 1]).tolist() == [767, 512]
    assert not small.is_action(511)
    assert small.is_action(512)
    assert not small.is_action(768)


@pytest.mark.skipif(not GOLDEN.is_file(), reason=f"there is no {GOLDEN.name} of the real openvla-7b here")
@pytest.mark.parametrize("case", [0, 1])
def test_what_the_real_model_said_means_what_its_own_code_made_of_it(case):
    data = json.loads(GOLDEN.read_text())
    chosen = choose_statistics({"bridge_orig": {"action": {key: data[key] for key in ("q01", "q99", "mask")}}}, None)
    golden = data["cases"][case]
    ids = golden["ids"]
    values = chosen.unnormalise(TOKENS.decode(ids))
    assert values == pytest.approx(golden["action"], rel=0, abs=5e-9)  # printed with eight digits
    # 31744 is what exactly +1 is encoded as; it decodes to the centre of the bin below.
    again = TOKENS.encode(chosen.normalise(values))
    assert again.tolist() == [31745 if token == 31744 else token for token in ids]
    if "normalised" in golden:
        assert TOKENS.decode(ids) == pytest.approx(golden["normalised"], rel=0, abs=5e-9)
        assert TOKENS.to_bins(ids).tolist() == golden["indices"]


def test_figures_of_the_published_model():
    """The same for one of them, from a public log, where that folder does not exist."""
    ids = [31838, 31884, 31828, 31904, 31876, 31898, 31872]
    normalised = [0.26666667, -0.09411765, 0.34509804, -0.25098039, -0.03137255, -0.20392157, 0.0]
    assert TOKENS.decode(ids) == pytest.approx(normalised, rel=0, abs=5e-9)
    assert TOKENS.encode(TOKENS.decode(ids)).tolist() == ids


def test_unnormalising_maps_the_quantiles_and_leaves_the_gripper():
    chosen = choose_statistics({"k": statistics()}, None)
    assert chosen.unnormalise(np.full(7, -1.0)) == pytest.approx([*Q01[:6], -1.0])
    assert chosen.unnormalise(np.full(7, 1.0)) == pytest.approx([*Q99[:6], 1.0])
    values = np.array([0.01, 0.0, -0.02, 0.1, 0.05, -0.1, 1.0])
    assert chosen.unnormalise(chosen.normalise(values)) == pytest.approx(values, abs=1e-7)


def test_constant_dimensions_normalise_to_zero():
    chosen = choose_statistics({"k": statistics(q01=[0.0] * 7, q99=[0.0] * 7)}, None)
    assert chosen.normalise(np.full(7, 0.3))[:6].tolist() == [0.0] * 6


def test_a_missing_mask_means_every_dimension():
    assert choose_statistics({"k": statistics(mask=None)}, None).mask.all()


def test_a_single_key_is_the_default_and_several_must_be_named():
    assert choose_statistics({"only": statistics()}, None).key == "only"
    with pytest.raises(StatisticsError, match="a, b"):
        choose_statistics({"b": statistics(), "a": statistics()}, None)
    with pytest.raises(StatisticsError, match="none"):
        choose_statistics({}, None)
    with pytest.raises(StatisticsError, match=r"'c' not found.*a, b"):
        choose_statistics({"b": statistics(), "a": statistics()}, "c")


def test_libero_keys_may_carry_their_suffix():
    both = {"libero_goal_no_noops": statistics(), "other": statistics()}
    assert choose_statistics(both, "libero_goal").key == "libero_goal_no_noops"


@pytest.mark.parametrize(
    "changes",
    [
        {"q01": Q01[:6]},
        {"mask": MASK[:6]},
        {"q99": [*Q99[:6], float("nan")]},
        {"q99": [-1.0] * 7},
        {"q01": [], "q99": [], "mask": []},
        {"q01": "x"},
        {"q01": None},
    ],
)
def test_invalid_statistics_are_refused(changes):
    with pytest.raises(StatisticsError, match="'k'"):
        choose_statistics({"k": statistics(**changes)}, "k")
    with pytest.raises(StatisticsError, match="'k'"):
        choose_statistics({"k": {}}, "k")


def test_a_bin_in_millimetres_and_milliradians():
    width = 1000 * choose_statistics({"k": statistics()}, None).bin_width()
    assert width[:6] == pytest.approx([1000 * (high - low) / 255 for low, high in zip(Q01[:6], Q99[:6], strict=True)])
    assert width[6] == pytest.approx(2000 / 255)
