"""After a rejection the verifier has already said what it would rather have: draft that (a Jacobi step)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from .base import DraftContext, Drafter
from .windows import spaced

NEAREST = 4  # other windows of a dimension that are tried


class Refine(Drafter):
    """The verifier's choices on the rejected rows. They cost nothing: the rows were computed anyway.

    Jacobi decoding of an autoregressive model (arXiv 2305.10427), started from whatever the first drafter guessed;
    where the rejected branch was cut short, from there on the action before. Further branches move one dimension to
    another acceptance window: the last drafted dimension, where a branch costs a single row, to every one of them, the
    others to the nearest. A choice that was conditioned on a wrong token is mostly right, off by little more than the
    radius, or (where the model is torn between two motions) far off. Where a moved dimension tips the last one too,
    that mostly goes to where motions pile up: as before, none, or as far as possible.
    """

    name: ClassVar[str] = "refine"
    from_verifier: ClassVar[bool] = True

    def propose(self, context: DraftContext) -> Sequence[Sequence[int]]:
        """The choices and up to ``context.width`` - 1 variations; nothing when no row was rejected."""
        base = list(context.rejected[: context.count])
        if not base:
            return []
        held = context.held(context.count)
        base += held[len(base) :]
        last = len(base) - 1
        others = [spaced(token, context.first + i, context)[1:] for i, token in enumerate(base)]
        branches = [base, *([*base[:last], other] for other in others[last])]
        moved = [[*base[:i], o, *base[i + 1 :]] for i in range(last - 1, -1, -1) for o in others[i][:NEAREST]]
        top = context.tokens.bins - 1
        usual = [held[last], *context.tokens.to_ids([top // 2, 0, top]).tolist()]
        branches += moved + [[*branch[:last], end] for branch in moved for end in usual]
        return branches[: context.width]
