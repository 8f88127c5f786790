"""What a precision costs in accuracy: the table top in closed loop, every action compared with bfloat16 on its image.

The arithmetic is that of the device, computed on the CPU: the same rounding of weights and rows, the same scales. Times
of it say nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from spec_vla_ros.figures import wilson_interval
from spec_vla_ros.openvla.loader import LoadedModel, load_model
from spec_vla_ros.openvla.precisions import QUANTISED
from spec_vla_ros.openvla.quantize import QuantisedLinear, quantise_layers
from spec_vla_ros.policy import OpenVLAPolicy
from spec_vla_ros.policy_types import DecodeSettings, PolicyResult
from spec_vla_ros.tabletop.tasks import TASKS
from spec_vla_ros.tabletop.training.rollout import EVALUATION_SEED, Episode, evaluate

from .nvfp4 import Nvfp4

REFERENCE = DecodeSettings(preset="autoregressive")
KINDS: dict[str, type[QuantisedLinear]] = {**QUANTISED, "nvfp4": Nvfp4}
TOLD_EVERY = 60.0  # s between two words on how far it is
BIN, POINT = 1.0, 0.01  # what is too much: bins on average, success


class Compared:
    """A policy, its model in one precision, and what bfloat16 says of the same images.

    Per step: ``forced`` (A,) bins between the tokens of both models after the same prefix, which is bfloat16's own;
    ``alone`` (A,) between the two actions, each decoded in its own way. ``strays``: tokens that were no action.
    """

    def __init__(self, policy: OpenVLAPolicy, reference: OpenVLAPolicy) -> None:
        self.policy, self.reference, self.action_dim = policy, reference, policy.action_dim
        self.forced: list[np.ndarray] = []
        self.alone: list[np.ndarray] = []
        self.equal: list[np.ndarray] = []
        self.strays = 0

    def infer(self, image: np.ndarray, instruction: str, settings: DecodeSettings) -> PolicyResult:
        """The policy's action."""
        result = self.policy.infer(image, instruction, settings)
        said = self.reference.infer(image, instruction, REFERENCE)
        self.alone.append(np.abs(result.bins - said.bins))
        tokens, strays = forced_tokens(self.policy.loaded, image, instruction, said.tokens)
        self.strays += strays
        self.equal.append(tokens == said.tokens)
        self.forced.append(np.abs(self.policy.loaded.tokens.to_bins(tokens) - said.bins))
        return result

    def reset(self) -> None:
        """Of the policy."""
        self.policy.reset()

    def describe(self) -> dict[str, str]:
        """Of the policy."""
        return self.policy.describe()


@torch.inference_mode()
def forced_tokens(
    loaded: LoadedModel, image: np.ndarray, instruction: str, tokens: np.ndarray
) -> tuple[np.ndarray, int]:
    """(A,) what ``loaded`` would say in the place of each of ``tokens`` after those before it, nearest to what it says
    among action tokens; and how often that was no action token.
    """
    ids = [*loaded.prompt.ids(instruction), *(int(token) for token in tokens[:-1])]
    pixels = loaded.transform(image)[None].to(loaded.model.device)
    logits = loaded.model(pixels, torch.tensor([ids], device=loaded.model.device))[0, -len(tokens) :]
    first, end = loaded.tokens.first, loaded.tokens.vocab_end
    said = logits[:, first:end].argmax(1) + first
    return said.cpu().numpy(), int((logits.argmax(1) != said).sum())


@torch.no_grad()
def requantise(loaded: LoadedModel, kind: type[QuantisedLinear]) -> None:
    """Quantise a loaded model's layers where they are, whatever the device says of it: what loading does, emulated."""
    language_model = loaded.model.language_model
    layers = language_model.model.layers
    weights = {name: m.weight for name, m in layers.named_modules() if isinstance(m, nn.Linear)}
    for name, part in quantise_layers(language_model, kind, loaded.model.dtype).items():
        part.fill(weights[name])


