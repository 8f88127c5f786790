"""What makes a machine short of something: memory, processors, shared memory. Bounded, and always given back. No ROS.

``python -m spec_vla_ros.bench.wire.fault_burdens memory BYTES`` and ``... cpu SECONDS`` are the processes that do it;
both end with their standard input, so that nothing is left where the campaign is killed.
"""

from __future__ import annotations

import os
import resource
import select
import sys
import time
from pathlib import Path

SHARE, LARGEST = 0.7, 6 * 10**9  # of the memory that is available, and bytes
CHUNK = 64 * 1024 * 1024  # bytes that are touched between two looks at standard input
SHARED = Path("/dev/shm")  # noqa: S108 - what DDS implementations use
LEFT, LARGEST_SHARED = 4 * 1024 * 1024, 10**9  # bytes that stay free, and that are taken at most


def memory_to_take() -> int:
    """Bytes that a process may allocate now without harm to others."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
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


class SharedMemory:
    """Fills ``/dev/shm`` but for a few MB. ``repair`` removes the file."""

    def __init__(self, folder: Path = SHARED) -> None:
        self._folder, self._path = folder, folder / f"spec_vla_faults_{os.getpid()}"

    def fill(self) -> None:
        """Take what is free, within the bounds."""
        if reason := why_no_shared_memory(self._folder):
            raise OSError(reason)
        usage = os.statvfs(self._folder)
        size = max(1, usage.f_bavail * usage.f_frsize - LEFT)
        with self._path.open("wb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError:
                self.repair()
                raise

    def repair(self) -> None:
        """Give it back."""
        self._path.unlink(missing_ok=True)


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


def _burn(seconds: float) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 2, int(seconds) + 2))
    end = time.monotonic() + seconds
    while time.monotonic() < end and not _told_to_end(0.0):
        sum(range(20_000))


if __name__ == "__main__":
    what, amount = sys.argv[1:]
    _take(int(amount)) if what == "memory" else _burn(float(amount))
