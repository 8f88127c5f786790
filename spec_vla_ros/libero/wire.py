"""From streamed velocities back to the actions of LIBERO, and one episode after another on them. No ROS.

The act node streams ``delta * action_scale / step_dt`` for ``step_dt`` seconds. For LIBERO the delta is a controller
input (1 = full), which is no length: at 20 Hz a full input would be 20 "m/s", far above the act node's speed limits.
``action_scale`` 0.01 brings it below them (0.35 at most), and here it is divided out again. The act node's rotation is
the rotation vector of Rz Ry Rx; LIBERO's three numbers are what roll, pitch and yaw were before, so that is undone too.
"""

from __future__ import annotations

import math

import numpy as np

from spec_vla_ros.episode_state import State
from spec_vla_ros.tabletop.arm import rotation_from_vector, rotation_to_euler

from .episode import World
from .protocol import MOTION_DIM, STATES, STEP, Suite, env_gripper, episode_seed

ACTION_SCALE = 0.01  # of the act node: keeps sqrt(3) full inputs in 0.05 s below its cap of 0.5 m/s
SILENCE = 0.1  # s that a command is in force without a further one, as in MoveIt Servo
PATIENCE = 0.5  # s that a message may be late; the world waits, so nothing is at stake but a step that is torn in two
SHORTEST = 1 / 3  # of a step; what ends sooner is the rest of a step that was carried out already
WHOLE = 0.8  # of a step; what lasts as long was not broken off, its ticks are early


class StepWindow:
    """Turns velocities back into the motion of one step of the sender. Times are the sender's stamps, in seconds.

    A window opens with the first command that is not zero. The act node's step is one velocity for ``step_dt``, then
    zero: the motion is that velocity times ``step_dt``, and not its integral over the ticks, which are a few per cent
    early or late where processors are busy. A step that is broken off (fault, deactivation) counts for the time that it
    lasted. A sender that goes on without a zero is integrated, one motion per ``step_dt``.
    """

    def __init__(self, step_dt: float = STEP) -> None:
        """``step_dt``: s, that of the act node."""
        self.step_dt = step_dt
        self.clear()

    @property
    def open(self) -> bool:
        """Whether a step is under way."""
        return self._open

    def clear(self) -> None:
        """Forget everything."""
        self._twist, self._stamp = np.zeros(MOTION_DIM), -math.inf
        self._begin(np.zeros(MOTION_DIM), 0.0, False)

    def hear(self, twist: np.ndarray, stamp: float) -> np.ndarray | None:
        """``twist`` (6,) m/s and rad/s is in force from ``stamp`` on; the motion (6,) of a step that ended with it.

        A stamp that is not later than the one before is ignored.
        """
        if not stamp > self._stamp:
            return None
        before, passed = self._twist, min(stamp - self._stamp, SILENCE)
        self._twist, self._stamp = np.array(twist, dtype=float), stamp
        goes_on = bool(np.any(self._twist))
        if not self._open:
            self._begin(np.zeros(MOTION_DIM), 0.0, goes_on)
            return None
        # The last velocity of a step is scaled down to what is left of it; the step's own is the fastest.
        self._fastest = max(self._fastest, before, key=np.linalg.norm)
        part = min(passed, self.step_dt - self._elapsed)
        self._motion += before * part
        self._elapsed += part
        if not goes_on:
            elapsed = self.step_dt if self._elapsed >= WHOLE * self.step_dt else self._elapsed
            motion = self._fastest * elapsed if elapsed >= SHORTEST * self.step_dt else None
            self._begin(np.zeros(MOTION_DIM), 0.0, False)
            return motion
        if self._elapsed < self.step_dt - 1e-9:
            return None
        motion, rest = self._motion, passed - part
        self._begin(before * rest, rest, True)
        return motion

    def _begin(self, motion: np.ndarray, elapsed: float, opened: bool) -> None:
        self._motion, self._elapsed, self._open, self._fastest = motion, elapsed, opened, np.zeros(MOTION_DIM)

    def silent(self, now: float) -> np.ndarray | None:
        """The motion of a step whose sender has said nothing for ``PATIENCE`` at ``now``, on the sender's clock."""
        return self.hear(np.zeros(MOTION_DIM), now) if self._open and now - self._stamp > PATIENCE else None


