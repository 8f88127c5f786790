"""Passes and success in closed loop: presets and radii on the simulated table top, every action compared with what
autoregressive decoding would have said of the same image.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
    from spec_vla_ros.decoding.drafters import Drafter
    from spec_vla_ros.decoding.verifier import Verifier

MOVING_MM, MOVING_MRAD = 2.0, 20.0  # a step that moves less counts as standing still
TOLD_EVERY = 60.0  # s between two words on how far it is
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


@dataclass
class Contender:
    """One row in the making: ``settings`` as asked for and ``resolved``."""

    settings: DecodeSettings
    resolved: DecodeSettings
    watched: Watched
    done: list[Episode] = field(default_factory=list)


def measure(
    model: Path | str,
    grid: Sequence[DecodeSettings],
    episodes: int,
    say: Callable[[str], None],
    heads: Path | None = None,
    first_seed: int = EVALUATION_SEED,
    one_shape: bool = False,
    base_model: str = "",
    free_rows: bool = False,
) -> list[dict[str, Any]]:
    """One row per settings of ``grid``, all over the same episodes, in turns of one episode per task.

    ``one_shape``: see :class:`.decoding.verifier`. ``free_rows``: automatic trees are chosen as where drafted rows cost
    nothing, which is nearly so on a large GPU; otherwise by what they cost here.
    """
    from spec_vla_ros.decoding.costs import PassCosts
    from spec_vla_ros.decoding.heads.store import heads_folder, trained_drafters
    from spec_vla_ros.decoding.planner import Planner
    from spec_vla_ros.decoding.presets import resolve

    loaded = load_model(model, device="cpu", base_model=base_model)
    trained, problems = trained_drafters(loaded, heads_folder(loaded, heads or ""))
    for problem in problems:
        say(f"warning: {problem}")
    reference = OpenVLAPolicy(loaded, trained, verifier=_one_shape(loaded) if one_shape else None)
    contenders = []
    for settings in grid:
        resolved = resolve(settings, trained)
        if resolved.preset != settings.preset:
            say(f"{settings.preset} needs a head that is not there; left out")
            continue
        planner = Planner(PassCosts.free()) if free_rows else None
        policy = OpenVLAPolicy(loaded, trained, verifier=reference.verifier, planner=planner)
        policy.warm_up(TASKS[0].instruction)
        exact = resolved.decoder == "autoregressive"
        contenders.append(Contender(settings, resolved, Watched(policy, None if exact else reference)))
    told = time.monotonic()
    for first in range(0, episodes, len(TASKS)):
        for one in contenders:
            one.done += evaluate(one.watched, one.settings, min(len(TASKS), episodes - first), first_seed + first)
        if contenders and time.monotonic() - told > TOLD_EVERY:
            told = time.monotonic()
            say(f"{len(contenders[0].done)} of {episodes} episodes")
    rows = []
    for one in contenders:
        rows.append(row(one.resolved, one.done, np.array(one.watched.drift)) | {"tree": _tree(one, trained, free_rows)})
    _compare(rows)
    for figures in rows:
        say(line(figures))
        if figures["tree"]:
            say(f"{'':<15} {figures['tree']}")
    return rows


def _tree(one: Contender, trained: Mapping[str, Drafter], free_rows: bool) -> str:
    """What was chosen in the end and what it was chosen from; empty where nothing is."""
    from spec_vla_ros.decoding.drafters import make_drafters

    if one.resolved.decoder == "autoregressive" or one.resolved.draft_width:
        return ""
    drafters = make_drafters(one.resolved.drafters, trained)
    planner, dims = one.watched.policy.planner(TASKS[0].instruction), one.watched.action_dim
    said = planner.words(drafters, min(one.resolved.draft_depth, dims - 1), dims)
    return f"as where rows are free: {said}" if free_rows else said


def _compare(rows: Sequence[dict[str, Any]]) -> None:
    """Ratios of mean times to that of autoregressive decoding in the same run."""
    plain = next((row["mean_ms"] for row in rows if row["decoder"] == "autoregressive"), None)
    for row in rows:
        row["speedup_over_autoregressive"] = None if plain is None else round(plain / row["mean_ms"], 3)


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
        "mean_ms": round(float(np.mean([result.report.total_ms for result in results])), 3),
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
    faster = row.get("speedup_over_autoregressive")
    return (
        f"{row['preset']:<15} r={row['acceptance_radius']:<3} {'+'.join(row['drafters']) or '-':<20} "
        f"{100 * row['success_rate']:5.1f} % ({100 * low:.1f}-{100 * high:.1f})  "
        f"{row['passes_mean']:.2f} passes, {100 * row['one_pass_share']:.0f} % in one  "
        f"drift {max(row['drift_bins']):.2f} bins  {row['latency_ms']['median']:.1f} ms, mean {row['mean_ms']:.1f}"
        + ("" if faster is None else f" ({faster:.2f}x)")
    )
