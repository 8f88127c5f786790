"""Closed loop on the simulated arm without ROS: a policy drives, the simulator judges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spec_vla_ros.figures import wilson_interval
from spec_vla_ros.policy_types import DecodeSettings, Policy, PolicyResult
from spec_vla_ros.tabletop.arm import TabletopArm
from spec_vla_ros.tabletop.expert import STEP
from spec_vla_ros.tabletop.tasks import TASKS, Layout, Task

from .data import CAMERA_SIZE

EVALUATION_SEED = 5_000_000  # evaluation layouts start here, far above every seed that training draws from
PAUSE = 0.03  # s of zero motion per step, as long as an inference keeps the arm waiting


@dataclass(frozen=True)
class Episode:
    """One evaluated episode; ``results`` holds every action with its decoding report."""

    task: Task
    seed: int
    success: bool
    results: tuple[PolicyResult, ...]


def run_episode(arm: TabletopArm, policy: Policy, task: Task, seed: int, settings: DecodeSettings) -> Episode:
    """Reset to ``seed``, act until the task is done or its time is up."""
    arm.reset(Layout.sample(seed))
    policy.reset()
    results = []
    while arm.time < task.time_limit:
        result = policy.infer(arm.render(), task.instruction, settings)
        results.append(result)
        arm.apply_delta(result.values[:6], 1.0 if result.values[6] > 0.5 else 0.0, STEP)
        arm.advance(PAUSE)
        if task.done(arm):
            return Episode(task, seed, True, tuple(results))
    return Episode(task, seed, False, tuple(results))


def evaluate(
    policy: Policy,
    settings: DecodeSettings,
    episodes: int,
    first_seed: int = EVALUATION_SEED,
    on_episode: Callable[[Episode], None] = lambda episode: None,
) -> list[Episode]:
    """``episodes`` episodes, tasks in turn, one seed each; the same seeds for every ``settings``."""
    arm = TabletopArm((CAMERA_SIZE, CAMERA_SIZE))
    done = []
    for i in range(episodes):
        done.append(run_episode(arm, policy, TASKS[i % len(TASKS)], first_seed + i, settings))
        on_episode(done[-1])
    arm.close()
    return done


def summarize(episodes: list[Episode], settings: DecodeSettings) -> dict[str, object]:
    """Figures of one evaluation: success by kind, passes, latency, entropy of the tokens per dimension (bits)."""
    results = [r for e in episodes for r in e.results]
    passes = np.array([r.report.verifier_passes for r in results])
    latency = np.array([r.report.total_ms for r in results])
    tokens = np.stack([r.tokens for r in results])
    wins = sum(e.success for e in episodes)
    return {
        "decoder": settings.decoder,
        "drafters": list(settings.drafters) if settings.decoder == "speculative" else [],
        "acceptance_radius": settings.acceptance_radius if settings.decoder == "speculative" else 0,
        "draft_depth": settings.draft_depth if settings.decoder == "speculative" else 0,
        "emit": settings.emit,
        "episodes": len(episodes),
        "success_rate": wins / len(episodes),
        "success_interval": wilson_interval(wins, len(episodes)),
        "success_by_kind": {
            kind: float(np.mean([e.success for e in episodes if e.task.kind == kind]))
            for kind in sorted({e.task.kind for e in episodes})
        },
        "actions": len(results),
        "passes_mean": float(passes.mean()),
        "passes_mean_successful": float(
            np.mean([r.report.verifier_passes for e in episodes if e.success for r in e.results] or [float("nan")])
        ),
        "passes_histogram": {str(k): int(n) for k, n in zip(*np.unique(passes, return_counts=True), strict=True)},
        "latency_ms": {"median": float(np.median(latency)), "p99": float(np.percentile(latency, 99))},
        "token_entropy_bits": [round(_entropy(tokens[:, d]), 2) for d in range(tokens.shape[1])],
    }


def _entropy(values: np.ndarray) -> float:
    shares = np.unique(values, return_counts=True)[1] / len(values)
    return float(-(shares * np.log2(shares)).sum())
