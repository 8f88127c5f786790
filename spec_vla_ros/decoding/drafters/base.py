"""What a drafter is told and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from spec_vla_ros.openvla.action_tokens import ActionTokens


@dataclass(frozen=True)
class DraftContext:
    """What is known before a pass.

    ``first``: dimension of the first token wanted. ``count``: how many, at least 1.
    ``history``: tokens (A,) of earlier actions of this episode, the newest last.
    ``rejected``: the verifier's own choices for dimensions ``first``, ``first + 1``, ... read off the rows that the
    previous pass rejected; they are conditioned on a prefix that was not kept. Empty before the first pass.
    """

    first: int
    count: int
    tokens: ActionTokens
    history: Sequence[Sequence[int]] = ()
    rejected: Sequence[int] = ()


class Drafter(Protocol):
    """Guesses the next tokens of an action. Wrong guesses cost rows of a pass, never correctness.

    ``from_verifier``: builds on what the verifier said during this very action, so it is asked before the others.
    """

    name: ClassVar[str]
    from_verifier: ClassVar[bool]

    def propose(self, context: DraftContext) -> Sequence[int]:
        """Up to ``context.count`` token ids for the dimensions from ``context.first`` on; empty for no guess."""
