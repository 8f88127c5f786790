"""Memory that a model needs, computed from its shapes; nothing is allocated and nothing was measured.

Not counted: activations, the context of CUDA, recorded graphs, and what allocators keep for later.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace

import torch

from spec_vla_ros.decoding.drafters.eagle import eagle_slots
from spec_vla_ros.decoding.verifier import cache_slots
from spec_vla_ros.openvla.config import OpenVLAConfig
from spec_vla_ros.openvla.llama import KVCache
from spec_vla_ros.openvla.model import OpenVLA
from spec_vla_ros.openvla.precisions import QUANTISED
from spec_vla_ros.openvla.quantize import QuantisedLinear, quantise_layers

from .findings import Report, size_of
from .heads import Head

FLOATS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def meta_model(config: OpenVLAConfig) -> OpenVLA:
    """The model without its numbers."""
    with torch.device("meta"):
        return OpenVLA(config)


def weight_bytes(config: OpenVLAConfig, precision: str) -> int:
    """Of the weights in "float32", "bfloat16" or a quantised precision, with which the rest is bfloat16."""
    model = meta_model(config)
    dtype = FLOATS.get(precision, torch.bfloat16)
    if precision in QUANTISED:
        quantise_layers(model.language_model, QUANTISED[precision], dtype)
    plain = sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize
    packed = [layer for layer in model.modules() if isinstance(layer, QuantisedLinear)]
    return plain + sum(layer.stored_bytes(layer.in_features, layer.out_features, dtype.itemsize) for layer in packed)


def cache_bytes(config: OpenVLAConfig, action_dim: int, precision: str) -> int:
    """Of the key/value cache that the verifier allocates."""
    slots = cache_slots(_loaded(config, action_dim))
    return KVCache(config.llama, slots, "meta", FLOATS.get(precision, torch.bfloat16)).data.nbytes


def eagle_cache_bytes(config: OpenVLAConfig, action_dim: int, precision: str) -> int:
    """Of the key/value cache of the eagle head, which has one layer."""
    slots, layer = eagle_slots(_loaded(config, action_dim)), replace(config.llama, num_hidden_layers=1)
    return KVCache(layer, slots, "meta", FLOATS.get(precision, torch.bfloat16)).data.nbytes


def inspect_memory(report: Report, config: OpenVLAConfig, action_dim: int, heads: Iterable[Head]) -> None:
    """A table of precisions."""
    section = report.section("memory, computed from the shapes, without activations and CUDA's own (GB = 10^9 bytes)")
    counts = {head.type: head.parameters for head in heads}
    for precision in (*FLOATS, *QUANTISED):
        other = FLOATS.get(precision, torch.bfloat16).itemsize
        # Heads compute in the model's type, and the eagle head has a cache of its own.
        cache = cache_bytes(config, action_dim, precision)
        drafting = other * (counts.get("vision", 0) + counts.get("eagle", 0))
        drafting += eagle_cache_bytes(config, action_dim, precision) if "eagle" in counts else 0
        figures = {"weights": weight_bytes(config, precision), "KV cache": cache, "draft heads": drafting}
        figures["total"] = sum(figures.values())
        section.table.append(
            {"precision": (precision, precision), **{name: (size_of(n), n) for name, n in figures.items()}}
        )
    section.add("float8, int8, ...", "only the language model's layers; the rest stays bfloat16")


def _loaded(config: OpenVLAConfig, action_dim: int) -> SimpleNamespace:
    """As much of a loaded model as decides how large caches are."""
    return SimpleNamespace(config=config, statistics=SimpleNamespace(action_dim=action_dim))
