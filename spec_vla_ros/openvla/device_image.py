"""Camera image to model pixels on a device: what :mod:`.image` computes on the host, which takes longer there than
everything else that the host does for an action.

Only a JPEG stays on the host. The filters are Pillow's, as products with its own coefficients, rounded and clipped
between the two passes as there. Sums in another order may round a value that lies between two levels the other way: at
most one level of 255, which the crop behind it passes on as at most one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .config import EVALUATION, PROCESSOR
from .image import ImageTransform
from .picture import PictureRule, between, check_image, jpeg_round_trip

FRACTION = 1 << 22  # Pillow's coefficients are whole multiples of its inverse
LANCZOS, BICUBIC = 3, 2  # pixels that the filters reach to each side, where nothing shrinks
SIZES = 4  # of images whose matrices are kept; a node has one camera


class DeviceTransform:
    """``transform`` on ``device``. One thread uses it; what it reads from may be overwritten by the next call."""

    def __init__(self, transform: ImageTransform, device: torch.device) -> None:
        self._rule, self._device = transform.rule, device
        # As one step: pixels in levels to normalised ones, for each tower.
        self._scale = (1 / (255 * transform.stds)).to(device)
        self._shift = (transform.means / transform.stds).to(device)
        self._known: dict[tuple[int, int], _Steps] = {}

    @staticmethod
    def can(rule: PictureRule) -> bool:
        """Whether all steps of ``rule`` exist here: padding and cutting of the processor do not."""
        return rule.resize != PROCESSOR or rule.centre_crop or rule.strategy == "resize-naive"

    def __call__(self, image: np.ndarray, out: Tensor) -> None:
        """Fill ``out`` (1, 3 * towers, S, S) with the pixels of ``image`` (H, W, 3) uint8; the host waits for nothing.

        Raises :class:`.errors.ImageError`.
        """
        check_image(image)
        rule, size = self._rule, self._rule.size
        if rule.resize == EVALUATION and image.shape[:2] != (size, size):
            image = jpeg_round_trip(image)
        shape = image.shape[:2]
        if shape not in self._known:
            if len(self._known) == SIZES:
                self._known.clear()
            self._known[shape] = _Steps(rule, *shape, self._device)
        picture = self._known[shape](image)  # [3, S, S]
        torch.sub(picture * self._scale, self._shift, out=out.view(*self._scale.shape[:2], size, size))


class _Steps:
    """From images of one size to pictures (3, S, S) float32 in levels 0..255."""

    def __init__(self, rule: PictureRule, height: int, width: int, device: torch.device) -> None:
        self._staged = torch.zeros(height, width, 3, dtype=torch.uint8, pin_memory=device.type == "cuda")
        self._image = torch.zeros(height, width, 3, dtype=torch.uint8, device=device)
        self._across = self._down = self._rows = self._columns = None
        size = rule.size
        if rule.resize != PROCESSOR or not rule.centre_crop:
            kernel, reach = (_lanczos, LANCZOS) if rule.resize != PROCESSOR else (_bicubic, BICUBIC)
            self._across = None if width == size else filter_matrix(width, size, kernel, reach).to(device)
            self._down = None if height == size else filter_matrix(height, size, kernel, reach).to(device)
            height = width = size
        if rule.centre_crop:
            self._rows = [torch.from_numpy(part).to(device) for part in between(height, size)]
            self._columns = [torch.from_numpy(part).to(device) for part in between(width, size)]

    def __call__(self, image: np.ndarray) -> Tensor:
        """(H, W, 3) uint8 of that size."""
        self._staged.numpy()[:] = image
        self._image.copy_(self._staged, non_blocking=True)
        x = self._image.permute(2, 0, 1).float()  # [3, H, W]
        if self._across is not None:
            x = _levels(x @ self._across.t())
        if self._down is not None:
            x = _levels(self._down @ x)
        if self._rows is None:
            return x
        x = x / 255
        for axis, (below, above, weight) in ((1, self._rows), (2, self._columns)):
            weight = weight if axis == 2 else weight[:, None]
            x = x.index_select(axis, below) * (1 - weight) + x.index_select(axis, above) * weight
        return x.clamp_(0, 1).mul_(255.5).clamp_(max=255).floor_()


def filter_matrix(length: int, size: int, kernel: Callable[[np.ndarray], np.ndarray], reach: int) -> Tensor:
    """(size, length) float32: how much of each of ``length`` pixels goes into each of ``size``, as Pillow has it."""
    scale = length / size
    wide = max(scale, 1.0)
    matrix = np.zeros((size, length))
    for place in range(size):
        centre = (place + 0.5) * scale
        first = max(int(centre - reach * wide + 0.5), 0)
        last = min(int(centre + reach * wide + 0.5), length)
        weights = kernel((np.arange(first, last) - centre + 0.5) / wide)
        matrix[place, first:last] = weights / weights.sum()
    return torch.from_numpy(np.round(matrix * FRACTION) / FRACTION).float()


def _lanczos(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < LANCZOS, np.sinc(x) * np.sinc(x / LANCZOS), 0.0)


def _bicubic(x: np.ndarray) -> np.ndarray:
    a, x = -0.5, np.abs(x)
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < BICUBIC, far, 0.0))


def _levels(x: Tensor) -> Tensor:
    return x.add_(0.5).floor_().clamp_(0, 255)
