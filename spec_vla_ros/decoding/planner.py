"""Which drafters are asked and how many of their branches are verified, so that an action takes the least time.

A row that is drafted costs what it costs on this device (:mod:`.costs`), and saves what follows if its branch stands.
How often a branch stands need not be tried out: once an action is known, so is which branch of any drafter would have
been all of it, verified or not. So every few actions all drafters are asked for everything they have, and it is
remembered at which place the right branch came. The published relatives choose the shape of a tree by a draft model's
confidence (EAGLE-2, arXiv 2406.16858) or by the cost of verification (OPT-Tree, arXiv 2406.17276).

Nothing here is random and no time is taken while driving: the same table of costs and the same actions give the same
trees.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from spec_vla_ros.openvla.action_tokens import ActionTokens
from spec_vla_ros.tolerance import Tolerance

from .costs import PassCosts
from .deferred import Deferred, Later
from .drafters import DraftContext, Drafter, branches_of
from .tree import TREE_ROWS

WIDTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64)  # branches of one drafter that are compared
MEMORY = 64  # actions that are looked back on
REVIEW = 4  # every so many actions cheap drafters are asked for all they have
REVIEW_DEAR = 16  # and the others
COUNTED = 64  # and every so many the rows of their branches are counted
REPLAN = 32  # and every so many a plan is made anew, after the first of them more often
DEAR = 0.02  # of the pass over the prompt: asking for more is dear
BELIEF = 8.0  # actions that the assumption before the first of them counts for
TIE = 1e-9  # s
OPENING, FOLLOWING = "opening", "following"  # the pass over the prompt, and those after it


@dataclass(frozen=True)
class Plan:
    """``widths``: branches of each drafter that are verified, in the order of the tree. ``rows``: that they make,
    ``room``: so many take no longer. ``hit``: probability that one of the branches is right to its end, which is the
    last dimension but one, or as far as drafts may go. ``seconds``: expected until the whole action is known.
    ``promising``: drafters without which it would take longer if they were always right.
    """

    widths: dict[str, int]
    rows: int
    hit: float
    seconds: float
    room: int
    promising: frozenset[str] = field(default=frozenset(), compare=False)


@dataclass
class _Asked:
    """What a drafter answered in full: ``chains`` for the dimensions from ``first`` on, whose ids may be ``deferred``
    until the pass has run.
    """

    phase: str
    name: str
    first: int
    count: int
    chains: Sequence[Sequence[int | Later]]
    deferred: Deferred | None

    @property
    def known(self) -> Sequence[Sequence[int]]:
        """``chains`` in ids."""
        return self.chains if self.deferred is None else [self.deferred.known(chain) for chain in self.chains]


@dataclass
class _Memory:
    """Of one phase: by drafter the place of the right branch in each remembered action, infinity where there was none
    and NaN where nobody asked; by drafter and number of dimensions the rows of its branches, by ``WIDTHS``.
    """

    ranks: dict[str, np.ndarray] = field(default_factory=dict)
    rows: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)
    next: int = 0

    def add(self, found: dict[str, float]) -> None:
        for name in {*self.ranks, *found}:
            ranks = self.ranks.setdefault(name, np.full(MEMORY, np.nan))
            ranks[self.next] = found.get(name, np.nan)
        self.next = (self.next + 1) % MEMORY


class Planner:
    """Plans the trees of one policy. One thread uses it.

    ``learns``: whether it looks at what was right. One that does not keeps to what it assumes, so that an action
    depends on the few before it and on nothing else: for comparing decoders, and for continuing an interrupted replay.
    """

    def __init__(self, costs: PassCosts, learns: bool = True) -> None:
        self.costs, self._learns = costs, learns
        self._forget(None)

    @classmethod
    def steady(cls) -> Planner:
        """The tree of a large GPU whatever this machine is, and the same for an action wherever one begins."""
        return cls(PassCosts.free(), learns=False)

    def begin(self, tolerance: Tolerance, depth: int) -> None:
        """A new action is about to be decoded within ``tolerance``, with drafts of at most ``depth`` tokens. What was
        right under others says nothing of it.
        """
        if (tolerance, depth) != self._under:
            self._forget((tolerance, depth))
        self._actions += 1
        self._asked.clear()
        self._passes = self._missed = self._end = 0
        if self._actions % (REVIEW if self._actions < REPLAN else REPLAN) == 1:  # something has been learnt
            self._plans.clear()

    def chains(
        self, drafters: Sequence[Drafter], context: DraftContext, learn: bool = True
    ) -> tuple[list[tuple[str, list[int | Later]]], list[tuple[str, list[int | Later]]], int]:
        """(name, ids) of the branches that shall be verified, in the order of the tree; more of them, to fill rows that
        cost nothing; and how many rows that may make.

        ``learn``: whether the answers say something of later actions; those to a second look do not.
        """
        phase = FOLLOWING if context.emitted else OPENING
        plan = self.plan(phase, drafters, context.count, len(context.radii) - context.first)
        if learn and self._passes == 1:
            self._end = context.first + context.count + 1
        found: dict[str, list[list[int | Later]]] = {}
        for drafter in drafters:
            used = plan.widths.get(drafter.name, 0)
            due = self._actions % (REVIEW_DEAR if self._dear(drafter) else REVIEW) == 0
            reviewed = learn and self._learns and due and drafter.name in plan.promising
            if not (used or reviewed):
                continue
            all_ = reviewed or drafter.one_width or (plan.room > plan.rows and not self._dear(drafter))
            told = context.with_width(drafter.widest if all_ else used)
            found[drafter.name] = branches_of(drafter, told)[:TREE_ROWS]  # more than that there is no room for
            if reviewed and found[drafter.name]:  # who has nothing to go on is not judged by it
                answer = found[drafter.name], context.deferred
                self._asked.append(_Asked(phase, drafter.name, context.first, context.count, *answer))
        planned = [(name, chain) for name, width in plan.widths.items() for chain in found[name][:width]]
        more = [(name, chain) for name, width in plan.widths.items() for chain in found[name][width:]]
        return planned, more, plan.room

    def passed(self, known: int) -> None:
        """A pass has run, of whatever kind but a second look, and so many tokens of the action are known."""
        self._missed += self._passes > 1 and self._known < self._end
        self._passes, self._known = self._passes + 1, known

    def end(self, action: Sequence[int], tokens: ActionTokens) -> None:
        """The action is known, (A,) ids: remember which branches would have been right."""
        tolerance = self._under[0]
        if self._learns and self._missed:
            self._misses.append(self._missed)
        places: dict[str, dict[str, float]] = {}
        for asked in self._asked:
            if asked.name in places.setdefault(asked.phase, {}):
                continue  # of several passes the first
            end = asked.first + asked.count
            radii = np.array(tolerance.bins[asked.first : end])
            gaps = _gaps(asked.known, action[asked.first : end], radii, tokens)
            right = (gaps <= radii).all(1)
            if tolerance.budget is not None:
                right &= gaps @ np.array(tolerance.costs[asked.first : end]) <= tolerance.budget
            places[asked.phase][asked.name] = float(right.argmax()) if right.any() else np.inf
            rows, key = self._memory[asked.phase].rows, (asked.name, asked.count)
            if key not in rows or self._actions % COUNTED == 0:
                rows[key] = _rows(asked.chains)  # of which those that were deferred share nothing
        for phase, found in places.items():
            self._memory[phase].add(found)

    def plan(self, phase: str, drafters: Sequence[Drafter], count: int, left: int) -> Plan:
        """What is asked of ``drafters`` for the next ``count`` of ``left`` dimensions that are not known."""
        key = (phase, tuple(drafter.name for drafter in drafters), count, left)
        if key not in self._plans:
            then = self._then(phase, drafters, count, left)
            best = self._best(phase, drafters, count, left, then)
            enough = best.seconds - TIE
            promising = [one for one in _speaking(drafters, phase) if self._at_least(phase, one, count, then) < enough]
            self._plans[key] = replace(best, promising=frozenset(one.name for one in promising))
        return self._plans[key]

    def words(self, drafters: Sequence[Drafter], count: int, action_dim: int) -> str:
        """What is planned for both kinds of passes, and what each drafter alone would take in the first."""
        opening = self.plan(OPENING, drafters, count, action_dim)
        following = self._rest(drafters, count, action_dim - 1)
        then = self._then(OPENING, drafters, count, action_dim)
        alone = [
            self._best(OPENING, [drafter], count, action_dim, then) for drafter in drafters if not drafter.from_verifier
        ]
        return (
            f"first pass {_words(opening)}, {1e3 * opening.seconds:.1f} ms expected in all; "
            f"later passes {_words(following)}; alone: "
            + ", ".join(f"{_words(one)} {1e3 * one.seconds:.1f} ms" for one in alone)
        )

    def _forget(self, under: tuple[Tolerance, int] | None) -> None:
        """Nothing has been seen ``under`` this tolerance with drafts of that length."""
        self._under, self._actions = under, -1
        self._memory = {OPENING: _Memory(), FOLLOWING: _Memory()}
        self._plans: dict[tuple, Plan] = {}
        self._misses: deque[int] = deque(maxlen=MEMORY)
        self._asked: list[_Asked] = []
        # Of this action: passes so far, a second look aside; tokens that they have made known, and that the second one
        # would have with the right branch; passes after it until these were.
        self._passes = self._known = self._end = self._missed = 0

    def _then(self, phase: str, drafters: Sequence[Drafter], count: int, left: int) -> tuple[float, float]:
        """Seconds that follow in the mean after a pass that drafted ``count`` dimensions of ``left``: where one of its
        branches was right, and where none was.
        """
        hit = self._after(drafters, count, left - count - 1)
        if phase == OPENING:
            return hit, self._after(drafters, count, left - 1)
        return hit, self.costs.later[0] * self._further() + hit

    def _after(self, drafters: Sequence[Drafter], count: int, left: int) -> float:
        return self._rest(drafters, count, left).seconds if left > 0 else 0.0

    def _rest(self, drafters: Sequence[Drafter], count: int, left: int) -> Plan:
        """With drafts of at most ``count`` tokens for what is left; the last one is never drafted."""
        return self.plan(FOLLOWING, drafters, min(count, left - 1), left)

    def _at_least(self, phase: str, drafter: Drafter, count: int, then: tuple[float, float]) -> float:
        """Seconds that no plan with ``drafter`` in it falls below, whoever else is asked."""
        by_rows = self.costs.first_by_rows if phase == OPENING else self.costs.later_by_rows
        share = 1.0 if drafter.one_width else 1 / drafter.widest
        return self.costs.ask(drafter.name, share) + by_rows[min(count, TREE_ROWS)] + min(then)

    def _dear(self, drafter: Drafter) -> bool:
        return self.costs.ask(drafter.name, 1.0) > DEAR * self.costs.first[0]

    def _best(self, phase: str, drafters: Sequence[Drafter], count: int, left: int, then: tuple[float, float]) -> Plan:
        """Branches are added, of whichever drafter and however many at once, while that saves time: those first that
        save most per row, because there are no more than :data:`.tree.TREE_ROWS`.

        ``then``: of :meth:`_then`.
        """
        opening = phase == OPENING
        by_rows = np.array(self.costs.first_by_rows if opening else self.costs.later_by_rows)
        # Without drafts every further token is a pass of its own.
        best = Plan({}, 0, 0.0, float(by_rows[0] + (left - 1) * self.costs.later[0]), 0)
        sides = [self._side(phase, drafter, count) for drafter in _speaking(drafters, phase)]
        while sides:
            found, most = None, 0.0
            for side in sides:
                others = [other for other in sides if other is not side and other.width]
                rows = side.rows + sum(other.rows[other.place] for other in others)
                asking = side.asking + sum(other.asking[other.place] for other in others)
                hit = _hit(side, others)
                seconds = asking + by_rows[rows.clip(max=TREE_ROWS)] + hit * then[0] + (1 - hit) * then[1]
                saved = (best.seconds - seconds) / (rows - best.rows).clip(min=1)
                saved[(side.widths <= side.width) | (rows > TREE_ROWS)] = 0.0
                place = int(saved.argmax())
                if saved[place] > most + TIE:
                    most = float(saved[place])
                    found = side, place, int(rows[place]), float(hit[place]), float(seconds[place])
            if found is None:
                break
            side, place, rows_now, hit_now, seconds_now = found
            side.place, side.width = place, int(side.widths[place])
            widths = {**best.widths, side.name: side.width}
            room = int(np.flatnonzero(by_rows <= by_rows[rows_now] + TIE)[-1])
            best = Plan(widths, rows_now, hit_now, seconds_now, room)
        return best

    def _further(self) -> float:
        """Passes that it took, in the mean, to settle what the second one had drafted and did not settle."""
        return (sum(self._misses) + BELIEF) / (len(self._misses) + BELIEF)

    def _side(self, phase: str, drafter: Drafter, count: int) -> _Side:
        memory = self._memory[phase]
        widths = np.array([width for width in WIDTHS if width <= drafter.widest])
        ranks = memory.ranks.get(drafter.name, np.full(MEMORY, np.nan))
        shares = np.ones(len(widths)) if drafter.one_width else widths / drafter.widest
        return _Side(
            name=drafter.name,
            widths=widths,
            ranks=ranks,
            known=~np.isnan(ranks),
            prior=_prior(drafter, widths),
            rows=_rows_of(memory, drafter, widths, count),
            asking=np.array([self.costs.ask(drafter.name, share) for share in shares]),
        )


@dataclass
class _Side:
    """One drafter while a plan is made, arrays by ``widths``: assumed hits, rows, s of asking. ``width``: 0 = not
    asked; ``place``: of it in ``widths``.
    """

    name: str
    widths: np.ndarray
    ranks: np.ndarray
    known: np.ndarray
    prior: np.ndarray
    rows: np.ndarray
    asking: np.ndarray
    width: int = 0
    place: int = 0


def _speaking(drafters: Sequence[Drafter], phase: str) -> list[Drafter]:
    """Those who have something to say in passes of this kind."""
    return [one for one in drafters if not (one.from_verifier if phase == OPENING else one.opening_only)]


def _hit(side: _Side, others: Sequence[_Side]) -> np.ndarray:
    """Probability, by the widths of ``side``, that a branch of it or of ``others`` is right.

    Counted over the actions in which all of them were asked, because guesses fail together; whoever was never asked at
    the same time as the others counts as independent of them.
    """
    seen = [other for other in others if other.known.any()]
    unseen = float(np.prod([1 - other.prior[other.place] for other in others if not other.known.any()]))
    missed = float(np.prod([1 - other.prior[other.place] for other in seen]))
    covered, known = np.zeros(MEMORY, dtype=bool), np.ones(MEMORY, dtype=bool)
    for other in seen:
        covered |= other.ranks < other.width
        known &= other.known
    both = known & side.known
    if seen and not both.any():
        before = ((covered & known).sum() + BELIEF * (1 - missed)) / (known.sum() + BELIEF)
        return 1 - unseen * (1 - before) * (1 - _hit(side, ()))
    hits = ((covered | (side.ranks < side.widths[:, None])) & both).sum(1)
    return 1 - unseen * (1 - (hits + BELIEF * (1 - missed * (1 - side.prior))) / (both.sum() + BELIEF))


def _prior(drafter: Drafter, widths: np.ndarray) -> np.ndarray:
    """Assumed before anything was seen: from the first branch's share to that of all, evenly per doubling."""
    first, all_ = drafter.expected
    if drafter.widest == 1:
        return np.full(len(widths), first)
    return first + (all_ - first) * np.log2(widths) / np.log2(drafter.widest)


