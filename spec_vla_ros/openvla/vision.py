"""The two vision towers (DINOv2 with registers, SigLIP) and the projector, as OpenVLA uses them.

Parameter names equal those of the checkpoint, so a state dict loads without renaming. Only what contributes to the
output is built: no final norm, no pooling head, no last block.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import OpenVLAConfig, TowerConfig


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:  # (B, N, C) -> (B, N, C)
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))  # erf GELU in both towers, unlike transformers' SigLIP


class _Added(nn.Module):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return x + h


class _LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale_factor = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.addcmul(x, h, self.scale_factor)


class _Block(nn.Module):
    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6)
        self.attn = _Attention(config.width, config.heads)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6)
        self.mlp = _Mlp(config.width, config.mlp_width)
        self.ls1 = _LayerScale(config.width) if config.layer_scale else _Added()
        self.ls2 = _LayerScale(config.width) if config.layer_scale else _Added()

    def forward(self, x: Tensor) -> Tensor:
        x = self.ls1(x, self.attn(self.norm1(x)))
        return self.ls2(x, self.mlp(self.norm2(x)))


class _PatchEmbed(nn.Module):
    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch_size, config.patch_size)

    def forward(self, pixels: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, patches, C), row-major patches
        return self.proj(pixels).flatten(2).transpose(1, 2)


class Tower(nn.Module):
    """One vision transformer up to its second-to-last block: (B, 3, H, W) -> (B, patches, width)."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.prefix = int(config.class_token) + config.registers
        self.patch_embed = _PatchEmbed(config)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.patches, config.width))
        if config.class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        if config.registers:
            self.reg_token = nn.Parameter(torch.zeros(1, config.registers, config.width))
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.used_depth))

    def forward(self, pixels: Tensor) -> Tensor:
        """Patch features without class token and registers."""
        x = self.patch_embed(pixels) + self.pos_embed
        tokens = [getattr(self, name) for name in ("cls_token", "reg_token") if hasattr(self, name)]
        if tokens:
            x = torch.cat([*(t.expand(len(x), -1, -1) for t in tokens), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return x[:, self.prefix :]


class VisionBackbone(nn.Module):
    """Towers side by side: (B, 3 * towers, H, W) -> (B, patches, sum of widths)."""

    def __init__(self, towers: tuple[TowerConfig, ...]) -> None:
        super().__init__()
        self.featurizer = Tower(towers[0])
        if len(towers) == 2:
            self.fused_featurizer = Tower(towers[1])

    def forward(self, pixels: Tensor) -> Tensor:
        """Features of the towers side by side, each fed its own three channels."""
        if not hasattr(self, "fused_featurizer"):
            return self.featurizer(pixels)
        return torch.cat([self.featurizer(pixels[:, :3]), self.fused_featurizer(pixels[:, 3:])], dim=2)


class Projector(nn.Module):
    """Vision features to language-model embeddings: three layers for two towers, two layers for one."""

    def __init__(self, config: OpenVLAConfig) -> None:
        super().__init__()
        width, hidden = config.vision_width, config.llama.hidden_size
        self.fused = config.fused
        self.fc1 = nn.Linear(width, 4 * width if self.fused else hidden)
        self.fc2 = nn.Linear(4 * width if self.fused else hidden, hidden)
        if self.fused:
            self.fc3 = nn.Linear(hidden, hidden)

    def forward(self, features: Tensor) -> Tensor:
        """(B, patches, vision width) -> (B, patches, hidden)."""
        x = self.fc2(F.gelu(self.fc1(features)))
        return self.fc3(F.gelu(x)) if self.fused else x
