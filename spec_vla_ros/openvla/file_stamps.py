"""Whether what is on disk is still what was loaded: checkpoint, base model of an adapter, draft heads.

The weights in memory do not change with the files. But nobody could say afterwards what drove the arm, and a restart
would drive it with something else.
"""

from __future__ import annotations

import time
from pathlib import Path

from spec_vla_ros.errors import CheckpointChangedError

# Everything of a checkpoint, an adapter or a draft head that is read; notes and training reports beside it are not.
PATTERNS = ("*.safetensors", "*.safetensors.index.json", "dataset_statistics.json", "tokenizer*", "pytorch_model.bin")
PATTERNS += ("config.json", "preprocessor_config.json", "adapter_config.json")
PERIOD = 1.0  # s between two looks; a look is a few calls of stat()

Stamp = tuple[int, int, int]


class FileStamps:
    """Which files there are in some folders, and their time, size and number, as they were at the beginning.

    The number is that of the inode: a copy that keeps the times, and half-precision weights all have the same size, is
    another file nevertheless.
    """

    def __init__(self, *folders: Path) -> None:
        self._folders = list(folders)
        self._stamps = self._read()
        self._looked_at = time.monotonic()
        self._changed: list[str] = []

    def extend(self, others: FileStamps) -> None:
        """Watch what ``others`` watches as well, from when it began to."""
        self._folders += [folder for folder in others._folders if folder not in self._folders]
        self._stamps |= others._stamps

    def check(self, now: float | None = None) -> None:
        """Raise :class:`CheckpointChangedError` if a file was changed, added or removed; looks once per second.

        ``now``: s, steady clock; None = look in any case.
        """
        if now is None or now - self._looked_at >= PERIOD:
            self._looked_at = time.monotonic() if now is None else now
            current = self._read()
            paths = sorted(self._stamps.keys() | current.keys())
            self._changed = [str(path) for path in paths if self._stamps.get(path) != current.get(path)]
        if self._changed:  # also between two looks: the next inference must not slip through
            raise CheckpointChangedError(f"files have changed since they were loaded: {', '.join(self._changed)}")

    def _read(self) -> dict[Path, Stamp]:
        found = {}
        for folder in self._folders:
            for pattern in PATTERNS:
                for path in folder.glob(pattern):
                    try:
                        status = path.stat()
                    except OSError:  # gone since it was listed, a link to nothing, a share that does not answer
                        continue
                    found[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
        return found
