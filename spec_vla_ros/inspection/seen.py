"""What of a recording or a data set the rest of an inspection needs to know, whatever it was read with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .camera import Camera

SAID_EVERY = 2.0  # s between two lines of progress
SHOWN = 10  # of a list, for people


@dataclass(frozen=True)
class Sight:
    """What the others need to know of a camera that is no topic. ``usable``: pictures that were looked at and decoded;
    ``sizes``: of these, (width, height) in px; ``interval``: between two of all, s.
    """

    topic: str
    usable: int
    sizes: set[tuple[int, int]]
    interval: float
    intervals: int = 1

    @property
    def rate(self) -> float:
        """Pictures per second while they come."""
        return 1 / self.interval


@dataclass
class Recording:
    """What of a recording, or of a data set, the others need to know."""

    path: str
    camera: Camera | Sight | None = None
    instructions: list[str] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)  # the first DeltaActions with motion
    commands: str = ""  # the topic of the actions that a replay compares with, or their key
    values: np.ndarray | None = None  # (N, A) actions of a data set, in its own units
