"""Frames of the table top with the expert's answer to every instruction.

The expert labels any state, so each frame carries nine actions, one per task. A network that sees the same image under
several instructions has to read the instruction; frames of demonstrations alone do not force it to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spec_vla_ros.openvla.picture import PictureRule
from spec_vla_ros.outputs import whole
from spec_vla_ros.tabletop.arm import TabletopArm, rotation_to_euler
from spec_vla_ros.tabletop.expert import expert_action
from spec_vla_ros.tabletop.scene import COLORS
from spec_vla_ros.tabletop.tasks import TASKS, Layout, Task

CAMERA_SIZE = 224  # px; what the simulated camera publishes
STATE_NAMES = (
    *("tool_x", "tool_y", "tool_z", "tool_roll", "tool_pitch", "tool_yaw", "opening"),
    *(f"held_{c}" for c in COLORS),
    *(f"{c}_{v}" for c in COLORS for v in ("x", "y", "z", "sin4yaw", "cos4yaw")),
    *("plate_x", "plate_y"),
)

# (image (H, W, 3) uint8, task) -> action (7,), or None for the expert itself
Actor = Callable[[np.ndarray, Task], np.ndarray]


@dataclass
class Frames:
    """``images`` (N, S, S, 3) uint8; ``states`` (N, len(STATE_NAMES)); ``actions`` (N, 9, 7); ``task`` (N,) index."""

    images: np.ndarray
    states: np.ndarray
    actions: np.ndarray
    task: np.ndarray

    def save(self, path: Path) -> None:
        """Write one uncompressed npz file, complete or not at all."""
        with whole(path) as partial, partial.open("wb") as stream:
            np.savez(stream, images=self.images, states=self.states, actions=self.actions, task=self.task)

    @staticmethod
    def load(paths: list[Path]) -> Frames:
        """Read and join several files."""
        parts = [np.load(p) for p in sorted(paths)]
        return Frames(*(np.concatenate([p[k] for p in parts]) for k in ("images", "states", "actions", "task")))

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.images)


def true_state(arm: TabletopArm) -> np.ndarray:
    """Ground truth in the order of ``STATE_NAMES``."""
    held = arm.held()
    state = [*arm.tool_position, *rotation_to_euler(arm.tool_rotation), arm.opening]
    state += [float(held == c) for c in COLORS]
    for color in COLORS:
        position, yaw = arm.block_pose(color)
        state += [*position, np.sin(4 * yaw), np.cos(4 * yaw)]
    return np.array([*state, *arm.plate_position[:2]], dtype=np.float32)


def collect(frames: int, seed: int, rule: PictureRule, actor: Actor | None = None, noise: float = 1.0) -> Frames:
    """Drive the arm and record ``frames`` frames, each as the model of ``rule`` will see it.

    ``actor`` None: the expert with noise, wrong gripper commands and changes of mind, which visits states that a
    learner gets into. ``actor`` given: the learner drives (DAgger); the expert takes over at random for single steps.
    """
    rng = np.random.default_rng(seed)
    arm = TabletopArm((CAMERA_SIZE, CAMERA_SIZE))
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, int]] = []
    while len(rows) < frames:
        index = int(rng.integers(len(TASKS)))
        arm.reset(Layout.sample(rng))
        level = noise * float(rng.choice([0.0, 0.3, 0.6, 1.0]))
        end = TASKS[index].time_limit * rng.uniform(0.6, 1.0)
        done = 0
        while arm.time < end and done < 2 and len(rows) < frames:
            image = arm.render()
            labels = np.stack([expert_action(arm, t) for t in TASKS]).astype(np.float32)
            rows.append((rule.picture(image), true_state(arm), labels, index))
            by_expert = actor is None or rng.random() < 0.05
            action = labels[index].astype(float) if by_expert else actor(image, TASKS[index])
            action[:3] += level * rng.normal(size=3) * 0.018
            action[3:6] += level * rng.normal(size=3) * [0.03, 0.03, 0.08]
            if rng.random() < 0.04 * level:
                action[6] = 1.0 - action[6]
            if rng.random() < 0.03 * level:  # a shove: far more displacement than noise alone produces
                action[:3] += rng.normal(size=3) * 0.05
            arm.apply_delta(action[:6], action[6])
            arm.advance(float(rng.choice([0.0, 0.03, 0.06, 0.1])))  # the pause of an inference
            if rng.random() < 0.03:
                index = int(rng.integers(len(TASKS)))
            done = done + 1 if TASKS[index].done(arm) else 0
    arm.close()
    images, states, actions, task = zip(*rows, strict=True)
    return Frames(np.stack(images), np.stack(states), np.stack(actions), np.array(task))
