"""What each drafter proposes, and in which order drafters are asked."""

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
    assert refine.propose(context(first=1, count=2, rejected=(31801, 31802, 31803))) == [(31801, 31802)]


@pytest.mark.parametrize(("name", "history"), [("velocity", (NEWEST,)), ("refine", (BEFORE, NEWEST))])
def test_without_material_there_is_no_guess(name, history):
    (drafter,) = make_drafters([name])
    assert not drafter.propose(context(history=history))


def test_what_this_action_already_said_is_asked_first():
    assert [drafter.name for drafter in make_drafters(["velocity", "hold", "refine"])] == ["refine", "velocity", "hold"]


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="available: hold, refine, velocity"):
        make_drafters(["hold", "oracle"])


def test_every_registered_drafter_knows_its_name():
    assert all(make_drafters([name])[0].name == name for name in TRAINING_FREE)


def test_before_the_first_action_hold_guesses_that_the_arm_stands_still():
    (guess,) = make_drafters(["hold"])[0].propose(context(history=()))
    assert TOKENS.decode(guess).tolist() == [0.0, 0.0, 0.0]
