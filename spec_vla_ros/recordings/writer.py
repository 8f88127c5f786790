"""The recording as an MCAP bag that ``ros2 bag``, Foxglove and rosbags read, and decoding of recorded messages."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from spec_vla_ros.installed import share_path
from spec_vla_ros.outputs import whole

from .recording import Recording


def new_typestore() -> Any:
    """ROS 2 Jazzy's messages and the project's own; a new one, to which types may be added."""
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(_own_types())
    return store


@functools.cache
def _own_types() -> dict[str, Any]:
    """Read once: every recording that is opened has a store of its own."""
    types: dict[str, Any] = {}
    for path in sorted(share_path("msg").glob("*.msg")):
        types |= get_types_from_msg(path.read_text(encoding="utf-8"), f"spec_vla_ros/msg/{path.stem}")
    return types


typestore = functools.cache(new_typestore)


def decode(recording: Recording, name: str) -> list[tuple[int, Any]]:
    """(ns received, message) of every recorded message of topic ``name``."""
    kind = next(topic.type for topic in recording.topics if topic.name == name)
    return [(ns, typestore().deserialize_cdr(raw, kind)) for _, ns, raw in recording.messages(name)]


@contextlib.contextmanager
def whole_bag(folder: Path, *, compressed: bool = False) -> Iterator[Any]:
    """A writer of an MCAP bag that takes the name ``folder``, in place of what has it, once it is complete."""
    with whole(folder, folder=True) as partial:
        writer = Writer(partial, version=9, storage_plugin=StoragePlugin.MCAP)
        if compressed:
            writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        with writer:
            yield writer


def write_bag(recording: Recording, folder: Path) -> int:
    """Write ``folder`` (replaced if it exists): MCAP, zstd chunks, the CDR exactly as received. Returns its bytes."""
    with whole_bag(folder, compressed=True) as writer:
        connections = {t.name: writer.add_connection(t.name, t.type, typestore=typestore()) for t in recording.topics}
        for name, received, raw in recording.messages():
            writer.write(connections[name], received, raw)
    return sum(path.stat().st_size for path in folder.iterdir())
