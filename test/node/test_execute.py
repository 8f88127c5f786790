"""A mission layer commands the node: ``~/execute`` on the wire."""

import os
import signal
import time

import processes
import pytest

REST = [0.0002, 0.0, 0.0, 0.0, 0.0, 0.001, 1.0]  # at rest, but not quite still

# A busy machine is not what is tested here.
PATIENT = {"heartbeat_timeout": 5.0, "image_timeout": 5.0, "arm_timeout": 0.0}


def policy(*steps, **more):
    from spec_vla_ros.policy import ScriptedPolicy

    return ScriptedPolicy(list(steps), **more)


@pytest.fixture
def driven(rig):
    """An active node without an instruction, and a mission layer that knows it."""

    def make(*steps, activate=True, **parameters):
        from mission import Mission
        from rig import DRIVING, FORWARD

        one = rig(policy(*(steps or [FORWARD])), **{**DRIVING, "instruction": "", **PATIENT, **parameters})
        one.mission = Mission(one.probe)
        one.until(one.mission.ready, what="the action server")
        return one.activate() if activate else one

    return make


def accepted(one, *arguments, **fields):
    sent = one.mission.send(*arguments, **fields)
    one.until(lambda: sent.accepted is not None, what="an answer to the goal")
    assert sent.accepted
    return sent


def rejected(one, *arguments, **fields):
    sent = one.mission.send(*arguments, **fields)
    one.until(lambda: sent.accepted is not None, what="an answer to the goal")
    return not sent.accepted


def ended(one, sent, timeout=10.0):
    """Status and result of a goal."""
    one.until(lambda: sent.result is not None, timeout, "the result of the goal")
    return sent.result


def assert_holding(one):
    """By stamps: velocities of before may be under way still when a result or a line of diagnostics is there."""
    from rig import seconds, six

    one.until(lambda: one.control().get("instruction") == "", what="the end of the instruction")
    told = seconds(one.now())

    def later():
        return [message for message in one.twists if seconds(message.header.stamp) > told]

    one.until(lambda: len(later()) >= 30, what="velocities")
    assert not any(six(message).any() for message in later())


# -- how a goal ends by itself


def test_a_goal_is_carried_out_until_the_arm_is_at_rest(driven):
    from mission import SUCCEEDED, Result
    from rig import FORWARD

    one = driven(FORWARD, FORWARD, REST)
    sent = accepted(one, "pick up the block", at_rest_steps=3)
    status, result = ended(one, sent)
    assert (status, result.outcome, result.fault, result.actions) == (SUCCEEDED, Result.SUCCEEDED_AT_REST, "", 5)
    assert "3 actions" in result.message
    assert 0.5 < result.elapsed < 10.0
    assert set(one.policy.instructions) == {"pick up the block"}
    assert_holding(one)
    assert one.policy.inferences == 5, "nothing is thought of any more"


def test_feedback_tells_how_far_it_is(driven):
    from rig import FORWARD

    one = driven()
    sent = accepted(one, "pick up the block")
    one.until(lambda: sent.feedback and sent.feedback[-1].actions == 3)
    first, last = sent.feedback[0], sent.feedback[-1]
    assert (first.actions, first.verifier_passes, list(first.delta)) == (0, 0, [0.0] * 6)
    assert first.gripper != first.gripper
    assert list(last.delta) == pytest.approx(FORWARD[:6])
    assert (last.gripper, last.verifier_passes) == (1.0, 1)
    times = [feedback.elapsed for feedback in sent.feedback]
    assert times == sorted(times)
    assert {"thinking", "looking", "moving"} & {feedback.state for feedback in sent.feedback}
    one.until(lambda: one.mission.status(sent) == 2, what="the status EXECUTING")


@pytest.mark.parametrize(("at_rest_steps", "succeeds"), [(0, True), (50, False)])
def test_the_time_limit_is_a_success_where_nothing_else_was_asked_for(driven, at_rest_steps, succeeds):
    from mission import ABORTED, SUCCEEDED, Result

    one = driven()
    status, result = ended(one, accepted(one, "wave", time_limit=1.0, at_rest_steps=at_rest_steps))
    assert (status, result.outcome) == (SUCCEEDED if succeeds else ABORTED, Result.TIME_LIMIT)
    assert 1.0 <= result.elapsed < 3.0
    assert_holding(one)


# -- cancelling


