"""Does a decoder stay within what acceptance allows of autoregressive decoding? Numbers only; :mod:`.advice` has words.

An accepted token may be off by the radius of its dimension. The tokens after it are the model's own choices *given* it,
so a whole action may be further off than the radius: that is what is counted here, action by action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

import numpy as np

from spec_vla_ros.tolerance import Tolerance

from .compare import AXES, OPEN, UNITS, Comparison, gripper_differs

AUTOREGRESSIVE = "autoregressive"
MOTIONS = 6  # axes before the gripper; three in mm, three in mrad


class Level(str, Enum):
    """How near the actions of a decoder are to autoregressive ones."""

    IDENTICAL = "identical"  # the same bins, all of them
    WITHIN = "within"  # every dimension of every action within its radius, its commands at least
    BEYOND = "beyond"


@dataclass(frozen=True)
class Distance:
    """Of an action: the largest over its three axes, in ``unit``. ``axis``, ``at``: of the largest action."""

    unit: str
    median: float
    p99: float
    largest: float
    axis: str
    at: int  # position in the comparison
    typical_motion: float  # median size of the autoregressive actions, measured in the same way


@dataclass(frozen=True)
class Verdict:
    """One decoder against autoregressive decoding over ``images`` actions.

    ``beyond``, ``flips``: positions in the comparison of actions that differ by more than was allowed, and of those
    (a part of ``beyond``) whose gripper is open where the other one's is closed. ``furthest``: the position in
    ``beyond`` that exceeds its radius most, None where there is none. ``passes``, ``ms``: this decoder's and the
    autoregressive one's; passes are means. ``radius_si``: (A,) what ``tolerance`` is in mm, mrad, gripper units.
    """

    preset: str
    level: Level
    images: int
    identical: int
    beyond: tuple[int, ...]
    flips: tuple[int, ...]
    furthest: int | None
    mm: Distance
    mrad: Distance
    passes: tuple[float, float]
    total_passes: tuple[int, int]
    ms_median: tuple[float, float]
    ms_p99: tuple[float, float]
    tolerance: Tolerance
    radius_si: tuple[float, ...]

    @property
    def times_as_fast(self) -> float:
        """By the medians."""
        return self.ms_median[1] / max(self.ms_median[0], 1e-9)

    def as_json(self, comparison: Comparison) -> dict[str, Any]:
        """For summary.json: positions become indices of rows."""
        content = asdict(self) | {"level": self.level.value, "radius": self.tolerance.bins}
        del content["tolerance"]
        content["budget"] = self.tolerance.budget or 0
        for name in ("beyond", "flips"):
            content[name] = [comparison.indices[at] for at in getattr(self, name)]
        content["furthest"] = None if self.furthest is None else comparison.indices[self.furthest]
        for name in ("mm", "mrad"):
            content[name]["at"] = comparison.indices[content[name]["at"]]
        return content


def judge(comparison: Comparison, bin_width: Sequence[float], budget: int = 0) -> list[Verdict]:
    """One verdict per decoder; none where autoregressive decoding was not replayed.

    ``bin_width``: (A,) m, rad, gripper units. ``budget``: bins that an action may be off in all, 0 = no limit.
    """
    if AUTOREGRESSIVE not in comparison.presets or not len(comparison):
        return []
    return [_judge(comparison, preset, bin_width, budget) for preset in comparison.presets if preset != AUTOREGRESSIVE]


def _judge(comparison: Comparison, preset: str, bin_width: Sequence[float], budget: int) -> Verdict:
    bins = comparison.distances(preset, AUTOREGRESSIVE)
    tolerance = Tolerance.of_bins(comparison.radius[preset], bin_width, budget or None)
    values, plain = (np.array(comparison.values[name]) for name in (preset, AUTOREGRESSIVE))
    flips = gripper_differs(values, plain)
    over = tolerance.beyond(bins).any(1) | flips | tolerance.over_budget(bins)
    identical = (bins == 0).all(1)
    passes = [comparison.passes[name] for name in (preset, AUTOREGRESSIVE)]
    ms = [comparison.milliseconds[name] for name in (preset, AUTOREGRESSIVE)]
    excess = shares(bins, tolerance)
    beyond = np.flatnonzero(over)
    return Verdict(
        preset=preset,
        level=Level.IDENTICAL if identical.all() else Level.BEYOND if over.any() else Level.WITHIN,
        images=len(comparison),
        identical=int(identical.sum()),
        beyond=tuple(map(int, beyond)),
        flips=tuple(map(int, np.flatnonzero(flips))),
        furthest=int(beyond[excess[beyond].argmax()]) if len(beyond) else None,
        mm=_distance(1e3 * (values - plain), 1e3 * plain, 0),
        mrad=_distance(1e3 * (values - plain), 1e3 * plain, 3),
        passes=tuple(float(np.mean(counts)) for counts in passes),
        total_passes=tuple(int(np.sum(counts)) for counts in passes),
        ms_median=tuple(float(np.median(times)) for times in ms),
        ms_p99=tuple(float(np.percentile(times, 99)) for times in ms),
        tolerance=tolerance,
        radius_si=tuple(
            (1e3 if axis < MOTIONS else 1.0) * value for axis, value in enumerate(tolerance.in_units(bin_width))
        ),
    )


def _distance(apart: np.ndarray, plain: np.ndarray, first: int) -> Distance:
    """``apart``, ``plain``: (N, A) in mm and mrad; ``first``: 0 = x y z, 3 = roll pitch yaw."""
    apart, plain = np.abs(apart[:, first : first + 3]), np.abs(plain[:, first : first + 3])
    furthest = apart.max(1)
    at = int(furthest.argmax())
    return Distance(
        unit=UNITS[first],
        median=float(np.median(furthest)),
        p99=float(np.percentile(furthest, 99)),
        largest=float(furthest[at]),
        axis=AXES[first + int(apart[at].argmax())],
        at=at,
        typical_motion=float(np.median(plain.max(1))),
    )


def shares(bins: np.ndarray, tolerance: Tolerance) -> np.ndarray:
    """(N,) the largest distance of an action's motion as a share of its radius: above 1 is beyond it.

    ``bins`` (N, A). Where the radius is 0 no share exists: any distance then counts as one more than its bins, so that
    it is above 1. Where every bin is the same command, no distance counts.
    """
    bins, radius = (bins * np.array(tolerance.costs))[:, :MOTIONS], np.array(tolerance.bins[:MOTIONS])
    return np.where(radius > 0, bins / np.maximum(radius, 1), bins + (bins > 0)).max(1)


def differences(comparison: Comparison, verdict: Verdict, at: int) -> list[str]:
    """What at position ``at`` is beyond what was allowed, one line per dimension; the gripper first."""
    plain, own = (np.array(comparison.values[name][at]) for name in (AUTOREGRESSIVE, verdict.preset))
    bins = np.abs(np.array(comparison.bins[verdict.preset][at]) - np.array(comparison.bins[AUTOREGRESSIVE][at]))
    lines, radius, beyond = [], verdict.tolerance.bins, verdict.tolerance.beyond(bins)
    if gripper_differs(own[None], plain[None])[0]:
        states = ("open", "closed") if own[-1] > OPEN else ("closed", "open")
        lines.append(f"gripper {states[0]}, autoregressive {states[1]}")
    elif beyond[-1]:
        lines.append(f"gripper {_count(bins[-1])}, none allowed")
    for axis in np.flatnonzero(beyond[:MOTIONS]):
        apart, limit = 1e3 * (own - plain)[axis], verdict.radius_si[axis]
        lines.append(
            f"{AXES[axis]} {apart:+.1f} {UNITS[axis]}, {limit:.1f} allowed "
            f"({_count(bins[axis])}, {radius[axis]} allowed)"
        )
    if verdict.tolerance.over_budget(bins):
        lines.append(f"{_count(int(verdict.tolerance.spent(bins)))} in all, {verdict.tolerance.budget} allowed")
    return lines


def _count(bins: int) -> str:
    return f"{bins} bin{'' if bins == 1 else 's'}"
