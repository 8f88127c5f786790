"""Draft from what the camera shows, before the verifier has looked at it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from spec_vla_ros.decoding.heads.vision_head import NO_ACTION, VisionHead

from .base import DraftContext, Drafter, Observation

MODES = 4  # distinct guesses of one dimension that a beam may branch into


class Vision(Drafter):
    """Branches of a trained :class:`VisionHead`.

    Candidates of a dimension are distinct modes, spaced by the acceptance radius: the best bin counts with the
    probability of everything that would be accepted in its place, then that window is out of the race. A tree of
    neighbouring bins would spend its rows on what relaxed acceptance forgives anyway. Branches are beams over these.
    After a partial hit it continues from the tokens that were emitted.
    """

    name: ClassVar[str] = "vision"

    def __init__(self, head: VisionHead) -> None:
        self.head = head
        self._memory = None
        self._observation: Observation | None = None

    def begin(self, observation: Observation | None) -> None:
        """Remember the image; it is encoded when the first draft is asked for."""
        self._observation, self._memory = observation, None

    @torch.inference_mode()
    def propose(self, context: DraftContext) -> Sequence[Sequence[int]]:
        """Up to ``context.width`` branches, the likeliest first; nothing where there is no image."""
        if self._observation is None:
            return []
        if self._memory is None:
            self._memory = self._encode(self._observation, context)
        head = self.head
        start = head.config.bins
        device = self._memory[0][0].device
        before, past = torch.tensor([start], device=device), None
        for dimension, token in enumerate(context.emitted):
            _, past = head.step(self._memory, before, dimension, past)
            before = torch.from_numpy(context.tokens.to_bins([token])).to(device)
        score = torch.zeros(1, device=device)
        chains = torch.zeros(1, 0, dtype=torch.long, device=device)
        for dimension in range(context.first, context.first + context.count):
            log_p, past = head.step(self._memory, before, dimension, past)
            bins, mass = modes(log_p.exp(), context.radii[dimension], min(context.width, MODES))  # [beams, modes]
            total = (score[:, None] + mass.clamp_min(1e-9).log()).flatten()
            score, best = total.topk(min(context.width, len(total)))
            beam = best // bins.shape[1]
            before = bins.flatten()[best]
            chains = torch.cat([chains[beam], before[:, None]], dim=1)
            past = [(k[beam], v[beam]) for k, v in past]
        return context.tokens.to_ids(chains.cpu().numpy()).tolist()

    def _encode(self, observation: Observation, context: DraftContext) -> list:
        config = self.head.config
        last = torch.full((1, config.action_dim), NO_ACTION)
        if context.history:
            last = torch.from_numpy(context.tokens.to_bins(context.history[-1]))[None]
        patches = observation.patches.to(self.head.out.weight.dtype)
        text = observation.text[:, 1:][:, -config.text_rows :].to(patches.dtype)
        memory, _ = self.head.encode(patches, text, last.to(patches.device))
        return memory


def modes(probability: Tensor, radius: int, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` best distinct guesses of each row of ``probability`` (B, bins): bins and their mass, (B, count).

    Mass is the probability within ``radius`` bins. Guesses after the first lie outside the windows of those before.
    """
    bins, masses, left = [], [], probability
    columns = torch.arange(left.shape[1], device=left.device)
    for _ in range(count):
        total = F.pad(left.cumsum(-1), (radius + 1, radius), mode="replicate")
        total[:, : radius + 1] = 0
        mass = total[:, 2 * radius + 1 :] - total[:, : left.shape[1]]
        best_mass, best = mass.max(-1, keepdim=True)
        bins.append(best)
        masses.append(best_mass)
        left = torch.where((columns - best).abs() <= radius, 0.0, left)
    return torch.cat(bins, dim=1), torch.cat(masses, dim=1)
