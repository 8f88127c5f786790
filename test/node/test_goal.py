"""The goal of a mission layer by itself: what ends it, what counts first, and when that may be told."""

import math
from pathlib import Path

import numpy as np
import pytest

from spec_vla_ros.errors import InstructionError
from spec_vla_ros.motion.intent import Report
from spec_vla_ros.motion.watchdog import Fault
from spec_vla_ros.node.clients import SETTLING, SILENCE
from spec_vla_ros.node.goal import AT_REST, STANDSTILL, Goal, Order, Outcome, Phase, stands_still

STILL, MOVING = Report(at=0.0, heard=1e9), Report(at=0.0, heard=1e9, moving=True)
FORWARD, REST = np.array([0.01, 0, 0, 0, 0, 0]), np.zeros(6)


def goal(time_limit=0.0, at_rest_steps=0):
    return Goal(Order.of("pick up the block", time_limit, at_rest_steps), 10.0)


def act(one, delta, opened=True, now=11.0):
    one.act(np.asarray(delta, dtype=float), 1.0, opened, 2, now)


# -- orders


def test_an_order_is_cleaned_as_on_the_topic():
    assert Order.of("Pick up\n the <red block>\n", 1.0, 2) == Order("Pick up  the <red block>", 1.0, 2)


def test_an_order_in_the_log():
    assert str(Order("wave", 0.0, 0)) == "'wave', no time limit, not until at rest"
    assert str(Order("wave", 2.5, 3)) == "'wave', at most 2.5 s, until 3 actions at rest"


def test_the_documentation_names_the_same_times():
    text = (Path(__file__).parents[2] / "docs" / "mission.md").read_text()
    for said in (f"within {STANDSTILL:.0f} s", f"confirmed for {SILENCE} s", f"within {SETTLING:.0f} s of the goal"):
        assert said in text


@pytest.mark.parametrize("text", ["", "  ", "</s>", "x" * 401, "x" * 10_000_000])
def test_an_order_that_says_nothing_or_too_much_is_refused(text):
    with pytest.raises(InstructionError):
        Order.of(text, 0.0, 0)


@pytest.mark.parametrize("limit", [-0.001, math.nan, math.inf, -math.inf])
def test_a_time_limit_that_is_none_is_refused(limit):
    with pytest.raises(InstructionError, match="time_limit"):
        Order.of("wave", limit, 0)


def test_the_outcomes_are_those_of_the_action():
    text = (Path(__file__).parents[2] / "action" / "ExecuteInstruction.action").read_text()
    constants = dict(line.split("#")[0].removeprefix("uint8 ").split("=") for line in text.splitlines() if "=" in line
                     and line.startswith("uint8 "))  # fmt: skip
    assert {name: int(value) for name, value in constants.items()} == {one.name: one.value for one in Outcome}
    assert f"{1e3 * AT_REST[0]:.0f} mm and {1e3 * AT_REST[1]:.0f} mrad" in " ".join(text.replace("#", " ").split())


# -- at rest


def test_actions_at_rest_are_counted_in_a_row():
    one = goal(at_rest_steps=3)
    for delta in (REST, REST, FORWARD, REST, REST):
        act(one, delta)
        assert one.phase is Phase.RUNNING
    act(one, REST, now=12.5)
    assert one.ending.outcome is Outcome.SUCCEEDED_AT_REST
    assert (one.progress.actions, one.elapsed(99.0)) == (6, 2.5)


@pytest.mark.parametrize(
    ("delta", "at_rest"),
    [
        ([0.00099, 0, 0, 0, 0, 0], True),
        ([0.001, 0, 0, 0, 0, 0], False),
        ([0.0008, 0.0008, 0, 0, 0, 0], False),
        ([0, 0, 0, 0, 0, 0.0099], True),
        ([0, 0, 0, -0.01, 0, 0], False),
        ([0, 0, -0.0009, 0, 0.00996, 0], True),
        ([0, 0, 0.0011, 0, 0, 0], False),
        ([0, 0, 0, 0.009, 0, 0], True),
    ],
)
def test_rest_is_less_than_a_millimetre_and_ten_milliradians(delta, at_rest):
    one = goal(at_rest_steps=1)
    act(one, REST, opened=True)  # the gripper opens
    assert one.phase is Phase.RUNNING
    act(one, delta)
    assert (one.phase is Phase.ENDING) == at_rest


def test_the_first_action_may_be_at_rest_and_counts_as_one():
    one = goal(at_rest_steps=1)
    assert (one.ending, one.elapsed(12.0)) == (None, 2.0)
    assert (one.progress.actions, one.progress.passes, one.progress.delta) == (0, 0, None)
    act(one, REST, opened=None)
    assert (one.phase, one.ending.fault) == (Phase.ENDING, None)


def test_a_gripper_that_is_told_something_is_not_at_rest():
    """The arm waits while the hand closes, and lifts afterwards."""
    one = goal(at_rest_steps=2)
    for opened in (None, True, True, False, False):
        assert one.phase is Phase.RUNNING
        act(one, REST, opened)
    assert one.phase is Phase.RUNNING
    act(one, REST, False)
    assert one.phase is Phase.ENDING


def test_without_at_rest_steps_rest_is_no_reason_to_stop():
    one = goal()
    for _ in range(100):
        act(one, REST)
    assert one.phase is Phase.RUNNING


# -- the time limit


