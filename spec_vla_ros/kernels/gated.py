"""SiLU and the multiplication of a gated MLP as one kernel. Importing this file needs Triton."""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024  # numbers of a row that one block of threads makes


@triton.jit
def silu_times(both, out, width, block: tl.constexpr):
    """Rows of ``both``, (N, 2 * width), to rows of ``out``, (N, width)."""
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * block + tl.arange(0, block)
    there = column < width
    gate = tl.load(both + row * 2 * width + column, mask=there, other=0.0)
    up = tl.load(both + row * 2 * width + width + column, mask=there, other=0.0)
    wide = gate.to(tl.float32)
    # Rounded here as well, as it would be on its way through memory.
    silu = (wide / (1.0 + tl.exp(-wide))).to(gate.dtype)
    tl.store(out + row * width + column, (silu.to(tl.float32) * up.to(tl.float32)).to(gate.dtype), mask=there)


def launch(both: Tensor, out: Tensor) -> None:
    """Write ``out`` (..., width) for ``both`` (..., 2 * width); see :func:`.operators.silu_times`."""
    width = out.shape[-1]
    with torch.cuda.device_of(both):
        silu_times[(out.numel() // width, triton.cdiv(width, BLOCK))](both.contiguous(), out, width, block=BLOCK)