def measure(
    model: Path | str,
    precisions: Sequence[str],
    settings: DecodeSettings,
    episodes: int,
    say: Callable[[str], None],
    heads: Path | None = None,
    base_model: str = "",
    first_seed: int = EVALUATION_SEED,
) -> list[dict[str, Any]]:
    """One row per precision, all over the same episodes."""
    from spec_vla_ros.decoding.costs import PassCosts
    from spec_vla_ros.decoding.heads.store import heads_folder, trained_drafters
    from spec_vla_ros.decoding.planner import Planner
    from spec_vla_ros.decoding.presets import resolve

    plain = load_model(model, "cpu", torch.bfloat16, base_model=base_model)
    reference = OpenVLAPolicy(plain)
    rows: list[dict[str, Any]] = []
    for precision in precisions:
        loaded = load_model(model, "cpu", torch.bfloat16, base_model=base_model)
        if precision in KINDS:
            requantise(loaded, KINDS[precision])
        trained, problems = trained_drafters(loaded, heads_folder(loaded, heads or ""))
        for problem in problems if not rows else ():
            say(f"warning: {problem}")
        resolved = resolve(settings, trained)
        if resolved.preset != settings.preset:
            say(f"{settings.preset} needs a head that is not there; {resolved.preset} instead")
        # Times of an emulation must not decide which tree is drafted.
        compared = Compared(OpenVLAPolicy(loaded, trained, planner=Planner(PassCosts.free())), reference)
        done: list[Episode] = []
        told = time.monotonic()
        for first in range(0, episodes, len(TASKS)):
            done += evaluate(compared, resolved, min(len(TASKS), episodes - first), first_seed + first)
            if time.monotonic() - told > TOLD_EVERY:
                told = time.monotonic()
                say(f"{precision}: {len(done)} of {episodes} episodes")
        rows.append(row(precision, resolved, done, compared))
        say(line(rows[-1], next((r for r in rows if r["precision"] == "bfloat16"), None)))
    return rows


def row(precision: str, settings: DecodeSettings, done: Sequence[Episode], compared: Compared) -> dict[str, Any]:
    """The figures of one precision."""
    forced, alone, equal = np.array(compared.forced), np.array(compared.alone), np.array(compared.equal)
    results = [result for episode in done for result in episode.results]
    wins = sum(episode.success for episode in done)
    return {
        "precision": precision,
        "emulated": precision in KINDS,
        "preset": settings.preset,
        "acceptance_radius": settings.acceptance_radius if settings.decoder == "speculative" else 0,
        "episodes": len(done),
        "success_rate": wins / len(done),
        "success_interval": wilson_interval(wins, len(done)),
        "actions": len(results),
        "passes_mean": round(float(np.mean([result.report.verifier_passes for result in results])), 4),
        "equal_tokens": round(float(equal.mean()), 5),
        "equal_actions": round(float(equal.all(1).mean()), 5),
        "no_action_tokens": compared.strays,
        "drift_bins": _spread(forced[:, :-1]),
        "gripper_differences": int((forced[:, -1] > 0).sum()),
        "drift_bins_as_decoded": _spread(alone[:, :-1]),
        "gripper_differences_as_decoded": int((alone[:, -1] > 0).sum()),
    }


def _spread(bins: np.ndarray) -> dict[str, Any]:
    return {
        "mean": round(float(bins.mean()), 4),
        "p99": round(float(np.percentile(bins, 99)), 2),
        "max": int(bins.max()),
        "mean_by_dimension": [round(float(v), 4) for v in bins.mean(0)],
    }


def too_much(row: dict[str, Any], plain: dict[str, Any] | None) -> list[str]:
    """What a row costs beyond a bin on average and, where bfloat16 drove the same episodes, a point of success."""
    found = []
    if row["drift_bins"]["mean"] > BIN:
        found.append("more than a bin on average")
    if plain is not None and plain["success_rate"] - row["success_rate"] > POINT + 1e-9:
        found.append("more than a point of success")
    return found


def line(row: dict[str, Any], plain: dict[str, Any] | None) -> str:
    """One row for people."""
    low, high = row["success_interval"]
    drift, costs = row["drift_bins"], too_much(row, plain)
    return (
        f"{row['precision']:<13} {100 * row['success_rate']:5.1f} % ({100 * low:.1f}-{100 * high:.1f}) of "
        f"{row['episodes']}  {row['passes_mean']:.2f} passes  {100 * row['equal_tokens']:.2f} % of tokens equal  drift "
        f"{drift['mean']:.3f} bins, p99 {drift['p99']:.0f}, at most {drift['max']}  gripper differs in "
        f"{row['gripper_differences']} of {row['actions']}" + (f"  COSTS {' and '.join(costs)}" if costs else "")
    )
