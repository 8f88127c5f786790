"""Drafts whose ids stay on the device until the pass that verifies them has run.

A tree is made on the host. To see the ids of drafts it would wait for the device, and the device then for the tree. Yet
a pass needs no more than the shape of the tree from the host, and of a part that grew on the device not even that: such
ids, and who is before whom, are copied on the device, and come to the host together with the outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # trees and what drafters are told are wanted where torch is not loaded
    from torch import Tensor


@dataclass(frozen=True)
class Later:
    """Stands in a branch for an id that the host does not know yet; ``place``: of it in a :class:`Deferred`. No two
    places are equal, whatever ids are there, so that branches of them share nothing.
    """

    place: int


@dataclass(frozen=True)
class Grown:
    """N nodes that grew on the device, every parent before its children.

    ``ids`` (N,) int64; ``parents`` (N,) int64: the number of the node before each, counted from 1, and 0 for none;
    ``scores`` (N,) float32: the higher the likelier, of a child never higher than its parent's. What only a pass on the
    device needs, and follows from these: ``depths`` (N,) int64, nodes before each on its branch; ``sees`` (N, N): 0 for
    a node and those before it on its branch, minus infinity for all others.
    """

    ids: Tensor
    parents: Tensor
    scores: Tensor
    depths: Tensor
    sees: Tensor

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.ids)


@dataclass(frozen=True)
class Shape:
    """What ``parents`` and ``scores`` of a :class:`Grown` are, on the host."""

    parents: Sequence[int]
    scores: Sequence[float]

    def first(self, count: int) -> Shape:
        """Without the nodes behind the first ``count``."""
        return Shape(self.parents[:count], self.scores[:count])

    def branches(self) -> list[list[int]]:
        """The nodes, counted from 0, on the way to each leaf, the likeliest leaf first and of equal ones the first."""
        inner = set(self.parents)
        leaves = [node for node in range(len(self.parents)) if node + 1 not in inner]
        branches = []
        for leaf in sorted(leaves, key=lambda node: -self.scores[node]):
            branch, number = [], leaf + 1
            while number:
                branch.append(number - 1)
                number = self.parents[number - 1]
            branches.append(branch[::-1])
        return branches


class Deferred:
    """The ids of one pass that are on the device: drafters put them in, the pass reads ``parts``, and with its outcome
    they become known.

    ``shapes``: whether nodes may be put in whose shape is on the device as well (:meth:`put_grown`): nobody then looks
    at branches before they are verified, to choose among them or to count their rows.
    """

    def __init__(self, shapes: bool = False) -> None:
        self.shapes = shapes
        self.parts: list[Tensor] = []  # (n,) int64 each
        self.grown: list[tuple[int, Grown]] = []  # and the place of the first id of each
        self._count = 0
        self._known: list[int] = []
        self._shapes: list[Shape] = []

    def __len__(self) -> int:
        """How many ``numbers`` there are."""
        return self._count + 2 * sum(len(grown) for _, grown in self.grown)

    @property
    def numbers(self) -> list[Tensor]:
        """All that comes to the host, in the order in which :meth:`open` expects it."""
        return [*self.parts, *(part for _, grown in self.grown for part in (grown.parents, grown.scores))]

    def put(self, ids: Tensor, width: int, count: int) -> list[list[Later]]:
        """Branches of the first ``count`` of ``ids`` (W, D) int64, the first ``width`` of them.

        Nobody looks at these ids before they are verified: whoever puts them in vouches that all are action tokens, and
        that they stay where they are until the pass has run.
        """
        first, (branches, depth) = self._count, ids.shape
        self.parts.append(ids.reshape(-1))
        self._count += ids.numel()
        rows = [range(first + depth * row, first + depth * row + min(count, depth)) for row in range(branches)]
        return [[Later(place) for place in places] for places in rows[:width]]

    def put_grown(self, grown: Grown) -> list[list[Later]]:
        """A branch of one id for each node of ``grown``, in their order: until the pass has run, a tree has them side
        by side. Under the same conditions as :meth:`put`.
        """
        self.grown.append((self._count, grown))
        return self.put(grown.ids[:, None], len(grown), 1)

    def open(self, numbers: Sequence[float]) -> None:
        """What stood in ``numbers``, one after the other."""
        self._known = [int(number) for number in numbers[: self._count]]
        self._shapes, at = [], self._count
        for _, grown in self.grown:
            middle, end = at + len(grown), at + 2 * len(grown)
            self._shapes.append(Shape([int(number) for number in numbers[at:middle]], numbers[middle:end]))
            at = end

    def known(self, chain: Sequence[int | Later]) -> list[int]:
        """``chain`` in ids. Raises ``IndexError`` before the pass has run."""
        return [self._known[token.place] if isinstance(token, Later) else token for token in chain]

    def shape(self, place: int) -> Shape:
        """Of the part of ``grown`` at that place in the list. Raises ``IndexError`` before the pass has run."""
        return self._shapes[place]
