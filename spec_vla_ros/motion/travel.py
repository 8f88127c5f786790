"""Where the arm was told to go, and when: what it travels between the capture of an image and the next step."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from .rotation import composed, lengths, remainder

REMEMBERED = 256  # steps, 5 s of the shortest; and reports of what is held back, 2.5 s of those at every tick


@dataclass(frozen=True)
class Leg:
    """A constant ``twist`` (6,), m/s and rad/s in base axes, from ``begin`` to ``end``, s on the steady clock."""

    begin: float
    end: float
    twist: np.ndarray


class Travel:
    """Commanded motion, as far as it was sent."""

    def __init__(self) -> None:
        self._legs: deque[Leg] = deque(maxlen=REMEMBERED)
        self._held: deque[tuple[float, np.ndarray]] = deque(maxlen=REMEMBERED)

    def begin(self, at: float, twist: np.ndarray, seconds: float) -> None:
        """A step has begun ``at``; unless :meth:`end` says otherwise it lasts ``seconds``."""
        self.end(at)
        self._legs.append(Leg(at, at + seconds, np.array(twist, dtype=np.float64)))

    def hold_back(self, at: float, total: np.ndarray) -> None:
        """Until ``at`` limits and the workspace box have held back ``total`` (6,), m and rad, of all steps."""
        if not self._held or not np.array_equal(self._held[-1][1], total):
            self._held.append((at, total))

    def end(self, at: float) -> None:
        """Nothing moves from ``at`` on."""
        if self._legs and self._legs[-1].end > at:
            self._legs[-1] = replace(self._legs[-1], end=max(at, self._legs[-1].begin))

    def between(self, since: float, until: float) -> np.ndarray:
        """(6,) displacement, m and rotation vector in rad: of the pose at ``until`` against that at ``since``."""
        motion = np.zeros(6)
        for leg, seconds in self._parts(since, until):
            motion = composed(motion, leg.twist * seconds)
        return remainder(motion, self._held_until(until) - self._held_until(since))

    def length(self, since: float, until: float) -> np.ndarray:
        """(2,) m and rad of the way between the two moments, whatever its direction."""
        ways = [lengths(leg.twist) * seconds for leg, seconds in self._parts(since, until)]
        held = lengths(self._held_until(until) - self._held_until(since))
        return np.maximum(np.sum(ways, axis=0) - held, 0.0) if ways else np.zeros(2)

    def _held_until(self, at: float) -> np.ndarray:
        """As last heard by then; what was held back later than anybody said counts as travelled."""
        earliest = self._held[0][1] if self._held else np.zeros(6)
        return next((total for when, total in reversed(self._held) if when <= at), earliest)

    def _parts(self, since: float, until: float) -> list[tuple[Leg, float]]:
        spans = [(leg, min(leg.end, until) - max(leg.begin, since)) for leg in self._legs]
        return [(leg, seconds) for leg, seconds in spans if seconds > 0]
