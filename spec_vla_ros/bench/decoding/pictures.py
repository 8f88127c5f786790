"""What the way from image to picture changes: pixels, actions, and what it costs. On the simulated table top.

The same rendered images go through each pair of ways; the model answers both, without drafts. That the small model was
trained on one of them does not matter here: the question is whether a model notices.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spec_vla_ros.decoding.planner import Planner
from spec_vla_ros.openvla.config import EVALUATION, LANCZOS, PROCESSOR
from spec_vla_ros.openvla.image import ImageTransform
from spec_vla_ros.openvla.loader import load_model
from spec_vla_ros.openvla.picture import PictureRule, jpeg_round_trip
from spec_vla_ros.policy import OpenVLAPolicy
from spec_vla_ros.policy_types import DecodeSettings
from spec_vla_ros.tabletop.arm import TabletopArm
from spec_vla_ros.tabletop.expert import expert_action
from spec_vla_ros.tabletop.tasks import TASKS, Layout
from spec_vla_ros.tabletop.training.rollout import EVALUATION_SEED

SETTINGS = DecodeSettings(preset="autoregressive")
STEPS = 10  # of the expert before a picture is taken, at most: the arm is seen on its way, too
TWICE, NOISE = f"JPEG, {EVALUATION}", f"noise, {LANCZOS}"  # a camera that compressed before; a scale for the rest
NOISE_LEVELS = 1.0  # of 255, standard deviation; less than a camera's own
PAIRS = ((PROCESSOR, EVALUATION), (LANCZOS, EVALUATION), (EVALUATION, TWICE), (LANCZOS, NOISE))


def images(width: int, height: int, count: int) -> Iterator[tuple[np.ndarray, str]]:
    """``count`` images of ``width`` x ``height`` px, each with an instruction; always the same ones."""
    arm = TabletopArm((height, width))
    try:
        for number in range(count):
            task = TASKS[number % len(TASKS)]
            arm.reset(Layout.sample(EVALUATION_SEED + number))
            for _ in range(number % STEPS):
                action = expert_action(arm, task)
                arm.apply_delta(action[:6], action[6])
            yield arm.render(), task.instruction
    finally:
        arm.close()


def noisy(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 with :data:`NOISE_LEVELS` of noise in every pixel, the same at every call."""
    noise = np.random.default_rng(0).normal(0.0, NOISE_LEVELS, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


BEFORE: dict[str, Callable[[np.ndarray], np.ndarray]] = {TWICE: jpeg_round_trip, NOISE: noisy}


def measure(
    model: Path, sizes: Sequence[tuple[int, int]], frames: int, say: Callable[[str], None], base_model: str = ""
) -> list[dict[str, Any]]:
    """One row per size (width, height), crop and pair of ways. ``base_model``: as the node's parameter."""
    loaded = load_model(model, device="cpu", base_model=base_model)
    first, rows = OpenVLAPolicy(loaded, planner=Planner.steady()), []
    for width, height in sizes:
        shown = list(images(width, height, frames))
        for crop in (False, True):
            answers = {}
            for way in dict.fromkeys(way for pair in PAIRS for way in pair):
                transform = ImageTransform(loaded.config, crop, way.split()[-1])
                changed = replace(loaded, transform=transform)
                policy = OpenVLAPolicy(changed, verifier=first.verifier, planner=Planner.steady())
                answers[way] = _answers(policy, BEFORE.get(way), shown)
            for pair in PAIRS:
                rows.append({"width": width, "height": height, "centre_crop": crop, "frames": frames}
                            | _compared(pair, answers))  # fmt: skip
                say(line(rows[-1]))
    return rows


def _answers(
    policy: OpenVLAPolicy, before: Callable[[np.ndarray], np.ndarray] | None, shown: Sequence[tuple[np.ndarray, str]]
) -> dict[str, Any]:
    """Pictures, bins and ms of this process's own time, so that others do not count."""
    rule: PictureRule = policy.loaded.transform.rule
    pictures, bins, cost = [], [], []
    for image, instruction in shown:
        began = time.process_time()
        given = before(image) if before else image
        pictures.append(rule.picture(given))
        cost.append(1e3 * (time.process_time() - began))
        policy.reset()
        bins.append(policy.infer(given, instruction, SETTINGS).bins)
    return {"pictures": np.stack(pictures).astype(int), "bins": np.stack(bins), "ms": statistics.median(cost)}


def _compared(pair: tuple[str, str], answers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    old, new = (answers[way] for way in pair)
    apart = np.abs(new["bins"] - old["bins"])
    return {
        "from": pair[0],
        "to": pair[1],
        "levels_mean": float(np.abs(new["pictures"] - old["pictures"]).mean()),
        "levels_max": int(np.abs(new["pictures"] - old["pictures"]).max()),
        "other_actions": int(apart.any(axis=1).sum()),
        "bins_mean": float(apart[:, :-1].mean()),
        "bins_max": int(apart[:, :-1].max()),
        "grippers": int((apart[:, -1] > apart.shape[1]).sum()),
        "ms": [old["ms"], new["ms"]],
    }


def line(row: dict[str, Any]) -> str:
    """A row in words."""
    crop = "centre crop" if row["centre_crop"] else "no crop"
    return (
        f"{row['width']}x{row['height']}, {crop}, {row['from']} -> {row['to']}: {row['levels_mean']:.2f} of 255 apart "
        f"(at most {row['levels_max']}); other actions on {row['other_actions']} of {row['frames']}, motions "
        f"{row['bins_mean']:.2f} bins on average, {row['bins_max']} at most; "
        f"{row['ms'][0]:.1f} -> {row['ms'][1]:.1f} ms"
    )
