"""An action that was decoded already is the best draft of itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from .base import DraftContext, Drafter


class SecondLook(Drafter):
    """The tokens of a decoded action, to be verified once more; made by the decoder itself, never chosen by name."""

    name: ClassVar[str] = "second_look"
    expected: ClassVar[tuple[float, float]] = (0.9, 0.9)

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = tuple(tokens)

    def propose(self, context: DraftContext) -> Sequence[Sequence[int]]:
        """What was emitted for these dimensions."""
        return [self._tokens[context.first : context.first + context.count]]
