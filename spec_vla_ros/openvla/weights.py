"""Safetensors of a checkpoint into a model: every key accounted for before the first byte is copied.

The model is built on the meta device and filled file by file on the target device, so the peak of memory is the
model plus one tensor. Unknown, missing and wrong-shaped keys are errors that list the keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from spec_vla_ros.errors import CheckpointError
from spec_vla_ros.lfs_pointer import lfs_pointer

from .checkpoint import WEIGHTS_FILE, read_json
from .config import OpenVLAConfig
from .model import OpenVLA
from .quantize import QuantisedLinear, quantise_layers

INDEX_FILE = "model.safetensors.index.json"
LAYERS = "language_model.model.layers."
_BUFFER = re.compile(r".*\.rotary_emb\.inv_freq")
_GAMMA = re.compile(r"(.*\.ls[12])\.gamma")  # timm's name of LayerScale, as training files have it


def load_weights(
    folder: Path,
    config: OpenVLAConfig,
    device: torch.device | str,
    dtype: torch.dtype,
    kind: type[QuantisedLinear] | None = None,
) -> OpenVLA:
    """The model with the weights of ``folder``, on ``device`` in ``dtype``, frozen and in evaluation mode.

    ``kind``: of the decoder's layers if they are to be quantised (:mod:`.quantize`), each as soon as it is read.

    Raises :class:`CheckpointError` for missing shards, truncated files, and keys that do not fit ``config``.
    """
    with torch.device("meta"):
        model = OpenVLA(config)
    with ExitStack() as stack:
        shards = {path: stack.enter_context(open_shard(path, device)) for path in shard_paths(folder)}
        sources = account(shards, model, config)
        quantised = quantise_layers(model.language_model, kind, dtype) if kind else {}
        for path, shard in shards.items():
            state = {}
            for name, (at, key) in sources.items():
                if at != path:
                    continue
                part = quantised.get(name.removeprefix(LAYERS).removesuffix(".weight"))
                if part is not None:
                    part.fill(_read(shard, key, path).to(device))
                    continue
                # On the CPU it is a view of the mapped file, and a file that is truncated later would kill the process
                # (SIGBUS).
                tensor = _read(shard, key, path)
                state[name] = tensor.to(dtype, copy=tensor.device.type == "cpu").to(device)
            model.load_state_dict(state, strict=False, assign=True)
    left = [name for name, tensor in model.state_dict().items() if tensor.is_meta]
    if left:
        raise CheckpointError(f"weights were not loaded: {_list(left)}")
    return model.eval().requires_grad_(False)


def shard_paths(folder: Path) -> list[Path]:
    """The weight files of ``folder``: the single file, or all shards that the index names."""
    single, index = folder / WEIGHTS_FILE, folder / INDEX_FILE
    if single.is_file():
        return [single]
    if not index.is_file():
        raise CheckpointError(f"{folder} has neither {WEIGHTS_FILE} nor {INDEX_FILE}: the weights are missing")
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map")
    names = sorted(set(weight_map.values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"{folder} lacks {len(missing)} of {len(names)} shards: {_list(missing)}")
    for name in names:
        with open_shard(folder / name, "cpu") as shard:
            absent = {key for key, at in weight_map.items() if at == name} - set(shard.keys())
        if absent:
            raise CheckpointError(f"{name} lacks keys that the index promises: {_list(absent)}")
    return [folder / name for name in names]


def is_droppable(key: str, config: OpenVLAConfig) -> bool:
    """Keys that published files hold and the output does not depend on.

    The towers' features are taken before their last block, without the final norm and without pooling.
    """
    for name, tower in zip(("featurizer", "fused_featurizer"), config.towers, strict=False):
        prefix = f"vision_backbone.{name}."
        if key.startswith((prefix + "norm.", prefix + "attn_pool.", f"{prefix}blocks.{tower.used_depth}.")):
            return True
    return _BUFFER.fullmatch(key) is not None


def open_shard(path: Path, device: torch.device | str) -> Any:
    """A safetensors file, not read yet. Raises :class:`CheckpointError` for one that is none."""
    try:
        return safe_open(path, framework="pt", device=str(device))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(lfs_pointer(path) or f"{path} is truncated or not a safetensors file: {error}") from error


def account(shards: dict[Path, Any], model: OpenVLA, config: OpenVLAConfig) -> dict[str, tuple[Path, str]]:
    """Parameter name -> (file, key in it), after checking that names and shapes fit exactly."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    sources: dict[str, tuple[Path, str]] = {}
    unknown, wrong, twice = [], [], []
    for path, shard in shards.items():
        for key in shard.keys():  # noqa: SIM118 - a safetensors handle is not iterable
            gamma = _GAMMA.fullmatch(key)
            name = f"{gamma[1]}.scale_factor" if gamma else key
            if is_droppable(name, config):
                continue
            if name not in expected:
                unknown.append(key)
            elif name in sources:
                twice.append(key)
            elif (shape := tuple(shard.get_slice(key).get_shape())) != expected[name]:
                wrong.append(f"{key} {shape}, expected {expected[name]}")
            else:
                sources[name] = (path, key)
    missing = [name for name in expected if name not in sources and not any(w.startswith(name + " ") for w in wrong)]
    problems = {"unknown": unknown, "missing": missing, "of wrong shape": wrong, "stored twice": twice}
    if any(problems.values()):
        text = "; ".join(f"{len(keys)} {what}: {_list(keys)}" for what, keys in problems.items() if keys)
        raise CheckpointError(f"the tensors do not fit config.json: {text}")
    return sources


def _read(shard: Any, key: str, path: Path) -> torch.Tensor:
    """As it is stored; on the CPU a view of the mapped file."""
    try:
        tensor = shard.get_tensor(key)
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{path}: {key} is unreadable: {error}") from error
    if not tensor.is_floating_point():
        raise CheckpointError(f"{path}: {key} is {tensor.dtype}, expected floating point (quantised files are refused)")
    return tensor


def _list(keys: Iterable[str], limit: int = 12) -> str:
    keys = sorted(keys)
    return ", ".join(keys[:limit]) + (f", ... ({len(keys) - limit} more)" if len(keys) > limit else "")
