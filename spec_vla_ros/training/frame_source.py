"""What a source of frames for draft heads is: recordings, data sets and the simulator are read through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from spec_vla_ros.errors import CommandError


class SourceError(CommandError):
    """The data cannot be used; the message says what would have to be different."""


@dataclass(frozen=True)
class Shot:
    """One frame. ``number``: counts from 0 within the source, gaps where a picture could not be decoded.
    ``episode``: within the source. ``image``: (H, W, 3) uint8 RGB.
    """

    number: int
    episode: int
    image: np.ndarray
    instruction: str


class FrameSource(Protocol):
    """``name``: for people. ``camera``: of which pictures, "" where there is no choice. ``instructions``: all that
    occur. ``expected``: frames, about. ``notes``: what was left out, one line each, once it has been read. ``lanes``:
    frames that are taken before the answers to them are handed back; 0 = the source does not wait for answers.
    """

    name: str
    camera: str
    instructions: Sequence[str]
    expected: int
    notes: list[str]
    lanes: int

    def identity(self) -> dict[str, Any]:
        """What makes two runs read the same frames, as JSON."""

    def frames(self, wanted: Callable[[int], bool]) -> Iterator[Shot]:
        """Frames in their order, from the first on; of the numbers that are not ``wanted`` none need be given."""

    def answered(self, values: np.ndarray, bins: np.ndarray) -> None:
        """The verifier's actions for the frames since the last call, (N, A): in m and rad, and as bins."""


@dataclass(frozen=True)
class SourceOptions:
    """``period``: s between two frames, 0 = all of them. ``instruction``: for recordings that hold none. ``camera``:
    key of a LeRobot data set, ``image_topic``, ``instruction_topic`` of a bag; "" = the only one there is. ``frames``,
    ``shard_frames``, ``seed``: of the simulator.
    """

    period: float
    instruction: str = ""
    camera: str = ""
    image_topic: str = ""
    instruction_topic: str = ""
    frames: int = 0
    shard_frames: int = 0
    seed: int = 0
