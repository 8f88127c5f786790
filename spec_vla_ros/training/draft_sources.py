"""Where the frames come from that drafters learn on: recordings of any origin behind one small protocol. No ROS.

A source numbers its frames and says which episode each belongs to. It is read from the beginning whenever sharding
goes on after an interruption, and decodes only what is asked for, so that skipping what is done already is cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import ImageError, InstructionError
from ..file_digest import digest
from ..node.conversions import rgb_from_compressed, rgb_from_image, stamp_seconds
from ..node.instruction import clean_instruction

SIM = "sim"
INSTRUCTION = "instruction"  # last part of the topic's name, where it is not named
EARLY = 0.1  # of a period; by so much a frame may come before its time and still be the next one
LONGEST_GAP = (1.0, 3.0)  # s, periods: after the longer of the two a new episode starts


class SourceError(Exception):
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
    """``name``: for people. ``instructions``: all that occur. ``expected``: frames, about. ``notes``: what was left
    out, one line each, once it has been read. ``lanes``: frames that are taken before the answers to them are handed
    back; 0 = the source does not wait for answers.
    """

    name: str
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


def open_source(text: str, options: SourceOptions, loaded: Any) -> FrameSource:
    """The source that ``text`` names: "sim", a LeRobot folder or a rosbag2 recording. Raises :class:`SourceError`."""
    if text == SIM:
        try:
            from .draft_sim import SimSource
        except ImportError as error:
            raise SourceError(f"--data sim needs MuJoCo: pip install 'spec_vla_ros[sim]' ({error})") from error
        return SimSource(loaded, options.frames, options.shard_frames, options.seed)
    path = Path(text)
    if not path.exists():
        raise SourceError(f"--data {text}: there is no such recording (expected: sim, a rosbag2 or a LeRobot folder)")
    if (path / "meta" / "info.json").is_file():
        from .draft_lerobot import LeRobotSource

        return LeRobotSource(path, options)
    return BagSource(path, options)


class BagSource:
    """A rosbag2 recording. A change of the instruction, a gap and a stamp that goes back start a new episode; frames
    without an instruction are left out.
    """

    lanes = 0

    def __init__(self, path: Path, options: SourceOptions) -> None:
        """Raises :class:`SourceError`."""
        try:
            from ..replay.bag import Bag, BagError
        except ImportError as error:
            raise SourceError(f"{path}: bags need rosbags: pip install 'spec_vla_ros[embedded]' ({error})") from error
        try:
            self._bag = Bag(path)
            self._images = self._bag.image_topic(options.image_topic)
        except BagError as error:
            raise SourceError(str(error)) from error
        self.name, self.notes = path.name, []
        self._period = options.period
        self._gap = max(LONGEST_GAP[0], LONGEST_GAP[1] * options.period)
        self._given = _clean(options.instruction)
        self._texts = self._instruction_topic(options.instruction_topic)
        said = (_clean(m.message.data) for m in self._bag.messages([self._texts])) if self._texts else ()
        self.instructions = _unique([self._given, *said])
        if not self.instructions:
            strings = [name for name, kind in sorted(self._bag.topics.items()) if kind == "std_msgs/msg/String"]
            raise SourceError(
                f"{path} says no instruction: name its topic (--instruction-topic; std_msgs/String topics here: "
                f"{', '.join(strings) or 'none'}) or give the text (--instruction)"
            )
        count = self._bag.counts.get(self._images, 0)
        by_time = int(self._bag.duration_ns * 1e-9 / self._period) + 1 if self._period else count
        self.expected = min(count, by_time)

    def identity(self) -> dict[str, Any]:
        """The files' contents, and what is read of them how."""
        return {
            "kind": "bag", "name": self.name, "image_topic": self._images, "instruction_topic": self._texts,
            "instruction": self._given, "period": self._period, "digest": digest(self._bag.files),
        }  # fmt: skip

    def frames(self, wanted: Callable[[int], bool]) -> Iterator[Shot]:
        """See :class:`FrameSource`."""
        self.notes.clear()
        number, episode, undecodable, why = -1, -1, 0, ""
        instruction, fresh = self._given, True
        before = taken = 0.0
        for recorded in self._bag.messages([topic for topic in (self._images, self._texts) if topic]):
            message = recorded.message
            if recorded.topic == self._texts:
                text = _clean(message.data)
                fresh, instruction = fresh or text != instruction, text
                continue
            # The camera's clock where it has one: it counts when the picture was taken, not when it was written.
            now = stamp_seconds(message.header.stamp) or recorded.log_ns * 1e-9
            fresh = fresh or not 0 <= now - before <= self._gap
            before = now
            if not instruction or (not fresh and now - taken < (1 - EARLY) * self._period):
                continue
            number, episode, taken, fresh = number + 1, episode + fresh, now, False
            if wanted(number):
                convert = rgb_from_image if recorded.type == "sensor_msgs/msg/Image" else rgb_from_compressed
                try:
                    yield Shot(number, episode, convert(message), instruction)
                except ImageError as error:
                    undecodable, why = undecodable + 1, str(error)
        if undecodable:
            self.notes.append(f"{self.name}: {undecodable} pictures were left out: {why}")
        if self._bag.broken:
            self.notes.append(self._bag.broken)

    def answered(self, values: np.ndarray, bins: np.ndarray) -> None:
        """A recording goes its own way."""

    def _instruction_topic(self, wanted: str) -> str:
        strings = [name for name, kind in sorted(self._bag.topics.items()) if kind == "std_msgs/msg/String"]
        if wanted:
            if wanted not in strings:
                raise SourceError(
                    f"{self._bag.path}: {wanted} is no std_msgs/String topic; there are: {', '.join(strings) or 'none'}"
                )
            return wanted
        likely = [name for name in strings if name.rsplit("/", 1)[-1] == INSTRUCTION]
        if len(likely) > 1:
            raise SourceError(
                f"{self._bag.path}: which topic is the instruction? (--instruction-topic): {', '.join(likely)}"
            )
        return likely[0] if likely else ""


def _clean(text: str) -> str:
    """As the node cleans it; "" where nothing is left, which means hold."""
    try:
        return clean_instruction(text)
    except InstructionError:
        return ""


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(text for text in texts if text))
