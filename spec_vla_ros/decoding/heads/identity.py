"""What decides the actions of a model with its heads, as JSON: in recordings and in replays of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spec_vla_ros.file_digest import digest
from spec_vla_ros.openvla.fingerprint import fingerprint
from spec_vla_ros.openvla.loader import LoadedModel


def identity(loaded: LoadedModel, heads: Path, names: Iterable[str]) -> dict[str, Any]:
    """Digests of the model's files, of its statistics and of the heads ``names`` in the folder ``heads``, and what else
    decides: prompt, statistics key, picture, precision.
    """
    files, statistics = fingerprint(loaded), loaded.statistics
    numbers = [values.tolist() for values in (statistics.q01, statistics.q99, statistics.mask)]
    return {
        "model_digest": files["digest"], "prompt": files["prompt"], "base_digest": files.get("base", ""),
        "unnorm_key": statistics.key,
        "statistics_digest": hashlib.sha256(json.dumps(numbers).encode()).hexdigest()[:16],
        "image_resize": files["image_resize"], "centre_crop": files["centre_crop"],
        "heads_digest": {name: digest(_head_files(heads / name)) for name in sorted(names)},
        "dtype": loaded.model.arithmetic,
    }  # fmt: skip


def _head_files(folder: Path) -> list[Path]:
    """What a head is made of; not the report beside it."""
    return [path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin") or path.name == "config.json"]
