"""One goal of a mission layer: what is asked for, how far it has come, why and when it ends. No ROS.

======= ============================================================= =======
phase   event                                                         next
======= ============================================================= =======
RUNNING a newer instruction or goal                                   ENDED
RUNNING any other reason to end                                       ENDING
ENDING  zero is on the wire, or is not known to be for STANDSTILL s   ENDED
======= ============================================================= =======

The first reason counts. The arm has to be stopped by whoever finds a goal ENDING; that it was is read from the reports
of the safety loop. Times are seconds on the steady clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, IntEnum

import numpy as np

from spec_vla_ros.errors import InstructionError
from spec_vla_ros.instruction import clean_instruction
from spec_vla_ros.motion.intent import Report
from spec_vla_ros.motion.watchdog import Fault

AT_REST = np.array([0.001, 0.01])  # m and rad per step, as the model said it; the .action file says so too
STANDSTILL = 1.0  # s until the safety loop must have confirmed zero; it is a fault of its own after half of that
UNCONFIRMED = Fault(
    "SAFETY_LOOP_SILENT",
    "the safety process has not confirmed that the arm stands still",
    "Look at the arm and at the node's log; then deactivate and activate.",
)


class Outcome(IntEnum):
    """Why a goal has ended; the constants of action/ExecuteInstruction.action, where a comment explains each."""

    SUCCEEDED_AT_REST = 1
    TIME_LIMIT = 2
    CANCELLED = 3
    PREEMPTED = 4
    FAULT = 5
    NOT_ACTIVE = 6
    REFUSED = 7
    CLIENT_GONE = 8


class Phase(Enum):
    """Where a goal stands; see the module."""

    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"


@dataclass(frozen=True)
class Order:
    """What is asked for. ``instruction``: cleaned. ``time_limit``: s, 0 = none. ``at_rest_steps``: 0 = off."""

    instruction: str
    time_limit: float
    at_rest_steps: int

    @staticmethod
    def of(instruction: str, time_limit: float, at_rest_steps: int) -> Order:
        """An order of what somebody has sent; :class:`InstructionError` if it is of no use."""
        if not (math.isfinite(time_limit) and time_limit >= 0.0):
            raise InstructionError(f"time_limit must be 0 or a number of s above it, got {time_limit}")
        return Order(clean_instruction(instruction), time_limit, at_rest_steps)

    def __str__(self) -> str:
        """For the log."""
        limit = f"at most {self.time_limit:.1f} s" if self.time_limit else "no time limit"
        rest = f"until {self.at_rest_steps} actions at rest" if self.at_rest_steps else "not until at rest"
        return f"{self.instruction!r}, {limit}, {rest}"


@dataclass
class Progress:
    """Of the newest action: ``delta`` (6,) m and rad and ``gripper`` as the model said them, ``passes`` of the
    language model. ``actions``: that were begun.
    """

    actions: int = 0
    passes: int = 0
    delta: np.ndarray | None = None
    gripper: float = math.nan


@dataclass(frozen=True)
class Ending:
    """Why it ends. ``at``: when that was decided. ``message``: a sentence; ``fault``: behind it, or None."""

    outcome: Outcome
    at: float
    message: str
    fault: Fault | None = None


class Goal:
    """One accepted goal. Not thread-safe: the executor's thread owns it."""

    def __init__(self, order: Order, now: float) -> None:
        """Accepted at ``now``."""
        self.order, self.began_at = order, now
        self.phase = Phase.RUNNING
        self.progress = Progress()
        self.ending: Ending | None = None
        self._resting = 0  # actions at rest in a row
        self._open: bool | None = None  # what the gripper was last told

    def elapsed(self, now: float) -> float:
        """Seconds from acceptance until ``now``, or until the end was decided."""
        return (now if self.ending is None else self.ending.at) - self.began_at

    def act(self, delta: np.ndarray, gripper: float, opened: bool | None, passes: int, now: float) -> None:
        """An action was begun. ``delta`` (6,): m and rad per step as the model said it, and so ``gripper``.

        ``opened``: what that makes of the gripper, None while undecided.
        """
        if self.phase is not Phase.RUNNING:
            return
        progress = self.progress
        progress.actions += 1
        progress.delta, progress.gripper, progress.passes = np.array(delta, dtype=float), float(gripper), passes
        moved = np.linalg.norm(progress.delta[:3]), np.linalg.norm(progress.delta[3:])
        at_rest = (moved < AT_REST).all() and opened == self._open
        self._resting, self._open = (self._resting + 1 if at_rest else 0), opened
        if self.order.at_rest_steps and self._resting >= self.order.at_rest_steps:
            self.end(Outcome.SUCCEEDED_AT_REST, now, f"the last {self._resting} actions were at rest")

    def end(self, outcome: Outcome, now: float, message: str, fault: Fault | None = None) -> bool:
        """Take a reason to end; returns whether it is the first."""
        if self.phase is not Phase.RUNNING:
            return False
        self.ending = Ending(outcome, now, message, fault)
        self.phase = Phase.ENDED if outcome is Outcome.PREEMPTED else Phase.ENDING
        return True

    def look(self, now: float, report: Report) -> None:
        """Look at the time, and at whether the arm stands still where it has to: not before the next look, because it
        has yet to be stopped. ``now`` is later than what the safety loop was last told.
        """
        limit = self.order.time_limit
        if self.phase is Phase.RUNNING and limit and now - self.began_at >= limit:
            self.end(Outcome.TIME_LIMIT, now, f"the time limit of {limit:.1f} s is over")
        elif self.phase is Phase.ENDING:
            if stands_still(report, self.ending.at):
                self.phase = Phase.ENDED
            elif now - self.ending.at > STANDSTILL:
                self._give_up()

    def close(self, now: float, standing: bool) -> None:
        """The node has stopped being active; ``standing``: the safety loop has confirmed the last zero."""
        self.end(Outcome.NOT_ACTIVE, now, "the node was deactivated")
        if not standing and self.phase is Phase.ENDING:
            self._give_up()
        self.phase = Phase.ENDED

    def _give_up(self) -> None:
        """Nobody confirms that the arm stands still. That is what whoever waits has to know, unless a fault is."""
        self.phase = Phase.ENDED
        if self.ending.outcome is not Outcome.FAULT:
            before = self.ending
            self.ending = Ending(Outcome.FAULT, before.at, f"{before.message}; {UNCONFIRMED}", UNCONFIRMED)

    @property
    def verb(self) -> str:
        """What the ended goal is to a client that knows no outcomes: "succeed", "abort" or "canceled".

        Those are the methods of a goal handle.
        """
        outcome = self.ending.outcome
        if outcome is Outcome.CANCELLED:
            return "canceled"
        asked = outcome is Outcome.TIME_LIMIT and not self.order.at_rest_steps  # for the time and nothing else
        return "succeed" if asked or outcome is Outcome.SUCCEEDED_AT_REST else "abort"


def stands_still(report: Report, since: float) -> bool:
    """Whether the safety loop has taken back what moved, and sent zero: it heard an intent from after ``since``, and
    nothing is under way, or only what began later.
    """
    return report.heard >= since and (not report.moving or report.zero_at >= since)
