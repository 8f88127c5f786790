"""What a path is, and where a hub id lies on this machine. Nothing is downloaded for an inspection."""

from __future__ import annotations

import json
import os
from pathlib import Path

from spec_vla_ros.decoding.heads.store import FOLDER, PUBLISHED_WEIGHTS, WEIGHTS
from spec_vla_ros.errors import CheckpointError
from spec_vla_ros.openvla.checkpoint import ADAPTER_CONFIG_FILE, CONFIG_FILE, resolve

from .headers import read_safetensors

BAG_SUFFIXES = (".mcap", ".db3")
HEAD_NAMES = ("vision", "eagle")
MODEL, HEAD, BAG, UNKNOWN = "model", "head", "bag", "unknown"


def kind_of(name: str) -> str:
    """MODEL, HEAD, BAG, or UNKNOWN for what is none of them."""
    path = Path(name).expanduser()
    if not path.exists():
        return MODEL if looks_like_hub_id(name) else UNKNOWN
    if path.is_file():
        return BAG if path.suffix in BAG_SUFFIXES else MODEL if path.suffix == ".pt" else UNKNOWN
    if (path / "metadata.yaml").is_file() or any(file.suffix in BAG_SUFFIXES for file in path.iterdir()):
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
    """As :func:`..openvla.checkpoint.resolve` decides."""
    return not name.startswith((".", "/", "~")) and name.count("/") == 1


def local_folder(name: str | os.PathLike[str], revision: str | None = None) -> Path:
    """The folder that ``name`` means: itself, or the snapshot of a hub id in the local cache.

    Raises :class:`CheckpointError`; unlike :func:`..openvla.checkpoint.resolve` it never asks the hub.
    """
    text = os.fspath(name)
    if Path(text).expanduser().exists() or not looks_like_hub_id(text):
        return resolve(text)
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(text, revision=revision, local_files_only=True))
    except Exception as error:  # the hub client raises many unrelated types
        raise CheckpointError(
            f"{text} is no folder here and not in the local cache of the hub ({type(error).__name__}); "
            "an inspection downloads nothing"
        ) from error


def _config(folder: Path) -> dict:
    try:
        data = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
