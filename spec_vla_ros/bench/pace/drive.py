"""One episode of the table top in emulated time: the node's own cycle and safety loop, without ROS and without waiting.

What takes time on a robot (the camera, an inference, a step) takes it here on a clock that is moved by hand, so an
episode is as exact as the events in it and takes no longer than the arithmetic. The policy really decodes every image.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import mujoco
import numpy as np

from spec_vla_ros.episode_state import State as EpisodeState
from spec_vla_ros.motion.safety import SafetyLoop
from spec_vla_ros.motion.watchdog import Limits
from spec_vla_ros.node.cycle import Action, Cycle, Frame
from spec_vla_ros.node.parameters import Tunables
from spec_vla_ros.node.worker import Outcome
from spec_vla_ros.policy_types import DecodeReport, DecodeSettings, Policy
from spec_vla_ros.tabletop.arm import TabletopArm
from spec_vla_ros.tabletop.episode import EpisodeRunner
from spec_vla_ros.tabletop.expert import STEP
from spec_vla_ros.tabletop.tasks import Task

TICK = 0.01  # s between two velocities, and between two looks at the tool
CAMERA = 1 / 30  # s between two images
DELIVERY = 0.02  # s from the capture of an image to the node
LIMITS = Limits(image=5.0, first_image=5.0, inference=5.0, heartbeat=1.0, linear=0.5, angular=2.0)
NEVER = math.inf


@dataclass(frozen=True)
class Drive:
    """How an arm is driven. ``step_dt``: s of a step; the model's motion is scaled to keep its speed. ``seconds``: of
    an inference, by what was decoded.
    """

    steady: bool
    compensation: str
    step_dt: float
    settings: DecodeSettings
    seconds: Callable[[DecodeReport], float]


@dataclass
class Driven:
    """An episode. ``seconds``: until success, or the time limit. ``moving``, ``still``: s from the first motion to the
    last, by what was on the wire. ``late``: s of standstill before each step but the first. ``ages``: s of the image
    when its step began. ``tool``: (N, 3) m, every :data:`TICK`.
    """

    task: Task
    success: bool = False
    seconds: float = 0.0
    actions: int = 0
    still: float = 0.0
    moving: float = 0.0
    inferences: list[float] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)
    tool: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))

    @property
    def standstill(self) -> float:
        """Share of the time."""
        return self.still / (self.still + self.moving) if self.moving else 1.0

    def peaks(self) -> tuple[float, float]:
        """Acceleration in m/s^2 and jerk in m/s^3 of the tool, the largest."""
        if len(self.tool) < 4:
            return 0.0, 0.0
        acceleration = np.diff(self.tool, n=2, axis=0) / TICK**2
        jerk = np.diff(acceleration, axis=0) / TICK
        return float(np.linalg.norm(acceleration, axis=1).max()), float(np.linalg.norm(jerk, axis=1).max())


@dataclass(frozen=True)
class Moment:
    """What there is to see: ``seconds`` since the beginning, ``moving`` and ``thinking`` at that time, ``actions`` so
    far, and where everything stands (``joints``, ``mocap``), to be rendered by a :class:`Camera`.
    """

    seconds: float
    moving: bool
    thinking: bool
    actions: int
    joints: np.ndarray
    mocap: np.ndarray


class Camera:
    """Renders moments that have passed, so that only those are rendered which somebody looks at."""

    def __init__(self, size: int) -> None:
        """``size``: of the images, px."""
        self.arm = TabletopArm((size, size))
        self._data = mujoco.MjData(self.arm.model)

    def see(self, joints: np.ndarray, mocap: np.ndarray) -> np.ndarray:
        """(size, size, 3) uint8 RGB."""
        self._data.qpos[:], self._data.mocap_pos[:] = joints, mocap
        mujoco.mj_forward(self.arm.model, self._data)
        return self.arm.render(self._data)


class Table:
    """One arm, for one episode after another."""

    def __init__(self, size: int) -> None:
        """``size``: of the camera's images, px."""
        self._camera = Camera(size)

    def run(
        self, policy: Policy, drive: Drive, task: Task, seed: int, watch: Callable[[Moment], None] | None = None
    ) -> Driven:
        """Until the task is done or its time is up. ``watch`` is told whenever something has happened."""
        return _Episode(self._camera, policy, drive, task, seed).run(watch)


