"""What the node tests are made of; see conftest.py. Imported after ``ensure_rclpy``."""

import array
import itertools
import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from spec_vla_ros.msg import DecodeStats, DeltaAction
from std_msgs.msg import Float64, String

from spec_vla_ros.node.act_node import ActNode
from spec_vla_ros.policy import ScriptedPolicy

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
FORWARD = [0.01, -0.004, 0.002, 0.0, 0.0, 0.02, 1.0]  # one action: m, rad, gripper open
PERIOD = 0.01  # s, of the stream
SENTINEL = "sentinel"
_grain = itertools.count()
DRIVING = {"dry_run": False, "instruction": "pick up the block", "action_scale": 1.0, "max_linear_speed": 0.5}


def image(stamp=None, encoding="rgb8", height=24, width=32, colour=None, **fields):
    """A small sensor_msgs/Image of one colour; by default never the same one, as no two images of a sensor are."""
    colour = colour or (10, 20, next(_grain) % 256)
    message = Image(encoding=encoding, height=height, width=width, step=width * 3)
    if stamp is not None:
        message.header.stamp = stamp
    message.header.frame_id = "camera"
    message.data = array.array("B", bytes(colour) * (height * width))
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def six(message):
    """(6,) of a TwistStamped."""
    linear, angular = message.twist.linear, message.twist.angular
    return np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])


def seconds(stamp):
    return stamp.sec + 1e-9 * stamp.nanosec


class World:
    """A camera (30 Hz), an operator and an ear on every topic. ``camera``: makes the next image or None."""

    def __init__(self, namespace="/"):
        self.executor = SingleThreadedExecutor()
        self.probe = Node("probe", namespace=namespace)
        self.topic = self.probe.resolve_topic_name("delta_twist_cmds")
        self.closed = False
        self.twists, self.grippers, self.actions, self.stats, self.diagnostics = [], [], [], [], []
        self.ears = {}
        for topic, kind, received in (
            ("delta_twist_cmds", TwistStamped, self.twists),
            ("gripper_command", Float64, self.grippers),
            ("act/action", DeltaAction, self.actions),
            ("act/decode_stats", DecodeStats, self.stats),
            ("/diagnostics", DiagnosticArray, self.diagnostics),
        ):
            self.ears[topic] = self.probe.create_subscription(kind, topic, received.append, 100)
        self.images = self.probe.create_publisher(Image, "image", qos_profile_sensor_data)
        self.instructions = self.probe.create_publisher(String, "instruction", 10)
        self.camera = lambda: image(self.now())
        self.probe.create_timer(1 / 30, self._film, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.executor.add_node(self.probe)
        # A process that a test has killed stays in the graph until its lease is over, and would be a rival.
        self.until(lambda: not self.probe.count_publishers(self.topic), 30, "an empty command topic")

    def _film(self):
        message = self.camera()
        if message is not None:
            self.images.publish(message)

    def now(self):
        """A stamp of this moment."""
        return self.probe.get_clock().now().to_msg()

    def until(self, condition, timeout=10.0, what=""):
        """Serve the nodes until ``condition()``; fail with the last diagnostics after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"waited in vain for {what or 'an event'}; {self.control()}"
            self.executor.spin_once(timeout_sec=0.02)

    def say(self, text):
        self.instructions.publish(String(data=text))

    def control(self):
        """Newest diagnostics of the control part, as a dict with level and message."""
        for message in reversed(self.diagnostics):
            for status in message.status:
                if status.name.endswith("act: control"):  # diagnostic_updater puts the namespace before it
                    values = {pair.key: pair.value for pair in status.values}
                    return {**values, "level": status.level[0], "message": status.message}
        return {}

    def until_fault(self, name, timeout=5.0):
        """Wait for diagnostics that name the fault, and return them."""
        self.until(lambda: self.control().get("fault") == name, timeout, f"the fault {name}")
        return self.control()

    def until_moving(self):
        """Wait for a velocity that is not zero."""
        count = len(self.twists)
        self.until(lambda: any(six(message).any() for message in self.twists[count:]), what="motion")

    def until_still(self):
        """Wait for a zero that comes after what is known so far: diagnostics and velocities come from two processes."""
        count = len(self.twists)
        self.until(lambda: any(not six(message).any() for message in self.twists[count:]), what="zero")

    def until_ticks(self, count):
        """Wait for ``count`` more velocities and return them."""
        seen = len(self.twists)
        self.until(lambda: len(self.twists) >= seen + count, what=f"{count} velocities")
        return self.twists[seen:]

    def heard_before_sentinel(self, topic="delta_twist_cmds", kind=TwistStamped, received=None):
        """Everything that came before a sentinel which is published now."""
        received = self.twists if received is None else received
        sender = self.probe.create_publisher(kind, topic, 10)
        self.until(lambda: sender.get_subscription_count() >= 1)
        mark = kind()
        if kind is Float64:
            mark.data = -1.0
        else:
            mark.header.frame_id = SENTINEL
        sender.publish(mark)
        self.until(lambda: mark in received, what="the sentinel")
        self.probe.destroy_publisher(sender)
        return received[: received.index(mark)]

    def close(self):
        if not self.closed:
            self.closed = True
            self.probe.destroy_node()
            self.executor.shutdown()


class Rig(World):
    """The same around a node in this process, with ``policy`` in place of a model."""

    def __init__(self, policy, parameters, arguments=(), namespace="/"):
        super().__init__(namespace)
        self.policy = policy or ScriptedPolicy([FORWARD])
        # The camera shares a thread with everything else here: a pause of a busy machine is no fault of the camera.
        parameters = {"image_timeout": 2.0, **parameters}
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node = ActNode(
            policy_factory=self._make_policy,
            parameter_overrides=overrides,
            cli_args=["--ros-args", "-r", f"__ns:={namespace}", *arguments],
        )
        self.executor.add_node(self.node)
        compressed = parameters.get("image_transport") == "compressed"
        self.until(lambda: compressed or self.images.get_subscription_count())
        self.until(self.instructions.get_subscription_count)

    def _make_policy(self, fixed):
        if isinstance(self.policy, BaseException):
            raise self.policy
        return self.policy

    def activate(self):
        """Configure and activate; returns when the first velocity (or, in a dry run, diagnostics) has arrived."""
        assert self.node.trigger_configure() == SUCCESS
        self.until(lambda: self.probe.count_publishers(self.topic) == 1)
        assert self.node.trigger_activate() == SUCCESS
        if self.parameter("dry_run"):
            self.until(lambda: self.control().get("state") == "active")
        else:
            self.until(lambda: self.twists, what="the first velocity")
        return self

    def rearm(self):
        """What an operator does after a fault; returns when the arm moves."""
        self.node.trigger_deactivate()
        self.node.trigger_activate()
        self.until_moving()

    def parameter(self, name):
        return self.node.get_parameter(name).value

    def set(self, **values):
        """Set parameters; returns whether all were accepted."""
        results = self.node.set_parameters([Parameter(name, value=value) for name, value in values.items()])
        return all(result.successful for result in results)

    def close(self):
        if not self.closed:
            self.node.stop_for_good()
            super().close()
