"""The outermost place of a process: turns what has a name into one line and an exit status.

Errors of this package, of files and of missing libraries are told to the person at the keyboard in one line. Anything
else is a defect, and keeps its traceback. Exit statuses: 0 done, 1 not possible, 2 the command line is wrong, 130
Ctrl-C, 141 nobody reads standard output any more, 143 SIGTERM; commands may have further meanings of 1 and 2.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import select
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from spec_vla_ros.errors import CommandError, SpecVlaError
from spec_vla_ros.foreign_text import printable

INTERRUPTED, NO_READER, TERMINATED = (128 + int(n) for n in (signal.SIGINT, signal.SIGPIPE, signal.SIGTERM))
PACKAGE = "spec_vla_ros"


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command by the same way as Ctrl-C."""


def run(name: str, command: Callable[[], int | None], extras: str = "") -> int:
    """Run ``command``, which is called ``name``; returns the exit status. ``SystemExit`` of argparse passes.

    ``extras``: of this package that the command needs, told where a library is missing. A ``KeyboardInterrupt`` may
    carry a text, which is told as well.
    """
    any_text()
    try:
        with _sigterm():
            status = command() or 0
            sys.stdout.flush()
            return status
    except KeyboardInterrupt as error:
        ended, status = ("terminated", TERMINATED) if isinstance(error, Terminated) else ("interrupted", INTERRUPTED)
        _tell(f"{name}: {ended}{f'; {error}' if str(error) else ''}")
        return status
    except SystemExit as error:
        if isinstance(error.code, str):
            _tell(f"{name}: {error.code}")
            return 1
        raise
    except BrokenPipeError as error:
        if _has_reader(sys.stdout):
            return _told(name, error, extras)
        _drop(sys.stdout)
        return NO_READER
    except Exception as error:
        if (status := _told(name, error, extras)) is None:
            raise
        return status


def main_of(module: str, name: str) -> int:
    """Run ``main()`` of the node ``module``, called ``name``: what its import raises is one line as well.

    A node that is asked to end has nothing to complain about: its status is 0, at whatever moment it is asked.
    """
    any_text()
    try:
        return importlib.import_module(module).main() or 0
    except KeyboardInterrupt:
        return 0
    except (CommandError, SpecVlaError, ImportError, OSError) as error:
        if (status := _told(name, error)) is None:
            raise
        return status


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Within it Ctrl-C and SIGTERM wait: what is being started would go on alone if they raised before it is known.

    They are not blocked, because a new process would inherit that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    before = _handled(dict.fromkeys((signal.SIGINT, signal.SIGTERM), lambda number, _: waiting.append(number)))
    try:
        yield
    finally:
        _handled(before)
        if waiting:
            signal.raise_signal(waiting[0])


def _handled(handlers: Mapping[signal.Signals, Any]) -> dict[signal.Signals, Any]:
    """Set all ``handlers`` at once; returns those before. What Python has not set itself stays."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, handlers)  # what came just before is handled here, and may raise
        return {number: signal.signal(number, to) for number, to in handlers.items() if signal.getsignal(number)}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def any_text() -> None:
    """From now on no text is one that standard output or error cannot show: they write a backslash sequence instead."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):  # a stream in memory, a closed one, None
            stream.reconfigure(errors="backslashreplace")


def in_words(error: BaseException) -> str:
    """What a named error says, in one line unless it shows the end of a log; empty for an error without a name."""
    if isinstance(error, CommandError):
        return "\n".join(map(printable, str(error).split("\n"))) if error.lines else printable(error)
    if isinstance(error, SpecVlaError):
        return f"{error.fault}: {one_line(error)}{'' if str(error).endswith('.') else '.'} {error.remedy}"
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, without importing it
        return f"not enough memory{f': {one_line(error)}' if str(error) else ''}"
    return ""


def one_line(text: Any) -> str:
    """``text`` without line breaks."""
    return printable(" ".join(str(text).split()))


def _told(name: str, error: Exception, extras: str = "") -> int | None:
    """The exit status once ``error`` has been told; None if it is none that has a name."""
    if isinstance(error, ImportError):
        if (error.name or "").split(".")[0] == PACKAGE:  # a defect of ours, not a library that is missing
            return None
        more = f". It needs: pip install '{PACKAGE}[{extras}]'" if extras else ""
        _tell(f"{name}: {one_line(error)}{more}")
        return 1
    text = in_words(error)
    if not text:
        return None
    if isinstance(error, OSError) and _unwritten(error):
        text = f"standard output: {error.strerror}"
        _drop(sys.stdout)
    _tell(f"{name}: {text}")
    return error.status if isinstance(error, CommandError) else 1


def _of_system(error: OSError) -> str:
    if error.filename is None or error.strerror is None:
        return one_line(error)
    names = [printable(os.fspath(n)) if not isinstance(n, int) else f"file descriptor {n}"
             for n in (error.filename, error.filename2) if n is not None]  # fmt: skip
    return f"{' -> '.join(names)}: {error.strerror}"


def _unwritten(error: OSError) -> bool:
    """Whether it is standard output that a disk has no room for: what else is written has a name."""
    if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        return False
    try:
        mode, terminal = os.fstat(sys.stdout.fileno()).st_mode, sys.stdout.isatty()
    except (AttributeError, OSError, ValueError):
        return False
    return stat.S_ISREG(mode) or (stat.S_ISCHR(mode) and not terminal)


def _has_reader(stream: Any) -> bool:
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)  # errors are always told
        return not any(event & select.POLLERR for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):
        return True


def _drop(stream: Any) -> None:
    """Let what is left in ``stream`` go nowhere: the interpreter would try once more, and complain, when it ends."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _tell(line: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # nobody there to tell
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


@contextlib.contextmanager
def _sigterm() -> Iterator[None]:
    """Within it SIGTERM raises :class:`Terminated`, so that whatever has been started is ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
