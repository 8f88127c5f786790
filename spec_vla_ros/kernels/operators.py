"""Operators of torch of our own, each of them one kernel of a GPU where torch has many.

They run on CUDA. On tensors without memory ("meta") they have shapes, so that what a GPU would be asked can be counted
without one, and so that ``torch.compile`` may see them. Elsewhere plain torch does the same; :mod:`.kernel` decides.
Triton is imported when the first of them runs. None of them can be trained through.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .sizes import MODES, SMALLEST_HEAD, WIDEST

NAMESPACE = "spec_vla_ros"  # of torch.ops

_library = torch.library.Library(NAMESPACE, "DEF")
_library.define(
    "beam_step(Tensor logits, Tensor scores, Tensor radii, int dimension, Tensor chains, int width) -> (Tensor, Tensor)"
)
_library.define(
    "rotary_write(Tensor qkv, Tensor cos, Tensor sin, Tensor(a!) cache, Tensor? slots, int start) -> Tensor"
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


def rotary_write(qkv: Tensor, cos: Tensor, sin: Tensor, cache: Tensor, at: int | Tensor) -> Tensor:
    """Queries (1, heads, N, head_dim), turned by their positions; keys, turned as well, and values go to ``cache``.

    ``qkv`` (1, N, 3 * heads * head_dim): queries, keys and values of a row side by side. ``cos``, ``sin``
    (..., N, head_dim): tables of the rows' positions, whose halves are equal. ``cache`` (2, 1, heads, slots, head_dim):
    keys and values of one layer. All of one type; turned in float32 and rounded once. ``at``: the first slot, or the
    slots (N,) of the rows, long and on the device, because recordings read them there; rows whose slot there is not are
    not kept. Raises ``ValueError`` for what does not go together, and for heads that are not :func:`turnable`.
    """
    slots, start = (None, at) if isinstance(at, int) else (at, 0)
    return torch.ops.spec_vla_ros.rotary_write(qkv, cos, sin, cache, slots, start)


def turnable(head_dim: int) -> bool:
    """Whether :func:`rotary_write` knows heads of this size: powers of two, so that whatever begins at a head begins at
    a multiple of 16 bytes.
    """
    return head_dim >= SMALLEST_HEAD and head_dim & (head_dim - 1) == 0


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


def _rotary_write(qkv: Tensor, cos: Tensor, sin: Tensor, cache: Tensor, slots: Tensor | None, start: int) -> Tensor:
    from .rotary import launch

    out = _empty_queries(qkv, cos, sin, cache, slots, start)
    launch(qkv, cos, sin, cache, slots, start, out)
    return out


def _empty_queries(qkv: Tensor, cos: Tensor, sin: Tensor, cache: Tensor, slots: Tensor | None, start: int) -> Tensor:
    _, rows, width = qkv.shape
    _, _, heads, room, size = cache.shape
    together = (
        (len(qkv), width) == (1, 3 * heads * size)
        and cache.shape[:2] == (2, 1)
        and cos.shape[-2:] == sin.shape[-2:] == (rows, size)
        and cos.numel() == sin.numel() == rows * size
        and {tensor.dtype for tensor in (cos, sin, cache)} == {qkv.dtype}
    )
    # A cache that does not lie in one piece could only be written to as a copy.
    if not together or not turnable(size) or not cache.is_contiguous():
        shapes = ", ".join(f"{tuple(tensor.shape)} {tensor.dtype}" for tensor in (qkv, cos, sin, cache))
        raise ValueError(f"rows, cosines, sines and a cache that do not go together: {shapes}")
    if slots is None and not 0 <= start <= room - rows:
        raise ValueError(f"{rows} rows from slot {start} on, of {room}")
    if slots is not None and (slots.shape != (rows,) or slots.dtype != torch.long):
        raise ValueError(f"slots {tuple(slots.shape)} {slots.dtype} of {rows} rows")
    return qkv.new_empty(1, rows, heads, size).transpose(1, 2)


def _silu_times(both: Tensor) -> Tensor:
    from .gated import launch

    out = _empty_product(both)
    launch(both, out)
    return out


def _empty_product(both: Tensor) -> Tensor:
    return both.new_empty(*both.shape[:-1], both.shape[-1] // 2)


for _name, _run, _shape in (
    ("beam_step", _beam_step, _empty_step), ("rotary_write", _rotary_write, _empty_queries),
    ("silu_times", _silu_times, _empty_product),
):  # fmt: skip
    _library.impl(_name, _run, "CUDA")
    _library.impl(_name, _shape, "Meta")
