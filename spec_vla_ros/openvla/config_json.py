"""``config.json`` and ``preprocessor_config.json``: to and from :class:`.config.OpenVLAConfig`.

Published files state only what differs from the defaults of the reference's classes, so a field that is missing means
that default, whatever the published models have there. A field that would change the computation in a way this package
does not implement is an error, never ignored.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

import torch

from spec_vla_ros.errors import CheckpointError

from .config import DINOV2_VIT_L, SIGLIP_SO400M, LlamaConfig, OpenVLAConfig, TowerConfig
from .picture import EVALUATION, IMAGE_RESIZES

PUBLISHED_BACKBONES = {
    "dinosiglip-vit-so-224px": (DINOV2_VIT_L, SIGLIP_SO400M),
    "siglip-vit-so400m": (SIGLIP_SO400M,),
}
CUSTOM_BACKBONE = "custom"
# Of the reference's configuration class; those of LlamaConfig are transformers' own.
DEFAULTS = {
    "vision_backbone_id": "siglip-vit-so400m", "llm_backbone_id": "vicuna-v15-7b", "image_resize_strategy": "letterbox",
    "pad_to_multiple_of": 64, "n_action_bins": 256, "pad_token_id": 32000, "text_config": {},
}  # fmt: skip
DEFAULT_VOCABULARY = 32000
LARGEST = 10**7  # of sizes; beyond it torch fails in its own words
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
    said = {key: data.get(key, default) for key, default in DEFAULTS.items()}
    if said["text_config"] is None:  # the one that may be null in the reference as well
        said["text_config"] = {}
    for key, default in DEFAULTS.items():
        if not isinstance(said[key], type(default)) or isinstance(said[key], bool):
            kind = {str: "a name", int: "a whole number", dict: "an object"}[type(default)]
            raise CheckpointError(f"config.json: {key} is {said[key]!r}, expected {kind}")
        if isinstance(default, int) and said[key] < 0:
            raise CheckpointError(f"config.json: {key} is {said[key]}, expected at least 0")
    towers = _towers(said["vision_backbone_id"], data)
    llama = _llama(said["text_config"])
    strategy = said["image_resize_strategy"]
    if strategy not in RESIZE_STRATEGIES:
        raise CheckpointError(f"config.json: image_resize_strategy {strategy!r}; supported: {RESIZE_STRATEGIES}")
    resize = data.get("image_resize", EVALUATION)  # ours; the reference ignores it
    if resize not in IMAGE_RESIZES:
        raise CheckpointError(f"config.json: image_resize {resize!r}; supported: {IMAGE_RESIZES}")
    config = OpenVLAConfig(
        towers=towers,
        llama=llama,
        vision_backbone_id=said["vision_backbone_id"],
        llm_backbone_id=said["llm_backbone_id"],
        image_resize_strategy=strategy,
        pad_to_multiple_of=said["pad_to_multiple_of"],
        n_action_bins=said["n_action_bins"],
        pad_token_id=said["pad_token_id"],
        image_resize=resize,
    )
    if config.n_action_bins < 2:
        raise CheckpointError(f"config.json: n_action_bins is {config.n_action_bins}, expected at least 2")
    if config.action_vocab_end <= config.n_action_bins:
        raise CheckpointError(
            f"config.json: vocab_size {llama.vocab_size} - pad_to_multiple_of {config.pad_to_multiple_of} leaves no "
            f"room for {config.n_action_bins} action tokens"
        )
    _cross_check(data, config)
    return config


def _towers(name: str, data: Mapping[str, Any]) -> tuple[TowerConfig, ...]:
    if name in PUBLISHED_BACKBONES:
        return PUBLISHED_BACKBONES[name]
    if not name.startswith(CUSTOM_BACKBONE) or "vision_towers" not in data:
        raise CheckpointError(
            f"config.json: vision_backbone_id {name!r} is not supported; known: {sorted(PUBLISHED_BACKBONES)}, or "
            f"'{CUSTOM_BACKBONE}...' with the sizes under 'vision_towers'"
        )
    try:
        towers = tuple(
            TowerConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in tower.items()})
            for tower in data["vision_towers"]
        )
        for tower in towers:
            _check_numbers(tower, "vision_towers")
    except (TypeError, AttributeError) as error:
        raise CheckpointError(f"config.json: vision_towers: {error}") from error
    if len(towers) not in (1, 2):
        raise CheckpointError(f"config.json: vision_towers has {len(towers)} entries, expected 1 or 2")
    if len({(tower.image_size, tower.grid) for tower in towers}) > 1:
        raise CheckpointError("config.json: the towers differ in image size or in patches per side")
    for tower in towers:
        if tower.width % tower.heads or tower.image_size % tower.patch_size or tower.depth < 2:
            raise CheckpointError(f"config.json: impossible tower {tower}")
    return towers


def _check_numbers(config: TowerConfig | LlamaConfig, where: str) -> None:
    """Raise :class:`CheckpointError` for a size that is none."""
    for field in dataclasses.fields(config):
        value, default = getattr(config, field.name), field.default
        if isinstance(default, bool | tuple):
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        whole = not isinstance(default, float)
        if (
            not number
            or (whole and not isinstance(value, int))
            or not 0 <= value <= (LARGEST if whole else sys.float_info.max)
        ):
            kind = f"a whole number from 0 to {LARGEST}" if whole else "a number from 0"
            raise CheckpointError(f"config.json: {where}.{field.name} is {value!r}, expected {kind}")
        if value == 0 and field.name != "registers":
            raise CheckpointError(f"config.json: {where}.{field.name} is 0")


def _llama(data: Mapping[str, Any]) -> LlamaConfig:
    if data.get("model_type", "llama") != "llama":
        raise CheckpointError(f"config.json: text_config.model_type {data['model_type']!r}, expected 'llama'")
    known = {field.name for field in dataclasses.fields(LlamaConfig)}
    values = {"vocab_size": DEFAULT_VOCABULARY} | {key: value for key, value in data.items() if key in known}
    rope = data.get("rope_parameters") or {}  # newer versions of transformers keep theta here
    if not isinstance(rope, Mapping):
        raise CheckpointError(f"config.json: text_config.rope_parameters is {rope!r}, expected an object")
    if "rope_theta" in rope:
        values["rope_theta"] = rope["rope_theta"]
    llama = LlamaConfig(**values)
    _check_numbers(llama, "text_config")
    if llama.hidden_size % llama.num_attention_heads:
        raise CheckpointError(
            f"config.json: text_config.hidden_size {llama.hidden_size} is no multiple of num_attention_heads "
            f"{llama.num_attention_heads}"
        )
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
    if config.image_resize != EVALUATION:
        data["image_resize"] = config.image_resize
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
