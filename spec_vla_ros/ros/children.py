"""The two nodes as subprocesses: started together, watched, and ended whatever happens."""

from __future__ import annotations

import fcntl
import functools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import spec_vla_ros
from spec_vla_ros.errors import CommandError
from spec_vla_ros.installed import share_path
from spec_vla_ros.outermost import undisturbed
from spec_vla_ros.outputs import writing

GRACE = 5.0  # s that a node gets to send its last zero and leave the graph, as in ros2 launch
DOMAINS = range(1, 100)  # below 102, where ports stay out of the ephemeral range on Linux; not the default one
TAIL = 25  # lines of a log that are shown when a node died

_locks: list[IO[str]] = []  # of the domains that this process has taken


class DemoError(CommandError):
    """The demonstration cannot go on; the message is for the person at the keyboard."""

    lines = True


def loopback() -> dict[str, str]:
    """What keeps nodes on this machine; Humble does not know the first, and later ones warn of the second."""
    here = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    return here | {"ROS_LOCALHOST_ONLY": "1"} if os.environ.get("ROS_DISTRO") == "humble" else here


def environment(domain: int) -> dict[str, str]:
    """What nodes of this run need: an own domain on the loopback interface, and one thread per node for numerics."""
    paths = [os.environ.get("PYTHONPATH", ""), str(Path(spec_vla_ros.__file__).parents[1])]
    return {
        **loopback(),
        "ROS_DOMAIN_ID": str(domain),
        "OMP_NUM_THREADS": "1",
        "MUJOCO_GL": os.environ.get("MUJOCO_GL", "egl"),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONUNBUFFERED": "1",
    }


def free_domain() -> int:
    """A domain that no other run on this machine has taken; it is ours until this process ends.

    A number made of the process id was taken twice one day: an arm of one run became an arm of the other.
    """
    first = os.getpid() % len(DOMAINS)
    for number in (*DOMAINS[first:], *DOMAINS[:first]):
        try:
            lock = open(Path(tempfile.gettempdir(), f"spec_vla_ros_domain_{number}"), "w")  # noqa: SIM115 - kept
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # taken, or somebody else's file
            continue
        _locks.append(lock)
        return number
    raise DemoError(f"all of the domains {DOMAINS[0]} to {DOMAINS[-1]} are taken by other runs on this machine")


_one_domain = functools.cache(free_domain)  # one after the other, the runs of a process may share it


def own_domain() -> dict[str, str]:
    """:func:`environment` of a domain that other runs on this machine do not use; this process joins it too."""
    env = environment(_one_domain())
    os.environ.update({key: env[key] for key in ("ROS_DOMAIN_ID", *loopback())})
    return env


def act_arguments(values: Mapping[str, str]) -> list[str]:
    """Command line of the act node in simulation, with these parameters on top of ``config/sim.yaml``."""
    parameters = [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]
    return ["--ros-args", "--params-file", str(share_path("config/sim.yaml")), *parameters]


class Child:
    """One node in a process of its own. Its session is its own too, so that Ctrl-C reaches it through us, in order."""

    def __init__(self, name: str, module: str, arguments: Sequence[str], log: Path, env: dict[str, str]) -> None:
        """Start ``main()`` of ``module`` with ``arguments``; standard output and error go to ``log``."""
        self.name, self.log = name, log
        program = f"import sys; from spec_vla_ros.outermost import main_of; sys.exit(main_of({module!r}, {name!r}))"
        command = [sys.executable, "-c", program, *arguments]
        with writing(log), log.open("wb") as stream:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def check(self) -> None:
        """Raise :class:`DemoError` with the end of the log if the process has ended."""
        code = self._process.poll()
        if code is not None:
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
            raise DemoError(f"{self.name} has ended ({how}). The end of {self.log}:\n{self.tail()}")

    def tail(self) -> str:
        """The last lines of the log, indented."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL:]
        return "\n".join(f"    {line}" for line in lines) or "    (empty)"

    def interrupt(self) -> None:
        """Ask it to end, as Ctrl-C would."""
        if self.alive:
            self._process.send_signal(signal.SIGINT)

    def end(self, deadline: float) -> None:
        """Wait until ``deadline`` (steady clock), then insist: SIGTERM, a second, SIGKILL."""
        for escalate in (self._process.terminate, self._process.kill, None):
            try:
                self._process.wait(max(0.1, deadline - time.monotonic()))
                return
            except subprocess.TimeoutExpired:
                if escalate is not None:
                    escalate()
                deadline = time.monotonic() + 1.0


def start(
    children: list[Child], name: str, module: str, arguments: Sequence[str], log: Path, env: dict[str, str]
) -> Child:
    """A :class:`Child`, put first into ``children``; a signal waits until whoever ends those knows of it."""
    with undisturbed():
        children.insert(0, Child(name, module, arguments, log, env))
    return children[0]


def end_all(children: Sequence[Child]) -> None:
    """End ``children`` in the given order: the one that commands the arm first, so that its zero still arrives."""
    for child in children:
        child.interrupt()
        child.end(time.monotonic() + GRACE)
