"""Where the tool is, by TF: for the workspace box, and for velocities in other axes than the base's.

tf2_ros is imported only when a parameter asks for it. Nothing here waits: a transform that is missing or old is a
fault, because a box around an unknown position protects nothing.
"""

from __future__ import annotations

import time
from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time

from spec_vla_ros.errors import PoseError
from spec_vla_ros.motion.intent import Pose
from spec_vla_ros.motion.watchdog import Fault

from . import conversions
from .parameters import Fixed

DEPTH = 100  # of both subscriptions, as tf2_ros has it


class ToolPose:
    """Made by configure if the parameters need it. The executor's thread owns it.

    Listens by itself instead of through tf2_ros's listener, which files a transform of the stamp zero under "never
    changes" wherever it comes from: a source that does not stamp would then never grow old.
    """

    def __init__(self, node: Any, fixed: Fixed) -> None:
        """Raises ``ValueError`` where tf2 is not installed."""
        try:
            from tf2_msgs.msg import TFMessage
            from tf2_ros import Buffer
        except ImportError as error:
            raise ValueError(f"tool_frame and command_frame need tf2: {error}") from error
        self._node, self._fixed = node, fixed
        self._buffer = Buffer()
        latched = QoSProfile(depth=DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._ears = (
            node.create_subscription(TFMessage, "/tf", self._on_moving, DEPTH),
            node.create_subscription(TFMessage, "/tf_static", self._on_static, latched),
        )

    @staticmethod
    def needed(fixed: Fixed) -> bool:
        """Whether ``fixed`` asks for a box or for other axes than the base's."""
        return bool(fixed.tool_frame) or fixed.command_frame not in ("", fixed.base_frame)

    def waiting_for(self) -> Fault | None:
        """The transform that is missing before a velocity could be sent, as a fault."""
        try:
            self.pose()
        except PoseError as error:
            return Fault.of(error)
        return None

    def pose(self) -> Pose:
        """What the safety loop needs to shape velocities; PoseError if it is not known, or not known of late."""
        fixed, position, rotation, ages = self._fixed, None, None, []
        if fixed.tool_frame:
            found, age = self._lookup(fixed.base_frame, fixed.tool_frame)
            ages.append(age)
            place = found.translation
            position = (place.x, place.y, place.z)
        if fixed.command_frame not in ("", fixed.base_frame):
            found, age = self._lookup(fixed.command_frame, fixed.base_frame)
            ages.append(age)
            turn = found.rotation
            rotation = (turn.x, turn.y, turn.z, turn.w)
        moving = [age for age in ages if age is not None]
        return Pose(position, rotation, time.monotonic() - max(moving) if moving else None)

    def destroy(self) -> None:
        """Stop listening."""
        for ear in self._ears:
            self._node.destroy_subscription(ear)

    def _on_moving(self, message: Any) -> None:
        for transform in message.transforms:
            stamp = transform.header.stamp
            if not (stamp.sec or stamp.nanosec):  # as old as the moment at which it came
                transform.header.stamp = self._node.get_clock().now().to_msg()
            self._take(self._buffer.set_transform, transform)

    def _on_static(self, message: Any) -> None:
        for transform in message.transforms:
            self._take(self._buffer.set_transform_static, transform)

    def _take(self, store: Any, transform: Any) -> None:
        try:
            store(transform, "")
        except Exception as error:  # noqa: BLE001 - a frame without a name, and whatever else tf2 refuses
            text = f"a transform was ignored: {error}"
            self._node.get_logger().warning(text, throttle_duration_sec=5.0)

    def _lookup(self, target: str, source: str) -> tuple[Any, float | None]:
        """The newest transform (geometry_msgs/Transform) and its age in s, None if it is static; PoseError if there is
        none of late.
        """
        try:
            found = self._buffer.lookup_transform(target, source, Time())
        except Exception as error:  # tf2 has a family of them, and all mean "unknown"
            raise PoseError(f"no transform from '{source}' to '{target}': {error}") from error
        stamp, now = conversions.stamp_seconds(found.header.stamp), self._node.get_clock().now().nanoseconds * 1e-9
        limit, tolerance = (self._node.get_parameter(name).value for name in ("pose_timeout", "future_tolerance"))
        if not stamp:  # all on the way came from /tf_static
            return found.transform, None
        if now - stamp > limit:
            raise PoseError(
                f"the transform from '{source}' to '{target}' is {now - stamp:.2f} s old, pose_timeout is {limit:.2f} s"
            )
        if stamp - now > tolerance:  # it would go on counting as new after its source had died
            raise PoseError(
                f"the transform from '{source}' to '{target}' is {stamp - now:.2f} s ahead of this node's clock, "
                f"future_tolerance is {tolerance:.2f} s"
            )
        return found.transform, max(0.0, now - stamp)
