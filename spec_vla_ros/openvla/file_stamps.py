"""Whether a checkpoint on disk is still the one that was loaded.

The weights in memory do not change with the files. But nobody could say afterwards what drove the arm, and a restart
would drive it with something else.
"""

from __future__ import annotations

import time
from pathlib import Path

from spec_vla_ros.errors import CheckpointChangedError

PATTERNS = ("*.safetensors", "*.safetensors.index.json", "config.json", "dataset_statistics.json", "tokenizer*")
PERIOD = 1.0  # s between two looks; a look is a few calls of stat()


class FileStamps:
    """Time and size of the files of a folder, as they were at the beginning."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stamps = self._read()
        self._looked_at = time.monotonic()
        self._changed: list[str] = []

    def check(self, now: float | None = None) -> None:
        """Raise :class:`CheckpointChangedError` if a file was changed, added or removed; looks once per second.

        ``now``: s, steady clock; None = look in any case.
        """
        if now is None or now - self._looked_at >= PERIOD:
            self._looked_at = time.monotonic() if now is None else now
            current = self._read()
            names = sorted(self._stamps | current)
            self._changed = [name for name in names if self._stamps.get(name) != current.get(name)]
        if self._changed:  # also between two looks: the next inference must not slip through
            raise CheckpointChangedError(
                f"files of {self._folder} have changed since they were loaded: {self._changed}"
            )

    def _read(self) -> dict[str, tuple[int, int]]:
        found = {}
        for pattern in PATTERNS:
            for path in self._folder.glob(pattern):
                status = path.stat()
                found[path.name] = (status.st_mtime_ns, status.st_size)
        return found
