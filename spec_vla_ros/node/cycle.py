"""Observe, act, observe: what the node decides, without ROS.

An action is streamed for exactly one step; the first image captured after its end starts the next inference; the arm
stands still meanwhile. That is how the training data were recorded, and it leaves no doubt which image an action
belongs to. The streaming itself is the safety loop's (:mod:`spec_vla_ros.motion.safety`): this cycle asks for a step
and hears when its first zero has gone. Times are seconds on the steady clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from spec_vla_ros.errors import InstructionError
from spec_vla_ros.instruction import clean_instruction
from spec_vla_ros.motion.gripper import GripperSwitch
from spec_vla_ros.motion.intent import Report, Step
from spec_vla_ros.motion.limits import SpeedLimit
from spec_vla_ros.motion.rotation import step_twist
from spec_vla_ros.motion.watchdog import Fault

from .parameters import Tunables
from .worker import Outcome, Request

FLOOD = 20  # changes of the instruction within a second that no operator makes
SEEN = np.array([0.001, 0.01])  # m and rad; a shorter motion may leave the picture as it is
ACTION_DIM = 7  # dx dy dz droll dpitch dyaw gripper


class State(Enum):
    """Where the cycle stands."""

    STOPPED = "stopped"  # not started, told to stop, or a fault is latched
    LOOKING = "looking"  # stands still; a usable image and an instruction start an inference
    THINKING = "thinking"  # the worker has a request, whose answer will be acted on
    OUTDATED = "outdated"  # the worker has a request of an instruction that is history
    ABANDONED = "abandoned"  # the worker has a request of an earlier run, whose faults are over
    MOVING = "moving"  # from the action until the first zero after its step, or after it was broken off


class Event(Enum):
    """What moves it on."""

    START_FREE = "activated, the worker is free"
    START_BUSY = "activated, the worker still has a request"
    STOP = "deactivated, or a fault"
    INSTRUCT = "the instruction has changed"
    REQUEST = "a request was given to the worker"
    ACTION = "the worker's answer is an action"
    NOTHING = "the worker has answered, and there is nothing to act on"
    STANDSTILL = "the safety loop has sent the first zero after the step"


S, E = State, Event
# From each state, by each event that can happen in it, to the next. docs/architecture.md shows it; a test compares.
TRANSITIONS: dict[State, dict[Event, State]] = {
    S.STOPPED: {E.INSTRUCT: S.STOPPED, E.NOTHING: S.STOPPED},
    S.LOOKING: {E.INSTRUCT: S.LOOKING, E.REQUEST: S.THINKING},
    S.THINKING: {E.INSTRUCT: S.OUTDATED, E.ACTION: S.MOVING, E.NOTHING: S.LOOKING},
    S.OUTDATED: {E.INSTRUCT: S.OUTDATED, E.NOTHING: S.LOOKING},
    S.ABANDONED: {E.INSTRUCT: S.ABANDONED, E.NOTHING: S.LOOKING},
    S.MOVING: {E.INSTRUCT: S.MOVING, E.STANDSTILL: S.LOOKING},
}
for _state in State:
    TRANSITIONS[_state] |= {E.START_FREE: S.LOOKING, E.START_BUSY: S.ABANDONED, E.STOP: S.STOPPED}


@dataclass(frozen=True)
class Frame:
    """One camera image. ``captured_at``: steady time (s). ``header``: its message header. ``rgb``: converts it."""

    rgb: Callable[[], np.ndarray]
    captured_at: float
    header: Any


@dataclass(frozen=True)
class Action:
    """An accepted outcome. ``limit_factor`` 0..1 as applied by the speed limit. ``step``: its motion."""

    outcome: Outcome
    limit_factor: float
    step: Step


@dataclass
class Counters:
    """Since configure. ``early``: captured before the end of the step. ``overwritten``: a newer one came first."""

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
        self._standstill_at = 0.0  # images captured from here on count
        self._restart_stillness()
        self._forget()

    def _forget(self) -> None:
        """What belongs to one run."""
        self.fault: Fault | None = None  # latched until :meth:`start`
        self.instruction = ""
        self.hold: Fault | None = None  # why the last instruction was refused; the arm holds until a good one
        self.step: Step | None = None  # what the arm shall do; None = stand still
        self.steps = 0  # decided since the start
        self.captured_at: float | None = None  # of the newest image
        self._frame: Frame | None = None
        self._skipped = 0
        self._fingerprint: int | None = None  # of the image of the last action that the arm was told to carry out
        self._changes: deque[float] = deque(maxlen=FLOOD)  # when the instruction changed

    def start(self, now: float) -> None:
        """Forget everything of an earlier run, faults included. Images captured from ``now`` on count."""
        self._forget()
        self.gripper.reset()
        self._standstill_at = now
        self.run += 1
        busy = self._request is not None  # deactivated during an inference that still runs: it may be hanging
        self.busy_since = now if busy else None
        self._go(Event.START_BUSY if busy else Event.START_FREE)

    def stop(self) -> None:
        """Stand still, and use no answer that is still on its way."""
        self.step = self._frame = None
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
        self._fresh, self.step = True, None
        self._go(Event.INSTRUCT)
        return True

    def observe(self, frame: Frame) -> None:
        """An image has arrived. Only one captured after the end of the step may start an inference."""
        self.counters.frames += 1
        newest = self.captured_at
        self.captured_at = frame.captured_at if newest is None else max(newest, frame.captured_at)
        if self.state is not State.LOOKING or frame.captured_at < self._standstill_at:
            self.counters.early += 1
            self._skipped += 1
            return
        if self._frame is not None:
            self._skipped += 1
            if frame.captured_at < self._frame.captured_at:
                return
            self.counters.overwritten += 1
        self._frame = frame

    def next_request(self, now: float, tunables: Callable[[], Tunables]) -> Request | None:
        """The inference that is due now, if any: standing still, a usable image and an instruction."""
        if self.state is not State.LOOKING or self._frame is None or not self.instruction:
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
        )
        self._fresh, self._skipped, self.busy_since = False, 0, now
        self._go(Event.REQUEST)
        return self._request

    def conclude(self, outcome: Outcome, now: float, commanding: bool = True) -> Action | None:
        """The action of ``outcome``, whose step is wanted from now on; None if it comes too late or is an error.

        What failed is a fault even where nobody wants the answer, because it fails again; not after a new start.
        ``commanding``: the arm hears the step, so that the next image must differ.
        """
        self._request = self.busy_since = None
        error, action = outcome.error, None
        if error is not None and not isinstance(error, InstructionError) and self.state is not State.ABANDONED:
            self.trip(Fault.of(error))
        elif self.state is not State.THINKING:
            self.counters.dropped += 1
        elif error is not None:
            self.instruction, self.hold = "", Fault.of(error)
        else:
            action = self._act(outcome, now, commanding)
        self._go(Event.NOTHING if action is None else Event.ACTION)
        return action

    def hear(self, report: Report) -> bool:
        """Take what the safety loop says; returns whether the step has ended."""
        if report.run != self.run:
            return False
        if report.fault is not None:
            self.trip(report.fault)
        if self.state is not State.MOVING or report.step != self.steps or report.moving:
            return False
        self.step, self._standstill_at = None, report.zero_at
        self._go(Event.STANDSTILL)
        return True

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
        try:
            if self._frozen(outcome):
                return None
            tunables, values = outcome.request.tunables, np.asarray(outcome.result.values, dtype=np.float64)
            twist = step_twist(values[:-1], tunables.action_scale, self.step_dt)
            twist, factor = self.limit.apply(twist, tunables.max_linear_speed, tunables.max_angular_speed)
            self.gripper.decide(float(values[-1]), tunables.gripper_threshold, tunables.gripper_hysteresis)
        except BaseException as error:  # noqa: BLE001 - what the policy said cannot be carried out
            self.trip(Fault.of(error))
            return None
        self._fingerprint = outcome.fingerprint if commanding else None
        self._travelled += self.step_dt * np.linalg.norm(twist.reshape(2, 3), axis=1)
        self.steps += 1
        self.step = Step(self.steps, tuple(twist.tolist()), self.step_dt, now)
        return Action(outcome, factor, self.step)
