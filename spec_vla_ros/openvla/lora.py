"""Un-merged LoRA adapters (arXiv 2106.09685): W += (alpha / r) * B @ A on the loaded weights."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from spec_vla_ros.errors import CheckpointError

from .checkpoint import ADAPTER_CONFIG_FILE, read_json
from .model import OpenVLA
from .weights import is_droppable

ADAPTER_FILE = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_UNSUPPORTED = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save", "fan_in_fan_out")


@torch.no_grad()
def merge_adapter(model: OpenVLA, folder: Path) -> int:
    """Add the adapter in ``folder`` to ``model`` in place; returns the number of matrices changed.

    The product is formed in float32. Variants that need more than the plain formula (DoRA, rsLoRA, per-module
    ranks, biases, saved modules) and keys that fit no weight raise :class:`CheckpointError`.
    """
    config = read_json(folder / ADAPTER_CONFIG_FILE)
    refused = [key for key in _UNSUPPORTED if config.get(key)]
    if config.get("bias", "none") != "none":
        refused.append("bias")
    if config.get("peft_type", "LORA") != "LORA" or refused:
        raise CheckpointError(f"{folder}: only plain LoRA can be merged; the adapter sets {refused or 'peft_type'}")
    try:
        scale = float(config["lora_alpha"]) / float(config["r"])
        tensors = load_file(folder / ADAPTER_FILE)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: unreadable adapter: {error!r}") from error

    weights = dict(model.named_parameters())
    left = set(tensors)
    for key in sorted(tensors):
        if not key.endswith(".lora_A.weight"):
            continue
        name = key.removeprefix(_PREFIX).removesuffix(".lora_A.weight") + ".weight"
        down, up = tensors[key], tensors.get(key.replace(".lora_A.", ".lora_B."))
        if up is None:
            continue
        left -= {key, key.replace(".lora_A.", ".lora_B.")}
        if is_droppable(name, model.config):
            continue
        if name not in weights or weights[name].shape != (up.shape[0], down.shape[1]):
            raise CheckpointError(f"{folder}: {key} fits no weight of the base model")
        delta = (up.float() @ down.float()) * scale
        weight = weights[name]
        weight.copy_((weight.float() + delta.to(weight.device)).to(weight.dtype))
    if left:
        raise CheckpointError(f"{folder}: keys that are not plain LoRA matrices: {sorted(left)[:12]}")
    return sum(key.endswith(".lora_A.weight") for key in tensors)
