"""The language model's layers in fewer bits: which formats there are, and layers of which only the weight has them.

Only the linear layers of the decoder are quantised, while they are read from disk; towers, projector, embeddings and
output head stay as they are. ``int8`` and ``float8`` quantise what is multiplied with the weights as well
(:mod:`.quantised_activations`): they save time and memory. ``int8_weights`` and ``int4_weights`` save memory.

Layers with the same input (q, k and v; gate and up) become one: a row is quantised once, and multiplied once.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = (128, 64, 32)  # inputs that share a scale in 4 bits; the largest that divides the width
FAST_ROWS = {"cpu": 8}  # with more rows than that, elsewhere 16, unpacking costs less than torch's kernel
BLOCK = {"cpu": 2**18}  # weights that are quantised at a time, elsewhere 2 ** 24: what a core's cache holds
AGREE = 0.02  # of the largest output; bf16 rounds to 0.4 %
INT8_MAX = 127.0
SMALLEST = 1e-12  # a scale is never less, so that zeros stay zeros
JOINED = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "gate_up", "up_proj": "gate_up"}


class Workspace(threading.local):
    """Memory of each thread that the layers of one model unpack their weights into, one after the other.

    On a CPU fresh memory of this size has its pages cleared first, which takes several times as long as to unpack. The
    allocator of a GPU keeps what it has. Of a copied model it is another one.
    """

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    def unpacked(self, packed: Tensor, dtype: torch.dtype) -> Tensor:
        """``packed`` (out, in) in ``dtype``, until the next call of this thread."""
        if packed.device.type != "cpu" or torch.is_grad_enabled():  # gradients ask for weights once more
            return packed.to(dtype)
        if self._memory is None or self._memory.dtype != dtype or self._memory.numel() < packed.numel():
            with torch.inference_mode(False):  # what is made in it cannot be written to elsewhere
                self._memory = torch.empty(packed.numel(), dtype=dtype)
        return self._memory[: packed.numel()].view(packed.shape).copy_(packed)

    def __reduce__(self) -> tuple[type[Workspace], tuple[()]]:
        """What copies are made of: nothing, because memory of a thread cannot be."""
        return Workspace, ()


class QuantisedLinear(nn.Module):
    """A linear layer without bias whose weight (out, in) is kept in fewer bits; empty until every output is filled.

    ``dtype``: of the rows that it is given and gives.
    """

    precision = ""

    def __init__(self, in_features: int, out_features: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.in_features, self.out_features, self.dtype = in_features, out_features, dtype
        self.left = out_features  # outputs that are not filled yet
        self.workspace = Workspace()
        for name in ("packed", "scale"):
            self.register_buffer(name, None, persistent=False)

    @torch.no_grad()
    def fill(self, weight: Tensor, first: int = 0) -> None:
        """Quantise ``weight`` (rows, in) of the outputs from ``first`` on; it is not kept. Any floating-point type."""
        if self.packed is None:
            self._allocate(weight.device)
        block = max(1, BLOCK.get(weight.device.type, 2**24) // self.in_features)
        for at in range(0, len(weight), block):
            self._store(first + at, weight[at : at + block].to(torch.float32, copy=True))
        self.left -= len(weight)
        if not self.left:
            self._seal()

    def _allocate(self, device: torch.device) -> None:
        raise NotImplementedError

    def _store(self, first: int, rows: Tensor) -> None:
        """Quantise float32 ``rows`` (n, in) of the outputs from ``first`` on; they may be overwritten."""
        raise NotImplementedError

    def _seal(self) -> None:
        """All outputs are there: choose how to multiply."""

    @staticmethod
    def stored_bytes(in_features: int, out_features: int, scale: int) -> int:
        """Of such a layer; ``scale``: bytes of a number of the type it computes in."""
        raise NotImplementedError

    def weight(self) -> Tensor:
        """The weight (out, in) that is multiplied with, in ``dtype``."""
        raise NotImplementedError


class Int8Weights(QuantisedLinear):
    """A scale per output. Few rows multiply the weight as it is, with torch's own kernel where that exists and agrees
    with the plain computation; more rows unpack it, and are scaled afterwards.
    """

    precision = "int8_weights"

    def _allocate(self, device: torch.device) -> None:
        self.packed = torch.empty(self.out_features, self.in_features, dtype=torch.int8, device=device)
        self.scale = torch.empty(self.out_features, dtype=self.dtype, device=device)
        self._fast_rows = 0

    def _store(self, first: int, rows: Tensor) -> None:
        part = slice(first, first + len(rows))
        self.scale[part] = rows.abs().amax(1).clamp_min_(SMALLEST) / INT8_MAX
        # The scale as it was rounded, which makes the largest a quarter of a step too large at most.
        self.packed[part] = rows.mul_(self.scale[part].float().reciprocal()[:, None]).round_()

    def _seal(self) -> None:
        if _kernel_agrees(self.packed.device, self.dtype):
            self._fast_rows = FAST_ROWS.get(self.packed.device.type, 16)

    @staticmethod
    def stored_bytes(in_features: int, out_features: int, scale: int) -> int:
        """One byte a weight."""
        return in_features * out_features + out_features * scale

    def weight(self) -> Tensor:
        """As it is multiplied with."""
        return self.packed.to(self.dtype) * self.scale[:, None]

    def forward(self, x: Tensor) -> Tensor:
        """Rows (..., in) to rows (..., out)."""
        rows = x.reshape(-1, self.in_features)
        if len(rows) <= self._fast_rows:
            return torch._weight_int8pack_mm(rows, self.packed, self.scale).unflatten(0, x.shape[:-1])
        # Integers of 8 bits are exact in every floating-point type.
        return F.linear(x, self.workspace.unpacked(self.packed, self.dtype)).mul_(self.scale)


class Int4Weights(QuantisedLinear):
    """A scale and an offset per group of inputs, two weights in a byte; every pass unpacks one layer at a time."""

    precision = "int4_weights"

    def _allocate(self, device: torch.device) -> None:
        self.group = _group(self.in_features)
        shape = (self.out_features, self.in_features // self.group, 1)
        self.packed = torch.empty(self.out_features, self.in_features // 2, dtype=torch.uint8, device=device)
        self.scale = torch.empty(shape, dtype=self.dtype, device=device)
        self.register_buffer("offset", torch.empty_like(self.scale), persistent=False)

    def _store(self, first: int, rows: Tensor) -> None:
        part, grouped = slice(first, first + len(rows)), rows.unflatten(1, (-1, self.group))
        low, high = grouped.aminmax(dim=2, keepdim=True)
        self.offset[part] = low
        low = self.offset[part].float()
        self.scale[part] = ((high - low) / 15).clamp_min(1e-8)
        q = grouped.sub_(low).div_(self.scale[part].float()).round_().clamp_(0, 15).flatten(1).to(torch.uint8)
        self.packed[part] = q[:, ::2] << 4 | q[:, 1::2]

    @staticmethod
    def stored_bytes(in_features: int, out_features: int, scale: int) -> int:
        """Half a byte a weight, and scales and offsets."""
        weights = in_features * out_features
        return weights // 2 + 2 * (weights // _group(in_features)) * scale

    def weight(self) -> Tensor:
        """As it is multiplied with."""
        q = torch.stack([self.packed >> 4, self.packed & 15], dim=-1).flatten(1).unflatten(1, (-1, self.group))
        return (q.to(self.dtype) * self.scale + self.offset).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Rows (..., in) to rows (..., out)."""
        return F.linear(x, self.weight())


