"""The safety process beside the act node: neither's death, silence or workload leaves the arm moving.

Stream, dead-man, services and signals used to share one thread: a parameter request of 2.4 MB kept a velocity on the
wire for seconds, and a process that was killed under it left 0.05 m/s as the last message.
"""

import os
import signal
import threading
import time

import pytest
from test_node_process import DRIVE, any_motion, finish

NAMES = 200_000  # in one request: 2.4 MB


def children_of(process):
    with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as listed:
        return {int(pid) for pid in listed.read().split()}


def child_of(process):
    """Process id of the safety process."""
    (pid,) = children_of(process)
    return pid


def ended(pid):
    """Whether no such process runs; one that nobody waited for is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as told:
            return told.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def drive(world, act, **parameters):
    process = act(**{**DRIVE, **parameters})
    world.until(lambda: any_motion(world), 30, "motion")
    return process


def until_in_motion(world):
    """The newest velocity is not zero."""
    world.until(lambda: world.twists and any_motion(world, world.twists[-1:]), 10, "motion")


def zeros_follow(world, count=5):
    """So many zeros in a row are the newest that was heard."""
    world.until(
        lambda: len(world.twists) >= count and not any_motion(world, world.twists[-count:]), 10, f"{count} zeros"
    )


def test_killed_in_mid_step_the_node_leaves_zeros_from_us(world, act):
    process = drive(world, act)
    child = child_of(process)
    until_in_motion(world)
    process.kill()
    world.until(lambda: ended(child), 10, "the end of the safety process")
    heard = world.heard_before_sentinel()
    assert not any_motion(world, heard[-10:]), "an arm's own time-out is not ours to rely on"
    world.until(lambda: world.probe.count_publishers("/delta_twist_cmds") == 0)


def test_suspended_in_mid_step_the_node_is_stopped_for_good(world, act):
    process = drive(world, act, step_dt="2.0")
    until_in_motion(world)
    process.send_signal(signal.SIGSTOP)
    zeros_follow(world)
    process.send_signal(signal.SIGCONT)
    assert "NODE_SILENT" in world.until_fault("NODE_SILENT")["message"]
    world.until_ticks(30)
    assert not any_motion(world, world.twists[-30:])


def test_a_safety_process_that_hangs_is_a_fault(world, act):
    process = drive(world, act)
    child = child_of(process)
    os.kill(child, signal.SIGSTOP)
    try:
        world.until_fault("SAFETY_LOOP_SILENT")
    finally:
        os.kill(child, signal.SIGCONT)
    zeros_follow(world)
    assert process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_both_ends_both_with_zero_last(world, act, number):
    """Ctrl-C in a terminal, and what launch does to a process group."""
    process = drive(world, act)
    child = child_of(process)
    until_in_motion(world)
    os.killpg(process.pid, number)
    code, output = finish(process, world)
    assert code == 0, output
    assert "Traceback" not in output
    assert "SAFETY_LOOP" not in output
    assert ended(child)
    assert not any_motion(world, world.heard_before_sentinel()[-10:])


def test_a_signal_to_the_safety_process_alone_stops_the_arm_and_not_the_node(world, act):
    process = drive(world, act)
    os.kill(child_of(process), signal.SIGTERM)
    world.until_fault("SAFETY_LOOP_GONE")
    zeros_follow(world)
    assert process.poll() is None


def test_a_signal_while_the_node_is_kept_busy_is_heard_by_the_safety_process(world, act):
    """The node's thread is stopped outright, so that only the other process can hear the signal of the group."""
    process = drive(world, act, heartbeat_timeout="5.0", step_dt="2.0", image_timeout="5.0")
    child = child_of(process)
    until_in_motion(world)
    process.send_signal(signal.SIGSTOP)
    os.kill(child, signal.SIGINT)
    world.until(lambda: ended(child), 10, "the end of the safety process")
    assert not any_motion(world, world.heard_before_sentinel()[-10:])
    process.send_signal(signal.SIGCONT)


