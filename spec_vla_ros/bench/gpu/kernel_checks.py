"""Are our own kernels right? Each of them against plain torch on the same device, over inputs of all kinds.

Where no kernel runs (a CPU, no Triton) plain torch is compared with itself, and the rows say so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from spec_vla_ros.bench.decoding.shapes import random_model, vision_head
from spec_vla_ros.decoding.drafters.base import DraftContext, Observation
from spec_vla_ros.decoding.drafters.beams import CLOSE, grown, windows_of
from spec_vla_ros.decoding.drafters.vision import Vision
from spec_vla_ros.decoding.fixed_shapes import TREE_LEVELS
from spec_vla_ros.kernels.kernel import Kernel
from spec_vla_ros.kernels.operators import beam_step, rotary_write, silu_times
from spec_vla_ros.kernels.sizes import WIDEST
from spec_vla_ros.openvla.config import OpenVLAConfig
from spec_vla_ros.openvla.llama import TURNED_CLOSE, KVCache, gated, rope_matrices, rope_tables, turned
from spec_vla_ros.openvla.loader import LoadedModel

Rows = list[dict[str, Any]]

PLAIN = "plain torch"
ENOUGH = 0.98  # of the steps equal: of two guesses that are nearly as good either may be first
ROUNDS = 8  # of every radius, width and number of beams, sharper each time
# Where a window holds nearly all there is, each that does is as good: not with these, nor in the rounds that there are.
RADII, WIDE = (0, 1, 9, 40), 254
ROWS = 352  # of the widest pass
SLOTS = 400  # of a cache
PICTURES = 24
SEED = 11


@torch.inference_mode()
def kernels_against_plain(config: OpenVLAConfig, device: torch.device) -> Rows:
    """Steps of beams with clear guesses and with none, whole drafts of a random head, the gated product, and rotary
    embedding with what is written to a cache.
    """
    loaded = random_model(config, device, "bfloat16")
    head = vision_head(loaded)
    ours, plain = Vision(head, fixed_shapes=True), Vision(head, fixed_shapes=True, fused=False)
    return [
        _row("steps of beams", ours.kernel, *_steps(ours.kernel, head.config.bins, device), ENOUGH),
        _row("steps, odd logits", ours.kernel, *_odd_steps(ours.kernel, head.config.bins, device), 1.0),
        _row("drafts, random weights", ours.kernel, *_drafts(ours, plain, loaded), None),
        _row("gated product", loaded.model.language_model.kernels["silu_times"], *_products(loaded), 1.0),
        _row("rotary and writes", loaded.model.language_model.kernels["rotary_write"], *_rotations(loaded), 1.0),
    ]


def _row(what: str, kernel: Kernel, equal: int, count: int, detail: str, enough: float | None) -> dict[str, Any]:
    ok = None if enough is None else equal >= enough * count
    return {
        "what": what, "ours": "kernel" if kernel.on else PLAIN, "theirs": PLAIN, "count": count, "equal": equal,
        "detail": kernel.problem or detail, "ok": False if kernel.problem else ok,
    }  # fmt: skip


def _steps(kernel: Kernel, bins: int, device: torch.device) -> tuple[int, int, str]:
    equal, count, apart = 0, 0, 0.0
    generator = torch.Generator().manual_seed(SEED)
    for logits, scores, chains, radius, width in _cases(bins, generator, device):
        found, expected = _both(kernel, logits, scores, chains, radius, width)
        same = torch.equal(found[1], expected[1])
        if same and width > 1:
            apart = max(apart, float((found[0] / expected[0] - 1).abs().max()))
        equal, count = equal + (same and apart <= CLOSE), count + 1
    return equal, count, f"scores of the same guesses {apart:.1e} apart"


def _cases(
    bins: int, generator: torch.Generator, device: torch.device
) -> Iterator[tuple[Tensor, Tensor, Tensor, int, int]]:
    for radius in RADII:
        for width in (1, 2, WIDEST):
            for beams in (1, 4, WIDEST) if width > 1 else (1,):
                for sharp in range(ROUNDS):
                    logits = torch.randn(beams, bins, generator=generator) * (0.5 + 0.5 * sharp)
                    scores = torch.rand(beams, generator=generator) + 0.1
                    chains = torch.randint(0, bins, (beams, 1 + sharp % 7), generator=generator)
                    yield logits.to(device), scores.to(device), chains.to(device), radius, width


def _odd_steps(kernel: Kernel, bins: int, device: torch.device) -> tuple[int, int, str]:
    """What has many equally good answers or none: every answer must be chains that go on by a bin."""
    good, count = 0, 0
    for value in (0.0, 1e4, -1e4, float("inf"), float("-inf"), float("nan")):
        for spike in (0.0, 100.0, float("inf"), float("nan")):
            logits = torch.full((WIDEST, bins), value)
            logits[:, bins // 2] += spike
            chains = torch.arange(WIDEST)[:, None].expand(-1, 3).contiguous()
            scores = torch.ones(WIDEST, device=device)
            for radius in (*RADII, WIDE):
                found, _ = _both(kernel, logits.to(device), scores, chains.to(device), radius, WIDEST)
                ends, begins = found[1][:, -1].cpu(), found[1][:, :-1].cpu()
                inside = bool(((ends >= 0) & (ends < bins)).all())
                good += inside and all(any(torch.equal(row, chain) for chain in chains) for row in begins)
                count += 1
    return good, count, "chains go on, by bins that there are"


def _both(
    kernel: Kernel, logits: Tensor, scores: Tensor, chains: Tensor, radius: int, width: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    radii = torch.tensor([radius], device=logits.device)
    within, outside = windows_of(radii, logits.shape[1])[:, 0]
    expected = grown(logits, scores, within, outside, chains, width)
    return beam_step(logits, scores, radii, 0, chains, width) if kernel.on else expected, expected


def _drafts(ours: Vision, plain: Vision, loaded: LoadedModel) -> tuple[int, int, str]:
    device, config = loaded.model.device, ours.head.config
    generator, equal, first = torch.Generator().manual_seed(SEED), 0, 0
    for number in range(PICTURES):
        hidden = torch.randn(1, config.patches + 16, config.hidden, generator=generator).to(device, loaded.model.dtype)
        seen = Observation(hidden[:, : config.patches], hidden[:, config.patches :], hidden)
        radii = (RADII[number % 3],) * (config.action_dim - 1) + (0,)
        depth = min(TREE_LEVELS, config.action_dim - 1)
        proposed = []
        for drafter in (ours, plain):
            drafter.begin(seen)
            proposed.append(drafter.propose(DraftContext(0, depth, WIDEST, radii, loaded.tokens)))
        first += proposed[0][:1] == proposed[1][:1]
        equal += proposed[0] == proposed[1]
    return equal, PICTURES, f"of {first} the likeliest branch is the same"


def _products(loaded: LoadedModel) -> tuple[int, int, str]:
    """Numbers of the widest pass's shape that are the same or as near as the type has any."""
    device, dtype, width = loaded.model.device, loaded.model.dtype, loaded.config.llama.intermediate_size
    both = (3 * torch.randn(ROWS, 2 * width, generator=torch.Generator().manual_seed(SEED))).to(device, dtype)
    expected = gated(both)
    found = silu_times(both) if loaded.model.language_model.kernels["silu_times"].on else expected
    near = torch.isclose(found.float(), expected.float(), rtol=2 * torch.finfo(dtype).eps, atol=0.0)
    return int(near.sum()), near.numel(), f"{int((found == expected).sum())} bit for bit"


