"""What each drafter proposes, and in which order drafters are asked."""

import itertools

import pytest

from spec_vla_ros.decoding.drafters import TRAINING_FREE, DraftContext, make_drafters
from spec_vla_ros.openvla.action_tokens import ActionTokens

TOKENS = ActionTokens(32000, 256)
BEFORE, NEWEST = (31990, 31900, 31872, 31999), (31980, 31890, 31872, 31744)


def context(**changes):
    """Context of a first pass over a 4-dimensional action with two past actions."""
    return DraftContext(
        **{
            "first": 0,
            "count": 3,
            "width": 4,
            "radii": (9,) * 4,
            "tokens": TOKENS,
            "history": (BEFORE, NEWEST),
            **changes,
        }
    )


def test_hold_repeats_the_newest_action():
    (hold,) = make_drafters(["hold"])
    assert list(hold.propose(context())) == [NEWEST[:3]]
    assert list(hold.propose(context(first=2, count=1))) == [NEWEST[2:3]]


def test_velocity_extrapolates_and_holds_the_gripper():
    (velocity,) = make_drafters(["velocity"])
    assert velocity.propose(context(count=4)) == [[31970, 31880, 31872, 31745]]


def test_velocity_stays_within_the_action_tokens():
    (velocity,) = make_drafters(["velocity"])
    history = ((31760, 31990, 31872), (31745, 31999, 31872))
    assert velocity.propose(context(history=history, count=2)) == [[31745, 31999]]


def test_refine_offers_what_the_verifier_said_on_rejected_rows():
    (refine,) = make_drafters(["refine"])
    assert refine.propose(context(first=1, count=2, width=1, rejected=(31801, 31802, 31803))) == [[31801, 31802]]


@pytest.mark.parametrize(("name", "history"), [("velocity", (NEWEST,)), ("refine", (BEFORE, NEWEST))])
def test_without_material_there_is_no_guess(name, history):
    (drafter,) = make_drafters([name])
    assert not drafter.propose(context(history=history))


def test_what_this_action_already_said_is_asked_first():
    assert [drafter.name for drafter in make_drafters(["velocity", "hold", "refine"])] == ["refine", "velocity", "hold"]


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="available: hold, refine, sweep, velocity"):
        make_drafters(["hold", "oracle"])


def test_every_registered_drafter_knows_its_name():
    assert all(make_drafters([name])[0].name == name for name in TRAINING_FREE)


def test_before_the_first_action_hold_guesses_that_the_arm_stands_still():
    (guess,) = make_drafters(["hold"])[0].propose(context(history=()))
    assert TOKENS.decode(guess).tolist() == [0.0, 0.0, 0.0]


def test_sweep_leaves_no_gap_between_its_windows():
    (sweep,) = make_drafters(["sweep"])
    branches = sweep.propose(context(width=99))
    assert branches[0] == list(NEWEST[:3]), "the held action comes first"
    assert all(branch[1:] == list(NEWEST[1:3]) for branch in branches)
    bins = sorted(TOKENS.to_bins([branch[0] for branch in branches]).tolist())
    assert all(b - a == 19 for a, b in itertools.pairwise(bins)), "windows of 9 bins to either side touch"
    assert bins[0] < 19
    assert bins[-1] > 254 - 19
    assert sweep.propose(context(width=3)) == branches[:3]
    assert not sweep.propose(context(first=1, emitted=(31990,))), "later the verifier's own choices are better"


def test_refine_moves_one_dimension_at_a_time_and_the_last_one_everywhere():
    (refine,) = make_drafters(["refine"])
    base = (31801, 31802, 31999)
    branches = refine.propose(context(rejected=base, width=99))
    assert branches[0] == list(base)
    ends = []
    for branch in branches[1:]:
        ((place, token),) = [(i, a) for i, (a, b) in enumerate(zip(branch, base, strict=True)) if a != b]
        assert TOKENS.is_action(token)
        if place == 2:
            ends.append(token)
        else:
            assert abs(token - base[place]) in (19, 38)
    assert len(branches) == 1 + len(ends) + 2 * 2
    bins = sorted(TOKENS.to_bins([base[2], *ends]).tolist())
    assert all(b - a == 19 for a, b in itertools.pairwise(bins)), "the windows of the last dimension leave no gap"
    assert bins[0] < 19
    assert bins[-1] > 254 - 19
    assert refine.propose(context(rejected=base, width=1)) == [list(base)]
