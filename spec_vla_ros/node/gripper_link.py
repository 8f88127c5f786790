"""The gripper, as a topic or as a control_msgs/GripperCommand action.

A gripper is told on change only; a goal in force is replaced by the next one.
"""

from __future__ import annotations

import functools
from typing import Any, Protocol

from std_msgs.msg import Float64

from spec_vla_ros.motion.watchdog import Fault

from .parameters import Fixed


class GripperLink(Protocol):
    """Takes commands: 1.0 or 0.0, after threshold, hysteresis and inversion."""

    def begin(self) -> None:
        """Commanding begins: what went wrong before is over."""

    def command(self, value: float) -> Fault | None:
        """Send ``value``; a fault if there is nobody to take it."""

    def trouble(self) -> Fault | None:
        """A fault that became known later."""

    def destroy(self) -> None:
        """Leave the graph."""


def gripper_link(node: Any, fixed: Fixed) -> GripperLink:
    """What ``fixed.gripper_interface`` names. Raises ``ValueError`` where actions are not available."""
    return ActionGripper(node, fixed) if fixed.gripper_interface == "action" else TopicGripper(node)


class TopicGripper:
    """std_msgs/Float64 on ``gripper_command``."""

    def __init__(self, node: Any) -> None:
        self._node, self._publisher = node, node.create_lifecycle_publisher(Float64, "gripper_command", 10)

    def begin(self) -> None:
        """Nothing is remembered."""

    def command(self, value: float) -> Fault | None:
        """Publish it."""
        self._publisher.publish(Float64(data=value))
        return None

    def trouble(self) -> Fault | None:
        """A topic does not answer."""
        return None

    def destroy(self) -> None:
        """Remove the publisher."""
        self._node.destroy_publisher(self._publisher)


class ActionGripper:
    """control_msgs/action/GripperCommand on ``gripper_cmd``: the gap in m and the effort in N."""

    def __init__(self, node: Any, fixed: Fixed) -> None:
        try:
            from control_msgs.action import GripperCommand
            from rclpy.action import ActionClient
        except ImportError as error:
            raise ValueError(f"gripper_interface 'action' needs ROS 2 with control_msgs: {error}") from error
        self._goal_type, self._fixed = GripperCommand.Goal, fixed
        self._client = ActionClient(node, GripperCommand, "gripper_cmd")
        self._trouble: Fault | None = None
        self._run = 0  # of commanding; answers to goals of an earlier one are history

    def begin(self) -> None:
        """Forget rejections, also those that are still on their way."""
        self._trouble, self._run = None, self._run + 1

    def command(self, value: float) -> Fault | None:
        """Send a goal; its rejection is told by :meth:`trouble`."""
        if not self._client.server_is_ready():
            return self._fault("there is no action server gripper_cmd")
        fixed, goal = self._fixed, self._goal_type()
        goal.command.position = fixed.gripper_closed + value * (fixed.gripper_open - fixed.gripper_closed)
        goal.command.max_effort = fixed.gripper_effort
        self._client.send_goal_async(goal).add_done_callback(functools.partial(self._on_response, self._run))
        return None

    def trouble(self) -> Fault | None:
        """The first rejection since commanding began."""
        return self._trouble

    def destroy(self) -> None:
        """Remove the client."""
        self._client.destroy()

    def _on_response(self, run: int, future: Any) -> None:
        handle = future.result()
        if run == self._run and self._trouble is None and (handle is None or not handle.accepted):
            self._trouble = self._fault("the action server gripper_cmd rejected the goal")

    @staticmethod
    def _fault(detail: str) -> Fault:
        remedy = "Check the gripper's driver and the remapping of gripper_cmd; then deactivate and activate."
        return Fault("GRIPPER_NOT_READY", detail, remedy)
