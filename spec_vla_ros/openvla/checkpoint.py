"""Checkpoint folders in the Hugging Face layout of ``openvla/openvla-7b``: describe, write.

Where they are is said by :mod:`.sources`; ``config.json`` is translated by :mod:`.config_json`; the weights are read by
:mod:`.weights`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from spec_vla_ros.errors import CheckpointError
from spec_vla_ros.lfs_pointer import lfs_pointer
from spec_vla_ros.outputs import whole, write_text, writing

from .config import OpenVLAConfig
from .config_json import check_preprocessor, config_from_json, config_to_json, preprocessor_to_json
from .file_stamps import FileStamps
from .folder_check import check_folder
from .sources import Source, locate, of_a_cache

if TYPE_CHECKING:
    from .model import OpenVLA

CONFIG_FILE, PREPROCESSOR_FILE = "config.json", "preprocessor_config.json"
STATISTICS_FILE, TOKENIZER_FILE, WEIGHTS_FILE = "dataset_statistics.json", "tokenizer.json", "model.safetensors"
ADAPTER_CONFIG_FILE = "adapter_config.json"
NAME_IT = "base_model (on the command line --base-model) names its folder or hub id"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder without its weights.

    ``statistics``: ``{key: {"action": {...}}}`` of ``dataset_statistics.json``, else of ``config.json``.
    ``adapter``: folder of an un-merged LoRA adapter to be added to the weights in ``folder``, or None.
    ``base``: where the base model of that adapter comes from.
    ``files``: of ``folder`` and ``adapter``, as they were before any of them was read.
    """

    folder: Path
    config: OpenVLAConfig
    statistics: Mapping[str, Any]
    tokenizer: Tokenizer
    adapter: Path | None = None
    base: Source | None = None
    files: FileStamps = field(default_factory=FileStamps)


def read_checkpoint(folder: Path, base_model: str = "") -> Checkpoint:
    """Describe the checkpoint in ``folder``. A LoRA folder brings its base model along, from where it says or from
    ``base_model`` (see :func:`base_of`). Raises CheckpointError.
    """
    check_folder(folder)
    if (folder / ADAPTER_CONFIG_FILE).is_file():
        return _read_adapter(folder, base_model)
    if base_model:
        raise CheckpointError(
            f"{folder} is no LoRA adapter, so base_model {base_model} has no effect: leave it away, or name the "
            "adapter as the model"
        )
    files = FileStamps(folder)
    if not (folder / CONFIG_FILE).is_file():
        if list(folder.glob("*.pt")) or list(folder.glob("checkpoints/*.pt")):
            raise CheckpointError(
                f"{folder} holds Prismatic training files (*.pt); convert them to the Hugging Face layout first "
                "(convert_openvla_weights_to_hf.py of the OpenVLA repository)"
            )
        raise CheckpointError(f"{folder} has no {CONFIG_FILE}: not a checkpoint, or its download is unfinished")
    data = read_json(folder / CONFIG_FILE)
    config = config_from_json(data)
    if (folder / PREPROCESSOR_FILE).is_file():
        check_preprocessor(read_json(folder / PREPROCESSOR_FILE), config)
    # Fine-tunes keep the base model's statistics in config.json, so the separate file replaces them altogether.
    statistics = data.get("norm_stats") or {}
    if (folder / STATISTICS_FILE).is_file():
        statistics = read_json(folder / STATISTICS_FILE)
    return Checkpoint(folder, config, statistics, read_tokenizer(folder), files=files)


def _read_adapter(folder: Path, base_model: str) -> Checkpoint:
    files = FileStamps(folder)
    source = base_of(folder, base_model)
    base = read_checkpoint(source.folder)
    statistics = base.statistics
    if (folder / STATISTICS_FILE).is_file():
        statistics = read_json(folder / STATISTICS_FILE)
    files.extend(base.files)
    return Checkpoint(base.folder, base.config, statistics, base.tokenizer, folder, source, files)


def base_of(folder: Path, base_model: str = "", *, download: bool = True) -> Source:
    """Where the base model of the LoRA adapter in ``folder`` comes from; ``download`` as in :func:`.sources.locate`.

    The adapter's own file names and pins it: ``revision`` there, or the commit where it names a snapshot in the hub's
    cache of the machine that trained it. ``base_model``: a folder, a hub id or "hub id@revision" in place of that, for
    an adapter whose file names a folder of another machine. Raises :class:`CheckpointError`.
    """
    adapter = read_json(folder / ADAPTER_CONFIG_FILE)
    name = base_model or adapter.get("base_model_name_or_path")
    if not name or not isinstance(name, str):
        raise CheckpointError(f"{folder / ADAPTER_CONFIG_FILE} does not name its base model; {NAME_IT}")
    wanted, revision = name, adapter.get("revision")
    if base_model:
        wanted, revision = (name, None) if os.path.lexists(os.path.expanduser(name)) else _with_revision(name)
    elif not os.path.exists(os.path.expanduser(name)):
        wanted, revision = of_a_cache(name) or (name, revision)
    try:
        source = locate(wanted, revision, download=download)
    except CheckpointError as error:
        raise CheckpointError(f"the base model of the adapter in {folder}: {error}; {NAME_IT}") from error
    if (source.folder / ADAPTER_CONFIG_FILE).is_file():
        raise CheckpointError(f"{folder}: the base model {name} is itself an un-merged adapter; {NAME_IT}")
    return dataclasses.replace(source, pin="Set base_model to {repository}@{commit}")


def _with_revision(name: str) -> tuple[str, str | None]:
    """Hub id and revision of "owner/name@revision"."""
    repository, _, revision = name.partition("@")
    return repository, revision or None


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of the checkpoint in ``folder``. Raises :class:`CheckpointError`."""
    path = folder / TOKENIZER_FILE
    if not path.is_file():
        raise CheckpointError(f"{folder} has no {TOKENIZER_FILE}")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the tokenizers library raises plain Exception
        raise CheckpointError(lfs_pointer(path) or f"{path} is unreadable: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; :class:`CheckpointError` if it is missing, cut short or not an object."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(lfs_pointer(path) or f"{path} is unreadable: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return data


def save_checkpoint(
    model: OpenVLA,
    path: str | os.PathLike[str],
    statistics: Mapping[str, Any],
    tokenizer: Tokenizer,
    dtype: torch.dtype = torch.bfloat16,
) -> Path:
    """Write ``model`` as a folder that :func:`.model.load_model` reads; returns the folder.

    ``statistics``: ``{key: {"action": {"q01": [...], "q99": [...], "mask": [...], ...}}}``, written as
    ``dataset_statistics.json``. The weights are cast to ``dtype`` and written last, whole or not at all, so a folder
    that was interrupted has no weights instead of half of them. Blocks that contribute nothing to the output (the
    towers' last ones) are not stored; the reader treats them as optional. Raises :class:`..outputs.OutputError`.
    """
    folder = Path(path)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / CONFIG_FILE, config_to_json(model.config, dtype))
    _write_json(folder / PREPROCESSOR_FILE, preprocessor_to_json(model.config))
    _write_json(folder / STATISTICS_FILE, dict(statistics))
    with whole(folder / TOKENIZER_FILE) as partial:
        tokenizer.save(str(partial))
    state = {name: tensor.detach().to("cpu", dtype, copy=True) for name, tensor in model.state_dict().items()}
    with whole(folder / WEIGHTS_FILE) as partial:
        save_file(state, partial, metadata={"format": "pt"})
        partial.chmod(0o644)
    return folder


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(data, indent=2) + "\n")
