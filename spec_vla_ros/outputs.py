"""What commands write: refused before the work where it cannot be, whole or not at all afterwards.

A full disk in the middle is one sentence with the path, and leaves nothing behind that looks finished.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from spec_vla_ros.errors import CommandError
from spec_vla_ros.foreign_text import printable

BLOCK = bytes(4096)  # a file without content fits on a full disk
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # of libraries in Rust
_TORCH = ("PytorchStreamWriter", "unexpected pos")


class OutputError(CommandError):
    """A file or folder cannot be written."""


def require(*paths: Path | str | None, folder: bool = False) -> None:
    """Raise :class:`OutputError` for the first of ``paths`` that could not be written. Nothing is created.

    ``folder``: folders to write into, else files. None is skipped.
    """
    for path in paths:
        if path is not None:
            _require(Path(path), folder)


@contextlib.contextmanager
def whole(path: Path | str, *, folder: bool = False) -> Iterator[Path]:
    """Where to write the file ``path``: it takes that name, in place of what has it, when the block ends.

    If the block raises, nothing is left, and whatever had the name still has it. What is yielded has another suffix, so
    that nobody takes half a file for the whole; a library that goes by it has to be told the format. ``folder``: it is
    one, and what is yielded does not exist and ends with its name, after which some libraries call their files.
    Raises :class:`OutputError`.
    """
    path = Path(path)
    with writing(path):
        final = Path(os.path.realpath(path))  # a link stays one
        if final.exists() and not final.is_file() and not final.is_dir():  # /dev/stdout, a pipe: it has no name to take
            yield final
            return
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = final.with_name(f"{final.name}.partial-{os.getpid()}")
        try:
            _remove(partial)  # of a process with our number that was killed
            if folder:
                partial.mkdir()
            made = partial / final.name if folder else partial
            yield made
            _to_disk(made)
            if folder and final.is_dir():
                shutil.rmtree(final)
            made.replace(final)
        finally:
            with contextlib.suppress(OSError):
                _remove(partial)


@contextlib.contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """What the system says about ``path``, or about no file at all, becomes an :class:`OutputError` with its name."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and not _within(error.filename, path):
            raise  # of something that is read meanwhile
        raise _failed(path, error.strerror or str(error)) from error
    except CommandError:
        raise
    except Exception as error:
        if not (why := _foreign(error)):
            raise
        raise _failed(path, why) from error


def write_text(path: Path | str, text: str) -> None:
    """Write a file in UTF-8, whole or not at all. What UTF-8 has no word for becomes a backslash sequence."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextlib.contextmanager
def appending(path: Path | str, *, durable: bool = False) -> Iterator[Callable[[str], None]]:
    """A function that adds text to the end of the file ``path``, each time all of it or nothing.

    ``durable``: on the disk, too, before it returns. Raises :class:`OutputError`, as does that function.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def append(text: str) -> None:
        left, before = memoryview(text.encode("utf-8", "backslashreplace")), os.fstat(descriptor).st_size
        with writing(path):
            try:
                while left:
                    left = left[os.write(descriptor, left) :]
                if durable:
                    os.fsync(descriptor)
            except OSError:
                with contextlib.suppress(OSError):  # a device
                    os.ftruncate(descriptor, before)
                raise

    try:
        yield append
    finally:
        os.close(descriptor)


def _require(path: Path, folder: bool) -> None:
    try:
        kind = _kind(path)
        if kind is None and folder and path.is_symlink():
            raise _failed(path, f"it is a link to {path.readlink()}, which does not exist")
        if kind is not None and folder and kind != stat.S_IFDIR:
            raise _failed(path, "it is a file, expected a folder")
        if not folder and kind == stat.S_IFDIR:
            raise _failed(path, "it is a folder, expected a file")
        if kind is not None and not folder and not os.access(path, os.W_OK):
            raise _failed(path, "it is write-protected")
        if kind is not None and kind not in (stat.S_IFDIR, stat.S_IFREG):
            return  # a device or a pipe
        place = path.absolute() if folder else Path(os.path.realpath(path)).parent
        while _kind(place) is None and not place.is_symlink():
            place = place.parent
        if not place.is_dir():
            raise _failed(path, f"{place} is no folder")
        with tempfile.TemporaryFile(dir=place) as trial:
            trial.write(BLOCK)
            trial.flush()
            os.fsync(trial.fileno())
    except OSError as error:
        raise _failed(path, error.strerror or str(error)) from error


def _kind(path: Path) -> int | None:
    """S_IFREG, S_IFDIR and so on; None for what is missing. ``OSError`` for what cannot be, such as a ring of links."""
    try:
        return stat.S_IFMT(os.stat(path).st_mode)
    except FileNotFoundError:
        return None


def _foreign(error: BaseException) -> str:
    """Why a library in C++ or Rust could not write, empty where that is not what it says."""
    if found := _OS_ERROR.search(str(error)):
        return os.strerror(int(found[1]))
    if not any(sign in str(error) for sign in _TORCH):
        return ""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__context__
    return "the disk is full, or the file is too large for it"


def _to_disk(path: Path) -> None:
    """Files only: some disks say not before this that they are full."""
    if path.is_file():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _within(name: str | bytes | int, path: Path | str) -> bool:
    """Whether ``name`` is ``path``, a part of it, a folder above it, or its temporary name."""
    if isinstance(name, int):
        return False
    one = Path(os.path.abspath(os.fsdecode(name)))
    for other in (Path(os.path.abspath(path)), Path(os.path.realpath(path))):
        if one == other or one in other.parents or other in one.parents or f"{other.name}.partial-" in str(one):
            return True
    return False


def _failed(path: Path | str, why: str) -> OutputError:
    return OutputError(f"{printable(os.fspath(path))} cannot be written: {why}")
