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
        self._twist = np.zeros(6)
        self._step_dt = 0.0
        self._started: float | None = None
        self._live = False

    @property
    def live(self) -> bool:
        """Whether a step is waiting for its first tick or under way. False from the tick that returned zero on."""
        return self._live

    def start(self, twist: np.ndarray, step_dt: float) -> None:
        """Stream ``twist`` (6,) for ``step_dt`` seconds from the next tick on. A step under way is replaced."""
        self._twist = np.array(twist, dtype=np.float64)
        self._step_dt = float(step_dt)
        self._started = None
        self._live = True

    def stop(self) -> None:
        """Forget the step: every following tick is zero."""
        self._live = False

    def tick(self, now: float) -> np.ndarray:
        """(6,) twist to publish at ``now``; the first tick after :meth:`start` begins the step."""
        if not self._live:
            return np.zeros(6)
        if self._started is None:
            self._started = now
        left = (self._step_dt - (now - self._started)) / self.period  # periods
        if left < _SNAP:
            self._live = False
            return np.zeros(6)
        return self._twist * min(1.0, left)
