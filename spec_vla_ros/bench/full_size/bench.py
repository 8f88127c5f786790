"""Writes the checkpoint, has it loaded and asked once per precision, and deletes it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from spec_vla_ros.errors import CommandError
from spec_vla_ros.inspection.memory import cache_bytes, weight_bytes
from spec_vla_ros.machine import available_memory
from spec_vla_ros.openvla.config import OpenVLAConfig
from spec_vla_ros.openvla.devices import named_device
from spec_vla_ros.openvla.precisions import had_by
from spec_vla_ros.outermost import undisturbed

from . import act
from .checkpoint import forget_files, full_size_checkpoint

BESIDE = 1.5e9  # bytes that a process needs beside weights and cache: torch, activations, a tensor that is being read
GRACE = 10.0  # s that a process gets to end
ACTION_DIM = 7


def measure(
    place: Path,
    config: OpenVLAConfig,
    precisions: Sequence[str],
    say: Callable[[str], None],
    device: str = "cpu",
    threads: int = 0,
    actions: int = 3,
) -> list[dict[str, Any]]:
    """One row per precision that this device has and that fits its memory; why not is said of the others."""
    todo, why_not = had_by(named_device(device), precisions)
    for why in why_not:
        say(f"left out: {why}")
    if not todo:
        raise CommandError("none of these precisions can be measured here")
    rows = []
    with full_size_checkpoint(place, config, say) as folder:
        for precision in todo:
            if why := no_room(config, precision, device):
                say(f"left out: {precision}: {why}")
                continue
            forget_files(folder)
            rows.append(_in_process(act.Options(str(folder), precision, device, threads, actions)))
            say(line(rows[-1]))
    return rows


def no_room(config: OpenVLAConfig, precision: str, device: str) -> str:
    """Why the memory of this machine would not do, empty if it does: nobody else shall be pushed out."""
    if named_device(device).type != "cpu":
        return ""  # its driver refuses
    need = weight_bytes(config, precision) + cache_bytes(config, ACTION_DIM, precision) + BESIDE
    free = available_memory()
    if free is None or need <= free:
        return ""
    return f"{need / 1e9:.1f} GB of memory are needed, {free / 1e9:.1f} GB are available"


def _in_process(options: act.Options) -> dict[str, Any]:
    process = None
    try:
        with undisturbed():
            process = subprocess.Popen(act.command(options), stdout=subprocess.PIPE, text=True)  # noqa: S603
        said, _ = process.communicate()
    finally:
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    if process.returncode == -signal.SIGKILL:
        raise CommandError(f"{options.precision}: the process was killed; most likely the memory was not enough")
    if process.returncode:
        raise CommandError(f"{options.precision}: the process ended with status {process.returncode}")
    return json.loads(said.splitlines()[-1])


def line(row: dict[str, Any]) -> str:
    """One row for people."""
    plain, wide, planned = (row["presets"][name] for name in (act.PLAIN, act.WIDE, act.PLANNED))
    peak = row["peak_gb"]
    text = (
        f"{row['precision']:<13} loaded in {row['load_s']:.0f} s (CPU {row['load_cpu_s']:.0f} s)  autoregressive "
        f"{_times(plain)}, towers {plain['vision_s']['median']:.2f}, prefill {plain['prefill_s']['median']:.2f}, other "
        f"passes {plain['decode_s']['median']:.2f}  training_free, all accepted: {_drafts(wide)}; tree by these times: "
        f"{_drafts(planned)}  anonymous memory {peak['loading']['anonymous']:.1f} GB loading, "
        f"{peak['acting']['anonymous']:.1f} GB acting, mapped files {peak['loading']['mapped']:.1f} GB"
    )
    return text if row["gpu_peak_gb"] is None else f"{text}, GPU {row['gpu_peak_gb']:.1f} GB"


def _times(preset: dict[str, Any]) -> str:
    return f"{preset['total_s']['median']:.2f} s (CPU {preset['cpu_s']['median']:.2f} s)"


def _drafts(preset: dict[str, Any]) -> str:
    return f"{preset['drafted_mean']:.0f} rows, {preset['passes_mean']:.1f} passes, {_times(preset)}"
