"""rosbag2 recordings, read from the beginning to the end or to where they are broken. No ROS.

MCAP and SQLite, a folder or a single file, types of any distribution: the definitions that the bag carries count, and
those of Jazzy where it carries none. One message is in memory at a time, so a bag may have any size.

A recording that was cut off (power, a full disk) has no index any more. Its messages are then read one after the other
until the first that cannot be; :attr:`Bag.broken` says where that was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcap.records import Channel, Schema
from mcap.records import Message as McapMessage
from mcap.stream_reader import StreamReader
from rosbags.highlevel import AnyReader
from rosbags.interfaces import TopicInfo
from rosbags.typesys import TypesysError, get_types_from_msg

from spec_vla_ros.demo.bag import new_typestore

from .cut_sqlite import rows as cut_rows
from .errors import BagError

SUFFIXES = (".mcap", ".db3")
IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
STRING = "std_msgs/msg/String"
INSTRUCTION = "/instruction"  # where the node listens, unless it is in a namespace or remapped


@dataclass(frozen=True)
class Recorded:
    """One message. ``log_ns``: when it was recorded. ``message``: with the fields of its type."""

    topic: str
    type: str
    log_ns: int
    message: Any


class Bag:
    """One recording. ``topics``: {name: type}; ``counts``: {name: messages}, empty where there is no index.

    ``broken``: "" or, once the messages have been read, where and why reading ended early.
    """

    def __init__(self, path: Path | str) -> None:
        """Raises :class:`BagError` if there is no such recording."""
        self.path = Path(path)
        self.broken = ""
        self.counts: dict[str, int] = {}
        self.duration_ns = 0
        if not self.path.exists():
            raise BagError(f"there is no {self.path}")
        self.files = [self.path] if self.path.is_file() else sorted(
            file for file in self.path.iterdir() if file.suffix in SUFFIXES
        )  # fmt: skip
        if not self.files or any(file.suffix not in SUFFIXES for file in self.files):
            raise BagError(
                f"{self.path} is no recording: expected a folder of ros2 bag, or a file {' or '.join(SUFFIXES)}"
            )
        self._defaults = new_typestore()
        self._why_no_index = ""
        self.topics = self._index()

    def image_topic(self, wanted: str = "") -> str:
        """The camera's topic: ``wanted``, or the only one there is. Raises :class:`BagError` that lists them."""
        found = [name for name, kind in sorted(self.topics.items()) if kind in IMAGES]
        if wanted in found:
            return wanted
        if wanted or len(found) != 1:
            text = f"{wanted} is no image topic" if wanted else "which topic is the camera? (--image-topic)"
            raise BagError(f"{self.path}: {text}; image topics: {', '.join(found) or 'none'}")
        return found[0]

    def instruction_topic(self, wanted: str = "") -> str:
        """Where the operator's words are: ``wanted``, or ``/instruction``, or the only topic whose last part that is;
        "" if there is none. Raises :class:`BagError` that lists what could be meant.
        """
        if wanted and wanted not in self.texts:
            found = ", ".join(self.texts) or "none"
            raise BagError(f"{self.path}: {wanted} is no std_msgs/String topic; there are: {found}")
        likely = [name for name in self.texts if name.endswith(INSTRUCTION)]
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

    def messages(self, topics: Collection[str] = ()) -> Iterator[Recorded]:
        """Messages of ``topics`` (all, if empty) in the order of their recording, as far as they can be read."""
        self.broken, read = "", 0
        reader = self._salvaged if self._why_no_index else self._indexed
        try:
            for recorded in reader(topics):
                read += 1
                yield recorded
        except Exception as error:  # noqa: BLE001 - a corrupt file fails in as many ways as there are libraries below
            self.broken = f"{self.path} is broken after {read} messages: {type(error).__name__}: {error}"
            return
        if self._why_no_index:
            self.broken = self.broken or f"{self.path} has no index ({self._why_no_index}); {read} messages were read"

    # -- intact ------------------------------------------------------------------------------------------------------

    def _index(self) -> dict[str, str]:
        try:
            with AnyReader([self.path], default_typestore=self._defaults) as reader:
                self.duration_ns = max(0, reader.duration)
                found: dict[str, TopicInfo] = dict(reader.topics)
                self.counts = {name: info.msgcount for name, info in found.items()}
                return {name: info.msgtype or "" for name, info in found.items()}
        except Exception as error:  # noqa: BLE001 - see messages()
            self._why_no_index = f"{type(error).__name__}: {error}".splitlines()[0]
        topics, counts, times = {}, Counter(), []
        with suppress(Exception):  # it is told when the messages are read
            for topic, kind, log_ns, _ in self._raw():
                topics[topic] = kind
                counts[topic] += 1
                times = [min([*times, log_ns]), max([*times, log_ns])]
        if not topics:
            raise BagError(f"{self.path} cannot be read: {self._why_no_index}")
        self.counts = dict(counts)
        self.duration_ns = max(times) - min(times)
        return topics

    def _indexed(self, topics: Collection[str]) -> Iterator[Recorded]:
        with AnyReader([self.path], default_typestore=self._defaults) as reader:
            connections = [c for c in reader.connections if not topics or c.topic in topics]
            if not connections:
                return
            for connection, log_ns, raw in reader.messages(connections):
                message = reader.deserialize(raw, connection.msgtype)
                yield Recorded(connection.topic, connection.msgtype, log_ns, message)

    # -- broken ------------------------------------------------------------------------------------------------------

    def _salvaged(self, topics: Collection[str]) -> Iterator[Recorded]:
        for topic, kind, log_ns, raw in self._raw():
            if not topics or topic in topics:
                yield Recorded(topic, kind, log_ns, self._defaults.deserialize_cdr(raw, kind))

    def _raw(self) -> Iterator[tuple[str, str, int, bytes]]:
        """(topic, type, ns, CDR) of all files, without any index."""
        for file in self.files:
            yield from (self._raw_mcap(file) if file.suffix == ".mcap" else self._raw_sqlite(file))

    def _raw_mcap(self, file: Path) -> Iterator[tuple[str, str, int, bytes]]:
        schemas: dict[int, str] = {}
        channels: dict[int, tuple[str, str]] = {}
        with file.open("rb") as stream:
            for record in StreamReader(stream).records:
                if isinstance(record, Schema):
                    schemas[record.id] = record.name
                    if record.encoding == "ros2msg":
                        self._learn(record.data.decode(), record.name)
                elif isinstance(record, Channel):
                    channels[record.id] = (record.topic, schemas[record.schema_id])
                elif isinstance(record, McapMessage):
                    topic, kind = channels[record.channel_id]
                    yield topic, kind, record.log_time, record.data

    def _raw_sqlite(self, file: Path) -> Iterator[tuple[str, str, int, bytes]]:
        tables = "SELECT count(*) FROM sqlite_master WHERE name = 'message_definitions'"
        if next(cut_rows(file, tables))[0]:
            definitions = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
            for kind, encoding, text in cut_rows(file, definitions):
                if encoding == "ros2msg":
                    self._learn(text, kind)
        rows = cut_rows(
            file,
            "SELECT id, name, type FROM topics",
            "SELECT topic_id, timestamp, data FROM messages ORDER BY id",
        )
        topics = {key: (name, kind) for key, name, kind in next(rows)}
        for key, log_ns, raw in rows:
            yield *topics[key], log_ns, raw

    def _learn(self, text: str, name: str) -> None:
        """Take the bag's own definition of a type that is not known."""
        try:
            types = get_types_from_msg(text, name)
            self._defaults.register({k: v for k, v in types.items() if k not in self._defaults.fielddefs})
        except TypesysError:
            return  # then its messages cannot be read; others can
