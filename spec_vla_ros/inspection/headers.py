"""Names, types and shapes of tensors on disk, without the tensors.

Safetensors: eight bytes with the length of a JSON header, the header, the data (the format's own description, version
0.3 and later). Files of ``torch.save`` are mapped and put on the meta device, so their data stay on disk as well.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spec_vla_ros.errors import CheckpointError
from spec_vla_ros.lfs_pointer import lfs_pointer

from .findings import size_of

LONGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors library
TORCH_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8",
    "BOOL": "bool",
}  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """One tensor. ``dtype``: torch's name of it, or the file's own where torch has none."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)

    @property
    def floating(self) -> bool:
        """Whether it can be a weight."""
        return "float" in self.dtype or self.dtype.startswith("F")

    def meta(self) -> torch.Tensor:
        """A tensor of this shape without data."""
        return torch.empty(self.shape, device="meta")


def read_safetensors(path: Path) -> dict[str, Stored]:
    """The header of a safetensors file. Raises :class:`CheckpointError` where the file cannot hold what it promises."""
    _require(path)
    if pointer := lfs_pointer(path):
        raise CheckpointError(pointer)
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= LONGEST_HEADER or 8 + length > size:
                raise CheckpointError(
                    f"{path} is truncated or not a safetensors file: {size_of(size)} without a whole header"
                )
            header: dict[str, Any] = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        tensors = {
            name: Stored(TORCH_NAMES.get(about["dtype"], about["dtype"]), tuple(about["shape"]))
            for name, about in header.items()
        }
        end = 8 + length + max((about["data_offsets"][1] for about in header.values()), default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is truncated or not a safetensors file: {error}") from error
    if size < end:
        raise CheckpointError(f"{path} is truncated: {size:,} of {end:,} bytes ({size / end:.1%})")
    return tensors


def read_torch_file(path: Path) -> dict[str, Stored]:
    """The tensors of a ``torch.save`` file (a state dictionary). Raises :class:`CheckpointError`."""
    _require(path)
    if pointer := lfs_pointer(path):
        raise CheckpointError(pointer)
    try:
        state = torch.load(path, map_location="meta", mmap=True, weights_only=True)
        return {name: Stored(str(t.dtype).removeprefix("torch."), tuple(t.shape)) for name, t in state.items()}
    except Exception as error:  # zip, pickle and torch fail in many ways on a file that was cut
        raise CheckpointError(f"{path} is truncated or not a file of torch.save: {error}") from error


def _require(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path} is a link to nothing" if path.is_symlink() else f"{path} is missing")
