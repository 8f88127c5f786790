"""The act node's end of the recording process: starts it, tells it of episodes, hears of it; never waits for it."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from spec_vla_ros.foreign_text import sentence

from .record_setup import LARGEST, Report, Setup
from .safety_link import environment

MODULE = "spec_vla_ros.node.record_node"
START = 20.0  # s for the process to import, join the graph and answer
SILENCE = 3.0  # s without a report after which it counts as hanging
AGAIN = 5.0  # s after a start before the next one
LINES = 20  # of its standard error and notes that are kept until somebody logs them


class RecordLink:
    """One recording process at a time. The executor's thread owns it; threads of its own listen.

    ``on_news`` is called by those whenever there is a new report, and once when the process is gone.
    """

    def __init__(self, setup: Setup, on_news: Callable[[], None]) -> None:
        self._setup, self._on_news = setup, on_news
        self.report, self.gone = Report(), False
        self._lines: deque[str] = deque(maxlen=LINES)
        self._start()

    def _start(self) -> None:
        self.report, self.gone = Report(), False
        self._started_at = time.monotonic()
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [
                    *(sys.executable, "-m", MODULE, "--fd", str(theirs.fileno())),
                    *("--setup", json.dumps(asdict(self._setup)), "--ros-args", "--log-level", "warn"),
                ],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C reaches the node, and this process through it
            )
        for target, stream in ((self._listen, self._link), (self._read_errors, self._process.stdout)):
            threading.Thread(target=target, args=(stream, self._process), name="recording", daemon=True).start()

    def send(self, message: dict[str, Any]) -> bool:
        """Say something; whether there was room for it. A process that is gone is started anew for the next one."""
        now = time.monotonic()
        if self.gone and now - self._started_at > AGAIN:
            self._link.close()
            self._start()
        data = json.dumps(message).encode()
        if len(data) > LARGEST:  # of parameters, whose size nobody promises
            shorter = {name: {**told, "about": "{}"} for name, told in message.items()}
            data = json.dumps(shorter).encode()
        with contextlib.suppress(OSError):
            self._link.send(data, socket.MSG_DONTWAIT)
            return True
        return False

    def trouble(self, now: float) -> str:
        """What is wrong with the process, or what it says is; an empty string if nothing is."""
        if self.gone:
            return "the recording process has ended; it is started anew for the next episode"
        if not self.report.at:
            silent = now - self._started_at
            return f"the recording process has not answered for {silent:.0f} s" if silent > START else ""
        if now - self.report.at > SILENCE:
            return f"the recording process has said nothing for {now - self.report.at:.1f} s: does the disk answer?"
        return self.report.trouble

    def lines(self) -> list[str]:
        """What the process has noted or written on standard error since the last look."""
        taken = []
        while self._lines:
            taken.append(self._lines.popleft())
        return taken

    def close(self) -> None:
        """The process closes its bags and ends by itself; nobody waits."""
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)
        self._link.close()

    def _listen(self, link: socket.socket, process: subprocess.Popen[bytes]) -> None:
        while True:
            try:
                data = link.recv(LARGEST)
            except OSError:
                data = b""
            if not data:
                break
            try:
                report = Report.from_bytes(data)
            except (ValueError, TypeError) as error:
                self._lines.append(sentence(error))
                continue
            self._lines.extend(report.notes)
            self.report = report
            self._on_news()
        process.wait()
        if process is self._process:
            self.gone = True
            self._on_news()

    def _read_errors(self, stream: Any, process: subprocess.Popen[bytes]) -> None:
        del process
        with stream:
            for line in stream:
                self._lines.append(sentence(line.decode(errors="replace").strip()))
