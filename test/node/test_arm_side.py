"""The arm's side: where the tool may go, in whose axes, through MoveIt Servo, and how long a step takes."""

import sys
import time
import types

import numpy as np
import pytest

FORWARD_X = [0.05, 0, 0, 0, 0, 0, 1.0]  # 0.25 m/s for 0.2 s
TOOL = {"tool_frame": "tool0", "workspace_min": [0.2, -0.3, 0.0], "workspace_max": [0.6, 0.3, 0.4]}


def policy(*steps, **more):
    from spec_vla_ros.policy import ScriptedPolicy

    return ScriptedPolicy(list(steps), **more)


class Tool:
    """Publishes base_link -> tool0 at 100 Hz while ``shown``. ``rotation``: quaternion x y z w. ``prefix``: of both."""

    def __init__(self, one, position=(0.4, 0.0, 0.2), rotation=(0.0, 0.0, 0.0, 1.0), prefix=""):
        from geometry_msgs.msg import TransformStamped
        from rclpy.clock import Clock, ClockType
        from tf2_msgs.msg import TFMessage

        self.position, self.rotation, self.shown, self.ahead = list(position), rotation, True, 0
        self.stamped = True
        publisher = one.probe.create_publisher(TFMessage, "/tf", 100)

        def show():
            if not self.shown:
                return
            transform = TransformStamped(child_frame_id=f"{prefix}tool0")
            transform.header.frame_id = f"{prefix}base_link"
            if self.stamped:
                transform.header.stamp = one.now()
                transform.header.stamp.sec += self.ahead
            move, turn = transform.transform.translation, transform.transform.rotation
            move.x, move.y, move.z = (float(value) for value in self.position)
            turn.x, turn.y, turn.z, turn.w = (float(value) for value in self.rotation)
            publisher.publish(TFMessage(transforms=[transform]))

        one.probe.create_timer(0.01, show, clock=Clock(clock_type=ClockType.STEADY_TIME))


def speeds(one, count):
    from rig import six

    return np.array([six(message) for message in one.until_ticks(count)])


def test_of_two_arms_that_share_tf_each_node_sees_its_own(rig):
    """Two simulated arms in two namespaces both published base_link -> tool0: the box held the tool of either."""
    from rig import DRIVING

    one = rig(policy(FORWARD_X), **DRIVING, **TOOL, tf_prefix="left/")
    Tool(one, prefix="left/"), Tool(one, position=(0.6, 0.0, 0.2)), Tool(one, position=(9.0, 9.0, 9.0), prefix="right/")
    one.activate()
    one.until_moving()
    assert speeds(one, 40)[:, 0].max() == pytest.approx(0.25, abs=0.01), (
        "0.2 m from its wall; the others stand at theirs"
    )
    assert {message.header.frame_id for message in one.twists} == {"left/base_link"}
    assert one.control()["workspace limit hits"] == "0"


def test_the_tool_is_kept_inside_the_box(rig):
    """At 5 mm from the wall a velocity of 0.25 m/s is cut to what 0.1 s may use up; the other axes go on."""
    from rig import DRIVING

    one = rig(policy([0.05, 0.02, 0, 0, 0, 0, 1.0]), **DRIVING, **TOOL)
    tool = Tool(one)
    one.activate()
    one.until_moving()
    assert speeds(one, 60)[:, 0].max() == pytest.approx(0.25, abs=0.01)
    tool.position[0] = 0.595
    one.until_ticks(20)
    near = speeds(one, 80)
    assert near[:, 0].max() <= 0.05 + 1e-6
    assert near[:, 1].max() == pytest.approx(0.1, abs=0.005)
    one.until(lambda: int(one.control()["workspace limit hits"]) >= 1)
    tool.position[0] = 0.61
    one.until_ticks(20)
    assert speeds(one, 80)[:, 0].max() == 0.0


def test_a_box_without_a_pose_protects_nothing(rig):
    """Zeros and no inference until TF is there; a fault if it does not come."""
    from rig import DRIVING, six

    one = rig(policy(FORWARD_X), **DRIVING, **TOOL, first_image_timeout=1.0).activate()
    control = one.until_fault("POSE_UNKNOWN")
    assert "tool0" in control["detail"]
    assert one.policy.inferences == 0
    assert not any(six(message).any() for message in one.twists)
    Tool(one)
    one.until_ticks(20)
    one.rearm()


def test_a_pose_that_gets_old_stops_the_arm(rig):
    from rig import DRIVING, six

    one = rig(policy(FORWARD_X), **DRIVING, **TOOL, pose_timeout=0.3)
    tool = Tool(one)
    one.activate()
    one.until_moving()
    tool.shown = False
    assert "old" in one.until_fault("POSE_UNKNOWN")["detail"]
    one.until_still()
    tool.shown = True
    assert not any(six(message).any() for message in one.until_ticks(30))


