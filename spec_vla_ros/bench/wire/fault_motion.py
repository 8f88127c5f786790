"""Motions as an arm saw them, compared with the actions that announced them. Part of :mod:`.fault_monitor`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from spec_vla_ros.motion.rotation import lengths

from .fault_events import Action

PAIRED = 0.15  # s between a motion's first velocity and the message of its action
TOLERANCE = 1e-3  # of speeds and displacements
STEADY_TOLERANCE = 1e-2  # of ways over several steps: the tick that two of them share counts by its time
UNTOLD = 0.03  # s before its end within which whoever sends velocities may not have told the node of a new step yet
SHOWN = 3  # actions that a report lists
SINK_TIMEOUT = 0.1  # s after which MoveIt Servo stops for want of commands

Report = Callable[[float, str, str], None]  # when, the rule, and what was seen


@dataclass
class Section:
    """Velocities of one direction that follow each other within a motion: one step, or several alike."""

    first: float
    last: float
    sum: np.ndarray  # velocity times period


@dataclass
class Motion:
    """Velocities that are not zero, without a zero between them. ``late``: s by which its announcement may be late."""

    first: float
    late: float = 0.0
    sum: np.ndarray = field(default_factory=lambda: np.zeros(6))  # velocity times period
    sunk: np.ndarray = field(default_factory=lambda: np.zeros(6))  # velocity times the time that it was in force
    sections: list[Section] = field(default_factory=list)
    way: np.ndarray = field(default_factory=lambda: np.zeros(2))  # m and rad: the same two, whatever the direction
    sunk_way: np.ndarray = field(default_factory=lambda: np.zeros(2))
    fastest: np.ndarray = field(default_factory=lambda: np.zeros(2))  # m/s and rad/s
    last: float = 0.0
    counted: float = 0.0  # until when ``sunk`` goes
    values: np.ndarray = field(default_factory=lambda: np.zeros(6))
    paused: bool = False  # at zero because of a limit of zero; the same step may go on
    suspended: bool = False  # whoever sends the velocities was stopped meanwhile, and only the sink's timeout was left

    def add(self, at: float, since: float, values: np.ndarray, period: float) -> None:
        """One more velocity, for ``period`` s, that came between ``since`` and ``at``. A listener that was late proves
        no distance, so the first one counts from ``at``, and each is over at the ``since`` of the next.
        """
        self.end(since)
        self.sum += values * period
        self.way += lengths(values) * period
        if self.sections and _alike(values, self.sections[-1].sum):
            section = self.sections[-1]
            section.sum, section.last = section.sum + values * period, at
        else:
            self.sections.append(Section(at, at, values * period))
        self.fastest = np.maximum(self.fastest, lengths(values))
        self.counted = max(self.counted, since) if self.values.any() else at
        self.last, self.values, self.paused = at, values, False

    def belongs_to(self, action: Action) -> bool:
        """Whether it has the direction of ``action`` and began when that was announced, or in the midst of its step."""
        if not self.first - action.step_dt - PAIRED <= action.at or action.since > self.first + PAIRED + self.late:
            return False
        return _alike(np.array(action.motion), self.sum)

    def end(self, since: float) -> None:
        """The newest velocity was in force until ``since`` for certain, or until the sink gave up."""
        seconds = min(max(since - self.counted, 0.0), SINK_TIMEOUT)
        self.sunk += self.values * seconds
        self.sunk_way += lengths(self.values) * seconds


class Motions:
    """Takes velocities and actions, and reports motions that nobody announced or that went too far."""

    def __init__(
        self, period: float, step: float, report: Report, kind_at: Callable[[float], str], steady: bool = False
    ) -> None:
        """``period``: s between two velocities. ``step``: s of an action's motion.

        ``kind_at``: name of the fault that was injected last before a time. ``steady``: steps follow each other without
        a zero between them, so that a motion belongs to all the actions that were announced during it.
        """
        self._steady = steady
        self.overshoot: dict[str, float] = {}  # by kind: of a displacement as a sink integrates it, the largest
        self.late = 0.0  # s, of motions from now on and of the one under way
        self.killed = -math.inf  # when whoever sends the velocities was killed last
        self._period, self._step, self._report, self._kind_at = period, step, report, kind_at
        self._motion: Motion | None = None
        self._over: deque[Motion] = deque()
        self._actions: deque[Action] = deque()

    def move(self, at: float, since: float, values: np.ndarray) -> None:
        """A velocity that is not zero, read at ``at`` and not there before ``since``."""
        if self._motion is not None and self._motion.paused and not self._goes_on(at, values):
            self._close()
        if self._motion is None:
            self._motion = Motion(at)
        self._motion.late = max(self._motion.late, self.late)
        self._motion.add(at, since, values, self._period)

    def stand(self, since: float, pause: bool = False) -> None:
        """A velocity that is zero, not there before ``since``. ``pause``: perhaps because of a limit that is zero."""
        if self._motion is None:
            return
        if not self._motion.paused:
            self._motion.end(since)
            self._motion.values, self._motion.paused = np.zeros(6), True
        if not pause:
            self._close()

    def _goes_on(self, at: float, values: np.ndarray) -> bool:
        """Whether this is still the motion that has paused."""
        in_time = self._steady or at < self._motion.first + self._step
        return in_time and _alike(values, self._motion.sum)

    def _close(self) -> None:
        self._over.append(self._motion)
        self._motion = None

    def forget(self) -> None:
        """What is under way is not heard to its end."""
        self._motion = None

    def announce(self, action: Action) -> None:
        """An action was published."""
        self._actions.append(action)

    def suspend(self) -> None:
        """Whoever sends the velocities is stopped: the sink gives up by itself, at a tick of its own."""
        if self._motion is not None:
            self._motion.suspended = True

    def excuse(self, since: float, late: float) -> None:
        """What moved after ``since`` may be announced ``late`` s later: nobody could."""
        for motion in (*self._over, *([self._motion] if self._motion else [])):
            if motion.last > since - PAIRED:
                motion.late += late

    def settle(self, now: float, dead_since: float | None = None) -> None:
        """Compare what is over with the actions. ``dead_since``: who announces actions does not live any more."""
        waits_since = None if self._motion is None else self._motion.last if self._steady else self._motion.first
        if waits_since is not None and self._motion.paused and now > waits_since + self._step:
            self._close()
        while self._over and self._over[0].last + self._over[0].late < now - 2 * PAIRED:
            motion = self._over.popleft()
            if self._steady:
                self._compare_all(motion, dead_since)
                continue
            while self._actions and self._actions[0].at < motion.first - self._actions[0].step_dt - PAIRED:
                self._actions.popleft()
            action = next((action for action in self._actions if motion.belongs_to(action)), None)
            if action is not None:
                self._actions.remove(action)
                self._compare(motion, action)
            elif (dead_since is None or motion.last < dead_since - PAIRED) and not self._untold(motion):
                near = ", ".join(
                    f"{text_of(a.motion)} {a.at - motion.first:+.3f} s" for a in list(self._actions)[:SHOWN]
                )
                detail = f"motion {text_of(motion.sum)} within {motion.last - motion.first:.3f} s without an action"
                self._report(motion.last, "unannounced", f"{detail}; announced were: {near or 'none'}")

    def _compare_all(self, motion: Motion, dead_since: float | None) -> None:
        """The way of a motion against those of all actions that were announced from its beginning to its end."""
        begin, end = motion.first - PAIRED, motion.last + PAIRED + motion.late
        while self._actions and self._actions[0].at < begin - self._step:
            self._actions.popleft()
        mine = [action for action in self._actions if begin - self._step <= action.at and action.since <= end]
        commanded = [action for action in mine if action.commanded]
        if mine and not commanded:
            self._report(motion.last, "uncommanded", f"motion {text_of(motion.sum)} of actions of a dry run")
        if not mine and (dead_since is None or motion.last < dead_since - PAIRED) and not self._untold(motion):
            self._report(motion.last, "unannounced", f"motion {text_of(motion.sum)} without an action")
        if not commanded:
            return
        allowed = sum(lengths(np.array(action.motion)) for action in commanded)
        beyond = motion.fastest * (SINK_TIMEOUT + (self._period if motion.suspended else 0.0))
        pairs = ((motion.way, allowed, "sent"), (motion.sunk_way, allowed + beyond, "integrated"))
        for part, unit in enumerate(("m", "rad")):
            for way, limit, how in pairs:
                if way[part] > limit[part] * (1 + STEADY_TOLERANCE) + 1e-9:
                    detail = f"{way[part]:.6f} {unit} {how}, {len(commanded)} actions have {allowed[part]:.6f}"
                    self._report(motion.last, "too far", detail)
        self._compare_sections(motion, commanded)

    def _compare_sections(self, motion: Motion, commanded: Sequence[Action]) -> None:
        """The same for each direction by itself, so that a step that is carried out twice is not lost among the others.
        What no action has the direction of (what the workspace box bends) counts only in the whole. The ticks at both
        ends may be shared with the steps before and behind, which may have nearly the same direction.
        """
        shared = motion.fastest * self._period
        for section in motion.sections:
            begin, end = section.first - PAIRED - motion.late, section.last + PAIRED + motion.late
            mine = [
                action for action in commanded
                if begin - action.step_dt <= action.at and action.since <= end
                and _alike(np.array(action.motion), section.sum)
            ]  # fmt: skip
            if not mine:
                continue
            allowed, way = sum(lengths(np.array(action.motion)) for action in mine), lengths(section.sum)
            for part, unit in enumerate(("m", "rad")):
                if way[part] > allowed[part] * (1 + STEADY_TOLERANCE) + 2 * shared[part] + 1e-9:
                    detail = f"{way[part]:.6f} {unit} in one direction, {len(mine)} actions of it have"
                    self._report(section.last, "too far", f"{detail} {allowed[part]:.6f}")

    def _untold(self, motion: Motion) -> bool:
        """Whether it began with the last words of a process that was killed then: nobody could announce it."""
        return self.killed - UNTOLD < motion.first < self.killed + PAIRED

    def _compare(self, motion: Motion, action: Action) -> None:
        if not action.commanded:
            self._report(motion.last, "uncommanded", f"motion {text_of(motion.sum)} of an action of a dry run")
        for part, unit in ((slice(3), "m"), (slice(3, 6), "rad")):
            allowed, nominal, sunk = (
                float(np.linalg.norm(vector[part])) for vector in (np.array(action.motion), motion.sum, motion.sunk)
            )
            if allowed > 0:
                kind = self._kind_at(motion.last)
                self.overshoot[kind] = max(self.overshoot.get(kind, 0.0), sunk / allowed - 1)
            beyond = SINK_TIMEOUT + (self._period if motion.suspended else 0.0)
            late = allowed * (action.step_dt + beyond) / action.step_dt
            for value, limit, how in ((nominal, allowed, "sent"), (sunk, late, "integrated")):
                if value > limit * (1 + TOLERANCE) + 1e-9:
                    self._report(motion.last, "too far", f"{value:.6f} {unit} {how}, the action has {allowed:.6f}")


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether both have the same direction."""
    product = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) > (1 - TOLERANCE) * product > 0


def text_of(values: Sequence[float] | np.ndarray) -> str:
    """A vector for people."""
    return "(" + " ".join(f"{value:.4g}" for value in values) + ")"
