"""The arm goes on as it did in all but one dimension: draft the previous action with every first token in reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from .base import DraftContext, Drafter
from .windows import spaced


class Sweep(Drafter):
    """Branches that differ in their first token only, spaced so that the acceptance windows touch.

    A held draft usually fails at its first dimension, and what the verifier says on the rows behind is then
    conditioned on a token far from its own. With windows side by side some branch has the first token right, so more
    of the rest stands, and what does not is corrected from a prefix that is nearly true. Costs some 20 us.
    """

    name: ClassVar[str] = "sweep"
    opening_only: ClassVar[bool] = True
    widest: ClassVar[int] = 64
    expected: ClassVar[tuple[float, float]] = (0.03, 0.06)

    def propose(self, context: DraftContext) -> Sequence[Sequence[int]]:
        """``context.width`` branches from the previous action's token outwards; nothing after the first pass."""
        if context.emitted:
            return []
        held = context.held(context.count)
        return [[first, *held[1:]] for first in spaced(held[0], context.first, context)[: context.width]]
