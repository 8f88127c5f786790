"""Passes that recorded actions would take: the product's policy, drafters, tree and acceptance, without the model.

The policy is :class:`.policy.OpenVLAPolicy` itself, on a random model of a few thousand weights that nobody asks: what
verifies drafts is a stub that says what was recorded (:mod:`.stub_verifier`). History, drafters and settings are thus
handled by the code that drives an arm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spec_vla_ros.decoding.costs import PassCosts
from spec_vla_ros.decoding.drafters import TRAINED
from spec_vla_ros.decoding.drafters.habits import Habits
from spec_vla_ros.decoding.planner import Planner
from spec_vla_ros.decoding.presets import CUSTOM, PRESETS, resolve
from spec_vla_ros.figures import histogram
from spec_vla_ros.openvla.action_tokens import ActionTokens, choose_statistics
from spec_vla_ros.openvla.example import (
    EXAMPLE_INSTRUCTIONS,
    TEXT_VOCAB,
    example_config,
    example_model,
    example_statistics,
)
from spec_vla_ros.openvla.image import ImageTransform
from spec_vla_ros.openvla.loader import LoadedModel
from spec_vla_ros.openvla.prompt import Prompt
from spec_vla_ros.openvla.tokenizer_small import build_small_tokenizer
from spec_vla_ros.policy import OpenVLAPolicy
from spec_vla_ros.policy_types import DecodeSettings, PolicyResult

from .stream_tokens import TOKENS, Stream
from .stub_verifier import RecordedVerifier, TippedVerifier

PADDING = 64  # of the published vocabulary
INSTRUCTION = EXAMPLE_INSTRUCTIONS[0]
FIRST_STEPS = 3  # of an episode, whose passes are given apart: drafters have little to go on


@dataclass(frozen=True)
class Case:
    """What is measured: ``settings``, called ``preset``."""

    preset: str
    settings: DecodeSettings


def cases(
    presets: Iterable[str], lists: Iterable[Sequence[str]], radii: Iterable[int], width: int | None = None
) -> list[Case]:
    """Every preset and every list of drafters at every radius; ``width``: branches, in place of the preset's.

    Presets that need a trained head cannot be measured here and are left out; see :func:`need_heads`.
    """
    radii = list(radii)
    found = []
    for preset in presets:
        if need_heads([preset]):
            continue
        exact = PRESETS[preset].decoder == "autoregressive"
        for radius in [0] if exact else radii:
            settings = DecodeSettings(preset=preset, acceptance_radius=radius)
            if width is not None and not exact:
                settings = replace(resolve(settings, ()), preset=CUSTOM, draft_width=width)
            found.append(Case(preset, settings))
    more = {} if width is None else {"draft_width": width}
    for names in lists:
        found += [
            Case(CUSTOM, DecodeSettings(drafters=tuple(names), acceptance_radius=radius, **more)) for radius in radii
        ]
    return found


def need_heads(presets: Iterable[str]) -> list[str]:
    """Those of ``presets`` that draft with a trained head."""
    return [preset for preset in presets if set(PRESETS[preset].drafters) & set(TRAINED)]


def measure(
    streams: Sequence[Stream], todo: Sequence[Case], tip: float, say: Callable[[str], None], keep: bool = True
) -> list[dict[str, Any]]:
    """One row per stream, case and stub; ``tip``: probability of :class:`.stub_verifier.TippedVerifier`, 0 = not.

    ``keep``: whether what was said in earlier episodes of the stream is drafted from, as the node does.
    """
    rows = []
    for stream in streams:
        say(stream.words())
        stubs = [RecordedVerifier(TOKENS)]
        if tip:
            stubs.append(TippedVerifier(TOKENS, np.concatenate(stream.episodes), tip))
        loaded = _unasked_model(stream.action_dim)
        for case in todo:
            for stub in stubs:
                began = time.monotonic()
                habits = Habits(stream.action_dim, TOKENS.bins) if keep else None
                policy = OpenVLAPolicy(loaded, verifier=stub, planner=Planner(PassCosts.free()), habits=habits)
                results = play(policy, stub, stream, case.settings)
                rows.append(row(stream, case, stub, results) | {"habits": keep})
                say(f"{line(rows[-1])}   {time.monotonic() - began:.0f} s")
    return rows


def play(
    policy: OpenVLAPolicy, stub: RecordedVerifier, stream: Stream, settings: DecodeSettings
) -> list[list[PolicyResult]]:
    """What decoding makes of each action of each episode; drafts may be as deep as the action."""
    settings = replace(settings, draft_depth=max(settings.draft_depth, stream.action_dim - 1))
    size = policy.loaded.config.image_size
    grey, played = np.full((size, size, 3), 128, np.uint8), []
    for number, episode in enumerate(stream.episodes):
        policy.reset()
        played.append([])
        for step, action in enumerate(episode):
            stub.expect(action.tolist(), number, step)
            played[-1].append(policy.infer(grey, INSTRUCTION, settings))
    return played


def row(stream: Stream, case: Case, stub: RecordedVerifier, played: Sequence[Sequence[PolicyResult]]) -> dict[str, Any]:
    """The figures of one case."""
    results = [result for episode in played for result in episode]
    reports = [result.report for result in results]
    passes = np.array([report.verifier_passes for report in reports])
    recorded = np.concatenate(stream.episodes)
    drift = np.abs(np.stack([result.bins for result in results]) - TOKENS.to_bins(recorded))
    accepted = np.array([[source != "verifier" for source in report.token_source] for report in reports])
    return {
        "stream": stream.path,
        "preset": case.preset,
        "decoder": reports[0].decoder,
        "drafters": list(reports[0].drafters),
        "draft_width": reports[0].draft_width,
        "acceptance_radius": case.settings.acceptance_radius,
        "radius_per_dimension": list(reports[0].tolerance.bins),
        "rate_hz": stream.rate_hz,
        "recorded_rate_hz": stream.recorded_rate_hz,
        "stub": stub.stub,
        "assumption": stub.assumption,
        "episodes": len(played),
        "actions": len(results),
        "passes_mean": round(float(passes.mean()), 4),
        "passes_histogram": histogram(passes.tolist()),
        "one_pass_share": round(float((passes == 1).mean()), 4),
        "passes_by_step": _by_step(played),
        "accepted_per_position": [round(float(share), 4) for share in accepted.mean(0)],
        "accepted_first_pass": round(float(np.mean([report.accepted_per_pass[0] for report in reports])), 3),
        "drafted_rows_first_pass": round(float(np.mean([report.drafted_per_pass[0] for report in reports])), 2),
        "equal_to_recorded": int((drift == 0).all(1).sum()),
        "drift_bins": [round(float(bins), 3) for bins in drift.mean(0)],
        **stream.facts(),
    }


def _by_step(played: Sequence[Sequence[PolicyResult]]) -> dict[str, float | None]:
    """Mean passes of the first actions of episodes, one by one, and of all later ones."""
    by_step = [[result.report.verifier_passes for result in episode] for episode in played]
    places = {str(step): [passes[step] for passes in by_step if len(passes) > step] for step in range(FIRST_STEPS)}
    places["later"] = [count for passes in by_step for count in passes[FIRST_STEPS:]]
    return {name: round(float(np.mean(counts)), 4) if counts else None for name, counts in places.items()}


def line(figures: dict[str, Any]) -> str:
    """One row for people."""
    rate = "? Hz" if figures["rate_hz"] is None else f"{figures['rate_hz']:.3g} Hz"
    return (
        f"  {rate:>8}  {figures['preset']:<14} r={figures['acceptance_radius']:<3} {figures['stub']:<8} "
        f"{'+'.join(figures['drafters']) or '-':<20} {figures['passes_mean']:.2f} passes, "
        f"{100 * figures['one_pass_share']:3.0f} % in one  {figures['drafted_rows_first_pass']:4.1f} rows at first  "
        f"drift {max(figures['drift_bins']):.2f} bins"
    )


def _unasked_model(action_dim: int) -> LoadedModel:
    """A model for the policy to hold: the vocabulary of the published ones, and hardly anything else."""
    config = example_config(width=8, layers=1, towers=1, image_size=14, vocab_size=TOKENS.vocab_end + PADDING)
    tokenizer = build_small_tokenizer(EXAMPLE_INSTRUCTIONS, TEXT_VOCAB)
    return LoadedModel(
        model=example_model(config),
        config=config,
        transform=ImageTransform(config),
        prompt=Prompt(tokenizer, TEXT_VOCAB, config.llm_backbone_id),  # not the published tokenizer, of that size
        tokens=ActionTokens(config.action_vocab_end, config.n_action_bins),
        statistics=choose_statistics(example_statistics(action_dim), None),
        source="recorded actions",
    )
