"""What is unsafe on the wire: a judge of everything that was heard from the act node and done to it. No ROS.

The judge sees the node from outside, as the arm does. It knows nothing of the node's own opinion but what the node
publishes. Events (:mod:`.fault_events`) come in order of time. A rule that forbids motion after a moment counts a
message only if it arrived after it for certain; a late listener makes the judge blind for that long (``listener_lag``
says how long), but never unjust.

A velocity that is not zero is unsafe (``Unsafe.rule``) when it

* ``not finite``: has a component that is NaN or infinite;
* ``too fast``: its linear part is longer than ``max_linear_speed`` or its angular part than ``max_angular_speed``,
  whatever values were in force during the last :data:`LIMITS_LAST` seconds (a step keeps the limit it began with);
* ``wrong frame``: is not in ``command_frame``;
* ``wrong stamp``: its stamp is more than :data:`STAMP` seconds from what the ROS clock showed on arrival, unless
  ``/clock`` has jumped within :data:`CLOCK_NEWS` seconds;
* ``blind``: arrived when the newest good image had been captured more than ``image_timeout`` + :data:`BLIND` s before.
  Good is what the camera published without any of the injected defects;
* ``after a fault``: arrived after diagnostics named a fault, or after the time that an injected fault has to take
  effect, and before the operator asked for activation from inactive (or, where the node only holds, gave a new
  instruction);
* ``not active``: arrived before the operator asked for activation, or after deactivation or shutdown was confirmed;
* ``dry run``: arrived after ``dry_run`` was confirmed and before it was taken back;
* ``told to stop``: arrived more than :data:`SIGNAL` s after SIGINT or SIGTERM was sent to the process.

What a process was about to send when it was suspended leaves it on SIGCONT, with a stamp for which every sink refuses
it (older than :data:`SINK_TIMEOUT`). Nobody can prevent that, so the first velocity within :data:`RESUMED` s is not
judged if its stamp is so old.

Gripper commands move something, too: the last four rules hold for them as well. Unsafe is further

* ``no zero at the end``: silence of :data:`SILENCE` s, or the end of the process, after a velocity that is not zero,
  unless the process was killed or suspended;
* ``too far``: the velocities of one action times the publish period add up to more than its displacement; or more than
  the sink's timeout beyond it as a sink integrates them, each velocity in force until the next one arrives;
* ``unannounced``: a motion without an action of its direction that was published when it began;
* ``uncommanded``: a motion whose action says that nothing is sent to the arm (``commanded`` false, in a dry run).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .fault_events import (
    Action,
    Answered,
    Asked,
    Deaf,
    Ended,
    Gripper,
    Idle,
    Image,
    Injected,
    Limits,
    Shown,
    Signalled,
    Started,
    Twist,
)

LIMITS_LAST = 1.0  # s that a value which was replaced may still be in use: set, inferred with, and streamed to the end
STAMP = 0.05  # s
CLOCK_NEWS = 0.15  # s in which a jump of /clock need not have reached the node
BLIND = 0.05  # s beyond image_timeout: a tick of the stream and the way here
MARGIN = 0.01  # s by which messages of two topics may overtake each other
SIGNAL = 0.15  # s from a signal to the last velocity of a node that looks for signals every 0.1 s
SILENCE = 0.5  # s without a message; the stream has one every 0.01 s
PAIRED = 0.15  # s between a motion's first velocity and the message of its action
TOLERANCE = 1e-3  # of speeds and displacements
HOLD_ECHO = 0.2  # s in which a periodic report may still tell of a hold that has just been lifted
SINK_TIMEOUT = 0.1  # s after which MoveIt Servo stops for want of commands
RESUMED = 0.1  # s
UNHEARD = ("SIGKILL", "SIGSTOP")  # the process cannot answer these with a zero


@dataclass(frozen=True)
class Unsafe:
    """One violation. ``kind``: the fault that was injected last."""

    at: float
    rule: str
    detail: str
    kind: str


@dataclass
class _Motion:
    """Velocities that are not zero, without a zero between them."""

    first: float
    sum: np.ndarray = field(default_factory=lambda: np.zeros(6))  # velocity times period
    sunk: np.ndarray = field(default_factory=lambda: np.zeros(6))  # velocity times the time that it was in force
    last: float = 0.0
    values: np.ndarray = field(default_factory=lambda: np.zeros(6))
    suspended: float = 0.0  # s for which its process could not announce it

    def add(self, at: float, values: np.ndarray, period: float) -> None:
        self.end(at)
        self.sum += values * period
        self.last, self.values = at, values

    def belongs_to(self, action: Action) -> bool:
        """Whether it has the direction of ``action`` and began when that was announced, or in the midst of its step."""
        if not self.first - action.step_dt - PAIRED <= action.at or action.since > self.first + PAIRED + self.suspended:
            return False
        motion = np.array(action.motion)
        lengths = float(np.linalg.norm(motion) * np.linalg.norm(self.sum))
        return float(motion @ self.sum) > (1 - TOLERANCE) * lengths > 0

    def end(self, at: float) -> None:
        self.sunk += self.values * min(max(at - self.last, 0.0), SINK_TIMEOUT)


class Monitor:
    """Takes events one by one and keeps what was unsafe in ``unsafe``."""

    def __init__(self, frame: str, period: float) -> None:
        """``frame``: of the commands. ``period``: s between two velocities."""
        self.unsafe: list[Unsafe] = []
        self.moving_commands = 0  # velocities that were not zero
        self.commands = 0
        self.listener_lag = 0.0  # s, the longest that a message may have waited to be read
        self.overshoot: dict[
            str, float
        ] = {}  # by kind of fault: of a displacement as a sink integrates it, the largest
        self._frame, self._period = frame, period
        self._injected: deque[Injected] = deque([Injected(-math.inf, "", None)], maxlen=8)
        self._forbidden: dict[str, float] = {"not active": -math.inf}  # rule or cause: from when on
        self._limits: deque[Limits] = deque()
        self._captured = -math.inf
        self._last: Twist | None = None  # the newest velocity, until silence after it was judged
        self._activating = False
        self._silenced = False  # killed or suspended; what was on its way may still be heard
        self._resumed = self._suspended_at = -math.inf
        self._hold_lifted = -math.inf
        self._motion: _Motion | None = None
        self._motions: deque[_Motion] = deque()
        self._actions: deque[Action] = deque()

    def feed(self, event: Any) -> None:
        """Take one event."""
        getattr(self, f"_on_{type(event).__name__.lower()}")(event)

    # -- what was heard ------------------------------------------------------------------------------------------------

    def _on_twist(self, twist: Twist) -> None:
        self.commands += 1
        self.listener_lag = max(self.listener_lag, twist.at - twist.since)
        values, self._last = np.array(twist.values), twist
        if not values.any():  # NaN counts as motion
            if self._motion is not None:
                self._motion.end(twist.at)
                self._motions.append(self._motion)
                self._motion = None
            return
        self.moving_commands += 1
        resumed, self._resumed = self._resumed, -math.inf
        if twist.at - resumed < RESUMED and twist.clock[0] - twist.stamp > SINK_TIMEOUT:
            return
        self._judge_velocity(twist, values)
        self._judge_moment(twist, f"velocity {_text(values)}")
        if self._motion is None:
            self._motion = _Motion(twist.at)
        self._motion.add(twist.at, values, self._period)

    def _judge_velocity(self, twist: Twist, values: np.ndarray) -> None:
        if not np.isfinite(values).all():
            self._report(twist.at, "not finite", _text(values))
        linear, angular = self._bound("linear", twist.at), self._bound("angular", twist.at)
        for part, limit, unit in ((values[:3], linear, "m/s"), (values[3:], angular, "rad/s")):
            speed = float(np.linalg.norm(part))
            if speed > limit * (1 + TOLERANCE):
                self._report(twist.at, "too fast", f"{speed:.4f} {unit}, the limit is {limit:.4f}")
        if twist.frame != self._frame:
            self._report(twist.at, "wrong frame", repr(twist.frame))
        low, high = twist.clock
        off = max(low - twist.stamp, twist.stamp - high)
        news = self._injected[-1].kind.startswith("clock jumps") and twist.at - self._injected[-1].at < CLOCK_NEWS
        if off > STAMP and not news:
            self._report(twist.at, "wrong stamp", f"{off:.3f} s off")
        age, timeout = twist.since - self._captured, self._bound("image_timeout", twist.at)
        if age > timeout + BLIND:
            self._report(twist.at, "blind", f"the newest good image was {age:.3f} s old, allowed are {timeout:.3f} s")

    def _judge_moment(self, message: Twist | Gripper, what: str) -> None:
        for cause, moment in self._forbidden.items():
            if message.since > moment + MARGIN:
                rule = "after a fault" if cause in ("fault", "deadline", "hold") else cause
                self._report(message.at, rule, f"{what}, {message.at - moment:.3f} s after it was forbidden ({cause})")
                break

    def _on_gripper(self, gripper: Gripper) -> None:
        self._judge_moment(gripper, "gripper command")

    def _on_action(self, action: Action) -> None:
        self._actions.append(action)

    def _on_shown(self, shown: Shown) -> None:
        if shown.latched:
            self._forbid("fault", shown.at)
        elif shown.at > self._hold_lifted + HOLD_ECHO:
            self._forbid("hold", shown.at)

    # -- what was done -------------------------------------------------------------------------------------------------

    def _on_image(self, image: Image) -> None:
        self._captured = max(self._captured, image.captured)

    def _on_limits(self, limits: Limits) -> None:
        self._limits.append(limits)

    def _on_asked(self, asked: Asked) -> None:
        if asked.what == "activate" and "not active" in self._forbidden:
            self._activating = True
            self._permit("not active", "fault", "deadline", "hold")
        elif asked.what == "instruction":
            self._hold_lifted = asked.at
            self._permit("hold", "deadline")
        elif asked.what == "dry run off":
            self._permit("dry run", "deadline")

    def _on_answered(self, answered: Answered) -> None:
        if answered.success and answered.what in ("deactivate", "shutdown"):
            self._forbid("not active", answered.at)
        elif answered.success and answered.what == "dry run on":
            self._forbid("dry run", answered.at)
        elif answered.what == "activate":
            if self._activating and not answered.success:
                self._forbid("not active", answered.at)
            self._activating = False

    def _on_injected(self, injected: Injected) -> None:
        self._injected.append(injected)
        if injected.within is not None:
            self._forbid("deadline", injected.at + injected.within)

    def _on_signalled(self, signalled: Signalled) -> None:
        if signalled.name in UNHEARD:
            self._silenced, self._suspended_at = True, signalled.at
        elif signalled.name == "SIGCONT":
            for motion in (*self._motions, *([self._motion] if self._motion else [])):
                if motion.last > self._suspended_at - PAIRED:
                    motion.suspended += signalled.at - self._suspended_at
            self._silenced, self._last, self._resumed = False, None, signalled.at
        else:
            self._forbid("told to stop", signalled.at + SIGNAL)

    def _on_started(self, started: Started) -> None:
        self._forbidden = {"not active": started.at}
        self._last, self._motion, self._silenced = None, None, False
        self._captured = -math.inf

    def _on_ended(self, ended: Ended) -> None:
        self._judge_end(ended.at, "the process has ended")
        self._motion = self._last = None
        self._settle(math.inf)

    def _on_deaf(self, deaf: Deaf) -> None:
        del deaf
        self._last = self._motion = None

    def _on_idle(self, idle: Idle) -> None:
        if self._last is not None and idle.at - self._last.at > SILENCE:
            self._judge_end(idle.at, f"nothing for {idle.at - self._last.at:.2f} s")
            self._last = None
        if not self._silenced:  # the announcement may be on its way since before
            self._settle(idle.at)

    # -- bookkeeping ---------------------------------------------------------------------------------------------------

    def _judge_end(self, at: float, why: str) -> None:
        if self._last is not None and any(self._last.values) and not self._silenced:
            self._report(at, "no zero at the end", f"{why}, the last velocity is {_text(self._last.values)}")

    def _settle(self, now: float) -> None:
        """Compare the motions that are over with the actions that announced them."""
        while self._motions and self._motions[0].last + self._motions[0].suspended < now - 2 * PAIRED:
            motion = self._motions.popleft()
            while self._actions and self._actions[0].at < motion.first - self._actions[0].step_dt - PAIRED:
                self._actions.popleft()
            action = next((action for action in self._actions if motion.belongs_to(action)), None)
            if action is None:
                self._report(motion.last, "unannounced", f"motion {_text(motion.sum)} without an action")
                continue
            self._actions.remove(action)
            if not action.commanded:
                self._report(motion.last, "uncommanded", f"motion {_text(motion.sum)} of an action of a dry run")
            self._judge_displacement(motion, action)

    def _judge_displacement(self, motion: _Motion, action: Action) -> None:
        for part, unit in ((slice(3), "m"), (slice(3, 6), "rad")):
            allowed, nominal, sunk = (
                float(np.linalg.norm(vector[part])) for vector in (np.array(action.motion), motion.sum, motion.sunk)
            )
            if allowed > 0:
                kind = self._kind_at(motion.last)
                self.overshoot[kind] = max(self.overshoot.get(kind, 0.0), sunk / allowed - 1)
            late = allowed * (action.step_dt + SINK_TIMEOUT) / action.step_dt
            for value, limit, how in ((nominal, allowed, "sent"), (sunk, late, "integrated")):
                if value > limit * (1 + TOLERANCE) + 1e-9:
                    self._report(motion.last, "too far", f"{value:.6f} {unit} {how}, the action has {allowed:.6f}")

    def _bound(self, name: str, at: float) -> float:
        """The largest value that may be in force: what was asked for lately, and the last one before."""
        while len(self._limits) > 1 and self._limits[1].at < at - LIMITS_LAST:
            self._limits.popleft()
        return max((getattr(limits, name) for limits in self._limits), default=0.0)

    def _forbid(self, cause: str, moment: float) -> None:
        self._forbidden[cause] = min(moment, self._forbidden.get(cause, math.inf))

    def _permit(self, *causes: str) -> None:
        for cause in causes:
            self._forbidden.pop(cause, None)

    def _report(self, at: float, rule: str, detail: str) -> None:
        self.unsafe.append(Unsafe(at, rule, detail, self._kind_at(at)))

    def _kind_at(self, at: float) -> str:
        return next((injected.kind for injected in reversed(self._injected) if injected.at <= at), "")


def _text(values: Sequence[float] | np.ndarray) -> str:
    return "(" + " ".join(f"{value:.4g}" for value in values) + ")"
