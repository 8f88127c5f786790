"""One file of a recording: what is in it, and its messages by log time, by its index or, where that is gone, without.

``rosbags`` reads SQLite and ``mcap`` MCAP while they are whole. A file that was not closed is read one message after
the other; so is an MCAP that was written without an index, which may well be complete.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from backports import zstd
from mcap.reader import SeekingReader
from mcap.records import Channel, Schema
from mcap.records import Message as McapMessage
from mcap.stream_reader import StreamReader
from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

from spec_vla_ros.lfs_pointer import lfs_pointer

from .cut_sqlite import log_of
from .cut_sqlite import rows as cut_rows
from .errors import BagError
from .layout import PACKED, storage_suffix

Row = tuple[str, str, int, bytes]  # topic, type ("" = not in CDR, never handed out), ns, CDR
CDR = "cdr"
HOLD, MOST = 2 * 10**9, 64 * 2**20  # ns and bytes of messages that wait for an earlier one where there is no index
_ZSTD = b"\x28\xb5\x2f\xfd"  # no message in CDR begins so: its first byte is zero


@dataclass
class Part:
    """``place``: where the libraries can open it. ``topics``: {name: type}; those in another serialization than CDR are
    in ``foreign`` with it. ``own``: messages per topic by its own index, or as many as there are. ``begin``, ``end``:
    ns, None where there is no message. ``why``: what is wrong with it. ``definitions``: (type, format, text).
    """

    file: Path
    place: Path
    topics: dict[str, str] = field(default_factory=dict)
    foreign: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    begin: int | None = None
    end: int | None = None
    why: str = ""
    log: bool = False  # its write-ahead log was needed
    definitions: dict[str, tuple[str, str]] = field(default_factory=dict)
    _read: Callable[[Collection[str]], Iterator[Row]] | None = None

    def rows(self, topics: Collection[str]) -> Iterator[Row]:
        """Messages of ``topics`` in CDR by log time; raises where the file is broken."""
        if self._read is None:
            return
        for topic, kind, log_ns, raw in self._read(topics):
            raw = zstd.decompress(raw) if raw[:4] == _ZSTD else raw  # rosbag2's compression of single messages
            yield topic, kind, log_ns, raw

    def is_empty(self) -> bool:
        """Whether it holds nothing."""
        return self.begin is None


def open_part(file: Path, folder: Callable[[], Path], number: int) -> Part:
    """``folder``: makes one for temporary files. Raises :class:`BagError` for what a user can mend."""
    part = Part(file, file)
    try:
        if pointer := lfs_pointer(file):
            raise BagError(pointer)
        if not file.stat().st_size:
            part.why = "is empty"
            return part
        if file.suffix == PACKED:
            part.place = folder() / f"{number}{storage_suffix(file)}"
            part.why = _unpack(file, part.place)
        elif storage_suffix(file) == ".db3" and any(letter in str(file) for letter in "#%?"):
            # The library puts the path into an address, where these mean something.
            part.place = folder() / f"{number}.db3"
            part.place.symlink_to(file.resolve())
    except OSError as error:
        part.why = f"cannot be read: {error.strerror or error}"
        return part
    _describe(part, _mcap if storage_suffix(file) == ".mcap" else _sqlite)
    return part


def _unpack(file: Path, place: Path) -> str:
    """Decompress; "" or why that ended early."""
    with file.open("rb") as stream, place.open("wb") as out:
        try:
            with zstd.open(stream, "rb") as packed:
                while block := packed.read(2**20):
                    try:
                        out.write(block)
                    except OSError as error:
                        raise BagError(
                            f"{file} cannot be decompressed into {place.parent} ({error.strerror}); TMPDIR names "
                            "another folder"
                        ) from error
        except (EOFError, zstd.ZstdError) as error:
            return f"its compressed data is broken: {error}"
    return ""


def _describe(part: Part, indexed: Callable[[Part], None]) -> None:
    try:
        indexed(part)
        return
    except Exception as error:  # noqa: BLE001 - a corrupt file fails in as many ways as there are libraries below
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    mcap = storage_suffix(part.file) == ".mcap"
    source = _scan_mcap if mcap else _scan_sqlite
    for found in (part.topics, part.foreign, part.counts, part.definitions):
        found.clear()
    begin, end = [], []
    try:
        for topic, _, log_ns, raw in source(part):
            part.counts[topic] += 1
            begin, end = [min([*begin, log_ns])], [max([*end, log_ns])]
            del raw
    except Exception as error:  # noqa: BLE001
        read = part.counts.total()
        how = f"{type(error).__name__}: {error}".splitlines()[0] if read else reason
        part.why = part.why or (
            f"is broken after {read} messages: {how}"
            if read
            else f"is cut off or damaged before its first message: {how}"
        )
    part.begin, part.end = (begin[0], end[0]) if begin else (None, None)

    def read(topics: Collection[str]) -> Iterator[Row]:
        return _in_order(row for row in source(part) if row[1] and row[0] in topics)

    part._read = read


def _in_order(rows: Iterator[Row]) -> Iterator[Row]:
    """By log time, as far as they are nearly so already."""
    heap: list[tuple[int, int, Row]] = []
    held = newest = number = 0
    try:
        for number, row in enumerate(rows):
            heapq.heappush(heap, (row[2], number, row))
            held, newest = held + len(row[3]), max(newest, row[2])
            while heap and (newest - heap[0][0] > HOLD or held > MOST):
                first = heapq.heappop(heap)[2]
                held -= len(first[3])
                yield first
    except Exception:
        yield from (heapq.heappop(heap)[2] for _ in range(len(heap)))
        raise
    yield from (heapq.heappop(heap)[2] for _ in range(len(heap)))


def full_name(kind: str) -> str:
    """As it is called today: rosbag2 wrote "sensor_msgs/Image" in 2019."""
    return kind.replace("/", "/msg/") if kind.count("/") == 1 else kind


def _add(part: Part, topic: str, kind: str, serialization: str) -> None:
    if serialization == CDR:
        part.topics.setdefault(topic, full_name(kind))
    else:
        part.foreign[topic] = f"{kind} ({serialization})"


# -- MCAP --------------------------------------------------------------------------------------------------------------


def _mcap(part: Part) -> None:
    with part.place.open("rb") as stream:
        summary = SeekingReader(stream).get_summary()
    statistics = summary.statistics if summary else None
    chunks = summary.chunk_indexes if summary else ()
    indexed = {channel for chunk in chunks for channel in chunk.message_index_offsets}
    if not statistics or indexed - summary.channels.keys() or (statistics.message_count and not indexed):
        raise ValueError("it has no index")
    for schema in summary.schemas.values():
        _schema(part, schema)
    for channel in summary.channels.values():
        schema = summary.schemas.get(channel.schema_id)
        _add(part, channel.topic, schema.name if schema else "", channel.message_encoding)
        part.counts[channel.topic] += statistics.channel_message_counts.get(channel.id, 0)
    if statistics.message_count:
        part.begin, part.end = statistics.message_start_time, statistics.message_end_time

    def read(topics: Collection[str]) -> Iterator[Row]:
        with part.place.open("rb") as stream:
            for schema, channel, message in SeekingReader(stream, validate_crcs=True).iter_messages(list(topics)):
                if channel.message_encoding == CDR and schema is not None:
                    yield channel.topic, full_name(schema.name), message.log_time, message.data

    part._read = read


def _scan_mcap(part: Part) -> Iterator[Row]:
    schemas: dict[int, str] = {}
    channels: dict[int, tuple[str, str]] = {}
    with part.place.open("rb") as stream:
        for record in StreamReader(stream, validate_crcs=True).records:
            if isinstance(record, Schema):
                schemas[record.id] = record.name
                _schema(part, record)
            elif isinstance(record, Channel):
                kind = schemas.get(record.schema_id, "")
                _add(part, record.topic, kind, record.message_encoding)
                channels[record.id] = (record.topic, full_name(kind) if record.message_encoding == CDR else "")
            elif isinstance(record, McapMessage):
                yield *channels[record.channel_id], record.log_time, record.data


def _schema(part: Part, schema: Schema) -> None:
    if schema.encoding in ("ros2msg", "ros2idl", "omgidl"):
        with suppress(UnicodeDecodeError):
            part.definitions[full_name(schema.name)] = (schema.encoding, schema.data.decode())


# -- SQLite ------------------------------------------------------------------------------------------------------------


def _sqlite(part: Part) -> None:
    if part.file.suffix != PACKED and log_of(part.file):
        part.log = True
        raise ValueError("it was not closed")  # the library reads no write-ahead log
    with ExitStack() as stack:
        reader = Sqlite3Reader(part.place)
        reader.open()
        stack.callback(reader.close)
        formats = {MessageDefinitionFormat.MSG: "ros2msg", MessageDefinitionFormat.IDL: "ros2idl"}
        for connection in reader.connections:
            _add(part, connection.topic, connection.msgtype, connection.ext.serialization_format)
            part.counts[connection.topic] += connection.msgcount
            if connection.msgdef.format in formats:
                text = connection.msgdef.data
                part.definitions[full_name(connection.msgtype)] = (formats[connection.msgdef.format], text)
        if reader.metadata.message_count:
            part.begin, part.end = reader.metadata.start_time, reader.metadata.end_time - 1

    def read(topics: Collection[str]) -> Iterator[Row]:
        with ExitStack() as stack:
            reader = Sqlite3Reader(part.place)
            reader.open()
            stack.callback(reader.close)
            chosen = [c for c in reader.connections if c.topic in topics and c.ext.serialization_format == CDR]
            for connection, log_ns, raw in reader.messages(chosen) if chosen else ():
                yield connection.topic, full_name(connection.msgtype), log_ns, raw

    part._read = read


def _scan_sqlite(part: Part) -> Iterator[Row]:
    place = part.file if part.log else part.place  # the log lies beside the file
    tables = "SELECT count(*) FROM sqlite_master WHERE name = 'message_definitions'"
    if next(cut_rows(place, tables))[0]:
        definitions = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
        for kind, encoding, text in cut_rows(place, definitions):
            part.definitions[full_name(kind)] = (encoding, text)
    rows = cut_rows(
        place,
        "SELECT id, name, type, serialization_format FROM topics",
        "SELECT topic_id, timestamp, data FROM messages ORDER BY id",
    )
    topics = {}
    for key, name, kind, serialization in next(rows):
        _add(part, name, kind, serialization)
        topics[key] = (name, full_name(kind) if serialization == CDR else "")
    for key, log_ns, raw in rows:
        yield *topics[key], log_ns, raw
