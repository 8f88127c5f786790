"""A pass with as many rows as there are: no filling, nothing recorded. Right for a CPU, where rows are what costs."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from spec_vla_ros.openvla.action_tokens import ActionTokens
from spec_vla_ros.openvla.llama import KVCache, rope_tables
from spec_vla_ros.openvla.model import OpenVLA

from .acceptance import far_apart
from .outcome import Answer, Question, bias_of, outcome_of
from .tree import ancestors_of


class ExactShapes:
    """Runs passes of ``model`` on ``cache``; every pass has its own shape."""

    def __init__(self, model: OpenVLA, tokens: ActionTokens, cache: KVCache) -> None:
        self._model, self._tokens, self._cache = model, tokens, cache
        self._apart = far_apart(tokens, model.device)
        self._positions = torch.arange(cache.slots, device=model.device)
        self._cos, self._sin = rope_tables(model.config.llama, self._positions, model.dtype)

    def sizes(self) -> Iterator[tuple[int, int]]:
        """Nothing is worth being done before it is needed."""
        return iter(())

    def run(self, question: Question) -> Answer:
        """The pass: settled rows and then the tree, in the slots from ``question.start`` on."""
        language_model, tree, edge = self._model.language_model, question.tree, question.edge
        new, rows = self._positions.new_tensor, question.settled
        if isinstance(rows, int):
            rows = language_model.embed(new([[rows, *tree.tokens]]))
        elif len(tree):
            rows = torch.cat([rows, language_model.embed(new([tree.tokens]))], dim=1)
        places = self._positions[question.start : edge]
        if len(tree):  # a node stands where its token would stand in the action, wherever its slot is
            places = torch.cat([places, new([edge + depth for depth in tree.depths])])
        rope = self._cos[..., places, :], self._sin[..., places, :]
        hidden = language_model(rows, places, self._mask(question), self._cache, question.start, rope, edge + len(tree))
        logits = language_model.logits(hidden[0, question.count - 1 :])  # after the last settled row and each node
        return Answer(outcome_of(logits, self._tokens, self._apart), hidden, question.count)

    def _mask(self, question: Question) -> Tensor | None:
        """(rows, slots): settled rows see what is before them, nodes the settled rows and their own branch."""
        if question.count + len(question.tree) == 1:
            return None  # the one row there is sees everything
        start, edge = question.start, question.edge
        seen = self._positions[: edge + len(question.tree)] <= self._positions[start:edge, None]
        if len(question.tree):
            ancestors = torch.from_numpy(ancestors_of(question.tree)).to(seen.device)
            seen = torch.cat([seen, torch.cat([ancestors.new_ones(len(question.tree), edge), ancestors], dim=1)])
        return bias_of(seen, self._model.dtype)
