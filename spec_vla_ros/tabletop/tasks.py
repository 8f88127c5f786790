"""What the arm is asked to do: instructions, random layouts, and when a task counts as done. No ROS, no physics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .scene import BLOCK_HALF, COLORS, PLATE_RADIUS, Scene

X_RANGE, Y_RANGE = (0.30, 0.52), (-0.16, 0.16)  # m, where objects may lie
PICK_HEIGHT = 0.07  # m above the table at which a block counts as picked


@dataclass(frozen=True)
class Task:
    """One instruction: ``kind`` is "pick", "put" or "touch", ``block`` the colour."""

    kind: str
    block: str

    @property
    def instruction(self) -> str:
        """The sentence that the policy reads."""
        return {
            "pick": f"pick up the {self.block} block",
            "put": f"put the {self.block} block on the plate",
            "touch": f"touch the {self.block} block",
        }[self.kind]

    @property
    def time_limit(self) -> float:
        """Seconds of simulated time after which an episode failed."""
        return {"pick": 9.0, "put": 13.0, "touch": 7.0}[self.kind]

    def done(self, arm: Scene) -> bool:
        """Is the task fulfilled in the present state?"""
        position, _ = arm.block_pose(self.block)
        if self.kind == "pick":
            return arm.held() == self.block and position[2] > PICK_HEIGHT
        if self.kind == "put":
            offset = np.linalg.norm((position - arm.plate_position)[:2])
            resting = position[2] < BLOCK_HALF + 0.02 and arm.held() is None and arm.opening > 0.8
            return bool(offset < PLATE_RADIUS and resting)
        offset = arm.tool_position - position
        above = BLOCK_HALF - 0.01 < offset[2] < BLOCK_HALF + 0.02
        return bool(np.linalg.norm(offset[:2]) < 0.016 and above and arm.opening < 0.3)


TASKS = tuple(Task(kind, block) for kind in ("pick", "put", "touch") for block in COLORS)
BY_INSTRUCTION = {task.instruction: task for task in TASKS}


@dataclass(frozen=True)
class Layout:
    """Where everything is at the start of an episode (base frame, m, rad)."""

    blocks: dict[str, tuple[float, float, float]]  # x, y, yaw
    plate: tuple[float, float]
    tool_position: tuple[float, float, float]
    tool_rotation: tuple[float, float, float]  # rotation vector relative to straight down

    @staticmethod
    def sample(seed: int | np.random.Generator) -> Layout:
        """A random layout; the same seed gives the same layout."""
        rng = np.random.default_rng(seed)
        while True:
            points = rng.uniform([X_RANGE[0], Y_RANGE[0]], [X_RANGE[1], Y_RANGE[1]], size=(4, 2))
            gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
            between_blocks = gaps[:3, :3][np.triu_indices(3, 1)].min()
            if between_blocks > 0.09 and gaps[3, :3].min() > 0.115:
                break
        yaws = rng.uniform(-0.5, 0.5, size=3)
        tool = rng.uniform([0.33, -0.12, 0.15], [0.47, 0.12, 0.24])
        rotation = rng.uniform([-0.15, -0.15, -0.5], [0.15, 0.15, 0.5])
        return Layout(
            blocks={name: (*points[i].tolist(), float(yaws[i])) for i, name in enumerate(COLORS)},
            plate=(float(points[3, 0]), float(points[3, 1])),
            tool_position=tuple(tool.tolist()),
            tool_rotation=tuple(rotation.tolist()),
        )
