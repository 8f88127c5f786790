"""How OpenVLA is evaluated on LIBERO: suites, limits, picture and action. No simulator, no torch, no ROS.

Source: ``experiments/robot/libero`` of the repository openvla/openvla (MIT), which the scripts of Spec-VLA (arXiv
2507.22424) repeat. LIBERO (arXiv 2306.03310) controls a Franka Panda at 20 Hz by robosuite's ``OSC_POSE``: an action is
no velocity and no distance but a controller input in [-1, 1], where 1 asks for a goal 0.05 m or 0.5 rad away from the
*measured* pose; the seventh number is the gripper, -1 = open, 1 = closed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spec_vla_ros.openvla.picture import jpeg_round_trip, lanczos

RATE = 20.0  # Hz, control frequency of the environments
STEP = 1.0 / RATE  # s of simulated time that one action takes
SETTLE_STEPS = 10  # the simulator drops the objects at a reset; nothing is asked of the policy until they lie
NO_OP = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)
RESOLUTION = 256  # px, square, of the rendered camera
TASKS, STATES = 10, 50  # tasks per suite; stored initial states per task, one for each trial
MOTION_DIM = 6


@dataclass(frozen=True)
class Suite:
    """Ten tasks. ``name``: on the command line; ``steps``: actions after which an episode has failed."""

    name: str
    steps: int

    @property
    def key(self) -> str:
        """Name of the suite in LIBERO, and the ``unnorm_key`` of its fine-tuned models."""
        return f"libero_{self.name}"


SUITES = {
    suite.name: suite for suite in (Suite("spatial", 220), Suite("object", 280), Suite("goal", 300), Suite("10", 520))
}


def model_picture(rendered: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) uint8 as the simulator renders it -> (size, size, 3) uint8 as the training data show it.

    Turned by 180 degrees, through a JPEG like the data set's, then resized as a camera's image is; the centre crop and
    the normalisation are the model's own (:mod:`..openvla.picture`, which then finds nothing to resize). Pillow instead
    of TensorFlow: the same operations, not bit for bit the same rounding.
    """
    return lanczos(jpeg_round_trip(rendered[::-1, ::-1]), size)


def env_gripper(opening: float) -> float:
    """Gripper of the model (1 = open, 0 = closed) -> of the environment: -1 = open, 1 = closed, nothing between."""
    return -float(np.sign(2.0 * opening - 1.0)) + 0.0  # + 0.0: no negative zero


def env_action(values: np.ndarray) -> np.ndarray:
    """(7,) un-normalised action of the policy -> (7,) input of the environment, which clips motion to [-1, 1]."""
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (MOTION_DIM + 1,):
        raise ValueError(f"LIBERO takes 7 numbers (x y z, rotation, gripper), the policy gives {values.shape}")
    return np.concatenate([values[:MOTION_DIM], [env_gripper(float(values[MOTION_DIM]))]])


def episode_seed(seed: int, trial: int) -> int:
    """Seed of the simulator's random numbers for one episode.

    The stored states leave out where fixtures (stove, cabinet) stand: a reset draws that anew, within 2 cm. The
    original seeds once per task with 0 and lets its trials draw on; here every episode has a seed of its own, so that
    its outcome does not depend on what ran before it, which resuming and sharing out need. With ``seed`` 0 the first
    trial of a task is the original's.
    """
    return seed + trial
