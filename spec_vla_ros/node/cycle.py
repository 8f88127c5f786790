"""Observe, act, observe: what the node decides, without ROS.

An action is streamed for exactly one step. With ``blocking`` pacing the first image captured after its end starts the
next inference, and the arm stands still meanwhile: that is how the training data were recorded, and it leaves no doubt
which image an action belongs to. With ``steady`` pacing the next inference starts while the step runs, as late as it
may to be ready at its end, and the next step begins exactly there; what the arm travels between the image and the step
is accounted for (:mod:`spec_vla_ros.motion.pacing`).

The streaming itself is the safety loop's (:mod:`spec_vla_ros.motion.safety`): this cycle asks for a step and hears when
it began and when its first zero has gone. Times are seconds on the steady clock.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from spec_vla_ros.errors import InstructionError, NonFiniteError
from spec_vla_ros.instruction import clean_instruction
from spec_vla_ros.motion.gripper import GripperSwitch
from spec_vla_ros.motion.intent import Intent, Report, Step
from spec_vla_ros.motion.limits import SpeedLimit
from spec_vla_ros.motion.pacing import PACINGS, Lead, Waits, compensated
from spec_vla_ros.motion.rotation import displacement, lengths
from spec_vla_ros.motion.travel import Travel
from spec_vla_ros.motion.watchdog import Fault, Limits

from .parameters import Tunables
from .states import TRANSITIONS, Event, State
from .worker import Outcome, Request

FLOOD = 20  # changes of the instruction within a second that no operator makes
SEEN = np.array([0.001, 0.01])  # m and rad; a shorter motion may leave the picture as it is
HANDOVER = 0.01  # s from an answer to the safety loop, at most
OVERSHOOT = 0.25  # of a motion that the arm may have travelled unseen and uncounted before an operator is told
CORRECTED = 0.05  # s; steps as short correct each other in time (measured: no more jerk than with blocking pacing)
ACTION_DIM = 7  # dx dy dz droll dpitch dyaw gripper


@dataclass(frozen=True)
class Frame:
    """One camera image. ``captured_at``: steady time (s). ``header``: its message header. ``rgb``: converts it."""

    rgb: Callable[[], np.ndarray]
    captured_at: float
    header: Any


@dataclass(frozen=True)
class Action:
    """An accepted outcome. ``limit_factor`` 0..1 as applied by the speed limit. ``step``: its motion. ``unseen``: (6,)
    m and rad that the arm was told to travel between the image and the step, ``compensation``: what became of that.
    """

    outcome: Outcome
    limit_factor: float
    step: Step
    unseen: np.ndarray
    compensation: str

    @property
    def pacing(self) -> str:
        """That was in force when it was asked for."""
        return PACINGS[self.outcome.request.steady]


@dataclass(frozen=True)
class Begun:
    """The step of an action has begun, or was refused. ``image_age``: of its image then, s. ``late``: s that the arm
    had stood still before, None if nothing came before. ``standstill``: share of the time in this run, None if unknown.
    """

    image_age: float
    late: float | None
    standstill: float | None


@dataclass
class Counters:
    """Since configure. ``early``: of no use, because captured before the end of the step. ``overwritten``: a newer one
    came first.
    """

    frames: int = 0
    early: int = 0
    overwritten: int = 0
    inferences: int = 0
    dropped: int = 0  # outcomes that came too late to be used
    unchanged: int = 0  # images equal to the previous one although the arm was told to move in between


class Cycle:
    """The observe-act cycle of one node. Not thread-safe: the executor's thread owns it."""

    def __init__(self, step_dt: float) -> None:
        """``step_dt``: s of one action."""
        self.step_dt = step_dt
        self.state = State.STOPPED
        self.limit, self.gripper, self.counters = SpeedLimit(), GripperSwitch(), Counters()
        self.run = 0  # number of the start
        self.busy_since: float | None = None  # when the worker was given its request
        self._request: Request | None = None  # what the worker has, even if nobody wants the answer
        self._fresh = True  # whether the instruction has changed since the last request
        self._started_at = 0.0  # no image captured before it counts
        self._standstill_at = 0.0  # and with blocking pacing, none from before this
        self.steady = False  # pacing
        self.lead = Lead()
        self._restart_stillness()
        self._forget()

    def _forget(self) -> None:
        """What belongs to one run."""
        self.fault: Fault | None = None  # latched until :meth:`start`
        self.instruction = ""
        self.hold: Fault | None = None  # why the last instruction was refused; the arm holds until a good one
        self.step: Step | None = None  # what the arm shall do; None = stand still
        self.following: Step | None = None  # and what then
        self.began_at: float | None = None  # the newest step that the safety loop has begun
        self._newest: Step | None = None  # decided, also if it was taken back since
        self._noted: Step | None = None  # the newest that is known to have begun
        self.late: float | None = None  # s that the arm had stood still before it; None if it was the first
        self.image_age: float | None = None  # s, of the image of the newest step when that began
        self.overshoots = False  # whether the newest step adds to what the arm had travelled since its image
        self.waits = Waits()
        self._travel = Travel()
        self.steps = 0  # decided since the start
        self.captured_at: float | None = None  # of the newest image
        self._frame: Frame | None = None
        self._skipped = 0
        self._fingerprint: int | None = None  # of the image of the last action that the arm was told to carry out
        self._looked_at = 0.0  # when that image was captured
        self._changes: deque[float] = deque(maxlen=FLOOD)  # when the instruction changed

    def start(self, now: float) -> None:
        """Forget everything of an earlier run, faults included. Images captured from ``now`` on count."""
        self._forget()
        self.gripper.reset()
        self._standstill_at = self._started_at = now
        self.run += 1
        busy = self._request is not None  # deactivated during an inference that still runs: it may be hanging
        self.busy_since = now if busy else None
        self._go(Event.START_BUSY if busy else Event.START_FREE)

    def stop(self) -> None:
        """Stand still, and use no answer that is still on its way."""
        self.step = self.following = self._frame = None
        self._go(Event.STOP)

    def trip(self, fault: Fault) -> bool:
        """Latch ``fault`` and stop; returns whether it is the first one."""
        self.stop()
        if self.fault is not None:
            return False
        self.fault = fault
        return True

    def instruct(self, text: str, now: float) -> bool:
        """Take a new instruction at ``now``; returns whether anything changed.

        The step that is under way answers another instruction: it is broken off. A blank text means "hold", as
        operators send it between two tasks. An unusable one is not ignored: the operator meant something, so the arm
        holds until a good one comes.
        """
        cleaned, refused = "", None
        if text.strip():
            try:
                cleaned = clean_instruction(text)
            except InstructionError as error:
                refused = Fault.of(error)
        if cleaned == self.instruction and refused == self.hold:
            return False  # a publisher that repeats itself must not disturb the history
        if len(self._changes) == FLOOD and now - self._changes[0] < 1.0:
            self.trip(
                Fault(
                    "INSTRUCTION_FLOOD",
                    f"more than {FLOOD} changes of the instruction within a second",
                    "Find the publishers of the topic instruction; one at a time; then deactivate and activate.",
                )
            )
        self._changes.append(now)
        self.instruction, self.hold = cleaned, refused
        self._fresh, self.step, self.following = True, None, None
        self.overshoots = False
        self.waits.pause()
        self._go(Event.INSTRUCT)
        return True

    def observe(self, frame: Frame) -> None:
        """An image has arrived. Where pacing is not steady, only one captured after the end of the step may start an
        inference.
        """
        self.counters.frames += 1
        newest = self.captured_at
        self.captured_at = frame.captured_at if newest is None else max(newest, frame.captured_at)
        if not self._usable(frame):
            self.counters.early += 1
            self._skipped += 1
            return
        if self._frame is not None:
            self._skipped += 1
            if frame.captured_at < self._frame.captured_at:
                return
            self.counters.overwritten += 1
        self._frame = frame

    def look_anew(self, now: float) -> bool:
        """Use no image from before ``now`` for the first inference of this instruction; whether there was none yet."""
        if not self._fresh:
            return False
        self._started_at, self._standstill_at = max(self._started_at, now), max(self._standstill_at, now)
        return True

    @property
    def look_at(self) -> float | None:
        """When the inference for the step that follows is due; None where the arm has to stand still first."""
        if not self.steady or self.state is not State.MOVING or self.step is None or self.began_at is None:
            return None
        return self.began_at + max(0.0, self.step.seconds - self.lead.seconds - HANDOVER)

    def next_request(self, now: float, tunables: Callable[[], Tunables]) -> Request | None:
        """The inference that is due now, if any: a usable image, an instruction, and standstill or the end in sight."""
        due = self.state is State.LOOKING or (self.look_at is not None and now >= self.look_at)
        if not due or self._frame is None or not self.instruction:
            return None
        if not self._usable(self._frame):  # pacing has changed, or a recording has begun
            self._frame = None
            return None
        frame, self._frame = self._frame, None
        self.counters.inferences += 1
        self._request = Request(
            number=self.counters.inferences,
            image=frame.rgb,
            captured_at=frame.captured_at,
            header=frame.header,
            instruction=self.instruction,
            tunables=tunables(),
            fresh=self._fresh,
            frames_skipped=self._skipped,
            steady=self.steady,
        )
        self._fresh, self._skipped, self.busy_since = False, 0, now
        self._go(Event.REQUEST)
        return self._request

    def conclude(self, outcome: Outcome, now: float, commanding: bool = True) -> Action | None:
        """The action of ``outcome``, whose step is wanted from now on; None if it comes too late or is an error.

        What failed is a fault even where nobody wants the answer, because it fails again; not after a new start.
        ``commanding``: the arm hears the step, so that the next image must differ.
        """
        took = now - (self.busy_since or now)
        self._request = self.busy_since = None
        error, action = outcome.error, None
        if error is not None and not isinstance(error, InstructionError) and self.state is not State.ABANDONED:
            self.trip(Fault.of(error))
        elif self.state not in (State.THINKING, State.AHEAD):
            self.counters.dropped += 1
        elif error is not None:
            self.instruction, self.hold, self.step = "", Fault.of(error), None
        else:
            self.lead.add(took)
            action = self._act(outcome, now, commanding)
        self._go(Event.NOTHING if action is None else Event.ACTION)
        return action

    def intent(self, at: float, limits: Limits, commanding: bool = True, **arm: Any) -> Intent:
        """What the safety loop shall know at ``at``. ``arm``: the further fields of :class:`Intent`."""
        return Intent(
            at=at,
            run=self.run,
            commanding=commanding,
            step=self.step,
            following=self.following,
            steps=self.steps,
            fault=self.fault,
            captured_at=self.captured_at,
            busy_since=self.busy_since,
            limits=limits,
            **arm,
        )

    def hear(self, report: Report) -> bool:
        """Take what the safety loop says; returns whether an inference may be due: a step has begun or ended."""
        if report.run != self.run:
            return False
        if report.fault is not None:
            self.trip(report.fault)
        self._travel.hold_back(report.at, np.array(report.held_back))
        began = ended = False
        if self.state is State.FOLLOWED and report.step == self.steps:
            self.step, self.following, self.began_at = self.following, None, None
            self._go(Event.NEXT)
        if report.step == self.steps and self.state in (State.MOVING, State.AHEAD, State.OUTDATED_AHEAD):
            began = self._begin(report)
            ended = not report.moving
        if ended:
            self.step, self._standstill_at = None, report.zero_at
            self._travel.end(report.zero_at)
            if report.accepted:
                self.waits.end(report.zero_at)
            self._go(Event.STANDSTILL)
        return ended or (began and self.steady)

    def _begin(self, report: Report) -> bool:
        """Note that the step has begun, once; also of one that was taken back since, because it moved the arm."""
        step = self._newest
        if step is None or step.number != report.step or self._noted is step:
            return False
        if not (report.accepted and report.began_at):
            return False
        self._noted, self.began_at = step, report.began_at
        self.late = self.waits.begin(report.began_at, step.seconds)
        if report.commanded:
            self._travel.begin(report.began_at, np.array(step.twist), step.seconds)
        else:
            self._travel.end(report.began_at)
        return True

    def _usable(self, frame: Frame) -> bool:
        if self.steady:
            return self.state is not State.STOPPED and frame.captured_at >= self._started_at
        return self.state is State.LOOKING and frame.captured_at >= self._standstill_at

    def _go(self, event: Event) -> None:
        self.state = TRANSITIONS[self.state][event]

    def _restart_stillness(self) -> None:
        self._unchanged = 0  # motions in a row that left the image as it was
        self._travelled = np.zeros(2)  # m and rad that the arm was told since the image changed, or since it counted

    def _frozen(self, outcome: Outcome) -> bool:
        """Whether the camera has shown the same pixels for too many motions; trips then.

        Stamps do not tell: a driver that repeats its last buffer stamps it anew. A living sensor has noise. Motions
        that are too short to be seen add up to one that is not: an arm that is driven slowly must not escape this.
        """
        if outcome.fingerprint is None or outcome.fingerprint != self._fingerprint:
            self._restart_stillness()
        elif (self._travelled > SEEN).any():
            self._unchanged, self._travelled = self._unchanged + 1, np.zeros(2)
            self.counters.unchanged += 1
        steps = outcome.request.tunables.frozen_image_steps
        if not steps or self._unchanged < steps:
            return False
        self.trip(
            Fault(
                "IMAGE_FROZEN",
                f"the image has not changed through {self._unchanged} motions of the arm",
                "Check the camera and its driver, and that the arm moves at all; then deactivate and activate.",
            )
        )
        return True

    def _act(self, outcome: Outcome, now: float, commanding: bool) -> Action | None:
        tunables, captured_at = outcome.request.tunables, outcome.request.captured_at
        try:
            if self._fingerprint is not None:
                self._travelled += self._travel.length(self._looked_at, captured_at)
            if self._frozen(outcome):
                return None
            begins = now if self.step is None or self.began_at is None else self.began_at + self.step.seconds
            begins = max(now, begins)
            unseen, gone = self._travel.between(captured_at, begins), begins - captured_at
            values = np.asarray(outcome.result.values, dtype=np.float64)
            said, how = displacement(values[:-1], tunables.action_scale), tunables.compensation
            how = how if outcome.request.steady else "none"  # by what the image may show
            motion, seconds = compensated(said, unseen, how, self.step_dt, gone, self.lead.seconds + HANDOVER)
            limits = tunables.max_linear_speed, tunables.max_angular_speed
            twist, factor = self.limit.apply(motion / seconds, *limits)
            if not math.isfinite(values[-1]):
                raise NonFiniteError(f"the gripper value is not finite: {values[-1]}")
        except BaseException as error:  # noqa: BLE001 - what the policy said cannot be carried out
            self.trip(Fault.of(error))
            return None
        self._fingerprint, self._looked_at = outcome.fingerprint if commanding else None, captured_at
        self.steps += 1
        step = Step(self.steps, tuple(twist.tolist()), seconds, now)
        if self.state is State.AHEAD:
            self.following = step
        else:
            self.step, self.began_at = step, None
        self._newest = step
        return Action(outcome, factor, step, unseen, how)

    def decide_gripper(self, action: Action) -> None:
        """Whether the gripper shall be open, by ``action``, whose step has begun; one taken back says nothing."""
        tunables, value = action.outcome.request.tunables, float(action.outcome.result.values[-1])
        self.gripper.decide(value, tunables.gripper_threshold, tunables.gripper_hysteresis)

    def note(self, action: Action) -> Begun:
        """The safety loop has looked at the step of ``action``: what there is to say of that, here and in messages."""
        began = self.began_at is not None and self._noted is action.step
        age = (self.began_at if began else action.step.made_at) - action.outcome.request.captured_at
        self.image_age = age
        said = lengths(np.array(action.step.twist)) * action.step.seconds
        unseen = lengths(action.unseen) > np.maximum(OVERSHOOT * said, SEEN)
        uncounted = action.outcome.request.steady and action.compensation == "none"
        self.overshoots = uncounted and self.step_dt > CORRECTED and bool(unseen.any())
        return Begun(age, self.late if began else None, self.waits.standstill)
