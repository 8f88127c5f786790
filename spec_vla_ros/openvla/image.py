"""Camera image to model pixels, as the published image processor does it.

Bicubic, antialiased resizing by Pillow, then one normalisation per tower, stacked along the channels.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spec_vla_ros.errors import ImageError

from .config import OpenVLAConfig

CROP_SIDE = math.sqrt(0.9)  # models trained with random crops of 90 % of the area expect this centre box


class ImageTransform:
    """(H, W, 3) uint8 RGB -> (3 * towers, S, S) float32.

    ``centre_crop``: cut the centre box of 90 % area first, for models that were fine-tuned with image augmentation.
    ``lanczos_first``: resize straight to S x S with a Lanczos filter before everything else, as the data sets of
    those models were prepared. Both are off by default, which is the published inference path.
    """

    def __init__(self, config: OpenVLAConfig, centre_crop: bool = False, lanczos_first: bool = False) -> None:
        self.size = config.image_size
        self.strategy = config.image_resize_strategy
        self.centre_crop, self.lanczos_first = centre_crop, lanczos_first
        # The reference pads with the mean colour of the last tower only, whatever the first one would want.
        self.fill = tuple(int(255 * channel) for channel in config.towers[-1].mean)
        self.means = torch.tensor([tower.mean for tower in config.towers])[..., None, None]  # [T, 3, 1, 1]
        self.stds = torch.tensor([tower.std for tower in config.towers])[..., None, None]

    def __call__(self, image: np.ndarray) -> Tensor:
        """Model pixels of one camera frame; raises :class:`ImageError` if it is not (H, W, 3) uint8."""
        check_image(image)
        if self.lanczos_first:
            picture = Image.fromarray(np.ascontiguousarray(image))
            image = np.asarray(picture.resize((self.size, self.size), Image.Resampling.LANCZOS))
        if self.centre_crop:
            image = crop_centre(image, self.size)
        picture = self._resize(Image.fromarray(np.ascontiguousarray(image)))
        # Contiguous before the arithmetic, which takes many times as long on rows of interleaved channels.
        unit = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float().div_(255)  # [3, S, S]
        return (unit - self.means).div_(self.stds).flatten(0, 1)

    def _resize(self, picture: Image.Image) -> Image.Image:
        if self.strategy == "resize-naive":
            return picture.resize((self.size, self.size), Image.Resampling.BICUBIC)
        if self.strategy == "letterbox":
            picture = _pad_to_square(picture, self.fill)
        return _resize_shorter_and_crop(picture, self.size)


def check_image(image: np.ndarray) -> None:
    """Raise :class:`ImageError` unless ``image`` is a non-empty (H, W, 3) uint8 array."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f"expected an RGB image of shape (H, W, 3) and type uint8, got {got}")
    if 0 in image.shape:
        raise ImageError(f"the image is empty: {image.shape}")


def crop_centre(image: np.ndarray, size: int) -> np.ndarray:
    """Centre box of 90 % area of (H, W, 3) uint8, sampled bilinearly at ``size`` x ``size`` corner-aligned points."""
    unit = image.astype(np.float32) / np.float32(255)
    low = (1 - CROP_SIDE) / 2
    for axis in (0, 1):
        at = (low + np.arange(size) * CROP_SIDE / max(size - 1, 1)) * (unit.shape[axis] - 1)
        below = np.floor(at).astype(np.int64)
        above = np.minimum(below + 1, unit.shape[axis] - 1)
        weight = (at - below).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
        unit = unit.take(below, axis) * (1 - weight) + unit.take(above, axis) * weight
    return np.minimum(np.clip(unit, 0, 1) * np.float32(255.5), 255).astype(np.uint8)


def _pad_to_square(picture: Image.Image, fill: tuple[int, ...]) -> Image.Image:
    """Same border on both sides, rounded down: one pixel may be missing, which the crop that follows evens out."""
    width, height = picture.size
    x, y = (max(width, height) - width) // 2, (max(width, height) - height) // 2
    padded = Image.new("RGB", (width + 2 * x, height + 2 * y), fill)
    padded.paste(picture, (x, y))
    return padded


def _resize_shorter_and_crop(picture: Image.Image, size: int) -> Image.Image:
    width, height = picture.size
    shorter = min(width, height)
    width, height = (size if side == shorter else int(size * side / shorter) for side in (width, height))
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return picture.crop((left, top, left + size, top + size))
