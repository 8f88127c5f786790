"""The rotary embedding of queries and keys, and keys and values to their slots of the cache, as one kernel.

Importing this file needs Triton.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

PAIRS = 256  # of numbers that are turned into each other, of queries and of keys, for each block of threads
WARPS = 1  # of a block: eight pairs a thread, which in half precision are loads of 16 bytes


# Every number here changes from pass to pass or from cache to cache. So does where the slots lie: among what else the
# host tells a pass, at a multiple of 16 bytes or not, which would be two variants.
@triton.jit(do_not_specialize=["at", "room", "start"])
def rotary_write(
    qkv, cos, sin, cache, at, out, room, start,
    heads: tl.constexpr, half: tl.constexpr, block: tl.constexpr, listed: tl.constexpr,
):  # fmt: skip
    """Pointers and numbers as :func:`launch` gives them; ``block`` heads of a row. ``listed``: ``at`` is a list of
    slots, else ``start`` is the first of them. What has no slot in the cache is not written there.
    """
    row, width = tl.program_id(0).to(tl.int64), 2 * half
    head, pair = tl.program_id(1) * block + tl.arange(0, block), tl.arange(0, half)
    cell, there = head[:, None] * width + pair[None, :], (head < heads)[:, None]
    slot = start + row
    if listed:
        slot = tl.load(at + row)
    inside = there & (slot >= 0) & (slot < room)
    # The halves of a table are equal.
    along = tl.load(cos + row * width + pair).to(tl.float32)[None, :]
    across = tl.load(sin + row * width + pair).to(tl.float32)[None, :]
    for part in tl.static_range(3):  # queries, keys, values
        source = qkv + (3 * row + part) * heads * width + cell
        low = tl.load(source, mask=there, other=0.0)
        high = tl.load(source + half, mask=there, other=0.0)
        if part < 2:
            x, y = low.to(tl.float32), high.to(tl.float32)
            low, high = (x * along - y * across).to(low.dtype), (y * along + x * across).to(high.dtype)
        if part == 0:
            tl.store(out + row * heads * width + cell, low, mask=there)
            tl.store(out + row * heads * width + cell + half, high, mask=there)
        else:
            kept = cache + (((part - 1) * heads + head)[:, None] * room + slot) * width + pair[None, :]
            tl.store(kept, low, mask=inside)
            tl.store(kept + half, high, mask=inside)


def launch(qkv: Tensor, cos: Tensor, sin: Tensor, cache: Tensor, slots: Tensor | None, start: int, out: Tensor) -> None:
    """Write ``out``, whose memory is (N, heads, head_dim), and ``cache``; see :func:`.operators.rotary_write`."""
    heads, room, width = cache.shape[2:]
    half = width // 2
    block = max(1, min(triton.next_power_of_2(heads), PAIRS // half))
    with torch.cuda.device_of(qkv):
        rotary_write[(qkv.shape[1], triton.cdiv(heads, block))](
            qkv.contiguous(), cos.contiguous(), sin.contiguous(), cache,
            cache if slots is None else slots.contiguous(), out, room, start,
            heads=heads, half=half, block=block, listed=slots is not None, num_warps=WARPS,
        )  # fmt: skip
