"""CUDA graphs: a function that always reads and writes the same tensors, recorded once and replayed by one launch.

At batch size one a fast GPU waits for the host most of the time: a pass over a 7B model is four hundred launches
(``spec-vla bench launches`` counts them). Whatever changes between two calls must therefore lie in tensors, never in
Python values, and nothing may be copied from or to the host on the way: no ``torch.tensor``, no ``torch.where`` with a
number, no ``item``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

log = logging.getLogger(__name__)
WARM_UP = 2  # calls before recording: libraries choose kernels and allocate workspaces in the first ones


class Replay:
    """``function`` of no arguments, on CUDA recorded at its first call; elsewhere, and where recording fails, called.

    What it returns is overwritten by the next call of any function that shares ``pool``.
    """

    def __init__(self, function: Callable[[], Any], pool: Pool) -> None:
        self._function, self._pool = function, pool
        self._graph: torch.cuda.CUDAGraph | None = None
        self._returned: Any = None

    def __call__(self) -> Any:
        """The function's result."""
        if self._graph is None and self._pool.records:
            self._record()
        if self._graph is None:
            return self._function()
        self._graph.replay()
        return self._returned

    def _record(self) -> None:
        try:
            current = torch.cuda.current_stream()
            side = torch.cuda.Stream()
            side.wait_stream(current)
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    self._function()
            current.wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool.handle):
                self._returned = self._function()
            self._graph = graph
        except RuntimeError as error:
            # Slower, and right all the same: an arm that works beats one that does not start.
            self._pool.give_up(f"CUDA graphs are off, recording one failed: {error}")


class Pool:
    """Memory that recorded functions share. ``wanted``: record at all; only ever done on a CUDA ``device``."""

    def __init__(self, device: torch.device, wanted: bool = True) -> None:
        self.records = wanted and device.type == "cuda"
        self.problem = ""
        self.handle = torch.cuda.graph_pool_handle() if self.records else None

    def give_up(self, why: str) -> None:
        """Record nothing more; ``problem`` says why."""
        self.records, self.problem = False, why
        log.warning(why)
