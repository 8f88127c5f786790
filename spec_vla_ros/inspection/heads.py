"""Draft heads: what they were made for, and whether a model is that."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from spec_vla_ros.decoding.heads import store
from spec_vla_ros.decoding.heads.eagle_head import EagleHead
from spec_vla_ros.decoding.heads.vision_head import VisionHead, VisionHeadConfig
from spec_vla_ros.errors import CheckpointError
from spec_vla_ros.openvla.config import OpenVLAConfig

from .findings import MALFORMED, Report, count_of, size_of
from .headers import Stored, read_safetensors, read_torch_file
from .places import head_type

REMEDY = "Train one for this model: spec-vla train-draft; without it the node drafts training-free."
VOCABULARY = "embed_tokens.weight"  # published eagle heads carry a copy of their verifier's table


@dataclass
class Head:
    """One head, as far as it could be read. ``tensors``: under the names of the module."""

    folder: Path
    type: str
    config: VisionHeadConfig | None = None
    tensors: dict[str, Stored] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""

    @property
    def parameters(self) -> int:
        """Numbers that are loaded; the copy of the verifier's embedding table is not."""
        return sum(tensor.count for name, tensor in self.tensors.items() if name != VOCABULARY)

    @property
    def hidden(self) -> int:
        """Width of the verifier's rows, 0 if that is not known."""
        if self.config is not None:
            return self.config.hidden
        return self.tensors["fc.weight"].shape[0] if "fc.weight" in self.tensors else 0


def read_head(folder: Path) -> tuple[Head, list[str]]:
    """The head in ``folder`` and what is wrong with it by itself."""
    head, problems = Head(folder, head_type(folder)), []
    try:
        stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        about = stored.pop("about", None)
        head.about = about if isinstance(about, dict) else {}
        if head.type == "vision":
            stored.pop("type", None)
            head.config = VisionHeadConfig(**stored)
    except (OSError, *MALFORMED) as error:
        if head.type == "vision":  # an eagle head needs none
            problems.append(f"the draft head in {folder} has no usable config.json: {error}")
    safetensors, published = folder / store.WEIGHTS, folder / store.PUBLISHED_WEIGHTS
    head.file = (safetensors if safetensors.is_file() or not published.is_file() else published).name
    try:
        tensors = (read_safetensors if head.file == store.WEIGHTS else read_torch_file)(folder / head.file)
        head.tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    except CheckpointError as error:
        problems.append(f"the draft head in {folder} is unreadable: {error}")
    if head.config is not None and head.tensors:
        problems += _unfilled(head, lambda: VisionHead(head.config))
    return head, problems


def misfits(head: Head, config: OpenVLAConfig, action_dim: int | None) -> list[str]:
    """Why ``head`` cannot draft for a model of ``config``; ``action_dim``: None = not known."""
    bins, hidden = config.n_action_bins - 1, config.llama.hidden_size
    expected: dict[str, int] = {"hidden": hidden}
    found: dict[str, int] = {"hidden": head.hidden}
    if head.config is not None:
        expected |= {"patches": config.towers[0].patches, "bins": bins}
        if action_dim is not None:
            expected["action_dim"] = action_dim
        found = {name: getattr(head.config, name) for name in expected}
    elif VOCABULARY in head.tensors:
        expected["vocabulary"], found["vocabulary"] = config.llama.vocab_size, head.tensors[VOCABULARY].shape[0]
    wrong = [f"{name} {found[name]}, the model has {value}" for name, value in expected.items() if found[name] != value]
    if not wrong and head.type == "eagle" and head.tensors:
        wrong += _unfilled(head, lambda: EagleHead(config.llama))
    return wrong


def describe_head(report: Report, head: Head) -> None:
    """A section about one head."""
    section = report.section(f"{head.type} head")
    section.add("folder", str(head.folder))
    if head.config is not None:
        for_model = {name: getattr(head.config, name) for name in ("hidden", "patches", "action_dim", "bins")}
    else:
        for_model = {"hidden": head.hidden} if head.hidden else {}
        if VOCABULARY in head.tensors:
            for_model["vocabulary"] = head.tensors[VOCABULARY].shape[0]
    said = ", ".join(f"{name} {value}" for name, value in for_model.items())
    section.add("made for", f"a model with {said}" if said else "not known", for_model)
    if head.tensors:
        types = Counter(tensor.dtype for tensor in head.tensors.values())
        size = (head.folder / head.file).stat().st_size
        section.add(
            "weights",
            f"{size_of(head.parameters, '')} parameters, stored as {', '.join(sorted(types))}, {size_of(size)} in "
            f"{head.file}",
            {"parameters": head.parameters, "stored_as": sorted(types), "bytes": size, "file": head.file},
        )
        if odd := sorted(name for name, tensor in head.tensors.items() if not tensor.floating):
            report.error(f"{head.folder}: {count_of(len(odd), 'tensor')} not floating point: {odd[0]}", REMEDY)
    if head.about:
        simple = {name: value for name, value in head.about.items() if not isinstance(value, (dict, list))}
        measured = head.about.get("report")
        share = measured.get("whole_action_within_radius") if isinstance(measured, dict) else None
        told = [f"{name} {value}" for name, value in simple.items()]
        told += [] if not isinstance(share, float) else [f"{share:.0%} of its actions were within the radius"]
        section.add("training", ", ".join(told), dict(head.about))
    if head.type == "eagle":
        section.add("note", "the number of attention heads is the model's; whether that is right, only drafting shows")


def inspect_heads(report: Report, folders: list[Path], asked_for: bool) -> list[Head]:
    """All heads of ``folders``, described; those that are whole are returned.

    ``asked_for``: named by the operator, so one that cannot be used is an error. A node that finds it beside its model
    goes on without.
    """
    whole = []
    for folder in folders:
        head, problems = read_head(folder)
        describe_head(report, head)
        for problem in problems:
            (report.error if asked_for else report.warning)(problem, REMEDY)
        if not problems:
            whole.append(head)
    return whole


def _unfilled(head: Head, make: Any) -> list[str]:
    """The head's own check of names and shapes, on tensors without data."""
    state = {name: tensor.meta() for name, tensor in head.tensors.items() if name != VOCABULARY}
    try:
        with torch.device("meta"):
            module = make()
        if head.type == "eagle":  # see load_eagle_head
            state.setdefault("fc.bias", module.fc.bias)
        store.filled(module, state, head.folder)
    except CheckpointError as error:
        return [" ".join(str(error).split())]
    except MALFORMED as error:
        return [f"the draft head in {head.folder} has an impossible config.json: {error}"]
    return []
