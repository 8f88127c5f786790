"""What a drafter is told and what it answers."""

from __future__ import annotations

import copy
import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from spec_vla_ros.decoding.deferred import Deferred, Later
from spec_vla_ros.openvla.action_tokens import ActionTokens

if TYPE_CHECKING:  # names of drafters are wanted where torch is not loaded
    from torch import Tensor

    from spec_vla_ros.decoding.graphs import Pool
    from spec_vla_ros.kernels.kernel import Kernel

    from .habits import Habits
MANY = 256  # branches; a pass has room for 64 rows


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

    def among(self) -> tuple[Tensor, Sequence[int]]:
        """States (1, R, H) of all rows of the pass, and which of them these are, in their order: to take rows by
        numbers of Python, a GPU would have to be waited for.
        """


class Looked(tuple):
    """A history in which every id is an action token."""

    __slots__ = ()


@dataclass(frozen=True)
class DraftContext:
    """What is known before a pass.

    ``first``: dimension of the first token wanted. ``count``: how many, at least 1. ``width``: branches at most.
    ``radii``: (A,) bins within which a token is accepted. ``history``: tokens (A,) of earlier actions of this
    episode, the newest last. ``emitted``: tokens of this action so far, ``first`` of them.
    ``rejected``: the verifier's own choices for dimensions ``first``, ``first + 1``, ... read off the rows that the
    previous pass rejected; they are conditioned on a prefix that was not kept. Empty before the first pass.
    In both of these whatever is no action token, which a model may well say after a prefix that makes no sense, is
    replaced when a context is made: in ``history`` by no motion, in ``rejected`` by the newest action's token.
    ``states``: has the verifier's states of the K rows that the previous pass settled, to be read while drafting; None
    before the first pass.
    ``rows``: the ids behind the prompt that the verifier has read or is about to read: the accepted drafts, each
    pass closed by the token emitted after them.
    ``habits``: what the model said in earlier episodes as well, told of all of this one; None where nothing is kept.
    ``deferred``: takes ids that are on the device, instead of a wait for them; None where they have to be known.
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
    habits: Habits | None = None
    deferred: Deferred | None = None

    def __post_init__(self) -> None:
        """Drafters compute with bins, so none of them may meet an id that has no bin."""
        if not isinstance(self.history, Looked):  # once per action is enough
            object.__setattr__(self, "history", self._looked(self.history))
        if not self._is_action(self.rejected):
            object.__setattr__(self, "rejected", self._cleaned(self.rejected, self.held(len(self.rejected))))

    @property
    def still(self) -> int:
        """The id of no motion."""
        return int(self.tokens.to_ids((self.tokens.bins - 1) // 2))

    def held(self, count: int) -> list[int]:
        """The newest action's ids of ``count`` dimensions from ``first`` on; no motion where there is none."""
        newest = list(self.history[-1][self.first : self.first + count]) if self.history else []
        return newest + [self.still] * (count - len(newest))

    def with_width(self, width: int) -> DraftContext:
        """The same for other ``width``; nothing is checked anew."""
        changed = copy.copy(self)
        object.__setattr__(changed, "width", width)
        return changed

    def _looked(self, history: Sequence[Sequence[int]]) -> Looked:
        if all(map(self._is_action, history)):
            return Looked(history)
        return Looked(self._cleaned(action, [self.still] * len(action)) for action in history)

    def _is_action(self, ids: Sequence[int]) -> bool:
        return all(map(self.tokens.is_action, ids))

    def _cleaned(self, ids: Sequence[int], instead: Sequence[int]) -> tuple[int, ...]:
        return tuple(a if self.tokens.is_action(a) else b for a, b in zip(ids, instead, strict=True))


class Drafter:
    """Guesses the next tokens of an action. Wrong guesses cost rows of a pass, never correctness: whatever ids
    ``propose`` gives, a branch is cut before the first that is no action token (:func:`branches_of`). What it raises
    ends the inference.

    ``from_verifier``: builds on what the verifier said during this very action, so its branches come first.
    ``opening_only``: has nothing to say once a pass of this action has run.
    ``widest``: branches that are worth asking for. ``one_width``: asking for fewer of them does not cost less.
    ``pool``: of what it has recorded; None where it records nothing. ``kernel``: of our own; None where it has none.
    ``expected``: how often the first branch, and any of all, is the rest of the action within the usual radius; what
    :mod:`..planner` assumes until it has seen some actions.
    """

    name: ClassVar[str]
    from_verifier: ClassVar[bool] = False
    opening_only: ClassVar[bool] = False
    widest: ClassVar[int] = 1
    one_width: bool = False
    pool: Pool | None = None
    kernel: Kernel | None = None
    expected: ClassVar[tuple[float, float]] = (0.05, 0.05)

    def begin(self, observation: Observation | None) -> None:
        """A new action is about to be decoded; None where the caller has nothing to show."""

    def warm_up(self, width: int) -> None:
        """Build and record what drafting ``width`` branches may need, so that none of it happens while an arm moves."""

    def most_rows(self, width: int, count: int) -> int:
        """Rows that ``width`` branches of ``count`` ids may be, where those that are deferred share nothing."""
        return width * count

    def propose(self, context: DraftContext) -> Sequence[Sequence[int | Later]]:
        """Branches, the likeliest first, each up to ``context.count`` ids for the dimensions from ``context.first``
        on; empty for no guess. Where ``context.deferred`` is given, they may be those that it gave for ids.
        """
        raise NotImplementedError


def branches_of(drafter: Drafter, context: DraftContext) -> list[list[int | Later]]:
    """What ``drafter`` proposes, the first ``MANY`` branches, each as far as it is wanted, and only up to what is no
    action token.
    """
    return [_beginning(branch, context) for branch in itertools.islice(drafter.propose(context), MANY)]


def _beginning(branch: Sequence[int | Later], context: DraftContext) -> list[int | Later]:
    ids = []
    for token in list(branch)[: context.count]:
        if isinstance(token, Later):  # an action token, as whoever deferred it has promised
            ids.append(token)
            continue
        try:
            token = operator.index(token)
        except TypeError:  # 1.5, None, a word
            break
        if not context.tokens.is_action(token):
            break
        ids.append(token)
    return ids
