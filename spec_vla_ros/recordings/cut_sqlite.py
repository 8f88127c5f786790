"""SQLite files that were not closed: their rows up to the cut, and those that only the write-ahead log holds.

The first page says how many pages the file has, and SQLite refuses a shorter file as a whole. It ignores that number
where two counters in the same page differ (a writer that does not know the number leaves them so; file format, sections
1.3.7 and 1.3.16); so one of them is read differently from what is on disk.

A recorder that was killed leaves a write-ahead log beside the file. To read it, SQLite wants to lock the file and to
write an index of the log beside it; here locks are granted by nobody and the index is in memory. Nothing is written.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw

_COUNTER = slice(92, 96)  # "version-valid-for": the change counter at the time when the number of pages was written
_numbers = itertools.count()


class _Files(apsw.VFS):
    def __init__(self, name: str, log: bool) -> None:
        self.name, self._kind = name, _LoggedFile if log else _CutFile
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802 - SQLite's name
        if flags[0] & apsw.SQLITE_OPEN_WAL:  # asked for with the right to write and to create it
            flags[0] &= ~(apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
            flags[0] |= apsw.SQLITE_OPEN_READONLY
        return self._kind("", name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        raise apsw.ReadOnlyError(filename)


class _CutFile(apsw.VFSFile):
    def __init__(self, base: str, name: Any, flags: list[int]) -> None:
        super().__init__(base, name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        data = super().xRead(amount, offset)
        if offset > _COUNTER.start or offset + len(data) < _COUNTER.stop:
            return data
        patched, at = bytearray(data), slice(_COUNTER.start - offset, _COUNTER.stop - offset)
        patched[at] = bytes(byte ^ 0xFF for byte in patched[at])
        return bytes(patched)


class _LoggedFile(apsw.VFSFile):
    def __init__(self, base: str, name: Any, flags: list[int]) -> None:
        super().__init__(base, name, flags)

    def xLock(self, level: int) -> None:  # noqa: N802
        pass

    def xUnlock(self, level: int) -> None:  # noqa: N802
        pass

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False


def log_of(file: Path) -> Path | None:
    """The write-ahead log beside ``file``, if it holds anything."""
    log = file.with_name(file.name + "-wal")
    return log if log.is_file() and log.stat().st_size else None


def rows(file: Path, *queries: str) -> Iterator[list[Any]]:
    """Per query one list of its rows, the last query row by row; raises ``apsw.Error`` where the file ends."""
    log = log_of(file) is not None
    vfs = _Files(f"cut_{next(_numbers)}", log)
    database = apsw.Connection(
        f"file:{quote(str(file))}?{'mode=ro' if log else 'immutable=1'}",
        flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI, vfs=vfs.name,
    )  # fmt: skip
    try:
        if log:
            database.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()  # then the log's index is in memory
        for query in queries[:-1]:
            yield list(database.execute(query))
        for row in database.execute(queries[-1]):
            yield list(row)
    finally:
        database.close()
        vfs.unregister()
