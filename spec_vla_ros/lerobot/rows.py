"""The rows of a LeRobot data set: a row is one frame, and says of which episode, which of its frames, which task, when.

These numbers are read of all rows at once, some 16 bytes each, so that what is wrong with them is known before anything
is made of the pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pyarrow import ArrowException
from pyarrow import compute as columns_of
from pyarrow import types as arrow_types
from pyarrow.parquet import ParquetFile

from .meta import DataSet, LeRobotError

WALL_CLOCK = 1e6  # s; a timestamp beyond does not count from the beginning of an episode
OTHER_RATE = 0.05  # of the stated rate; a median that differs by less is the same one
ENOUGH_ACTIONS = 200_000  # rows whose actions are looked at, about
_LISTS = (arrow_types.is_list, arrow_types.is_large_list, arrow_types.is_fixed_size_list)


@dataclass(frozen=True)
class Rows:
    """``files`` in their order and ``counts``, how many rows each has. For the N rows in this order: ``episode``,
    ``frame`` (its number within the episode) and ``task``, each (N,) int32. ``interval``: the median time between two
    rows of an episode, s; pauses between episodes would move a mean. ``absent``: listed episodes without a row.
    """

    files: list[Path]
    counts: list[int]
    episode: np.ndarray
    frame: np.ndarray
    task: np.ndarray
    interval: float
    absent: list[int]

    def __len__(self) -> int:
        """N."""
        return len(self.episode)

    @property
    def rate(self) -> float:
        """Rows per second while they come."""
        return 1 / self.interval

    def differs(self, fps: float) -> bool:
        """Whether they come at another rate than ``fps``, if that says anything."""
        return fps > 0 and abs(self.rate / fps - 1) > OTHER_RATE


def read_rows(data: DataSet, columns: Sequence[str] = ()) -> Rows:
    """``columns``: others that every file has to have. Raises :class:`LeRobotError` for what could not be used."""
    of_file: dict[Path, list[int]] = {}
    for episode in sorted(data.episodes):
        of_file.setdefault(data.data_file(episode), []).append(episode)
    parts = [_read_file(data, path, episodes, columns) for path, episodes in of_file.items()]
    episode, task = (np.concatenate([part[name] for part in parts]) for name in ("episode", "task"))
    if not len(episode):
        raise LeRobotError(f"{data.path}: no data file holds a row")
    seconds, frame = (_joined(part[name] for part in parts) for name in ("time", "frame"))
    interval = _interval(data, episode, seconds)
    if frame is None:
        timed = seconds is not None and seconds.max() < WALL_CLOCK
        frame = np.round(seconds / interval).astype(np.int32) if timed else _count(episode)
    absent = sorted(set(data.episodes) - set(np.unique(episode).tolist()))
    return Rows(list(of_file), [len(part["episode"]) for part in parts], episode, frame, task, interval, absent)


def _joined(parts: Iterable[np.ndarray | None]) -> np.ndarray | None:
    """All of them, None where one is."""
    found = list(parts)
    return None if any(part is None for part in found) else np.concatenate(found)


def read_actions(data: DataSet, rows: Rows, key: str, enough: int = ENOUGH_ACTIONS) -> np.ndarray:
    """(M, A) float64, of all rows or, where there are far more, of evenly chosen files with about ``enough``. Raises
    :class:`LeRobotError`.
    """
    step = max(1, round(len(rows) / enough))
    found = []
    for path in [path for path, count in zip(rows.files, rows.counts, strict=True) if count][::step]:
        column = _columns(path, [key], [key])[key]
        sizes = columns_of.list_value_length(column).unique() if any(kind(column.type) for kind in _LISTS) else [0]
        try:
            if len(sizes) > 1:
                raise ValueError
            found.append(_flat(column).astype(np.float64).reshape(len(column), -1))
        except (ValueError, TypeError):
            raise LeRobotError(f"{path}: the cells of {key} are not equally many numbers") from None
    try:
        return np.concatenate(found)
    except ValueError:
        raise LeRobotError(f"{data.path}: {key} has different sizes in different files") from None


def require_columns(path: Path, file: ParquetFile, names: Sequence[str]) -> None:
    """Raises :class:`LeRobotError`."""
    if missing := [name for name in names if name not in file.schema_arrow.names]:
        raise LeRobotError(f"{path} has no column {', '.join(missing)}, which info.json lists")


def _read_file(data: DataSet, path: Path, episodes: list[int], columns: Sequence[str]) -> dict[str, Any]:
    """Of one file: "episode" and "task" (N,); "frame" (N,) and "time" (N,) s, None where the rows do not say it."""
    found = _columns(path, ["episode_index", "frame_index", "task_index", "timestamp"], columns)
    numbers = {n: _numbers(path, n, column, np.int32) for n, column in found.items() if n != "timestamp"}
    count = len(next(iter(found.values()))) if found else 0
    if "episode_index" not in numbers:
        if len(episodes) > 1 or not found:
            raise LeRobotError(f"{path} has no column episode_index: of which episode a row is, is not known")
        numbers["episode_index"] = np.full(count, episodes[0], np.int32)
    if "task_index" not in numbers:
        if len(data.tasks) > 1:
            raise LeRobotError(f"{path} has no column task_index: which of {len(data.tasks)} tasks, is not known")
        numbers["task_index"] = np.full(count, next(iter(data.tasks), 0), np.int32)
    if strange := sorted(set(np.unique(numbers["episode_index"]).tolist()) - set(episodes)):
        raise LeRobotError(
            f"{path} has rows of episode {strange[0]}, which meta/ "
            + ("says to be elsewhere" if strange[0] in data.episodes else "does not list")
        )
    if data.tasks and (strange := sorted(set(np.unique(numbers["task_index"]).tolist()) - set(data.tasks))):
        row = int(np.argmax(numbers["task_index"] == strange[0]))
        episode = int(numbers["episode_index"][row])
        raise LeRobotError(f"{data.path}: episode {episode} is about task {strange[0]}, which meta/ does not list")
    seconds = _numbers(path, "timestamp", found["timestamp"], np.float64) if "timestamp" in found else None
    return {
        "episode": numbers["episode_index"], "task": numbers["task_index"],
        "frame": numbers.get("frame_index"), "time": seconds,
    }  # fmt: skip


def _interval(data: DataSet, episode: np.ndarray, seconds: np.ndarray | None) -> float:
    if seconds is not None:
        steps = np.diff(seconds)[np.diff(episode) == 0]
        if len(steps := steps[steps > 0]):
            return float(np.median(steps))
    if data.fps > 0:
        return 1 / data.fps
    raise LeRobotError(f"{data.path}: neither timestamps nor fps in meta/info.json say how fast its frames come")


def _count(episode: np.ndarray) -> np.ndarray:
    """0, 1, 2, ... anew wherever ``episode`` changes."""
    places = np.arange(len(episode), dtype=np.int32)
    begins = np.flatnonzero(np.diff(episode, prepend=episode[0] - 1))
    return places - np.repeat(begins, np.diff(begins, append=len(episode))).astype(np.int32)


def _columns(path: Path, names: Sequence[str], required: Sequence[str]) -> dict[str, Any]:
    """Those of ``names`` that ``path`` has."""
    try:
        with ParquetFile(path) as file:
            require_columns(path, file, required)
            there = [name for name in names if name in file.schema_arrow.names]
            table = file.read(columns=there)
        return {name: table.column(name) for name in there}
    except (OSError, KeyError, ArrowException) as error:
        raise LeRobotError(f"{path} cannot be read: {error}") from error


def _numbers(path: Path, name: str, column: Any, dtype: Any) -> np.ndarray:
    """One per row."""
    if column.null_count:
        raise LeRobotError(f"{path}: {column.null_count} rows have no {name}")
    try:
        found = _flat(column).astype(np.float64)
    except (ValueError, TypeError) as error:
        raise LeRobotError(f"{path}: {name} is no number: {error}") from error
    if len(found) != len(column) or not np.isfinite(found).all():
        raise LeRobotError(f"{path}: {name} is not one number in every row")
    return found.astype(dtype)


def _flat(column: Any) -> np.ndarray:
    """Numbers of a column; a feature of shape [1] may be stored as lists."""
    while any(kind(column.type) for kind in _LISTS):
        column = columns_of.list_flatten(column)
    return column.to_numpy()