def controller_input(motion: np.ndarray, action_scale: float = ACTION_SCALE) -> np.ndarray:
    """(6,) metres and rotation vector of one step as streamed -> (6,) input of ``OSC_POSE``, clipped to [-1, 1]."""
    motion = np.asarray(motion, dtype=float) / action_scale
    angles = rotation_to_euler(rotation_from_vector(motion[3:]))
    return np.clip(np.concatenate([motion[:3], angles]), -1.0, 1.0)


class LiberoEpisodes:
    """Drives a :class:`.libero_episode.World` through requested episodes; every method that returns a picture takes a
    while.

    Counts control steps, not seconds: simulated time passes only while a step is carried out, as in the evaluation,
    where the simulator stands still while the policy thinks. Idle, the world obeys; after the end of an episode it does
    not until the next one. The gripper command is a switch and stays in force across a reset.
    """

    def __init__(self, world: World, suite: Suite, seed: int = 0) -> None:
        """``world``: ours from now on. ``seed``: as in the bench, of where fixtures stand."""
        self.world, self.suite = world, suite
        self.state, self.id, self.seed, self.steps, self.limit = State.IDLE, 0, 0, 0, 0
        self.task = -1
        self._seed, self._gripper = seed, 1.0

    @property
    def instruction(self) -> str:
        """Of the running episode, "" before the first."""
        return self.world.tasks[self.task] if self.task >= 0 else ""

    @property
    def elapsed(self) -> float:
        """Simulated seconds since the objects settled."""
        return self.steps * STEP

    @property
    def accepts_motion(self) -> bool:
        """Whether the world moves when told to."""
        return self.state in (State.IDLE, State.RUNNING)

    def request(self, instruction: str, time_limit: float) -> str:
        """Why an episode cannot be, or "". Changes nothing."""
        if self._number(instruction) < 0:
            return f"unknown instruction '{instruction}'; {self.suite.key} knows: {', '.join(self.world.tasks)}"
        if not (math.isfinite(time_limit) and time_limit >= 0):
            return f"time_limit must be finite and not negative, got {time_limit} s"
        return ""

    def begin(self, number: int, seed: int, instruction: str, time_limit: float = 0.0) -> np.ndarray:
        """Reset to the task of ``instruction`` and its stored state number ``seed`` modulo 50; the first picture.

        ``time_limit``: s of simulated time; 0 = the suite's.
        """
        task, trial = self._number(instruction), seed % STATES
        picture = self.world.reset(task, trial, episode_seed(self._seed, trial))
        self.id, self.seed, self.task, self.steps = number, seed, task, 0
        self.limit = max(1, round(time_limit / STEP)) if time_limit else self.suite.steps
        self.state = State.RUNNING
        return picture

    def look(self) -> np.ndarray:
        """The picture before the first request: first task, first state, nothing running."""
        return self.world.reset(0, 0, episode_seed(self._seed, 0))

    def set_gripper(self, opening: float) -> bool:
        """1 = open, 0 = closed, in force from the next step on; False if the value is not finite."""
        if not math.isfinite(opening):
            return False
        self._gripper = opening
        return True

    def action(self, motion: np.ndarray) -> np.ndarray:
        """(6,) in [-1, 1] -> (7,) input of the environment, with the gripper command that is in force now."""
        return np.concatenate([motion, [env_gripper(self._gripper)]])

    def act(self, action: np.ndarray) -> tuple[np.ndarray, bool]:
        """One control step with ``action`` (7,); the picture after it and whether the state changed."""
        picture, done = self.world.step(action)
        if self.state != State.RUNNING:
            return picture, False
        self.steps += 1
        if done:
            self.state = State.SUCCESS
        elif self.steps >= self.limit:
            self.state = State.FAILURE
        return picture, self.state != State.RUNNING

    def _number(self, instruction: str) -> int:
        wanted = instruction.strip().lower()
        return next((i for i, text in enumerate(self.world.tasks) if text.lower() == wanted), -1)
