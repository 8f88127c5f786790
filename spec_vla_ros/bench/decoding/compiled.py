"""Passes through ``torch.compile``, recorded by us as usual: what fusing could bring at most. For measuring only.

Every shape of a pass is compiled at its first use, which for 32 layers takes a minute, and needs a C++ compiler on a
CPU and Triton on a GPU; an arm does not wait for that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from spec_vla_ros.decoding.fixed_shapes import FixedShapes, Shape
from spec_vla_ros.decoding.verifier import Verifier

SHAPES = 64  # that may be compiled; torch gives up after eight


def compile_passes(verifier: Verifier) -> None:
    """Make the passes of ``verifier``, which has fixed shapes, compiled ones. Nothing is compiled yet."""
    shapes = verifier.shapes
    if not isinstance(shapes, FixedShapes):
        raise ValueError("only passes of fixed shape are compiled")
    from torch import _dynamo  # a second that nobody else waits for

    _dynamo.config.recompile_limit = SHAPES
    plain, made = shapes.forward, {}

    def forward(shape: Shape) -> Any:
        if shape not in made:
            made[shape] = torch.compile(_of(plain, shape), dynamic=False)
        return made[shape]()

    shapes.forward = forward


def _of(plain: Callable[[Shape], Any], shape: Shape) -> Callable[[], Any]:
    return lambda: plain(shape)
