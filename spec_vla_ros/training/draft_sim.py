"""The simulated table top as a source of frames: the verifier drives, so no recording is needed.

Several arms run in lockstep, so that one batched pass serves them all. Every shard starts anew from its own seed, which
makes each of them reproducible without the ones before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from spec_vla_ros.tabletop.arm import TabletopArm
from spec_vla_ros.tabletop.tasks import TASKS, Layout
from spec_vla_ros.tabletop.training.data import CAMERA_SIZE

from ..openvla.loader import LoadedModel
from .frame_source import Shot

ARMS = 12  # in lockstep
FIRST_SEED = 20_000_000  # far from the seeds of training, evaluation and demonstration
EPISODES = 1_000_000  # of a shard at most


class _Drive:
    """One arm on its way through random episodes."""

    def __init__(self, rng: np.random.Generator, episodes: Iterator[int]) -> None:
        self.rng, self.arm, self._episodes = rng, TabletopArm((CAMERA_SIZE, CAMERA_SIZE)), episodes
        self.restart()

    def restart(self) -> None:
        rng = self.rng
        self.arm.reset(Layout.sample(rng))
        self.level = float(rng.choice([0.0, 0.0, 0.0, 0.3, 0.7]))  # mostly as it will drive
        self.instruct(int(rng.integers(len(TASKS))))
        self.end = TASKS[self.task].time_limit

    def instruct(self, task: int) -> None:
        self.task, self.episode = task, next(self._episodes)

    def act(self, values: np.ndarray) -> None:
        rng, arm = self.rng, self.arm
        action = values.copy()
        action[:3] += self.level * rng.normal(size=3) * 0.015
        action[3:6] += self.level * rng.normal(size=3) * [0.02, 0.02, 0.06]
        arm.apply_delta(action[:6], 1.0 if action[6] > 0.5 else 0.0)
        arm.advance(float(rng.choice([0.0, 0.03, 0.06, 0.1])))
        if arm.time > self.end or TASKS[self.task].done(arm):
            if rng.random() < 0.5 and arm.time < self.end:
                self.instruct(int(rng.integers(len(TASKS))))  # the next task in the scene as it is
            else:
                self.restart()


class SimSource:
    """``ARMS`` arms until ``frames`` frames are recorded, ``shard_frames`` of them per seed."""

    name, camera, lanes = "sim", "", ARMS

    def __init__(self, loaded: LoadedModel, frames: int, shard_frames: int, seed: int) -> None:
        self.expected, self.notes = frames, []
        self.instructions = [task.instruction for task in TASKS]
        self._shard_frames, self._seed = shard_frames, FIRST_SEED + seed * 10_000
        self._drives: list[_Drive] = []
        self._action_dim = loaded.statistics.action_dim

    def identity(self) -> dict[str, Any]:
        """Everything that decides what the arms do, but the verifier."""
        return {"kind": "sim", "frames": self.expected, "shard_frames": self._shard_frames, "seed": self._seed}

    def frames(self, wanted: Callable[[int], bool]) -> Iterator[Shot]:
        """Whole shards whose first frame is ``wanted``; the answers to a round are due before the next."""
        for first in range(0, self.expected, self._shard_frames):
            if not wanted(first):
                continue
            shard = first // self._shard_frames
            episodes = iter(range(shard * EPISODES, (shard + 1) * EPISODES))
            self._drives = [_Drive(np.random.default_rng([self._seed + shard, i]), episodes) for i in range(ARMS)]
            end = min(first + self._shard_frames, self.expected)
            for number in range(first, end):
                drive = self._drives[(number - first) % ARMS]
                yield Shot(number, drive.episode, drive.arm.render().copy(), TASKS[drive.task].instruction)
            for drive in self._drives:
                drive.arm.close()
            self._drives = []  # answers to a last round that is not full come after this

    def answered(self, values: np.ndarray, bins: np.ndarray) -> None:
        """Each arm does what the verifier said; a round that is cut off by the end of a shard moves some of them."""
        for drive, action in zip(self._drives, values, strict=False):
            drive.act(action)
