"""OpenVLA: towers, projector and language model under the names of the checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import OpenVLAConfig
from .llama import Llama, causal_mask
from .quantize import QuantisedLinear
from .vision import Projector, VisionBackbone


class OpenVLA(nn.Module):
    """Pixels and token ids in, logits out (OpenVLA, arXiv 2406.09246)."""

    def __init__(self, config: OpenVLAConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_backbone = VisionBackbone(config.towers)
        self.projector = Projector(config)
        self.language_model = Llama(config.llama)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.language_model.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of what is computed, and of all weights that are not quantised."""
        return self.language_model.lm_head.weight.dtype

    @property
    def precision(self) -> str:
        """Of the language model's layers: the name of a torch type, or one of :data:`.precisions.QUANTISED`."""
        layer = self.language_model.model.layers[0].mlp.down_proj
        return layer.precision if isinstance(layer, QuantisedLinear) else str(self.dtype).removeprefix("torch.")

    @property
    def arithmetic(self) -> str:
        """The precision, for records of what a model said: "int8" stood for weights alone in older ones."""
        return "int8 with activations" if self.precision == "int8" else self.precision

    @property
    def parameter_count(self) -> int:
        """Weights, however they are stored."""
        packed = (m for m in self.modules() if isinstance(m, QuantisedLinear))
        return sum(p.numel() for p in self.parameters()) + sum(m.in_features * m.out_features for m in packed)

    def embed_image(self, pixels: Tensor) -> Tensor:
        """Projected patches (B, patches, hidden) of pixels (B, 3 * towers, H, W)."""
        return self.projector(self.vision_backbone(pixels.to(self.dtype)))

    def prompt_embeds(self, patches: Tensor, ids: Tensor) -> Tensor:
        """Input rows (B, patches + n, hidden): BOS, the patches, the remaining ids (B, n)."""
        text = self.language_model.embed(ids)
        return torch.cat([text[:, :1], patches, text[:, 1:]], dim=1)

    def forward(self, pixels: Tensor, ids: Tensor) -> Tensor:
        """Logits (B, patches + n, vocabulary), float32, of a plain causal pass without a cache."""
        rows = self.prompt_embeds(self.embed_image(pixels), ids)
        positions = torch.arange(rows.shape[1], device=rows.device)
        mask = causal_mask(len(positions), rows.device)
        return self.language_model.logits(self.language_model(rows, positions, mask))
