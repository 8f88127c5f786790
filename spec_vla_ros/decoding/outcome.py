"""What a pass of the verifier is asked, and what it answers.

The answer is one vector of numbers, made on the device: waiting for a device is what costs, so there is one wait.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spec_vla_ros.openvla.action_tokens import ActionTokens

from .acceptance import UNLIMITED, best_node, margins_of
from .tree import DraftTree

NO_DRAFT = DraftTree()
LARGEST = 1e6  # nats; the margin where nothing else was possible
PARTS = 4  # of an outcome, each of one number per row


@dataclass(frozen=True)
class Question:
    """``settled``: input rows (1, K, H) of a prompt, or the id of one settled token, for cache slot ``start`` and
    those after it. ``tree``: M nodes that may follow; ``radii``: distance in bins within which they stand, by depth;
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

    def path(self, choices: Sequence[int], tokens: ActionTokens) -> list[int]:
        """The nodes that stand where the verifier's argmax at the root and after each node is ``choices`` (M + 1).
        All ids of the tree are known.
        """
        tree = self.tree
        return tree.path(best_node(tree, choices, self.radii, tokens, self.budget, self.costs))


@dataclass(frozen=True)
class Answer:
    """``outcome``: of :func:`outcome_of`, on the device, and behind it the ids that were deferred. ``hidden`` (1, rows,
    H): states after the final norm, valid until the next pass; the settled rows come first, those of the tree begin at
    row ``nodes_at``.
    """

    outcome: Tensor
    hidden: Tensor
    nodes_at: int


@dataclass(frozen=True)
class Judgement:
    """``greedy``: the verifier's argmax after the last settled row, then after each node (M + 1 ids) of the tree whose
    ids are all known (:attr:`.tree.DraftTree.known`). ``margins``: how sure it is of each, nats. ``path``: the accepted
    nodes from the root on.
    """

    greedy: list[int]
    margins: list[float]
    path: list[int]


def outcome_of(logits: Tensor, tokens: ActionTokens, apart: Tensor) -> Tensor:
    """(4 * rows,) float32: the choice after each row, its margin in nats, the least and the largest logit.

    ``logits`` (rows, vocabulary) float32 after the last settled row, after each node, and of rows that nobody reads;
    ``apart``: of :func:`.acceptance.far_apart`. Ids are far below 2^24, so float32 holds them exactly.
    """
    greedy = logits.argmax(1)  # the lowest id where logits tie
    least, largest = logits.aminmax(dim=1)  # neither is finite where any is not a number
    return torch.cat([greedy.to(logits.dtype), margins_of(logits, tokens, apart), least, largest])


def read_outcome(outcome: Tensor, question: Question, tokens: ActionTokens) -> Judgement | None:
    """The vector in words, and which nodes stand; None where a number was not finite. Makes known what was deferred.
    The only wait for the device.
    """
    said, deferred = outcome.tolist(), question.tree.deferred
    if deferred is not None:
        ends = len(said) - len(deferred)
        deferred.open(said[ends:])
        said = said[:ends]
    real, rows = len(question.tree) + 1, len(said) // PARTS
    choices, margins, least, largest = (said[part * rows :][:real] for part in range(PARTS))
    if not all(map(math.isfinite, (*least, *largest))):
        return None
    tree, nodes = question.tree.known
    kept = [0, *(node + 1 for node in nodes)]
    greedy = [int(choices[row]) for row in kept]
    path = replace(question, tree=tree).path(greedy, tokens)
    return Judgement(greedy, [min(margins[row], LARGEST) for row in kept], path)


def bias_of(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """``seen`` (boolean, True = may see) as numbers to add: attention would make them anew in every layer."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))
