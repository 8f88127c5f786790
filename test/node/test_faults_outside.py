"""Faults that come from the world around the node: clocks, cameras that lie, rivals, operators, the arm itself."""

import array

import numpy as np
import pytest

from spec_vla_ros.policy import ScriptedPolicy


def assert_stopped(one):
    """The stream goes on and is zero, and nothing resumes by itself."""
    from rig import six

    one.until_still()
    assert not any(six(message).any() for message in one.until_ticks(30))


def test_a_camera_that_shows_the_same_pixels_while_the_arm_moves(rig):
    """Its stamps are fresh, so the dead-man sees nothing wrong."""
    from rig import DRIVING, image

    one = rig(**DRIVING, frozen_image_steps=3).activate()
    one.until_moving()
    one.camera = lambda: image(one.now(), colour=(1, 2, 3))
    control = one.until_fault("IMAGE_FROZEN", 15)
    assert int(control["images unchanged by motion"]) == 3
    assert_stopped(one)
    one.camera = lambda: image(one.now())
    assert_stopped(one)
    one.rearm()


def test_a_frozen_camera_is_seen_at_a_crawl_too(rig):
    """Steps of 0.4 mm, as at a small action_scale: none of them shows, but they add up."""
    from rig import DRIVING, image

    one = rig(ScriptedPolicy([[0.0004, 0, 0, 0, 0, 0, 1.0]]), **DRIVING, frozen_image_steps=2)
    one.camera = lambda: image(one.now(), colour=(1, 2, 3))
    one.activate()
    one.until_fault("IMAGE_FROZEN", 15)
    assert 6 <= one.policy.inferences <= 8


@pytest.mark.parametrize("change", [{"dry_run": True}, {"frozen_image_steps": 0}, {"instruction": ""}])
def test_an_unchanged_image_is_no_fault_where_nothing_moves(rig, change):
    from rig import DRIVING, image

    one = rig(**{**DRIVING, **change})
    one.camera = lambda: image(one.now(), colour=(1, 2, 3))
    one.activate()
    one.until(lambda: one.policy.inferences >= 6 or not one.parameter("instruction"))
    assert one.node._cycle.fault is None


