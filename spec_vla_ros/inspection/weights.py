"""Weight files of a checkpoint: their headers against each other, the index and ``config.json``."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path

from spec_vla_ros.errors import CheckpointError
from spec_vla_ros.openvla import lora
from spec_vla_ros.openvla import weights as loader
from spec_vla_ros.openvla.checkpoint import ADAPTER_CONFIG_FILE, WEIGHTS_FILE, read_json
from spec_vla_ros.openvla.config import OpenVLAConfig
from spec_vla_ros.openvla.model import OpenVLA

from .findings import MALFORMED, Report, Section, count_of, size_of
from .headers import Stored, read_safetensors

GET_AGAIN = "Fetch it again (hf download goes on where it stopped), and compare its size with the source."
UNFINISHED = ("*.part", "*.partial-*", "*.incomplete", "*.crdownload", "*.aria2")


def inspect_weights(
    report: Report, folder: Path, model: OpenVLA | None, config: OpenVLAConfig | None, said_dtype: str
) -> None:
    """Files, types, and whether every tensor of the model is there once. ``said_dtype``: config.json's torch_dtype."""
    section = report.section("weights")
    files = _present(folder)
    tensors, broken = _headers(report, files)
    complete = _all_shards(report, folder, broken)
    if complete and not broken and model is not None and config is not None:
        report.attempt(account, complete, model, config)
    size = sum(path.stat().st_size for path in files if path.exists())  # a cache has links, which may lead nowhere
    what = "" if complete and not broken else ", incomplete"
    section.add("files", f"{len(files)}, {size_of(size)}{what}", {"names": [f.name for f in files], "bytes": size})
    stored = sum(tensor.count for tensor in tensors.values())
    section.add("parameters", _count_text(stored, model), {"stored": stored, "used": _used(model)})
    _types(report, section, tensors, said_dtype)
    section.add("not looked at", "the numbers themselves; configure loads them and checks that they see and read")
    for pattern in UNFINISHED:
        for path in folder.glob(pattern):
            report.warning(f"{path} looks like a download or a copy that is not finished", GET_AGAIN)


def inspect_adapter(report: Report, folder: Path, model: OpenVLA | None, config: OpenVLAConfig | None) -> None:
    """An un-merged LoRA adapter, against the model that it belongs on."""
    section = report.section("LoRA adapter, to be merged when it is loaded")
    about = report.attempt(read_json, folder / ADAPTER_CONFIG_FILE) or {}
    rank, alpha = about.get("r"), about.get("lora_alpha")
    section.add("base model", str(about.get("base_model_name_or_path") or "not named"))
    section.add("rank, alpha", f"{rank}, {alpha}", {"rank": rank, "alpha": alpha})
    if refused := lora.refused_fields(about):
        report.error(
            f"{folder}: only plain LoRA can be merged; the adapter sets {', '.join(refused)}",
            "Merge it with peft and save the whole model.",
        )
    if not all(isinstance(number, (int, float)) and number > 0 for number in (rank, alpha)):
        report.error(f"{folder}: rank {rank!r} and alpha {alpha!r} must be positive numbers", GET_AGAIN)
    report.warning(
        f"{folder} is a LoRA adapter: it cannot be quantised while it is loaded",
        "Save the merged model for these precisions.",
    )
    tensors = report.attempt(read_safetensors, folder / lora.ADAPTER_FILE)
    if tensors is None:
        return
    count = sum(tensor.count for tensor in tensors.values())
    section.add("parameters", size_of(count, ""), count)
    if model is None or config is None:
        return
    ranks = {t.shape[0] for name, t in tensors.items() if name.endswith(".lora_A.weight") and t.shape} - {rank}
    if ranks:
        report.error(
            f"{folder}: matrices of rank {', '.join(map(str, sorted(ranks)))}, adapter_config.json says {rank}",
            GET_AGAIN,
        )
    left = _adapter_misfits(tensors, model, config)
    if left:
        report.error(
            f"{folder}: {count_of(len(left), 'key')} fit no weight of the base model: {', '.join(left[:3])}"
            + (" ..." if len(left) > 3 else ""),
            "The adapter belongs to another base model; adapter_config.json must name the one that it was trained on.",
        )


