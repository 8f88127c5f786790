"""Habits on disk, so that the next start begins with what the model said before: a JSON file, bounded and versioned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spec_vla_ros.foreign_text import shortened
from spec_vla_ros.openvla.fingerprint import fingerprint
from spec_vla_ros.openvla.loader import LoadedModel
from spec_vla_ros.outputs import write_text

from .drafters.habits import CAPACITY, LOOK_BACK, Habits

FORMAT, VERSION = "habits of spec_vla_ros", 1
LARGEST = 2_000_000  # bytes; a full file of nine dimensions has a third of that
REFUSED = ".refused"  # behind the name of a file that was in the way


class HabitsError(ValueError):
    """A file holds no habits, or those of another model; the message says which."""


def about(loaded: LoadedModel, step_dt: float) -> dict[str, Any]:
    """What makes actions comparable: the model's files, its statistics, and how long (s) one action takes."""
    made = fingerprint(loaded)
    return {
        "model": made["digest"],
        "base": made.get("base", ""),
        "unnorm_key": loaded.statistics.key,
        "action_dim": loaded.statistics.action_dim,
        "bins": loaded.tokens.bins,
        "step_dt": step_dt,
    }


def load(path: Path, about: Mapping[str, Any]) -> Habits:
    """Those of exactly ``about``; empty ones where there is no file. Raises :class:`HabitsError`."""
    try:
        if not path.exists():
            return Habits(about["action_dim"], about["bins"])
        if not path.is_file() or path.stat().st_size > LARGEST:
            raise HabitsError(f"{path} holds no habits: it is no file of at most {LARGEST} bytes")
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, RecursionError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise HabitsError(f"{path} cannot be read: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise HabitsError(f"{path} holds no habits of a model")
    if data.get("version") != VERSION:
        raise HabitsError(f"{path} has version {shortened(data.get('version'))}, expected {VERSION}")
    theirs = data.get("about")
    if theirs != dict(about):
        theirs = theirs if isinstance(theirs, dict) else {}
        other = [f"{name} {shortened(theirs.get(name))}, expected {about[name]!r}" for name in about]
        other = [words for name, words in zip(about, other, strict=True) if theirs.get(name) != about[name]]
        raise HabitsError(f"{path} holds habits of another model or robot: {'; '.join(other) or 'more is said of it'}")
    return Habits.of(_moments(path, data.get("moments"), about), about["bins"])


def save(path: Path, about: Mapping[str, Any], habits: Habits) -> None:
    """Whole or not at all; a file that :func:`load` refuses keeps its content under the name with ``REFUSED``.

    Raises ``OSError`` and :class:`..outputs.OutputError`.
    """
    try:
        load(path, about)
    except HabitsError:
        path.replace(path.with_name(path.name + REFUSED))
    moments = [moment.tolist() for moment in habits.moments]
    data = {"format": FORMAT, "version": VERSION, "about": dict(about), "moments": moments}
    write_text(path, json.dumps(data, separators=(",", ":")) + "\n")


def _moments(path: Path, given: Any, about: Mapping[str, Any]) -> np.ndarray:
    """(N, LOOK_BACK + 1, A) int16, checked."""
    shape = (LOOK_BACK + 1, about["action_dim"])
    if given == []:
        return np.zeros((0, *shape), dtype=np.int16)
    try:
        moments = np.array(given)
    except (ValueError, OverflowError) as error:
        raise HabitsError(f"{path} is damaged: {error}") from error
    if moments.dtype.kind != "i" or moments.ndim != 3 or moments.shape[1:] != shape or len(moments) > CAPACITY:
        raise HabitsError(
            f"{path} is damaged: its moments are {moments.dtype} of shape {moments.shape}, expected up to {CAPACITY} "
            f"times {shape} whole numbers"
        )
    if moments.min() < 0 or moments.max() >= about["bins"]:
        raise HabitsError(f"{path} is damaged: a bin lies outside 0..{about['bins'] - 1}")
    return moments.astype(np.int16)
