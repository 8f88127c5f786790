"""The simulated table top as a ROS node: what a robot with a camera and MoveIt Servo would be on the wire.

Topics stand in ``docs/architecture.md``. Everything runs in the executor's thread, because MuJoCo's renderer is bound
to the thread that made it; a frame takes a few milliseconds. Physics follows the steady clock and is brought up to
date before a command is applied, so a command acts from the moment when it arrived. Works with rclpy and with the
embedded subset.
"""

from __future__ import annotations

import array
import time
from typing import Any

import numpy as np

from spec_vla_ros.embedded_ros.doorway import ensure_rclpy

ensure_rclpy()  # before the first import of rclpy or of a message package

from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped, TwistStamped
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64
from tf2_msgs.msg import TFMessage

from spec_vla_ros.foreign_text import shortened
from spec_vla_ros.motion.servo import ServoInput
from spec_vla_ros.msg import Episode
from spec_vla_ros.ros.episode_requests import refuse
from spec_vla_ros.ros.parameters import declare_all, fixed
from spec_vla_ros.ros.process import run

from .arm import TICK, TabletopArm, vector_from_rotation
from .episode import EpisodeRunner

CATCH_UP = 0.1  # s; a longer pause of the process is lost time rather than a jump of the arm
JOINT_RATE, EPISODE_RATE = 50.0, 10.0  # Hz
QUIET = 5.0  # s between two warnings of the same kind


class ArmNode(Node):
    """Camera, joints, servo input and episodes of the simulated arm."""

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("tabletop_arm", **node_arguments)
        declare_all(self, PARAMETERS)
        self._frame, self._tool_frame, self._camera_frame = (
            f"{self.get_parameter('tf_prefix').value}{self.get_parameter(name).value}"
            for name in ("base_frame", "tool_frame", "camera_frame")
        )
        size = (self.get_parameter("image_height").value, self.get_parameter("image_width").value)
        self.episodes = EpisodeRunner(TabletopArm(size))
        self.servo = ServoInput(self._frame)
        self.lost = 0.0  # s that physics did not make up for
        self._advanced_at = time.monotonic()
        self._make_publishers()
        self._subscriptions_ = (
            self.create_subscription(TwistStamped, "delta_twist_cmds", self._on_twist, 10),
            self.create_subscription(Float64, "gripper_command", self._on_gripper, 10),
            self.create_subscription(Episode, "episode_request", self._on_request, 10),
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        rate = self.get_parameter("image_rate").value
        self._timers_ = (
            self.create_timer(TICK, self._advance, clock=steady),
            self.create_timer(1.0 / rate, self._publish_image, clock=steady),
            self.create_timer(1.0 / JOINT_RATE, self._publish_joints, clock=steady),
            self.create_timer(1.0 / EPISODE_RATE, self._publish_episode, clock=steady),
        )
        self.get_logger().info(f"camera {size[1]} x {size[0]} px at {rate:g} Hz, base frame '{self._frame}'")

    def close(self) -> None:
        """Free the renderer and leave the graph."""
        if self.servo.dropped or self.lost:
            dropped = ", ".join(f"{count} {reason}" for reason, count in self.servo.dropped.items()) or "none"
            self.get_logger().info(f"dropped twists: {dropped}; simulated time lost: {self.lost:.2f} s")
        self.episodes.arm.close()
        self.destroy_node()

    # -- construction ------------------------------------------------------------------------------------------------

    def _make_publishers(self) -> None:
        self._factor = self.get_parameter("real_time_factor").value
        self._images = self.create_publisher(Image, "image", qos_profile_sensor_data)
        self._joints = self.create_publisher(JointState, "joint_states", 10)
        self._transforms = self.create_publisher(TFMessage, "/tf", 100)
        self._states = self.create_publisher(Episode, "episode", 10)
        self._clock_publisher = None
        if self.get_parameter("publish_clock").value:
            from rosgraph_msgs.msg import Clock as ClockMessage

            self._clock_message = ClockMessage
            self._clock_publisher = self.create_publisher(ClockMessage, "/clock", 10)

    # -- time --------------------------------------------------------------------------------------------------------

    def _now(self) -> Time:
        """The stamp of this moment: simulated time where we publish it, else the node's clock."""
        if self._clock_publisher is None:
            return self.get_clock().now().to_msg()
        nanoseconds = max(1, round(self.episodes.clock * 1e9))
        return Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)

    def _advance(self) -> None:
        """Bring physics up to the present moment."""
        now = time.monotonic()
        elapsed, self._advanced_at = now - self._advanced_at, now
        if elapsed > CATCH_UP:
            self.lost += elapsed - CATCH_UP
            text = f"the process stood still for {elapsed:.2f} s; simulated time runs late"
            self.get_logger().warning(text, throttle_duration_sec=QUIET)
            elapsed = CATCH_UP
        changed = self.episodes.advance(elapsed * self._factor, self.servo.twist(now))
        if self._clock_publisher is not None:
            self._clock_publisher.publish(self._clock_message(clock=self._now()))
        if changed:
            self._publish_episode()
            runner = self.episodes
            self.get_logger().info(f"episode {runner.id}: {runner.state.name} after {runner.elapsed:.2f} s")

    # -- commands ----------------------------------------------------------------------------------------------------

    def _on_twist(self, message: TwistStamped) -> None:
        self._advance()  # what was in force until now is in force until now
        linear, angular = message.twist.linear, message.twist.angular
        twist = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
        header = message.header
        steady = time.monotonic()
        dropped = self.servo.accept(
            twist, _nanoseconds(header.stamp), header.frame_id, _nanoseconds(self._now()), steady
        )
        if dropped:
            text = (
                f"twist dropped: {dropped} (frame {shortened(header.frame_id)}, {self.servo.dropped[dropped]} so far)"
            )
            self.get_logger().warning(text, throttle_duration_sec=QUIET)

    def _on_gripper(self, message: Float64) -> None:
        self._advance()
        if not self.episodes.set_gripper(message.data):
            self.get_logger().warning("gripper command dropped: not finite", throttle_duration_sec=QUIET)

    def _on_request(self, message: Episode) -> None:
        self._advance()
        refusal = self.episodes.request(message.id, message.seed, message.instruction, message.time_limit)
        if refusal:
            refuse(self, self._states, message, refusal, (self._now(), self._frame))
            return
        self.servo.clear()
        self.get_logger().info(f"episode {message.id}: {shortened(message.instruction)}, seed {message.seed}")
        self._publish_image()  # whoever acts on RUNNING has seen the new scene, not the old one
        self._publish_episode()

    # -- publishing --------------------------------------------------------------------------------------------------

    def _publish_image(self) -> None:
        self._advance()
        message = Image()
        message.header.stamp, message.header.frame_id = self._now(), self._camera_frame
        pixels = self.episodes.arm.render()
        message.height, message.width = pixels.shape[0], pixels.shape[1]
        message.encoding, message.step = "rgb8", 3 * pixels.shape[1]
        data = array.array("B")
        data.frombytes(pixels.tobytes())
        message.data = data
        self._images.publish(message)

    def _publish_joints(self) -> None:
        names, positions, velocities = self.episodes.arm.joint_state()
        message = JointState(name=names, position=positions.tolist(), velocity=velocities.tolist())
        message.header.stamp, message.header.frame_id = self._now(), self._frame
        self._joints.publish(message)
        self._publish_tool(message.header.stamp)

    def _publish_tool(self, stamp: Time) -> None:
        """base_link -> tool0; its z axis points out of the hand, that is down, its x axis forward."""
        transform = TransformStamped(child_frame_id=self._tool_frame)
        transform.header.stamp, transform.header.frame_id = stamp, self._frame
        move, turn = transform.transform.translation, transform.transform.rotation
        move.x, move.y, move.z = (float(value) for value in self.episodes.arm.tool_position)
        turn.x, turn.y, turn.z, turn.w = tool_quaternion(self.episodes.arm.tool_rotation)
        self._transforms.publish(TFMessage(transforms=[transform]))

    def _publish_episode(self) -> None:
        runner = self.episodes
        message = Episode(id=runner.id, seed=runner.seed, state=int(runner.state))
        message.header.stamp, message.header.frame_id = self._now(), self._frame
        message.instruction = "" if runner.task is None else runner.task.instruction
        message.time_limit, message.elapsed = float(runner.time_limit), float(runner.elapsed)
        self._states.publish(message)


