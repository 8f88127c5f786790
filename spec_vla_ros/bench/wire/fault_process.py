"""The act node's process in a fault campaign: its log as a pipe that can be blocked, its child, and signals to both."""

from __future__ import annotations

import os
import selectors
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from spec_vla_ros.ros.children import Child

from . import fault_events as events

PIPE = 65536  # bytes; what is written into a pipe at once
PUMP = 0.1  # s between two looks at whether the pipe shall be read


class ActProcess(Child):
    """As :class:`Child`, but standard output and error are a pipe that somebody reads, or does not."""

    def __init__(self, module: str, arguments: Sequence[str], folder: Path, env: dict[str, str], number: int) -> None:
        """``number``: of the start, for the name of the log."""
        fifo, self._text = folder / f"pipe_{number}", folder / f"act_{number}.log"
        os.mkfifo(fifo)
        self._pipe = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)  # the writer's open() would wait for a reader otherwise
        self._blocked, self._over, self._idle = threading.Event(), threading.Event(), threading.Event()
        super().__init__("the act node", module, arguments, fifo, env)
        self.log = self._text
        self._pump = threading.Thread(target=self._read, name="log", daemon=True)
        self._pump.start()

    @property
    def safety(self) -> int | None:
        """Process id of the child that publishes the velocities; None if there is none."""
        return next((pid for pid in self.members() if pid != self.pid and _parent(pid) == self.pid), None)

    def members(self) -> list[int]:
        """Of the process group, the act node included, as far as they live."""
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]
        return [pid for pid in pids if _group(pid) == self.pid]

    def signal(self, number: int, whom: str) -> bool:
        """Whether there was somebody to send it to."""
        try:
            if whom == events.GROUP:
                os.killpg(self.pid, number)
            else:
                pid = self.pid if whom == events.ACT else self.safety
                if pid is None:
                    return False
                os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def block_log(self) -> None:
        """Nobody reads what the node writes any more, and there is no room left."""
        self._idle.clear()
        self._blocked.set()
        self._idle.wait(10 * PUMP)
        while True:
            try:
                os.write(self._pipe, b"\n" * PIPE)
            except BlockingIOError:
                break
        while True:  # what is too long for the room that is left is not written at all
            try:
                os.write(self._pipe, b"\n")
            except BlockingIOError:
                return

    def read_log(self) -> None:
        """It is read again."""
        self._blocked.clear()

    def forget(self) -> None:
        """After its end: read what is left, stop reading, and end what is left of the group."""
        self.read_log()
        self._over.set()
        self._pump.join()
        os.close(self._pipe)
        for pid in self.members():
            os.kill(pid, signal.SIGKILL)

    def _read(self) -> None:
        with self._text.open("ab") as log, selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            while True:
                over = self._over.is_set()
                if self._blocked.is_set():
                    self._idle.set()
                    time.sleep(PUMP)  # a pipe that nobody reads has to stay as it is
                elif selector.select(0.0 if over else PUMP):
                    log.write(os.read(self._pipe, PIPE).lstrip(b"\n"))
                    log.flush()
                elif over:
                    return


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    fields = text.rpartition(")")[2].split()
    return [] if fields[0] in "ZX" else fields


def _parent(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def _group(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[2]) if fields else None
