"""The server's side of actions, on whichever rclpy there is, asked by services and topics as an action client asks."""

import pytest

ACCEPTED, EXECUTING, CANCELING, SUCCEEDED, CANCELED, ABORTED = range(1, 7)  # of action_msgs/msg/GoalStatus


@pytest.fixture
def serve(make_node, spin_until):
    """A server with the given callbacks in one node, and a client in another."""
    from mission import Mission
    from rclpy.action import ActionServer
    from spec_vla_ros.action import ExecuteInstruction

    servers = []

    def make(execute, **callbacks):
        node, asking = make_node(), make_node()
        servers.append(ActionServer(node, ExecuteInstruction, "~/execute", execute, **callbacks))
        mission = Mission(asking, f"{node.get_fully_qualified_name()}/execute")
        mission.asking = asking
        spin_until(mission.ready, node, asking)
        return mission

    yield make
    for server in servers:
        server.destroy()


def result(message):
    from spec_vla_ros.action import ExecuteInstruction

    return ExecuteInstruction.Result(message=message)


def consent(handle):
    from rclpy.action import CancelResponse

    return CancelResponse.ACCEPT


def test_a_goal_is_executed_and_its_result_is_told(serve, spin_until):
    from spec_vla_ros.action import ExecuteInstruction

    def execute(handle):
        handle.publish_feedback(ExecuteInstruction.Feedback(actions=7))
        handle.succeed()
        return result(handle.request.instruction)

    mission = serve(execute)
    sent = mission.send("pick up the block")
    spin_until(lambda: sent.result)
    assert (sent.result[0], sent.result[1].message) == (SUCCEEDED, "pick up the block")
    spin_until(lambda: sent.feedback)
    assert sent.feedback[0].actions == 7
    spin_until(lambda: mission.status(sent) == SUCCEEDED)


def test_a_coroutine_waits_without_holding_up_anybody(serve, spin_until):
    from rclpy.task import Future

    futures = {}

    async def execute(handle):
        futures[handle.request.instruction] = future = Future()
        text = await future
        handle.abort()
        return result(text)

    mission = serve(execute)
    first, second = mission.send("first"), mission.send("second")
    spin_until(lambda: len(futures) == 2)
    spin_until(lambda: (mission.status(first), mission.status(second)) == (EXECUTING, EXECUTING))
    futures["second"].set_result("done")
    spin_until(lambda: second.result)
    assert (second.result[0], second.result[1].message) == (ABORTED, "done")
    assert first.result is None
    futures["first"].set_result("too")
    spin_until(lambda: first.result)


def test_what_the_goal_callback_refuses_is_not_accepted(serve, spin_until):
    from rclpy.action import GoalResponse

    mission = serve(print, goal_callback=lambda goal: GoalResponse.REJECT)
    sent = mission.send("pick up the block")
    spin_until(lambda: sent.accepted is not None)
    assert not sent.accepted


def test_an_identifier_counts_once(serve, spin_until):
    async def execute(handle):
        handle.succeed()
        return result("once")

    mission = serve(execute)
    sent = mission.send("first")
    spin_until(lambda: sent.result)
    again = mission.send("second", key=sent.key)
    spin_until(lambda: again.accepted is not None)
    assert not again.accepted


def test_execution_may_begin_later(serve, spin_until):
    handles = []

    def execute(handle):
        handle.succeed()
        return result("late")

    mission = serve(execute, handle_accepted_callback=handles.append)
    sent = mission.send("pick up the block")
    spin_until(lambda: handles)
    assert handles[0].status == ACCEPTED
    handles[0].execute()
    spin_until(lambda: sent.result)
    assert sent.result[0] == SUCCEEDED


def test_cancelling(serve, spin_until):
    from rclpy.task import Future

    futures = []

    async def execute(handle):
        futures.append(Future())
        await futures[-1]
        assert handle.is_cancel_requested
        handle.canceled()
        return result("cancelled")

    mission = serve(execute, cancel_callback=consent)
    sent = mission.send("pick up the block")
    spin_until(lambda: futures)
    sent.cancel()
    spin_until(lambda: sent.cancelling is not None)
    assert sent.cancelling
    spin_until(lambda: mission.status(sent) == CANCELING)
    assert sent.result is None
    futures[0].set_result(None)
    spin_until(lambda: sent.result)
    assert (sent.result[0], sent.result[1].message) == (CANCELED, "cancelled")


def test_a_cancellation_can_be_refused_and_is_unless_there_is_a_callback(serve, spin_until):
    from rclpy.task import Future

    future = Future()

    async def execute(handle):
        await future
        handle.succeed()
        return result("done")

    mission = serve(execute)
    sent = mission.send("pick up the block")
    spin_until(lambda: mission.status(sent) == EXECUTING)
    sent.cancel()
    spin_until(lambda: sent.cancelling is not None)
    assert not sent.cancelling
    future.set_result(None)
    spin_until(lambda: sent.result)
    assert sent.result[0] == SUCCEEDED


@pytest.mark.parametrize("how", ["raises", "says nothing"])
def test_a_goal_that_was_not_concluded_is_aborted(serve, spin_until, how):
    def execute(handle):
        if how == "raises":
            raise ValueError("no such luck")
        return result("forgot to say how it went")

    mission = serve(execute)
    sent = mission.send("pick up the block")
    spin_until(lambda: sent.result)
    assert sent.result[0] == ABORTED


def test_the_result_of_an_unknown_goal_is_unknown(serve, spin_until):
    from mission import IMPL, Sent

    mission = serve(print)
    future = mission.results.call_async(IMPL.GetResultService.Request(goal_id=Sent(mission, b"0123456789abcdef").uuid))
    spin_until(future.done)
    assert future.result().status == 0


def test_a_goal_cannot_succeed_twice(serve, spin_until):
    seen = []

    def execute(handle):
        handle.succeed()
        try:
            handle.abort()
        except RuntimeError as error:
            seen.append(error)
        return result("done")

    mission = serve(execute)
    sent = mission.send("pick up the block")
    spin_until(lambda: sent.result)
    assert len(seen) == 1
    assert sent.result[0] == SUCCEEDED
