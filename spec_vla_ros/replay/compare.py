"""How far decoders agree on the same images, with each other and with what was recorded then."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from spec_vla_ros.figures import histogram, median_p99
from spec_vla_ros.recordings.frames import Commands

AXES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
UNITS = ("mm", "mm", "mm", "mrad", "mrad", "mrad", "")
OPEN = 0.5  # a gripper value above is "open"


class Comparison:
    """Collects rows of :mod:`.run`; numbers only, so that a recording may have any length."""

    def __init__(self, presets: Sequence[str], period: float) -> None:
        """``presets``: the first is the one to agree with. ``period``: s of one action."""
        self.presets, self.period = tuple(presets), period
        self.indices: list[int] = []  # of the rows
        self.stamps: list[int] = []
        self.instructions: list[str] = []
        self.radius: dict[str, tuple[int, ...]] = {}  # bins that acceptance allows, by preset
        self.bins = {preset: [] for preset in presets}
        self.values = {preset: [] for preset in presets}
        self.passes = {preset: [] for preset in presets}
        self.first = {preset: [] for preset in presets}  # tokens accepted in the first pass
        self.milliseconds = {preset: [] for preset in presets}
        self.errors: dict[str, int] = {}
        self.fresh: list[bool] = []

    def add(self, row: Mapping[str, Any]) -> None:
        """Take one row. A row in which any decoder failed is counted by its error and not compared."""
        entries = row.get("presets", {})
        errors = (
            [row["error"]] if "error" in row else [entry["error"] for entry in entries.values() if "error" in entry]
        )
        if errors:
            self.errors[errors[0]] = self.errors.get(errors[0], 0) + 1
            return
        self.indices.append(row["index"])
        self.stamps.append(row["stamp_ns"])
        self.instructions.append(sys.intern(row["instruction"]))  # mostly the same one
        self.fresh.append(row["fresh"])
        for preset in self.presets:
            entry = entries[preset]
            self.radius[preset] = tuple(entry["radius"])  # of settings and statistics, so the same in all rows
            self.bins[preset].append(entry["bins"])
            self.values[preset].append(entry["values"])
            self.passes[preset].append(entry["passes"])
            self.first[preset].append(entry["accepted"][0] if entry["accepted"] else 0)
            self.milliseconds[preset].append(entry["ms"]["total"])

    def __len__(self) -> int:
        """Rows that are compared."""
        return len(self.stamps)

    def distances(self, preset: str, reference: str = "") -> np.ndarray:
        """(N, A) bins between ``preset`` and ``reference``, which is the first preset unless it is named."""
        return np.abs(np.array(self.bins[preset]) - np.array(self.bins[reference or self.presets[0]]))

    def seconds(self) -> np.ndarray:
        """(N,) s of the recording, from the first image that is compared."""
        return 1e-9 * (np.array(self.stamps, dtype=np.int64) - self.stamps[0])

    def seconds_at(self, position: int) -> float:
        """Time of a position in s of the recording, from the first image that is compared."""
        return 1e-9 * (self.stamps[position] - self.stamps[0])

    def summary(self, commands: Commands) -> list[dict[str, Any]]:
        """One row per preset."""
        return [self._row(preset, commands) for preset in self.presets]

    def _row(self, preset: str, commands: Commands) -> dict[str, Any]:
        reference = self.presets[0]
        bins, values = self.distances(preset), np.array(self.values[preset])
        apart = np.abs(values - np.array(self.values[reference]))
        passes = np.array(self.passes[preset])
        row: dict[str, Any] = {
            "preset": preset,
            "compared_with": reference,
            "images": len(self),
            "equal_actions": round(float((bins == 0).all(1).mean()), 4),
            "drift_bins": _by_axis(bins),
            "drift_si": _by_axis(apart * _scale(values.shape[1])),  # mm, mrad, gripper units
            "gripper_differs": round(float(gripper_differs(values, np.array(self.values[reference])).mean()), 4),
            "passes_mean": round(float(passes.mean()), 3),
            "passes_histogram": histogram([int(count) for count in passes]),
            "one_pass_share": round(float((passes == 1).mean()), 4),
            "accepted_in_first_pass_mean": round(float(np.mean(self.first[preset])), 3),
            "inference_ms": median_p99(self.milliseconds[preset]),
        }
        told = [(index, commands.at(stamp, self.period)) for index, stamp in enumerate(self.stamps)]
        told = [(index, motion) for index, motion in told if motion is not None]
        if told:
            indices, motions = [index for index, _ in told], np.array([motion for _, motion in told])
            apart = np.abs(values[indices, :6] - motions) * _scale(7)[:6]
            row["against_recorded"] = {"images": len(told), **_by_axis(apart)}
        return row


def worst(rows: Iterable[Mapping[str, Any]], presets: Sequence[str], count: int) -> list[tuple[int, str, int]]:
    """(index of the row, preset, bins) of the ``count`` rows whose motion is furthest from the first preset's."""
    found: list[tuple[int, int, str]] = []
    for row in rows:
        if (candidate := distance_of(row, presets)) is not None:
            heapq.heappush(found, (candidate[1], -row["index"], candidate[0]))
            if len(found) > count:
                heapq.heappop(found)
    return [(-index, preset, bins) for bins, index, preset in sorted(found, reverse=True)]


