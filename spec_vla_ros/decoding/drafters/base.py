"""What a drafter is told and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from spec_vla_ros.openvla.action_tokens import ActionTokens

if TYPE_CHECKING:  # names of drafters are wanted where torch is not loaded
    from torch import Tensor


@dataclass(frozen=True)
class Observation:
    """What the verifier is about to read: ``patches`` (1, P, H) projected, ``text`` (1, T, H) the embedded prompt
    with BOS, ``prompt`` (1, P + T, H) the rows in their order.
    """

    patches: Tensor
    text: Tensor
    prompt: Tensor


class HasHidden(Protocol):
    """What a pass leaves behind for drafters that build on it; copied only where one asks."""

    @property
    def hidden(self) -> Tensor:
        """(1, K, H) after the final norm."""


@dataclass(frozen=True)
class DraftContext:
    """What is known before a pass.

    ``first``: dimension of the first token wanted. ``count``: how many, at least 1. ``width``: branches at most.
    ``radii``: (A,) bins within which a token is accepted. ``history``: tokens (A,) of earlier actions of this
    episode, the newest last. ``emitted``: tokens of this action so far, ``first`` of them.
    ``rejected``: the verifier's own choices for dimensions ``first``, ``first + 1``, ... read off the rows that the
    previous pass rejected; they are conditioned on a prefix that was not kept. Empty before the first pass.
    ``states``: has ``hidden`` (1, K, H), the verifier's states of the rows that the previous pass settled, to be read
    while drafting; None before the first pass.
    ``rows``: the ids behind the prompt that the verifier has read or is about to read: the accepted drafts, each
    pass closed by the token emitted after them.
    """

    first: int
    count: int
    width: int
    radii: Sequence[int]
    tokens: ActionTokens
    history: Sequence[Sequence[int]] = ()
    emitted: Sequence[int] = ()
    rejected: Sequence[int] = ()
    states: HasHidden | None = None
    rows: Sequence[int] = ()


class Drafter:
    """Guesses the next tokens of an action. Wrong guesses cost rows of a pass, never correctness.

    ``from_verifier``: builds on what the verifier said during this very action, so its branches come first.
    """

    name: ClassVar[str]
    from_verifier: ClassVar[bool] = False

    def begin(self, observation: Observation | None) -> None:
        """A new action is about to be decoded; None where the caller has nothing to show."""

    def warm_up(self, width: int) -> None:
        """Build and record what drafting ``width`` branches may need, so that none of it happens while an arm moves."""

    def propose(self, context: DraftContext) -> Sequence[Sequence[int]]:
        """Branches, the likeliest first, each up to ``context.count`` ids for the dimensions from ``context.first``
        on; empty for no guess.
        """
        raise NotImplementedError