def test_a_source_of_tf_that_never_stamps_grows_old_like_any_other(rig):
    """The stamp zero counted as "never changes": the source could die and the box stood still around its last word."""
    from rig import DRIVING

    one = rig(policy(FORWARD_X), **DRIVING, **TOOL, pose_timeout=0.3)
    tool = Tool(one)
    tool.stamped = False
    one.activate()
    one.until_moving()
    tool.shown = False
    assert "old" in one.until_fault("POSE_UNKNOWN")["detail"]


def test_a_static_transform_is_never_old(rig):
    from geometry_msgs.msg import TransformStamped
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from rig import DRIVING
    from tf2_msgs.msg import TFMessage

    one = rig(policy(FORWARD_X), **DRIVING, **TOOL, pose_timeout=0.05)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    transform = TransformStamped(child_frame_id="tool0")
    transform.header.frame_id = "base_link"
    transform.transform.translation.x, transform.transform.translation.z = 0.4, 0.2
    transform.transform.rotation.w = 1.0
    one.probe.create_publisher(TFMessage, "/tf_static", latched).publish(TFMessage(transforms=[transform]))
    one.activate()
    one.until_moving()
    one.until(lambda: len(one.actions) >= 3)
    assert one.node._cycle.fault is None


def test_a_pose_ahead_of_the_clock_would_stay_new_for_too_long(rig):
    from rig import DRIVING

    one = rig(policy(FORWARD_X), **DRIVING, **TOOL)
    tool = Tool(one)
    one.activate()
    one.until_moving()
    tool.ahead = 2
    assert "ahead" in one.until_fault("POSE_UNKNOWN")["detail"]


def test_the_gripper_stands_still_where_the_pose_was_lost_while_the_model_thought(rig):
    """Zero velocities ask for no pose, so the loss shows when the action is about to begin: not with the gripper."""
    from rig import DRIVING

    def lose_it(image, instruction):
        tool.shown = False
        time.sleep(0.6)
        return [*FORWARD_X[:6], 0.0]

    one = rig(policy(FORWARD_X, lose_it), **DRIVING, **TOOL, pose_timeout=0.3)
    tool = Tool(one)
    one.activate()
    one.until_fault("POSE_UNKNOWN")
    one.until_ticks(20)
    assert [message.data for message in one.grippers] == [1.0]
    assert [action.commanded for action in one.actions] == [True, False]


def test_velocities_in_the_axes_of_the_tool(rig):
    """A tool that points down, turned half about x: y and z change sign, and the header says so."""
    from rig import DRIVING

    one = rig(policy([0.02, 0.01, 0.01, 0, 0, 0.02, 1.0]), **DRIVING, command_frame="tool0")
    Tool(one, rotation=(1.0, 0.0, 0.0, 0.0))
    one.activate()
    one.until_moving()
    moving = speeds(one, 60)
    moving = moving[np.abs(moving[:, 0]) > 0.09]
    np.testing.assert_allclose(moving.mean(0), [0.1, -0.05, -0.05, 0, 0, -0.1], atol=2e-3)
    assert one.twists[-1].header.frame_id == "tool0"
    assert one.actions[-1].header.frame_id == "base_link", "an action is told in the axes that it refers to"


@pytest.mark.parametrize(
    ("values", "accepted"),
    [
        ({"workspace_max": [0.5, 0.5, 0.5]}, True),
        ({"workspace_max": [0.5, 0.5]}, False),
        ({"workspace_max": [0.5, 0.5, -20.0]}, False),
        ({"workspace_min": [float("nan"), 0.0, 0.0]}, False),
    ],
)
def test_corners_that_make_no_box_are_refused(rig, values, accepted):
    assert rig().set(**values) is accepted


# -- MoveIt Servo


class Switched:
    """The services and topics of MoveIt Servo that the node uses, since Jazzy."""

    name, collision = "/servo_node", 5

    def __init__(self, one, success=True):
        from moveit_msgs.msg import ServoStatus
        from moveit_msgs.srv import ServoCommandType

        self.asked, self._kind = [], ServoStatus
        self._statuses = one.probe.create_publisher(ServoStatus, f"{self.name}/status", 10)

        def answer(request, response):
            self.asked.append(request.command_type == request.TWIST)
            response.success = success
            return response

        self.service = one.probe.create_service(ServoCommandType, f"{self.name}/switch_command_type", answer)

    def say(self, code):
        self._statuses.publish(self._kind(code=code))


