"""How long a task takes: presets, pacings and compensations at the speed of known hardware, on the table top.

Everything here is emulated: a small model decodes, and each action is held back until the time has gone by that a 7B
model would have taken for such passes on that hardware. Every row says so.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spec_vla_ros.figures import median_p99, wilson_interval
from spec_vla_ros.motion.pacing import COMPENSATIONS, PACINGS
from spec_vla_ros.policy_types import DecodeSettings
from spec_vla_ros.tabletop.expert import STEP
from spec_vla_ros.tabletop.tasks import BY_INSTRUCTION, TASKS
from spec_vla_ros.tabletop.training.data import CAMERA_SIZE
from spec_vla_ros.tabletop.training.rollout import EVALUATION_SEED

from .drive import Drive, Driven, Moment, Table
from .hardware import Hardware, known

if TYPE_CHECKING:
    from spec_vla_ros.policy import OpenVLAPolicy

CHUNK = 9  # episodes, one of each task, that a worker drives at a time
BLOCKING, STEADY = PACINGS


@dataclass(frozen=True)
class Row:
    """What is compared. ``latency_of``: a name that :func:`.hardware.known` knows."""

    preset: str
    pacing: str
    compensation: str
    latency_of: str
    step_dt: float = STEP


@dataclass(frozen=True)
class Options:
    """``model``: checkpoint folder; ``heads``: of draft heads, None = beside it. ``workers``: processes."""

    model: Path | str
    heads: Path | None = None
    base_model: str = ""
    episodes: int = 300
    workers: int = 1
    first_seed: int = EVALUATION_SEED


def rows_of(
    presets: Sequence[str],
    pacings: Sequence[str],
    compensations: Sequence[str],
    hardware: Sequence[str],
    periods: Sequence[float],
) -> list[Row]:
    """All combinations; nothing has to be compensated for where the arm stands still."""
    return [
        Row(preset, pacing, how, name, period)
        for name in hardware
        for period in periods
        for preset in presets
        for pacing in pacings
        for how in (compensations if pacing == STEADY else COMPENSATIONS[:1])
    ]  # fmt: skip


def measure(todo: Sequence[Row], options: Options, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """One dictionary per row, in their order; ``ValueError`` for hardware or presets that are not there."""
    hardware = {row.latency_of: known(row.latency_of) for row in todo}
    found = []
    for row, episodes in zip(todo, _driven(todo, options), strict=True):
        found.append(figures(row, hardware[row.latency_of], episodes))
        say(line(found[-1]))
    plain = next((row for row in found if row["preset"] == "autoregressive" and row["pacing"] == BLOCKING), None)
    for row in found:
        same = plain is not None and row["latency_of"] == plain["latency_of"] and row["step_dt"] == plain["step_dt"]
        comparable = same and row["task_time_mean"] is not None and plain["task_time_mean"] is not None
        row["task_time_ratio"] = round(row["task_time_mean"] / plain["task_time_mean"], 3) if comparable else None
    return found


def figures(row: Row, hardware: Hardware, episodes: Sequence[Driven]) -> dict[str, Any]:
    """Of one row. Times of tasks in s: ``task_time_mean`` of the successful episodes, ``task_time_all`` of all of them,
    a failure counting as its time limit. Peaks are means over the episodes of each one's largest.
    """
    won = [episode for episode in episodes if episode.success]
    peaks = np.array([episode.peaks() for episode in episodes])
    late = np.concatenate([episode.late for episode in episodes])
    return {
        "emulated": f"a 7B model on {hardware.name}",
        "latency_of": hardware.name,
        "latency_kind": hardware.kind,
        "latency_source": hardware.source,
        "preset": row.preset,
        "pacing": row.pacing,
        "compensation": row.compensation,
        "step_dt": row.step_dt,
        "episodes": len(episodes),
        "success_rate": len(won) / len(episodes),
        "success_interval": wilson_interval(len(won), len(episodes)),
        "task_time_mean": round(float(np.mean([e.seconds for e in won])), 3) if won else None,
        "task_time_all": round(float(np.mean([e.seconds for e in episodes])), 3),
        "actions_per_second": round(sum(e.actions for e in episodes) / sum(e.seconds for e in episodes), 2),
        "standstill_share": round(float(np.mean([e.standstill for e in episodes])), 4),
        "late_ms": median_p99([1e3 * seconds for seconds in late]),
        "image_age_ms": median_p99([1e3 * seconds for e in episodes for seconds in e.ages]),
        "inference_ms_mean": round(1e3 * float(np.mean([s for e in episodes for s in e.inferences])), 2),
        "passes_mean": round(float(np.mean([p for e in episodes for p in e.passes])), 3),
        "acceleration_peak": round(float(peaks[:, 0].mean()), 3),
        "jerk_peak": round(float(peaks[:, 1].mean()), 2),
    }


def line(row: dict[str, Any]) -> str:
    """One row for people."""
    low, high = row["success_interval"]
    how = row["pacing"] + (f", {row['compensation']}" if row["pacing"] == STEADY else "")
    time = "no success" if row["task_time_mean"] is None else f"{row['task_time_mean']:.2f} s"
    late, age = (row[name][of] or 0.0 for name, of in (("late_ms", "p99"), ("image_age_ms", "median")))
    return (
        f"emulated {row['latency_of']:<9} {1e3 * row['step_dt']:3.0f} ms steps {row['preset']:<15} {how:<18} {time}  "
        f"{100 * row['success_rate']:5.1f} % ({100 * low:.1f}-{100 * high:.1f})  "
        f"{row['actions_per_second']:4.1f} actions/s of {row['inference_ms_mean']:.0f} ms, "
        f"{100 * row['standstill_share']:2.0f} % at rest, late p99 {late:.0f} ms, "
        f"image {age:.0f} ms, jerk {row['jerk_peak']:.0f} m/s3"
    )


def _driven(todo: Sequence[Row], options: Options) -> Iterator[list[Driven]]:
    """The episodes of each row."""
    jobs = [
        (row, list(range(first, min(first + CHUNK, options.episodes))))
        for row in todo
        for first in range(0, options.episodes, CHUNK)
    ]
    with contextlib.ExitStack() as stack:
        if options.workers <= 1:
            results = map(Runner(options).drive, jobs)
        else:
            context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
            pool = stack.enter_context(ProcessPoolExecutor(options.workers, context, _begin, (options,)))
            results = pool.map(_drive, jobs)
        for _ in todo:
            chunks = itertools.islice(results, -(-options.episodes // CHUNK))
            yield list(itertools.chain.from_iterable(chunks))


_OWN: list[Runner] = []  # of a worker process


def _begin(options: Options) -> None:
    _OWN.append(Runner(options))


def _drive(job: tuple[Row, Sequence[int]]) -> list[Driven]:
    return _OWN[0].drive(job)


class Runner:
    """A model and an arm; drives episodes of any row."""

    def __init__(self, options: Options) -> None:
        """Loads the model; ``CheckpointError`` if it cannot be read."""
        import torch

        from spec_vla_ros.decoding.heads.store import heads_folder, trained_drafters
        from spec_vla_ros.openvla.loader import load_model

        torch.set_num_threads(1)  # small matrices
        self._options, self._loaded = options, load_model(options.model, "cpu", base_model=options.base_model)
        self._heads, _ = trained_drafters(self._loaded, heads_folder(self._loaded, options.heads or ""))
        self._table, self._policies = Table(CAMERA_SIZE), {}
        self._known = functools.cache(known)  # a file is read once

    def drive(self, job: tuple[Row, Sequence[int]]) -> list[Driven]:
        """The episodes of these numbers, of one row."""
        row, numbers = job
        tasks = [TASKS[number % len(TASKS)].instruction for number in numbers]
        return [
            self.run(row, instruction, self._options.first_seed + number)
            for instruction, number in zip(tasks, numbers, strict=True)
        ]

    def run(self, row: Row, instruction: str, seed: int, watch: Callable[[Moment], None] | None = None) -> Driven:
        """One episode; ``ValueError`` for a preset whose head is not there."""
        hardware = self._known(row.latency_of)
        drive = Drive(
            row.pacing == STEADY, row.compensation, row.step_dt, DecodeSettings(preset=row.preset),
            lambda report: hardware.seconds(report, row.preset),
        )  # fmt: skip
        return self._table.run(self._policy(row.preset), drive, BY_INSTRUCTION[instruction], seed, watch)

    def _policy(self, preset: str) -> OpenVLAPolicy:
        from spec_vla_ros.decoding.costs import PassCosts
        from spec_vla_ros.decoding.planner import Planner
        from spec_vla_ros.decoding.presets import resolve
        from spec_vla_ros.policy import OpenVLAPolicy

        if resolve(DecodeSettings(preset=preset), self._heads).preset != preset:
            raise ValueError(f"{preset} needs a head that is not there")
        if preset not in self._policies:  # on a GPU drafted rows are nearly free
            policy = OpenVLAPolicy(self._loaded, self._heads, planner=Planner(PassCosts.free()))
            policy.warm_up(TASKS[0].instruction)
            self._policies[preset] = policy
        return self._policies[preset]
