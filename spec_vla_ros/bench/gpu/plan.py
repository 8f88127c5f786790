"""The parts of a campaign, each small enough to be run again, and what decides whether two of them belong together."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import spec_vla_ros
from spec_vla_ros.machine import machine, versions

REFERENCE = "bfloat16"  # the precision that others are compared with
LATENCY, PASSES, CHECK = "latency", "passes", "check"
COMPILED = f"{LATENCY} compiled"
TOOL = 20.0  # s that the tools of others may take
ASKED = (
    *("name", "uuid", "driver_version", "vbios_version", "memory.total", "ecc.mode.current", "mig.mode.current"),
    *("persistence_mode", "power.limit", "clocks.max.sm", "clocks.max.memory", "pcie.link.gen.current"),
)
SAMPLED = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu", "clocks_event_reasons.active", "memory.used")


@dataclass(frozen=True)
class Options:
    """What every part of a campaign is told. ``device``: of torch. ``shapes``: "7b", "small" (those of the table top's
    model) or a checkpoint folder. ``layers``: of the decoder, 0 = those of the shapes. ``actions``: per row of the
    latencies. ``bandwidth`` (TB/s), ``tflops``: of the device, 0 = from the table of known ones. ``threads``: on the
    CPU. ``trace``: recorded acceptance, "" = that of the small model. ``base_model``: of a checkpoint folder that is an
    adapter.
    """

    device: str
    shapes: str
    layers: int = 0
    actions: int = 100
    bandwidth: float = 0.0
    tflops: float = 0.0
    threads: int = 1
    trace: str = ""
    base_model: str = ""


def parts(precisions: Sequence[str]) -> list[str]:
    """Names of all parts, what has to be right before what has to be quick."""
    quantised = [precision for precision in precisions if precision != REFERENCE]
    return [
        *(f"{CHECK} {name}" for name in ("device", "recorded", "fused", "kernels", "compiled", *quantised)),
        *(f"{PASSES} {precision}" for precision in precisions),
        *(f"{LATENCY} {precision}" for precision in precisions),
        COMPILED,
        "profile",
    ]


def identity(options: Options) -> dict[str, Any]:
    """Figures with the same identity may stand in one table: code, card, driver, libraries, options."""
    about = {
        "source": _source_digest(),
        "commit": _commit(),
        "machine": {name: value for name, value in machine().items() if name != "load_average"},
        "versions": versions(),
        "options": asdict(options),
    }
    if options.device.startswith("cuda"):
        index = torch.device(options.device).index or 0
        card = torch.cuda.get_device_properties(index)
        about["card"] = {
            "name": card.name, "capability": f"{card.major}.{card.minor}",
            "memory_gib": round(card.total_memory / 2**30, 1), "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(), **nvidia_smi(ASKED, index),
        }  # fmt: skip
    return about


def key_of(about: dict[str, Any]) -> str:
    """A short name of an identity. Without the commit, which a documentation change moves: the source counts."""
    counted = {name: value for name, value in about.items() if name != "commit"}
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()[:12]


def nvidia_smi(fields: Sequence[str], index: int = 0) -> dict[str, str]:
    """What the driver's tool says of a card; of a field that this driver does not know nothing. ``{"nvidia_smi": why
    not}`` where it says nothing at all.
    """
    command = ["nvidia-smi", f"--id={index}", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=TOOL)  # noqa: S603 - no shell, our own words
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"nvidia_smi": str(error)}
    values = [value.strip() for value in said.stdout.strip().split(",")]
    if said.returncode == 0 and len(values) == len(fields):
        return dict(zip(fields, values, strict=True))
    if len(fields) > 1:
        alone = [nvidia_smi([field], index) for field in fields]
        known = {name: value for found in alone for name, value in found.items() if name != "nvidia_smi"}
        return known or alone[0]
    return {"nvidia_smi": (said.stderr or said.stdout).strip()[:200] or f"status {said.returncode}"}


def _source_digest() -> str:
    """Of the package's code: the commit alone does not know what was changed since, and may not be there."""
    root, whole = Path(spec_vla_ros.__file__).parent, hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        whole.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes() + b"\0")
    return whole.hexdigest()[:16]


def _commit() -> str:
    root = Path(spec_vla_ros.__file__).parent
    try:
        said = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, timeout=TOOL)  # noqa: S607
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return said.stdout.strip() if said.returncode == 0 else "unknown"