def test_a_request_of_2_mb_stops_neither_the_stream_nor_the_dead_man(world, act):
    """Whether the node refuses it or is kept busy by it, no velocity that is not zero is left standing."""
    from rcl_interfaces.srv import GetParameters

    process = drive(world, act)
    client = world.probe.create_client(GetParameters, "/act/get_parameters")
    world.until(client.service_is_ready)
    until_in_motion(world)
    seen = len(world.twists)
    client.call_async(GetParameters.Request(names=["no_such_name"] * NAMES))
    world.camera = lambda: None
    world.until(lambda: world.control().get("fault") in ("IMAGE_STALE", "NODE_SILENT"), 30, "a fault")
    stamps = [message.header.stamp for message in world.twists[seen:]]
    times = [stamp.sec + 1e-9 * stamp.nanosec for stamp in stamps]
    moving = [any_motion(world, [message]) for message in world.twists[seen:]]
    gaps = [after - before for before, after, moved in zip(times, times[1:], moving, strict=False) if moved]
    assert max(gaps, default=0.0) < 0.5, "seconds before; the loop's own promise is measured by the bench"
    zeros_follow(world)
    process.send_signal(signal.SIGINT)
    finish(process, world, 20)
    assert not any_motion(world, world.heard_before_sentinel()[-10:])


def test_a_report_from_before_the_stop_does_not_confirm_the_last_zero(rig, monkeypatch):
    """The thread that takes the reports may be kept waiting; "not on the wire" of then let deactivate return at once,
    with a velocity as the last that had been heard."""
    from rig import DRIVING

    from spec_vla_ros.node import safety_link

    one, gate, read = rig(**DRIVING).activate(), threading.Event(), safety_link.Report.from_bytes
    one.until(lambda: one.node._arm.listeners)  # some middlewares tell the publisher of it later than the subscriber
    monkeypatch.setattr(safety_link.Report, "from_bytes", staticmethod(lambda data: gate.wait(5.0) and read(data)))
    one.until_moving()
    threading.Timer(0.1, gate.set).start()
    one.node.trigger_deactivate()
    assert not any_motion(one, one.heard_before_sentinel()[-20:]), "zeros for as long as an arm waits for a velocity"


def test_a_node_that_stood_still_commands_no_gripper_on_its_return(rig, monkeypatch):
    """It was suspended between a step and the gripper command that belongs to it, and sent that when it came back."""
    from rig import DRIVING

    one, sent = rig(**DRIVING).activate(), []
    one.until_moving()
    arm = one.node._arm
    monkeypatch.setattr(arm._gripper, "command", sent.append)
    arm._told_at = time.monotonic() - 1.0
    assert arm.command_gripper(1.0).name == "NODE_SILENT"
    assert sent == []
    arm._told_at = time.monotonic()
    assert arm.command_gripper(1.0) is None
    assert sent == [1.0]


def test_the_safety_node_comes_and_goes_with_the_first_and_serves_nobody(rig):
    from rig import DRIVING, SUCCESS

    one = rig(**DRIVING)

    def present():
        return "act_safety" in one.probe.get_node_names()

    one.until(lambda: not present(), 30, "the end of one before")
    assert one.node.trigger_configure() == SUCCESS
    one.until(present)
    services = one.probe.get_service_names_and_types() if hasattr(one.probe, "get_service_names_and_types") else []
    assert not [name for name, _ in services if "act_safety" in name]
    infos = one.probe.get_publishers_info_by_topic("/delta_twist_cmds")
    assert [info.node_name for info in infos] == ["act_safety"]
    assert one.node.trigger_cleanup() == SUCCESS
    one.until(lambda: not present() and not one.probe.count_publishers("/delta_twist_cmds"))


def test_a_namesake_is_a_rival(rig):
    """Two act nodes of one name on a network have safety nodes of one name, too; only one may drive."""
    from geometry_msgs.msg import TwistStamped
    from rclpy.node import Node
    from rig import DRIVING, FAILURE, SUCCESS

    one = rig(**DRIVING)
    namesake = Node("act_safety")
    try:
        namesake.create_publisher(TwistStamped, "delta_twist_cmds", 10)
        assert one.node.trigger_configure() == SUCCESS
        one.until(lambda: one.node._arm.rivals == 1)
        assert one.node.trigger_activate() == FAILURE
    finally:
        namesake.destroy_node()


def test_a_limit_that_is_lowered_in_mid_step_acts_within_the_step(rig):
    """It used to wait for the next action; a step of two seconds is long."""
    from rig import DRIVING, six

    one = rig(**{**DRIVING, "step_dt": 2.0}).activate()
    one.until_moving()
    assert one.set(max_linear_speed=0.001)
    seen = len(one.twists)
    one.until(lambda: len(one.twists) > seen + 20)
    slow = [abs(six(message)[:3]).max() for message in one.twists[seen + 2 :]]
    assert any(slow), "the step goes on"
    assert max(slow) <= 0.001 + 1e-9