def test_zero_is_on_the_wire_before_the_result_of_a_cancelled_goal(driven):
    from mission import CANCELED, Result
    from rig import seconds, six

    one = driven(step_dt=2.0, image_timeout=5.0)
    sent = accepted(one, "pick up the block")
    one.until_moving()
    sent.cancel()
    status, result = ended(one, sent, timeout=1.5)
    told = seconds(one.now())
    assert sent.cancelling
    assert (status, result.outcome) == (CANCELED, Result.CANCELLED)
    heard = [(seconds(m.header.stamp), six(m).any()) for m in [*one.twists, *one.until_ticks(30)]]
    moved = max(at for at, moving in heard if moving)
    assert min(at for at, moving in heard if at > moved) <= told
    assert_holding(one)


def test_a_cancelled_goal_is_a_fault_where_nobody_confirms_the_zero(driven):
    from mission import ABORTED, Result

    one = driven()
    sent = accepted(one, "pick up the block")
    one.until_moving()
    pid = one.node._arm.safety.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        sent.cancel()
        status, result = ended(one, sent, timeout=3.0)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (status, result.outcome, result.fault) == (ABORTED, Result.FAULT, "SAFETY_LOOP_SILENT")
    assert "cancelled by the client" in result.message


def test_a_goal_that_has_ended_cannot_be_cancelled(driven):
    one = driven(REST)
    sent = accepted(one, "pick up the block", at_rest_steps=1)
    ended(one, sent)
    sent.cancel()
    one.until(lambda: sent.cancelling is not None)
    assert not sent.cancelling


# -- who wins


def test_the_topic_preempts_even_with_the_same_words(driven):
    from mission import ABORTED, Result

    one = driven()
    for words in ("put it down", "pick up the block"):
        sent = accepted(one, "pick up the block")
        one.until_moving()
        one.say(words)
        status, result = ended(one, sent)
        assert (status, result.outcome) == (ABORTED, Result.PREEMPTED)
        assert "topic" in result.message
        one.until(lambda: one.actions and one.actions[-1].instruction == words)  # noqa: B023 - at once
        one.until_moving()


def test_the_parameter_preempts(driven):
    from mission import ABORTED, Result

    one = driven()
    sent = accepted(one, "pick up the block")
    one.until_moving()
    assert one.set(instruction="put it down")
    status, result = ended(one, sent)
    assert (status, result.outcome) == (ABORTED, Result.PREEMPTED)
    assert "parameter" in result.message
    one.until(lambda: one.actions and one.actions[-1].instruction == "put it down")


def test_a_second_goal_preempts_the_first(driven):
    from mission import ABORTED, Result

    one = driven()
    first = accepted(one, "pick up the block")
    one.until_moving()
    second = accepted(one, "put it down", time_limit=1.5)
    status, result = ended(one, first)
    assert (status, result.outcome) == (ABORTED, Result.PREEMPTED)
    assert second.result is None
    assert ended(one, second)[1].outcome == Result.TIME_LIMIT
    assert one.policy.instructions[-1] == "put it down"
    assert_holding(one)


def test_a_goal_replaces_the_standing_instruction_for_good(driven):
    """When it is over the arm holds; it does not go back to what it did before."""
    one = driven(instruction="tidy the table")
    one.until_moving()
    ended(one, accepted(one, "wave", time_limit=0.5))
    assert_holding(one)
    one.say("tidy the table")
    one.until_moving()


# -- what goes wrong


def test_a_fault_ends_the_goal_with_its_name_and_remedy(driven):
    from mission import ABORTED, Result
    from rig import FORWARD

    def fails_after_the_first(image, instruction):
        if any(action.commanded for action in one.actions):  # one that meets a new listener is refused, and no action
            raise ValueError("no such luck")
        return FORWARD

    one = driven(fails_after_the_first)
    status, result = ended(one, accepted(one, "pick up the block"))
    assert (status, result.outcome, result.fault) == (ABORTED, Result.FAULT, "WORKER_EXCEPTION")
    assert "no such luck" in result.message
    assert result.actions >= 1
    assert rejected(one, "again"), "a fault is latched"
    one.node.trigger_deactivate()
    one.node.trigger_activate()
    accepted(one, "again")


def test_deactivation_ends_the_goal(driven):
    from mission import ABORTED, Result

    one = driven()
    sent = accepted(one, "pick up the block")
    one.until_moving()
    one.node.trigger_deactivate()
    status, result = ended(one, sent)
    assert (status, result.outcome) == (ABORTED, Result.NOT_ACTIVE)