class Started:
    """The same on Humble. Nothing is published before the start, nor after it unless ``runs``."""

    name, collision = "/servo_of_humble", 4  # a topic of the embedded runtime keeps its type

    def __init__(self, one, success=True, runs=True):
        from rclpy.clock import Clock, ClockType
        from std_msgs.msg import Int8
        from std_srvs.srv import Trigger

        self.asked, self.runs, self._code, self._kind = [], runs, 0, Int8
        self._statuses = one.probe.create_publisher(Int8, f"{self.name}/status", 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._loop = one.probe.create_timer(0.034, lambda: self.say(self._code), clock=steady)
        self._loop.cancel()

        def answer(request, response):
            self.asked.append(True)
            response.success = success
            if self.runs:
                self._loop.reset()
            return response

        self.service = one.probe.create_service(Trigger, f"{self.name}/start_servo", answer)

    def end(self):
        self.runs = False
        self._loop.cancel()

    def say(self, code):
        self._code = code
        self._statuses.publish(self._kind(data=code))


def as_on_humble(monkeypatch):
    """moveit_msgs without the switch of command types, which Humble's 2.2.1 do not have yet."""
    monkeypatch.setitem(sys.modules, "moveit_msgs.srv", types.ModuleType("moveit_msgs.srv"))


@pytest.fixture(params=[Switched, Started])
def servo(request, ros, monkeypatch):
    """The class that stands for Servo, of both generations where the installed moveit_msgs know both."""
    pytest.importorskip("moveit_msgs.srv", reason="moveit_msgs is not installed")
    if request.param is Started:
        as_on_humble(monkeypatch)
    else:
        try:
            from moveit_msgs.srv import ServoCommandType  # noqa: F401
        except ImportError:
            pytest.skip("the installed moveit_msgs are of Humble")
    return request.param


def test_servo_is_told_to_take_velocities_before_the_first_inference(rig, servo):
    from rig import DRIVING

    one = rig(**DRIVING, servo_node=servo.name).activate()
    one.until_ticks(20)
    assert one.policy.inferences == 0, "an action that the arm ignores would be lost"
    arm = servo(one)
    one.until_moving()
    assert arm.asked == [True]
    one.rearm()
    assert arm.asked == [True, True], "Servo may have been restarted meanwhile"
    arm.say(arm.collision)
    one.until(lambda: "halted before a collision" in one.control().get("message", ""))
    assert one.control()["servo status"] == "halted before a collision"


@pytest.mark.parametrize("there", [True, False])
def test_a_servo_that_refuses_or_is_not_there(rig, servo, there):
    from rig import DRIVING, six

    one = rig(**DRIVING, servo_node=servo.name, first_image_timeout=1.0)
    if there:
        servo(one, success=False)
    one.activate()
    control = one.until_fault("SERVO_NOT_READY")
    assert ("refuses" if there else "no service") in control["detail"]
    assert not any(six(message).any() for message in one.twists)


def test_a_dry_run_leaves_servo_alone(rig, servo):
    from rig import DRIVING

    one = rig(**{**DRIVING, "dry_run": True}, servo_node=servo.name)
    arm = servo(one)
    one.activate()
    one.until(lambda: len(one.actions) >= 2)
    assert arm.asked == []
    assert one.set(dry_run=False)
    one.until_moving()
    assert arm.asked == [True]


def test_a_servo_that_answers_and_does_not_begin_is_not_driven(rig, servo):
    """Humble's says success also when it has waited for its joint states in vain: the arm would not have moved."""
    from rig import DRIVING, SUCCESS, six

    if servo is not Started:
        pytest.skip("since Jazzy the answer is the proof")
    one = rig(**DRIVING, servo_node=servo.name, first_image_timeout=1.0)
    arm = Started(one, runs=False)
    assert one.node.trigger_configure() == SUCCESS
    arm.say(0)  # of a start before this one
    one.until(lambda: one.control().get("servo status") == "no warning")
    one.node.trigger_activate()
    control = one.until_fault("SERVO_NOT_READY")
    assert f"nothing comes on {servo.name}/status" in control["detail"]
    assert arm.asked == [True]
    assert one.policy.inferences == 0
    assert not any(six(message).any() for message in one.twists)
    arm.runs = True
    one.rearm()
    one.node.trigger_deactivate()
    arm.end()  # restarted meanwhile, and again without its joint states
    one.node.trigger_activate()
    one.until_fault("SERVO_NOT_READY")


def test_what_humble_s_servo_means_by_its_numbers(make_node, executor, monkeypatch):
    """They are not those of later ones, for which 3 is a way out of a singularity and 4 no halt."""
    from std_msgs.msg import Int8

    from spec_vla_ros.node.servo_link import ServoLink

    pytest.importorskip("moveit_msgs.srv", reason="moveit_msgs is not installed")
    as_on_humble(monkeypatch)
    node = make_node()
    link, statuses = ServoLink(node, Started.name), node.create_publisher(Int8, f"{Started.name}/status", 10)
    executor.add_node(node)
    halts = {}
    assert (link.status, link.halted) == ("none heard", "")
    for code in range(-1, 8):
        statuses.publish(Int8(data=code))
        while link.code != code:
            executor.spin_once(timeout_sec=1.0)
        if link.halted:
            halts[code] = link.halted
    assert link.status == "code 7"
    assert halts == {
        -1: "invalid",
        2: "halted at a singularity",
        4: "halted before a collision",
        5: "halted at a joint's bound",
    }
    link.destroy()


# -- the gripper as an action


def test_the_gripper_as_an_action(rig):
    """On the embedded runtime, which has none, configure says so; on ROS 2 the goal is the gap in metres."""
    from rig import DRIVING, FAILURE

    more = {"gripper_interface": "action", "gripper_open": 0.07, "gripper_closed": 0.01, "gripper_effort": 5.0}
    try:
        from control_msgs.action import GripperCommand
        from rclpy.action import ActionServer
    except ImportError:
        one = rig(**more)
        assert one.node.trigger_configure() == FAILURE
        one.until(lambda: "needs ROS 2" in one.control().get("message", ""))
        return
    script = [[0, 0, 0, 0, 0, 0, grip] for grip in (1.0, 1.0, 0.0, 0.0, 1.0)]
    one = rig(policy(*script), step_dt=0.05, **DRIVING, **more)
    goals = []

    def execute(handle):
        goals.append((handle.request.command.position, handle.request.command.max_effort))
        handle.succeed()
        return GripperCommand.Result()

    server = ActionServer(one.probe, GripperCommand, "gripper_cmd", execute)
    one.activate()
    one.until(lambda: len(goals) >= 3)
    assert goals[:3] == [(0.07, 5.0), (0.01, 5.0), (0.07, 5.0)]
    server.destroy()


def test_a_gripper_that_nobody_serves(rig):
    pytest.importorskip("control_msgs.action", reason="actions need ROS 2")
    from rig import DRIVING, six

    one = rig(gripper_interface="action", **DRIVING).activate()
    one.until_fault("GRIPPER_NOT_READY")
    one.until_still()
    assert not any(six(message).any() for message in one.until_ticks(30))


def test_a_gripper_that_rejected_a_goal_does_not_stop_the_arm_again_after_rearming(rig):
    pytest.importorskip("control_msgs.action", reason="actions need ROS 2")
    from control_msgs.action import GripperCommand
    from rclpy.action import ActionServer, GoalResponse
    from rig import DRIVING

    answers = [GoalResponse.REJECT]

    def execute(handle):
        handle.succeed()
        return GripperCommand.Result()

    # One slow inference per step: nothing is sent to the gripper within the first looks at it.
    one = rig(policy(FORWARD_X, delay=0.7), gripper_interface="action", **DRIVING)
    server = ActionServer(
        one.probe, GripperCommand, "gripper_cmd", execute,
        goal_callback=lambda goal: answers.pop() if answers else GoalResponse.ACCEPT,
    )  # fmt: skip
    one.activate()
    one.until_fault("GRIPPER_NOT_READY")
    one.rearm()
    assert one.node._cycle.fault is None
    server.destroy()


# -- the time of a step


class OfDataSet:
    """A policy that says which statistics it uses, as a model does."""

    def __new__(cls, key):
        one = policy(FORWARD_X)
        one.describe = lambda: {"policy": "openvla", "unnorm_key": key}
        return one


@pytest.mark.parametrize(
    ("key", "override", "step"),
    [("bridge_orig", 0.0, 0.2), ("libero_object_no_noops", 0.0, 0.05), ("kuka", 0.1, 0.1), ("bridge_orig", 0.4, 0.4)],
)
def test_the_time_of_a_step_comes_from_the_data_set_or_the_operator(rig, key, override, step):
    from rig import DRIVING

    one = rig(OfDataSet(key), **DRIVING, step_dt=override).activate()
    one.until(lambda: one.actions)
    assert one.actions[0].step_dt == pytest.approx(step)


def test_a_data_set_of_unknown_period_fails_configure(rig):
    from rig import FAILURE

    one = rig(OfDataSet("kuka"))
    assert one.node.trigger_configure() == FAILURE
    one.until(lambda: "set step_dt" in one.control().get("message", ""))
