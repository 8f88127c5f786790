"""Passes and success in closed loop: presets and radii on the simulated table top, every action compared with what
autoregressive decoding would have said of the same image.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spec_vla_ros.figures import histogram, median_p99, wilson_interval
from spec_vla_ros.openvla.loader import LoadedModel, load_model
from spec_vla_ros.policy import OpenVLAPolicy
from spec_vla_ros.policy_types import DecodeSettings, PolicyResult
from spec_vla_ros.tabletop.tasks import TASKS
from spec_vla_ros.tabletop.training.rollout import EVALUATION_SEED, Episode, evaluate

if TYPE_CHECKING:
    from spec_vla_ros.decoding.verifier import Verifier

MOVING_MM, MOVING_MRAD = 2.0, 20.0  # a step that moves less counts as standing still
REFERENCE = DecodeSettings(preset="autoregressive")


@dataclass
class Watched:
    """A policy that also asks what autoregressive decoding would have said; ``drift`` (steps, A) bins."""

    policy: OpenVLAPolicy
    reference: OpenVLAPolicy | None

    def __post_init__(self) -> None:
        """Nothing seen yet."""
        self.drift: list[np.ndarray] = []
        self.action_dim = self.policy.action_dim

    def infer(self, image: np.ndarray, instruction: str, settings: DecodeSettings) -> PolicyResult:
        """The policy's action."""
        result = self.policy.infer(image, instruction, settings)
        if self.reference is not None:
            said = self.reference.infer(image, instruction, REFERENCE)
            self.drift.append(np.abs(result.bins - said.bins))
        return result

    def reset(self) -> None:
        """Of the policy."""
        self.policy.reset()

    def describe(self) -> dict[str, str]:
        """Of the policy."""
        return self.policy.describe()


def measure(
    model: Path | str,
    grid: Sequence[DecodeSettings],
    episodes: int,
    say: Callable[[str], None],
    heads: Path | None = None,
    first_seed: int = EVALUATION_SEED,
    one_shape: bool = False,
    base_model: str = "",
) -> list[dict[str, Any]]:
    """One row per settings of ``grid``, all over the same episodes; ``one_shape``: see :class:`.decoding.verifier`."""
    from spec_vla_ros.decoding.heads.store import heads_folder, trained_drafters
    from spec_vla_ros.decoding.presets import resolve

    loaded = load_model(model, device="cpu", base_model=base_model)
    trained, problems = trained_drafters(loaded, heads_folder(loaded, heads or ""))
    for problem in problems:
        say(f"warning: {problem}")

    def policy() -> OpenVLAPolicy:
        return OpenVLAPolicy(loaded, trained, verifier=_one_shape(loaded) if one_shape else None)

    reference, rows = policy(), []
    for settings in grid:
        resolved = resolve(settings, trained)
        if resolved.preset != settings.preset:
            say(f"{settings.preset} needs a head that is not there; left out")
            continue
        began = time.monotonic()
        exact = resolved.decoder == "autoregressive"
        watched = Watched(policy(), None if exact else reference)
        done = evaluate(watched, settings, episodes, first_seed)
        rows.append(row(resolved, done, np.array(watched.drift)))
        say(f"{line(rows[-1])}   {time.monotonic() - began:.0f} s")
    return rows


def _one_shape(loaded: LoadedModel) -> Verifier:
    """A verifier whose passes all have the rows of the longest prompt of the table top and of the largest tree."""
    from spec_vla_ros.decoding.verifier import TREE_ROWS, Verifier

    prompt = loaded.config.towers[0].patches + max(len(loaded.prompt.ids(task.instruction)) for task in TASKS)
    slots = prompt + loaded.statistics.action_dim + TREE_ROWS + 1
    return Verifier(loaded.model, loaded.tokens, slots, uniform=True)


