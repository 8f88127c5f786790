"""What is unsafe on the wire: a judge of everything that was heard from the act node and done to it. No ROS.

The judge sees the node from outside, as the arm does. It knows nothing of the node's own opinion but what the node
publishes. Events (:mod:`.fault_events`) come in order of time. A rule that forbids motion after a moment counts a
message only if it was published after it for certain; a late listener makes the judge blind for that long
(``listener_lag`` says how long), but never unjust.

A velocity that is not zero is unsafe (``Unsafe.rule``) when it

* ``not finite``: has a component that is NaN or infinite;
* ``too fast``: its linear part is longer than ``max_linear_speed`` or its angular part than ``max_angular_speed``,
  whatever was asked for until :data:`LIMITS_LAST` s after the node confirmed a later value;
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
* ``told to stop``: arrived later after a signal to the node than :data:`SIGNAL` says.

What a process was about to send when it was suspended leaves it on SIGCONT, with a stamp for which every sink refuses
it (older than ``SINK_TIMEOUT``). Nobody can prevent that, so the first velocity within :data:`RESUMED` s is not judged
if its stamp is so old.

Gripper commands move something, too: the last four rules hold for them as well. Unsafe is further

* ``gap``: more than :data:`GAP` s between a velocity that is not zero and the next message, on arrival and by their
  stamps, whatever becomes of the act node. Only a safety process that was itself suspended or killed is excused;
* ``no zero at the end``: silence of :data:`SILENCE` s, or the end of the processes, after a velocity that is not zero.
  A killed safety process has a successor, which must say zero within :data:`SUCCESSOR` s;
* ``too far``: the velocities of one action (with steady pacing: the way of a motion without a zero in it, of all its
  actions, and the way in each direction, of the actions of that direction) times the publish period add up to more
  than its displacement; or more than the sink's timeout beyond it as a sink integrates them, each velocity in force
  until the next one arrives (and a period more where the safety process was suspended, and the sink stopped by itself);
* ``unannounced``: a motion without an action of its direction that was published when it began;
* ``uncommanded``: a motion whose action says that nothing is sent to the arm (``commanded`` false, in a dry run).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from .fault_events import (
    ACT,
    GROUP,
    Action,
    Answered,
    Asked,
    Deaf,
    Ended,
    Gripper,
    Idle,
    Image,
    InForce,
    Injected,
    Limits,
    Shown,
    Signalled,
    Started,
    Twist,
)
from .fault_motion import SINK_TIMEOUT, TOLERANCE, Motions, text_of

LIMITS_LAST = 0.1  # s after the answer that a value which was replaced may still be in use
STAMP = 0.1  # s; a sink refuses what is older
STARVED = 0.4  # s later, where the machine may be too busy to bring it here
CLOCK_NEWS = 0.15  # s in which a jump of /clock need not have reached the node
BLIND = 0.05  # s beyond image_timeout: a tick of the stream and the way here
MARGIN = 0.01  # s by which messages of two topics may overtake each other
# s from a signal to the last velocity. The node looks at its own every 0.1 s, or not at all while something keeps it
# busy: then its silence stops the arm. Its child looks at once, and at the end of the node as well.
SIGNAL, SIGNAL_BUSY, SIGNAL_CHILD = 0.15, 0.4, 0.1
GAP = 0.1  # s; what MoveIt Servo waits before it stops by itself
SILENCE = 0.5  # s without a message; the stream has one every 0.01 s
SUCCESSOR = 2.0  # s until the successor of a killed safety process must be heard; it starts Python and joins the graph
HOLD_ECHO = 0.2  # s in which a periodic report may still tell of a hold that has just been lifted
RESUMED = 0.1  # s
PROMPT = 0.01  # s of lag up to which the moment of arrival tells something where no stamp does


@dataclass(frozen=True)
class Unsafe:
    """One violation. ``kind``: the fault that was injected last."""

    at: float
    rule: str
    detail: str
    kind: str


class Monitor:
    """Takes events one by one and keeps what was unsafe in ``unsafe``."""

    def __init__(self, frame: str, period: float, step: float, steady: bool = False) -> None:
        """``frame``: of the commands. ``period``: s between two velocities. ``step``: s of an action. ``steady``: the
        node's pacing.
        """
        self.unsafe: list[Unsafe] = []
        self.moving_commands = 0  # velocities that were not zero
        self.commands = 0
        self.listener_lag = 0.0  # s, the longest that a message may have waited to be read
        self.intervals: dict[
            str, list[float]
        ] = {}  # by kind of fault: s from a velocity that moves to the next message
        self._frame = frame
        self._injected: deque[Injected] = deque([Injected(-math.inf, "", None)], maxlen=8)
        self._forbidden: dict[str, float] = {"not active": -math.inf}  # rule or cause: from when on
        self._limits: deque[Limits] = deque()
        self._confirmed: deque[InForce] = deque()
        self._captured = -math.inf
        self._last: Twist | None = None  # the newest velocity, until silence after it was judged
        self._activating = False
        self._excused = -math.inf  # until when the safety process cannot say zero; what was on its way may be heard
        self._resumed = -math.inf
        self._stopped_at, self._stands = -math.inf, False  # when the act node was suspended, and whether it still is
        self._killed_at: float | None = None
        self._hold_lifted = -math.inf
        self._motions = Motions(period, step, self._report, self._kind_at, steady)

    @property
    def overshoot(self) -> dict[str, float]:
        """By kind of fault: of a displacement as a sink integrates it, the largest."""
        return self._motions.overshoot

    def feed(self, event: Any) -> None:
        """Take one event."""
        getattr(self, f"_on_{type(event).__name__.lower()}")(event)

    # -- what was heard ------------------------------------------------------------------------------------------------

    def _on_twist(self, twist: Twist) -> None:
        self.commands += 1
        self.listener_lag = max(self.listener_lag, twist.at - twist.since)
        self._judge_interval(twist)
        values, self._last = np.array(twist.values), twist
        if not values.any():  # NaN counts as motion
            self._motions.stand(twist.certain, any(0.0 in (limits.linear, limits.angular) for limits in self._limits))
            return
        self.moving_commands += 1
        resumed, self._resumed = self._resumed, -math.inf
        if twist.at - resumed < RESUMED and twist.clock[0] - twist.stamp > SINK_TIMEOUT:
            return
        self._judge_velocity(twist, values)
        self._judge_moment(twist, f"velocity {text_of(values)}")
        self._motions.move(twist.at, twist.certain, values)

    def _judge_interval(self, twist: Twist) -> None:
        last = self._last
        if last is None or not any(last.values) or last.at < self._excused:
            return
        arrived, kind = twist.since - last.at, self._kind_at(last.at)
        if twist.sent is not None and last.sent is not None:
            interval = twist.sent - last.sent
            certain = min(arrived, interval)
        else:
            interval, certain = twist.at - last.at, arrived
            if max(twist.at - twist.since, last.at - last.since) > PROMPT:
                interval = 0.0
        if interval > 0:
            self.intervals.setdefault(kind, []).append(interval)
        if certain > GAP:
            self._report(twist.at, "gap", f"{certain:.3f} s after a velocity of {text_of(last.values)}")

    def _judge_velocity(self, twist: Twist, values: np.ndarray) -> None:
        if not np.isfinite(values).all():
            self._report(twist.at, "not finite", text_of(values))
        linear, angular = self._bound("linear", twist.certain), self._bound("angular", twist.certain)
        for part, limit, unit in ((values[:3], linear, "m/s"), (values[3:], angular, "rad/s")):
            speed = float(np.linalg.norm(part))
            if speed > limit * (1 + TOLERANCE):
                self._report(twist.at, "too fast", f"{speed:.4f} {unit}, the limit is {limit:.4f}")
        if twist.frame != self._frame:
            self._report(twist.at, "wrong frame", repr(twist.frame))
        low, high = twist.clock
        off = max(low - twist.stamp - (STARVED if self._lateness(twist.at) else 0.0), twist.stamp - high)
        news = any(
            injected.kind.startswith("clock jumps") and twist.at - injected.at < CLOCK_NEWS
            for injected in self._injected
        )
        if off > STAMP and not news:
            self._report(twist.at, "wrong stamp", f"{off:.3f} s off")
        age, timeout = twist.certain - self._captured, self._bound("image_timeout", twist.certain)
        if age > timeout + BLIND:
            self._report(twist.at, "blind", f"the newest good image was {age:.3f} s old, allowed are {timeout:.3f} s")

    def _judge_moment(self, message: Twist | Gripper, what: str) -> None:
        for cause, moment in self._forbidden.items():
            if message.certain > moment + MARGIN:
                rule = "after a fault" if cause in ("fault", "deadline", "hold") else cause.partition(":")[0]
                self._report(message.at, rule, f"{what}, {message.at - moment:.3f} s after it was forbidden ({cause})")
                break

    def _on_gripper(self, gripper: Gripper) -> None:
        self._judge_moment(gripper, "gripper command")

    def _on_action(self, action: Action) -> None:
        self._motions.announce(action)

    def _on_shown(self, shown: Shown) -> None:
        if shown.latched:
            self._forbid("fault", shown.at)
        elif shown.at > self._hold_lifted + HOLD_ECHO + self._lateness(shown.at):
            self._forbid("hold", shown.at)

    # -- what was done -------------------------------------------------------------------------------------------------

    def _on_image(self, image: Image) -> None:
        self._captured = max(self._captured, image.captured)

    def _on_limits(self, limits: Limits) -> None:
        self._limits.append(limits)

    def _on_inforce(self, confirmed: InForce) -> None:
        self._confirmed.append(confirmed)

    def _on_asked(self, asked: Asked) -> None:
        if asked.what == "activate" and "not active" in self._forbidden:
            self._activating = True
            self._permit("not active", "fault", "deadline", "hold", "told to stop: child")
        elif asked.what == "instruction":
            self._hold_lifted = asked.at
            self._permit("hold", "deadline")
        elif asked.what == "words":
            self._hold_lifted = asked.at
            self._permit("hold")
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
        self._motions.late = injected.late
        if injected.within is not None:
            self._forbid("deadline", injected.at + injected.within)

    def _on_signalled(self, signalled: Signalled) -> None:
        name, at = signalled.name, signalled.at
        acts, childs = signalled.whom in (ACT, GROUP), signalled.whom != ACT
        if name == "SIGSTOP":
            if acts:
                self._stopped_at, self._stands = at, True
            if childs:
                self._excused = math.inf
                self._motions.suspend()
        elif name == "SIGCONT":
            if acts and self._stands:
                self._motions.excuse(self._stopped_at, at - self._stopped_at)
                self._stands = False
            if childs:
                self._excused, self._last, self._resumed = at, None, at
        elif name == "SIGKILL" and childs:
            self._excused, self._motions.killed = math.inf if acts else at + SUCCESSOR, at
        else:
            busy = SIGNAL_BUSY if self._injected[-1].late or at - self._stopped_at < 1.0 else SIGNAL
            cause = "told to stop" if acts else "told to stop: child"  # which has a successor
            self._forbid(cause, at + (SIGNAL_CHILD if childs or name == "SIGKILL" else busy))
        if name == "SIGKILL" and acts:
            self._killed_at = at

    def _on_started(self, started: Started) -> None:
        self._forbidden = {"not active": started.at}
        self._last, self._excused, self._killed_at, self._stands = None, -math.inf, None, False
        self._motions.forget()
        self._captured = -math.inf

    def _on_ended(self, ended: Ended) -> None:
        self._judge_end(ended.at, "the process has ended")
        self._last = None
        self._motions.forget()
        self._motions.settle(math.inf, self._killed_at)

    def _on_deaf(self, deaf: Deaf) -> None:
        del deaf
        self._last = None
        self._motions.forget()

    def _on_idle(self, idle: Idle) -> None:
        if self._last is not None and idle.at - self._last.at > SILENCE and idle.at > self._excused:
            self._judge_end(idle.at, f"nothing for {idle.at - self._last.at:.2f} s")
            self._last = None
        if not self._stands:  # the announcement may be on its way since before
            self._motions.settle(idle.at)

    # -- bookkeeping ---------------------------------------------------------------------------------------------------

    def _judge_end(self, at: float, why: str) -> None:
        if self._last is not None and any(self._last.values) and at > self._excused:
            self._report(at, "no zero at the end", f"{why}, the last velocity is {text_of(self._last.values)}")

    def _bound(self, name: str, at: float) -> float:
        """The largest value that may be in force at ``at``: the newest confirmed one and all asked for since."""
        while self._confirmed and self._confirmed[0].at < at - LIMITS_LAST:
            number = self._confirmed.popleft().number
            while len(self._limits) > 1 and self._limits[0].number < number:
                self._limits.popleft()
        return max((getattr(limits, name) for limits in self._limits), default=0.0)

    def _lateness(self, at: float) -> float:
        """By how many s the words of the node may be late at ``at``, because a fault keeps it from its work."""
        return max((injected.late for injected in self._injected if at - injected.at < injected.late), default=0.0)

    def _forbid(self, cause: str, moment: float) -> None:
        self._forbidden[cause] = min(moment, self._forbidden.get(cause, math.inf))

    def _permit(self, *causes: str) -> None:
        for cause in causes:
            self._forbidden.pop(cause, None)

    def _report(self, at: float, rule: str, detail: str) -> None:
        self.unsafe.append(Unsafe(at, rule, detail, self._kind_at(at)))

    def _kind_at(self, at: float) -> str:
        return next((injected.kind for injected in reversed(self._injected) if injected.at <= at), "")
