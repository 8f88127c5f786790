"""One action, streamed: delta / step_dt for exactly one step_dt, then zero.

A policy that sends one message per inference makes a velocity controller move for its time-out and halt; one that
repeats a *delta* moves the arm several times too far. Here the velocity is repeated at the publish rate, and its
integral over time is the action, however long the next inference takes.
"""

from __future__ import annotations

import numpy as np

_SNAP = 1e-6  # of a period; below this the remainder of a step is rounding


class StepStream:
    """What to publish at each tick.

    A tick's twist is in force until the next tick, one ``period`` (s) later. The last tick of a step is scaled down to
    the time that is left, so that the sum of twist times period is the action even where ``step_dt`` is no multiple of
    ``period``. Remaining time is measured, not counted: where ticks were missed the sink went on moving, and the
    step ends on time instead of too far.
    """

    def __init__(self, period: float) -> None:
        """``period``: s between two ticks."""
        if not period > 0:
            raise ValueError(f"the period must be positive, got {period} s")
        self.period = period
        self.stop()

    @property
    def live(self) -> bool:
        """Whether a step is waiting for its first tick or under way. False from the tick that returned zero on."""
        return self._step is not None

    def start(self, twist: np.ndarray, step_dt: float) -> None:
        """Stream ``twist`` (6,) for ``step_dt`` seconds from the next tick on. A step under way is replaced."""
        self.stop()
        self._step = (np.array(twist, dtype=np.float64), float(step_dt))

    def stop(self) -> None:
        """Forget the step: every following tick is zero."""
        self._step: tuple[np.ndarray, float] | None = None  # twist and s
        self._started: float | None = None  # its first tick

    def tick(self, now: float) -> np.ndarray:
        """(6,) twist to publish at ``now``; the first tick after :meth:`start` begins the step."""
        if self._step is None:
            return np.zeros(6)
        twist, step_dt = self._step
        if self._started is None:
            self._started = now
        left = (step_dt - (now - self._started)) / self.period  # periods
        if left < _SNAP:
            self.stop()
            return np.zeros(6)
        return twist * min(1.0, left)
