"""A scripted expert: a function of the simulator's present state alone, so that it labels any state.

Every motion is proportional to an error and limited as a vector, so actions are spread over their range and change
smoothly from step to step. The height follows a funnel around the target: the tool comes down as it comes near.
"""

from __future__ import annotations

import numpy as np

from .arm import TabletopArm, euler_to_rotation, rotation_from_vector, rotation_to_euler, vector_from_rotation
from .scene import BLOCK_HALF, PLATE_TOP
from .tasks import Task

STEP = 0.2  # s of one action
MAX_STEP, MAX_TURN = 0.05, 0.25  # m and rad per action
GAIN = 0.7
GRASP_HEIGHT = 0.018  # m, tool centre point when the fingers are around a block
HOVER, FUNNEL = 0.09, 3.0
NEAR = 0.012  # m, horizontal error at which a grasp is safe
LIFT_HEIGHT = 0.15
LEAN = 0.6  # rad of tilt per metre from the middle of the table, keeps the wrist away from its limits
CENTRE = np.array([0.41, 0.0])


def _funnel(distance: float, floor: float) -> float:
    return floor + float(np.clip(FUNNEL * (distance - NEAR), 0.0, HOVER))


def expert_action(arm: TabletopArm, task: Task) -> np.ndarray:
    """Action (7,) for the present state: xyz (m), roll pitch yaw (rad) in base axes, gripper (1 = open)."""
    tool, held, opening = arm.tool_position, arm.held(), arm.opening
    block, block_yaw = arm.block_pose(task.block)
    offset = block - tool
    distance = float(np.linalg.norm(offset[:2]))
    target, yaw, gripper = block.copy(), block_yaw, 1.0

    if held is not None and (held != task.block or task.kind == "touch"):
        target, yaw = tool.copy(), _yaw(arm)  # wrong thing in the hand: let go of it where it is
    elif task.kind == "touch":
        target[2] = _funnel(distance, 2 * BLOCK_HALF + 0.012)
        around = opening > 0.4 and distance < 0.06 and tool[2] < 0.06
        gripper = 1.0 if around else 0.0  # fingers around the block: rise before closing
        if around:
            target[2] = 0.10
    elif task.kind == "put" and _on_plate(arm, task):
        target, yaw = tool + np.array([0.0, 0.0, 0.05]), _yaw(arm)
    elif held == task.block and opening < 0.75:
        target, gripper, yaw = _carry(arm, task, tool)
    else:
        aligned = distance < NEAR and abs(tool[2] - GRASP_HEIGHT) < 0.012
        target[2] = _funnel(distance, GRASP_HEIGHT)
        gripper = 0.0 if aligned and block[2] < BLOCK_HALF + 0.02 else 1.0
        if opening < 0.7 and not aligned and tool[2] < 0.07 and distance < 0.08:
            target[:2], target[2] = tool[:2], 0.08  # half-closed beside the block: rise while opening

    return np.concatenate([_limited(target - tool, MAX_STEP), _turn(arm, yaw), [gripper]])


def _carry(arm: TabletopArm, task: Task, tool: np.ndarray) -> tuple[np.ndarray, float, float]:
    if task.kind == "pick":
        return np.array([tool[0], tool[1], LIFT_HEIGHT]), 0.0, _yaw(arm)
    plate = arm.plate_position
    distance = float(np.linalg.norm((plate - tool)[:2]))
    floor = GRASP_HEIGHT + PLATE_TOP
    height = floor + float(np.clip(2.0 * (distance - 0.03), 0.0, 0.09))
    release = distance < 0.025 and tool[2] < floor + 0.014
    # Far from the plate and still on the table: go straight up first, so that the block does not sweep others away.
    sideways = plate[:2] if tool[2] > min(height, 0.075) - 0.03 else tool[:2]
    return np.array([*sideways, height]), 1.0 if release else 0.0, 0.0


def _on_plate(arm: TabletopArm, task: Task) -> bool:
    return task.done(arm)


def _yaw(arm: TabletopArm) -> float:
    return float(rotation_to_euler(arm.tool_rotation)[2])


def _limited(error: np.ndarray, limit: float) -> np.ndarray:
    step = GAIN * error
    norm = float(np.linalg.norm(step))
    return step * min(1.0, limit / norm) if norm > 0 else step


def _turn(arm: TabletopArm, yaw: float) -> np.ndarray:
    """Euler delta (3,) towards ``yaw`` (a block looks the same every quarter turn) and the lean of this place."""
    yaw = (yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4
    reach = arm.tool_position[:2] - CENTRE
    desired = euler_to_rotation(np.array([LEAN * reach[1], -LEAN * reach[0], yaw]))
    turn = _limited(vector_from_rotation(desired @ arm.tool_rotation.T), MAX_TURN)
    return rotation_to_euler(rotation_from_vector(turn))