def test_the_time_limit_counts_from_acceptance():
    one = goal(time_limit=5.0)
    one.look(14.99, MOVING)
    assert one.phase is Phase.RUNNING
    one.look(15.0, STILL)
    assert one.ending.outcome is Outcome.TIME_LIMIT
    assert one.phase is Phase.ENDING, "it was still between two steps, and has yet to be told to stay so"
    one.look(15.1, STILL)
    assert one.phase is Phase.ENDED


def test_without_a_time_limit_time_is_no_reason_to_stop():
    one = goal()
    one.look(1e6, STILL)
    assert one.phase is Phase.RUNNING


# -- from the reason to the result


def test_the_first_reason_counts():
    one = goal(time_limit=1.0)
    assert one.end(Outcome.CANCELLED, 10.5, "cancelled")
    assert not one.end(Outcome.FAULT, 10.6, "a fault", Fault("NO_IMAGE", "none", "look"))
    assert not one.end(Outcome.PREEMPTED, 10.6, "another goal")
    act(one, FORWARD)
    one.look(11.1, MOVING)
    assert (one.phase, one.ending.outcome, one.progress.actions) == (Phase.ENDING, Outcome.CANCELLED, 0)


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.PREEMPTED])
def test_nothing_is_told_before_the_arm_stands_still(outcome):
    one = goal()
    one.end(outcome, 20.0, "")
    one.look(20.1, MOVING)
    assert one.phase is Phase.ENDING
    one.look(20.1, Report(at=20.0, heard=19.9))
    assert one.phase is Phase.ENDING, "it has not heard of it"
    one.look(20.2, Report(at=20.2, heard=20.0))
    assert one.phase is Phase.ENDED
    assert one.ending.outcome is outcome


def test_a_preempted_goal_waits_for_nothing_as_the_arm_goes_on():
    one = goal()
    one.end(Outcome.PREEMPTED, 20.0, "")
    assert one.phase is Phase.ENDED


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.SUCCEEDED_AT_REST, Outcome.TIME_LIMIT])
def test_without_a_confirmation_it_is_a_fault(outcome):
    one = goal()
    one.end(outcome, 20.0, "cancelled by the client")
    one.look(20.0 + STANDSTILL, MOVING)
    assert one.phase is Phase.ENDING
    one.look(20.01 + STANDSTILL, MOVING)
    assert (one.phase, one.ending.outcome, one.ending.fault.name, one.verb) == (
        Phase.ENDED, Outcome.FAULT, "SAFETY_LOOP_SILENT", "abort",
    )  # fmt: skip
    assert one.ending.message.startswith("cancelled by the client; SAFETY_LOOP_SILENT")


def test_a_fault_keeps_its_name_without_a_confirmation():
    one = goal()
    one.end(Outcome.FAULT, 20.0, "no image", Fault("NO_IMAGE", "none", "look"))
    one.look(30.0, MOVING)
    assert (one.phase, one.ending.fault.name) == (Phase.ENDED, "NO_IMAGE")


@pytest.mark.parametrize(("standing", "outcome"), [(True, Outcome.NOT_ACTIVE), (False, Outcome.FAULT)])
def test_deactivation_ends_a_goal_at_once(standing, outcome):
    one = goal()
    one.close(20.0, standing)
    assert (one.phase, one.ending.outcome) == (Phase.ENDED, outcome)


def test_deactivation_does_not_change_why_a_goal_has_ended():
    ended, ending = goal(), goal()
    ended.end(Outcome.PREEMPTED, 11.0, "")
    ending.end(Outcome.CANCELLED, 11.0, "")
    for one in (ended, ending):
        one.close(20.0, True)
    assert (ended.ending.outcome, ending.ending.outcome) == (Outcome.PREEMPTED, Outcome.CANCELLED)
    ended.close(20.0, False)
    assert ended.ending.outcome is Outcome.PREEMPTED


@pytest.mark.parametrize(
    ("report", "still"),
    [
        (Report(at=6.0, heard=5.0), True),
        (Report(at=6.0, heard=4.9), False),
        (Report(at=6.0, heard=5.0, moving=True), False),
        (Report(at=6.0, heard=5.0, moving=True, zero_at=4.9), False),
        (Report(at=6.0, heard=5.0, moving=True, zero_at=5.0), True),
    ],
)
def test_standing_still_is_read_from_what_was_heard_and_done_afterwards(report, still):
    """A step that began later is another one's: the step of the goal was over before."""
    assert stands_still(report, 5.0) == still


@pytest.mark.parametrize(
    ("outcome", "at_rest_steps", "verb"),
    [
        (Outcome.SUCCEEDED_AT_REST, 3, "succeed"),
        (Outcome.TIME_LIMIT, 0, "succeed"),
        (Outcome.TIME_LIMIT, 3, "abort"),
        (Outcome.CANCELLED, 0, "canceled"),
        (Outcome.PREEMPTED, 0, "abort"),
        (Outcome.FAULT, 0, "abort"),
        (Outcome.NOT_ACTIVE, 0, "abort"),
        (Outcome.REFUSED, 0, "abort"),
        (Outcome.CLIENT_GONE, 0, "abort"),
    ],
)
def test_what_a_client_sees_that_knows_no_outcomes(outcome, at_rest_steps, verb):
    one = goal(at_rest_steps=at_rest_steps)
    one.end(outcome, 11.0, "")
    assert one.verb == verb
