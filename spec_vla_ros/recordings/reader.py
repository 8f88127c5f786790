"""rosbag2 recordings, read from the beginning to the end or as far as they can be. No ROS.

MCAP and SQLite, a folder or a single file, compressed or not, types of any distribution: the definitions that the bag
carries count, and those of Jazzy where it carries none. Messages of all files are merged by log time, one at a time, so
a bag may have any size; compressed files are unpacked into a temporary folder (``TMPDIR``).

A recording that was cut off (power, a full disk) has no index any more. Its messages are then read one after the other
until the first that cannot be; :attr:`Bag.broken` says where that was, and what else is missing.
"""

from __future__ import annotations

import heapq
import shutil
import weakref
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore

from .errors import BagError
from .layout import METADATA, layout_of
from .parts import Part, Row, open_part
from .writer import new_typestore

IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
STRING = "std_msgs/msg/String"
ACTION = "spec_vla_ros/msg/DeltaAction"  # of the node, which carries the instruction that it was made for
INSTRUCTION = "/instruction"  # where the node listens, unless it is in a namespace or remapped


@dataclass(frozen=True)
class Recorded:
    """One message. ``log_ns``: when it was recorded. ``message``: with the fields of its type. ``after_loss``: what was
    recorded between this message and the one before is not known.
    """

    topic: str
    type: str
    log_ns: int
    message: Any
    after_loss: bool = False


def words(recorded: Recorded) -> str:
    """What a message of an instruction topic says, be it the operator's or an action of the node."""
    return recorded.message.instruction if recorded.type == ACTION else recorded.message.data


