"""The simulated arm: Cartesian velocity commands in, joint motion, camera images and ground truth out. No ROS.

Commands integrate on the previous *commanded* pose, not on the measured one, so that ten equal steps travel ten times
one step. Base frame, metres, radians, seconds of simulated time.
"""

from __future__ import annotations

import os

os.environ.setdefault("MUJOCO_GL", "egl")  # must be chosen before mujoco is imported; works without a screen

import mujoco
import numpy as np

from . import scene
from .tasks import Layout

TICK = 0.01  # s between two updates of the inverse kinematics
WORKSPACE = np.array([[0.24, -0.24, 0.012], [0.60, 0.24, 0.34]])  # m, box for the commanded tool centre point
TOOL_DOWN = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])  # tool frame when it points straight down
_DAMPING = 0.05


def rotation_from_vector(vector: np.ndarray) -> np.ndarray:
    """Rotation matrix of a rotation vector (rad)."""
    matrix, quat = np.empty(9), np.empty(4)
    angle = float(np.linalg.norm(vector))
    mujoco.mju_axisAngle2Quat(quat, vector / angle if angle > 1e-12 else np.array([1.0, 0, 0]), angle)
    mujoco.mju_quat2Mat(matrix, quat)
    return matrix.reshape(3, 3)


def vector_from_rotation(matrix: np.ndarray) -> np.ndarray:
    """Rotation vector (rad) of a rotation matrix."""
    quat, vector = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quat, np.ascontiguousarray(matrix).ravel())
    mujoco.mju_quat2Vel(vector, quat, 1.0)
    return vector


