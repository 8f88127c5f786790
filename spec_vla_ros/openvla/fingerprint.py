"""Which model answered: what decides its tokens, as JSON, so that labels and replays of another one are noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spec_vla_ros.file_digest import digest

from .loader import LoadedModel

MODEL_FILES = ("config.json", "tokenizer.json", "preprocessor_config.json", "adapter_config.json", "*.safetensors")


def fingerprint(loaded: LoadedModel) -> dict[str, Any]:
    """Which model answers, as JSON: its files, and what else decides its tokens."""
    folder, rule = Path(loaded.folder or loaded.source), loaded.transform.rule
    found = {
        "name": Path(loaded.source).name, "digest": _digest(folder), "precision": loaded.model.arithmetic,
        "unnorm_key": loaded.statistics.key, "prompt": loaded.prompt.rule,
        "centre_crop": rule.centre_crop, "image_resize": rule.resize,
    }  # fmt: skip
    if loaded.base is not None:  # an adapter alone decides nothing
        found["base"] = _digest(loaded.base)
    return found


def _digest(folder: Path) -> str:
    return digest(file for pattern in MODEL_FILES for file in folder.glob(pattern))