class Bag:
    """One recording. ``topics``: {name: type}; ``counts``: {name: messages that are there}. ``files``: of which it
    consists. ``start_ns``: log time of its first message, None if it holds none; ``duration_ns``: until its last.

    ``broken``: "" or, once the messages have been read, what is missing and why. ``remarks``: what else is odd.
    """

    def __init__(self, path: Path | str) -> None:
        """Raises :class:`BagError` if there is no such recording."""
        self.path = Path(path)
        self.broken = ""
        self._layout = layout_of(self.path)
        self.files = self._layout.files
        self._temporary: Path | None = None
        self._parts = [open_part(file, self._folder, number) for number, file in enumerate(self.files)]
        if self._layout.unknown:  # else as listed
            self._parts.sort(key=lambda part: (part.begin is None, part.begin))
            self.files = [part.file for part in self._parts]
        whys = [f"{part.file.name} {part.why}" for part in self._parts if part.why]
        self.topics: dict[str, str] = {}
        counts: Counter[str] = Counter()
        for part in self._parts:
            self.topics |= {**part.foreign, **part.topics, **self.topics}
            counts.update(part.counts)
        self.counts = dict(counts)
        if not self.topics:
            raise BagError(f"{self.path} cannot be read: {'; '.join(whys) or 'it is empty'}")
        begun = [part for part in self._parts if not part.is_empty()]
        self.start_ns = min((part.begin for part in begun), default=None)
        self.duration_ns = max((part.end for part in begun), default=0) - (self.start_ns or 0)
        self.remarks = self._odd()
        self._types = self._make_types()

    def image_topic(self, wanted: str = "") -> str:
        """The camera's topic: ``wanted``, or the only one there is. Raises :class:`BagError` that lists them."""
        found = [name for name, kind in sorted(self.topics.items()) if kind in IMAGES]
        if wanted in found:
            return wanted
        if not (wanted or found):
            raise BagError(f"{self.path} holds no images; its topics are {', '.join(sorted(self.topics))}")
        if wanted or len(found) != 1:
            text = f"{wanted} is no image topic" if wanted else "which topic is the camera? (--image-topic)"
            raise BagError(f"{self.path}: {text}; image topics: {', '.join(found) or 'none'}")
        return found[0]

    def instruction_topic(self, wanted: str = "") -> str:
        """Where the operator's words are: ``wanted``, or ``/instruction``, or the only topic whose last part that is,
        or the only one of actions, which say what they were made for; "" if there is none. Raises :class:`BagError`
        that lists what could be meant.
        """
        actions = [name for name, kind in sorted(self.topics.items()) if kind == ACTION and self.counts.get(name, 1)]
        if wanted and wanted not in (*self.texts, *actions):
            found = ", ".join((*self.texts, *actions)) or "none"
            raise BagError(f"{self.path}: {wanted} is no std_msgs/String or DeltaAction topic; there are: {found}")
        named = [name for name in self.texts if name.endswith(INSTRUCTION)]
        likely = [name for name in named if self.counts.get(name, 1)] or actions or named
        if wanted or INSTRUCTION in likely:
            return wanted or INSTRUCTION
        if len(likely) > 1:
            found = ", ".join(likely)
            raise BagError(f"{self.path}: which topic is the instruction? (--instruction-topic): {found}")
        return "".join(likely)

    def silent(self) -> BagError:
        """What to say of a recording in which nobody tells the arm what to do."""
        found = ", ".join(self.texts) or "none"
        return BagError(
            f"{self.path} says no instruction: name its topic (--instruction-topic; std_msgs/String topics here: "
            f"{found}) or give the text (--instruction)"
        )

    @property
    def texts(self) -> list[str]:
        """Its topics of std_msgs/String."""
        return [name for name, kind in sorted(self.topics.items()) if kind == STRING]

    def messages(self, topics: Collection[str] = (), whole: bool = False) -> Iterator[Recorded]:
        """Messages of ``topics`` (all whose types are known, if empty) by log time, as far as they can be read.

        ``whole``: the others are read too, though not given, so that ``broken`` is about all of them.
        """
        self.broken = ""
        known = self._types.fielddefs
        wanted = set(topics) or {topic for topic, kind in self.topics.items() if kind in known}
        reading = _Reading(self._parts, wanted | set(self.topics) if whole else wanted, self._losses())
        for (topic, kind, log_ns, raw), part in reading.rows():
            if topic not in wanted or kind not in known:
                continue
            try:
                message = self._types.deserialize_cdr(raw, kind)
            except Exception as error:  # noqa: BLE001 - a corrupt file fails in as many ways as there are types
                reading.fail(part, error, f" of {topic}")
                continue
            yield Recorded(topic, kind, log_ns, message, reading.loss())
        self.broken = self._missing(wanted, reading)

    def _losses(self) -> list[int]:
        """Log times after which files are missing, or hold nothing that could be read."""
        places = [before for _, before in self._layout.missing]
        if not self._layout.unknown:
            places += [number for number, part in enumerate(self._parts) if part.why and part.is_empty()]
        ends = [part.end or 0 for part in self._parts]
        return [max(ends[:before], default=0) for before in places]

    def _odd(self) -> list[str]:
        layout, found = self._layout, []
        for part in self._parts:
            if part.is_empty() and not part.why:
                found.append(f"{part.file.name} holds no message")
            if part.log:
                found.append(f"{part.file.name} was not closed; its write-ahead log was read as well")
        for file in layout.twice:
            found.append(f"{file.name} was left out, because the file that it was made of is there")
        return found

    def _missing(self, topics: set[str], reading: _Reading) -> str:
        """Why the recording is not whole, of ``topics``; "" if it is."""
        layout, told = self._layout, []
        if layout.unknown:
            told.append(f"no index of its files ({layout.unknown}), so that one that is missing would not be noticed")
        told += [f"{name} is missing, which {METADATA} lists" for name, _ in layout.missing]
        told += [f"{file.name} is not listed in {METADATA}; it was read too" for file in layout.extra]
        for part in self._parts:
            why = reading.failed.get(part.file) or part.why
            promised = layout.per_file.get(part.file.name, 0)
            if not why and part.counts.total() < promised:
                why = f"holds {part.counts.total()} of the {promised} messages that {METADATA} promises"
            elif (
                not why
                and (
                    short := sum(part.counts[topic] for topic in reading.topics & part.topics.keys())
                    - reading.of[part.file]
                )
                > 0
            ):
                why = f"lacks {short} of the messages that its index promises"
            if why:
                told.append(f"{part.file.name} {why}")
        promised = sum(layout.promised.get(topic, 0) for topic in reading.topics & self.topics.keys())
        if reading.read + reading.twice < promised:
            told.append(f"{METADATA} promises {promised} messages on these topics")
        elif layout.total is not None and sum(self.counts.values()) < layout.total:
            told.append(f"{METADATA} promises {layout.total} messages, {sum(self.counts.values())} are there")
        if reading.twice:
            told.append(f"{reading.twice} messages stand in two files and were used once")
        untold = [topic for topic in topics if self.topics.get(topic) not in self._types.fielddefs]
        if untold:
            told.append(f"nobody defines the types of {', '.join(sorted(untold))}")
        return f"{self.path}: {'; '.join(told)}; {reading.read} messages were read" if told else ""

    # -- files and types ---------------------------------------------------------------------------------------------

    def _folder(self) -> Path:
        """Where files are unpacked; gone with this object."""
        if self._temporary is None:
            self._temporary = Path(mkdtemp(prefix="spec_vla_bag_"))
            weakref.finalize(self, shutil.rmtree, self._temporary, ignore_errors=True)
        return self._temporary

    def _make_types(self) -> Any:
        defaults = new_typestore()
        types: dict[str, Any] = {}
        for kind, (form, text) in {k: v for part in self._parts for k, v in part.definitions.items()}.items():
            with suppress(Exception):  # then its messages cannot be read; others can
                types |= get_types_from_msg(text, kind) if form == "ros2msg" else _idl(text)
        if types:
            store = get_typestore(Stores.EMPTY)
            with suppress(TypesysError):
                store.register({**defaults.fielddefs, **types})
                return store
        return defaults


