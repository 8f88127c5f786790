"""Counts what a GPU would be asked to do, without one: kernels, the bytes that they move, and waits of the host.

Tensors are on the device "meta", so they have shapes and no memory, and a mode of torch sees every operation.

What counts as one kernel: an operation of torch (aten) for which eager CUDA launches one; composite operations are
taken apart as torch does it, views are free, and so is memory that is only allocated. From the sources of torch: a
concatenation of more than four dimensions, or of several types, is a copy per part; ``masked_fill`` and padding copy
before they fill; a product that adds to a matrix other than its own result copies that first; a convolution adds its
bias afterwards; ``topk`` sorts what it found unless told not to. Attention is one kernel, as with flash, efficient and
cuDNN attention alike; a boolean mask is three more, and one whose rows do not lie at multiples of 8 two more, which is
what efficient attention does with them. What libraries do within one call (split sums, workspaces, a memset before a
reduction) is not seen. Copies between host and device count as one each.

An operator of our own (:mod:`spec_vla_ros.kernels.operators`) is one kernel: it is written as one.

A wait is whatever keeps the host until the device has done all it was asked before: ``item``, ``tolist``, ``cpu``, the
truth of a tensor, boolean indices, and data of Python put on the device. Copies with ``non_blocking`` are none, for
which the host's memory has to be pinned.

Bytes are those of the operands, each once, whatever caches do; of a table that rows are gathered from, and of a cache
that rows are written to, only these rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spec_vla_ros.kernels.operators import NAMESPACE

DEVICE = torch.device("meta")
PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "convolution", "scaled_dot_product_attention")
GATHERS = ("index", "index_select", "embedding", "gather")
SCATTERS = ("index_copy_", "index_put_", "scatter_")
ROTARY = "rotary_write"  # of our own: writes as many numbers as it reads of q, k and v
ALLOCATIONS = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view", "lift_fresh")
DATA_OF_PYTHON = ("tensor", "as_tensor", "new_tensor")
CAT_DIMENSIONS = 4  # up to so many one kernel concatenates all parts
ALIGNED = 8  # a mask's rows lie at multiples of it, or attention copies it

Answer = Callable[[Tensor], Any]


@dataclass
class Count:
    """``kernels``: launches, copies included. ``gemm_bytes``: read and written by products and attention;
    ``elementwise_bytes``: by all others. ``waits``: of the host, by what made it wait. ``names``: launches by
    operation.
    """

    kernels: int = 0
    gemm_bytes: int = 0
    elementwise_bytes: int = 0
    waits: list[str] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, kernels: int, moved: int) -> None:
        """``kernels`` launches of ``name`` that move so many bytes in all."""
        self.kernels += kernels
        self.names[name] = self.names.get(name, 0) + kernels
        if name.rstrip("_") in PRODUCTS:
            self.gemm_bytes += moved
        else:
            self.elementwise_bytes += moved


@contextmanager
def counting(answer: Answer | None = None) -> Iterator[Count]:
    """Counts what is done to tensors on ``DEVICE`` until it ends.

    ``answer``: what the host finds in a tensor that it reads, a tensor of the same shape; zeros by default.
    """
    count = Count()
    with _Launches(count), _Waits(count, answer or (lambda asked: torch.zeros(asked.shape, dtype=asked.dtype))):
        yield count


class _Waits(TorchFunctionMode):
    """Sees what Python asks of tensors: whatever brings numbers to the host, or from it."""

    def __init__(self, count: Count, answer: Answer) -> None:
        super().__init__()
        self._count, self._answer = count, answer

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if args and _on_device(args[0]):
            if name in ("tolist", "item", "__bool__", "__int__", "__float__", "__index__"):
                return getattr(self._read(name, args[0]), name)()
            if name == "cpu" or (name == "to" and "cpu" in map(str, (*args[1:], *kwargs.values()))):
                return self._read(name, args[0])
            if name == "copy_" and not _on_device(args[1]) and not kwargs.get("non_blocking"):
                self._count.waits.append(name)
        result = func(*args, **kwargs)
        if name in DATA_OF_PYTHON and _on_device(result):
            self._count.waits.append(name)
            self._count.add("host copy", 1, _bytes(result))
        return result

    def _read(self, name: str, asked: Tensor) -> Tensor:
        self._count.waits.append(name)
        self._count.add("host copy", 1, _bytes(asked))
        return self._answer(asked)


class _Launches(TorchDispatchMode):
    """Sees the operations below Python."""

    def __init__(self, count: Count) -> None:
        super().__init__()
        self._count = count

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]
        if func.namespace not in ("aten", NAMESPACE):
            return func(*args, **kwargs)
        if name == "scaled_dot_product_attention" and _on_device(args[0]):
            return self._attention(*args, **kwargs)
        if name == "rms_norm" and _on_device(args[0]) and (args[2] is None or args[2].dtype == args[0].dtype):
            result = torch.empty_like(args[0])
            self._count.add(name, 1, _bytes(args[0]) + _bytes(result))
            return result
        if func._can_decompose():
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        written = [leaf for leaf in tree_leaves(result) if _on_device(leaf)]
        if all(leaf.numel() == 0 for leaf in written) and written:
            return result  # nothing to do, nothing launched
        if written and not func.is_view and name not in ALLOCATIONS:
            self._count.add(name, _kernels(name, args, kwargs), _moved(name, args, kwargs, written))
        elif not written and any(_on_device(leaf) for leaf in tree_leaves((args, kwargs))):
            self._count.waits.append(name)  # a copy to the host
        return result

    def _attention(
        self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, *rest: Any, **more: Any
    ) -> Tensor:
        """Its result lies as (B, N, heads, head_dim), so that taking the heads together is free."""
        b, heads, n, _ = q.shape
        result = torch.empty(b, n, heads, v.shape[-1], device=q.device, dtype=q.dtype).transpose(1, 2)
        moved = sum(map(_bytes, (q, k, v, result)))
        if attn_mask is not None:
            moved += _bytes(attn_mask)
            if attn_mask.dtype == torch.bool:
                self._count.add("mask to numbers", 3, 6 * _bytes(attn_mask))
            if any(stride % ALIGNED for stride in attn_mask.stride()[:-1]):
                self._count.add("mask padded", 2, 3 * _bytes(attn_mask))
        self._count.add("scaled_dot_product_attention", 1, moved)
        return result


def _kernels(name: str, args: tuple, kwargs: dict[str, Any]) -> int:
    if name in ("cat", "stack"):
        parts = [part for part in args[0] if part.numel()]
        one = parts and parts[0].ndim + (name == "stack") <= CAT_DIMENSIONS and len({p.dtype for p in parts}) == 1
        return 1 if one else len(parts)
    if name in ("masked_fill", "constant_pad_nd", "eye"):
        return 2
    if name == "convolution":
        return 1 + (args[2] is not None)
    if name in ("addmm", "baddbmm") and args[0].ndim > 1:
        return 2
    if name == "topk":
        in_order = args[4] if len(args) > 4 else kwargs.get("sorted", True)
        return 1 + bool(in_order and args[1] > 1)
    return 1


def _moved(name: str, args: tuple, kwargs: dict[str, Any], written: list[Tensor]) -> int:
    """Bytes that are read and written."""
    out = sum(map(_bytes, written))
    if name in GATHERS:
        return 2 * out
    if name == ROTARY:
        return sum(_bytes(tensor) for tensor in (*args[:3], args[0], args[4]) if tensor is not None)
    operands = [leaf for leaf in tree_leaves((args, kwargs)) if _on_device(leaf)]
    if name in SCATTERS:
        return 2 * sum(_bytes(operand) for operand in operands[1:])
    if name in ("copy_", "fill_", "zero_"):
        return out + sum(_bytes(operand) for operand in operands[1:])
    return out + sum(map(_bytes, operands))


def _bytes(tensor: Tensor) -> int:
    """What lies in memory: a dimension that is only repeated counts once."""
    size = tensor.element_size()
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        size *= length if stride else min(length, 1)
    return size


def _on_device(value: Any) -> bool:
    return isinstance(value, Tensor) and value.device.type == DEVICE.type
