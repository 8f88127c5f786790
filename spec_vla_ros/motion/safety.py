"""The last word: what goes to the arm at every tick, by the newest intent alone. No ROS, no clock, no threads.

Runs in a process of its own (:mod:`spec_vla_ros.node.safety_node`), so that nothing that keeps the thinking part from
its work keeps the arm moving. States of the wire, and what leads from one to the next:

========== =============================================== ==========
state      event                                           next
========== =============================================== ==========
SILENT     an intent commands                              DRIVING
SILENT     the node is gone, leaves, or a signal came      OVER
DRIVING    an intent does not command any more             LAST_WORDS
DRIVING    the node is gone, leaves, or a signal came      LAST_WORDS
LAST_WORDS an intent commands, and nothing of the former   DRIVING
LAST_WORDS :data:`LAST_WORDS` s of zeros                   SILENT, or OVER
========== =============================================== ==========
"""

from __future__ import annotations

import math
from enum import Enum, auto

import numpy as np

from spec_vla_ros.errors import PoseError

from .intent import Intent, Report, Step
from .limits import SpeedLimit
from .stream import StepStream
from .watchdog import Fault, Signs, Watchdog
from .workspace import Workspace, turned

LAST_WORDS = 0.25  # s of zeros before silence: longer than an arm waits for the next velocity (MoveIt Servo: 0.1)
ZERO_FIRST = 0.2  # s of zeros that an arm hears before anything else, if it comes while we drive
ROUNDING = 1e-9  # m/s or rad/s
STALE_STEP = 0.25  # s from the decision to the first velocity; what is older waited for a process that stood still


class Wire(Enum):
    """What is on the wire; see the module."""

    SILENT = auto()
    DRIVING = auto()
    LAST_WORDS = auto()
    OVER = auto()


