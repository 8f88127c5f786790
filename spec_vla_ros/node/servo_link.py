"""MoveIt Servo beyond its velocity topic: it ignores velocities until it has been told to expect them.

How it is told, and how it says that it has halted, depends on the distribution. The installed moveit_msgs decide, for
they are released together with Servo: since Jazzy it is switched to one of several kinds of input and speaks a message
of its own; on Humble it is started, knows velocities only, and speaks numbers that mean something else.

moveit_msgs is imported only when the parameter ``servo_node`` asks for it. Calls are asynchronous: a callback that
waits for a service would stop the stream.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from spec_vla_ros.motion.watchdog import Fault

START = "Start MoveIt Servo, or correct servo_node (empty = none)."
NO_WARNING = {-1: "invalid", 0: "no warning", 1: "slows down near a singularity", 2: "halted at a singularity"}
LEAVING, NEAR = "slows down while leaving a singularity", "slows down near a collision"
COLLISION, BOUND = "halted before a collision", "halted at a joint's bound"


@dataclass(frozen=True)
class Dialect:
    """What one generation of Servo understands and says."""

    service: str  # below Servo's name: what makes it take velocities
    kind: Any  # type of that service
    request: Any
    message: Any  # type of ~/status
    field: str  # of that message: the code
    words: dict[int, str]  # by code
    halted: frozenset[int]  # codes with which the arm stands
    proven: bool  # whether success means that it takes velocities; else only a status that follows it does


def dialect() -> Dialect:
    """That of the installed moveit_msgs; ``ValueError`` without them."""
    try:
        import moveit_msgs.srv  # noqa: F401, whether there are any
    except ImportError as error:
        raise ValueError(f"servo_node needs the package moveit_msgs: {error}") from error
    try:
        return _switched()
    except ImportError:
        return _started()


def _switched() -> Dialect:
    from moveit_msgs.msg import ServoStatus
    from moveit_msgs.srv import ServoCommandType

    return Dialect(
        service="switch_command_type",
        kind=ServoCommandType,
        request=ServoCommandType.Request(command_type=ServoCommandType.Request.TWIST),
        message=ServoStatus,
        field="code",
        words={**NO_WARNING, 3: LEAVING, 4: NEAR, 5: COLLISION, 6: BOUND},
        halted=frozenset((-1, 2, 5, 6)),
        proven=True,
    )


def _started() -> Dialect:
    """Humble (moveit_servo 2.5). It answers success, too, where its joint states did not come and it has not begun.

    A start while it runs begins anew from where the arm stands, and ends a pause that somebody has asked for.
    """
    from std_msgs.msg import Int8
    from std_srvs.srv import Trigger

    return Dialect(
        service="start_servo",
        kind=Trigger,
        request=Trigger.Request(),
        message=Int8,
        field="data",
        words={**NO_WARNING, 3: NEAR, 4: COLLISION, 5: BOUND, 6: LEAVING},
        halted=frozenset((-1, 2, 4, 5)),
        proven=False,
    )


class ServoLink:
    """One MoveIt Servo node. The executor's thread owns it.

    Servo is not told when commanding ends: it stops by itself for want of velocities, and others may be using it.
    """

    def __init__(self, node: Any, name: str) -> None:
        """``name``: of Servo's node, for example "/servo_node". Raises ``ValueError`` without moveit_msgs."""
        self._node, self._name, self._dialect = node, name.rstrip("/"), dialect()
        self._service = f"{self._name}/{self._dialect.service}"
        self._client = node.create_client(self._dialect.kind, self._service)
        self._ear = node.create_subscription(self._dialect.message, f"{self._name}/status", self._on_status, 10)
        self._answer: Any = None
        self._heard = 0  # statuses
        self._heard_before: int | None = None  # of them, those before the answer was seen
        self.code: int | None = None  # the newest status
        self.heard_at: float | None = None  # and when it came, steady time

    def switch(self) -> None:
        """Ask for velocity input anew; call it whenever commanding begins, Servo may have been restarted."""
        self._answer = self._heard_before = None
        self._ask()

    def waiting_for(self) -> Fault | None:
        """What is missing until Servo takes velocities, as the fault that it is if it does not come."""
        self._ask()
        if self._answer is None:
            return Fault("SERVO_NOT_READY", f"there is no service {self._service}", START)
        if not self._answer.done():
            return Fault("SERVO_NOT_READY", f"{self._service} does not answer", START)
        if not self._answer.result().success:
            return Fault("SERVO_NOT_READY", f"{self._service} refuses velocities", "Read MoveIt Servo's log.")
        return None if self._dialect.proven else self._waiting_for_status()

    @property
    def halted(self) -> str:
        """Why Servo does not move the arm, or an empty string."""
        return self._dialect.words[self.code] if self.code in self._dialect.halted else ""

    @property
    def status(self) -> str:
        """The newest status in words."""
        return "none heard" if self.code is None else self._dialect.words.get(self.code, f"code {self.code}")

    def destroy(self) -> None:
        """Leave the graph."""
        self._node.destroy_client(self._client)
        self._node.destroy_subscription(self._ear)

    def _ask(self) -> None:
        if self._answer is None and self._client.service_is_ready():
            self._answer = self._client.call_async(self._dialect.request)

    def _waiting_for_status(self) -> Fault | None:
        """Servo publishes a status in each of its periods once it runs, and none before."""
        if self._heard_before is None:
            self._heard_before = self._heard
        if self._heard > self._heard_before:
            return None
        return Fault(
            "SERVO_NOT_READY",
            f"{self._service} was answered, but nothing comes on {self._name}/status",
            "Read MoveIt Servo's log: it begins once it knows all of its joints. low_latency_mode has to be off.",
        )

    def _on_status(self, message: Any) -> None:
        self.code, self.heard_at = int(getattr(message, self._dialect.field)), time.monotonic()
        self._heard += 1