def row(settings: DecodeSettings, episodes: Sequence[Episode], drift: np.ndarray) -> dict[str, Any]:
    """The figures of one setting; ``drift`` (steps, A), or empty for autoregressive decoding itself."""
    results = [result for episode in episodes for result in episode.results]
    won = np.array([episode.success for episode in episodes for _ in episode.results])
    values = np.stack([result.values for result in results])
    moving = (np.linalg.norm(values[:, :3], axis=1) > MOVING_MM / 1e3) | (
        np.linalg.norm(values[:, 3:6], axis=1) > MOVING_MRAD / 1e3
    )
    if not len(drift):
        drift = np.zeros((len(results), values.shape[1]), dtype=int)
    wins = sum(episode.success for episode in episodes)
    speculative = settings.decoder == "speculative"
    everything = np.ones(len(results), dtype=bool)
    return {
        "preset": settings.preset,
        "decoder": settings.decoder,
        "drafters": list(settings.drafters) if speculative else [],
        "acceptance_radius": settings.acceptance_radius if speculative else 0,
        "radius_sum": settings.radius_sum,
        "second_look": settings.second_look,
        "draft_depth": settings.draft_depth if speculative else 0,
        "draft_width": settings.draft_width if speculative else 0,
        "emit": settings.emit,
        "episodes": len(episodes),
        "success_rate": wins / len(episodes),
        "success_interval": wilson_interval(wins, len(episodes)),
        **_figures(results, drift, everything),
        "successful_episodes": _figures(results, drift, won),
        "moving_steps": _figures(results, drift, moving),
        "accepted_per_position": _accepted(results),
        "tokens_by_source": _sources(results),
    }


def _figures(results: Sequence[PolicyResult], drift: np.ndarray, chosen: np.ndarray) -> dict[str, Any]:
    """Over the chosen steps."""
    picked = [result for result, use in zip(results, chosen, strict=True) if use]
    if not picked:
        return {"actions": 0}
    passes = np.array([result.report.verifier_passes for result in picked])
    # Tokens that a pass settles, the first pass aside as in the paper: (A - 1) / passes after the prefill.
    cycles = passes - 1
    dims = len(picked[0].bins)
    return {
        "actions": len(picked),
        "passes_mean": round(float(passes.mean()), 4),
        "passes_histogram": histogram(passes.tolist()),
        "one_pass_share": round(float((passes == 1).mean()), 4),
        "tokens_per_cycle": round(float((dims - 1) * len(picked) / cycles.sum()), 3) if cycles.sum() else None,
        "accepted_first_pass": round(float(np.mean([r.report.accepted_per_pass[0] for r in picked])), 3),
        "drafted_rows_first_pass": round(float(np.mean([r.report.drafted_per_pass[0] for r in picked])), 2),
        "equal_to_autoregressive": int((drift[chosen] == 0).all(1).sum()),
        "drift_bins": [round(float(v), 3) for v in drift[chosen].mean(0)],
        "gripper_flips": round(float((drift[chosen][:, -1] > 0).mean()), 5),
        "latency_ms": median_p99([result.report.total_ms for result in picked]),
    }


def _accepted(results: Sequence[PolicyResult]) -> list[float]:
    """Share of actions whose token was an accepted draft, by dimension."""
    hits = [[source != "verifier" for source in result.report.token_source] for result in results]
    return [round(float(v), 4) for v in np.mean(hits, axis=0)]


def _sources(results: Sequence[PolicyResult]) -> dict[str, float]:
    """Share of tokens by who drafted them."""
    names = np.array([source for result in results for source in result.report.token_source])
    return {str(k): round(float(n / len(names)), 4) for k, n in zip(*np.unique(names, return_counts=True), strict=True)}


def line(row: dict[str, Any]) -> str:
    """One row for people."""
    low, high = row["success_interval"]
    return (
        f"{row['preset']:<15} r={row['acceptance_radius']:<3} {'+'.join(row['drafters']) or '-':<20} "
        f"{100 * row['success_rate']:5.1f} % ({100 * low:.1f}-{100 * high:.1f})  "
        f"{row['passes_mean']:.2f} passes, {100 * row['one_pass_share']:.0f} % in one  "
        f"drift {max(row['drift_bins']):.2f} bins  {row['latency_ms']['median']:.1f} ms"
    )
