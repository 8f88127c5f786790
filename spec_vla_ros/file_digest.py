"""What tells large files apart without reading them as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

EDGE = 2**20  # bytes at either end of a file that are read


def digest(files: Iterable[Path]) -> str:
    """Of names, sizes and both ends of ``files``, as 32 hexadecimal digits."""
    whole = hashlib.sha256()
    for file in sorted(files):
        size = file.stat().st_size
        whole.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as stream:
            whole.update(stream.read(EDGE))
            stream.seek(max(0, size - EDGE))
            whole.update(stream.read(EDGE))
    return whole.hexdigest()[:32]
