"""What a path is, and where a hub id lies on this machine. Nothing is downloaded for an inspection."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from spec_vla_ros.data_formats import is_lerobot
from spec_vla_ros.decoding.heads.store import FOLDER, PUBLISHED_WEIGHTS, WEIGHTS
from spec_vla_ros.errors import CheckpointError
from spec_vla_ros.openvla.checkpoint import ADAPTER_CONFIG_FILE, CONFIG_FILE
from spec_vla_ros.openvla.sources import local_folder, refusal
from spec_vla_ros.recordings.layout import storage_suffix

from .headers import read_safetensors

HEAD_NAMES = ("vision", "eagle")
MODEL, HEAD, BAG, DATA_SET, UNKNOWN = "model", "head", "bag", "data set", "unknown"


def kind_of(name: str) -> str:
    """MODEL, HEAD, BAG, DATA_SET (of LeRobot), or UNKNOWN. ``OSError`` for what cannot be looked at."""
    path = place_of(name)
    if not path.exists():
        # Two parts may be a hub id; what they are taken for, and why, is said by who looks for a model.
        hub_id = len(path.parts) == 2 and not path.is_absolute() and not path.is_symlink()
        return MODEL if hub_id else UNKNOWN
    if path.is_file():
        return BAG if storage_suffix(path) else MODEL if path.suffix == ".pt" else UNKNOWN
    if is_lerobot(path):
        return DATA_SET
    if (path / "metadata.yaml").is_file() or any(map(storage_suffix, path.iterdir())):
        return BAG
    if (path / ADAPTER_CONFIG_FILE).is_file():
        return MODEL
    if head_type(path) or (not (path / CONFIG_FILE).is_file() and head_folders(path)):
        return HEAD
    if (path / CONFIG_FILE).is_file() or any(path.glob("*.safetensors*")):
        return MODEL
    return MODEL if any(path.glob("*.pt")) or any(path.glob("checkpoints/*.pt")) else UNKNOWN


def head_type(folder: Path) -> str:
    """Name of the drafter whose head ``folder`` holds, empty if it holds none; ``folder`` may be damaged."""
    about = _config(folder)
    if about.get("type") in HEAD_NAMES:
        return str(about["type"])
    if about.get("model_type") in ("openvla", "prismatic"):
        return ""
    if (folder / PUBLISHED_WEIGHTS).is_file():
        return "eagle"
    if (folder / WEIGHTS).is_file():
        try:
            names = read_safetensors(folder / WEIGHTS)
        except CheckpointError:
            names = {}
        if {"fc.weight", "module.fc.weight"} & names.keys():
            return "eagle"
    # Damaged beyond recognition: then the name is what the node goes by.
    return folder.name if folder.name in HEAD_NAMES and folder.is_dir() else ""


def head_folders(folder: Path) -> list[Path]:
    """The heads in ``folder``: itself, its ``vision/`` and ``eagle/``, or those in its ``drafters/``."""
    if head_type(folder):
        return [folder]
    for place in (folder, folder / FOLDER):
        if found := [place / name for name in HEAD_NAMES if (place / name).is_dir()]:
            return found
    return []


def looks_like_hub_id(name: str) -> bool:
    """Whether :func:`..openvla.sources.locate` would look for it on the hub, were it not here."""
    return not refusal(name)


def place_of(name: str) -> Path:
    """Where ``name`` is, as the node finds it: here, else among the package's own files."""
    path = Path(os.path.expanduser(name))
    if not os.path.lexists(path):
        with contextlib.suppress(CheckpointError):
            return local_folder(name) or path
    return path


def _config(folder: Path) -> dict:
    try:
        data = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
