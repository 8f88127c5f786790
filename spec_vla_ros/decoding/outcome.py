"""What a pass of the verifier is asked, and what it answers.

The answer is one vector of integers, made on the device: waiting for a device is what costs, so there is one wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from spec_vla_ros.openvla.action_tokens import ActionTokens

from .acceptance import UNLIMITED, best_node, margins_of
from .tree import DraftTree

NO_DRAFT = DraftTree()
MICRO = 1_000_000  # margins travel as whole micronats


@dataclass(frozen=True)
class Question:
    """``settled``: input rows (1, K, H) of a prompt, or the id of one settled token, for cache slot ``start`` and
    those after it. ``tree``: M ids that may follow; ``radii``: distance in bins within which they stand, by depth;
    ``budget``: of the sum along a branch, of which a bin takes what ``costs`` says, by depth; 1 where nothing is said.
    """

    settled: Tensor | int
    start: int
    tree: DraftTree = NO_DRAFT
    radii: Sequence[int] = ()
    budget: int = UNLIMITED
    costs: Sequence[int] = ()

    @property
    def count(self) -> int:
        """K, settled rows."""
        return 1 if isinstance(self.settled, int) else self.settled.shape[1]

    @property
    def edge(self) -> int:
        """First slot behind the settled rows, where the drafted ones begin."""
        return self.start + self.count

    @property
    def nodes(self) -> list[list[int]]:
        """The rows of :class:`Nodes`."""
        tree, costs = self.tree, self.costs
        limits = [self.radii[depth] for depth in tree.depths]
        prices = [costs[depth] if costs else 1 for depth in tree.depths]
        return [list(tree.tokens), [parent + 1 for parent in tree.parents], list(tree.depths), limits, prices]


class Nodes(NamedTuple):
    """Drafted rows on the device, each (N,) int64: ids, parents (shifted so that 0 is the root), tokens before each on
    its branch, radius in bins, and what a bin takes of the budget.
    """

    ids: Tensor
    parents: Tensor
    depths: Tensor
    limits: Tensor
    prices: Tensor


@dataclass(frozen=True)
class Answer:
    """``outcome``: of :func:`outcome_of`, on the device. ``hidden`` (1, rows, H): states after the final norm, valid
    until the next pass; the settled rows come first, those of the tree begin at row ``nodes_at``.
    """

    outcome: Tensor
    hidden: Tensor
    nodes_at: int


@dataclass(frozen=True)
class Judgement:
    """``greedy``: the verifier's argmax after the last settled row, then after each node (M + 1 ids). ``margins``:
    how sure it is of each, nats. ``path``: the accepted nodes from the root on.
    """

    greedy: list[int]
    margins: list[float]
    path: list[int]


def outcome_of(
    logits: Tensor,
    nodes: Nodes,
    ancestors: Tensor,
    tokens: ActionTokens,
    budget: int | Tensor,
    unread: Tensor | None,
) -> Tensor:
    """(2 N + 4,) int64: N + 1 choices, the last accepted node, whether all is finite, N + 1 margins in micronats.

    ``logits`` (N + 1, vocabulary) after the last settled row and after each node; ``ancestors`` (N, N); ``unread``
    (N + 1,): nobody asks for it, so it need not be finite; None = all are asked for.
    """
    greedy = logits.argmax(1)  # the lowest id where logits tie
    best = best_node(nodes.ids, greedy[nodes.parents], nodes.limits, ancestors, tokens, budget, nodes.prices)
    finite = logits.isfinite().all(1)
    if unread is not None:
        finite = finite | unread
    margins = (margins_of(logits, tokens) * MICRO).long()
    return torch.cat([greedy, best[None], finite.all()[None].long(), margins])


def read_outcome(outcome: Tensor, tree: DraftTree) -> Judgement | None:
    """The vector in words; None where a number was not finite. The only wait for the device."""
    said = outcome.tolist()
    judged = len(said) // 2 - 1  # those of the tree, and what only filled up
    choices, (node, finite), margins = said[:judged], said[judged : judged + 2], said[judged + 2 :]
    if not finite:
        return None
    real = len(tree) + 1
    return Judgement(choices[:real], [margin / MICRO for margin in margins[:real]], tree.path(node))


def bias_of(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """``seen`` (boolean, True = may see) as numbers to add: attention would make them anew in every layer."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))
