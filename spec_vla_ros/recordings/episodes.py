"""Recorded episodes: what a bag says of itself, and a folder of such bags as one recording. No ROS.

A folder that holds no recording itself but folders that are some is read as their sequence, by name. What cannot be
read is left out by name, never silently.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from spec_vla_ros.data_formats import is_lerobot
from spec_vla_ros.episode_record import ENDED, TYPE, Outcome
from spec_vla_ros.foreign_text import sentence

from .errors import BagError
from .frames import Commands, Frames, ReplayFrame, action_topics
from .layout import METADATA, storage_suffix
from .reader import Bag

MOST = 20_000  # folders in one


@dataclass(frozen=True)
class Told:
    """What the record in a bag says; see msg/EpisodeRecord.msg. ``outcome``: its name, "UNKNOWN" where the end was not
    recorded. ``missing``: of its actions, which the bag lacks. ``about``: the rest of it.
    """

    name: str
    instruction: str
    outcome: str
    succeeded: bool
    fault: str
    message: str
    from_start: bool
    actions: int
    elapsed: float
    unnorm_key: str
    model_digest: str
    missing: int = 0
    about: dict[str, Any] = field(default_factory=dict, repr=False)


def told_by(bag: Bag) -> Told | None:
    """What the record in ``bag`` says, None if it holds none. The first one that begins is its own: one bag may still
    be written while the next episode begins.
    """
    topics = [name for name, kind in bag.topics.items() if kind == TYPE]
    if not topics:
        return None
    begun = ended = None
    for recorded in bag.messages(topics):
        message = recorded.message
        if message.phase != ENDED:
            begun = begun or message
        elif begun is not None and message.name == begun.name:
            ended = message
    last = ended or begun
    if last is None:
        return None
    try:
        about = json.loads(last.about)
    except ValueError:
        about = {}
    return Told(
        last.name, last.instruction, Outcome.named(int(last.outcome)), bool(last.succeeded), last.fault, last.message,
        bool(last.from_start), int(last.actions), float(last.elapsed), last.unnorm_key, last.model_digest,
        max(0, int(last.actions) - sum(bag.counts.get(topic, 0) for topic in action_topics(bag))),
        about if isinstance(about, dict) else {},
    )  # fmt: skip


def bags_in(path: Path) -> list[Path]:
    """Folders in ``path`` that are meant as recordings, by name; empty where it is one itself, or something else."""
    try:
        if not path.is_dir() or is_lerobot(path) or _is_bag(path):
            return []
        inside = [one for one in sorted(path.iterdir())[:MOST] if one.is_dir() and not one.name.startswith(".")]
        return [one for one in inside if _is_bag(one)]
    except OSError:
        return []


def _is_bag(path: Path) -> bool:
    try:
        return (path / METADATA).exists() or any(storage_suffix(file) for file in path.iterdir())
    except OSError:
        return False


@dataclass
class Bags:
    """Several recordings as one, with the attributes of :class:`.reader.Bag` that are of a whole one."""

    path: Path
    bags: list[Bag]
    left_out: list[str]

    @property
    def files(self) -> list[Path]:
        """Of all."""
        return [file for bag in self.bags for file in bag.files]

    @property
    def remarks(self) -> list[str]:
        """Of all, and what was left out."""
        found = [f"{bag.path.name}: {remark}" for bag in self.bags for remark in bag.remarks]
        return [*(f"left out: {line}" for line in self.left_out), *found]

    @property
    def broken(self) -> str:
        """Of all, once they have been read."""
        return "; ".join(bag.broken for bag in self.bags if bag.broken)


@dataclass(frozen=True)
class Reading:
    """How recordings are read; as in :class:`.frames.Frames`, empty = by what each of them holds."""

    image_topic: str = ""
    instruction_topic: str = ""
    instruction: str = ""
    period: float = 0.2
    command_topic: str = ""


class Episodes:
    """The frames of one recording after the other, with the attributes of :class:`.frames.Frames`.

    ``told``: {name of the recording's folder: what its record says}, of those that have one.
    """

    def __init__(self, bag: Bags, reading: Reading) -> None:
        """Recordings that have nothing to say to the model are left out. Raises :class:`BagError` if all are."""
        self.bag, self._reading, self.used = bag, reading, 0
        self._commands, self._spans = Commands(), {}
        self.told: dict[str, Told] = {}
        self.parts: list[Frames] = []
        for one in list(bag.bags):
            try:
                told = told_by(one)
                self.parts.append(frames_of(one, reading, told, self._commands))
            except BagError as error:
                bag.left_out.append(sentence(error))
                bag.bags.remove(one)
                continue
            if told is not None:
                self.told[one.path.name] = told
        if not self.parts:
            raise BagError(f"{bag.path}: none of the recordings in it can be used: {'; '.join(bag.left_out)}")
        self.period, self.instruction = reading.period, reading.instruction
        self.image_topic, self.instruction_topic = (
            ", ".join(dict.fromkeys(getattr(part, name) for part in self.parts))
            for name in ("image_topic", "instruction_topic")
        )

    def again(self) -> Episodes:
        """The same frames once more, from the first."""
        return Episodes(Bags(self.bag.path, list(self.bag.bags), []), self._reading)

    def __iter__(self) -> Iterator[ReplayFrame]:
        """The frames in order; each recording begins an episode."""
        for part in self.parts:
            name = part.bag.path.name
            for frame in part:
                first, last = self._spans.get(name, (frame.stamp_ns, frame.stamp_ns))
                self._spans[name] = min(first, frame.stamp_ns), max(last, frame.stamp_ns)
                yield replace(frame, index=self.used, episode=name)
                self.used += 1

    def first_instruction(self) -> str:
        """Of the first recording that says any."""
        return next(filter(None, (part.first_instruction() for part in self.parts)), "")

    @property
    def overlapping(self) -> bool:
        """Whether images of two recordings have the same times, once they have been read: those of a simulation do."""
        spans = sorted(self._spans.values())
        return any(before[1] >= after[0] for before, after in itertools.pairwise(spans))

    @property
    def commands(self) -> Commands:
        """What the recordings say of the arm's motion; nothing where times do not tell whose that is."""
        if not self.overlapping:
            return self._commands
        return Commands(not_commanded=self._commands.not_commanded)

    @property
    def images(self) -> int:
        """Of all, as far as the recordings know."""
        return sum(part.images for part in self.parts)

    @property
    def between(self) -> int:
        """See :class:`.frames.Frames`."""
        return sum(part.between for part in self.parts)

    @property
    def without_instruction(self) -> int:
        """See :class:`.frames.Frames`."""
        return sum(part.without_instruction for part in self.parts)

    @property
    def unreadable(self) -> dict[str, int]:
        """See :class:`.frames.Frames`."""
        found: dict[str, int] = {}
        for part in self.parts:
            for reason, count in part.unreadable.items():
                found[reason] = found.get(reason, 0) + count
        return found

    @property
    def refused(self) -> list[str]:
        """See :class:`.frames.Frames`."""
        return list(dict.fromkeys(reason for part in self.parts for reason in part.refused))


def frames_of(bag: Bag, reading: Reading, told: Told | None, commands: Commands | None = None) -> Frames:
    """The frames of one recording. Where no message of it says the instruction, its record does.

    Raises :class:`BagError`.
    """
    topic, instruction = reading.instruction_topic, reading.instruction
    if not instruction:
        topic = bag.instruction_topic(topic)
        spoken = topic and bag.counts.get(topic, 1)
        instruction = told.instruction if told is not None and not spoken else ""
    found = action_topics(bag)
    command = reading.command_topic or (found[0] if len(found) == 1 else "")
    image = bag.image_topic(reading.image_topic)
    return Frames(bag, image, topic, instruction, reading.period, command, commands=commands or Commands())


def open_bags(path: Path) -> Bags | None:
    """The recordings in the folder ``path``, None if it is no folder of recordings."""
    inside = bags_in(Path(path))
    if not inside:
        return None
    bags, left_out = [], []
    for one in inside:
        try:
            bags.append(Bag(one))
        except BagError as error:
            left_out.append(sentence(error))
    if not bags:
        raise BagError(f"{path}: none of the recordings in it can be read: {'; '.join(left_out)}")
    return Bags(Path(path), bags, left_out)
