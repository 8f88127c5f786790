"""The act node's end of the safety loop: starts its process, tells it what is wanted, hears what it does.

Nothing here waits for the other process but what says so in its name: an intent that finds no room is dropped, and
the next heartbeat repeats it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import spec_vla_ros
from spec_vla_ros.motion.intent import LARGEST, Intent, IntentError, Report
from spec_vla_ros.motion.watchdog import Fault

from . import fast_dds
from .safety_node import Setup

MODULE = "spec_vla_ros.node.safety_node"
START = 20.0  # s for the process to import, join the graph and answer; 0.5 s on an idle machine
SILENCE = 0.5  # s without a report after which the loop counts as hanging; it says something every 0.1 s
END = 1.0  # s for the process to end once it has said its last words
LINES = 100  # of its standard error that are kept until somebody logs them
WATCH = 0.005  # s between two looks while waiting


class SafetyLink:
    """One safety process. The executor's thread owns it; a thread of its own listens.

    ``on_news`` is called by that thread whenever there is a new report, and once when the process is gone.
    """

    def __init__(self, setup: Setup, on_news: Callable[[], None]) -> None:
        from .middleware import surroundings  # of rclpy, which may not be found yet where this file is imported first

        self.setup = setup
        self.report = Report(at=0.0)
        self.gone = False
        self._on_news, self._lines = on_news, deque(maxlen=LINES)
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours, errors = os.pipe()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [
                    *(sys.executable, "-m", MODULE, "--fd", str(theirs.fileno()), "--setup", json.dumps(asdict(setup))),
                    *("--ros-args", "--log-level", "warn"),
                ],
                env={**environment(), **fast_dds.variables(*surroundings())},
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=[theirs.fileno()],
            )
        os.close(errors)
        self._errors = os.fdopen(ours, "r", encoding="utf-8", errors="replace")
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for target, name in ((self._listen, "safety reports"), (self._read_errors, "safety errors"))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def send(self, intent: Intent) -> bool:
        """Say what is wanted; whether there was room for it."""
        try:
            self._link.send(intent.to_bytes(), socket.MSG_DONTWAIT)
        except OSError:
            return False
        return True

    def wait(self, condition: Callable[[Report], bool], seconds: float) -> bool:
        """Wait until the newest report meets ``condition``; whether it did before ``seconds`` were over or it ended."""
        end = time.monotonic() + seconds
        while not condition(self.report):
            if self.gone or time.monotonic() > end:
                return False
            time.sleep(WATCH)
        return True

    def wait_taken(self, intent: Intent, seconds: float) -> bool:
        """Say ``intent`` until the loop reports that it was taken; whether it did before ``seconds`` were over or it
        ended. The newest report may be older than what the loop has done since, so what it says proves nothing.
        """
        end = time.monotonic() + seconds
        while self.report.heard < intent.at:
            if self.gone or time.monotonic() > end:
                return False
            self.send(intent)
            time.sleep(WATCH)
        return True

    def trouble(self, now: float) -> Fault | None:
        """A fault if the loop is gone or hangs."""
        remedy = "Read the log above; deactivate, cleanup and configure start a new one."
        if self.gone:
            return Fault("SAFETY_LOOP_GONE", f"the safety process has ended ({self._how()})", remedy)
        if not self.report.ready:
            return Fault("SAFETY_LOOP_SILENT", "the safety process has not started yet", "Try again in a moment.")
        if now - self.report.at > SILENCE:
            detail = f"the safety process has said nothing for {now - self.report.at:.2f} s"
            return Fault("SAFETY_LOOP_SILENT", detail, remedy)
        return None

    def lines(self) -> list[str]:
        """What the process has written on standard error since the last look."""
        taken = []
        while self._lines:
            taken.append(self._lines.popleft())
        return taken

    def last_line(self) -> str:
        """The last line on standard error of a process that did not start, by which tracebacks say what it was."""
        self._threads[1].join(END)
        return next((line for line in reversed(self.lines()) if line), "it says nothing")

    def wait_closed(self, patience: float) -> None:
        """Let the process say its last words and end, at most ``patience`` s; then end it."""
        self.send(Intent(at=time.monotonic(), leave=True))
        end = time.monotonic() + patience + END
        while self._process.poll() is None and time.monotonic() < end:
            time.sleep(WATCH)  # Popen.wait would look less and less often
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._link.close()
        for thread in self._threads:
            thread.join(END)

    def _how(self) -> str:
        status = self._process.poll()
        return "it hangs" if status is None else f"signal {-status}" if status < 0 else f"exit status {status}"

    def _listen(self) -> None:
        while True:
            try:
                data = self._link.recv(LARGEST + 1)
            except OSError as error:
                if error.errno in (errno.ENOMEM, errno.ENOBUFS):  # says nothing about the process
                    time.sleep(WATCH)
                    continue
                data = b""
            if not data:
                break
            try:
                self.report = Report.from_bytes(data)
            except IntentError as error:
                self._lines.append(str(error))
            self._on_news()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END)
        self.gone = True
        self._on_news()

    def _read_errors(self) -> None:
        with self._errors:
            for line in self._errors:
                self._lines.append(re.sub(r"[^\x20-\x7e]", " ", line).strip()[:500])


def environment() -> dict[str, str]:
    """Ours, in which the other process finds the same package as this one."""
    root = str(Path(spec_vla_ros.__file__).resolve().parents[1])
    path = os.environ.get("PYTHONPATH", "")
    if root in sys.path and "site-packages" not in root and root not in path.split(os.pathsep):
        path = os.pathsep.join(filter(None, [root, path]))
    return {**os.environ, "PYTHONPATH": path} if path else dict(os.environ)
