"""Operators of torch of our own, each of them one kernel of a GPU where torch has many.

They run on CUDA. On tensors without memory ("meta") they have shapes, so that what a GPU would be asked can be counted
without one, and so that ``torch.compile`` may see them. Elsewhere plain torch does the same; :mod:`.kernel` decides.
Triton is imported when the first of them runs. None of them can be trained through.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .sizes import MODES, WIDEST

NAMESPACE = "spec_vla_ros"  # of torch.ops

_library = torch.library.Library(NAMESPACE, "DEF")
_library.define(
    "beam_step(Tensor logits, Tensor scores, Tensor radii, int dimension, Tensor chains, int width) -> (Tensor, Tensor)"
)
_library.define("silu_times(Tensor both) -> Tensor")


def beam_step(
    logits: Tensor, scores: Tensor, radii: Tensor, dimension: int, chains: Tensor, width: int
) -> tuple[Tensor, Tensor]:
    """The best ``width`` continuations of beams, the likeliest first: scores (W,) float32 and chains (W, t + 2).

    ``logits`` (B, bins) of ``dimension``; ``scores`` (B,) float32 of ``chains`` (B, t + 1) long; ``radii`` (A,) long,
    on the device, because recordings read them there. Each beam branches into up to ``MODES`` guesses that are no
    nearer to each other than the radius forgives, or into one where ``width`` is 1; W is ``width``, or what there is.
    B and ``width`` are at most ``WIDEST``.
    """
    return torch.ops.spec_vla_ros.beam_step(logits, scores, radii, dimension, chains, width)


def silu_times(both: Tensor) -> Tensor:
    """SiLU of the first half of each row of ``both`` (..., 2 C) times the second, (..., C); SiLU is rounded first."""
    return torch.ops.spec_vla_ros.silu_times(both)


def _beam_step(
    logits: Tensor, scores: Tensor, radii: Tensor, dimension: int, chains: Tensor, width: int
) -> tuple[Tensor, Tensor]:
    from .beams import launch

    new = _empty_step(logits, scores, radii, dimension, chains, width)
    launch(logits, scores, radii, dimension, chains, min(width, MODES), *new)
    return new


def _empty_step(
    logits: Tensor, scores: Tensor, radii: Tensor, dimension: int, chains: Tensor, width: int
) -> tuple[Tensor, Tensor]:
    beams, length = chains.shape
    if not 1 <= beams == len(logits) <= WIDEST or not 1 <= width <= WIDEST:
        raise ValueError(f"a step of {len(logits)} beams, {beams} chains and {width} branches; there may be {WIDEST}")
    count = min(width, beams * min(width, MODES))
    return scores.new_empty(count), chains.new_empty(count, length + 1)


def _silu_times(both: Tensor) -> Tensor:
    from .gated import launch

    out = _empty_product(both)
    launch(both, out)
    return out


def _empty_product(both: Tensor) -> Tensor:
    return both.new_empty(*both.shape[:-1], both.shape[-1] // 2)


for _name, _run, _shape in (
    ("beam_step", _beam_step, _empty_step), ("silu_times", _silu_times, _empty_product),
):  # fmt: skip
    _library.impl(_name, _run, "CUDA")
    _library.impl(_name, _shape, "Meta")
