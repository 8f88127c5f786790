"""Draft from the verifier's own states: the tree of Spec-VLA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from spec_vla_ros.decoding.deferred import Later, Shape
from spec_vla_ros.decoding.fixed_shapes import TREE_LEVELS
from spec_vla_ros.decoding.heads.eagle_head import EagleHead
from spec_vla_ros.decoding.verifier import cache_slots
from spec_vla_ros.openvla.llama import KVCache
from spec_vla_ros.openvla.loader import LoadedModel
from spec_vla_ros.openvla.model import OpenVLA

from .base import DraftContext, Drafter, Observation
from .eagle_rows import NODES, ExactRows, FixedRows
from .growth import scored


def eagle_slots(loaded: LoadedModel) -> int:
    """Rows that the head's cache needs: what the verifier settles, a full frontier on all levels but the last, and a
    spare one.
    """
    return cache_slots(loaded) + (TREE_LEVELS - 1) * NODES + 1


class Eagle(Drafter):
    """The dynamic tree of EAGLE-2 over the head's guesses: per level the ``width`` most probable nodes are expanded
    by ``width`` children each, and of all scored nodes the best ``NODES`` are drafted. A level is never wider than
    that (what is not among its best cannot be among the best of all), and growth ends where the cache of ``slots`` rows
    is full, which within the ranges of the node's parameters (:func:`eagle_slots`) it never is.

    Costs a layer of the verifier's size per level. Needs the verifier's states, so it has nothing to say before the
    first pass. Only action tokens are drafted. Rows stand at their true positions; the public implementation starts its
    levels at 0, which heads trained by it have never seen in training: ``published_positions`` repeats that for
    comparison.

    ``fixed_shapes``: compute in few shapes, by default on CUDA only, where they are recorded as CUDA graphs, trees of
    the width that was warmed up; others are not recorded. Where a tree's shape may be deferred it stays on the device
    like its ids, so that nobody waits for it. What is drafted is the same.
    """

    name: ClassVar[str] = "eagle"
    from_verifier: ClassVar[bool] = True
    widest: ClassVar[int] = 8
    expected: ClassVar[tuple[float, float]] = (0.1, 0.4)

    def __init__(
        self,
        head: EagleHead,
        model: OpenVLA,
        slots: int,
        published_positions: bool = False,
        *,
        fixed_shapes: bool | None = None,
    ) -> None:
        self.head = head
        self._widest = min(NODES, model.config.n_action_bins)  # children
        self._fixed = model.device.type == "cuda" if fixed_shapes is None else fixed_shapes
        make = FixedRows if self._fixed else ExactRows
        self._rows = make(head, model, slots, published_positions)
        self.pool = self._rows.pool
        self.one_width = self._fixed  # another one is another recording
        self._observation: Observation | None = None
        self._fed = 0  # rows that it has caught up with

    @property
    def cache(self) -> KVCache:
        """Of the head."""
        return self._rows.cache

    def begin(self, observation: Observation | None) -> None:
        """A new prompt: nothing of the old one stays."""
        self._observation, self._fed = observation, 0
        self._rows.begin()

    @torch.inference_mode()
    def warm_up(self, width: int) -> None:
        """Trees of ``width`` children, of all depths; exact shapes have nothing to record."""
        self._rows.warm_up(min(width, self._widest))

    def most_rows(self, width: int, count: int) -> int:
        """Those of its tree, whose branches share them."""
        return min(scored(min(width, self._widest), count), NODES)

    @torch.inference_mode()
    def propose(self, context: DraftContext) -> Sequence[Sequence[int | Later]]:
        """The branches of the tree, the likeliest leaf first; nothing where it was not asked behind every pass. What is
        deferred is valid until the next call.
        """
        if context.states is None or self._observation is None:
            return []
        prompt, settled = self._observation.prompt, len(context.states.among()[1])
        if self._fed + settled != prompt.shape[1] + len(context.rows) - 1:
            return []  # the states of an earlier pass are gone
        self._rows.catch_up(prompt, context.rows, context.states, self._fed)
        self._fed += settled
        width = min(context.width, self._widest)
        count = min(context.count, 1 + (self._rows.room - self._fed) // width)
        found = self._rows.grow(width, count)
        if self._fixed and context.deferred is not None and context.deferred.shapes:
            return context.deferred.put_grown(found)
        nodes, numbers = len(found.ids), torch.cat([found.ids, found.parents, found.scores]).tolist()
        ids, parents = ([int(number) for number in part] for part in (numbers[:nodes], numbers[nodes : 2 * nodes]))
        return [[ids[node] for node in branch] for branch in Shape(parents, numbers[2 * nodes :]).branches()]