def distance_of(row: Mapping[str, Any], presets: Sequence[str]) -> tuple[str, int] | None:
    """(preset, bins) of the largest distance from the first preset in any axis but the gripper; None without one."""
    entries = row.get("presets", {})
    if any("bins" not in entries.get(preset, {}) for preset in presets) or len(presets) < 2:
        return None
    reference = np.array(entries[presets[0]]["bins"][:6])
    distances = [
        (preset, int(np.abs(np.array(entries[preset]["bins"][:6]) - reference).max())) for preset in presets[1:]
    ]
    return max(distances, key=lambda pair: pair[1])


def gripper_differs(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(N,) whether one gripper is open and the other closed."""
    return (values[:, -1] > OPEN) != (reference[:, -1] > OPEN)


def _scale(axes: int) -> np.ndarray:
    """From m and rad to mm and mrad; the gripper stays."""
    return np.array([1e3] * (axes - 1) + [1.0])


def _by_axis(values: np.ndarray) -> dict[str, list[float]]:
    return {
        "mean": [round(float(v), 3) for v in values.mean(0)],
        "p99": [round(float(v), 3) for v in np.percentile(values, 99, axis=0)],
        "max": [round(float(v), 3) for v in values.max(0)],
    }


def table(summary: Sequence[Mapping[str, Any]]) -> str:
    """The summary for people."""
    head = (
        f"{'preset':<16}{'equal':>7}{'passes':>8}{'1 pass':>8}{'ms median':>11}{'p99':>8}{'gripper':>9}   drift, mean: "
    )
    lines = [head + "x y z mm, roll pitch yaw mrad"]
    for row in summary:
        drift, time = row["drift_si"]["mean"], row["inference_ms"]
        lines.append(
            f"{row['preset']:<16}{100 * row['equal_actions']:>6.1f}%{row['passes_mean']:>8.2f}"
            f"{100 * row['one_pass_share']:>7.1f}%{time['median']:>11.1f}{time['p99']:>8.1f}"
            f"{100 * row['gripper_differs']:>8.2f}%   " + " ".join(f"{value:.2f}" for value in drift[:6])
        )
    lines.append(f"compared with {summary[0]['compared_with']} over {summary[0]['images']} images")
    for row in summary:
        if told := row.get("against_recorded"):
            means = " ".join(f"{value:.2f}" for value in told["mean"])
            lines.append(
                f"{row['preset']}: from what was recorded then, mean over {told['images']} images: {means} mm, mrad"
            )
    return "\n".join(lines)