def test_a_node_that_stops_being_active_between_yes_and_the_goal(driven):
    """Another callback may come between the two: the goal would have stayed under way for ever."""
    from dataclasses import replace

    from mission import ABORTED, Result

    one = driven()
    answers = iter(["", "the node is inactive, not active"])
    goals = one.node._goals
    goals._host = replace(goals._host, obstacle=lambda: next(answers))
    status, result = ended(one, accepted(one, "pick up the block"))
    assert (status, result.outcome, result.message) == (ABORTED, Result.NOT_ACTIVE, "the node is inactive, not active")
    assert one.control()["instruction"] == ""


def test_an_instruction_that_the_policy_refuses_ends_the_goal(driven):
    from mission import ABORTED, Result

    from spec_vla_ros.errors import InstructionError

    one = driven(InstructionError("the prompt has 300 tokens"))
    status, result = ended(one, accepted(one, "pick up the block"))
    assert (status, result.outcome, result.fault) == (ABORTED, Result.REFUSED, "INSTRUCTION_INVALID")
    assert "300 tokens" in result.message
    assert_holding(one)


def test_goals_are_rejected_while_the_node_is_not_active(driven):
    one = driven(activate=False)
    assert rejected(one, "pick up the block")
    one.node.trigger_configure()
    assert rejected(one, "pick up the block")
    one.node.trigger_activate()
    accepted(one, "pick up the block")


def test_goals_that_say_nothing_or_too_much_are_rejected_and_change_nothing(driven):
    one = driven()
    going = accepted(one, "pick up the block")
    one.until_moving()
    for words in ("", " \n", "</s>", "x" * 401, "x" * 100_000):
        assert rejected(one, words)
    for limit in (-1.0, float("nan"), float("inf")):
        assert rejected(one, "pick up the block", time_limit=limit)
    assert rejected(one, "pick up the block", key=going.key), "the identifier is taken"
    count = len(one.actions)
    one.until(lambda: len(one.actions) > count + 1)
    assert going.result is None
    assert one.control()["instruction"] == "pick up the block"


# -- the client


def test_a_killed_client_stops_the_arm(driven):
    """A process that is killed says no goodbye, and stays in the graph for 10 to 20 s."""
    one = driven()
    with processes.beside() as begin:
        client = begin(processes.ROOT / "test" / "mission.py", "pick up the block")
        one.until(lambda: one.actions, 60.0, "the process")
        one.until(lambda: one.node._goals._clients._proven, what="a confirmation of feedback")
        client.kill()
        client.wait()
        killed_at = time.monotonic()
        one.until(lambda: one.control()["instruction"] == "", 3.0, "the end of the instruction")
        assert time.monotonic() - killed_at < 2.5
        assert_holding(one)
    again = accepted(one, "pick up the block")  # the dead one is still in the graph, for some seconds
    one.until_moving()
    limit = time.monotonic() + 25.0
    one.until(lambda: one.node._goals._clients._proven or time.monotonic() > limit, 30.0)
    assert one.node._goals._clients._proven, "the dead one was forgotten"
    count = len(one.actions)
    one.until(lambda: len(one.actions) > count + 2)
    assert again.result is None, "nobody has left who could have sent it"


def test_a_client_that_leaves_stops_the_arm_and_one_who_looks_on_does_not(driven):
    from mission import Mission
    from rclpy.node import Node
    from spec_vla_ros.action import ExecuteInstruction

    one = driven()
    watcher, other = Node("watcher"), Node("other")
    watcher.create_subscription(ExecuteInstruction.Impl.FeedbackMessage, "/act/execute/_action/feedback", print, 10)
    try:
        one.executor.add_node(other)
        mission = Mission(other)
        one.until(mission.ready)
        sent = mission.send("pick up the block")
        one.until_moving()
        assert sent.accepted
        one.until(lambda: one.node._goals._clients._known, what="knowledge of the client")
        watcher.destroy_node()
        count = len(one.actions)
        one.until(lambda: len(one.actions) > count + 2)
        one.executor.remove_node(other)
        other.destroy_node()
        one.until(lambda: one.control()["instruction"] == "", 2.0, "the end of the instruction")
        assert_holding(one)
    finally:
        watcher.destroy_node()
        other.destroy_node()
