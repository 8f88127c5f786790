"""Git LFS pointers: a clone without Git LFS has three lines in place of a large file, which say what it would be."""

from __future__ import annotations

from pathlib import Path

_BEGINS = b"version https://git-lfs.github.com/spec/"


def lfs_pointer(path: Path) -> str:
    """What to say of ``path`` if it is such a pointer; empty if it is anything else, or cannot be read."""
    try:
        with path.open("rb") as stream:
            found = stream.read(len(_BEGINS)) == _BEGINS
    except OSError:
        return ""
    return f"{path} is a Git LFS pointer and not the file itself: run git lfs pull, or fetch it anew" if found else ""