PARAMETERS = (  # all are read once, at the start
    fixed("image_width", 224, "px", range=(16, 640)),
    fixed("image_height", 224, "px", range=(16, 480)),
    fixed("image_rate", 30.0, "Hz", range=(1.0, 100.0)),
    fixed("base_frame", "base_link", "The only frame in which velocities are accepted"),
    fixed("tool_frame", "tool0", "Frame of the hand in /tf"),
    fixed("camera_frame", "camera", "frame_id of the images"),
    fixed("tf_prefix", "", "Put in front of these three, so that a second arm has frames of its own; e.g. left/"),
    fixed(
        "real_time_factor", 1.0, "Simulated seconds per second; other than 1 drivers need /clock", range=(0.05, 20.0)
    ),
    fixed("publish_clock", False, "Publish simulated time on /clock and stamp everything with it"),
)


def tool_quaternion(from_straight_down: np.ndarray) -> tuple[float, float, float, float]:
    """Quaternion x y z w of a hand turned by (3, 3) ``from_straight_down``; half a turn about x points it down."""
    vector = vector_from_rotation(from_straight_down)
    angle = float(np.linalg.norm(vector))
    x, y, z = vector * (np.sin(angle / 2) / angle) if angle > 1e-9 else vector / 2
    return float(np.cos(angle / 2)), float(z), float(-y), float(-x)


def _nanoseconds(stamp: Time) -> int:
    return stamp.sec * 10**9 + stamp.nanosec


def main(args: list[str] | None = None) -> int:
    """Run the simulated arm until SIGINT or SIGTERM."""
    return run("tabletop_arm", lambda _: ArmNode(), ArmNode.close, args)


if __name__ == "__main__":
    raise SystemExit(main())
