"""CUDA graphs: a function that always reads and writes the same tensors, recorded once and replayed by one launch.

At batch size one a fast GPU waits for the host most of the time: a pass over a 7B model is three hundred launches
(``spec-vla bench launches`` counts them). Whatever changes between two calls must therefore lie in tensors, never in
Python values, and nothing may be copied from or to the host on the way: no ``torch.tensor``, no ``torch.where`` with a
number, no ``item``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import torch

log = logging.getLogger(__name__)
WARM_UP = 2  # calls before recording: libraries choose kernels and allocate workspaces in the first ones


class Replay:
    """``function`` of no arguments, on CUDA recorded at its first call; elsewhere, and where nothing is recorded any
    more (:meth:`Pool.close`) or recording fails, called. ``name``: for people, who are told of that.

    What it returns is overwritten by the next call of any function that shares ``pool``.
    """

    def __init__(self, function: Callable[[], Any], pool: Pool, name: str) -> None:
        self._function, self._pool, self._name = function, pool, name
        self._graph: torch.cuda.CUDAGraph | None = None
        self._returned: Any = None

    def __call__(self) -> Any:
        """The function's result."""
        if self._graph is None and self._pool.may_record(self._name):
            self._record()
        if self._graph is None:
            return self._function()
        self._graph.replay()
        return self._returned

    def _record(self) -> None:
        current = torch.cuda.current_stream()
        side = torch.cuda.Stream()
        try:
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
            self._pool.give_up(f"CUDA graphs are off, recording {self._name} failed: {error}")
        finally:
            if self._graph is None:
                # Torch leaves its own stream current where ending a broken recording raises, and what the side stream
                # has been asked is not over: either would let later work overtake what it needs.
                torch.cuda.set_stream(current)
                current.wait_stream(side)


class Pool:
    """Memory that recorded functions share. ``wanted``: record at all; only ever done on a CUDA ``device``.

    ``problem``: why nothing is recorded, or what had to be called because it was not; "" where all is well.
    """

    def __init__(self, device: torch.device, wanted: bool = True) -> None:
        self.records = wanted and device.type == "cuda"
        self.problem = ""
        self.handle = torch.cuda.graph_pool_handle() if self.records else None
        self._closed = False
        self._missing: set[str] = set()

    def close(self) -> None:
        """Record nothing from now on, because an arm may move: a recording takes as long as several passes. What was
        recorded is replayed as before.
        """
        self._closed = True

    def open(self) -> None:
        """Record again."""
        self._closed = False

    def may_record(self, name: str) -> bool:
        """Whether what is called ``name`` and is not recorded shall be; told once where it is too late."""
        if not self.records or not self._closed:
            return self.records
        if name not in self._missing:
            self._missing.add(name)
            self.problem = f"not recorded when the model was loaded, so slower: {', '.join(sorted(self._missing))}"
            log.warning(f"{name} was not recorded when the model was loaded and runs without a recording, slower")
        return False

    def give_up(self, why: str) -> None:
        """Record nothing more; ``problem`` says why."""
        self.records, self.problem = False, why
        log.warning(why)


def state_of(pools: Iterable[Pool]) -> str:
    """What is wrong with any of ``pools``, else "on" or "off"."""
    pools = list(pools)
    problems = dict.fromkeys(pool.problem for pool in pools if pool.problem)
    return "; ".join(problems) or ("on" if any(pool.records for pool in pools) else "off")
