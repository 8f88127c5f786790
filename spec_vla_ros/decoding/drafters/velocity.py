"""The motion changes as it did: draft a linear extrapolation of the last two actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from .base import DraftContext, Drafter
from .windows import ids_of


class Velocity(Drafter):
    """Bins 2 * newest - previous, kept in range; the last dimension (the gripper) is held. Costs some 20 us."""

    name: ClassVar[str] = "velocity"

    def propose(self, context: DraftContext) -> Sequence[Sequence[int]]:
        """Extrapolated tokens; nothing with fewer than two previous actions."""
        if len(context.history) < 2:
            return []
        before, newest = (context.tokens.to_bins(action) for action in context.history[-2:])
        ahead = (2 * newest - before).clip(0, context.tokens.bins - 1)
        ahead[-1] = newest[-1]
        drafted = ahead[context.first : context.first + context.count]
        return [ids_of(drafted, context.first, context).tolist()]
