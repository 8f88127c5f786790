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
    ``period``. Remaining time is measured: where ticks were missed the sink went on moving, and the step ends on time
    instead of too far. And it is counted: where ticks followed each other too closely, as behind a late one, the sum is
    never more than the action. Between two steps without a pause the time alone counts, or a tick would be missing: the
    sum of all of them is never more than a period ahead.
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

    @property
    def started(self) -> float | None:
        """When the step under way began; None before its first tick, and where there is none."""
        return self._started

    def left(self, now: float) -> float:
        """Periods until the step under way ends: 0 where there is none or it should have ended before ``now``."""
        if self._step is None:
            return 0.0
        elapsed = 0.0 if self._started is None else now - self._started
        left = (self._step[1] - elapsed) / self.period
        return left if left >= _SNAP else 0.0

    def start(self, twist: np.ndarray, step_dt: float) -> None:
        """Stream ``twist`` (6,) for ``step_dt`` seconds from the next tick on. A step under way is replaced."""
        self.stop()
        self._step = (np.array(twist, dtype=np.float64), float(step_dt))

    def succeed(self, twist: np.ndarray, step_dt: float, now: float) -> None:
        """Let ``twist`` follow the step under way, whose last tick is due ``now``: that tick carries the rest of the
        one and the beginning of the other, each in the measure of its time, so that neither is cut or stretched.
        """
        rest = min(1.0, self.left(now))
        tail = np.zeros(6) if self._step is None else self._step[0] * rest
        self.start(twist, step_dt)
        self._started, self._tail = now + rest * self.period, tail

    def stop(self) -> None:
        """Forget the step: every following tick is zero."""
        self._step: tuple[np.ndarray, float] | None = None  # twist and s
        self._started: float | None = None  # its first tick
        self._tail = np.zeros(6)  # of the step before, to be said with the first tick
        self._said = 0.0  # periods of it so far

    def tick(self, now: float) -> np.ndarray:
        """(6,) twist to publish at ``now``; the first tick after :meth:`start` begins the step."""
        if self._step is None:
            return np.zeros(6)
        if self._started is None:
            self._started = now
        left = self.left(now)
        if not left:
            self.stop()
            return np.zeros(6)
        tail, self._tail = self._tail, np.zeros(6)
        # The part of this period that is the step's own: it may begin, and end, in the midst of it.
        share = self._share(min(1.0, left, 1.0 + (now - self._started) / self.period))
        self._said += share
        return tail + self._step[0] * share

    def _share(self, wanted: float) -> float:
        """``wanted`` periods of the step under way, or what has not been said of it."""
        share = min(wanted, self._step[1] / self.period - self._said)
        return share if share >= _SNAP else 0.0