def _idl(text: str) -> dict[str, Any]:
    """Types of an IDL schema; rosbag2 joins the files that it needs, each under its name."""
    line = "=" * 80 + "\n"
    if not text.startswith(line + "IDL: "):
        return get_types_from_idl(text)
    types: dict[str, Any] = {}
    for one in text.split(line)[1:]:
        types |= get_types_from_idl(one.split("\n", 1)[1])
    return types


class _Reading:
    """One pass over all files, merged by log time; a file is opened when its first message is due."""

    def __init__(self, parts: list[Part], topics: set[str], losses: list[int]) -> None:
        self._parts, self.topics, self._losses = parts, topics, sorted(losses)
        self._lost = False
        self._ended: set[Path] = set()
        self.read = self.twice = 0
        self.of: Counter[Path] = Counter()
        self.failed: dict[Path, str] = {}

    def rows(self) -> Iterator[tuple[Row, Part]]:
        """Each with its file."""
        waiting = sorted((part for part in self._parts if not part.is_empty()), key=lambda part: part.begin)
        heap: list[tuple[int, int, Row, Iterator[Row]]] = []
        now: tuple[int, dict[tuple[str, bytes], int]] = (-1, {})  # what several files say of this ns, and which one
        started: list[Part] = []
        while waiting or heap:
            while waiting and (not heap or waiting[0].begin <= heap[0][0]):
                started.append(waiting.pop(0))
                self._push(heap, started[-1], len(started) - 1, started[-1].rows(self.topics))
            if not heap:
                continue
            log_ns, number, row, rest = heapq.heappop(heap)
            part = started[number]
            if part.file in self._ended:
                continue
            while self._losses and log_ns > self._losses[0]:
                self._losses.pop(0)
                self._lost = True
            if now[0] != log_ns:
                now = (log_ns, {})
            self.of[part.file] += 1
            shared = now[1] or (heap and heap[0][0] == log_ns)
            if shared and now[1].setdefault((row[0], row[3]), number) != number:
                self.twice += 1
            else:
                self.read += 1
                yield row, part
            self._push(heap, part, number, rest)

    def _push(self, heap: list[Any], part: Part, number: int, rows: Iterator[Row]) -> None:
        try:
            row = next(rows, None)
        except Exception as error:  # noqa: BLE001 - a corrupt file fails in as many ways as there are libraries below
            self.fail(part, error)
            return
        if row is not None:
            heapq.heappush(heap, (row[2], number, row, rows))

    def fail(self, part: Part, error: Exception, where: str = "") -> None:
        """``part`` ends here."""
        if where:  # it was counted as read
            self.read, self.of[part.file] = self.read - 1, self.of[part.file] - 1
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        self.failed[part.file] = f"is broken after {self.of[part.file]} messages{where}: {text}"
        self._ended.add(part.file)
        self._lost = True

    def loss(self) -> bool:
        """Whether something was lost since the last time that this was asked."""
        lost, self._lost = self._lost, False
        return lost
