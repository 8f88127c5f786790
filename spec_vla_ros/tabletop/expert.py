"""A scripted expert: a function of the simulator's present state alone, so that it labels any state.

Every motion is proportional to an error and limited as a vector, so actions are spread over their range and change
smoothly from step to step. The height follows a funnel around the target: the tool comes down as it comes near.
"""

from __future__ import annotations

import numpy as np

from .arm import euler_to_rotation, rotation_from_vector, rotation_to_euler, vector_from_rotation
from .scene import BLOCK_HALF, PLATE_TOP, Scene
from .tasks import Task

STEP = 0.2  # s of one action
MAX_STEP, MAX_TURN = 0.05, 0.25  # m and rad per action
GAIN = 0.7
TURN_GAIN = 0.4  # lower: at 0.7 labels pile up at the limit from 20 degrees on, and a learner answers all or nothing
GRASP_HEIGHT = 0.018  # m, tool centre point when the fingers are around a block
HOVER, FUNNEL = 0.09, 3.0
NEAR = 0.012  # m, horizontal error at which a grasp is safe
LIFT_HEIGHT = 0.15
LEAN = 0.6  # rad of tilt per metre from the middle of the table, keeps the wrist away from its limits
CENTRE = np.array([0.41, 0.0])


def _funnel(distance: float, floor: float) -> float:
    return floor + float(np.clip(FUNNEL * (distance - NEAR), 0.0, HOVER))


def expert_action(arm: Scene, task: Task) -> np.ndarray:
    """Action (7,) for the present state: xyz (m), roll pitch yaw (rad) in base axes, gripper (1 = open).

    No branch answers "stay exactly where you are": a spike of zeros in the labels would win every argmax whenever a
    learner is unsure of the direction, and it would stop.
    """
    tool, held, opening = arm.tool_position, arm.held(), arm.opening
    block, yaw = arm.block_pose(task.block)
    offset = block - tool
    distance = float(np.linalg.norm(offset[:2]))
    target, gripper = block.copy(), 1.0

    if held is not None and (held != task.block or task.kind == "touch"):
        target[2] = max(tool[2], 0.10)  # wrong thing in the hand: let go of it and leave
    elif task.kind == "touch":
        target[2] = _funnel(distance, 2 * BLOCK_HALF + 0.012)
        around = opening > 0.4 and distance < 0.06 and tool[2] < 0.06
        gripper = 1.0 if around else 0.0  # fingers around the block: rise before closing
        if around:
            target[2] = 0.10
    elif task.kind == "put" and task.done(arm):
        target, yaw = np.array([*CENTRE, 0.20]), 0.0
    elif held == task.block and opening < 0.75:
        target, gripper, yaw = _carry(arm, task, tool)
    else:
        aligned = distance < NEAR and abs(tool[2] - GRASP_HEIGHT) < 0.012
        target[2] = _funnel(distance, GRASP_HEIGHT)
        gripper = 0.0 if aligned and block[2] < BLOCK_HALF + 0.02 else 1.0
        if opening < 0.7 and not aligned and tool[2] < 0.07 and distance < 0.08:
            target[:2] = tool[:2] + 0.3 * offset[:2]  # half-closed beside the block: rise while opening
            target[2] = 0.08

    return np.concatenate([_limited(target - tool, MAX_STEP), _turn(arm, yaw), [gripper]])


def _carry(arm: Scene, task: Task, tool: np.ndarray) -> tuple[np.ndarray, float, float]:
    goal = CENTRE if task.kind == "pick" else arm.plate_position[:2]
    distance = float(np.linalg.norm(goal - tool[:2]))
    floor = GRASP_HEIGHT + PLATE_TOP
    height = LIFT_HEIGHT if task.kind == "pick" else floor + float(np.clip(2.0 * (distance - 0.03), 0.0, 0.09))
    release = task.kind == "put" and distance < 0.025 and tool[2] < floor + 0.014
    # Up before sideways, so that the block in the hand does not sweep others away.
    free = 1.0 if distance < 0.05 else float(np.clip((tool[2] - 0.025) / 0.035, 0.05, 1.0))
    return np.array([*(tool[:2] + free * (goal - tool[:2])), height]), 1.0 if release else 0.0, 0.0


def _limited(error: np.ndarray, limit: float, gain: float = GAIN) -> np.ndarray:
    step = gain * error
    norm = float(np.linalg.norm(step))
    return step * min(1.0, limit / norm) if norm > 0 else step


def _turn(arm: Scene, yaw: float) -> np.ndarray:
    """Euler delta (3,) towards ``yaw`` (a block looks the same every quarter turn) and the lean of this place."""
    yaw = (yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4
    reach = arm.tool_position[:2] - CENTRE
    desired = euler_to_rotation(np.array([LEAN * reach[1], -LEAN * reach[0], yaw]))
    turn = _limited(vector_from_rotation(desired @ arm.tool_rotation.T), MAX_TURN, TURN_GAIN)
    return rotation_to_euler(rotation_from_vector(turn))
