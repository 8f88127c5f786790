"""``spec-vla record-tabletop``: a rosbag2 recording of the simulated table top, to try out what is made for recordings.

The model drives, without ROS and as fast as the machine can. The bag has what the node would have looked at: one JPEG
image per action, stamped by simulated time, and the instructions.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from spec_vla_ros.arguments import BASE_MODEL, COUNT, SEED, Parser
from spec_vla_ros.decoding.presets import AUTO, PRESETS
from spec_vla_ros.outputs import require
from spec_vla_ros.policy_types import DecodeSettings, Policy, PolicyResult

IMAGE, IMAGE_TYPE = "/camera/image_raw/compressed", "sensor_msgs/msg/CompressedImage"
TEXT, TEXT_TYPE = "/instruction", "std_msgs/msg/String"
BEGIN = 1_700_000_000 * 10**9  # ns
STEP, BREAK = 230_000_000, 2 * 10**9  # ns between two actions (0.2 s and an inference), and between two episodes
FIRST_SEED = 30_000_000  # layouts of no training and no evaluation
JPEG_QUALITY = 95
TELL = 15.0  # s


class Recorder:
    """A policy that writes down what it is shown."""

    def __init__(self, policy: Policy, writer: Any) -> None:
        """``writer``: of rosbags, opened."""
        import cv2

        from spec_vla_ros.recordings.writer import new_typestore

        self._policy, self._writer, self._store, self._encode = policy, writer, new_typestore(), cv2.imencode
        self._quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        self._images = writer.add_connection(IMAGE, IMAGE_TYPE, typestore=self._store)
        self._texts = writer.add_connection(TEXT, TEXT_TYPE, typestore=self._store)
        self._ns, self._instruction = BEGIN, ""
        self.action_dim, self.frames = policy.action_dim, 0

    def infer(self, image: np.ndarray, instruction: str, settings: DecodeSettings) -> PolicyResult:
        """The policy's action."""
        types = self._store.types
        if instruction != self._instruction:
            self._instruction = instruction
            self._write(self._texts, types[TEXT_TYPE](data=instruction), TEXT_TYPE)
        self._ns += STEP
        seconds, nanoseconds = divmod(self._ns, 10**9)
        header = types["std_msgs/msg/Header"](
            stamp=types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds), frame_id="camera"
        )
        data = self._encode(".jpg", image[..., ::-1], self._quality)[1].reshape(-1)
        picture = types[IMAGE_TYPE](header=header, format="rgb8; jpeg compressed", data=data)
        self._write(self._images, picture, IMAGE_TYPE)
        self.frames += 1
        return self._policy.infer(image, instruction, settings)

    def reset(self) -> None:
        """Another episode."""
        self._ns += BREAK
        self._policy.reset()

    def describe(self) -> dict[str, str]:
        """Of the policy."""
        return self._policy.describe()

    def _write(self, connection: Any, message: Any, kind: str) -> None:
        self._writer.write(connection, self._ns, self._store.serialize_cdr(message, kind))


def record(
    bag: Path, policy: Policy, frames: int, settings: DecodeSettings, seed: int, say: Callable[[str], None]
) -> tuple[int, int, int]:
    """Write ``bag`` with ``frames`` images or a few more; returns images, episodes and how many of these succeeded."""
    from spec_vla_ros.recordings.writer import whole_bag
    from spec_vla_ros.tabletop.arm import TabletopArm
    from spec_vla_ros.tabletop.tasks import TASKS

    from .data import CAMERA_SIZE
    from .rollout import run_episode

    arm, episodes, successes, told = TabletopArm((CAMERA_SIZE, CAMERA_SIZE)), 0, 0, time.monotonic()
    with whole_bag(bag) as writer:
        recorder = Recorder(policy, writer)
        while recorder.frames < frames:
            task = TASKS[episodes % len(TASKS)]
            successes += run_episode(arm, recorder, task, FIRST_SEED + seed + episodes, settings).success
            episodes += 1
            if time.monotonic() - told > TELL:
                told = time.monotonic()
                say(f"{recorder.frames} of {frames} images, {successes} of {episodes} episodes")
    arm.close()
    return recorder.frames, episodes, successes


def _parser() -> Parser:
    parser = Parser(
        prog="spec-vla record-tabletop", description="Records a rosbag2 bag of a model driving the simulated table top."
    )
    parser.add_argument("bag", type=Path, help="folder to write, must not exist")
    parser.add_argument("--frames", type=COUNT, default=3000, help="images, or a few more (%(default)s)")
    parser.add_argument("--model", default="", help="checkpoint folder or hub id (the small one of the table top)")
    parser.add_argument("--base-model", default="", help=BASE_MODEL)
    parser.add_argument("--preset", choices=(AUTO, *PRESETS), default=AUTO, help="(%(default)s)")
    parser.add_argument("--seed", type=SEED, default=0, help="of the layouts (%(default)s)")
    return parser


def main(argv: list[str]) -> int:
    """Command line; ``argv`` begins with the command's name."""
    parser = _parser()
    arguments = parser.parse_args(argv[1:])
    if os.path.lexists(arguments.bag):
        parser.error(f"{arguments.bag} exists already")
    require(arguments.bag, folder=True)
    import cv2  # noqa: F401 - said here and not in the middle
    import rosbags  # noqa: F401
    import torch

    from spec_vla_ros.decoding.heads.store import heads_folder, trained_drafters
    from spec_vla_ros.decoding.planner import Planner
    from spec_vla_ros.installed import model_folder
    from spec_vla_ros.openvla.loader import load_model
    from spec_vla_ros.policy import OpenVLAPolicy
    from spec_vla_ros.tabletop.arm import TabletopArm  # noqa: F401 - chooses how to render, then imports mujoco

    torch.set_num_threads(1)  # small matrices
    loaded = load_model(arguments.model or model_folder(), device="cpu", base_model=arguments.base_model)
    heads, _ = trained_drafters(loaded, heads_folder(loaded))
    settings = DecodeSettings(preset=arguments.preset)

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    frames, episodes, successes = record(
        arguments.bag,
        OpenVLAPolicy(loaded, heads, planner=Planner.steady()),
        arguments.frames,
        settings,
        arguments.seed,
        say,
    )
    size = sum(file.stat().st_size for file in arguments.bag.iterdir())
    say(f"wrote {arguments.bag}: {frames} images, {successes} of {episodes} episodes succeeded, {size / 1e6:.0f} MB")
    return 0
