"""NVFP4 in numbers, to measure what it would cost: weights and activations in four bits, a scale per sixteen of them.

Nothing here is quick, and the package does not offer it: it takes a GPU with arithmetic for four bits (Blackwell).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from spec_vla_ros.openvla.quantize import SMALLEST, QuantisedLinear

BLOCK = 16  # numbers that share a scale
VALUES = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])  # of e2m1
EDGES = (VALUES[1:] + VALUES[:-1]) / 2
LARGEST, SCALE_LARGEST = 6.0, 448.0


class Nvfp4(QuantisedLinear):
    """Keeps the rounded weight in float32; rows are rounded as they come."""

    precision = "nvfp4"

    def _allocate(self, device: torch.device) -> None:
        self.packed = torch.empty(self.out_features, self.in_features, device=device)

    def _store(self, first: int, rows: Tensor) -> None:
        self.packed[first : first + len(rows)] = rows

    def _seal(self) -> None:
        self.packed = rounded(self.packed, self.packed.abs().amax())

    def forward(self, x: Tensor) -> Tensor:
        """Rows (..., in) to rows (..., out)."""
        x32 = x.float()
        return F.linear(rounded(x32, x32.abs().amax(-1, keepdim=True)), self.packed).to(x.dtype)


def rounded(x: Tensor, largest: Tensor) -> Tensor:
    """``x`` (..., in) as e2m1 times a scale in e4m3 per sixteen, times one in float32 that ``largest`` decides.

    The scale in float32 is one of the whole weight; of activations one per row, so that a row does not depend on what
    is in the same pass.
    """
    whole = (largest / (LARGEST * SCALE_LARGEST)).clamp_min(SMALLEST)[..., None]
    blocks = x.unflatten(-1, (-1, min(BLOCK, x.shape[-1])))
    scale = (blocks.abs().amax(-1, keepdim=True) / LARGEST / whole).clamp(max=SCALE_LARGEST)
    scale = scale.to(torch.float8_e4m3fn).float() * whole
    ratio = torch.where(scale > 0, blocks / scale, 0)
    return (VALUES[torch.bucketize(ratio.abs(), EDGES)] * ratio.sign() * scale).flatten(-2)
