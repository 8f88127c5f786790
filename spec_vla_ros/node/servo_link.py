"""MoveIt Servo beyond its velocity topic: it ignores velocities until it has been told to expect them.

moveit_msgs is imported only when the parameter ``servo_node`` asks for it. Calls are asynchronous: a callback that
waits for a service would stop the stream.
"""

from __future__ import annotations

import time
from typing import Any

from spec_vla_ros.motion.watchdog import Fault

# moveit_msgs/msg/ServoStatus
STATUS = {
    -1: "invalid",
    0: "no warning",
    1: "slows down near a singularity",
    2: "halted at a singularity",
    3: "slows down while leaving a singularity",
    4: "slows down near a collision",
    5: "halted before a collision",
    6: "halted at a joint's bound",
}
HALTED = (-1, 2, 5, 6)


class ServoLink:
    """One MoveIt Servo node. The executor's thread owns it."""

    def __init__(self, node: Any, name: str) -> None:
        """``name``: of Servo's node, for example "/servo_node". Raises ``ValueError`` without moveit_msgs."""
        try:
            from moveit_msgs.msg import ServoStatus
            from moveit_msgs.srv import ServoCommandType
        except ImportError as error:
            raise ValueError(f"servo_node needs the package moveit_msgs: {error}") from error
        self._node, self._name = node, name.rstrip("/")
        self._request = ServoCommandType.Request(command_type=ServoCommandType.Request.TWIST)
        self._client = node.create_client(ServoCommandType, f"{self._name}/switch_command_type")
        self._ear = node.create_subscription(ServoStatus, f"{self._name}/status", self._on_status, 10)
        self._answer: Any = None
        self.code: int | None = None  # the newest status
        self.heard_at: float | None = None  # and when it came, steady time

    def switch(self) -> None:
        """Ask for velocity input anew; call it whenever commanding begins, Servo may have been restarted."""
        self._answer = None
        self._ask()

    def waiting_for(self) -> Fault | None:
        """What is missing until Servo takes velocities, as the fault that it is if it does not come."""
        self._ask()
        service, remedy = (
            f"{self._name}/switch_command_type",
            "Start MoveIt Servo, or correct servo_node (empty = none).",
        )
        if self._answer is None:
            return Fault("SERVO_NOT_READY", f"there is no service {service}", remedy)
        if not self._answer.done():
            return Fault("SERVO_NOT_READY", f"{service} does not answer", remedy)
        if not self._answer.result().success:
            return Fault("SERVO_NOT_READY", f"{service} refuses velocities", "Read MoveIt Servo's log.")
        return None

    @property
    def halted(self) -> str:
        """Why Servo does not move the arm, or an empty string."""
        return STATUS.get(self.code, "") if self.code in HALTED else ""

    @property
    def status(self) -> str:
        """The newest status in words."""
        return "none heard" if self.code is None else STATUS.get(self.code, f"code {self.code}")

    def destroy(self) -> None:
        """Leave the graph."""
        self._node.destroy_client(self._client)
        self._node.destroy_subscription(self._ear)

    def _ask(self) -> None:
        if self._answer is None and self._client.service_is_ready():
            self._answer = self._client.call_async(self._request)

    def _on_status(self, message: Any) -> None:
        self.code, self.heard_at = int(message.code), time.monotonic()
