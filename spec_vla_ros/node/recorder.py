"""One process of rosbag2's own recorder: started in advance, paused, told to go on, ended, and its bag named. No ROS.

========= ==================================================== =========
phase     event                                                next
========= ==================================================== =========
STARTING  it listens to all topics                             READY
STARTING, told to end                                          FLUSHING
READY
READY     told to record, and the one before is silent         RESUMING
RESUMING  it confirms                                          RECORDING
RECORDING told to end                                          SETTLING
SETTLING  the arm stands, what was told has arrived            PAUSING
PAUSING   it confirms                                          FLUSHING
FLUSHING  the process has ended                                GONE
any       the process has ended by itself                      GONE
========= ==================================================== =========

One that ends is paused before the next one goes on: what is decided in an episode is in its bag alone. It writes into a
folder of its own, ``.recorder-.../episode``, which takes the episode's name when it is complete: a
bag that is still written is never found under such a name. Nothing here blocks but the file system.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Protocol

from spec_vla_ros.episode_record import WORKPLACE
from spec_vla_ros.foreign_text import sentence

START = 60.0  # s that a recorder may take to listen to everything; 2 s on an idle machine, and nobody waits for it
RESUME = 5.0  # s that it may take to confirm that it records
SETTLE = 0.5  # s at the end in which the last zero and the outcome reach the bag
SETTLE_AT_MOST = 2.0  # s, where nobody confirms that they have; Fast DDS often takes that long to confirm
HURRY, HURRY_AT_MOST = 0.2, 0.5  # s, the same while the next episode waits
PAUSE = 0.3  # s that it may take to confirm that it is paused
FLUSH = 20.0  # s that a slow disk gets for what is in the recorder's cache; then the bag is cut short
NUDGE = 2.0  # s between two signals: one that comes while it starts may get lost
BAG = "episode"  # the folder that rosbag2 makes, after which it calls its files
NOTE = "name"  # beside it: the name that it will have, as soon as something is recorded
LOG = "log"  # beside it: what it says
LOCK = "lock"  # held by whoever works here; the recorder inherits it
# What the process does before it becomes the recorder: it asks for SIGINT as soon as this process is gone, however that
# went; the recorder then closes its bag. Not in preexec_fn: between fork and exec of a process with the middleware's
# threads, loading a library may wait for ever.
BEFORE = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that started this recorder is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""
READ = 100_000  # bytes at the end of its log
LOST = re.compile(r"Total lost: (\d+)")  # in rosbag2's words


class Phase(Enum):
    """Where it stands; see the module."""

    STARTING = "starting"
    READY = "ready"
    RESUMING = "resuming"
    RECORDING = "recording"
    SETTLING = "settling"
    PAUSING = "pausing"
    FLUSHING = "flushing"
    GONE = "gone"


class Ear(Protocol):
    """What ROS knows of one recorder."""

    def listens(self) -> bool:
        """Whether it hears every topic that it shall record, and its services can be called."""

    def resume(self) -> None:
        """Ask it to record."""

    def resumed(self) -> bool:
        """Whether it has confirmed that."""

    def settled(self) -> bool:
        """Whether everything that was told to it has arrived, and the newest velocity among it is zero."""

    def pause(self) -> None:
        """Ask it to record no more."""

    def paused(self) -> bool:
        """Whether it has confirmed that."""

    def close(self) -> None:
        """It is gone."""


class Recorder:
    """One recorder, driven by :meth:`look`. ``trouble``: why it came to an end by itself, "" while it has not.

    ``path``: where its bag is once it is gone; None if there is none.
    """

    def __init__(self, root: Path, number: int, command: Callable[[Path], Sequence[str]], ear: Ear) -> None:
        """Start it. ``root``: folder that gets the bags. ``command``: makes the words to start it with, of the folder
        that it shall write. Raises ``OSError``.
        """
        self.phase, self.trouble, self.name = Phase.STARTING, "", ""
        self.path: Path | None = None
        self._root, self._ear = root, ear
        self._place = root / f"{WORKPLACE}{os.uname().nodename}-{os.getpid()}-{number}"
        self._place.mkdir(parents=True)
        try:
            self._start(command(self._place / BAG))
        except OSError:
            shutil.rmtree(self._place, ignore_errors=True)
            raise
        self._since = time.monotonic()
        self._nudged = 0.0
        self._begin_asked = self._end_asked = False

    def _start(self, words: Sequence[str]) -> None:
        lock = os.open(self._place / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with (self._place / LOG).open("wb") as log:
                self._process = subprocess.Popen(  # noqa: S603 - words of ours, no shell
                    [sys.executable, "-c", BEFORE, str(os.getpid()), *words],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[lock],
                )
        finally:
            os.close(lock)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def begin(self, name: str) -> None:
        """Record the episode ``name``, as soon as it is ready."""
        self.name, self._begin_asked = name, True

    def end(self) -> None:
        """No more is to be recorded."""
        self._end_asked = True

    @property
    def usable(self) -> bool:
        """Whether it can be told to begin."""
        return self.phase in (Phase.STARTING, Phase.READY) and not self._end_asked

    @property
    def hears(self) -> bool:
        """Whether what is said now may get into its bag."""
        return self.phase in (Phase.RESUMING, Phase.RECORDING, Phase.SETTLING, Phase.PAUSING)

    def look(self, now: float, wait: bool = False, hurry: bool = False) -> None:
        """Go on as far as that is possible at steady time ``now`` (s). ``wait``: the one before still hears, so do not
        begin. ``hurry``: the next one waits for this one. Raises ``OSError``.
        """
        if self.phase is Phase.GONE:
            return
        if (status := self._process.poll()) is not None:
            self._ended(status)
            return
        patience = now - self._since
        if self.phase is Phase.STARTING:
            if self._ear.listens():
                self._go(Phase.READY, now)
            elif patience > START:
                self._give_up(f"the recorder does not listen after {START:.0f} s", now)
        if self.phase is Phase.READY and self._begin_asked and not self._end_asked and not wait:
            (self._place / NOTE).write_text(json.dumps({"name": self.name}), encoding="utf-8")
            self._ear.resume()
            self._go(Phase.RESUMING, now)
        elif self.phase is Phase.RESUMING:
            if self._ear.resumed():
                self._go(Phase.RECORDING, now)
            elif patience > RESUME:
                self._give_up(f"the recorder has not confirmed within {RESUME:.0f} s that it records", now)
        elif self.phase is Phase.SETTLING:
            least, most = (HURRY, HURRY_AT_MOST) if hurry else (SETTLE, SETTLE_AT_MOST)
            if patience > most or (patience > least and self._ear.settled()):
                self._ear.pause()
                self._go(Phase.PAUSING, now)
        elif self.phase is Phase.PAUSING:
            if self._ear.paused() or patience > PAUSE:
                self._go(Phase.FLUSHING, now)
        elif self.phase is Phase.FLUSHING and patience > FLUSH:
            self.trouble = self.trouble or f"the recorder has not finished within {FLUSH:.0f} s; its bag is cut short"
            self._process.kill()
        if self._end_asked and self.phase in (Phase.STARTING, Phase.READY, Phase.RECORDING):
            self._go(Phase.SETTLING if self.phase is Phase.RECORDING else Phase.FLUSHING, now)
        if self.phase is Phase.FLUSHING and now - self._nudged > NUDGE:
            self._nudged = now
            self._process.send_signal(signal.SIGINT)

    def _go(self, phase: Phase, now: float) -> None:
        self.phase, self._since = phase, now

    def _give_up(self, why: str, now: float) -> None:
        self.trouble = f"{why}{self._said()}"
        self._go(Phase.FLUSHING, now)

    def _ended(self, status: int) -> None:
        lost = self._lost()
        if lost:
            self.trouble = self.trouble or f"the disk was too slow: {lost} messages are not in the bag"
        if self.phase is not Phase.FLUSHING:
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            self.trouble = self.trouble or f"the recorder has ended by itself ({how}){self._said()}"
        self.phase = Phase.GONE
        self._ear.close()
        self.path = put_away(self._place)

    def _said(self) -> str:
        """The last thing that it wrote."""
        last: deque[str] = deque((line for line in self._log() if line), maxlen=1)
        return f": {sentence(last[0], 200)}" if last else ""

    def _lost(self) -> int:
        """Messages that found no room in its cache, as it says at the end."""
        found = [int(match[1]) for line in self._log() if (match := LOST.search(line))]
        return max(found, default=0)

    def _log(self) -> list[str]:
        try:
            with (self._place / LOG).open("rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - READ))
                return [line.strip() for line in log.read().decode(errors="replace").splitlines()]
        except OSError:
            return []


def put_away(place: Path) -> Path | None:
    """Give the bag in the folder ``place`` of a recorder that is gone its name; returns where it is, None if nothing
    was recorded. The folder goes. Raises ``OSError``.
    """
    final = None
    try:
        name = json.loads((place / NOTE).read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, KeyError, TypeError):
        name = ""
    if name and "/" not in name and not name.startswith(".") and (place / BAG).is_dir():
        final = _moved(place / BAG, place.parent, name)
    shutil.rmtree(place, ignore_errors=True)
    return final


def _moved(bag: Path, folder: Path, name: str) -> Path:
    for number in range(1, 1000):
        final = folder / (name if number == 1 else f"{name}_{number}")
        if final.exists():
            continue
        try:
            bag.rename(final)
        except OSError:
            if final.exists():  # another node was quicker
                continue
            raise
        return final
    raise OSError(f"there are a thousand bags called {name}")


def put_away_others(root: Path) -> list[Path]:
    """Bags in ``root`` that recorders left whose keeper was killed, under their names. Raises ``OSError``."""
    found = []
    for place in sorted(root.glob(f"{WORKPLACE}*")):
        try:
            lock = os.open(place / LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # somebody works there
            continue
        else:
            found.append(put_away(place))
        finally:
            os.close(lock)
    return [path for path in found if path is not None]
