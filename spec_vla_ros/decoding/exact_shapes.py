"""A pass with as many rows as there are: no filling, nothing recorded. Right for a CPU, where rows are what costs."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from spec_vla_ros.openvla.action_tokens import ActionTokens
from spec_vla_ros.openvla.llama import KVCache, rope_tables
from spec_vla_ros.openvla.model import OpenVLA

from .outcome import Answer, Nodes, Question, bias_of, outcome_of
from .tree import ancestors_of


class ExactShapes:
    """Runs passes of ``model`` on ``cache``; every pass has its own shape."""

    def __init__(self, model: OpenVLA, tokens: ActionTokens, cache: KVCache) -> None:
        self._model, self._tokens, self._cache = model, tokens, cache
        self._positions = torch.arange(cache.slots, device=model.device)
        self._cos, self._sin = rope_tables(model.config.llama, self._positions, model.dtype)

    def sizes(self) -> Iterator[tuple[int, int]]:
        """Nothing is worth being done before it is needed."""
        return iter(())

    def run(self, question: Question) -> Answer:
        """The pass: settled rows and then the tree, in the slots from ``question.start`` on."""
        language_model, tree, edge = self._model.language_model, question.tree, question.edge
        nodes = Nodes(*self._positions.new_tensor(question.nodes))
        rows = question.settled
        if isinstance(rows, int):
            rows = language_model.embed(self._positions.new_tensor([[rows]]))
        rows = torch.cat([rows, language_model.embed(nodes.ids)[None]], dim=1)
        ancestors = ancestors_of(nodes.parents, tree.levels)
        # A node stands where its token would stand in the action, wherever its slot is.
        places = torch.cat([self._positions[question.start : edge], edge + nodes.depths])
        rope = self._cos[..., places, :], self._sin[..., places, :]
        hidden = language_model(
            rows, places, self._mask(question, ancestors), self._cache, question.start, rope, edge + len(tree)
        )
        logits = language_model.logits(hidden[0, question.count - 1 :])  # after the last settled row and each node
        outcome = outcome_of(logits, nodes, ancestors, self._tokens, question.budget, None)
        return Answer(outcome, hidden, question.count)

    def _mask(self, question: Question, ancestors: Tensor) -> Tensor | None:
        """(rows, slots): settled rows see what is before them, nodes the settled rows and their own branch."""
        if question.count + len(question.tree) == 1:
            return None  # the one row there is sees everything
        start, edge = question.start, question.edge
        seen = self._positions[: edge + len(question.tree)] <= self._positions[start:edge, None]
        nodes = torch.cat([ancestors.new_ones(len(question.tree), edge), ancestors], dim=1)
        seen = torch.cat([seen, nodes])
        return bias_of(seen, self._model.dtype)
