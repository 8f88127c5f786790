"""When to look, so that the next step is ready when this one ends; and what the wait between steps amounts to.

Times are seconds on the steady clock.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from .rotation import lengths, remainder

PACINGS = ("blocking", "steady")
COMPENSATIONS = ("none", "subtract", "catch_up")
HORIZON = 0.2  # s that an action speaks of at least: a shorter step is a part of a motion that goes on
SHORTEST = 0.02  # s of a step
LONGEST = 2.0  # of its period, that a step is stretched to while its successor is awaited
ANSWERS = 200  # that the estimate looks back on
STEPS = 100  # that lateness and standstill look back on
SHARE, FEW = 0.99, 20


class Lead:
    """How long before the end of a step its successor must be asked for."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=ANSWERS)

    def add(self, seconds: float) -> None:
        """An answer took so long, from the request until its step was decided."""
        self._seconds.append(seconds)

    @property
    def seconds(self) -> float:
        """99 of 100 answers took no longer; infinite before the first, which must not be waited for. Of the first 100
        the slowest is left out as well, once there are some: a single one must not slow down all that follow.
        """
        if not self._seconds:
            return math.inf
        ordered = sorted(self._seconds)
        place = math.ceil(SHARE * len(ordered)) - 1
        return ordered[place if len(ordered) < FEW else min(place, len(ordered) - 2)]


class Waits:
    """How long the arm stood still between two steps of one motion."""

    def __init__(self) -> None:
        self._waits: deque[tuple[float, float]] = deque(maxlen=STEPS)  # s of waiting, and of the step before it
        self._step: tuple[float, float] | None = None  # begin and end of the newest

    def begin(self, at: float, seconds: float) -> float | None:
        """A step of ``seconds`` has begun ``at``; s that its predecessor had been over, None if it is the first."""
        late = None
        if self._step is not None:
            begin, end = self._step
            late = max(0.0, at - end)
            self._waits.append((late, end - begin))
        self._step = (at, at + seconds)
        return late

    def end(self, at: float) -> None:
        """It ended ``at``, which may be before its time."""
        if self._step is not None:
            self._step = (self._step[0], max(self._step[0], at))

    def pause(self) -> None:
        """The next step begins another motion: the wait for it is nobody's fault."""
        self._step = None

    @property
    def late(self) -> tuple[float, float] | None:
        """Median and p99 of the waits, s; None before the second step."""
        if not self._waits:
            return None
        waits = [wait for wait, _ in self._waits]
        return float(np.median(waits)), float(np.percentile(waits, 100 * SHARE))

    @property
    def standstill(self) -> float | None:
        """Share of the time in which the arm stood still, 0..1."""
        waited, moved = (sum(column) for column in zip(*self._waits, strict=True)) if self._waits else (0.0, 0.0)
        return waited / (waited + moved) if moved else None


def compensated(
    motion: np.ndarray, unseen: np.ndarray, compensation: str, step_dt: float, gone: float, lead: float
) -> tuple[np.ndarray, float]:
    """(6,) displacement that shall be carried out, and in how many s: ``motion`` as it was said of an image, for
    ``step_dt`` s, where the step begins ``gone`` s after the capture, and the arm is told to travel ``unseen`` (6,) in
    that time. Displacements in m and rotation vectors in rad, base axes. ``lead``: s that the next answer takes.

    ``none``: the motion as it was said. ``subtract``: what is left of it, in the time of a whole step: the arm comes to
    where the model wanted it, but later. ``catch_up``: what is left of it in the time that is left, which is no less
    than the next answer takes, so that the arm need not wait for it. Translation and rotation each go as far as the
    model's own speed carries them in that time; what is more than that, because the arm would have to go back or
    another way, is left to the next action, which has seen where the arm is.

    A step shorter than :data:`HORIZON` is taken as the first part of a motion that goes on for so long: what the arm
    has travelled is taken off the whole, and carried out is the part of one step. An image is often older than such a
    step, whose own motion would then always be over before it begins. Catching up never goes further than ``motion``.
    """
    if compensation == "none":
        return motion, step_dt
    whole = max(step_dt, HORIZON)
    full = motion * (whole / step_dt)
    left = remainder(full, unseen)
    if compensation == "subtract":
        return left * (step_dt / whole), step_dt
    rest = min(max(whole - gone, lead, SHORTEST), max(whole, min(lead, LONGEST * whole)))
    left = _shortened(left, lengths(full) * rest / whole)
    seconds = min(rest, max(step_dt, min(lead, LONGEST * step_dt)))
    return _shortened(left * (seconds / rest), lengths(motion)), seconds


def _shortened(motion: np.ndarray, longest: np.ndarray) -> np.ndarray:
    """(6,) m and rad, translation and rotation each no longer than ``longest`` (2,)."""
    shares = [
        float(most / length) if length > most else 1.0 for most, length in zip(longest, lengths(motion), strict=True)
    ]
    return motion * np.repeat(shares, 3)
