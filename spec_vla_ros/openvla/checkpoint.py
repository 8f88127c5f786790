"""A checkpoint folder in the Hugging Face layout of ``openvla/openvla-7b``: read its description, or write one.

The weights themselves are read by :mod:`.weights`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from spec_vla_ros.errors import CheckpointError

from .config import DINOV2_VIT_L, SIGLIP_SO400M, OpenVLAConfig
from .model import OpenVLA

CONFIG_FILE, STATISTICS_FILE, TOKENIZER_FILE = "config.json", "dataset_statistics.json", "tokenizer.json"
WEIGHTS_FILE = "model.safetensors"
KNOWN_BACKBONES = {
    "dinosiglip-vit-so-224px": (DINOV2_VIT_L, SIGLIP_SO400M),
    "siglip-vit-so400m": (SIGLIP_SO400M,),
}
CUSTOM_BACKBONE = "custom"


def save_checkpoint(
    model: OpenVLA,
    path: str | os.PathLike[str],
    statistics: Mapping[str, Any],
    tokenizer: Tokenizer,
    dtype: torch.dtype = torch.bfloat16,
) -> Path:
    """Write ``model`` as a checkpoint folder that :func:`.loader.load_model` reads; returns the folder.

    ``statistics``: ``{key: {"action": {"q01": [...], "q99": [...], "mask": [...], ...}}}``, written as
    ``dataset_statistics.json``. The weights are cast to ``dtype`` and written last, under a temporary name that is
    then renamed, so a folder that was interrupted has no weights instead of half of them. Blocks that contribute
    nothing to the output (the towers' last ones) are not stored; the reader treats them as optional.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / CONFIG_FILE, config_to_json(model.config, dtype))
    _write_json(folder / "preprocessor_config.json", _preprocessor_json(model.config))
    _write_json(folder / STATISTICS_FILE, dict(statistics))
    tokenizer.save(str(folder / TOKENIZER_FILE))
    state = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in model.state_dict().items()}
    temporary = folder / (WEIGHTS_FILE + ".part")
    save_file(state, temporary, metadata={"format": "pt"})
    temporary.chmod(0o644)
    os.replace(temporary, folder / WEIGHTS_FILE)
    return folder


def config_to_json(config: OpenVLAConfig, dtype: torch.dtype) -> dict[str, Any]:
    """``config.json`` of a checkpoint; towers that are not a published pair are spelled out."""
    torch_dtype = str(dtype).removeprefix("torch.")
    data = {
        "model_type": "openvla",
        "architectures": ["OpenVLAForActionPrediction"],
        "vision_backbone_id": config.vision_backbone_id,
        "llm_backbone_id": config.llm_backbone_id,
        "arch_specifier": "no-align+fused-gelu-mlp" if config.fused else "no-align+gelu-mlp",
        "use_fused_vision_backbone": config.fused,
        "image_resize_strategy": config.image_resize_strategy,
        "image_sizes": [tower.image_size for tower in config.towers],
        "pad_token_id": config.pad_token_id,
        "pad_to_multiple_of": config.pad_to_multiple_of,
        "n_action_bins": config.n_action_bins,
        "torch_dtype": torch_dtype,
        "text_config": {
            "model_type": "llama",
            "pad_token_id": config.pad_token_id,
            "torch_dtype": torch_dtype,
            **dataclasses.asdict(config.llama),
            "num_key_value_heads": config.llama.num_attention_heads,
        },
    }
    if KNOWN_BACKBONES.get(config.vision_backbone_id) != config.towers:
        if config.vision_backbone_id in KNOWN_BACKBONES:
            raise CheckpointError(
                f"the towers are not those of {config.vision_backbone_id!r}; choose an id that starts with "
                f"{CUSTOM_BACKBONE!r}, such as 'custom-dinosiglip'"
            )
        data["vision_towers"] = [dataclasses.asdict(tower) for tower in config.towers]
    return data


def _preprocessor_json(config: OpenVLAConfig) -> dict[str, Any]:
    return {
        "use_fused_vision_backbone": config.fused,
        "image_resize_strategy": config.image_resize_strategy,
        "input_sizes": [[3, tower.image_size, tower.image_size] for tower in config.towers],
        "interpolations": ["bicubic" for _ in config.towers],
        "means": [list(tower.mean) for tower in config.towers],
        "stds": [list(tower.std) for tower in config.towers],
    }


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
