"""Un-merged LoRA adapters (arXiv 2106.09685): W += (alpha / r) * B @ A on the loaded weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from spec_vla_ros.errors import CheckpointError
from spec_vla_ros.lfs_pointer import lfs_pointer

from .checkpoint import ADAPTER_CONFIG_FILE, read_json
from .model import OpenVLA
from .weights import is_droppable

ADAPTER_FILE = "adapter_model.safetensors"
_PREFIX = "base_model.model."
# Fields that change what an adapter computes, where they are set to anything.
_UNSUPPORTED = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save", "fan_in_fan_out")
_UNSUPPORTED += ("lora_bias", "use_qalora", "use_bdlora", "layer_replication", "trainable_token_indices")
_UNSUPPORTED += ("target_parameters", "alora_invocation_tokens", "arrow_config")
# Initialisations that leave the base as it was. All others (PiSSA, OLoRA, CorDA, LoftQ, ...) take something out of its
# weights when training begins, and the adapter is to be added to what is left; so will one that nobody knows yet.
_KEEP_BASE = ("gaussian", "eva", "orthogonal")


def refused_fields(config: Mapping[str, Any]) -> list[str]:
    """Fields of ``adapter_config.json`` that ask for more than plain LoRA, with their values where these decide."""
    refused = [key for key in _UNSUPPORTED if config.get(key)]
    if config.get("bias") not in (None, "none"):
        refused.append("bias")
    start = config.get("init_lora_weights", True)
    if not (start is None or isinstance(start, bool) or str(start).lower() in _KEEP_BASE):
        refused.append(f"init_lora_weights {start!r}, which changed the base model")
    if config.get("peft_type", "LORA") != "LORA":
        refused.append(f"peft_type {config['peft_type']!r}")
    return refused


def check_adapter(folder: Path) -> float:
    """What B @ A of the adapter in ``folder`` is multiplied by. Raises :class:`CheckpointError` for other variants."""
    config = read_json(folder / ADAPTER_CONFIG_FILE)
    if refused := refused_fields(config):
        raise CheckpointError(f"{folder}: only plain LoRA can be merged; the adapter sets {', '.join(refused)}")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in (rank, alpha)):
        raise CheckpointError(f"{folder}: unreadable adapter: rank {rank!r}, alpha {alpha!r}")
    if rank <= 0:
        raise CheckpointError(f"{folder}: unreadable adapter: rank {rank!r}")
    return float(alpha) / float(rank)


@torch.no_grad()
def merge_adapter(model: OpenVLA, folder: Path) -> int:
    """Add the adapter in ``folder`` to ``model`` in place; returns the number of matrices changed.

    The product is formed in float32. Variants that need more than the plain formula (DoRA, rsLoRA, per-module
    ranks, biases, saved modules, initialisations that changed the base) and keys that fit no weight raise
    :class:`CheckpointError`.
    """
    scale, rank = check_adapter(folder), read_json(folder / ADAPTER_CONFIG_FILE)["r"]
    try:
        tensors = load_file(folder / ADAPTER_FILE)
    except (ValueError, OSError, SafetensorError) as error:
        pointer = lfs_pointer(folder / ADAPTER_FILE)
        raise CheckpointError(pointer or f"{folder}: unreadable adapter: {error!r}") from error

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
        if down.shape[0] != rank:  # else the factor would be that of another rank
            raise CheckpointError(f"{folder}: {key} has rank {down.shape[0]}, adapter_config.json says {rank}")
        delta = (up.float() @ down.float()) * scale
        weight = weights[name]
        weight.copy_((weight.float() + delta.to(weight.device)).to(weight.dtype))
    if left:
        raise CheckpointError(f"{folder}: keys that are not plain LoRA matrices: {sorted(left)[:12]}")
    return sum(key.endswith(".lora_A.weight") for key in tensors)