def _rows_of(memory: _Memory, drafter: Drafter, widths: np.ndarray, count: int) -> np.ndarray:
    """Rows that so many branches make: as last seen, else as if they shared nothing."""
    if (drafter.name, count) in memory.rows:
        return memory.rows[drafter.name, count][: len(widths)]
    return widths * count


def _rows(chains: Sequence[Sequence[int | Later]]) -> np.ndarray:
    """(len(WIDTHS),) nodes of the tree of the first so many chains."""
    nodes: set[tuple[int | Later, ...]] = set()
    sizes = []
    for chain in chains:
        nodes.update(tuple(chain[: depth + 1]) for depth in range(len(chain)))
        sizes.append(len(nodes))
    return np.array([sizes[min(width, len(sizes)) - 1] for width in WIDTHS])


def _gaps(
    chains: Sequence[Sequence[int]], action: Sequence[int], radii: np.ndarray, tokens: ActionTokens
) -> np.ndarray:
    """(branches, dimensions) bins between each branch and ``action``; beyond everything where it is too short, and at
    least 1 where ``radii`` is 0 and the ids differ, although two of them share the topmost bin.
    """
    gaps, wanted = np.full((len(chains), len(action)), tokens.bins), np.array(action)
    whole = [place for place, chain in enumerate(chains) if len(chain) == len(action)]
    if whole:
        ids, lowest = np.array([chains[place] for place in whole]), tokens.first + 1
        apart = np.abs(np.maximum(ids, lowest) - np.maximum(wanted, lowest))
        gaps[whole] = np.maximum(apart, (ids != wanted) & (radii == 0))
    return gaps


def _words(plan: Plan) -> str:
    chosen = " + ".join(
        f"{width} {'branch' if width == 1 else 'branches'} of {name}" for name, width in plan.widths.items()
    )
    return f"{chosen or 'without drafts'} ({100 * plan.hit:.0f} %)"
