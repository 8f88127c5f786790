"""One episode after another on the simulated arm: reset, drive, judge. No ROS.

Time is simulated time. The arm's physics runs in ticks; a command that changes inside a tick is averaged over it, so
that the distance travelled is the integral of the commanded velocity and not a matter of when a tick happens to fall.
"""

from __future__ import annotations

import math

import numpy as np

from spec_vla_ros.episode_state import State

from .arm import TICK, TabletopArm
from .tasks import BY_INSTRUCTION, Layout, Task


class EpisodeRunner:
    """Drives a :class:`TabletopArm` through episodes; the node around it only carries messages.

    Idle, the arm obeys (to try it out); after SUCCESS or FAILURE it ignores motion until the next request. The gripper
    command is a switch that is sent on change only, so the last one stays in force across a reset.
    """

    def __init__(self, arm: TabletopArm) -> None:
        """``arm``: ours from now on."""
        self.arm = arm
        self.state = State.IDLE
        self.id = 0
        self.seed = 0
        self.task: Task | None = None
        self.time_limit = 0.0  # s
        self.clock = 0.0  # s of simulated time since the start; never jumps back, unlike the arm's own
        self._gripper = 1.0
        self._motion = np.zeros(6)  # integral of the twist over the part of a tick that has passed (m, rad)
        self._part = 0.0  # s of a tick that has passed
        self._ended_at = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the reset; stands still when the episode is over."""
        return self.arm.time if self.state == State.RUNNING else self._ended_at

    @property
    def accepts_motion(self) -> bool:
        """Whether the arm moves when told to."""
        return self.state in (State.IDLE, State.RUNNING)

    def request(self, number: int, seed: int, instruction: str, time_limit: float = 0.0) -> str:
        """Start episode ``number``; returns "" or why it was refused, in which case nothing changes.

        ``time_limit``: s of simulated time; 0 = the task's own.
        """
        task = BY_INSTRUCTION.get(instruction.strip().lower())
        if task is None:
            return f"unknown instruction '{instruction}'; this scene knows: {', '.join(BY_INSTRUCTION)}"
        if not (math.isfinite(time_limit) and time_limit >= 0):
            return f"time_limit must be finite and not negative, got {time_limit} s"
        self.id, self.seed, self.task = number, seed, task
        self.time_limit = time_limit or task.time_limit
        self.arm.reset(Layout.sample(seed))
        self.arm.set_gripper(self._gripper)
        self.state, self._ended_at = State.RUNNING, 0.0
        self._motion, self._part = np.zeros(6), 0.0
        return ""

    def set_gripper(self, opening: float) -> bool:
        """1 = open, 0 = closed; False if the value is not finite. Remembered while the arm ignores motion."""
        if not math.isfinite(opening):
            return False
        self._gripper = float(np.clip(opening, 0.0, 1.0))
        if self.accepts_motion:
            self.arm.set_gripper(self._gripper)
        return True

    def advance(self, duration: float, twist: np.ndarray) -> bool:
        """Let ``duration`` seconds pass under ``twist`` (6,), m/s and rad/s; True if the state changed."""
        before = self.state
        while duration > 1e-12:
            part = min(duration, TICK - self._part)
            duration -= part
            self._part += part
            if self.accepts_motion:
                self._motion += np.asarray(twist) * part
            if self._part >= TICK - 1e-9:
                self._tick()
        return self.state != before

    def _tick(self) -> None:
        self.arm.set_twist(self._motion / TICK if self.accepts_motion else np.zeros(6))
        self.arm.advance(TICK)
        self.clock += TICK
        self._motion, self._part = np.zeros(6), 0.0
        if self.state == State.RUNNING and self.task is not None:
            if self.task.done(self.arm):
                self._end(State.SUCCESS)
            elif self.arm.time >= self.time_limit - 1e-9:
                self._end(State.FAILURE)

    def _end(self, state: State) -> None:
        self._ended_at = self.arm.time
        self.state = state
