"""Statistics keys: how large a step they make of a bin, and whether that can be right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from spec_vla_ros.errors import StatisticsError
from spec_vla_ros.motion.data_sets import action_period
from spec_vla_ros.openvla.action_tokens import ActionStatistics, choose_statistics
from spec_vla_ros.policy_types import DecodeSettings
from spec_vla_ros.tolerance import ROTATIONS, TRANSLATIONS

from .findings import Report

RADIUS = DecodeSettings.acceptance_radius  # bins
NODE_ACTION_DIM = 7  # x y z roll pitch yaw gripper: what the act node can execute
AXES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
LONGEST_STEP, WIDEST_TURN = 0.5, np.pi  # m and rad per step in one direction; beyond is no data set of an arm


def inspect_statistics(
    report: Report, statistics: Mapping[str, Any], source: str, wanted: str | None, n_bins: int, step_dt: float = 0.0
) -> tuple[dict[str, ActionStatistics], ActionStatistics | None]:
    """(all readable keys, the one that would be used). ``wanted``, ``step_dt`` (s): unnorm_key and step_dt of the
    operator, None and 0 = not set.
    """
    section = report.section(f"statistics, {source}")
    readable: dict[str, ActionStatistics] = {}
    for key in sorted(statistics):
        try:
            one = readable[key] = choose_statistics(statistics, key)
        except StatisticsError as error:
            section.table.append(_row(key, None, str(error).partition(": ")[2], n_bins))
            # Without a choice it may be this one; with another choice it does no harm.
            harmful = wanted is None or key in (wanted, f"{wanted}_no_noops")
            (report.error if harmful else report.warning)(
                str(error), "Get the file again or repair it; unnorm_key must name a key whose statistics are whole."
            )
            continue
        section.table.append(_row(key, one, "; ".join(remarks(one)), n_bins))
    chosen = report.attempt(choose_statistics, statistics, wanted)
    if chosen is not None:
        _judge(report, chosen, step_dt)
    return readable, chosen


def remarks(statistics: ActionStatistics) -> list[str]:
    """What cannot be right about one key, or is worth knowing."""
    found = []
    low, high, mask = statistics.q01, statistics.q99, statistics.mask
    moving = TRANSLATIONS + ROTATIONS
    names = [*AXES, *(f"dimension {i}" for i in range(len(AXES), statistics.action_dim))][: statistics.action_dim]
    if constant := [n for n, a, b, m in zip(names, low, high, mask, strict=True) if m and a == b]:
        found.append(f"never moves: {', '.join(constant)}")
    if raw := [name for name, m in zip(names[:moving], mask, strict=False) if not m]:
        found.append(f"not normalised, -1..1 is taken as m or rad: {', '.join(raw)}")
    reach = np.maximum(abs(low), abs(high)) * mask
    limits = np.array([LONGEST_STEP] * TRANSLATIONS + [WIDEST_TURN] * ROTATIONS)[: statistics.action_dim]
    if far := [name for name, r, limit in zip(names, reach, limits, strict=False) if r > limit]:
        unit = [f"{name} {r:.3g}" for name, r in zip(names, reach, strict=True) if name in far]
        found.append(f"no step of an arm (m, rad): {', '.join(unit)}")
    if statistics.action_dim == NODE_ACTION_DIM and mask[-1] and (low[-1] < -0.1 or high[-1] > 1.1):
        found.append(f"gripper {low[-1]:.3g}..{high[-1]:.3g}, the node expects 0 (closed) to 1 (open)")
    return found


def period_of(key: str) -> float | None:
    """Seconds that one action takes, if that is known."""
    try:
        return action_period(key)
    except ValueError:
        return None


def is_libero(key: str) -> bool:
    """Whether the actions are the inputs of a simulator's controller."""
    return key.lower().startswith("libero")


def _judge(report: Report, chosen: ActionStatistics, step_dt: float) -> None:
    """Problems of the key that would be used."""
    if chosen.action_dim != NODE_ACTION_DIM:
        report.error(
            f"actions of {chosen.key!r} have {chosen.action_dim} dimensions, the act node needs {NODE_ACTION_DIM}",
            "Choose a key of seven dimensions; for others use the Python interface of the policy.",
        )
    if is_libero(chosen.key):
        report.warning(
            f"{chosen.key}: LIBERO actions are controller inputs in -1..1, not metres: simulator only",
            "Do not drive an arm with it. Its images are turned by 180 degrees, and it wants centre_crop:=true.",
        )
    if not step_dt and period_of(chosen.key) is None:
        report.error(
            f"how long an action of {chosen.key!r} takes is not known",
            "Set step_dt to the period of the data set in s (here: --step-dt), because speed follows from it.",
        )
    for remark in remarks(chosen):
        report.warning(f"statistics {chosen.key!r}: {remark}", "Compare with the data set that the model was tuned on.")


def _row(key: str, statistics: ActionStatistics | None, remark: str, n_bins: int) -> dict[str, tuple[str, Any]]:
    parts = {"mm per bin x y z": "-", "mrad per bin r p y": "-", f"radius {RADIUS}: mm": "-", "mrad": "-"}
    values: dict[str, Any] = dict.fromkeys(parts)
    period = period_of(key)
    if statistics is not None:
        step = 1000 * statistics.bin_width(n_bins)
        split = step[:TRANSLATIONS], step[TRANSLATIONS : TRANSLATIONS + ROTATIONS]
        for name, numbers in zip(parts, (*split, *(RADIUS * part for part in split)), strict=True):
            parts[name] = _numbers(numbers)
            values[name] = [round(float(number), 6) for number in numbers]
    row = {"key": (key, key), **{name: (parts[name], values[name]) for name in parts}}
    row["step_dt"] = (f"{period:g} s" if period else "?", period)
    row["remarks"] = (remark, remark)
    return row


def _numbers(numbers: np.ndarray) -> str:
    """Equal neighbours once: "0.392 x3" reads faster than the same number three times."""
    texts = [f"{number:.3g}" for number in numbers]
    return f"{texts[0]} x{len(texts)}" if len(texts) > 1 and len(set(texts)) == 1 else " ".join(texts)
