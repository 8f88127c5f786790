"""Heads on disk, in the folder of their verifier: ``drafters/<name>/``.

``vision``: ``config.json`` and ``model.safetensors``. ``eagle``: the layout of published heads, ``pytorch_model.bin``
or ``model.safetensors``; a config.json is not needed, because the shapes follow from the verifier.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spec_vla_ros.decoding.drafters.base import Drafter
from spec_vla_ros.decoding.drafters.eagle import Eagle, eagle_slots
from spec_vla_ros.decoding.drafters.vision import Vision
from spec_vla_ros.errors import CheckpointChangedError, CheckpointError
from spec_vla_ros.installed import model_folder
from spec_vla_ros.lfs_pointer import lfs_pointer
from spec_vla_ros.openvla.config import LlamaConfig
from spec_vla_ros.openvla.file_stamps import FileStamps
from spec_vla_ros.openvla.loader import LoadedModel
from spec_vla_ros.openvla.picture import BEFORE_IT_WAS_SAID, PictureRule
from spec_vla_ros.outputs import whole, write_text

from .eagle_head import EagleHead
from .vision_head import VisionHead, VisionHeadConfig

FOLDER = "drafters"
WEIGHTS, PUBLISHED_WEIGHTS = "model.safetensors", "pytorch_model.bin"

_log = logging.getLogger(__name__)


def trained_drafters(loaded: LoadedModel, folder: Path) -> tuple[dict[str, Drafter], list[str]]:
    """Drafters whose heads lie in ``folder``, by name, and what is wrong with the others, one line each.

    A head that is missing or does not fit costs speed and not correctness, so it is never an error; one that learnt
    from other pictures than this model gets is used, with a warning in the log. The files of those that are found are
    watched from now on as the model's are.
    """
    makers = {Vision.name: _vision, Eagle.name: _eagle}
    found, problems = {}, []
    for place in (folder, *(folder / name for name in makers)):
        if place.is_symlink() and not os.path.exists(place):
            problems.append(f"{place} is a link to {place.readlink()}, which does not exist")
    for name, make in makers.items():
        if os.path.isdir(folder / name):
            files = FileStamps(folder / name)
            try:
                found[name] = make(loaded, folder / name)
                files.check()  # somebody who is still writing
            except (CheckpointError, CheckpointChangedError) as error:
                found.pop(name, None)
                problems.append(str(error))
                continue
            if other := other_pictures(_about(folder / name), loaded.transform.rule):
                _log.warning(f"the draft head in {folder / name} {other}")
            if loaded.files is not None:
                loaded.files.extend(files)
    if not (found or problems) and folder != heads_folder(loaded):
        problems.append(f"{folder.absolute()} has no draft heads in it ({', '.join(f'{name}/' for name in makers)})")
    return found, problems


def other_pictures(about: Mapping[str, Any], rule: PictureRule) -> str:
    """What is wrong if a head's ``about`` says that it learnt from pictures made otherwise than ``rule``, or "".

    A head that does not say how, because it is from elsewhere, is not judged.
    """
    made_for = about.get("model")
    if not isinstance(made_for, Mapping) or "centre_crop" not in made_for:
        return ""
    learnt = {"image_resize": BEFORE_IT_WAS_SAID, **made_for}
    gets = {"image_resize": rule.resize, "centre_crop": rule.centre_crop}
    other = [f"{name} {learnt[name]!r}, this is {value!r}" for name, value in gets.items() if learnt[name] != value]
    if not other:
        return ""
    return f"learnt from other pictures ({'; '.join(other)}): fewer of its drafts will be accepted; train it anew"


def _about(folder: Path) -> Mapping[str, Any]:
    """What a head says of how it came about; nothing where it says nothing that can be read."""
    try:
        about = json.loads((folder / "config.json").read_text(encoding="utf-8"))["about"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return about if isinstance(about, Mapping) else {}


def _vision(loaded: LoadedModel, folder: Path) -> Drafter:
    config = loaded.config
    sizes = config.llama.hidden_size, config.towers[0].patches, loaded.statistics.action_dim
    head = load_vision_head(folder, *sizes, bins=loaded.tokens.bins)
    return Vision(head.to(loaded.model.device, loaded.model.dtype))


def _eagle(loaded: LoadedModel, folder: Path) -> Drafter:
    head = load_eagle_head(folder, loaded.config.llama).to(loaded.model.device, loaded.model.dtype)
    head.fuse(loaded.model.language_model)
    return Eagle(head, loaded.model, eagle_slots(loaded))


def heads_folder(loaded: LoadedModel, explicit: Path | str = "") -> Path:
    """Where the heads of a model are: ``explicit``, else ``drafters/`` in the folder that the model was read from.

    ``explicit`` is always a folder of this machine, found as a model's is (:func:`..openvla.sources.local_folder`).
    """
    if not explicit:
        return Path(loaded.folder or loaded.source) / FOLDER
    try:
        return model_folder(explicit)
    except FileNotFoundError:
        return Path(os.path.expanduser(explicit))  # :func:`trained_drafters` says that there is nothing


def save_head(head: nn.Module, folder: Path, about: dict[str, Any]) -> None:
    """Write ``head`` in half precision; ``about``: how it came about, for people."""
    state = {name: tensor.detach().to(torch.float16).contiguous() for name, tensor in head.state_dict().items()}
    stored = {"type": "vision", **head.config.to_dict()} if isinstance(head, VisionHead) else {"type": "eagle"}
    with whole(folder / WEIGHTS) as partial:
        save_file(state, partial)
        partial.chmod(0o644)
    write_text(folder / "config.json", json.dumps({**stored, "about": about}, indent=2) + "\n")


def load_vision_head(folder: Path, hidden: int, patches: int, action_dim: int, bins: int | None = None) -> VisionHead:
    """Read a head in float32. Raises :class:`CheckpointError` where it does not fit a verifier of these sizes."""
    try:
        stored = json.loads((folder / "config.json").read_text())
        stored.pop("about", None)
        kind = stored.pop("type", None)
        config = VisionHeadConfig(**stored)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"the draft head in {folder} has no usable config.json: {error}") from error
    if kind != "vision":
        raise CheckpointError(f"{folder} holds a head of type {kind!r}, expected 'vision'")
    expected = {"hidden": hidden, "patches": patches, "action_dim": action_dim}
    if bins is not None:
        expected["bins"] = bins
    wrong = {name: getattr(config, name) for name, value in expected.items() if getattr(config, name) != value}
    if wrong:
        differing = ", ".join(f"{name} {value}, expected {expected[name]}" for name, value in wrong.items())
        raise CheckpointError(f"the draft head in {folder} was made for another model: {differing}")
    return filled(VisionHead(config), _read(folder), folder)


def load_eagle_head(folder: Path, config: LlamaConfig) -> EagleHead:
    """Read a head of the published layout in float32. Raises :class:`CheckpointError` where it does not fit.

    The copy of the verifier's embedding table is left out, a missing bias of ``fc`` is zero, and names may carry the
    prefix of a distributed training.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in _read(folder).items()}
    state.pop("embed_tokens.weight", None)
    state.setdefault("fc.bias", torch.zeros(config.hidden_size))
    return filled(EagleHead(config), state, folder)


def _read(folder: Path) -> dict[str, Tensor]:
    try:
        if (folder / WEIGHTS).is_file():
            return load_file(folder / WEIGHTS, device="cpu")
        return torch.load(folder / PUBLISHED_WEIGHTS, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError, SafetensorError) as error:
        pointer = lfs_pointer(folder / WEIGHTS) or lfs_pointer(folder / PUBLISHED_WEIGHTS)
        raise CheckpointError(f"the draft head in {folder} is unreadable: {pointer or error}") from error


def filled(head: Any, state: dict[str, Tensor], folder: Path) -> Any:
    """``head`` with the weights ``state`` of ``folder``; the store's error where they do not fit."""
    try:
        head.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    except (RuntimeError, AttributeError) as error:
        raise CheckpointError(f"the draft head in {folder} does not fit its verifier: {error}") from error
    return head.eval().requires_grad_(False)
