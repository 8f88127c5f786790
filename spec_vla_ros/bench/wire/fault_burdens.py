"""What makes a machine short of something: memory, processors, shared memory. Bounded, and always given back. No ROS.

``python -m spec_vla_ros.bench.wire.fault_burdens memory BYTES``, ``... shared BYTES`` and ``... cpu SECONDS`` are the
processes that do it; all end with their standard input, so that nothing is left where the campaign is killed. The
campaign itself must not: while it takes a gigabyte, the clock and the camera that it plays stand still.
"""

from __future__ import annotations

import os
import resource
import select
import sys
import tempfile
import time
from pathlib import Path

from spec_vla_ros.machine import available_memory

SHARE, LARGEST = 0.7, 6 * 10**9  # of the memory that is available, and bytes
CHUNK = 64 * 1024 * 1024  # bytes that are touched between two looks at standard input
SHARED = Path("/dev/shm")  # noqa: S108 - what DDS implementations use
LEFT, LARGEST_SHARED = 4 * 1024 * 1024, 10**9  # bytes that stay free, and that are taken at most


def memory_to_take() -> int:
    """Bytes that a process may allocate now without harm to others."""
    available = available_memory()
    if available is None:
        raise OSError("the system does not say how much memory is available")
    return min(int(SHARE * available), LARGEST)


def why_no_shared_memory(folder: Path = SHARED) -> str:
    """Why ``folder`` cannot be filled here; empty if it can."""
    try:
        usage = os.statvfs(folder)
    except OSError as error:
        return str(error)
    free = usage.f_bavail * usage.f_frsize
    if free - LEFT > LARGEST_SHARED:
        return f"{folder} has {free / 1e6:.0f} MB free, at most {LARGEST_SHARED / 1e6:.0f} MB are filled"
    if free <= LEFT:
        return f"{folder} has only {free / 1e6:.0f} MB free"
    return ""


def shared_memory_to_take(folder: Path = SHARED) -> int:
    """Bytes that fill ``folder`` but for a few MB; ``OSError`` where that cannot be done."""
    if reason := why_no_shared_memory(folder):
        raise OSError(reason)
    usage = os.statvfs(folder)
    return usage.f_bavail * usage.f_frsize - LEFT


def _told_to_end(patience: float) -> bool:
    return bool(select.select([sys.stdin], [], [], patience)[0])


def _take(size: int) -> None:
    Path("/proc/self/oom_score_adj").write_text("1000")  # if the machine runs short, this is what ends
    taken = []
    for _ in range(size // CHUNK):
        taken.append(b"\x01" * CHUNK)
        if _told_to_end(0.0):
            return
    while not _told_to_end(1.0):
        pass


def _fill(size: int, folder: Path = SHARED) -> None:
    # Without a name it is given back with the process, however that ends.
    with tempfile.TemporaryFile(dir=folder) as file:
        for start in range(0, size, CHUNK):
            os.posix_fallocate(file.fileno(), start, min(CHUNK, size - start))
            if _told_to_end(0.0):
                return
        while not _told_to_end(1.0):
            pass


def _burn(seconds: float) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 2, int(seconds) + 2))
    end = time.monotonic() + seconds
    while time.monotonic() < end and not _told_to_end(0.0):
        sum(range(20_000))


if __name__ == "__main__":
    what, amount = sys.argv[1:]
    {"memory": lambda: _take(int(amount)), "shared": lambda: _fill(int(amount)), "cpu": lambda: _burn(float(amount))}[
        what
    ]()
