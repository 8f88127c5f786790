"""The arm goes on as it did: draft the previous action."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from .base import DraftContext, Drafter


class Hold(Drafter):
    """Tokens of the previous action. Strong at rest and in steady motion, wrong when the motion changes.

    Before the first action the arm stood still, so that is the guess: the middle bin, no motion. It is rarely right,
    but it puts drafted rows into the first pass, and without such rows ``refine`` has nothing to go on from.
    Costs some microseconds.
    """

    name: ClassVar[str] = "hold"

    def propose(self, context: DraftContext) -> Sequence[Sequence[int]]:
        """The previous action's tokens, or no motion without a previous action."""
        return [context.held(context.count)]
