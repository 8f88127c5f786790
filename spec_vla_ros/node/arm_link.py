"""The topics that move the arm, and a look at who else is on them.

Two sources of velocity would fight over the arm, and an arm that has left the graph and comes back must not find a
motion waiting for it.
"""

from __future__ import annotations

from typing import Any

from geometry_msgs.msg import TwistStamped
from std_msgs.msg import Float64

from spec_vla_ros.motion.watchdog import Fault

from . import conversions

ZERO = (0.0,) * 6


class ArmLink:
    """Velocity and gripper publishers of one configured node. The executor's thread owns it."""

    def __init__(self, node: Any, command_frame: str) -> None:
        self._node, self._frame = node, command_frame
        self._twist = node.create_lifecycle_publisher(TwistStamped, "delta_twist_cmds", 10)
        self._gripper = node.create_lifecycle_publisher(Float64, "gripper_command", 10)
        self.on_wire = False  # whether the arm has heard from us since activation or since the end of a dry run
        self._listened = False  # whether anybody has listened meanwhile

    @property
    def topic(self) -> str:
        """Full name of the velocity topic."""
        return self._twist.topic_name

    @property
    def rivals(self) -> int:
        """Other publishers of velocities on the same topic."""
        return max(0, self._node.count_publishers(self.topic) - 1)

    @property
    def listeners(self) -> int:
        """Subscriptions that receive the velocities."""
        return self._twist.get_subscription_count()

    def start(self) -> None:
        """Nothing has been sent yet; call it on activation."""
        self.on_wire = self._listened = False

    def send(self, twist: Any) -> None:
        """Publish ``twist`` (6,), m/s and rad/s, stamped now."""
        stamp = self._node.get_clock().now().to_msg()  # never the image's: sinks compare it with their own clock
        self._twist.publish(conversions.twist_message(TwistStamped, twist, stamp, self._frame))
        self.on_wire = True
        self._listened = self._listened or self.listeners > 0

    def stop(self) -> bool:
        """Publish zero if the arm has heard anything else from us; returns whether it had."""
        was_on_wire = self.on_wire
        if was_on_wire:
            self.send(ZERO)
            self.on_wire = False
        return was_on_wire

    def command_gripper(self, command: float) -> None:
        """Publish a gripper command, 1.0 or 0.0."""
        self._gripper.publish(Float64(data=command))

    def rival_fault(self) -> Fault | None:
        """A fault if somebody else publishes velocities."""
        if not (rivals := self.rivals):
            return None
        return Fault(
            "SECOND_PUBLISHER",
            f"{rivals} other publishers of velocities on {self.topic}; two sources would fight over the arm",
            "Stop every other publisher of velocity commands; then deactivate and activate.",
        )

    def look_around(self) -> Fault | None:
        """What is wrong on the velocity topic while the node drives the arm, or None. A few times per second."""
        if fault := self.rival_fault():
            return fault
        if self._listened and not self.listeners:
            return Fault(
                "ARM_GONE",
                f"the last subscriber of {self.topic} has left",
                "Check the arm's driver or MoveIt Servo and the network; then deactivate and activate.",
            )
        return None

    def destroy(self) -> None:
        """Remove the publishers from the graph."""
        self._node.destroy_publisher(self._twist)
        self._node.destroy_publisher(self._gripper)
