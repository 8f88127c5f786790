"""Camera image to model pixels: the picture of :mod:`.picture`, normalised once per tower, stacked by channel."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .config import OpenVLAConfig
from .picture import AUTO, PictureRule


class ImageTransform:
    """(H, W, 3) uint8 RGB -> (3 * towers, S, S) float32. ``rule``: what happens before the normalisation."""

    def __init__(self, config: OpenVLAConfig, centre_crop: bool = False, image_resize: str = AUTO) -> None:
        """Arguments and errors of :meth:`.picture.PictureRule.of`."""
        self.rule = PictureRule.of(config, centre_crop, image_resize)
        self.means = torch.tensor([tower.mean for tower in config.towers])[..., None, None]  # [T, 3, 1, 1]
        self.stds = torch.tensor([tower.std for tower in config.towers])[..., None, None]

    def __call__(self, image: np.ndarray) -> Tensor:
        """Model pixels of one camera frame; raises :class:`ImageError` if it is not (H, W, 3) uint8."""
        picture = self.rule.picture(image)
        # Contiguous before the arithmetic, which takes many times as long on rows of interleaved channels.
        unit = torch.from_numpy(picture).permute(2, 0, 1).contiguous().float().div_(255)  # [3, S, S]
        return (unit - self.means).div_(self.stds).flatten(0, 1)
