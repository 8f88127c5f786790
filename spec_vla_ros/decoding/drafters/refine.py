"""After a rejection the verifier has already said what it would rather have: draft that (a Jacobi step)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from .base import DraftContext, Drafter
from .windows import spaced


class Refine(Drafter):
    """The verifier's choices on the rejected rows. They cost nothing: the rows were computed anyway.

    Jacobi decoding of an autoregressive model (arXiv 2305.10427), started from whatever the first drafter guessed.
    Further branches move one dimension of it to another acceptance window: the last drafted dimension, where a branch
    costs a single row, to every one of them, the others to the two nearest. A choice that was conditioned on a wrong
    token is mostly right, off by little more than the radius, or (where the model is torn between two motions) far off.
    """

    name: ClassVar[str] = "refine"
    from_verifier: ClassVar[bool] = True

    def propose(self, context: DraftContext) -> Sequence[Sequence[int]]:
        """The choices and up to ``context.width`` - 1 variations; nothing when no row was rejected."""
        base = list(context.rejected[: context.count])
        if not base:
            return []
        last = len(base) - 1
        branches = [base]
        for i in range(last, -1, -1):
            others = spaced(base[i], context.first + i, context)[1:]
            for other in others if i == last else others[:2]:
                branches.append([*base[:i], other, *base[i + 1 :]])
        return branches[: context.width]
