"""Streams of actions from files: what a path is, and NumPy's archives. Tables of text: :mod:`.stream_tables`;
recordings and data sets: :mod:`.stream_recordings`.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from spec_vla_ros.data_formats import foreign_data, is_lerobot
from spec_vla_ros.lfs_pointer import lfs_pointer

from .stream_tables import JSON_LINES, TABLES, read_csv, read_json_lines
from .stream_tokens import ACTIONS, Recorded, StreamError, checked, kind_of, split

NAMES = ("tokens", "bins", "actions")  # of arrays, the first that is there
ONE_EPISODE = "one episode, as no lengths are given"
EXPECTED = "expected .npz, .csv, .jsonl, a recording of ros2 bag with DeltaActions or a LeRobot data set"


def read_stream(path: Path, action_topic: str = "") -> Recorded:
    """What ``path`` holds; ``action_topic``: of a recording with several.

    Raises :class:`.stream_tokens.StreamError` and :class:`..recordings.errors.BagError`.
    """
    if not path.exists():
        raise StreamError(f"there is no {path}")
    if path.is_file() and (pointer := lfs_pointer(path)):
        raise StreamError(pointer)
    if path.is_file() and not path.stat().st_size:
        raise StreamError(f"{path} is empty")
    if is_lerobot(path):
        from .stream_recordings import read_lerobot

        return read_lerobot(path)
    suffix = path.suffix.lower()
    if path.is_file() and suffix == ".npz":
        return read_npz(path)
    if path.is_file() and suffix in TABLES:
        return read_csv(path)
    if path.is_file() and suffix in JSON_LINES:
        return read_json_lines(path)
    if path.is_dir() or suffix in (".mcap", ".db3", ".zstd"):
        if foreign := foreign_data(path):
            raise StreamError(f"{path} holds {foreign}")
        from .stream_recordings import read_bag

        return read_bag(path, action_topic)
    if foreign := foreign_data(path):
        raise StreamError(f"{path} holds {foreign}")
    raise StreamError(f"{path} is nothing that is read here: {EXPECTED}")


def read_npz(path: Path) -> Recorded:
    """``tokens`` (N, A) ids or bins, ``bins`` (N, A) or ``actions`` (N, A); optional ``lengths`` of episodes and
    ``rate_hz``. Raises :class:`.stream_tokens.StreamError`.
    """
    if not zipfile.is_zipfile(path):
        raise StreamError(f"{path} is no archive of NumPy (numpy.savez): is it cut off?")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if name in (*NAMES, "lengths", "rate_hz")}
            names = archive.files
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise StreamError(f"{path} cannot be read: {error}") from error
    name = next((name for name in NAMES if name in arrays), "")
    if not name:
        raise StreamError(f"{path} holds {', '.join(names) or 'nothing'}; expected one of {', '.join(NAMES)}")
    values = checked(str(path), arrays[name], _row)
    notes = [f"{name} used, not {other}" for other in NAMES if other in arrays and other != name]
    if "lengths" in arrays:
        lengths = split(str(path), arrays["lengths"], len(values))
    else:
        lengths = [len(values)]
        notes.append(ONE_EPISODE)
    kind = ACTIONS if name == "actions" else kind_of(str(path), values, name, _row)
    return Recorded(str(path), kind, values, lengths, _rate(path, arrays.get("rate_hz")), notes, _row)


def _row(index: int) -> str:
    return f"row {index}"


def _rate(path: Path, given: Any) -> float | None:
    if given is None:
        return None
    if given.size != 1 or given.dtype.kind not in "iuf" or not 0 < float(given.reshape(())) < np.inf:
        raise StreamError(f"{path}: rate_hz is {given.tolist()!r}, expected one number above 0")
    return float(given.reshape(()))
