"""SQLite files that were cut off: their rows up to the cut.

The first page says how many pages the file has, and SQLite refuses a shorter file as a whole. It ignores that number
where two counters in the same page differ (a writer that does not know the number leaves them so; file format, sections
1.3.7 and 1.3.16); so one of them is read differently from what is on disk. Nothing is written.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

_COUNTER = slice(92, 96)  # "version-valid-for": the change counter at the time when the number of pages was written
_numbers = itertools.count()


class _Files(apsw.VFS):
    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802 - SQLite's name
        return _File("", name, flags)


class _File(apsw.VFSFile):
    def __init__(self, base: str, name: Any, flags: list[int]) -> None:
        super().__init__(base, name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        data = super().xRead(amount, offset)
        if offset > _COUNTER.start or offset + len(data) < _COUNTER.stop:
            return data
        patched, at = bytearray(data), slice(_COUNTER.start - offset, _COUNTER.stop - offset)
        patched[at] = bytes(byte ^ 0xFF for byte in patched[at])
        return bytes(patched)


def rows(file: Path, *queries: str) -> Iterator[list[Any]]:
    """Per query one list of its rows, the last query row by row; raises ``apsw.Error`` where the file ends."""
    vfs = _Files(f"cut_{next(_numbers)}")
    database = apsw.Connection(
        f"file:{file}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI, vfs=vfs.name
    )
    try:
        for query in queries[:-1]:
            yield list(database.execute(query))
        for row in database.execute(queries[-1]):
            yield list(row)
    finally:
        database.close()
        vfs.unregister()
