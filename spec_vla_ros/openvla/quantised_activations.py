"""Layers that quantise what they multiply, too: every row by a scale of its own, found when the row comes.

    ``int8``    integers of -127..127, a scale per row and per output, sums in 32 bits: exact
    ``float8``  e4m3 up to 448, likewise, sums in float32

Kernels are torch's own: oneDNN's linear on a CPU, ``_int_mm`` and ``_scaled_mm`` on a GPU. Whether a kernel is used is
decided by what it says to numbers at the ends of the range; some processors add two products in 16 bits, and saturate.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from .quantize import INT8_MAX, SMALLEST, QuantisedLinear

FLOAT8_MAX = 448.0
ZERO = 128  # of unsigned bytes, which oneDNN is quick with
PADDED, MIN_ROWS = ("cuda",), 24  # cuBLAS multiplies integers of more than 16 rows only, by the eight
FLOAT8_AGREE = 0.01  # of the largest output: tensor cores keep fewer bits of a sum than float32


class Int8(QuantisedLinear):
    """Weights and activations in int8."""

    precision = "int8"

    def _allocate(self, device: torch.device) -> None:
        self.packed = torch.empty(self.out_features, self.in_features, dtype=torch.int8, device=device)
        self.scale = torch.empty(self.out_features, dtype=torch.float32, device=device)

    def _store(self, first: int, rows: Tensor) -> None:
        part = slice(first, first + len(rows))
        largest = rows.abs().amax(1).clamp_min_(SMALLEST)
        self.scale[part] = largest / INT8_MAX
        self.packed[part] = rows.mul_((INT8_MAX / largest)[:, None]).round_()

    def _seal(self) -> None:
        self._unsigned = self.packed.device.type == "cpu" and onednn_is_exact()
        if self._unsigned:
            self.packed = torch.ops.onednn.qlinear_prepack(self.packed, None)

    @staticmethod
    def stored_bytes(in_features: int, out_features: int, scale: int) -> int:
        """One byte a weight, scales in float32."""
        return in_features * out_features + out_features * 4

    def forward(self, x: Tensor) -> Tensor:
        """Rows (..., in) to rows (..., out)."""
        rows = x.reshape(-1, self.in_features)
        q, scale = quantised_rows(rows, INT8_MAX)
        q.round_()
        if self._unsigned:
            out = _product_of_bytes(q.add_(ZERO).to(torch.uint8), self.packed, self.scale)
        else:
            out = int_product(q.to(torch.int8), self.packed).float() * self.scale
        return out.mul_(scale).to(x.dtype).unflatten(0, x.shape[:-1])


class Float8(QuantisedLinear):
    """Weights and activations in float8_e4m3fn. On a CPU the same numbers are multiplied and added in float32, which
    is slow and meant for measuring accuracy.
    """

    precision = "float8"

    def _allocate(self, device: torch.device) -> None:
        self.packed = torch.empty(self.out_features, self.in_features, dtype=torch.float8_e4m3fn, device=device)
        self.scale = torch.empty(1, self.out_features, dtype=torch.float32, device=device)

    def _store(self, first: int, rows: Tensor) -> None:
        part = slice(first, first + len(rows))
        largest = rows.abs().amax(1).clamp_min_(SMALLEST)
        self.scale[0, part] = largest / FLOAT8_MAX
        self.packed[part] = rows.mul_((FLOAT8_MAX / largest)[:, None]).to(torch.float8_e4m3fn)

    def _seal(self) -> None:
        if self.packed.device.type == "cpu":
            self.packed = self.packed.float()

    @staticmethod
    def stored_bytes(in_features: int, out_features: int, scale: int) -> int:
        """One byte a weight, scales in float32."""
        return in_features * out_features + out_features * 4

    def forward(self, x: Tensor) -> Tensor:
        """Rows (..., in) to rows (..., out)."""
        q, scale = quantised_rows(x.reshape(-1, self.in_features), FLOAT8_MAX)
        q = q.to(torch.float8_e4m3fn)
        if x.device.type == "cpu":
            out = F.linear(q.float(), self.packed).mul_(scale).mul_(self.scale).to(x.dtype)
        else:
            out = torch._scaled_mm(q, self.packed.t(), scale_a=scale, scale_b=self.scale, out_dtype=torch.bfloat16)
        return out.to(x.dtype).unflatten(0, x.shape[:-1])


def quantised_rows(rows: Tensor, top: float) -> tuple[Tensor, Tensor]:
    """Rows (n, in) stretched so that the largest of each is ``top``, in float32 and not rounded, and the scales (n, 1)
    that undo it. A row that is not finite has a scale that is not, so that what comes of it is not either.
    """
    largest = rows.abs().amax(1, keepdim=True).float().clamp_min_(SMALLEST)
    return rows * (top / largest), largest / top


def int_product(rows: Tensor, weight: Tensor) -> Tensor:
    """Exact products (n, out) in int32 of int8 rows (n, in) and weight (out, in), on any device."""
    n = len(rows)
    if rows.device.type in PADDED:
        rows = F.pad(rows, (0, 0, 0, max(MIN_ROWS - n, -n % 8)))
    return torch._int_mm(rows, weight.t())[:n]


def _product_of_bytes(rows: Tensor, packed: Tensor, scale: Tensor) -> Tensor:
    """By oneDNN on a CPU: (n, out) float32 of bytes (n, in) whose zero is :data:`ZERO`, times ``scale`` (out,)."""
    return torch.ops.onednn.qlinear_pointwise(
        rows, 1.0, ZERO, packed, scale, _zeros(len(scale)), None, 1.0, 0, torch.float32, "none", [], ""
    )


@functools.cache
def _zeros(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.int64)


@functools.cache
def onednn_is_exact() -> bool:
    """Does oneDNN multiply unsigned by signed bytes on this processor without saturating on the way?"""
    rows = torch.full((3, 256), 127, dtype=torch.int8)
    rows[1] = -127
    rows[2, ::2] = 0
    weight = rows.repeat(11, 1)[:32].clone()
    weight[::5] = torch.randint(-127, 128, (7, 256), generator=torch.Generator().manual_seed(0), dtype=torch.int8)
    try:
        packed = torch.ops.onednn.qlinear_prepack(weight, None)
        said = _product_of_bytes((rows.short() + ZERO).to(torch.uint8), packed, torch.ones(len(weight)))
    except (RuntimeError, NotImplementedError, AttributeError):
        return False
    return bool(torch.equal(said, rows.float() @ weight.float().T))


@functools.cache
def computes(precision: str, device: torch.device) -> bool:
    """Does this device multiply in ``precision`` ("int8", "float8"), and say what it should?"""
    if device.type == "cpu" and precision == "int8":
        return onednn_is_exact()
    generator = torch.Generator().manual_seed(0)
    kind = Int8 if precision == "int8" else Float8
    weight, rows = (torch.randn(n, 256, generator=generator) for n in (64, 3))
    layer, twin = kind(256, 64, torch.bfloat16), kind(256, 64, torch.bfloat16)
    try:
        layer.fill(weight.to(device))
        said = layer(rows.to(device, torch.bfloat16)).float().cpu()
    except (RuntimeError, NotImplementedError, AttributeError):
        return False
    twin.fill(weight)
    expected = twin(rows.bfloat16()).float()
    return bool((said - expected).abs().max() <= FLOAT8_AGREE * expected.abs().max())