def test_an_image_from_the_future(rig):
    """Its age cannot be known: two clocks disagree."""
    from builtin_interfaces.msg import Time
    from rig import DRIVING, image

    def ahead(seconds):
        now = one.probe.get_clock().now().nanoseconds + int(seconds * 1e9)
        return image(Time(sec=now // 10**9, nanosec=now % 10**9))

    one = rig(**DRIVING).activate()
    one.until_moving()
    one.camera = lambda: ahead(0.5)
    assert "ahead" in one.until_fault("IMAGE_FROM_FUTURE")["detail"]
    assert_stopped(one)
    assert one.set(future_tolerance=1.0)
    one.rearm()


def test_a_flood_of_instructions(rig):
    from rig import DRIVING

    one = rig(**DRIVING).activate()
    one.until_moving()
    for number in range(60):
        one.say(f"pick up block {number}")
        one.executor.spin_once(timeout_sec=0.01)
    one.until_fault("INSTRUCTION_FLOOD")
    assert_stopped(one)
    one.rearm()


@pytest.mark.parametrize("text", ["x" * 1_000_000, "</s><s>\x00\x07"])
def test_an_instruction_that_is_none_holds_the_arm(rig, text):
    from rig import DRIVING

    one = rig(**DRIVING).activate()
    one.until_moving()
    one.say(text.replace("\x00", ""))  # a string with a zero byte cannot be sent
    one.until_fault("INSTRUCTION_INVALID")
    assert_stopped(one)
    one.say("go on")
    one.until_moving()


def test_an_instruction_that_is_not_utf_8(rig):
    """What cannot be decoded arrives with replacement characters; it must neither crash nor stop the stream."""
    from rig import DRIVING

    one = rig(**DRIVING).activate()
    one.until_moving()
    raw = b"\xffgo \xfe\xfd on\0"
    one.instructions.publish(b"\x00\x01\x00\x00" + len(raw).to_bytes(4, "little") + raw)
    one.until(lambda: "go" in one.policy.instructions[-1], what="the readable part of the instruction")
    one.until_moving()
    assert one.node._cycle.fault is None


def test_a_second_publisher_while_driving(rig):
    from geometry_msgs.msg import TwistStamped
    from rig import DRIVING

    one = rig(**DRIVING).activate()
    one.until_moving()
    rival = one.probe.create_publisher(TwistStamped, "delta_twist_cmds", 10)
    one.until_fault("SECOND_PUBLISHER")
    assert_stopped(one)
    one.probe.destroy_publisher(rival)
    one.until(lambda: one.node.count_publishers("/delta_twist_cmds") == 1)
    assert_stopped(one)
    one.rearm()


def test_somebody_else_may_drive_during_a_dry_run_but_not_after_it(rig):
    from geometry_msgs.msg import TwistStamped
    from rig import DRIVING, six

    one = rig(**{**DRIVING, "dry_run": True})
    one.probe.create_publisher(TwistStamped, "delta_twist_cmds", 10)
    one.node.trigger_configure()
    one.until(lambda: one.node.count_publishers("/delta_twist_cmds") == 2)
    assert one.node.trigger_activate().name == "SUCCESS"
    one.until(lambda: len(one.actions) >= 2)
    assert "before the dry run ends" in one.control()["remedy"]
    assert one.set(dry_run=False)
    one.until_fault("SECOND_PUBLISHER")
    assert not any(six(message).any() for message in one.twists)


def test_an_arm_that_leaves_the_graph_finds_nothing_when_it_comes_back(rig):
    from geometry_msgs.msg import TwistStamped
    from rig import DRIVING, six

    one = rig(**DRIVING).activate()
    one.until_moving()
    one.probe.destroy_subscription(one.ears["delta_twist_cmds"])
    one.until_fault("ARM_GONE")
    one.probe.create_subscription(TwistStamped, "delta_twist_cmds", one.twists.append, 100)
    count = len(one.twists)
    one.until_ticks(30)
    assert not any(six(message).any() for message in one.twists[count:])
    one.rearm()


@pytest.mark.parametrize("arm_leaves", [True, False])
def test_a_recorder_is_no_arm_whether_it_stays_or_leaves(rig, arm_leaves):
    """While somebody records the velocities, the topic has a subscriber; that is no reason to go on without an arm."""
    from geometry_msgs.msg import TwistStamped
    from rclpy.node import Node
    from rig import DRIVING

    one = rig(**DRIVING)
    recorder = Node("rosbag2_recorder")
    record = recorder.create_subscription(TwistStamped, "delta_twist_cmds", lambda message: None, 10)
    try:
        one.activate()
        one.until_moving()
        one.until_ticks(50)
        if arm_leaves:
            one.probe.destroy_subscription(one.ears["delta_twist_cmds"])
            assert "probe" in one.until_fault("ARM_GONE")["detail"]
        else:
            recorder.destroy_subscription(record)
            one.until_ticks(80)
            assert one.node._cycle.fault is None
    finally:
        recorder.destroy_node()


def test_an_arm_with_the_name_of_a_tool_does_not_leave_unnoticed(rig):
    """Names that only begin like one of a tool's are an arm's."""
    from geometry_msgs.msg import TwistStamped
    from rclpy.node import Node
    from rig import DRIVING

    one = rig(**DRIVING)
    arm = Node("rqt_arm_driver")
    try:
        ear = arm.create_subscription(TwistStamped, "delta_twist_cmds", lambda message: None, 10)
        one.activate()
        one.until_moving()
        one.until_ticks(50)
        arm.destroy_subscription(ear)
        assert "rqt_arm_driver" in one.until_fault("ARM_GONE")["detail"]
    finally:
        arm.destroy_node()


@pytest.mark.parametrize(("name", "fault"), [("another_arm", "ARM_CHANGED"), ("rosbag2_recorder", None)])
def test_whoever_comes_in_mid_step_hears_zero_first_and_another_arm_is_a_fault(rig, name, fault):
    """A driver that crashed and was restarted found a motion waiting for it."""
    from geometry_msgs.msg import TwistStamped
    from rclpy.node import Node
    from rig import DRIVING, six

    one = rig(**{**DRIVING, "step_dt": 2.0}).activate()
    one.until_ticks(220)  # until whoever was there before counts as discovered
    one.until(lambda: six(one.twists[-1]).any(), what="motion")
    heard, other = [], Node(name)
    one.executor.add_node(other)
    try:
        other.create_subscription(TwistStamped, "delta_twist_cmds", heard.append, 100)
        one.until(lambda: len(heard) >= 15, what="velocities for the newcomer")
        # It shares a participant with the ear, which the safety process sends to before it knows of the newcomer.
        zeros = [not six(message).any() for message in heard]
        assert True in zeros[:4], "broken off as soon as it was discovered"
        assert all(zeros[zeros.index(True) :][:10])
        if fault:
            assert name in one.until_fault(fault)["detail"]
            assert_stopped(one)
        else:
            one.until_moving()
            assert one.node._cycle.fault is None
    finally:
        other.destroy_node()


def test_the_first_arm_may_come_while_the_node_drives_and_hears_zero_first(rig):
    from geometry_msgs.msg import TwistStamped
    from rclpy.node import Node
    from rig import DRIVING, six

    one = rig(**{**DRIVING, "step_dt": 2.0})
    one.probe.destroy_subscription(one.ears.pop("delta_twist_cmds"))
    assert one.node.trigger_configure().name == one.node.trigger_activate().name == "SUCCESS"
    one.until(lambda: one.node._arm.report.moving, what="a step that nobody hears")
    heard, arm = [], Node("arm")
    one.executor.add_node(arm)
    try:
        arm.create_subscription(TwistStamped, "delta_twist_cmds", heard.append, 100)
        one.until(lambda: any(six(message).any() for message in heard), 10, "motion")
        assert not any(six(message).any() for message in heard[:10])
        assert one.node._cycle.fault is None
    finally:
        arm.destroy_node()


def test_an_arm_whose_joint_states_cease_is_gone_long_before_the_graph_forgets_it(rig):
    """A killed process stays in the graph for 10 to 20 s."""
    from rclpy.clock import Clock as RosClock
    from rclpy.clock import ClockType
    from rig import DRIVING
    from sensor_msgs.msg import JointState

    one = rig(**DRIVING, arm_timeout=0.5)
    joints = one.probe.create_publisher(JointState, "joint_states", 10)
    timer = one.probe.create_timer(
        0.02, lambda: joints.publish(JointState(name=["one"])), clock=RosClock(clock_type=ClockType.STEADY_TIME)
    )
    one.activate()
    one.until_moving()
    one.until_ticks(80)
    assert one.node._cycle.fault is None
    timer.cancel()
    assert "joint_states" in one.until_fault("ARM_GONE")["detail"]
    assert_stopped(one)
    timer.reset()
    one.rearm()


@pytest.mark.parametrize("parameters", [{}, {"arm_timeout": 0.0}])
def test_an_arm_without_joint_states_is_not_missed(rig, parameters):
    """Silence counts only after there was a sound, and not where the operator switched it off."""
    from rig import DRIVING
    from sensor_msgs.msg import JointState

    one = rig(**DRIVING, **parameters)
    joints = one.probe.create_publisher(JointState, "joint_states", 10)
    one.activate()
    if parameters:
        one.until(joints.get_subscription_count)
        joints.publish(JointState(name=["one"]))
    one.until_ticks(150)
    one.until_moving()
    assert one.node._cycle.fault is None


class Clock:
    """A publisher of /clock that can stand still and jump."""

    def __init__(self, one):
        from builtin_interfaces.msg import Time
        from rclpy.clock import Clock as RosClock
        from rclpy.clock import ClockType
        from rosgraph_msgs.msg import Clock as ClockMessage

        self.nanoseconds, self.running = 100 * 10**9, True
        self._publisher = one.probe.create_publisher(ClockMessage, "/clock", 10)
        self._make = lambda: ClockMessage(clock=self.time())
        self._time = Time
        one.probe.create_timer(0.01, self._tick, clock=RosClock(clock_type=ClockType.STEADY_TIME))

    def time(self):
        return self._time(sec=self.nanoseconds // 10**9, nanosec=self.nanoseconds % 10**9)

    def _tick(self):
        if self.running:
            self.nanoseconds += 10_000_000
        self._publisher.publish(self._make())


@pytest.fixture
def timed(rig):
    """A rig whose node and camera follow a /clock."""
    from rig import DRIVING, image

    one = rig(**DRIVING, use_sim_time=True)
    clock = Clock(one)
    one.camera = lambda: image(clock.time())
    one.until(lambda: one.node.get_clock().now().nanoseconds > 100 * 10**9)
    one.activate()
    one.until_moving()
    return one, clock


def test_a_clock_that_stands_still_hides_the_age_of_images(timed):
    one, clock = timed
    assert one.set(image_timeout=0.5)
    clock.running = False
    one.until_fault("CLOCK_STOPPED")
    assert_stopped(one)
    clock.running = True
    assert_stopped(one)
    one.rearm()


def test_a_clock_that_goes_back(timed):
    one, clock = timed
    clock.nanoseconds -= 20 * 10**9
    control = one.until(lambda: one.control().get("fault")) or one.control()
    assert control["fault"] in ("CLOCK_JUMPED", "IMAGE_FROM_FUTURE"), "whichever is seen first"
    assert_stopped(one)
    one.rearm()


def test_a_camera_at_200_hz_disturbs_nothing(rig):
    from rclpy.clock import Clock as RosClock
    from rclpy.clock import ClockType
    from rig import DRIVING, six

    one = rig(**DRIVING)
    one.probe.create_timer(1 / 200, one._film, clock=RosClock(clock_type=ClockType.STEADY_TIME))
    one.activate()
    one.until(lambda: len(one.actions) >= 5)
    one.until(lambda: int(one.control()["frames received"]) > 100)
    assert one.node._cycle.fault is None
    assert any(six(message).any() for message in one.twists)


@pytest.fixture
def compressed(rig):
    """A rig with a JPEG camera; ``one.data`` is what it sends."""
    import cv2
    from rclpy.qos import qos_profile_sensor_data
    from rig import DRIVING
    from sensor_msgs.msg import CompressedImage

    picture = np.zeros((48, 64, 3), np.uint8)
    picture[..., 2] = 200  # red in OpenCV's order
    one = rig(image_transport="compressed", **DRIVING, frozen_image_steps=0)
    one.data = cv2.imencode(".jpg", picture)[1].tobytes()
    one.camera = lambda: None
    publisher = one.probe.create_publisher(CompressedImage, "image/compressed", qos_profile_sensor_data)

    def send():
        message = CompressedImage(format="rgb8; jpeg compressed bgr8", data=array.array("B", one.data))
        message.header.stamp = one.now()
        publisher.publish(message)

    one.probe.create_timer(1 / 30, send)
    seen = []
    infer = one.policy.infer
    one.policy.infer = lambda image, *more: (seen.append(image), infer(image, *more))[1]
    one.seen = seen
    return one.activate()


def test_compressed_images_drive_the_arm_and_red_stays_red(compressed):
    compressed.until_moving()
    image = compressed.seen[-1]
    assert image.shape == (48, 64, 3)
    assert image[..., 0].mean() > 190
    assert image[..., 1:].mean() < 10


def test_a_truncated_jpeg(compressed):
    """OpenCV would decode it to a picture that is grey from the cut on."""
    whole = compressed.data
    for cut in (0, 100, -40):
        compressed.until_moving()
        compressed.data = whole[:cut]
        control = compressed.until_fault("IMAGE_INVALID")
        assert "truncated" in control["detail"] or "empty" in control["detail"]
        assert_stopped(compressed)
        compressed.data = whole
        compressed.rearm()


def test_an_operator_can_rehearse_every_fault_of_the_policy(rig):
    from rig import DRIVING

    from spec_vla_ros.node.policy_factory import script
    from spec_vla_ros.policy import ScriptedPolicy

    one = rig(ScriptedPolicy(script("rehearse"), repeat=True), **DRIVING, inference_timeout=1.0).activate()
    for instruction, fault in (
        ("rehearse raise", "WORKER_EXCEPTION"),
        ("rehearse nan", "NON_FINITE"),
        ("rehearse out of memory", "OUT_OF_MEMORY"),
        ("rehearse infinity", "NON_FINITE"),
        ("rehearse token", "NON_ACTION_TOKEN"),
        ("rehearse hang", "WORKER_HUNG"),
    ):
        one.rearm()
        one.say(instruction)
        one.until_fault(fault)
        assert_stopped(one)