def _rotations(loaded: LoadedModel) -> tuple[int, int, str]:
    """The same of queries of the widest pass and of the whole cache that its keys and values went to: from a slot on,
    then to slots that lie anywhere.
    """
    device, dtype, config = loaded.model.device, loaded.model.dtype, loaded.config.llama
    generator, positions = torch.Generator().manual_seed(SEED), torch.arange(ROWS, device=device)
    parts = torch.randn(3, 1, config.num_attention_heads, ROWS, config.head_dim, generator=generator).to(device, dtype)
    near, count, same = 0, 0, 0
    for at in (SLOTS - ROWS, torch.randperm(SLOTS, generator=generator)[:ROWS].to(device)):
        ours, theirs = (KVCache(replace(config, num_hidden_layers=1), SLOTS, device, dtype) for _ in range(2))
        q, k, v = turned(parts, rope_matrices(config, positions, dtype))
        theirs.write(0, at, k, v, SLOTS)
        found = expected = torch.cat([q.flatten(), theirs.data.flatten()])
        if loaded.model.language_model.kernels["rotary_write"].on:
            rows, tables = parts.permute(1, 3, 0, 2, 4).reshape(1, ROWS, -1), rope_tables(config, positions, dtype)
            found = rotary_write(rows, *tables, ours.data[0], at)
            found = torch.cat([found.flatten(), ours.data.flatten()])
        close = torch.isclose(found.float(), expected.float(), rtol=2 * torch.finfo(dtype).eps, atol=TURNED_CLOSE)
        near, count, same = near + int(close.sum()), count + close.numel(), same + int((found == expected).sum())
    return near, count, f"{same} bit for bit"
