"""The error of quantised layers of 7B shapes, with and without channels that are much larger than the others.

Random numbers, so this is about formats and not about OpenVLA. Errors are parts of what the ordinary channels say: the
outliers' own share of an output would hide what they do to the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import KINDS

WIDTHS = {"hidden": 4096, "inner": 11008}  # inputs of q, k, v, o, gate and up; of down
OUTPUTS, ROWS = 512, 64  # an error is one of inputs: so many outputs are enough to know it
CHANNELS = 8  # that are larger, the same ones in every row, as language models have them


@torch.no_grad()
def measure(precisions: Sequence[str], sizes: Sequence[float], say: Callable[[str], None]) -> list[dict[str, Any]]:
    """One row per precision and size of the outliers (times the others; 1 = none), as they are and rotated."""
    rows = []
    for precision in precisions:
        if precision not in KINDS:
            continue
        for size in sizes:
            plain, turned = zip(*(errors(precision, width, size) for width in WIDTHS.values()), strict=True)
            rows.append({
                "precision": precision, "outliers": size, "channels": CHANNELS, "rows": ROWS,
                "error": dict(zip(WIDTHS, plain, strict=True)), "error_rotated": dict(zip(WIDTHS, turned, strict=True)),
            })  # fmt: skip
            say(f"{precision:<13} {CHANNELS} channels {size:g} times the others: error {100 * max(plain):.2f} %, "
                f"rotated {100 * max(turned):.2f} %")  # fmt: skip
    return rows


def errors(precision: str, width: int, size: float) -> tuple[float, float]:
    """Root mean square of the error over that of what the ordinary channels say, as is and after a rotation."""
    generator = torch.Generator().manual_seed(0)
    weight = 0.02 * torch.randn(OUTPUTS, width, generator=generator)
    x = torch.randn(ROWS, width, generator=generator)
    ordinary = F.linear(x, weight).std()
    x[:, torch.randperm(width, generator=generator)[:CHANNELS]] *= size
    exact = F.linear(x, weight)
    found = []
    for rows, matrix in ((x, weight), (rotated(x), rotated(weight))):
        layer = KINDS[precision](width, OUTPUTS, torch.float32)
        layer.fill(matrix)
        found.append(round(float((layer(rows) - exact).pow(2).mean().sqrt() / ordinary), 5))
    return found[0], found[1]


def rotated(x: Tensor) -> Tensor:
    """``x`` (..., n) times an orthogonal Hadamard matrix, in blocks of the largest power of two that divides n."""
    block = x.shape[-1] & -x.shape[-1]
    parts = x.unflatten(-1, (-1, block))
    matrix = torch.ones(1, 1)
    while len(matrix) < block:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return (parts @ matrix / block**0.5).flatten(-2)
