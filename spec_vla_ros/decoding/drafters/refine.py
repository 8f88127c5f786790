"""After a rejection the verifier has already said what it would rather have: draft that (a Jacobi step)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from .base import DraftContext, Drafter
from .windows import spaced


class Refine(Drafter):
    """The verifier's choices on the rejected rows. They cost nothing: the rows were computed anyway.

    Jacobi decoding of an autoregressive model (arXiv 2305.10427), started from whatever the first drafter guessed.
    Further branches move one dimension of it to one of the two nearest acceptance windows: a choice that was
    conditioned on a wrong token is mostly right, or off by little more than the radius.
    """

    name: ClassVar[str] = "refine"
    from_verifier: ClassVar[bool] = True

    def propose(self, context: DraftContext) -> Sequence[Sequence[int]]:
        """The choices and up to ``context.width`` - 1 variations; nothing when no row was rejected."""
        base = list(context.rejected[: context.count])
        if not base:
            return []
        branches = [base]
        for i, token in enumerate(base):
            for other in spaced(token, context.first + i, context)[1:3]:
                branches.append([*base[:i], other, *base[i + 1 :]])
        return branches[: context.width]
