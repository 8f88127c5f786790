"""Heads on disk: ``drafters/<name>/config.json`` and ``model.safetensors`` in the folder of their verifier."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from spec_vla_ros.decoding.drafters.base import Drafter
from spec_vla_ros.decoding.drafters.vision import Vision
from spec_vla_ros.errors import CheckpointError
from spec_vla_ros.openvla.loader import LoadedModel

from .vision_head import VisionHead, VisionHeadConfig

FOLDER = "drafters"


def trained_drafters(loaded: LoadedModel, folder: Path) -> tuple[dict[str, Callable[[], Drafter]], list[str]]:
    """Drafters whose heads lie in ``folder``, and what is wrong with the others, one line each.

    A head that is missing or does not fit costs speed and not correctness, so it is never an error.
    """
    found: dict[str, Callable[[], Drafter]] = {}
    problems = []
    if (folder / Vision.name).is_dir():
        config = loaded.config
        sizes = (config.llama.hidden_size, config.towers[0].patches, loaded.statistics.action_dim)
        try:
            head = load_vision_head(folder / Vision.name, *sizes, loaded.model.device)
            found[Vision.name] = functools.partial(Vision, head)
        except CheckpointError as error:
            problems.append(str(error))
    return found, problems


def save_head(head: VisionHead, folder: Path, about: dict[str, Any]) -> None:
    """Write ``head`` in half precision; ``about``: how it came about, for people."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: p.detach().to(torch.float16).contiguous() for name, p in head.state_dict().items()},
              folder / "model.safetensors")  # fmt: skip
    text = json.dumps({"type": "vision", **head.config.to_dict(), "about": about}, indent=2)
    (folder / "config.json").write_text(text + "\n")


def load_vision_head(folder: Path, hidden: int, patches: int, action_dim: int, device: torch.device) -> VisionHead:
    """Read a head in float32 on ``device``. Raises :class:`CheckpointError` where it does not fit its verifier."""
    try:
        stored = json.loads((folder / "config.json").read_text())
        stored.pop("about", None)
        kind = stored.pop("type", None)
        config = VisionHeadConfig(**stored)
        state = load_file(folder / "model.safetensors", device="cpu")
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"the draft head in {folder} is unreadable: {error}") from error
    if kind != "vision":
        raise CheckpointError(f"{folder} holds a head of type {kind!r}, expected 'vision'")
    expected = {"hidden": hidden, "patches": patches, "action_dim": action_dim}
    wrong = {name: getattr(config, name) for name, value in expected.items() if getattr(config, name) != value}
    if wrong:
        raise CheckpointError(f"the draft head in {folder} was made for another model: {wrong}, expected {expected}")
    head = VisionHead(config)
    try:
        head.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    except RuntimeError as error:
        raise CheckpointError(f"the draft head in {folder} does not fit its config.json: {error}") from error
    return head.to(device).eval().requires_grad_(False)
