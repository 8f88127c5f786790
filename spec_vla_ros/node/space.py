"""Where the tool is, by TF: the workspace box, and velocities in other axes than the base's.

tf2_ros is imported only when a parameter asks for it. Nothing here waits: a transform that is missing or old is a
fault, because a box around an unknown position protects nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from rclpy.time import Time

from spec_vla_ros.errors import PoseError
from spec_vla_ros.motion.watchdog import Fault
from spec_vla_ros.motion.workspace import Workspace, turned

from . import conversions
from .parameters import Fixed, read_box


class Space:
    """Made by configure if the parameters need it. The executor's thread owns it."""

    def __init__(self, node: Any, fixed: Fixed) -> None:
        """Raises ``ValueError`` where tf2 is not installed."""
        try:
            from tf2_ros import Buffer, TransformListener
        except ImportError as error:
            raise ValueError(f"tool_frame and command_frame need tf2: {error}") from error
        self.box = Workspace()
        self._node, self._fixed = node, fixed
        self._buffer = Buffer()
        self._listener = TransformListener(self._buffer, node, spin_thread=False)

    @staticmethod
    def needed(fixed: Fixed) -> bool:
        """Whether ``fixed`` asks for a box or for other axes than the base's."""
        return bool(fixed.tool_frame) or fixed.command_frame not in ("", fixed.base_frame)

    def waiting_for(self) -> Fault | None:
        """The transform that is missing before a twist could be sent, as the fault that it is if it does not come."""
        try:
            self._check()
        except PoseError as error:
            return Fault.of(error)
        return None

    def apply(self, twist: np.ndarray) -> np.ndarray:
        """The (6,) twist in base axes, kept inside the box and turned into the command frame. Raises PoseError."""
        if not np.any(twist):
            return twist
        if self._fixed.tool_frame:
            place = self._lookup(self._fixed.base_frame, self._fixed.tool_frame).translation
            position = np.array([place.x, place.y, place.z])
            low, high = read_box(self._node)
            twist = self.box.clip(twist, position, np.asarray(low), np.asarray(high))
        if self._fixed.command_frame not in ("", self._fixed.base_frame):
            turn = self._lookup(self._fixed.command_frame, self._fixed.base_frame).rotation
            twist = turned(twist, np.array([turn.x, turn.y, turn.z, turn.w]))
        return twist

    def destroy(self) -> None:
        """Stop listening."""
        self._listener.unregister()

    def _check(self) -> None:
        if self._fixed.tool_frame:
            self._lookup(self._fixed.base_frame, self._fixed.tool_frame)
        if self._fixed.command_frame not in ("", self._fixed.base_frame):
            self._lookup(self._fixed.command_frame, self._fixed.base_frame)

    def _lookup(self, target: str, source: str) -> Any:
        """The newest transform (geometry_msgs/Transform); PoseError if there is none, or none of late."""
        try:
            found = self._buffer.lookup_transform(target, source, Time())
        except Exception as error:  # tf2 has a family of them, and all mean "unknown"
            raise PoseError(f"no transform from '{source}' to '{target}': {error}") from error
        stamp, now = conversions.stamp_seconds(found.header.stamp), self._node.get_clock().now().nanoseconds * 1e-9
        limit, tolerance = (self._node.get_parameter(name).value for name in ("pose_timeout", "future_tolerance"))
        if stamp and now - stamp > limit:  # zero: all static
            raise PoseError(
                f"the transform from '{source}' to '{target}' is {now - stamp:.2f} s old, pose_timeout is {limit:.2f} s"
            )
        if stamp - now > tolerance:  # it would go on counting as new after its source had died
            raise PoseError(
                f"the transform from '{source}' to '{target}' is {stamp - now:.2f} s ahead of this node's clock, "
                f"future_tolerance is {tolerance:.2f} s"
            )
        return found.transform
