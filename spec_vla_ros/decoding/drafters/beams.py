"""One step of the vision head's beams in plain torch, and the trial of the kernel that does the same at once."""

from __future__ import annotations

import torch
from torch import Tensor

from spec_vla_ros.kernels.operators import beam_step
from spec_vla_ros.kernels.sizes import MODES, WIDEST

TRIAL_RADII = (3, 0, 9)
CLOSE = 1e-3  # of a score: exponentials of a GPU are not those of another library


def grown(
    logits: Tensor, scores: Tensor, within: Tensor, outside: Tensor, chains: Tensor, width: int, in_order: bool = True
) -> tuple[Tensor, Tensor]:
    """What :func:`.kernels.operators.beam_step` says, in plain torch, of any width; ``within``, ``outside``: of the
    dimension, see :func:`windows_of`. Of one branch the scores mean nothing.
    """
    probability = logits.float().softmax(-1)
    if width == 1:  # nothing is compared with anything
        best = (probability @ within).argmax(-1, keepdim=True)
        return scores, torch.cat([chains, best], dim=1)
    bins, total = modes(probability, within, outside, min(width, MODES))
    scores, best = (scores[:, None] * total).flatten().topk(min(width, total.numel()), sorted=in_order)
    grown = torch.cat([chains[:, None].expand(-1, bins.shape[1], -1), bins[..., None]], dim=-1)
    return scores, grown.flatten(0, 1).index_select(0, best)


def windows_of(radii: Tensor, bins: int) -> Tensor:
    """(2, A, bins, bins) float32 for ``radii`` (A,): 1 for pairs of bins within the radius, then 1 for all others."""
    columns = torch.arange(bins, device=radii.device)
    within = (columns[:, None] - columns).abs() <= radii[:, None, None]
    return torch.stack([within, ~within]).float()


def modes(probability: Tensor, within: Tensor, outside: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` best distinct guesses of each row of ``probability`` (B, bins): bins and their mass, (B, count).

    Mass is the probability ``within`` the radius (bins, bins; see :func:`windows_of`). Guesses after the first lie
    ``outside`` the windows of those before.
    """
    bins = probability.new_empty(len(probability), count, dtype=torch.long)
    masses, left = torch.empty_like(bins, dtype=probability.dtype), probability
    for place in range(count):
        here = slice(place, place + 1)
        torch.max(left @ within, -1, keepdim=True, out=(masses[:, here], bins[:, here]))
        if place < count - 1:
            left = left * outside.index_select(0, bins[:, place])
    return bins, masses


def try_kernel(bins: int, device: torch.device, dtype: torch.dtype) -> None:
    """Draft with the kernel and with plain torch. Raises ``RuntimeError`` where they differ, and what a compiler does.

    Bins and type are those of the head, so that what is compiled here is what drafting will ask for.
    """
    radii = torch.tensor(TRIAL_RADII, device=device)
    within, outside = windows_of(radii, bins)
    for width in (1, WIDEST):
        scores, chains = torch.ones(1, device=device), torch.full((1, 1), bins, device=device)
        for dimension in range(len(TRIAL_RADII)):
            logits = clear_logits(len(chains), dimension, bins, TRIAL_RADII[dimension]).to(device, dtype)
            expected = grown(logits, scores, within[dimension], outside[dimension], chains, width)
            found = beam_step(logits, scores, radii, dimension, chains, width)
            close = width == 1 or torch.allclose(found[0], expected[0], rtol=CLOSE)
            if not close or not torch.equal(found[1], expected[1]):
                raise RuntimeError(f"step {dimension} of {width} branches is not what plain torch says")
            scores, chains = found


def clear_logits(beams: int, dimension: int, bins: int, radius: int) -> Tensor:
    """(beams, bins) with four peaks each, apart, of different heights, and so wide that a window beside one holds less:
    honest ties would say nothing of a kernel.
    """
    beam, peak = torch.arange(beams)[:, None], torch.arange(4)
    places = bins * (1 + 2 * peak) // 8 + beam  # (beams, 4)
    heights = 8 - (0.4 - 0.11 * dimension + 0.013 * beam) * peak
    slopes = 2 / (radius + 1) * (torch.arange(bins) - places[..., None]).abs()  # (beams, 4, bins)
    return (heights[..., None] - slopes).amax(1)