class SafetyLoop:
    """Not thread-safe: one thread takes intents and ticks. ``period``: s between two ticks."""

    def __init__(self, period: float) -> None:
        self.wire = Wire.SILENT
        self._stream, self._limit, self._box = StepStream(period), SpeedLimit(), Workspace()
        self._watchdog = Watchdog()
        self._intent = Intent(at=0.0)
        self._silent_at = 0.0  # when the last words are said
        self._leaving = False
        self._step, self._accepted, self._commanded, self._zero_at = 0, False, False, 0.0
        self._began_at = 0.0
        self._held_back, self._off = np.zeros(6), np.zeros(6)  # so far, and of the velocity that is in force
        self._moving = False  # whether the step's first zero has still to be said
        self._following: Step | None = None  # begins where the step under way ends
        self._following_until = 0.0  # when it may begin at the latest
        self._listeners: int | None = None  # at the last tick
        self._newcomers, self._zero_until = 0, -math.inf

    def take(self, intent: Intent, now: float) -> bool:
        """Act on ``intent`` from the next tick on; returns whether that is due now: a step begins, or motion ends."""
        moved = self._stream.live
        former, self._intent = self._intent, intent
        if intent.leave:
            self.leave(now)
        if intent.run != former.run:
            self._stream.stop()
            self._moving, self._following = False, None
            self._watchdog.arm(now)
            if intent.run:
                self._step, self._accepted, self._commanded, self._began_at = 0, False, False, 0.0
                self._held_back, self._off = np.zeros(6), np.zeros(6)
        if intent.run and intent.commanding and not self._leaving:
            if self.wire is Wire.SILENT or self.wire is Wire.LAST_WORDS:
                self._stream.stop()  # of a dry run
                self.wire, self._zero_until = Wire.DRIVING, now
                if intent.run == former.run:  # a dry run is over, and nothing that was decided in it is begun
                    self._zero_until = math.nextafter(now, math.inf)
                self._listeners = None  # who is there now hears zero first anyway
        elif self.wire is Wire.DRIVING:
            self._say_zeros(now)
        if intent.fault is not None:
            self._watchdog.trip(intent.fault)
            self._stream.stop()
        if intent.step is None:
            self._stream.stop()
            self._following = None
            if intent.steps > self._step:  # taken back before it came here
                self._step, self._accepted, self._commanded = intent.steps, False, False
                self._began_at, self._zero_at = 0.0, now
            return moved
        begun = intent.step.number > self._step and self._begin(intent.step, now)
        self._take_following(intent.following, now)
        if self._following is not None and not self._stream.live:  # the other one is over already
            begun |= self._begin_following(now)
        return begun or (moved and not self._stream.live)

    def leave(self, now: float) -> None:
        """The node is gone or wants to go, or a signal asks for the end: zeros, then :attr:`Wire.OVER`."""
        self._leaving = True
        if self.wire is Wire.DRIVING:
            self._say_zeros(now)
        elif self.wire is Wire.SILENT:
            self.wire = Wire.OVER

    def hold(self, now: float) -> None:
        """Nothing moves and no step begins for the next :data:`ZERO_FIRST` s."""
        self._stream.stop()
        self._zero_until = now + ZERO_FIRST

    def tick(self, now: float, listeners: int) -> np.ndarray | None:
        """The (6,) twist to publish at ``now``, in the command frame; None where nothing may be said.

        ``listeners``: subscriptions that would hear it.
        """
        if self.wire is Wire.LAST_WORDS and now >= self._silent_at:
            self.wire = Wire.OVER if self._leaving else Wire.SILENT
        if self.wire is Wire.OVER:
            return None
        if self._intent.run and not self._leaving:
            intent = self._intent
            if self._watchdog.check(now, Signs(intent.captured_at, intent.busy_since, intent.at), intent.limits):
                self._stream.stop()
        if self.wire is Wire.DRIVING:
            self._greet(listeners, now)
        if self._following is not None and self._stream.left(now) < 1.0:
            self._begin_following(now)
        self._held_back, self._off = self._held_back + self._off * self._stream.period, np.zeros(6)
        twist = self._shaped(self._stream.tick(now), now)
        if self._moving and self._accepted and not self._began_at:
            self._began_at = self._stream.started or now
        if self._moving and not self._stream.live:
            self._moving, self._zero_at = False, now
        if self.wire is Wire.SILENT:
            return None
        return twist if self.wire is Wire.DRIVING else np.zeros(6)

    def report(self, now: float) -> Report:
        """What the node has to know; the process adds what it alone knows."""
        return Report(
            at=now,
            heard=self._intent.at,
            run=self._intent.run,
            on_wire=self.wire in (Wire.DRIVING, Wire.LAST_WORDS),
            step=self._step,
            accepted=self._accepted,
            commanded=self._commanded,
            moving=self._moving,
            began_at=self._began_at,
            zero_at=self._zero_at,
            fault=self._watchdog.fault,
            listeners=self._listeners or 0,
            newcomers=self._newcomers,
            at_wall=self._box.hits,
            held_back=tuple(self._held_back.tolist()),
        )

    def _say_zeros(self, now: float) -> None:
        self._stream.stop()
        self.wire, self._silent_at = Wire.LAST_WORDS, now + LAST_WORDS

    def _take_following(self, step: Step | None, now: float) -> None:
        """What begins where the step under way ends; whoever says none any more takes it back."""
        if step is None or step.number <= self._step:
            self._following = None
        elif self._following is None or step.number != self._following.number:
            self._following = step
            self._following_until = step.made_at + STALE_STEP + self._stream.left(now) * self._stream.period

    def _begin_following(self, now: float) -> bool:
        step, self._following = self._following, None
        return self._begin(step, now, self._following_until)

    def _begin(self, step: Step, now: float, until: float | None = None) -> bool:
        """Look at a new step, once; a step that may not be is over at once, and so is what it was to replace.

        ``until``: when it may begin at the latest, otherwise :data:`STALE_STEP` after its decision.
        """
        self._step, self._zero_at, self._began_at, self._following = step.number, now, 0.0, None
        self._accepted = (
            self._intent.run > 0
            and not self._leaving
            and self._watchdog.fault is None
            and now <= (step.made_at + STALE_STEP if until is None else until)
            and now >= self._zero_until
        )
        self._commanded = self._accepted and self.wire is Wire.DRIVING
        if not self._accepted:
            self._stream.stop()
            return False
        if until is None:
            self._stream.start(np.array(step.twist), step.seconds)
        else:
            self._stream.succeed(np.array(step.twist), step.seconds, now)
        self._moving = True
        return True

    def _hold_back(self, off: np.ndarray) -> None:
        """The arm will be somewhere else than the node thinks if it is not told."""
        if self.wire is Wire.DRIVING and (np.abs(off) > ROUNDING).any():
            self._off = off

    def _greet(self, listeners: int, now: float) -> None:
        """Whoever starts to listen in the midst of it hears zero first: a motion under way is broken off."""
        if self._listeners is not None and listeners > self._listeners:
            self.hold(now)
            self._newcomers += 1
        self._listeners = listeners

    def _shaped(self, twist: np.ndarray, now: float) -> np.ndarray:
        """Within the speed limits of now and inside the box, in the command frame; a fault where that is unknown."""
        if not twist.any():
            return twist
        intent, wanted = self._intent, twist
        try:
            twist, _ = self._limit.apply(twist, intent.limits.linear, intent.limits.angular)
            if not intent.needs_pose:
                self._hold_back(wanted - twist)
                return twist
            pose = intent.pose
            if pose is None:
                raise PoseError("the node has not said where the tool is")
            if pose.at is not None and now - pose.at > intent.limits.pose:
                raise PoseError(
                    f"the pose of the tool is {now - pose.at:.2f} s old, pose_timeout is {intent.limits.pose:.2f} s"
                )
            if intent.box is not None:
                if pose.position is None:
                    raise PoseError("the node has not said where the tool is")
                low, high = intent.box
                twist = self._box.clip(twist, np.array(pose.position), np.array(low), np.array(high))
            self._hold_back(wanted - twist)
            if pose.rotation is not None:
                twist = turned(twist, np.array(pose.rotation))
            if not np.isfinite(twist).all():
                raise PoseError(f"the pose of the tool makes the velocity {twist.tolist()}")
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not leave the loop
            self._watchdog.trip(Fault.of(error))
            self._stream.stop()
            return np.zeros(6)
        return twist
