"""Drafts whose ids stay on the device until the pass that verifies them has run.

A tree is made on the host. To see the ids of drafts it would wait for the device, and the device then for the tree. Yet
a pass needs no more than the shape of the tree from the host: such ids are copied on the device, and come to the host
together with the outcome.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


class Deferred:
    """The ids of one pass that are on the device: drafters put them in, the pass reads ``parts``, and with its outcome
    they become known.
    """

    def __init__(self) -> None:
        self.parts: list[Tensor] = []  # (n,) int64 each
        self._count = 0
        self._known: list[int] = []

    def __len__(self) -> int:
        """Number of ids."""
        return self._count

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

    def open(self, numbers: Iterable[float]) -> None:
        """What stood in ``parts``, one after the other."""
        self._known = [int(number) for number in numbers]

    def known(self, chain: Sequence[int | Later]) -> list[int]:
        """``chain`` in ids. Raises ``IndexError`` before the pass has run."""
        return [self._known[token.place] if isinstance(token, Later) else token for token in chain]
