"""What a run of the LIBERO evaluation is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spec_vla_ros.decoding.presets import PRESETS
from spec_vla_ros.policy_types import DecodeSettings

from .protocol import STATES, TASKS

Key = tuple[str, int, int]  # preset, task, trial


@dataclass(frozen=True)
class Options:
    """What the command line says. ``radius``: bins. ``devices``: of torch, given to the workers in turn."""

    suite: str
    model: str
    work: Path
    presets: tuple[str, ...] = tuple(PRESETS)
    radius: int = DecodeSettings.acceptance_radius
    trials: int = STATES
    tasks: tuple[int, ...] = tuple(range(TASKS))
    seed: int = 0
    workers: int = 1
    devices: tuple[str, ...] = ("auto",)
    dtype: str = "auto"
    unnorm_key: str = ""
    base_model: str = ""
    heads: Path | None = None
    assets: Path | None = None
    revision: str = ""

    def settings(self, preset: str) -> DecodeSettings:
        """How episodes of ``preset`` are decoded."""
        return DecodeSettings(preset=preset, acceptance_radius=self.radius)

    def identity(self) -> dict[str, Any]:
        """What all episodes of one work folder have in common."""
        heads = None if self.heads is None else str(self.heads)
        names = ("suite", "model", "radius", "seed", "dtype", "unnorm_key")
        base = {"base_model": self.base_model} if self.base_model else {}
        same = {name: getattr(self, name) for name in names}
        return {**same, "heads": heads, "revision": self.revision or None, **base}

    def plan(self) -> list[Key]:
        """Every episode, in the order in which they run: a scene is built once per preset, task and worker."""
        return [(preset, task, trial) for preset in self.presets for task in self.tasks for trial in range(self.trials)]
