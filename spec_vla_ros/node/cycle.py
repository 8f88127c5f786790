"""Observe, act, observe: what the node decides, without ROS.

An action is streamed for exactly one step; the first image captured after its end starts the next inference; the arm
stands still meanwhile. That is how the training data were recorded, and it leaves no doubt which image an action
belongs to. Times are seconds on the steady clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from spec_vla_ros.errors import InstructionError
from spec_vla_ros.instruction import clean_instruction
from spec_vla_ros.motion.gripper import GripperSwitch
from spec_vla_ros.motion.limits import SpeedLimit
from spec_vla_ros.motion.rotation import step_twist
from spec_vla_ros.motion.stream import StepStream
from spec_vla_ros.motion.watchdog import Fault, Limits, Watchdog

from .parameters import Tunables
from .worker import Outcome, Request

FLOOD = 20  # changes of the instruction within a second that no operator makes
SEEN = np.array([0.001, 0.01])  # m and rad; a shorter motion may leave the picture as it is
ACTION_DIM = 7  # dx dy dz droll dpitch dyaw gripper


@dataclass(frozen=True)
class Frame:
    """One camera image. ``captured_at``: steady time (s). ``header``: its message header. ``rgb``: converts it."""

    rgb: Callable[[], np.ndarray]
    captured_at: float
    header: Any


@dataclass(frozen=True)
class Action:
    """An accepted outcome; its motion is in the stream. ``limit_factor`` 0..1 as applied by the speed limit."""

    outcome: Outcome
    limit_factor: float
    step_dt: float


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

    def __init__(self, period: float, step_dt: float) -> None:
        """``period``: s between two calls of :meth:`tick`. ``step_dt``: s of one action."""
        self.step_dt = step_dt
        self.stream, self.limit, self.gripper = StepStream(period), SpeedLimit(), GripperSwitch()
        self.watchdog, self.counters = Watchdog(), Counters()
        self.instruction = ""
        self.refused: Fault | None = None  # why the last instruction was refused; the arm holds until a good one
        self._frame: Frame | None = None
        self._in_flight: Request | None = None  # the worker has one request at a time, even one that nobody wants
        self._unwanted = False  # the answer to it belongs to another instruction or an earlier activation
        self._abandoned = False  # to an earlier activation, whose faults are over
        self._moving = False  # from the action's arrival to the first zero after its step
        self._step_end = 0.0
        self._fresh = True
        self._skipped = 0
        self._fingerprint: int | None = None  # of the image of the last action that the arm was told to carry out
        self._travelled = np.zeros(2)  # m and rad that the arm was told since the image changed, or since it counted
        self._unchanged = 0  # motions in a row that left the image as it was
        self._changes: deque[float] = deque(maxlen=FLOOD)  # when the instruction changed

    @property
    def fault(self) -> Fault | None:
        """The latched fault."""
        return self.watchdog.fault

    def start(self, now: float) -> None:
        """Forget everything of an earlier run, faults included. Images captured from ``now`` on count."""
        self.watchdog.arm(now)
        self.stream.stop()
        self.gripper.reset()
        self.instruction, self.refused = "", None
        self._frame, self._moving, self._unwanted = None, False, True
        self._step_end, self._fresh, self._skipped = now, True, 0
        self._fingerprint, self._unchanged, self._travelled = None, 0, np.zeros(2)
        self._changes.clear()
        self._abandoned = self._in_flight is not None
        if self._abandoned:  # deactivated during an inference that still runs: it may be hanging
            self.watchdog.inference_started(now)

    def stop(self) -> None:
        """Every following tick is zero and an answer still on its way will not be used."""
        self.stream.stop()
        self._frame, self._unwanted = None, True

    def trip(self, fault: Fault) -> bool:
        """Latch ``fault`` and stop; returns whether it is the first one."""
        self.stop()
        return self.watchdog.trip(fault)

    def instruct(self, text: str, now: float) -> bool:
        """Take a new instruction at ``now``; returns whether anything changed.

        A blank one means "hold", as operators send it between two tasks. An unusable one is not ignored: the operator
        meant something, so the arm holds until a good one comes.
        """
        cleaned, refused = "", None
        if text.strip():
            try:
                cleaned = clean_instruction(text)
            except InstructionError as error:
                refused = Fault.of(error)
        if cleaned == self.instruction and refused == self.refused:
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
        self.instruction, self.refused = cleaned, refused
        self._unwanted = self._fresh = True
        if not cleaned:
            self.stream.stop()
        return True

    def observe(self, frame: Frame) -> None:
        """An image has arrived. Only one captured after the end of the step may start an inference."""
        self.counters.frames += 1
        self.watchdog.image_captured(frame.captured_at)
        if self._moving or self._in_flight is not None or frame.captured_at < self._step_end:
            self.counters.early += 1
            self._skipped += 1
            return
        if self._frame is not None:
            if frame.captured_at < self._frame.captured_at:
                return
            self.counters.overwritten += 1
            self._skipped += 1
        self._frame = frame

    def next_request(self, now: float, tunables: Callable[[], Tunables]) -> Request | None:
        """The inference that is due now, if any: standing still, a usable image, an instruction, no fault."""
        idle = not self._moving and self._in_flight is None
        if not idle or self._frame is None or not self.instruction or self.fault is not None:
            return None
        frame, self._frame = self._frame, None
        self.counters.inferences += 1
        request = Request(
            number=self.counters.inferences,
            image=frame.rgb,
            captured_at=frame.captured_at,
            header=frame.header,
            instruction=self.instruction,
            tunables=tunables(),
            fresh=self._fresh,
            frames_skipped=self._skipped,
        )
        self._in_flight, self._fresh, self._skipped = request, False, 0
        self._unwanted = self._abandoned = False
        self.watchdog.inference_started(now)
        return request

    def conclude(self, outcome: Outcome, commanding: bool = True) -> Action | None:
        """Start the step of ``outcome``; None if it is too late for it or it is an error, which becomes a fault.

        ``commanding``: the arm hears the step, so that the next image must differ.
        """
        self.watchdog.inference_finished()
        self._in_flight = None
        if outcome.error is not None and not isinstance(outcome.error, InstructionError) and not self._abandoned:
            self.trip(Fault.of(outcome.error))  # also where nobody wants the answer: what failed, fails again
            return None
        if self._unwanted or self.fault is not None:
            self.counters.dropped += 1
            return None
        try:
            if outcome.error is not None:
                raise outcome.error
            if self._frozen(outcome):
                return None
            action, twist = self._act(outcome)
            self._fingerprint = outcome.fingerprint if commanding else None
            self._travelled += self.step_dt * np.array([np.linalg.norm(twist[:3]), np.linalg.norm(twist[3:])])
            return action
        except InstructionError as error:
            self.instruction, self.refused = "", Fault.of(error)
        except BaseException as error:  # noqa: BLE001 - raised by the policy in the worker; here it gets its name
            self.trip(Fault.of(error))
        return None

    def tick(self, now: float, limits: Limits) -> np.ndarray:
        """The (6,) twist to send at ``now``: of the running step, or zero. Call it once per period."""
        if self.watchdog.check(now, limits) is not None:
            self.stop()
        twist = self.stream.tick(now)
        if self._moving and not self.stream.live:
            self._moving, self._step_end = False, now
        return twist

    def _frozen(self, outcome: Outcome) -> bool:
        """Whether the camera has shown the same pixels for too many motions; trips then.

        Stamps do not tell: a driver that repeats its last buffer stamps it anew. A living sensor has noise. Motions
        that are too short to be seen add up to one that is not: an arm that is driven slowly must not escape this.
        """
        if outcome.fingerprint is None or outcome.fingerprint != self._fingerprint:
            self._unchanged, self._travelled = 0, np.zeros(2)
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

    def _act(self, outcome: Outcome) -> tuple[Action, np.ndarray]:
        tunables, values = outcome.request.tunables, np.asarray(outcome.result.values, dtype=np.float64)
        twist = step_twist(values[:6], tunables.action_scale, self.step_dt)
        twist, factor = self.limit.apply(twist, tunables.max_linear_speed, tunables.max_angular_speed)
        self.gripper.decide(float(values[6]), tunables.gripper_threshold, tunables.gripper_hysteresis)
        self.stream.start(twist, self.step_dt)
        self._moving = True
        return Action(outcome, factor, self.step_dt), twist