def _adapter_misfits(tensors: dict[str, Stored], model: OpenVLA, config: OpenVLAConfig) -> list[str]:
    """Keys that :func:`..openvla.lora.merge_adapter` would refuse."""
    shapes, wrong = {name: tuple(p.shape) for name, p in model.named_parameters()}, []
    for key in sorted(tensors):
        down, up = (tensors.get(key.replace(f".lora_{part}.", f".lora_{x}.")) for part, x in (("B", "A"), ("A", "B")))
        name = key.removeprefix(lora._PREFIX)
        for part in (".lora_A.weight", ".lora_B.weight"):
            name = name.removesuffix(part)
        name += ".weight"
        if loader.is_droppable(name, config):
            continue
        if down is None or up is None or shapes.get(name) != (up.shape[0], down.shape[-1]):
            wrong.append(key)
    return wrong


def _present(folder: Path) -> list[Path]:
    """Weight files that are there, those of the index or all."""
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    names: set[str] = set()
    with suppress(OSError, *MALFORMED):  # shard_paths() tells what is wrong with the index
        names = set(json.loads((folder / loader.INDEX_FILE).read_text(encoding="utf-8"))["weight_map"].values())
    found = [folder / name for name in sorted(names) if (folder / name).is_file()]
    return found or sorted(path for path in folder.glob("*.safetensors") if path.name != lora.ADAPTER_FILE)


def _headers(report: Report, files: list[Path]) -> tuple[dict[str, Stored], list[Path]]:
    tensors: dict[str, Stored] = {}
    broken = []
    for path in files:
        try:
            tensors |= read_safetensors(path)
        except CheckpointError as error:
            broken.append(path)
            report.error(str(error), GET_AGAIN)
    return tensors, broken


def _all_shards(report: Report, folder: Path, broken: list[Path]) -> list[Path]:
    try:
        return loader.shard_paths(folder)
    except CheckpointError as error:
        if not any(path.name in str(error) for path in broken):  # said already, with sizes
            report.error(str(error), error.remedy)
        return []


def account(paths: list[Path], model: OpenVLA, config: OpenVLAConfig) -> None:
    """The loader's own accounting of names and shapes; a handle reads headers only."""
    shards = {path: loader.open_shard(path, "cpu") for path in paths}
    loader.account(shards, model, config)


def _used(model: OpenVLA | None) -> int | None:
    return None if model is None else model.parameter_count


def _count_text(stored: int, model: OpenVLA | None) -> str:
    used = _used(model)
    if used is None:
        return f"{size_of(stored, '')} stored ({stored:,})"
    return f"{size_of(used, '')} used ({used:,}), {size_of(stored, '')} stored"


def _types(report: Report, section: Section, tensors: dict[str, Stored], said: str) -> None:
    """Storage types and what is surprising about them."""
    counts: Counter[str] = Counter()
    for tensor in tensors.values():
        counts[tensor.dtype] += tensor.count
    if not counts:
        return
    section.add("stored as", ", ".join(f"{name} ({size_of(n, '')})" for name, n in counts.most_common()), dict(counts))
    whole = sorted(name for name, tensor in tensors.items() if not tensor.floating)
    if whole:
        report.error(
            f"{count_of(len(whole), 'tensor')} not in floating point (quantised files are refused): {whole[0]} "
            f"{tensors[whole[0]].dtype}",
            "Use the bfloat16 weights; the node quantises by itself (dtype int8 and others).",
        )
    main = counts.most_common(1)[0][0]
    if len(counts) > 1 and not whole:
        report.warning(
            f"the weights are stored in {len(counts)} types: {', '.join(sorted(counts))}",
            "Harmless if it was meant so; everything is cast to the dtype that the node runs in.",
        )
    if said and said != main:
        report.warning(
            f"config.json says {said}, the weights are stored as {main}",
            "The files count. Saved again by another program? Compare a few actions with the original.",
        )
    if main == "float16":
        report.warning(
            "the weights are float16; the node computes in bfloat16 on a GPU, which rounds them once more",
            "Set dtype:=float16 to compute in what is stored.",
        )
