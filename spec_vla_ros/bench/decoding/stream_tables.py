"""Streams of actions from text: CSV, and lines of JSON."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spec_vla_ros.foreign_text import shortened

from .stream_tokens import Recorded, StreamError, kind_of, table

TABLES, JSON_LINES = (".csv", ".tsv"), (".jsonl", ".ndjson")
EPISODE = ("episode", "episode_index", "episode_id")
TIME = ("timestamp", "time", "seconds", "t")  # s
COUNTED = ("", "step", "frame", "frame_index", "index", "task_index", "row")  # columns that are no part of an action
_NAMED = re.compile(r"(token|bin|action)s?(?![a-z])")  # a column that says what it is: "tokens", "action_x", "bin0"
SLOWEST, FASTEST = 0.05, 2000.0  # Hz; beyond, times are not in seconds


def read_csv(path: Path) -> Recorded:
    """Rows of numbers, with or without a line of names. Of named columns those are taken that are called tokens, bins
    or actions, else all but episode, time and counters. Raises :class:`.stream_tokens.StreamError`.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            reader = csv.reader(stream, delimiter=max(",\t;", key=first.count))
            lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StreamError(f"{path} cannot be read: {error}") from error
    if not lines:
        raise StreamError(f"{path} is empty")
    names = [cell.strip().lower() for cell in lines[0][1]]
    if _are_names(path, names):
        lines = lines[1:]
        columns, said = _columns(path, names)
        notes = [f"columns {', '.join(names[column] for column in columns)}"]
        width = len(names)
        for line, cells in lines:
            if len(cells) != width:
                raise StreamError(
                    f"{path}: line {line} has {len(cells)} cells, the line of names has {width}: is the file cut off?"
                )
    else:
        columns, said, notes = list(range(len(names))), "", ["no line of names: every column is part of the action"]
        names = ["-"] * len(names)
    numbers = [line for line, _ in lines]
    rows = [
        [_cell(path, line, cell) for cell in (cells if names[0] == "-" else [cells[column] for column in columns])]
        for line, cells in lines
    ]
    episode, time = (next((names.index(name) for name in known if name in names), None) for known in (EPISODE, TIME))
    episodes = None if episode is None else [cells[episode].strip() for _, cells in lines]
    times = None if time is None else [_cell(path, line, cells[time]) for line, cells in lines]
    return _recorded(path, rows, numbers, said, episodes, times, notes)


def read_json_lines(path: Path) -> Recorded:
    """One action per line: a list of numbers, or an object with "tokens", "bins", "action" or "actions"; or one episode
    per line, where that is a list of lists. "episode" and "timestamp" (s) of an object count.
    Raises :class:`.stream_tokens.StreamError`.
    """
    rows: list[Sequence[float]] = []
    numbers, episodes, times, keys = [], [], [], set()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StreamError(f"{path} cannot be read: {error}") from error
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            entry = json.loads(text)
        except ValueError as error:
            cut = " (is the file cut off?)" if number == len(lines) else ""
            raise StreamError(f"{path}: line {number} is no JSON: {error}{cut}") from error
        about, key = (entry, _key(path, number, entry)) if isinstance(entry, dict) else ({}, "")
        found = entry[key] if key else entry
        keys.add(key.rstrip("s"))
        many = isinstance(found, list) and bool(found) and isinstance(found[0], list)
        for row in found if many else [found]:
            rows.append(_row(path, number, row))
            numbers.append(number)
            given = next((about[name] for name in EPISODE if name in about), None)
            episodes.append(f"line {number}" if many else given)
            times.append(None if many else next((about[name] for name in TIME if name in about), None))
    if len(keys) > 1:
        names = " and ".join(sorted(key or "bare lists" for key in keys))
        raise StreamError(f"{path} mixes {names}: name all of them alike")
    said = {"token": "tokens", "bin": "bins", "action": "actions"}.get("".join(keys), "")
    notes = [f'"{said}" of each line' if said else "each line is a list"]
    timed = all(isinstance(time, int | float) and not isinstance(time, bool) for time in times)
    named = any(episode is not None for episode in episodes)
    return _recorded(path, rows, numbers, said, episodes if named else None, times if timed else None, notes)


def _recorded(
    path: Path,
    rows: list[Sequence[float]],
    numbers: list[int],
    said: str,
    episodes: list[Any] | None,
    times: list[float] | None,
    notes: list[str],
) -> Recorded:
    """``numbers``: line of each row. ``episodes``: what tells them apart, consecutive rows of equal ones are one."""

    def place(row: int) -> str:
        return f"line {numbers[row]}"

    values = table(str(path), rows, place)
    kind = kind_of(str(path), values, said, place)
    if episodes is None:
        starts = [0]
        notes.append("one episode, as no column or field says otherwise")
    else:
        starts = [row for row in range(len(rows)) if row == 0 or episodes[row] != episodes[row - 1]]
    lengths = np.diff([*starts, len(rows)]).tolist()
    rate = None
    if times is not None:
        steps = np.delete(np.diff(times), np.array(starts[1:], dtype=int) - 1)
        steps = steps[steps > 0]
        rate = 1 / float(np.median(steps)) if len(steps) else None
        if rate is not None and not SLOWEST <= rate <= FASTEST:
            notes.append(f"its times are no seconds ({rate:.3g} actions in each) and were ignored")
            rate = None
    return Recorded(str(path), kind, values, lengths, rate, notes, place)


def _are_names(path: Path, cells: list[str]) -> bool:
    """Whether the first line names columns, which may be by their numbers, as pandas does."""
    counted = cells[1:] if cells[0] == "" else cells
    if len(counted) > 1 and counted == [str(column) for column in range(len(counted))]:
        return True
    numbers = [_number(cell) is not None for cell in cells]
    if any(numbers) and not all(numbers):
        wrong = cells[numbers.index(False)]
        raise StreamError(f"{path}: line 1 has names and numbers: {shortened(wrong)} among {sum(numbers)} numbers")
    return not all(numbers)


def _columns(path: Path, names: list[str]) -> tuple[list[int], str]:
    """Columns of the action, and what they are called."""
    kinds = {column: found[1] for column, name in enumerate(names) if (found := _NAMED.match(name))}
    if len(set(kinds.values())) > 1:
        raise StreamError(
            f"{path} has columns of {' and '.join(sorted(set(kinds.values())))}: leave only one kind in, of "
            f"{', '.join(names[column] for column in kinds)}"
        )
    if kinds:
        return list(kinds), f"{next(iter(kinds.values()))}s"
    rest = [column for column, name in enumerate(names) if name not in (*EPISODE, *TIME, *COUNTED)]
    if not rest:
        raise StreamError(f"{path} has the columns {', '.join(names)}, none of which can be a part of an action")
    return rest, ""


def _key(path: Path, line: int, entry: dict[str, Any]) -> str:
    key = next((key for key in ("tokens", "bins", "actions", "action") if key in entry), "")
    if not key:
        raise StreamError(
            f"{path}: line {line} has {shortened(', '.join(map(str, entry)))}, expected tokens, bins, action or actions"
        )
    return key


def _row(path: Path, line: int, found: Any) -> Sequence[float]:
    if not isinstance(found, list) or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in found):
        raise StreamError(f"{path}: line {line} has {shortened(found)}, expected a list of numbers")
    return found


def _cell(path: Path, line: int, text: str) -> float:
    value = _number(text.strip())
    if value is None:
        raise StreamError(f"{path}: line {line} has {shortened(text)}, expected a number")
    return value


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
