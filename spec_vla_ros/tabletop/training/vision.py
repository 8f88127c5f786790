"""First stage: the vision towers learn where things are, from the simulator's ground truth.

Actions alone teach the towers far too slowly (cross-entropy from scratch reached no success in an exploratory study).
Two losses: every key point's patch and place inside the patch (dense, local), and the whole state read linearly from
every patch (global), so that the decoder finds the scene wherever it looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spec_vla_ros.openvla.config import OpenVLAConfig
from spec_vla_ros.openvla.vision import VisionBackbone
from spec_vla_ros.tabletop.scene import COLORS

from .data import STATE_NAMES, Frames

KEY_POINTS = ("tool", *COLORS, "plate")
_CAMERA_POSITION = np.array([0.98, 0.0, 0.66])
_CAMERA_AXES = np.array([[0.0, 1.0, 0.0], [-0.682, 0.0, 0.731], [0.731, 0.0, 0.682]])  # right, up, backwards
_FOVY = np.deg2rad(31)
# Tool position and block positions decide success; the rest only has to be roughly right.
_WEIGHTS = np.array([4, 4, 4, 1, 1, 1.5, 1.5, 1.5, 1.5, 1.5, *([3, 3, 1.5, 0.5, 0.5] * 3), 2, 2], dtype=np.float32)


def key_point_pixels(states: np.ndarray) -> np.ndarray:
    """Image places (N, key points, 2) of the key points, columns u and v in 0..1 (outside = not visible)."""
    column = {name: i for i, name in enumerate(STATE_NAMES)}
    plate = np.concatenate([states[:, column["plate_x"] : column["plate_y"] + 1], np.zeros((len(states), 1))], axis=1)
    points = [states[:, column["tool_x"] : column["tool_z"] + 1]]
    points += [states[:, column[f"{c}_x"] : column[f"{c}_z"] + 1] for c in COLORS]
    world = np.stack([*points, plate], axis=1)
    camera = (world - _CAMERA_POSITION) @ (_CAMERA_AXES / np.linalg.norm(_CAMERA_AXES, axis=1, keepdims=True)).T
    scale = 0.5 / np.tan(_FOVY / 2) / -camera[..., 2]
    return np.stack([0.5 + camera[..., 0] * scale, 0.5 - camera[..., 1] * scale], axis=-1).astype(np.float32)


def to_pixels(images: np.ndarray | Tensor, config: OpenVLAConfig) -> Tensor:
    """(N, S, S, 3) uint8 -> (N, 3 * towers, S, S) float32, normalised once per tower."""
    x = torch.as_tensor(images).permute(0, 3, 1, 2).float() / 255
    parts = [(x - torch.tensor(t.mean).view(3, 1, 1)) / torch.tensor(t.std).view(3, 1, 1) for t in config.towers]
    return torch.cat(parts, dim=1)


class StateHeads(nn.Module):
    """Training-only read-outs; thrown away afterwards."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.state = nn.Linear(width, len(STATE_NAMES))
        self.place = nn.Linear(width, 3 * len(KEY_POINTS))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """States (B, P, S), heat (B, P, K), offsets (B, P, K, 2)."""
        place = self.place(features).unflatten(-1, (len(KEY_POINTS), 3))
        return self.state(features), place[..., 0], place[..., 1:]


def vision_loss(heads: StateHeads, features: Tensor, state: Tensor, uv: Tensor, grid: int) -> tuple[Tensor, Tensor]:
    """Loss, and the median distance in pixels-of-patch between read-out and true key points of the batch."""
    states, heat, offsets = heads(features)
    weights = torch.from_numpy(_WEIGHTS)
    error = F.smooth_l1_loss(states, state[:, None].expand_as(states), reduction="none", beta=0.3)
    loss_state = (error * weights).mean()
    cell = (uv * grid).floor().long()
    visible = ((cell >= 0) & (cell < grid)).all(-1)
    cell = cell.clamp(0, grid - 1)
    index = cell[..., 1] * grid + cell[..., 0]  # (B, K), row-major patches
    loss_heat = (F.cross_entropy(heat, index, reduction="none") * visible).mean()
    target = uv * grid - cell - 0.5
    chosen = offsets.gather(1, index[:, None, :, None].expand(-1, 1, -1, 2))[:, 0]
    loss_offset = (F.smooth_l1_loss(chosen, target, reduction="none", beta=0.1).sum(-1) * visible).mean()
    return loss_state + 0.3 * loss_heat + loss_offset, (chosen - target).norm(dim=-1)[visible].median()


def train_vision(
    frames: Callable[[], Frames],
    config: OpenVLAConfig,
    minutes: float,
    seed: int,
    log: Callable[[str], None],
    checkpoint: Path,
    batch: int = 48,
    peak_rate: float = 1.2e-3,
) -> VisionBackbone:
    """Train the towers for ``minutes`` of wall-clock time on whatever ``frames`` returns (asked again every epoch)."""
    torch.manual_seed(seed)
    backbone, rng = VisionBackbone(config.towers), np.random.default_rng(seed)
    for module in backbone.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            nn.init.zeros_(module.bias)
    for name, parameter in backbone.named_parameters():
        if name.endswith(("pos_embed", "cls_token", "reg_token")):
            nn.init.trunc_normal_(parameter, std=0.2 if "pos" in name else 0.02)
    heads = StateHeads(config.vision_width)
    norm = nn.LayerNorm(config.vision_width)
    parameters = [*backbone.parameters(), *heads.parameters(), *norm.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=peak_rate, betas=(0.9, 0.98), weight_decay=0.02)
    forward = torch.compile(backbone)
    start, step, mean, std = time.monotonic(), 0, None, None
    grid = config.towers[0].grid
    while (progress := (time.monotonic() - start) / 60 / minutes) < 1:
        data = frames()
        if mean is None:
            mean, std = data.states.mean(0), data.states.std(0) + 1e-3
        states = torch.from_numpy((data.states - mean) / std)
        uv = torch.from_numpy(key_point_pixels(data.states))
        order = rng.permutation(len(data))
        for i in range(0, len(order) - batch + 1, batch):
            progress = (time.monotonic() - start) / 60 / minutes
            if progress >= 1:
                break
            rate = peak_rate * min(1.0, (step + 1) / 200) * max(0.02, 0.5 * (1 + np.cos(np.pi * progress)))
            for group in optimizer.param_groups:
                group["lr"] = rate
            rows = order[i : i + batch]
            features = norm(forward(to_pixels(data.images[rows], config)))
            loss, pixels = vision_loss(heads, features, states[rows], uv[rows], grid)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            step += 1
            if step % 100 == 0:
                with torch.no_grad():
                    read = heads.state(features).mean(1)
                    error = (read - states[rows]).abs().median(0).values.numpy() * std
                tool, block = error[:3] * 1e3, error[10:12] * 1e3
                place = pixels.item() * config.towers[0].patch_size
                log(
                    f"vision {progress:5.1%} step {step} frames {len(data)} loss {loss.item():.3f} key point "
                    f"{place:.2f} px, tool {tool.round(1)} mm, red {block.round(1)} mm"
                )
        torch.save(backbone.state_dict(), checkpoint)
    return backbone
