"""After a rejection the verifier has already said what it would rather have: draft that (a Jacobi step)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from .base import DraftContext, Drafter


class Refine(Drafter):
    """The verifier's choices on the rejected rows. They cost nothing: the rows were computed anyway.

    Jacobi decoding of an autoregressive model (arXiv 2305.10427), started from whatever the first drafter guessed.
    """

    name: ClassVar[str] = "refine"
    from_verifier: ClassVar[bool] = True

    def propose(self, context: DraftContext) -> Sequence[Sequence[int]]:
        """The choices on the rejected rows; nothing before the first pass or when no row was rejected."""
        return [context.rejected[: context.count]] if context.rejected else []
