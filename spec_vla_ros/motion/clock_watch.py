"""Whether the ROS clock can be trusted: stamps of images and commands are made with it.

Control itself runs on the steady clock. But a clock that stands still hides the age of images and disarms every sink
that compares stamps (MoveIt Servo does), and a clock that goes back makes old images look new.
"""

from __future__ import annotations

from .watchdog import Fault

STEP_BACK = 0.05  # s; smaller corrections are what a synchronised clock does


class ClockWatch:
    """Looks at the ROS clock beside the steady clock. Not thread-safe."""

    def __init__(self) -> None:
        self._newest: int | None = None
        self._changed_at = 0.0

    def reset(self) -> None:
        """Forget what was seen; call it on activation."""
        self._newest = None

    def check(self, now: float, ros_ns: int, simulated: bool, limit: float) -> Fault | None:
        """The fault of a clock that stands still or goes back, or None.

        ``now``: s, steady clock. ``ros_ns``: ns, ROS clock. ``simulated``: the ROS clock follows ``/clock``; only then
        can it stand still. ``limit``: s that it may stand still.
        """
        if self._newest is None:
            self._newest, self._changed_at = ros_ns, now
        if ros_ns > self._newest:
            self._newest, self._changed_at = ros_ns, now
            return None
        back = (self._newest - ros_ns) * 1e-9
        if back > STEP_BACK:
            return Fault(
                "CLOCK_JUMPED",
                f"the ROS clock went back by {back:.3f} s",
                "Find out who set the clock or restarted /clock (a looping bag?); then deactivate and activate.",
            )
        if simulated and now - self._changed_at > limit:
            return Fault(
                "CLOCK_STOPPED",
                f"use_sim_time is set and /clock has not moved for {now - self._changed_at:.2f} s",
                "Start or continue what publishes /clock, or set use_sim_time to false.",
            )
        return None
