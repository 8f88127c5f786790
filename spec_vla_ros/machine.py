"""What figures were measured on: the machine and the versions of everything they may depend on."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import spec_vla_ros
from spec_vla_ros.outputs import write_text

LIBRARIES = (
    *("torch", "numpy", "pillow", "safetensors", "tokenizers", "mujoco", "cyclonedds", "rosbags", "mcap"),
    *("opencv-python-headless", "matplotlib"),
)


def write_rows(path: Path | None, rows: list[dict[str, Any]]) -> None:
    """Write the figures of a bench to ``path``, with what they were measured on; None: nowhere."""
    if path is not None:
        write_text(path, json.dumps({"machine": machine(), "versions": versions(), "rows": rows}, indent=2) + "\n")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (OSError, ValueError):
        name, memory = "", None
    return {
        "processor": name or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": memory,
        "system": platform.platform(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }


def available_memory() -> int | None:
    """Bytes of memory that can be had without swapping; None where the system does not say."""
    return _told(Path("/proc/meminfo"), "MemAvailable")


def peak_memory() -> int | None:
    """Bytes of the most memory that this program had resident; None where the system does not say.

    ``ru_maxrss`` of Linux would begin with what the process had that started it.
    """
    return _told(Path("/proc/self/status"), "VmHWM")


def _told(file: Path, name: str) -> int | None:
    """Bytes of what ``file`` calls ``name``, in kB there."""
    try:
        lines = file.read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def versions() -> dict[str, str]:
    """Of everything that the figures may depend on."""
    result = {"spec_vla_ros": spec_vla_ros.__version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            result[library] = version(library)
        except PackageNotFoundError:
            continue
    return result
