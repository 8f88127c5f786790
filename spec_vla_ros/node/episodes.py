"""What an episode is: when one begins and ends, and how it ended. No ROS.

An episode is the time in which the arm follows one instruction: a goal of ``~/execute`` from its acceptance until
zero is on the wire after its end, or what the topic or the parameter ``instruction`` says from then on until another
one is said, the arm is told to hold, a fault is latched or the node is no longer active. Times are seconds on the
steady clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spec_vla_ros.episode_record import Outcome
from spec_vla_ros.motion.watchdog import Fault

from .goal import Goal, Phase


@dataclass(frozen=True)
class View:
    """How the node stands. ``run``: number of the activation, None if it is not active. ``goal``: the one under way."""

    run: int | None
    instruction: str = ""
    fault: Fault | None = None
    hold: Fault | None = None
    goal: Goal | None = None

    @property
    def key(self) -> tuple[Any, ...] | None:
        """What stays the same during an episode; None where there is none."""
        if self.run is None or self.fault is not None or not self.instruction:
            return None
        return self.run, self.instruction, id(self.goal) if self.goal is not None else None


@dataclass
class Episode:
    """One that is under way. ``number``: counts from 1. ``actions``: that were begun."""

    number: int
    key: tuple[Any, ...]
    instruction: str
    goal: Goal | None
    began_at: float
    actions: int = 0


@dataclass(frozen=True)
class End:
    """How one ended; see msg/EpisodeRecord.msg."""

    outcome: Outcome
    message: str
    succeeded: bool = False
    fault: str = ""


class Episodes:
    """Finds beginnings and ends by looking at the node. ``begin`` and ``end`` are told of them."""

    def __init__(self, begin: Callable[[Episode, float], None], end: Callable[[Episode, End, float], None]) -> None:
        self.current: Episode | None = None
        self._begin, self._end, self._number = begin, end, 0

    def look(self, view: View, now: float) -> None:
        """Look at the node, with every heartbeat and whenever one of these things changes."""
        key, current = view.key, self.current
        if current is not None and key != current.key:
            if key is None and view.run is not None and _settling(current.goal):
                return  # until the arm stands, or something else begins
            self.current = None
            self._end(current, _how(current, view), now)
        if key is not None and self.current is None:
            self._number += 1
            self.current = Episode(self._number, key, view.instruction, view.goal, now)
            self._begin(self.current, now)

    def act(self) -> None:
        """An action was begun."""
        if self.current is not None:
            self.current.actions += 1


def _settling(goal: Goal | None) -> bool:
    return goal is not None and goal.phase is Phase.ENDING


def _how(episode: Episode, view: View) -> End:
    goal = episode.goal
    if goal is not None and goal.ending is not None:
        ending = goal.ending
        fault = "" if ending.fault is None else ending.fault.name
        return End(Outcome(int(ending.outcome)), ending.message, goal.verb == "succeed", fault)
    if view.run is None or view.run != episode.key[0]:
        return End(Outcome.NOT_ACTIVE, "the node was deactivated")
    if view.fault is not None:
        return End(Outcome.FAULT, str(view.fault), fault=view.fault.name)
    if view.hold is not None:
        return End(Outcome.REFUSED, str(view.hold), fault=view.hold.name)
    if view.instruction:
        by = "another goal" if view.goal is not None else "another instruction"
        return End(Outcome.PREEMPTED, f"pre-empted by {by}")
    return End(Outcome.HELD, "told to hold")
