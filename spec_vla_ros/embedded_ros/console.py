"""Lines to standard error, which never wait: a pipe whose reader is stuck would hold the executor for ever.

What cannot be written at once is dropped, and the number of dropped lines is written as soon as there is room.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import sys
import threading
from collections.abc import Callable
from typing import Any

PIECE = min(select.PIPE_BUF, 4096)  # bytes; a pipe that poll calls writable takes so many at once


class Console:
    """Writes lines to ``stream``, without one to whatever ``sys.stderr`` is at that moment. Any thread."""

    def __init__(self, stream: Any = None) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._outlet: _Outlet | None = None
        self.dropped = 0  # lines that nobody has been told about

    def write(self, line: str, report: Callable[[int], str]) -> bool:
        """Write ``line``, which ends with a newline; False if it was dropped.

        ``report`` makes the line that stands in place of so many dropped ones.
        """
        stream = self._stream or sys.stderr
        if stream is None:
            return False
        try:
            number = stream.fileno()
        except (AttributeError, OSError, ValueError):  # a stream in memory, or one that is closed
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.write(line)
                stream.flush()
                return True
            return False
        with self._lock:
            written = self._send(number, line, report)
            self.dropped += not written
        return written

    def _send(self, number: int, line: str, report: Callable[[int], str]) -> bool:
        try:
            outlet = self._outlet_of(number)
            if self.dropped:
                if not outlet.send(report(self.dropped).encode("utf-8", "backslashreplace")):
                    return False
                self.dropped = 0
            return outlet.send(line.encode("utf-8", "backslashreplace"))
        except OSError:  # a full disk under the log, or a reader that has gone, must not end a callback
            return False

    def _outlet_of(self, number: int) -> _Outlet:
        status = os.fstat(number)
        key = (number, status.st_dev, status.st_ino)
        if self._outlet is None or self._outlet.key != key:  # the first line, or standard error was redirected
            if self._outlet is not None:
                self._outlet.close()
            self._outlet = _Outlet(key, status.st_mode)
        return self._outlet


class _Outlet:
    """One file description that takes bytes at once or not at all."""

    def __init__(self, key: tuple[int, int, int], mode: int) -> None:
        self.key, self._torn = key, False
        self._number, self._own = key[0], False
        self._socket: Any = None
        if stat.S_ISFIFO(mode):
            # A description of our own may be non-blocking. The one that we were given is shared with other processes,
            # and one of them may fill the pipe between our look and our write.
            with contextlib.suppress(OSError):
                self._number = os.open(f"/proc/self/fd/{key[0]}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                self._own = True
        elif stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(key[0]))
        self._waits = not stat.S_ISREG(mode)
        self._poll = select.poll()
        self._poll.register(self._number, select.POLLOUT)

    def send(self, data: bytes) -> bool:
        """Write all of ``data``; False, and perhaps the beginning of it, if that would take waiting."""
        if self._torn:
            data = b"\n" + data
        done = 0
        while done < len(data):
            count = self._write(data[done : done + PIECE])
            if not count:
                return False
            done += count
            self._torn = done < len(data)
        return True

    def _write(self, piece: bytes) -> int:
        """How many bytes were taken, 0 if none can be now."""
        if self._waits and not any(event & select.POLLOUT for _, event in self._poll.poll(0)):
            return 0
        try:
            if self._socket is not None:
                return self._socket.send(piece, socket.MSG_DONTWAIT)
            return os.write(self._number, piece)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Give up what is ours."""
        if self._own:
            os.close(self._number)
        if self._socket is not None:
            self._socket.close()