def test_an_oversized_intent_does_not_leave_the_node(rig):
    """A name of 1 MB in a fault's text must not keep the fault from the loop."""
    from rig import DRIVING

    from spec_vla_ros.motion.watchdog import Fault

    one = rig(**DRIVING).activate()
    one.until_moving()
    one.node._fail(Fault("INTERNAL_ERROR", "x" * 1_000_000, "y"))
    one.until_ticks(3)
    assert not any_motion(one, one.until_ticks(10))
    assert one.node._arm.report.fault.name == "INTERNAL_ERROR"


def test_deactivation_returns_when_the_last_zero_has_gone(rig):
    from rig import DRIVING, SUCCESS

    one = rig(**DRIVING).activate()
    one.until_moving()
    assert one.node.trigger_deactivate() == SUCCESS
    one.executor.spin_once(timeout_sec=0.0)
    assert not one.node._arm.report.on_wire
    heard = one.heard_before_sentinel()
    assert not any_motion(one, heard[-20:]), "as many as an arm may wait for"


def test_a_node_that_goes_without_a_word_is_followed(rig):
    """Its end of the socket closes; nothing else tells the loop."""
    from rig import DRIVING

    one = rig(**DRIVING).activate()
    one.until_moving()
    link = one.node._arm.safety
    one.node._stop.set()
    link._link.shutdown(2)
    one.until(lambda: link.gone, what="the end of the safety process")
    assert time.monotonic() - link.report.at < 60
    assert not any_motion(one, one.heard_before_sentinel()[-10:])


def test_a_safety_process_that_dies_is_a_fault_zero_follows_at_once_and_the_node_is_armed_as_after_any(rig):
    """Zero does not wait for the successor, which has taken more than two seconds to start on a busy machine.

    In a namespace of its own: the killed process stays in the graph for 10 s, for which another test would wait.
    """
    from rig import DRIVING, SUCCESS

    one = rig(**DRIVING, namespace="/killed").activate()
    until_in_motion(one)
    first = one.node._arm.safety.pid
    os.kill(first, signal.SIGKILL)
    one.until(lambda: one.node._arm.safety.pid != first, what="the successor")
    os.kill(one.node._arm.safety.pid, signal.SIGSTOP)
    try:
        zeros_follow(one)
    finally:
        os.kill(one.node._arm.safety.pid, signal.SIGCONT)
    one.until_fault("SAFETY_LOOP_GONE")
    one.until(lambda: one.node._arm.report.ready, what="the successor")
    zeros_follow(one)
    infos = one.node.get_publishers_info_by_topic
    one.until(lambda: "act" not in [info.node_name for info in infos(one.node._arm.topic)], what="the stand-in's end")
    assert not any_motion(one, one.twists[-5:])
    assert one.node.trigger_deactivate() == SUCCESS
    assert one.node.trigger_activate() == SUCCESS, "a dead process's publisher is no rival"
    one.until_moving()


def test_a_velocity_that_was_decided_before_a_suspension_shows_its_age(monkeypatch):
    """Stamped on its way out it looked new after SIGCONT, and an arm would have obeyed it."""
    import socket
    from types import SimpleNamespace

    from spec_vla_ros.node import safety_node

    clock, sent = SimpleNamespace(now=5.0), []

    class Wire:
        simulated = False

        def __init__(self, setup):
            pass

        def clockless(self):
            return False

        def stamp(self):
            return clock.now

        def listeners(self):
            clock.now += 1.0  # suspended here, for example
            return 1

        def send(self, twist, stamp):
            sent.append(stamp)

    monkeypatch.setattr(safety_node, "SafetyNode", Wire)
    monkeypatch.setattr(safety_node, "SingleThreadedExecutor", lambda: SimpleNamespace(add_node=lambda node: None))
    monkeypatch.setattr(safety_node.time, "monotonic", lambda: clock.now)
    link, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with link, other:
        setup = safety_node.Setup("act_safety", "/", "/delta_twist_cmds", "base_link", 100.0, zero_first=10.0)
        safety_node.Process(link, setup, "normal")._tick()
    assert sent == [5.0]