class _Episode:
    def __init__(self, camera: Camera, policy: Policy, drive: Drive, task: Task, seed: int) -> None:
        self.policy, self.drive, self.task = policy, drive, task
        self.camera, self.runner = camera, EpisodeRunner(camera.arm)
        self.runner.request(1, seed, task.instruction)
        self.runner.set_gripper(1.0)
        policy.reset()
        self.cycle, self.loop = Cycle(drive.step_dt), SafetyLoop(TICK)
        self.cycle.steady = drive.steady
        self.tunables = Tunables(
            drive.settings, drive.step_dt / STEP, LIMITS.linear, LIMITS.angular, 0.5, 0.1, False, drive.compensation, 0
        )
        self.now, self.tick_at, self.capture_at, self.answer_at = 0.0, 0.0, 0.0, NEVER
        self.on_the_way: deque[Frame] = deque()
        self.outcome: Outcome | None = None
        self.announced: Action | None = None
        self.twist = np.zeros(6)
        self.driven = Driven(task)
        self.first_motion: float | None = None
        self.tool = [camera.arm.tool_position]

    def run(self, watch: Callable[[Moment], None] | None) -> Driven:
        self.cycle.start(self.now)
        self.cycle.instruct(self.task.instruction, self.now)
        while self.runner.state == EpisodeState.RUNNING:
            delivery = self.on_the_way[0].captured_at + DELIVERY if self.on_the_way else NEVER
            look_at = self.cycle.look_at if self.cycle.look_at is not None else NEVER
            due = min(self.tick_at, self.capture_at, self.answer_at, delivery, max(look_at, self.now))
            if look_at <= self.now:  # nothing to look at yet: the next image decides
                due = min(self.tick_at, self.capture_at, self.answer_at, delivery)
            self._pass(due)
            if self.capture_at <= self.now:
                self.on_the_way.append(Frame(functools.partial(self.camera.see, *self._state()), self.now, None))
                self.capture_at += CAMERA
            if self.on_the_way and self.on_the_way[0].captured_at + DELIVERY <= self.now:
                self.cycle.observe(self.on_the_way.popleft())
            if self.answer_at <= self.now:
                self._answer()
            if self.tick_at <= self.now:
                self._tick()
            self._look()
            if watch is not None:
                done, moving, thinking = self.driven.actions, bool(self.twist.any()), self.answer_at < NEVER
                watch(Moment(self.now, moving, thinking, done, *self._state()))
        return self._finish()

    def _state(self) -> tuple[np.ndarray, np.ndarray]:
        data = self.camera.arm.data
        return data.qpos.copy(), data.mocap_pos.copy()

    def _pass(self, until: float) -> None:
        """Let the arm move on to ``until``."""
        seconds = until - self.now
        before = self.runner.clock
        self.runner.advance(seconds, self.twist)
        if self.runner.clock > before:
            self.tool.append(self.runner.arm.tool_position)
        if self.twist.any():
            self.driven.moving += seconds
        elif self.driven.moving:
            self.driven.still += seconds
        self.now = until

    def _look(self) -> None:
        request = self.cycle.next_request(self.now, lambda: self.tunables)
        if request is None:
            return
        result = self.policy.infer(request.image(), request.instruction, request.tunables.decode)
        seconds = self.drive.seconds(result.report)
        self.driven.inferences.append(seconds)
        self.driven.passes.append(result.report.verifier_passes)
        self.outcome, self.answer_at = Outcome(request, result, None, seconds), self.now + seconds

    def _answer(self) -> None:
        outcome, self.outcome, self.answer_at = self.outcome, None, NEVER
        action = self.cycle.conclude(outcome, self.now)
        if action is not None:
            self.announced = action
            self.driven.actions += 1
        if self._tell():
            self.tick_at = self.now

    def _tick(self) -> None:
        self._tell()
        self.twist = self.loop.tick(self.now, 1)
        self.tick_at = self.now + TICK
        report = self.loop.report(self.now)
        self.cycle.hear(report)
        if self.cycle.fault is not None:
            raise RuntimeError(str(self.cycle.fault))
        if self.announced is not None and report.step >= self.announced.step.number:
            action, self.announced = self.announced, None
            self.cycle.decide_gripper(action)
            command = self.cycle.gripper.command()
            if command is not None:
                self.runner.set_gripper(command)
            self.driven.ages.append(self.cycle.note(action).image_age)
            if (late := self.cycle.late) is not None:
                self.driven.late.append(late)

    def _tell(self) -> bool:
        return self.loop.take(self.cycle.intent(self.now, LIMITS), self.now)

    def _finish(self) -> Driven:
        driven = self.driven
        driven.success = self.runner.state == EpisodeState.SUCCESS
        driven.seconds = self.runner.elapsed
        driven.tool = np.array(self.tool)
        return driven
