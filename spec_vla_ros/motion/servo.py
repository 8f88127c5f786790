"""The input side of MoveIt Servo, so that what drives the simulated arm would also drive a real one. No ROS.

A command counts if it is fresh, in the right frame and finite. Freshness is judged twice, by two clocks: the header's
stamp against the node's clock (a command copied from an old image is refused at the door), and the time since the
last accepted command on the steady clock (a source that fell silent stops the arm, whatever the wall clock does).
"""

from __future__ import annotations

from collections import Counter

import numpy as np

TIMEOUT = 0.1  # s, MoveIt Servo's incoming_command_timeout
FUTURE_TOLERANCE = 0.05  # s that a stamp may lie ahead of the node's clock; two machines are never quite in step


class ServoInput:
    """Keeps the newest acceptable twist and forgets it after ``timeout``.

    ``dropped`` counts refused commands by reason, ``stops`` how often the arm was stopped for want of commands.
    """

    def __init__(self, frame: str, timeout: float = TIMEOUT, future_tolerance: float = FUTURE_TOLERANCE) -> None:
        """``frame``: the only ``frame_id`` accepted. Times in seconds."""
        self.frame = frame
        self.timeout = timeout
        self.future_tolerance = future_tolerance
        self.accepted = 0
        self.stops = 0
        self.dropped: Counter[str] = Counter()
        self._twist = np.zeros(6)
        self._received: float | None = None

    def accept(self, twist: np.ndarray, stamp_ns: int, frame: str, now_ns: int, steady: float) -> str:
        """Take ``twist`` (6,), m/s and rad/s; returns "" or the reason why it was dropped.

        ``stamp_ns``: the header's stamp; ``now_ns``: the node's clock; ``steady``: s on the steady clock.
        """
        reason = self._objection(twist, stamp_ns, frame, now_ns)
        if reason:
            self.dropped[reason] += 1
            return reason
        self._twist = np.array(twist, dtype=float)
        self._received = steady
        self.accepted += 1
        return ""

    def twist(self, steady: float) -> np.ndarray:
        """The twist (6,) in force at ``steady`` (s, steady clock): zero if no command arrived for ``timeout``."""
        if self._received is not None and steady - self._received > self.timeout:
            self.stops += bool(np.any(self._twist))
            self.clear()
        return self._twist.copy()

    def clear(self) -> None:
        """Forget the command: zero until the next one."""
        self._twist = np.zeros(6)
        self._received = None

    def _objection(self, twist: np.ndarray, stamp_ns: int, frame: str, now_ns: int) -> str:
        if stamp_ns == 0:
            return "no stamp"
        age = (now_ns - stamp_ns) * 1e-9
        if age > self.timeout:
            return "stale"
        if age < -self.future_tolerance:
            return "from the future"
        if frame != self.frame:
            return "wrong frame"
        if np.shape(twist) != (6,) or not np.all(np.isfinite(twist)):
            return "not finite"
        return ""
