"""What a server of actions keeps and takes in, within bounds."""

import pytest
from mission import IMPL, Mission
from rclpy.action import ActionServer
from spec_vla_ros.action import ExecuteInstruction

from spec_vla_ros.embedded_ros import bounds


@pytest.fixture
def serve(make_node, spin_until):
    def make(execute, **more):
        node = make_node()
        server = ActionServer(node, ExecuteInstruction, "/work", execute, **more)
        mission = Mission(node, "/work")
        spin_until(mission.ready, node)
        return server, mission

    return make


def at_once(handle):
    handle.succeed()
    return ExecuteInstruction.Result()


def status_of(mission, sent, spin_until):
    future = mission.results.call_async(IMPL.GetResultService.Request(goal_id=sent.uuid))
    spin_until(future.done)
    return future.result().status


def test_the_results_of_so_many_goals_are_kept(serve, spin_until, monkeypatch):
    monkeypatch.setattr(bounds, "MAX_GOALS", 3)
    _, mission = serve(at_once)
    sent = []
    for number in range(5):
        sent.append(mission.send(str(number)))
        spin_until(lambda: sent[-1].result)
    assert [status_of(mission, one, spin_until) for one in sent] == [0, 0, 4, 4, 4]


def test_results_expire(serve, spin_until):
    _, mission = serve(at_once, result_timeout=0.0)
    sent = mission.send("one")
    spin_until(lambda: sent.accepted)
    spin_until(lambda: status_of(mission, sent, spin_until) == 0)


def test_goals_under_way_are_not_forgotten(serve, spin_until, monkeypatch):
    monkeypatch.setattr(bounds, "MAX_GOALS", 0)
    handles = []
    _, mission = serve(at_once, handle_accepted_callback=handles.append, result_timeout=0.0)
    sent = [mission.send(str(number)) for number in range(3)]
    spin_until(lambda: len(handles) == 3 and all(handle.awaited for handle in handles))
    for handle in handles:
        handle.execute()
    spin_until(lambda: all(one.result for one in sent))
    assert [one.result[0] for one in sent] == [4, 4, 4]


def test_so_many_requests_wait_for_one_result(serve, spin_until, monkeypatch):
    monkeypatch.setattr(bounds, "MAX_AWAITED", 4)
    handles = []
    _, mission = serve(at_once, handle_accepted_callback=handles.append)
    sent = mission.send("one")
    spin_until(lambda: handles)
    request = IMPL.GetResultService.Request(goal_id=sent.uuid)
    futures = [mission.results.call_async(request) for _ in range(20)]
    spin_until(lambda: len(handles[0].awaited) == 4)
    spin_until(mission.results.call_async(IMPL.GetResultService.Request()).done)  # all are taken in
    assert len(handles[0].awaited) == 4
    handles[0].execute()
    spin_until(lambda: sent.result or any(future.done() for future in futures))
    assert sum(future.done() for future in futures) <= 4


def test_a_goal_that_is_too_large_is_rejected_unseen(serve, spin_until):
    seen = []
    _, mission = serve(at_once, goal_callback=seen.append)
    sent = mission.send("x" * bounds.MAX_REQUEST)
    spin_until(lambda: sent.accepted is not None)
    assert not sent.accepted
    assert seen == []


def test_a_destroyed_server_leaves_the_graph(serve, spin_until):
    server, mission = serve(at_once)
    server.destroy()
    spin_until(lambda: not any(client.service_is_ready() for client in mission.clients))


def test_a_goal_that_ends_after_its_server_is_no_error(serve, spin_until, executor):
    handles = []
    server, mission = serve(at_once, handle_accepted_callback=handles.append)
    mission.send("one")
    spin_until(lambda: handles)
    handles[0].execute()
    server.destroy()
    executor.spin_once(timeout_sec=0.1)
    assert handles[0].status == 4


def test_coroutines_wait_for_futures_only(make_node, spin_until, executor):
    class Other:
        def __await__(self):
            yield 1

    async def wrong():
        await Other()

    node = make_node()
    executor.add_node(node)
    task = executor.create_task(wrong)
    spin_until(task.done)
    with pytest.raises(NotImplementedError, match="install ROS 2"):
        task.result()
