"""One evaluated episode: a policy drives a world that waits for it. No simulator, no torch, no ROS."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from spec_vla_ros.errors import SpecVlaError
from spec_vla_ros.policy_types import DecodeSettings, Policy

from .protocol import Suite, env_action, episode_seed, model_picture


class World(Protocol):
    """What an episode needs of :class:`.libero_world.LiberoWorld`."""

    tasks: tuple[str, ...]

    def reset(self, task: int, trial: int, seed: int) -> np.ndarray:
        """Begin an episode; (H, W, 3) uint8, as rendered."""
        ...

    def step(self, action: np.ndarray) -> tuple[np.ndarray, bool]:
        """Carry out (7,) ``action``; picture and whether the task is done."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...


@dataclass(frozen=True)
class LiberoEpisode:
    """One entry per action: passes of the language model, drafts accepted in the first pass and in all, ms.

    ``error``: name of the fault that ended the episode, which then counts as failed; "" if there was none.
    ``seconds``: wall time of the whole episode, the reset included.
    """

    success: bool
    passes: tuple[int, ...]
    accepted_first: tuple[int, ...]
    accepted: tuple[int, ...]
    ms: tuple[float, ...]
    seconds: float
    instruction: str = ""
    error: str = ""


def run_episode(
    world: World,
    policy: Policy,
    settings: DecodeSettings,
    suite: Suite,
    task: int,
    trial: int,
    seed: int = 0,
    size: int = 224,
    stopped: Callable[[], bool] = lambda: False,
) -> LiberoEpisode | None:
    """Act until the task is done or the suite's limit of actions is reached; None if ``stopped`` came first.

    ``size``: px of the picture that the policy gets. An action that the policy refuses to give (no action token, not
    finite) ends the episode as a failure, as an exception does in the original; whatever the simulator raises is not
    caught, since it says nothing about the policy.
    """
    began = time.monotonic()
    passes, first, accepted, ms = [], [], [], []
    policy.reset()
    rendered = world.reset(task, trial, episode_seed(seed, trial))
    success, error = False, ""
    while not success and len(passes) < suite.steps:
        if stopped():
            return None
        try:
            result = policy.infer(model_picture(rendered, size), world.tasks[task], settings)
        except SpecVlaError as fault:
            error = fault.fault
            break
        report = result.report
        passes.append(report.verifier_passes)
        first.append(report.accepted_per_pass[0] if report.accepted_per_pass else 0)
        accepted.append(report.accepted_tokens)
        ms.append(round(report.total_ms, 3))
        rendered, success = world.step(env_action(result.values))
    seconds = round(time.monotonic() - began, 2)
    return LiberoEpisode(
        success, tuple(passes), tuple(first), tuple(accepted), tuple(ms), seconds, world.tasks[task], error
    )