class TabletopArm:
    """Physics, inverse kinematics and camera of the table top.

    ``reset`` places the objects; ``set_twist`` and ``set_gripper`` are the commands; ``advance`` runs the physics.
    """

    def __init__(self, image_size: tuple[int, int] = (224, 224)) -> None:
        """``image_size``: (height, width) of camera images in pixels."""
        self.model = mujoco.MjModel.from_xml_string(scene.scene_xml())
        self.data = mujoco.MjData(self.model)
        self._ik = mujoco.MjData(self.model)
        self._tcp = self.model.site("tcp").id
        self._arm_qpos = np.array([self.model.joint(j).qposadr[0] for j in scene.ARM_JOINTS])
        self._finger_qpos = np.array([self.model.joint(j).qposadr[0] for j in scene.FINGER_JOINTS])
        self._limits = np.array([self.model.joint(j).range for j in scene.ARM_JOINTS]).T
        self._image_size = image_size
        buffer = self.model.vis.global_  # MuJoCo refuses a picture that is larger
        buffer.offheight, buffer.offwidth = max(buffer.offheight, image_size[0]), max(buffer.offwidth, image_size[1])
        self._renderer: mujoco.Renderer | None = None
        self._carry = 0.0
        self.reset(Layout.sample(0))

    def reset(self, layout: Layout) -> None:
        """Put the objects and the tool where ``layout`` says; commands start at zero, gripper open."""
        mujoco.mj_resetData(self.model, self.data)
        for name, (x, y, yaw) in layout.blocks.items():
            adr = self.model.joint(name).qposadr[0]
            self.data.qpos[adr : adr + 7] = [x, y, scene.BLOCK_HALF, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
        self.data.mocap_pos[0] = [*layout.plate, 0.0]
        self.time = 0.0
        self.twist = np.zeros(6)
        self.gripper = 1.0
        self._carry = 0.0
        self.command_position = np.array(layout.tool_position, dtype=float)
        self.command_rotation = rotation_from_vector(np.array(layout.tool_rotation, dtype=float))
        self._joints = np.array(scene.HOME)
        for _ in range(60):
            self._solve(step_limit=0.3)
        self.data.qpos[self._arm_qpos] = self._joints
        self.data.qpos[self._finger_qpos] = scene.FINGER_TRAVEL
        self._write_controls()
        mujoco.mj_forward(self.model, self.data)

    # Commands

    def set_twist(self, twist: np.ndarray) -> None:
        """Velocity of the tool: (6,) linear m/s and angular rad/s in base axes, rotation about the tool."""
        self.twist = np.asarray(twist, dtype=float).copy()

    def set_gripper(self, opening: float) -> None:
        """1 = open, 0 = closed."""
        self.gripper = float(np.clip(opening, 0.0, 1.0))

    def advance(self, duration: float) -> None:
        """Run the physics for ``duration`` seconds under the present commands."""
        self._carry += duration
        while self._carry >= TICK - 1e-9:
            self._carry -= TICK
            self._tick()

    def apply_delta(self, delta: np.ndarray, gripper: float, duration: float = 0.2) -> None:
        """Stream one policy step: (6,) m and Euler rad (roll, pitch, yaw), composed, not added, over ``duration``."""
        self.set_twist(np.concatenate([delta[:3], vector_from_rotation(euler_to_rotation(delta[3:6]))]) / duration)
        self.set_gripper(gripper)
        self.advance(duration)
        self.set_twist(np.zeros(6))

    # Ground truth

    @property
    def tool_position(self) -> np.ndarray:
        """Measured tool centre point (3,) m."""
        return self.data.site_xpos[self._tcp].copy()

    @property
    def tool_rotation(self) -> np.ndarray:
        """Measured rotation (3, 3) relative to the tool pointing straight down."""
        return self.data.site_xmat[self._tcp].reshape(3, 3) @ TOOL_DOWN.T

    @property
    def opening(self) -> float:
        """Measured opening, 0 (closed) to 1 (fully open)."""
        return float(self.data.qpos[self._finger_qpos].mean() / scene.FINGER_TRAVEL)

    def block_pose(self, name: str) -> tuple[np.ndarray, float]:
        """Position (3,) m and yaw (rad) of a block."""
        matrix = self.data.body(name).xmat.reshape(3, 3)
        return self.data.body(name).xpos.copy(), float(np.arctan2(matrix[1, 0], matrix[0, 0]))

    @property
    def plate_position(self) -> np.ndarray:
        """Centre of the plate (3,) m."""
        return self.data.mocap_pos[0].copy()

    def held(self) -> str | None:
        """Name of the block that both fingers touch, or None."""
        touching: dict[str, set[str]] = {}
        for contact in self.data.contact[: self.data.ncon]:
            bodies = [self.model.body(self.model.geom_bodyid[g]).name for g in contact.geom]
            for block, finger in (bodies, bodies[::-1]):
                if block in scene.COLORS and finger in scene.FINGER_JOINTS:
                    touching.setdefault(block, set()).add(finger)
        return next((block for block, fingers in touching.items() if len(fingers) == 2), None)

    def joint_state(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Names, positions and velocities of the arm's and the fingers' joints."""
        index = np.concatenate([self._arm_qpos, self._finger_qpos])
        return [*scene.ARM_JOINTS, *scene.FINGER_JOINTS], self.data.qpos[index].copy(), self.data.qvel[index].copy()

    def render(self, data: mujoco.MjData | None = None) -> np.ndarray:
        """Camera image (H, W, 3) uint8 RGB, now or of ``data``. Must always be called from the same thread."""
        if self._renderer is None:
            self._renderer = mujoco.Renderer(self.model, *self._image_size)
        self._renderer.update_scene(self.data if data is None else data, camera="front")
        return self._renderer.render()

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    # Internals

    def _tick(self) -> None:
        self.command_position = np.clip(self.command_position + self.twist[:3] * TICK, *WORKSPACE)
        if np.any(self.twist[3:]):
            self.command_rotation = rotation_from_vector(self.twist[3:] * TICK) @ self.command_rotation
        self._solve(step_limit=0.08)
        self._write_controls()
        mujoco.mj_step(self.model, self.data, nstep=round(TICK / self.model.opt.timestep))
        self.time += TICK

    def _write_controls(self) -> None:
        self.data.ctrl[:6] = self._joints
        self.data.ctrl[6:8] = self.gripper * scene.FINGER_TRAVEL

    def _solve(self, step_limit: float) -> None:
        """One damped-least-squares step of the commanded joints towards the commanded pose."""
        self._ik.qpos[self._arm_qpos] = self._joints
        mujoco.mj_kinematics(self.model, self._ik)
        mujoco.mj_comPos(self.model, self._ik)
        jacobian = np.zeros((6, self.model.nv))
        mujoco.mj_jacSite(self.model, self._ik, jacobian[:3], jacobian[3:], self._tcp)
        jacobian = jacobian[:, :6]
        rotation = self._ik.site_xmat[self._tcp].reshape(3, 3) @ TOOL_DOWN.T
        error = np.concatenate(
            [
                self.command_position - self._ik.site_xpos[self._tcp],
                vector_from_rotation(self.command_rotation @ rotation.T),
            ]
        )
        step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + _DAMPING**2 * 0.1 * np.eye(6), error)
        self._joints = np.clip(self._joints + np.clip(step, -step_limit, step_limit), *self._limits)


def euler_to_rotation(rpy: np.ndarray) -> np.ndarray:
    """Rz(yaw) Ry(pitch) Rx(roll), the composition of bridge_data_robot."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def rotation_to_euler(matrix: np.ndarray) -> np.ndarray:
    """Roll, pitch, yaw (rad) with matrix = Rz Ry Rx; pitch within ±pi/2."""
    return np.array(
        [
            np.arctan2(matrix[2, 1], matrix[2, 2]),
            np.arcsin(np.clip(-matrix[2, 0], -1.0, 1.0)),
            np.arctan2(matrix[1, 0], matrix[0, 0]),
        ]
    )
