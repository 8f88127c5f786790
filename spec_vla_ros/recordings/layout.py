"""Which files a recording consists of, and what its metadata.yaml promises. Without the libraries that read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import yaml

from spec_vla_ros.data_formats import foreign_data, is_lerobot

from .errors import BagError

SUFFIXES = (".mcap", ".db3")
PACKED = ".zstd"  # rosbag2's compression of whole files
METADATA = "metadata.yaml"


def storage_suffix(file: PurePath) -> str:
    """The kind, ".mcap" or ".db3", of a file of a recording, compressed or not; "" for any other."""
    suffix = PurePath(file.stem).suffix if file.suffix == PACKED else file.suffix
    return suffix if suffix in SUFFIXES else ""


@dataclass
class Layout:
    """``files``: those of metadata.yaml in its order, then the others by name. ``promised``: messages per topic,
    ``per_file``: per file name, as far as metadata.yaml says. ``missing``: (name, how many of ``files`` come before).
    ``unknown``: why metadata.yaml could not be used, "" if it could or a single file was named.
    """

    files: list[Path]
    extra: list[Path] = field(default_factory=list)
    missing: list[tuple[str, int]] = field(default_factory=list)
    twice: list[Path] = field(default_factory=list)  # compressed files whose originals are still there
    promised: dict[str, int] = field(default_factory=dict)
    total: int | None = None
    per_file: dict[str, int] = field(default_factory=dict)
    unknown: str = ""


def layout_of(path: Path) -> Layout:
    """Of a folder of ``ros2 bag`` or a single file. Raises :class:`BagError` if it is neither."""
    try:
        if not path.exists():
            raise BagError(f"there is no {path}")
        found = [path] if path.is_file() else sorted(path.iterdir())
    except OSError as error:
        raise BagError(f"{path} cannot be read: {error.strerror}") from error
    found = [file for file in found if storage_suffix(file) and not file.is_dir()]
    if path.is_file() and found:
        return Layout(found)
    twice = [file for file in found if file.suffix == PACKED and file.with_suffix("") in found]
    here = {file.name: file for file in found if file not in twice}
    about, why = _metadata(path / METADATA) if path.is_dir() else ({}, "")
    if not found:
        if is_lerobot(path):
            raise BagError(
                f"{path} is a LeRobot data set: spec-vla train-draft and spec-vla inspect read it, a replay needs a "
                "recording of ros2 bag"
            )
        if foreign := foreign_data(path):
            raise BagError(f"{path} holds {foreign}")
        listed = ", ".join(_names(about))
        what = f"none of the files that {METADATA} lists is there: {listed}" if listed else "expected a folder of " \
            f"ros2 bag, or a file {' or '.join(SUFFIXES)} ({PACKED})"  # fmt: skip
        raise BagError(f"{path} is no recording: {what}")
    layout = Layout([], twice=twice, unknown=why)
    for name in _names(about):
        file = here.get(name) or here.get(name.removesuffix(PACKED)) or here.get(name + PACKED)
        if file is None:
            layout.missing.append((name, len(layout.files)))
        elif file not in layout.files:
            layout.files.append(file)
    rest = [file for file in here.values() if file not in layout.files]
    layout.extra = [] if why else rest
    layout.files += rest
    if not why:
        layout.total = _whole(about.get("message_count"))
        layout.promised, layout.per_file = _promises(about)
    return layout


def _metadata(file: Path) -> tuple[dict[str, Any], str]:
    """What metadata.yaml says, or why that is not known."""
    try:
        about = yaml.safe_load(file.read_text(encoding="utf-8"))["rosbag2_bagfile_information"]
        if not _names(about):
            return {}, f"{METADATA} lists no files"
    except FileNotFoundError:
        return {}, f"there is no {METADATA}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        return {}, f"{METADATA} cannot be read: {type(error).__name__}"
    return about, ""


def _names(about: Mapping[str, Any]) -> list[str]:
    """Names of the listed files; older versions put the recording's folder in front, which may have been renamed."""
    return [PurePath(str(name)).name for name in about.get("relative_file_paths") or []]


def _promises(about: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    topics: dict[str, int] = {}
    files: dict[str, int] = {}
    try:
        for entry in about.get("topics_with_message_count") or []:
            name, count = entry["topic_metadata"]["name"], _whole(entry["message_count"])
            topics[name] = topics.get(name, 0) + (count or 0)
        for entry in about.get("files") or []:
            files[PurePath(entry["path"]).name] = _whole(entry["message_count"]) or 0
    except (KeyError, TypeError, AttributeError):
        pass  # edited by hand; what was understood counts
    return topics, files


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
