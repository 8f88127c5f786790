"""Which faults a campaign injects, in which order, and which two at once. No ROS."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from .fault_kinds import KINDS, Kind
from .fault_settings import ENDS, GOES_ON, HOLDS

BLOCK, SIMULATED = 25, 4  # of so many faults, the first few happen to a node with use_sim_time
APART = 0.3  # s between the first and the second fault of a pair, at most
PAIR_SLACK = 0.3  # s more to take effect, because the other fault may delay it by as long as the node may be silent


@dataclass(frozen=True)
class Planned:
    """One fault of the plan; ``seed`` decides its moment, its duration and what it looks like in detail.

    ``second``: another fault, ``after`` s later.
    """

    number: int
    kind: Kind
    sim_time: bool
    seed: int
    second: Kind | None = None
    after: float = 0.0

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """One or two."""
        return (self.kind,) if self.second is None else (self.kind, self.second)

    @property
    def name(self) -> str:
        """Of the fault, or of both."""
        return " + ".join(kind.name for kind in self.kinds)

    @property
    def answers(self) -> tuple[str, ...]:
        """What is right. The end of the process wins; to go on is right only where every fault allows it,
        or one of them ends the other.
        """
        kinds = self.kinds
        if len(kinds) == 1:
            return self.kind.answers
        if any(ENDS in kind.answers for kind in kinds):
            return (ENDS,)
        every = dict.fromkeys(answer for kind in kinds for answer in (*kind.answers, *kind.else_))
        if not all(GOES_ON in kind.answers for kind in kinds) and not any(kind.rearms for kind in kinds):
            every.pop(GOES_ON, None)
        return tuple(every)

    def within(self, kind: Kind) -> float | None:
        """After how many s ``kind`` lets nothing move any more; None where the other may put it off or end it."""
        if self.second is None or kind.within is None:
            return kind.within
        other = self.second if kind is self.kind else self.kind
        if other.rearms or (other.speaks and set(kind.answers) <= set(HOLDS)):
            return None
        return kind.within + PAIR_SLACK if kind.prompt else None


def plan(count: int, seed: int, kinds: tuple[Kind, ...] = KINDS, pairs: float = 0.0) -> list[Planned]:
    """``count`` faults at random, the same for the same ``seed``. ``pairs``: share that has a second fault, 0..1.

    Drawn like cards: no kind comes again before all of its deck have come. Faults with simulated time stand together
    because they need another start of the node; every other one of them is a fault of the clock.
    """
    rng = random.Random(seed)  # noqa: S311 - a plan, no secret
    anything = _deck([kind for kind in kinds if not kind.sim_time], rng)
    clocks = _deck([kind for kind in kinds if kind.sim_time], rng)
    seconds = _deck([kind for kind in kinds if not kind.sim_time], rng)
    planned = []
    for number in range(count):
        sim_time = number % BLOCK < SIMULATED and any(kind.sim_time for kind in kinds)
        kind = next(clocks if sim_time and number % 2 == 0 else anything, None) or next(clocks)
        sim_time = (sim_time or kind.sim_time) and not kind.real_time
        fault, second = rng.getrandbits(32), None
        others = [
            one for one in kinds
            if not (one.sim_time or one is kind or (sim_time and one.real_time) or (kind.suspends and one.suspends))
        ]  # fmt: skip
        if rng.random() < pairs and others:
            second = next(one for one in seconds if one in others)
        after = 0.0 if second is None else rng.uniform(0.0, APART)
        planned.append(Planned(number, kind, sim_time, fault, second, after))
    return planned


def _deck(kinds: list[Kind], rng: random.Random) -> Iterator[Kind]:
    while kinds:
        yield from rng.sample(kinds, len(kinds))
