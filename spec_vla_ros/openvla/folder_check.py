"""Folders that look like a checkpoint and are none that this package can run, told by what lies in them.

A fine-tune with parts of its own, such as OpenVLA-OFT's, keeps them beside weights and a ``config.json`` that are
those of plain OpenVLA. Without its parts the model loads, passes every check of shapes, and acts by an output head
that was never trained. Needs no torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from spec_vla_ros.errors import CheckpointError

ADAPTER = "adapter_config.json"
NESTED_ADAPTER = "lora_adapter"  # where the fine-tuning of OpenVLA-OFT puts it; plain OpenVLA's is elsewhere
# What is read of a folder. A link to nothing among them would count as a file that nobody has: statistics would be
# those of the base model, for example.
READ = ("*.safetensors", "*.safetensors.index.json", "config.json", "preprocessor_config.json")
READ += ("dataset_statistics.json", "tokenizer.json", ADAPTER)
_WEIGHTS = r"\.(?:pt|pth|bin|ckpt|safetensors)"
_PART = re.compile(
    rf"(\w+)--.*{_WEIGHTS}"  # as OpenVLA-OFT names every part, whatever it is called
    rf"|((?:noisy_)?action_(?:head|projector)|action_expert|proprio_projector|vision_backbone)\b.*{_WEIGHTS}"
)


def unread_parts(names: Iterable[str]) -> str:
    """Why a folder with files of these ``names`` (relative to it) is no plain OpenVLA; empty if nothing says so."""
    names = list(names)
    parts = sorted(name for name in names if "/" not in name and _PART.fullmatch(name))
    if parts:
        kinds = ", ".join(sorted({(found := _PART.fullmatch(name))[1] or found[2] for name in parts}))
        files = ", ".join(parts[:4]) + (", ..." if len(parts) > 4 else "")
        return (
            f"holds parts that are not read ({kinds}: {files}): a fine-tune such as OpenVLA-OFT, whose weights alone "
            "do not give its actions"
        )
    if f"{NESTED_ADAPTER}/{ADAPTER}" in names:
        return (
            f"holds {NESTED_ADAPTER}/ as fine-tunes of OpenVLA-OFT do, whose weights alone do not give its actions; "
            "its action head is not here, or was not fetched"
        )
    return ""


def check_folder(folder: Path) -> None:
    """Raise :class:`CheckpointError` for parts that are not read and for links to nothing.

    Git LFS pointers are named by who reads the files (:mod:`spec_vla_ros.lfs_pointer`).
    """
    try:
        present = sorted(folder.iterdir())
        for path in present:
            path.lstat()  # a folder may be listed by who may not look into it
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror}") from error
    names = [path.name for path in present]
    if os.path.exists(folder / NESTED_ADAPTER / ADAPTER):
        names.append(f"{NESTED_ADAPTER}/{ADAPTER}")
    if why := unread_parts(names):
        raise CheckpointError(f"{folder} {why}")
    if ADAPTER in names and (why := _parts_above(folder)):
        raise CheckpointError(f"{folder} is the adapter of {folder.absolute().parent}, which {why}")
    read = [path for path in present if any(path.match(pattern) for pattern in READ)]
    if broken := [path for path in read if path.is_symlink() and not os.path.exists(path)]:
        raise CheckpointError(
            f"{', '.join(map(str, broken[:4]))}{', ...' * (len(broken) > 4)}: a link to nothing "
            f"({broken[0].readlink()}): the download is not finished, or the cache was copied or cleaned in part"
        )


def _parts_above(folder: Path) -> str:
    """The same of the folder that an adapter lies in: fine-tuning puts its parts there."""
    try:
        names = [path.name for path in folder.absolute().parent.iterdir()]
    except OSError:
        return ""
    return unread_parts(names)
