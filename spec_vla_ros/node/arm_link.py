"""Everything that moves the arm, and a look at who else does.

Two sources of velocity would fight over the arm, a servo that expects other input would ignore ours, and an arm that
has left the graph and comes back must not find a motion waiting for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from geometry_msgs.msg import TwistStamped
from rclpy.duration import Duration

from spec_vla_ros.foreign_text import sentence
from spec_vla_ros.motion.watchdog import Fault

from . import conversions
from .gripper_link import gripper_link
from .parameters import Fixed
from .servo_link import ServoLink
from .space import Space

ZERO = (0.0,) * 6
LAST_WORD = 0.1  # s that the last message gets to arrive before its publisher leaves
# Nodes that listen to velocities without being an arm, by the beginning of their names; hidden ones are ros2's own.
LISTENERS = ("_ros2cli", "rosbag2_", "rqt", "rviz", "foxglove", "plotjuggler")


class ArmLink:
    """Velocities and gripper commands of one configured node. The executor's thread owns it.

    Commanding begins with :meth:`engage` and ends with :meth:`stop`; in a dry run it never begins.
    """

    def __init__(self, node: Any, fixed: Fixed) -> None:
        """Raises ``ValueError`` for what a parameter asks for and this machine does not have."""
        self._node, self._frame = node, fixed.command_frame or fixed.base_frame
        self.space = Space(node, fixed) if Space.needed(fixed) else None
        self.servo = ServoLink(node, fixed.servo_node) if fixed.servo_node else None
        self._gripper = gripper_link(node, fixed)
        self._twist = node.create_lifecycle_publisher(TwistStamped, "delta_twist_cmds", 10)
        self.on_wire = False  # whether the arm has heard from us since commanding began
        self.ready = False  # whether it takes what it hears
        self._listened = False  # whether anybody has listened meanwhile
        self._audience: dict[bytes, str] = {}  # subscriptions at the last look, and whose they are
        self._engaged_at = 0.0

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

    def engage(self, now: float, patience: float) -> Fault | None:
        """Begin commanding, or go on; a fault if somebody else commands or the arm does not become ready.

        Call it before every :meth:`send`. ``now``: s, steady clock. ``patience``: s until an arm must be ready; zeros
        may be sent meanwhile.
        """
        if not self.on_wire:
            self._engaged_at, self.ready, self._listened = now, False, False
            self._audience = {}
            self._gripper.begin()
            if fault := self.rival_fault():
                return fault
            if self.servo is not None:
                self.servo.switch()
        if self.ready:
            return None
        missing = self._waiting_for()
        self.ready = missing is None
        return missing if now - self._engaged_at > patience else None

    def shaped(self, twist: np.ndarray) -> np.ndarray:
        """The (6,) twist as it may be sent: inside the workspace, in the command frame. Raises PoseError."""
        return twist if self.space is None else self.space.apply(twist)

    def send(self, twist: Any) -> None:
        """Publish ``twist`` (6,), m/s and rad/s, stamped now."""
        stamp = self._node.get_clock().now().to_msg()  # never the image's: sinks compare it with their own clock
        self._twist.publish(conversions.twist_message(TwistStamped, twist, stamp, self._frame))
        self.on_wire = True
        self._listened = self._listened or self.listeners > 0

    def stop(self) -> bool:
        """Publish zero if the arm has heard anything from us; returns whether it had. Commanding ends."""
        was_on_wire = self.on_wire
        if was_on_wire:
            self.send(ZERO)
        self.on_wire = self.ready = False
        return was_on_wire

    def command_gripper(self, command: float) -> Fault | None:
        """Send a gripper command, 1.0 or 0.0; a fault if nobody can take it."""
        return self._gripper.command(command)

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
        """What is wrong around the arm while the node commands it, or None. A few times per second."""
        if fault := self.rival_fault() or self._gripper.trouble():
            return fault
        left = self._departed()
        if left or (self._listened and not self.listeners):
            return Fault(
                "ARM_GONE",
                f"{', '.join(left) or 'the last subscriber'} no longer listens on {self.topic}",
                "Check the arm's driver or MoveIt Servo and the network; then deactivate and activate.",
            )
        return None

    def destroy(self) -> None:
        """Leave the graph, once the last velocity has arrived."""
        if not self._twist.wait_for_all_acked(Duration(seconds=LAST_WORD)):
            self._node.get_logger().warning(f"a subscriber of {self.topic} has not confirmed the last message")
        self._node.destroy_publisher(self._twist)
        for part in (self._gripper, self.servo, self.space):
            if part is not None:
                part.destroy()

    def _departed(self) -> list[str]:
        """Nodes that have stopped listening since the last look, except tools.

        One that stays, such as a recorder, must not hide that the arm has left.
        """
        infos = self._node.get_subscriptions_info_by_topic(self.topic)
        present = {bytes(info.endpoint_gid): sentence(info.node_name, 80) for info in infos}
        left = [name for gid, name in self._audience.items() if gid not in present and not name.startswith(LISTENERS)]
        self._audience = present
        return sorted(left)

    def _waiting_for(self) -> Fault | None:
        missing = (part.waiting_for() for part in (self.space, self.servo) if part is not None)
        return next((fault for fault in missing if fault is not None), None)
