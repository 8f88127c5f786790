"""One step of the vision head's beams as one kernel: from logits of a dimension to the chains that go on.

What it computes is that of :func:`spec_vla_ros.decoding.drafters.beams.grown`, in one block of threads. Probabilities
become whole numbers of which 2**62 are one: sums of those are exact in any order, so that the mass of a window is a
difference of two prefix sums, and where two windows hold the same the lower bin is taken, always. What is less likely
than 2**-62 counts as nothing.

Triton reads the source of this function, with its annotations as they are; importing this file needs Triton.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .sizes import MODES, WIDEST

ONE = tl.constexpr(2.0**62)
WARPS = 8  # of the one block of threads
ROW = 16  # bins of a chain that are copied at once, at least


# Every number here changes from step to step or from shape to shape: a variant for those that are 1 or divisible by 16
# would be compiled when it is met, with an arm waiting. So would one for radii that lie at a multiple of 16 bytes or
# not, which depends on how many dimensions an action has.
@triton.jit(do_not_specialize=["radii", "beams", "bins", "dimension", "length", "modes", "width"])
def beam_step(
    logits, scores, radii, chains, new_scores, new_chains, beams, bins, dimension, length, modes, width,
    rows: tl.constexpr, columns: tl.constexpr, guesses: tl.constexpr, cells: tl.constexpr,
):  # fmt: skip
    """Pointers and numbers as :func:`launch` gives them; room for ``rows`` beams of ``columns`` bins, ``guesses`` of
    each, and ``cells`` of a chain. ``width`` is no more than ``beams`` x ``modes``.
    """
    beam, column, mode = tl.arange(0, rows), tl.arange(0, columns), tl.arange(0, guesses)
    there = (beam < beams)[:, None] & (column < bins)[None, :]
    logit = tl.load(logits + beam[:, None] * bins + column[None, :], mask=there, other=float("-inf")).to(tl.float32)
    weight = tl.exp(logit - tl.max(logit, axis=1)[:, None])
    probability = weight / tl.sum(weight, axis=1)[:, None]
    # Of logits that are no numbers nothing follows. The comparison is false for what is no number, and for rows that
    # are not there.
    left = (tl.where(there & (probability > 0.0), probability, 0.0) * ONE).to(tl.int64)
    score = tl.load(scores + beam, mask=beam < beams, other=0.0)
    score = tl.where(score > 0.0, score, 0.0)

    radius = tl.load(radii + dimension).to(tl.int32)
    zero = tl.zeros([rows, columns], dtype=tl.int32)
    first = tl.maximum(column - radius, 0)[None, :] + zero
    last = tl.minimum(column + radius, bins - 1)[None, :] + zero
    totals = tl.full([rows, guesses], -1.0, dtype=tl.float32)
    bests = tl.zeros([rows, guesses], dtype=tl.int32)
    for place in range(modes):
        before = tl.cumsum(left, axis=1)
        mass = tl.gather(before, last, 1) - tl.gather(before - left, first, 1)
        most, best = tl.max(tl.where(there, mass, -1), axis=1, return_indices=True, return_indices_tie_break_left=True)
        here = (beam < beams)[:, None] & (mode == place)[None, :]
        totals = tl.where(here, (score * (most.to(tl.float32) / ONE))[:, None], totals)
        bests = tl.where(here, best[:, None], bests)
        left = tl.where(tl.abs(column[None, :] - best[:, None]) <= radius, 0, left)

    totals, bests = tl.reshape(totals, [rows * guesses]), tl.reshape(bests, [rows * guesses])
    candidate, cell = tl.arange(0, rows * guesses), tl.arange(0, cells)
    for place in range(width):
        most, best = tl.max(totals, axis=0, return_indices=True, return_indices_tie_break_left=True)
        guess = tl.sum(tl.where(candidate == best, bests, 0), axis=0)
        chain = tl.load(chains + (best // guesses) * length + cell, mask=cell < length, other=0)
        chain = tl.where(cell == length, guess.to(tl.int64), chain)
        tl.store(new_chains + place * (length + 1) + cell, chain, mask=cell <= length)
        tl.store(new_scores + place, most)
        totals = tl.where(candidate == best, -1.0, totals)


def launch(
    logits: Tensor, scores: Tensor, radii: Tensor, dimension: int, chains: Tensor, modes: int, new_scores: Tensor,
    new_chains: Tensor,
) -> None:  # fmt: skip
    """Write ``new_scores`` (W,) and ``new_chains`` (W, t + 2); see :func:`.operators.beam_step`."""
    (beams, bins), length = logits.shape, chains.shape[1]
    with torch.cuda.device_of(logits):
        beam_step[(1,)](
            logits.contiguous(), scores, radii, chains.contiguous(), new_scores, new_chains,
            beams, bins, dimension, length, modes, len(new_scores),
            rows=WIDEST, columns=triton.next_power_of_2(bins), guesses=MODES,
            cells=max(ROW, triton.next_power_of_2(length + 1)), num_warps=WARPS,
        )  # fmt: skip
