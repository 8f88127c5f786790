"""The gripper is a switch, not a stream: threshold with hysteresis, one command per change."""

from __future__ import annotations

import math

from spec_vla_ros.errors import NonFiniteError


class GripperSwitch:
    """Turns the action's gripper value (1 = open, 0 = closed) into commands.

    ``threshold``: where open and closed meet. ``hysteresis``: half the width of the band around it in which the last
    decision stands, so that a value hovering at the threshold does not chatter. ``invert``: command 0 = open, for
    grippers that count the other way round.
    """

    def __init__(self) -> None:
        self.open: bool | None = None  # the last decision; None until a value left the band
        self._sent: float | None = None

    def reset(self) -> None:
        """Forget decision and command: the next clear value is commanded even if it repeats the last one."""
        self.open = None
        self._sent = None

    def decide(self, value: float, threshold: float = 0.5, hysteresis: float = 0.1) -> bool | None:
        """Whether the gripper should be open after seeing ``value``; None while that is still undecided."""
        if not math.isfinite(value):
            raise NonFiniteError(f"the gripper value is not finite: {value}")
        if value > threshold + hysteresis:
            self.open = True
        elif value < threshold - hysteresis:
            self.open = False
        return self.open

    def command(self, invert: bool = False) -> float | None:
        """The command to send now (1.0 or 0.0), or None if the gripper already has it."""
        if self.open is None:
            return None
        command = float(self.open != invert)
        if command == self._sent:
            return None
        self._sent = command
        return command
