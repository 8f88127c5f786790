"""Weights of the language model's layers in 8 or 4 bits, so that a 7B model fits a smaller GPU.

Only the linear layers of the decoder are quantised, one at a time while they are read from disk; towers, projector,
embeddings and output head stay as they are. int8: one scale per output. int4: one scale and offset per group of inputs.

A pass over few rows multiplies int8 weights as they are, with torch's own kernel where that exists and agrees with the
plain computation. Everything else unpacks one layer at a time: the memory is saved, the time is not.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spec_vla_ros.errors import ConfigurationError
from spec_vla_ros.foreign_text import shortened

PRECISIONS = ("int8", "int4")
FLOATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
GROUPS = (128, 64, 32)  # inputs that share a scale; the largest that divides the width
FAST_ROWS = 16  # with more rows arithmetic is the limit, which unpacked weights serve better
AGREE = 0.02  # of the largest output; bf16 rounds to 0.4 %


def named_precision(name: str, device: torch.device) -> tuple[torch.dtype, str | None]:
    """The type to compute in and what the decoder's layers are quantised to (None: nothing).

    ``name``: "auto" (bfloat16 on an accelerator, float32 on the CPU), a floating-point type, or one of ``PRECISIONS``,
    which computes in the type of "auto". Raises :class:`ConfigurationError` for any other.
    """
    if name not in (*FLOATS, *PRECISIONS, "auto"):
        raise ConfigurationError(f"dtype {shortened(name)} is none of auto, {', '.join((*FLOATS, *PRECISIONS))}")
    auto = torch.float32 if device.type == "cpu" else torch.bfloat16
    return FLOATS.get(name, auto), None if name == "auto" or name in FLOATS else name


class QuantisedLinear(nn.Module):
    """A linear layer without bias whose weight (out, in) is kept in ``precision``; empty until :meth:`fill`."""

    def __init__(self, in_features: int, out_features: int, precision: str) -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
        self.in_features, self.out_features, self.precision = in_features, out_features, precision
        self.group = next((group for group in GROUPS if in_features % group == 0), in_features)
        for name in ("packed", "scale", "offset"):
            self.register_buffer(name, None, persistent=False)
        self._fast_rows = 0  # up to so many rows torch's kernel is used

    @torch.no_grad()
    def fill(self, weight: Tensor) -> None:
        """Quantise ``weight`` (out, in), which is not kept."""
        if self.precision == "int8":
            scale = (weight.abs().amax(1).float().clamp_min(1e-8) / 127).to(weight.dtype)
            self.packed = (weight.float() / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
            self.scale = scale
            if _kernel_agrees(weight.device, weight.dtype):
                self._fast_rows = FAST_ROWS
            return
        grouped = weight.float().unflatten(1, (-1, self.group))
        low, high = grouped.aminmax(dim=2, keepdim=True)
        self.offset = low.to(weight.dtype)
        self.scale = ((high - self.offset.float()) / 15).clamp_min(1e-8).to(weight.dtype)
        q = ((grouped - self.offset.float()) / self.scale.float()).round().clamp(0, 15).flatten(1).to(torch.uint8)
        self.packed = q[:, ::2] << 4 | q[:, 1::2]

    def weight(self) -> Tensor:
        """The weight (out, in) that is multiplied with."""
        if self.precision == "int8":
            return self.packed.to(self.scale.dtype) * self.scale[:, None]
        q = torch.stack([self.packed >> 4, self.packed & 15], dim=-1).flatten(1).unflatten(1, (-1, self.group))
        return (q.to(self.scale.dtype) * self.scale + self.offset).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Rows (..., in) to rows (..., out)."""
        rows = x.reshape(-1, self.in_features)
        if len(rows) > self._fast_rows:
            return F.linear(x, self.weight())
        return torch._weight_int8pack_mm(rows, self.packed, self.scale).unflatten(0, x.shape[:-1])


def quantise_layers(language_model: nn.Module, precision: str) -> dict[str, QuantisedLinear]:
    """Put empty quantised layers in the place of all linear layers of the decoder; they are returned by name."""
    made = {}
    for name, module in list(language_model.model.layers.named_modules()):
        for child, layer in list(module.named_children()):
            if isinstance(layer, nn.Linear):
                made[f"{name}.{child}"] = QuantisedLinear(layer.in_features, layer.out_features, precision)
                setattr(module, child, made[f"{name}.{child}"])
    return made


@functools.cache
def _kernel_agrees(device: torch.device, dtype: torch.dtype) -> bool:
    """Does torch's int8 kernel exist here, and compute what it should?"""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(4, 256, generator=generator).to(device, dtype)
    packed = torch.randint(-127, 128, (128, 256), generator=generator, dtype=torch.int8).to(device)
    scale = (torch.rand(128, generator=generator) * 1e-2).to(device, dtype)
    try:
        said = torch._weight_int8pack_mm(rows, packed, scale).float()
    except (RuntimeError, NotImplementedError, AttributeError):
        return False
    expected = rows.float() @ (packed.float() * scale.float()[:, None]).T
    return bool((said - expected).abs().max() <= AGREE * expected.abs().max())
