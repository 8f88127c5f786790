"""The arm goes on as it did: draft the previous action."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from .base import DraftContext


class Hold:
    """Tokens of the previous action. Strong at rest and in steady motion, wrong when the motion changes."""

    name: ClassVar[str] = "hold"
    from_verifier: ClassVar[bool] = False

    def propose(self, context: DraftContext) -> Sequence[int]:
        """The previous action's tokens; nothing without a previous action."""
        if not context.history:
            return ()
        return context.history[-1][context.first : context.first + context.count]
