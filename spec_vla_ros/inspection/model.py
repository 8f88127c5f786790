"""A checkpoint folder, a hub id in the local cache, or a LoRA adapter: everything that configure would look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spec_vla_ros.decoding.heads.store import FOLDER, other_pictures
from spec_vla_ros.errors import CheckpointError
from spec_vla_ros.openvla import checkpoint
from spec_vla_ros.openvla.action_tokens import ActionStatistics
from spec_vla_ros.openvla.config import OpenVLAConfig
from spec_vla_ros.openvla.config_json import check_preprocessor, config_from_json
from spec_vla_ros.openvla.folder_check import check_folder
from spec_vla_ros.openvla.picture import AUTO, PictureRule
from spec_vla_ros.openvla.prompt import Prompt
from spec_vla_ros.openvla.sources import Source, locate

from .findings import Report, count_of
from .heads import REMEDY as TRAIN
from .heads import Head, inspect_heads, misfits
from .memory import inspect_memory, meta_model
from .places import HEAD_NAMES, looks_like_hub_id
from .statistics import NODE_ACTION_DIM, inspect_statistics, is_libero
from .weights import GET_AGAIN, inspect_adapter, inspect_weights

SAMPLE = "pick up the red block"
PREFIX = "image_aug"  # fine-tuning with image augmentation puts this into the name of the run


@dataclass
class Model:
    """What of a model the others need to know, as far as it could be read."""

    path: str
    config: OpenVLAConfig | None = None
    statistics: dict[str, ActionStatistics] = field(default_factory=dict)
    chosen: ActionStatistics | None = None
    prompt: Prompt | None = None
    rule: PictureRule | None = None
    heads: list[Head] = field(default_factory=list)

    @property
    def action_dim(self) -> int | None:
        """Dimensions of an action, if there is no doubt."""
        if self.chosen is not None:
            return self.chosen.action_dim
        found = {one.action_dim for one in self.statistics.values()}
        return found.pop() if len(found) == 1 else None


def inspect_model(
    path: str,
    unnorm_key: str | None = None,
    step_dt: float = 0.0,
    centre_crop: bool = False,
    image_resize: str = AUTO,
    revision: str = "",
    base_model: str = "",
) -> tuple[Report, Model]:
    """Everything but the path: as the node would be told; ``unnorm_key`` None, ``step_dt`` (s) 0 = not at all."""
    report, model = Report(path, "model"), Model(path)
    try:
        source = locate(path, revision, download=False)
    except CheckpointError as error:
        fetch = f"Correct the path, or fetch it first: hf download {path}" + f" --revision {revision}" * bool(revision)
        report.error(str(error), fetch if looks_like_hub_id(path) else error.remedy)
        return report, model
    if revision and source.warning:
        report.warning(source.warning, "The node would say the same at configure.")
    folder = source.folder
    adapter, base = None, folder
    report.attempt(check_folder, folder)
    if (folder / checkpoint.ADAPTER_CONFIG_FILE).is_file():
        adapter = folder
        base = report.attempt(_base_of, report, folder, base_model)
        if base is None:
            inspect_adapter(report, folder, None, None)
            return report, model
        report.attempt(check_folder, base)
    elif base_model or not (folder / checkpoint.CONFIG_FILE).is_file():
        report.attempt(checkpoint.read_checkpoint, folder, base_model)  # it knows what such folders are
    data = {}
    if (base / checkpoint.CONFIG_FILE).is_file():
        data = report.attempt(checkpoint.read_json, base / checkpoint.CONFIG_FILE) or {}
    model.config = report.attempt(config_from_json, data) if data else None
    model.rule = PictureRule.of(model.config, centre_crop, image_resize) if model.config else None
    _architecture(report, source, data, model.config, model.rule)
    if model.config and (base / checkpoint.PREPROCESSOR_FILE).is_file():
        report.attempt(_preprocessor, base, model.config)
    _statistics(report, model, [folder, base], data, unnorm_key, step_dt)
    model.prompt = report.attempt(_tokenizer, report, base, model.config)
    shapes = report.attempt(meta_model, model.config) if model.config else None
    inspect_weights(report, base, shapes, model.config, str(data.get("torch_dtype") or data.get("dtype") or ""))
    if adapter is not None:
        inspect_adapter(report, adapter, shapes, model.config)
    _heads(report, model, folder)
    if shapes is not None and model.config is not None:
        inspect_memory(report, model.config, model.action_dim or NODE_ACTION_DIM, model.heads)
    return report, model


def _base_of(report: Report, folder: Path, base_model: str) -> Path:
    source = checkpoint.base_of(folder, base_model, download=False)
    if not source.pinned:
        here = f', or write "revision": "{source.commit}" into {checkpoint.ADAPTER_CONFIG_FILE}' * (not base_model)
        report.warning(
            f"the base model of this adapter is {source}, which is not pinned", f"{source.how_to_pin}{here}."
        )
    return source.folder


def _architecture(
    report: Report, source: Source, data: dict[str, Any], config: OpenVLAConfig | None, rule: PictureRule | None
) -> None:
    section = report.section("architecture")
    section.add("folder", str(source.folder))
    if source.repository:
        section.add("commit", f"{source.commit}, in the cache here; the node takes it with revision:={source.commit}")
    if config is None:
        section.add("config.json", f"{data.get('model_type', 'unreadable')}: see below")
        return
    llama = config.llama
    section.add(
        "language model",
        f"{config.llm_backbone_id}: {llama.num_hidden_layers} layers, width {llama.hidden_size}, "
        f"{llama.num_attention_heads} heads, vocabulary {llama.vocab_size}",
        {
            "id": config.llm_backbone_id,
            "layers": llama.num_hidden_layers,
            "hidden": llama.hidden_size,
            "heads": llama.num_attention_heads,
            "vocabulary": llama.vocab_size,
        },
    )
    towers = [
        f"{tower.image_size} px in {tower.grid} x {tower.grid} patches, {tower.used_depth} of {tower.depth} blocks of "
        f"width {tower.width} used"
        for tower in config.towers
    ]
    for name, tower, text in zip(("tower", "second tower"), config.towers, towers, strict=False):
        facts = {"image_size": tower.image_size, "patches": tower.patches, "width": tower.width, "depth": tower.depth}
        section.add(name, f"{config.vision_backbone_id}: {text}" if name == "tower" else text, facts)
    section.add(
        "images",
        f"{config.image_size} x {config.image_size}, {config.image_resize_strategy}",
        {"size": config.image_size, "strategy": config.image_resize_strategy},
    )
    section.add(
        "picture",
        f"{rule.words()} (image_resize {rule.resize})",
        {"steps": rule.words(), "image_resize": rule.resize, "centre_crop": rule.centre_crop},
    )
    first = config.action_vocab_end - config.n_action_bins
    section.add(
        "action tokens",
        f"{first}..{config.action_vocab_end - 1}, {config.n_action_bins - 1} bins",
        {"first": first, "last": config.action_vocab_end - 1, "bins": config.n_action_bins - 1},
    )


def _preprocessor(folder: Path, config: OpenVLAConfig) -> None:
    check_preprocessor(checkpoint.read_json(folder / checkpoint.PREPROCESSOR_FILE), config)


def _statistics(
    report: Report, model: Model, folders: list[Path], data: dict[str, Any], unnorm_key: str | None, step_dt: float
) -> None:
    """As :func:`..openvla.checkpoint.read_checkpoint` chooses the file; ``folders``: of the adapter and its base."""
    statistics, source = data.get("norm_stats") or {}, "from config.json"
    counted = len(statistics) if isinstance(statistics, dict) else 0
    for folder in folders:
        path = folder / checkpoint.STATISTICS_FILE
        if path.is_file():
            replaced = f" (in place of {count_of(counted, 'key')} in config.json)" if counted else ""
            read = report.attempt(checkpoint.read_json, path)
            if read is None:
                return
            statistics, source = read, f"from {path.name}{replaced}"
            break
    if not isinstance(statistics, dict):
        report.error(f"the statistics {source} are a {type(statistics).__name__}, expected an object", GET_AGAIN)
        return
    bins = model.config.n_action_bins if model.config else 256
    model.statistics, model.chosen = inspect_statistics(report, statistics, source, unnorm_key, bins, step_dt)
    names = " ".join((model.path, *map(str, folders))).lower()
    if PREFIX in names or (model.chosen is not None and is_libero(model.chosen.key)):
        hint = "trained with image augmentation, as its name says: set centre_crop:=true"
    else:
        hint = "not written down in a checkpoint: centre_crop:=true for fine-tunes with image augmentation, else false"
    report.sections[-1].add("centre crop", hint)


def _tokenizer(report: Report, folder: Path, config: OpenVLAConfig | None) -> Prompt | None:
    section = report.section("tokenizer")
    tokenizer = checkpoint.read_tokenizer(folder)
    size = tokenizer.get_vocab_size()
    section.add("vocabulary", str(size), size)
    if config is None:
        return None
    prompt = Prompt(tokenizer, config.action_vocab_end, config.llm_backbone_id)
    ids = prompt.ids(SAMPLE)
    section.add("prompt", f"{SAMPLE!r} has {len(ids)} ids, {ids[0]} ... {ids[-1]}", {"ids": ids})
    if size > config.llama.vocab_size:
        report.error(
            f"the tokenizer knows {size} pieces, the model has embeddings for {config.llama.vocab_size}",
            "Take the tokenizer.json of this very model.",
        )
    return prompt


def _heads(report: Report, model: Model, folder: Path) -> None:
    """Heads that the node would find by itself; one that does not fit costs speed and not correctness."""
    place = folder / FOLDER
    folders = [place / name for name in HEAD_NAMES if (place / name).is_dir()]
    for head in inspect_heads(report, folders, asked_for=False):
        wrong = misfits(head, model.config, model.action_dim) if model.config else []
        if model.rule and (other := other_pictures(head.about, model.rule)):
            report.warning(f"the {head.type} head in {head.folder} {other}", TRAIN)
        for text in wrong:
            report.warning(f"the {head.type} head in {head.folder} was made for another model: {text}", TRAIN)
        if not wrong:
            model.heads.append(head)
    if not folders:
        report.section("draft heads").add("none", f"in {place}: preset auto drafts training-free")
