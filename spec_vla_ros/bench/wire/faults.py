"""A seeded campaign of faults against the real act node, judged from outside.

The act node runs in a process of its own and drives a simulated arm over DDS. Fault after fault is injected at a random
moment, some of them two at once; the campaign watches the wire, and then does what an operator would do: read the
diagnostics, remove the cause, see that nothing moves by itself, arm the node again. :mod:`.fault_kinds` has the faults
and what they must be answered with, :mod:`.fault_monitor` says what is unsafe, :mod:`.fault_campaign` does it.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from spec_vla_ros.figures import median_p99
from spec_vla_ros.ros.children import own_domain

from . import fault_kinds as kinds
from . import fault_monitor as judge
from . import fault_settings as settings
from .fault_campaign import LISTED, Campaign, Options, Trial
from .fault_operator import NAMESPACE


def measure(options: Options, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Run the campaign; rows per kind, and a last one with the total."""
    env = own_domain()
    from .fault_world_node import RUNTIME, FaultWorld, session  # joins the domain that was just chosen

    began = time.monotonic()
    monitor = judge.Monitor(settings.FRAME, 1.0 / settings.PUBLISH_RATE, settings.STEP_DT, options.pacing == "steady")
    with tempfile.TemporaryDirectory() as folder, session():
        world = FaultWorld(monitor, NAMESPACE, (options.height, options.width))
        try:
            campaign = Campaign(options, world, Path(folder), env, say)
            campaign.run()
        finally:
            world.close()
    total = {
        "kind": "total", **asdict(options), "injected": len(campaign.trials), "unsafe": len(monitor.unsafe),
        "unexpected": sum(bool(trial.problems) for trial in campaign.trials), "velocities": monitor.commands,
        "moving_velocities": monitor.moving_commands, "node_starts": campaign.operator.starts,
        "pairs_injected": sum(bool(trial.second) for trial in campaign.trials), "left_out": campaign.impossible,
        "repeated_because_of_a_busy_machine": campaign.disturbed, "seconds": round(time.monotonic() - began, 1),
        "worst_overshoot": round(max(monitor.overshoot.values(), default=0.0), 4),
        "interval_ms": interval_ms([value for values in monitor.intervals.values() for value in values]),
        "listener_lag_ms": round(1e3 * monitor.listener_lag, 1),
        "runtime": RUNTIME,
    }  # fmt: skip
    return [*rows(campaign.trials, monitor.overshoot, monitor.intervals), total]


def interval_ms(seconds: Sequence[float]) -> dict[str, float | int | None]:
    """Of the times from a velocity that moves to the next message, s: how many, p99 and the largest in ms."""
    if not seconds:
        return {"count": 0, "p99": None, "max": None}
    p99 = round(1e3 * float(np.percentile(seconds, 99)), 1)
    return {"count": len(seconds), "p99": p99, "max": round(1e3 * max(seconds), 1)}


def rows(
    trials: Sequence[Trial], overshoot: Mapping[str, float], intervals: Mapping[str, Sequence[float]]
) -> list[dict[str, Any]]:
    """One row per kind, in the order of the table of kinds; a pair counts where its first fault does.

    ``overshoot``: of the displacement, by kind. ``intervals``: see :func:`interval_ms`, by kind.
    """
    result = []
    for kind in kinds.KINDS:
        mine = [trial for trial in trials if trial.kind == kind.name]
        if mine:
            alone = [trial for trial in mine if not trial.second]
            times = [trial.to_zero_ms for trial in alone if trial.to_zero_ms is not None]
            answers = Counter(trial.answer for trial in mine).most_common()
            unsafe = [
                {"fault": t.number, "second": t.second, "rule": u.rule, "detail": u.detail}
                for t in mine
                for u in t.unsafe
            ]
            problems = [
                {"fault": trial.number, "second": trial.second, "problem": text}
                for trial in mine
                for text in trial.problems
            ]
            result.append({
                "kind": kind.name, "injected": len(mine), "expected": list(kind.answers), "answers": dict(answers),
                "pairs": sum(bool(trial.second) for trial in mine), "to_zero_ms": median_p99(times),
                "interval_ms": interval_ms(intervals.get(kind.name, ())),
                "worst_overshoot": round(overshoot.get(kind.name, 0.0), 4),
                "unsafe": len(unsafe), "unsafe_first": unsafe[:LISTED], "problems": problems,
            })  # fmt: skip
    return result


def safe(result: Sequence[dict[str, Any]]) -> bool:
    """Whether nothing was unsafe and everything was answered as expected."""
    return not result[-1]["unsafe"] and not result[-1]["unexpected"]


def report(result: Sequence[dict[str, Any]]) -> str:
    """The rows for people."""
    lines = [
        (
            "fault",
            "injected",
            "answers",
            "to zero, ms: median, p99",
            "interval, ms: p99, max",
            "too far, %",
            "unsafe",
            "unexpected",
        )
    ]
    for row in result[:-1]:
        answers = ", ".join(f"{answer or 'none'} {count}" for answer, count in row["answers"].items())
        median, p99 = row["to_zero_ms"]["median"], row["to_zero_ms"]["p99"]
        times = "-" if median is None else f"{median:.0f}, {p99:.0f}"
        p99, largest = row["interval_ms"]["p99"], row["interval_ms"]["max"]
        between = "-" if p99 is None else f"{p99:.0f}, {largest:.0f}"
        counts = str(row["unsafe"]), str(len({problem["fault"] for problem in row["problems"]}))
        lines.append(
            (row["kind"], str(row["injected"]), answers, times, between, f"{100 * row['worst_overshoot']:.1f}", *counts)
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    total = result[-1]
    return "\n".join([
        *table,
        f"{total['injected']} faults in {total['seconds']:.0f} s, {total['node_starts']} starts of the node, "
        f"{total['velocities']} velocities heard, {total['moving_velocities']} of them not zero",
        f"unsafe: {total['unsafe']}; not answered as expected: {total['unexpected']}; repeated because the machine was "
        f"busy: {total['repeated_because_of_a_busy_machine']}",
        "too far: how much further than commanded a sink moves that keeps a velocity for 0.1 s; the listener was late "
        f"by {total['listener_lag_ms']:.0f} ms at most",
        "interval: from a velocity that is not zero to the next message; time to zero and answers of single faults and "
        f"pairs ({total['pairs_injected']}) of which the fault is the first",
        *(f"left out: {kind}: {reason}" for kind, reason in total["left_out"].items()),
    ])  # fmt: skip