class Part(NamedTuple):
    """Where the weight (rows, width) of a layer of the checkpoint goes: outputs of ``layer`` from ``first`` on."""

    layer: QuantisedLinear
    first: int
    rows: int

    def fill(self, weight: Tensor) -> None:
        """Quantise ``weight`` (rows, in), which is not kept."""
        self.layer.fill(weight, self.first)


def quantise_layers(language_model: nn.Module, kind: type[QuantisedLinear], dtype: torch.dtype) -> dict[str, Part]:
    """Put empty quantised layers in the place of all linear layers of the decoder; what is to be filled, by the names
    that the checkpoint has.
    """
    parts: dict[str, Part] = {}
    for name, module in list(language_model.model.layers.named_modules()):
        together: dict[str, list[str]] = {}
        for child, layer in module.named_children():
            if isinstance(layer, nn.Linear):
                together.setdefault(JOINED.get(child, child), []).append(child)
        for target, children in together.items():
            parts |= {f"{name}.{child}": part for child, part in _join(module, target, children, kind, dtype)}
    workspace = Workspace()
    for part in parts.values():
        part.layer.workspace = workspace
    return parts


def _join(
    module: nn.Module, target: str, children: Sequence[str], kind: type[QuantisedLinear], dtype: torch.dtype
) -> list[tuple[str, Part]]:
    sizes = [getattr(module, child).out_features for child in children]
    made = kind(getattr(module, children[0]).in_features, sum(sizes), dtype)
    for child in children:
        delattr(module, child)
    setattr(module, target, made)
    return [(child, Part(made, sum(sizes[:i]), sizes[i])) for i, child in enumerate(children)]


def _group(in_features: int) -> int:
    return next((group for group in GROUPS if in_features % group == 0), in_features)


@functools.cache
def _kernel_agrees(device: torch.device, dtype: torch.dtype) -> bool:
    """Does torch's kernel for weights in int8 exist here, and compute what it should?"""
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
