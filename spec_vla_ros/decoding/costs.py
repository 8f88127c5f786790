"""What a pass and a draft take on this device, by which the automatic tree is chosen.

On a GPU the rows of a draft are all but free up to the next tile, because a pass waits for the weights; on a CPU each
costs as much as a row of the prompt. So it is measured, once per model, device, precision and software, and kept.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from spec_vla_ros.foreign_text import shortened
from spec_vla_ros.outputs import OutputError, write_text

from .tree import TREE_ROWS

ROWS = (0, 6, 16, 32, TREE_ROWS)  # drafted rows of the passes that are timed where every pass has its own size
LONGEST = 600.0  # s; no pass takes longer
LARGEST = 1 << 20  # bytes of a file; a table has less than a thousandth of that


@dataclass(frozen=True)
class PassCosts:
    """Seconds of one model on one device.

    ``rows``: drafted rows, ascending from 0, of the passes that were timed; ``first``: with a prompt in front of them,
    ``later``: with one settled token. ``steps``: passes are filled up to the next of these sizes; otherwise what lies
    between two of them is in proportion. ``drafting``: by drafter, of asking it for one branch and for all.

    Raises ``ValueError`` for what cannot be such figures.
    """

    rows: tuple[int, ...]
    first: tuple[float, ...]
    later: tuple[float, ...]
    steps: bool = False
    drafting: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check every value: a table may come from a file."""
        sizes = list(self.rows)
        if not sizes or sizes[0] != 0 or sizes != sorted(set(sizes)) or sizes[-1] < TREE_ROWS:
            raise ValueError(f"passes are timed at ascending rows from 0 to {TREE_ROWS}, got {sizes}")
        if len(self.first) != len(sizes) or len(self.later) != len(sizes):
            raise ValueError("one time per size is needed")
        for value in (*self.first, *self.later):
            if not 0 < value <= LONGEST:  # NaN among them
                raise ValueError(f"{value} s is no time of a pass")
        for value in (second for both in self.drafting.values() for second in both):
            if not 0 <= value <= LONGEST:
                raise ValueError(f"{value} s is no time of a draft")

    @classmethod
    def free(cls) -> PassCosts:
        """Every pass takes the same and drafting nothing: the tree with the fewest passes, as on a large GPU."""
        return cls((0, TREE_ROWS), (1.0, 1.0), (1.0, 1.0))

    @cached_property
    def first_by_rows(self) -> tuple[float, ...]:
        """Of the pass over the prompt, by drafted rows 0 .. :data:`TREE_ROWS`."""
        return self._by_rows(self.first)

    @cached_property
    def later_by_rows(self) -> tuple[float, ...]:
        """Of a later pass, by drafted rows 0 .. :data:`TREE_ROWS`."""
        return self._by_rows(self.later)

    def ask(self, drafter: str, share: float) -> float:
        """Of asking ``drafter`` for ``share`` (0..1) of the branches that it can give."""
        one, all_ = self.drafting.get(drafter, (0.0, 0.0))
        return one + (max(all_, one) - one) * share

    def to_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> PassCosts:
        """The reverse; raises ``ValueError`` for anything else."""
        try:
            drafting = {name: (one, all_) for name, (one, all_) in data["drafting"].items()}
            rows, first, later, steps = (data[name] for name in ("rows", "first", "later", "steps"))
            times = [*first, *later, *(second for both in drafting.values() for second in both)]
            wrong = [value for value in rows if type(value) is not int]
            wrong += [value for value in times if type(value) not in (int, float)]
            if wrong or type(steps) is not bool:
                raise TypeError(f"{shortened(wrong or steps)} is of another kind")
            return cls(tuple(rows), tuple(first), tuple(later), steps, drafting)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not the times of passes: {type(error).__name__}: {error}") from error

    def _by_rows(self, times: Sequence[float]) -> tuple[float, ...]:
        # More rows never take less: where a table says so, something else was running, and that only ever adds.
        rising = [min(times[place:]) for place in range(len(times))]
        return tuple(self._between(rows, rising) for rows in range(TREE_ROWS + 1))

    def _between(self, rows: int, times: Sequence[float]) -> float:
        place = bisect.bisect_left(self.rows, rows)
        if self.steps or self.rows[place] == rows:
            return times[place]
        low, high = self.rows[place - 1], self.rows[place]
        return times[place - 1] + (times[place] - times[place - 1]) * (rows - low) / (high - low)


def costs_folder() -> Path:
    """Where tables are kept: they belong to a machine, and the folder of a model may be read-only or watched. Raises
    ``RuntimeError`` for a user who has no home.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or "")
    return (home if home.is_absolute() else Path.home() / ".cache") / "spec_vla_ros" / "pass_times"


def _file_of(about: Mapping[str, Any], folder: Path | None) -> Path:
    """The table of what ``about`` describes. Raises ``OSError`` where something else is in its place: reading a pipe,
    or writing to it, never ends.
    """
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    path = (folder or costs_folder()) / f"{key[:24]}.json"
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is no file")
    return path


def load(about: Mapping[str, Any], folder: Path | None = None) -> PassCosts | None:
    """The table of exactly ``about``; None where there is none that can be read."""
    try:
        path = _file_of(about, folder)
        if path.stat().st_size > LARGEST:
            return None
        data = json.loads(path.read_text(encoding="utf-8"))
        return PassCosts.from_json(data["costs"]) if data["about"] == dict(about) else None
    except (OSError, ValueError, TypeError, KeyError, RuntimeError):  # RecursionError is a RuntimeError, too
        return None


def save(about: Mapping[str, Any], costs: PassCosts, folder: Path | None = None) -> bool:
    """Keep a table; whether that was possible. Without it the next start takes a few seconds more."""
    text = json.dumps({"about": dict(about), "costs": costs.to_json()}, indent=1) + "\n"
    try:
        write_text(_file_of(about, folder), text)
    except (OSError, OutputError, RuntimeError):
        return False
    return True
