"""After a rejection the verifier has already said what it would rather have: draft that (a Jacobi step)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import ClassVar

from .base import DraftContext, Drafter
from .windows import ids_of, spaced

NEAREST = 4  # other windows of a dimension that are tried


class Refine(Drafter):
    """The verifier's choices on the rejected rows. They cost nothing: the rows were computed anyway.

    Jacobi decoding of an autoregressive model (arXiv 2305.10427), started from whatever the first drafter guessed;
    where the rejected branch was cut short, from there on the action before. Further branches move one dimension to
    another acceptance window: the last drafted dimension, where a branch costs a single row, to every one of them, the
    others to the nearest. A choice that was conditioned on a wrong token is mostly right, off by little more than the
    radius, or (where the model is torn between two motions) far off. Where a moved dimension tips the last one too,
    that mostly goes to where motions pile up: as before, none, or as far as possible. Costs 10 us for the choices
    alone, 100 us for 64 branches.
    """

    name: ClassVar[str] = "refine"
    from_verifier: ClassVar[bool] = True
    widest: ClassVar[int] = 64
    expected: ClassVar[tuple[float, float]] = (0.5, 0.85)

    def propose(self, context: DraftContext) -> Sequence[Sequence[int]]:
        """The choices and up to ``context.width`` - 1 variations; nothing when no row was rejected."""
        base = list(context.rejected[: context.count])
        if not base:
            return []
        held = context.held(context.count)
        return list(itertools.islice(_variations(base + held[len(base) :], held, context), context.width))


def _variations(base: list[int], held: list[int], context: DraftContext) -> Iterator[list[int]]:
    """One after the other, so that nobody pays for those that nobody asks for."""
    yield base
    last = len(base) - 1
    for other in spaced(base[last], context.first + last, context)[1:]:
        yield [*base[:last], other]
    moved = []
    for i in range(last - 1, -1, -1):
        for other in spaced(base[i], context.first + i, context)[1 : 1 + NEAREST]:
            moved.append([*base[:i], other, *base[i + 1 :]])
            yield moved[-1]
    top = context.tokens.bins - 1
    usual = [held[last], *ids_of([[top // 2, 0, top]], context.first + last, context)[0].tolist()]
    for branch in moved:
        yield from ([*branch[:last], end] for end in usual)
