"""Where the frames come from that drafters learn on: recordings of any origin behind one small protocol. No ROS.

A source numbers its frames and says which episode each belongs to. It is read from the beginning whenever sharding
goes on after an interruption, and decodes only what is asked for, so that skipping what is done already is cheap.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data_formats import foreign_data, is_lerobot
from ..errors import ImageError, InstructionError
from ..file_digest import digest
from ..instruction import clean_instruction
from .frame_source import FrameSource, Shot, SourceError, SourceOptions

SIM = "sim"


def open_sources(text: str, options: SourceOptions, loaded: Any) -> tuple[list[FrameSource], list[str]]:
    """The sources that ``text`` names, several if it is a folder of recordings, and what is to be said of them.

    Recordings of such a folder that cannot be used are left out; one that says that another model was asked then is
    used, since labels are this model's. Raises :class:`SourceError`.
    """
    path = Path(text)
    inside = [] if text == SIM or is_lerobot(path) else _bags_in(path)
    if not inside:
        return [open_source(text, options, loaded)], []
    sources, notes = open_bags(inside, options)
    if not sources:
        raise SourceError(f"--data {text}: none of the recordings in it can be used: {'; '.join(notes)}")
    return sources, [*notes, *_others(path, sources, loaded)]


def open_bags(paths: Sequence[Path], options: SourceOptions) -> tuple[list[BagSource], list[str]]:
    """A source for each of the recordings that can be used, and why the others cannot."""
    sources, notes = [], []
    for path in paths:
        try:
            sources.append(BagSource(path, options))
        except SourceError as error:
            notes.append(f"left out: {error}")
    return sources, notes


def _bags_in(path: Path) -> list[Path]:
    try:
        from spec_vla_ros.recordings.episodes import bags_in
    except ImportError:  # which the source itself says better
        return []
    return bags_in(path)


def _others(path: Path, sources: Sequence[BagSource], loaded: Any) -> list[str]:
    """What differs from ``loaded`` in what recordings say of themselves."""
    from spec_vla_ros.openvla.fingerprint import fingerprint

    told = [source.told for source in sources if source.told is not None]
    now = {"model_digest": fingerprint(loaded)["digest"], "unnorm_key": loaded.statistics.key}
    lines = []
    for name, what in (("model_digest", "by another model"), ("unnorm_key", "with other statistics")):
        others = [value for one in told if (value := getattr(one, name)) and value != now[name]]
        if others:
            lines.append(
                f"{path}: {len(others)} of {len(sources)} recordings were driven {what} "
                f"({', '.join(sorted({*others}))}); their images are used, and labelled anew"
            )
    return lines


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
        hint = ""
        if len(path.parts) == 2 and not path.is_absolute():
            hint = (
                f"; a data set of the hub is fetched first: hf download --repo-type dataset {text} --local-dir FOLDER"
            )
        raise SourceError(
            f"--data {text}: there is no such recording (expected: sim, a rosbag2 or a LeRobot folder){hint}"
        )
    if is_lerobot(path):
        from .draft_lerobot import LeRobotSource

        return LeRobotSource(path, options)
    if foreign := foreign_data(path):
        raise SourceError(f"--data {text} holds {foreign}")
    return BagSource(path, options)


class BagSource:
    """A rosbag2 recording, of which the same frames are used as in a replay."""

    lanes = 0

    def __init__(self, path: Path, options: SourceOptions) -> None:
        """Raises :class:`SourceError`."""
        try:
            from spec_vla_ros.recordings.episodes import told_by
            from spec_vla_ros.recordings.frames import Frames
            from spec_vla_ros.recordings.reader import Bag, BagError, words
        except ImportError as error:
            raise SourceError(f"{path}: bags need pip install 'spec_vla_ros[bags,image]' ({error})") from error
        try:
            bag = Bag(path)
            topic = bag.instruction_topic(options.instruction_topic)
            said = (_clean(words(recorded)) for recorded in bag.messages([topic])) if topic else ()
            # Data may be mixed: what a recording says itself counts more than what is said about those that are silent.
            self.instructions = list(dict.fromkeys(text for text in said if text))
            self.told = told_by(bag)
            given = "" if self.instructions else options.instruction or (self.told.instruction if self.told else "")
            if not self.instructions and not given:
                raise bag.silent()
            self._choose = functools.partial(
                Frames, bag, bag.image_topic(options.image_topic), topic, given, options.period
            )
            self._frames = self._choose()
        except (BagError, InstructionError) as error:
            raise SourceError(str(error)) from error
        self.instructions = self.instructions or [self._frames.instruction]
        self.name, self.camera, self.notes = path.name, self._frames.image_topic, []
        by_time = int(bag.duration_ns * 1e-9 / options.period) + 1 if options.period else self._frames.images
        self.expected = min(self._frames.images, by_time)

    def identity(self) -> dict[str, Any]:
        """The files' contents, and what is read of them how."""
        frames = self._frames
        return {
            "kind": "bag", "name": self.name, "image_topic": frames.image_topic,
            "instruction_topic": frames.instruction_topic, "instruction": frames.instruction, "period": frames.period,
            "digest": digest(frames.bag.files),
        }  # fmt: skip

    def frames(self, wanted: Callable[[int], bool]) -> Iterator[Shot]:
        """See :class:`FrameSource`."""
        self.notes.clear()
        frames, episode, undecodable, why = self._choose(), -1, 0, ""
        for frame in frames:
            episode += frame.fresh
            if wanted(frame.index):
                try:
                    yield Shot(frame.index, episode, frame.rgb(), frame.instruction)
                except ImageError as error:
                    undecodable, why = undecodable + 1, str(error)
        for reason, count in (*frames.unreadable.items(), *(((why, undecodable),) if undecodable else ())):
            self.notes.append(f"{self.name}: {count} pictures were left out: {reason}")
        self.notes += [f"{self.name}: {remark}" for remark in frames.bag.remarks]
        if frames.bag.broken:
            self.notes.append(frames.bag.broken)

    def answered(self, values: np.ndarray, bins: np.ndarray) -> None:
        """A recording goes its own way."""


def _clean(text: str) -> str:
    """As the node cleans it; "" where nothing is left, which means hold."""
    try:
        return clean_instruction(text)
    except InstructionError:
        return ""
