"""Distillation of the vision drafter on the verifier's own greedy tokens."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..decoding.heads.vision_head import VisionHead, VisionHeadConfig
from ..openvla.loader import LoadedModel
from .draft_shards import Samples

SPREAD = 3.0  # bins; neighbours of the verifier's choice would be accepted as well
NOISE = (0, 2, 6)  # bins by which shown earlier tokens are off, drawn per sample: after a relaxed hit they are
FINAL_RATE = 0.02  # of the peak


def vision_config(loaded: LoadedModel, width: int | None = None) -> VisionHeadConfig:
    """Sizes of a head for this model; ``width``: of the head itself."""
    sizes = {} if width is None else {"width": width}
    return VisionHeadConfig(
        hidden=loaded.config.llama.hidden_size,
        patches=loaded.config.towers[0].patches,
        action_dim=loaded.statistics.action_dim,
        bins=loaded.tokens.bins,
        **sizes,
    )


def loss_of(logits: Tensor, bins: Tensor) -> Tensor:
    """Cross-entropy (scalar) of logits (B, A, bins) to the true bins spread over their neighbours; gripper exact."""
    columns = torch.arange(logits.shape[-1], device=logits.device)
    width = torch.tensor([SPREAD] * (bins.shape[1] - 1) + [0.25], device=logits.device)[:, None]
    target = torch.softmax(-0.5 * ((columns - bins[..., None]) / width) ** 2, dim=-1)
    return -(target * logits.float().log_softmax(-1)).sum(-1).mean()


class VisionRecipe:
    """See :class:`.draft_loop.Recipe`."""

    name, peak_rate, warm_up, clip = "vision", 1e-3, 200, 1.0

    def __init__(self, samples: Samples, config: VisionHeadConfig) -> None:
        self.samples, self.config = samples, config

    def make(self) -> VisionHead:
        """A new head."""
        return VisionHead(self.config)

    def optimizer(self, head: VisionHead) -> torch.optim.Optimizer:
        """Matrices shrink, everything else does not."""
        groups = [[p for p in head.parameters() if (p.dim() == 2) is matrix] for matrix in (True, False)]
        return torch.optim.AdamW(
            [{"params": groups[0], "weight_decay": 0.03}, {"params": groups[1], "weight_decay": 0.0}],
            betas=(0.9, 0.98),
        )

    def decay(self, progress: float) -> float:
        """Half a cosine."""
        return max(FINAL_RATE, 0.5 * (1 + float(np.cos(np.pi * progress))))

    def loss(self, forward: Callable[..., Tensor], rows: Tensor, generator: torch.Generator) -> Tensor:
        """Cross-entropy with earlier tokens shown that are a little wrong."""
        patches, text, last, bins, text_mask = self.samples.batch(rows)
        spread = torch.tensor(NOISE)[torch.randint(len(NOISE), (len(rows), 1), generator=generator)]
        shown = bins + (torch.randn(bins.shape, generator=generator) * spread).round().long().to(bins.device)
        shown[:, -1] = bins[:, -1]
        logits = forward(patches, text, last, shown.clamp(0, self.config.bins - 1), text_mask)
        return loss_of(logits, bins)
