"""``config.json`` and ``preprocessor_config.json``: to and from :class:`.config.OpenVLAConfig`.

Published files state only what differs from transformers' defaults; our dataclasses carry those defaults and the
file is laid over them. A field that would change the computation in a way this package does not implement is an
error, never ignored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from spec_vla_ros.errors import CheckpointError

from .config import DINOV2_VIT_L, SIGLIP_SO400M, LlamaConfig, OpenVLAConfig, TowerConfig

PUBLISHED_BACKBONES = {
    "dinosiglip-vit-so-224px": (DINOV2_VIT_L, SIGLIP_SO400M),
    "siglip-vit-so400m": (SIGLIP_SO400M,),
}
CUSTOM_BACKBONE = "custom"
RESIZE_STRATEGIES = ("resize-naive", "letterbox", "resize-crop")


def config_from_json(data: Mapping[str, Any]) -> OpenVLAConfig:
    """The architecture that ``config.json`` describes.

    ``vision_backbone_id`` names a published pair of towers, or starts with "custom", and then ``vision_towers``
    lists the fields of :class:`.config.TowerConfig` for each tower. Raises :class:`CheckpointError`.
    """
    if data.get("model_type") != "openvla":
        raise CheckpointError(f"config.json: model_type is {data.get('model_type')!r}, expected 'openvla'")
    if data.get("quantization_config"):
        raise CheckpointError("config.json: quantised checkpoints are not supported, use the bfloat16 weights")
    towers = _towers(data)
    llama = _llama(data.get("text_config") or {})
    strategy = data.get("image_resize_strategy", "resize-naive")
    if strategy not in RESIZE_STRATEGIES:
        raise CheckpointError(f"config.json: image_resize_strategy {strategy!r}; supported: {RESIZE_STRATEGIES}")
    config = OpenVLAConfig(
        towers=towers,
        llama=llama,
        vision_backbone_id=data["vision_backbone_id"],
        llm_backbone_id=data.get("llm_backbone_id", "llama2-7b-pure"),
        image_resize_strategy=strategy,
        pad_to_multiple_of=int(data.get("pad_to_multiple_of", 64)),
        n_action_bins=int(data.get("n_action_bins", 256)),
        pad_token_id=int(data.get("pad_token_id", 32000)),
    )
    if config.action_vocab_end <= config.n_action_bins:
        raise CheckpointError(
            f"config.json: vocab_size {llama.vocab_size} - pad_to_multiple_of {config.pad_to_multiple_of} leaves no "
            f"room for {config.n_action_bins} action tokens"
        )
    _cross_check(data, config)
    return config


def _towers(data: Mapping[str, Any]) -> tuple[TowerConfig, ...]:
    name = data.get("vision_backbone_id")
    if name in PUBLISHED_BACKBONES:
        return PUBLISHED_BACKBONES[name]
    if not str(name).startswith(CUSTOM_BACKBONE) or "vision_towers" not in data:
        raise CheckpointError(
            f"config.json: vision_backbone_id {name!r} is not supported; known: {sorted(PUBLISHED_BACKBONES)}, or "
            f"'{CUSTOM_BACKBONE}...' with the sizes under 'vision_towers'"
        )
    try:
        towers = tuple(
            TowerConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in tower.items()})
            for tower in data["vision_towers"]
        )
    except TypeError as error:
        raise CheckpointError(f"config.json: vision_towers: {error}") from error
    if len(towers) not in (1, 2):
        raise CheckpointError(f"config.json: vision_towers has {len(towers)} entries, expected 1 or 2")
    if len({(tower.image_size, tower.grid) for tower in towers}) > 1:
        raise CheckpointError("config.json: the towers differ in image size or in patches per side")
    for tower in towers:
        if tower.width % tower.heads or tower.image_size % tower.patch_size or tower.depth < 2:
            raise CheckpointError(f"config.json: impossible tower {tower}")
    return towers


def _llama(data: Mapping[str, Any]) -> LlamaConfig:
    if data.get("model_type", "llama") != "llama":
        raise CheckpointError(f"config.json: text_config.model_type {data['model_type']!r}, expected 'llama'")
    known = {field.name for field in dataclasses.fields(LlamaConfig)}
    values = {key: value for key, value in data.items() if key in known}
    rope = data.get("rope_parameters") or {}  # newer versions of transformers keep theta here
    if "rope_theta" in rope:
        values["rope_theta"] = rope["rope_theta"]
    llama = LlamaConfig(**values)
    only_supported = {
        "hidden_act": (data.get("hidden_act", "silu"), "silu"),
        "attention_bias": (data.get("attention_bias", False), False),
        "mlp_bias": (data.get("mlp_bias", False), False),
        "tie_word_embeddings": (data.get("tie_word_embeddings", False), False),
        "rope_scaling": (data.get("rope_scaling") or None, None),
        "rope_parameters.rope_type": (rope.get("rope_type", "default"), "default"),
        "num_key_value_heads": (
            data.get("num_key_value_heads") or llama.num_attention_heads,
            llama.num_attention_heads,
        ),
        "head_dim": (data.get("head_dim") or llama.head_dim, llama.head_dim),
    }
    for key, (value, expected) in only_supported.items():
        if value != expected:
            raise CheckpointError(f"config.json: text_config.{key} is {value!r}, only {expected!r} is supported")
    return llama


def _cross_check(data: Mapping[str, Any], config: OpenVLAConfig) -> None:
    """Fields that repeat what the towers already say must agree with them."""
    expected = {
        "use_fused_vision_backbone": config.fused,
        "arch_specifier": _arch_specifier(config),
        "image_sizes": [tower.image_size for tower in config.towers],
    }
    for key, value in expected.items():
        if data.get(key) is not None and data[key] != value:
            raise CheckpointError(
                f"config.json: {key} is {data[key]!r}, but {config.vision_backbone_id!r} means {value!r}"
            )


def check_preprocessor(data: Mapping[str, Any], config: OpenVLAConfig) -> None:
    """Raise :class:`CheckpointError` where ``preprocessor_config.json`` contradicts ``config.json``."""
    for key, value in preprocessor_to_json(config).items():
        if data.get(key) is not None and data[key] != value:
            raise CheckpointError(f"preprocessor_config.json: {key} is {data[key]!r}, config.json means {value!r}")


def _arch_specifier(config: OpenVLAConfig) -> str:
    return "no-align+fused-gelu-mlp" if config.fused else "no-align+gelu-mlp"


def config_to_json(config: OpenVLAConfig, dtype: torch.dtype) -> dict[str, Any]:
    """``config.json`` of a checkpoint; towers that are not a published pair are spelled out."""
    torch_dtype = str(dtype).removeprefix("torch.")
    data = {
        "model_type": "openvla",
        "architectures": ["OpenVLAForActionPrediction"],
        "vision_backbone_id": config.vision_backbone_id,
        "llm_backbone_id": config.llm_backbone_id,
        "arch_specifier": _arch_specifier(config),
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
    if PUBLISHED_BACKBONES.get(config.vision_backbone_id) != config.towers:
        if config.vision_backbone_id in PUBLISHED_BACKBONES:
            raise CheckpointError(
                f"the towers are not those of {config.vision_backbone_id!r}; choose an id that starts with "
                f"{CUSTOM_BACKBONE!r}, such as 'custom-dinosiglip'"
            )
        data["vision_towers"] = [dataclasses.asdict(tower) for tower in config.towers]
    return data


def preprocessor_to_json(config: OpenVLAConfig) -> dict[str, Any]:
    """``preprocessor_config.json``: what the published image processor would be told."""
    return {
        "use_fused_vision_backbone": config.fused,
        "image_resize_strategy": config.image_resize_strategy,
        "input_sizes": [[3, tower.image_size, tower.image_size] for tower in config.towers],
        "interpolations": ["bicubic" for _ in config.towers],
        "means": [list(tower.mean) for tower in config.towers],
        "stds": [list(tower.std) for tower in config.towers],
    }
