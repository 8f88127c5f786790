"""Hours of closed loop: does the act node grow, and does its stream ever pause?

The simulated arm and the real node run as in the demonstration, one episode after the other. Every velocity's stamp is
looked at. A pause is explained where the kernel says that a thread of the safety process, which streams, was kept
waiting for a core meanwhile: that is the machine's doing. What is left is ours.
"""

from __future__ import annotations

import contextlib
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spec_vla_ros.demo.run import plan
from spec_vla_ros.demo.summary import Setting
from spec_vla_ros.figures import median_p99
from spec_vla_ros.installed import TABLETOP, model_folder
from spec_vla_ros.recordings.recording import Recording, Topic
from spec_vla_ros.ros.children import DemoError, act_arguments, end_all, own_domain, start

VELOCITIES = Topic("/delta_twist_cmds", "geometry_msgs/msg/TwistStamped")
HEARD = (
    Topic("/image", "sensor_msgs/msg/Image", best_effort=True),
    Topic("/episode", "spec_vla_ros/msg/Episode"),
    VELOCITIES,
)
PERIOD = 0.01  # s between two velocities, of config/sim.yaml
DEADLINE = 0.05  # s; half of what MoveIt Servo waits for the next velocity
SAMPLE = 10.0  # s between two looks at the memory
WARM_UP = 300.0  # s; caches fill and the allocator settles
NAP, WAIT = 0.005, 0.002  # s: between two looks at the kernel's account, and what is worth a note in it


@dataclass(frozen=True)
class Options:
    """``minutes``: of closed loop; ``model``: checkpoint folder; ``seed``: of the layouts; ``base_model``: as the
    node's parameter.
    """

    minutes: float = 60.0
    model: str = TABLETOP
    seed: int = 1
    base_model: str = ""


class Ear(Recording):
    """Keeps no message; remembers when each velocity was sent (ns, by its stamp)."""

    def __init__(self) -> None:
        super().__init__(HEARD)
        self.sent_ns: list[int] = []

    def add(self, topic: Topic, received_ns: int, raw: bytes) -> bool:
        """The stamp of a velocity: two little-endian 32-bit numbers after the encapsulation."""
        del received_ns
        if topic.name == VELOCITIES.name:
            seconds, nanoseconds = struct.unpack_from("<iI", raw, 4)
            self.sent_ns.append(seconds * 10**9 + nanoseconds)
        return False


class Machine(threading.Thread):
    """Notes when threads of a process waited for a core; and the memory of processes meanwhile."""

    def __init__(self, pids: dict[str, int], watched: str) -> None:
        super().__init__(daemon=True)
        self._pids, self._over, self._watched = pids, threading.Event(), pids[watched]
        self.waits: list[tuple[int, int]] = []  # ns: wall clock at the end of a look, time waited since the one before
        self.memory: dict[str, list[tuple[float, int]]] = {name: [] for name in pids}  # s since the start, KiB

    def run(self) -> None:
        """Until :meth:`end`."""
        began = time.monotonic()
        due, before = 0.0, waited(self._watched)
        while not self._over.wait(NAP):
            now = waited(self._watched)
            longest = max((total - before.get(thread, total) for thread, total in now.items()), default=0)
            if longest > WAIT * 1e9:
                self.waits.append((time.time_ns(), longest))
            before = now
            if time.monotonic() - began >= due:
                due += SAMPLE
                for name, pid in self._pids.items():
                    self.memory[name].append((time.monotonic() - began, resident(pid)))

    def end(self) -> None:
        """Stop and wait."""
        self._over.set()
        self.join()


def safety_process(pid: int) -> int:
    """Process id of the safety process of the act node ``pid``; ``ProcessLookupError`` if there is none."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            if b"safety_node" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    raise ProcessLookupError(f"process {pid} has no safety process")


def waited(pid: int) -> dict[str, int]:
    """Time (ns) for which each thread of a process was ready to run and had no core, since it began."""
    found = {}
    with contextlib.suppress(FileNotFoundError):  # the process has just ended, which others find out and tell
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError, IndexError):  # a thread that has just ended
                found[task.name] = int((task / "schedstat").read_text().split()[1])
    return found


def resident(pid: int) -> int:
    """Resident memory of a process in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def pauses(sent_ns: list[int], waits: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """Every interval between two velocities longer than :data:`DEADLINE`, and whether the machine explains it.

    ``waits``: (wall clock in ns, time in ns that the thread had waited for a core by then since the look before).
    """
    stamps = np.asarray(sent_ns, dtype=np.int64)
    found = []
    for index in np.flatnonzero(np.diff(stamps) > DEADLINE * 1e9):
        start, end = int(stamps[index]), int(stamps[index + 1])
        # The thread itself notes a wait only when it runs again, and the look comes up to a nap later.
        lost = sum(wait for at, wait in waits if start <= at <= end + 2 * NAP * 1e9)
        found.append(
            {
                "at_s": (start - int(stamps[0])) * 1e-9,
                "ms": (end - start) * 1e-6,
                "without_core_ms": lost * 1e-6,
                # Without that time it must be an ordinary interval.
                "explained": end - start - lost < DEADLINE * 1e9,
            }
        )
    return found


def growth(samples: list[tuple[float, int]], warm_up: float = WARM_UP) -> float | None:
    """Relative growth of resident memory, from the first ten samples after ``warm_up`` (s) to the last ten."""
    settled = [kib for at, kib in samples if at >= warm_up]
    if len(settled) < 20:
        return None
    first, last = float(np.median(settled[:10])), float(np.median(settled[-10:]))
    return last / first - 1.0


def measure(options: Options, say: Callable[[str], None]) -> dict[str, Any]:
    """Run for ``options.minutes``, or until a node ends or reports a fault, which is ``stopped`` then: what was seen by
    then is not lost. Raises :class:`DemoError` if that happens in the first episode.
    """
    from spec_vla_ros.demo.operator_node import RUNTIME, operator

    values = {"model": str(model_folder(options.model))}
    values |= {"base_model": options.base_model} if options.base_model else {}
    env, ear, children = own_domain(), Ear(), []
    outcomes: list[bool] = []
    stopped = ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name, module, arguments in (
                ("arm", "spec_vla_ros.tabletop.arm_node", []),
                ("act", "spec_vla_ros.node.act_node", act_arguments(values)),
            ):
                start(children, name, module, arguments, Path(folder, f"{name}.log"), env)
            with operator(ear, lambda: [child.check() for child in children]) as node:
                node.wait_for_nodes()
                node.apply(Setting.of("fastest"))
                ear.sent_ns.clear()
                pids = {child.name: child.pid for child in children}
                machine = Machine({**pids, "safety": safety_process(pids["act"])}, "safety")
                machine.start()
                began = told = time.monotonic()
                todo = plan(100_000, options.seed)
                while not stopped and time.monotonic() - began < 60.0 * options.minutes:
                    instruction, seed = todo[len(outcomes)]
                    try:
                        outcomes.append(node.run_episode(0, len(outcomes), instruction, seed)[0].success)
                    except DemoError as error:
                        if not outcomes:
                            raise
                        stopped = str(error)
                    if time.monotonic() - told > 60.0:
                        told = time.monotonic()
                        done, mib = f"{sum(outcomes)} of {len(outcomes)}", machine.memory["act"][-1][1] / 1024
                        say(f"{(told - began) / 60:.0f} min, {done} episodes, act node {mib:.1f} MiB")
                lasted = time.monotonic() - began
                machine.end()
        finally:
            end_all(children)
    late = np.maximum(np.diff(np.asarray(ear.sent_ns)) * 1e-6 - 1e3 * PERIOD, 0.0)
    found = pauses(ear.sent_ns, machine.waits)
    return {
        **asdict(options),
        "minutes": round(lasted / 60, 2),
        "stopped": stopped,
        "episodes": len(outcomes),
        "successes": sum(outcomes),
        "velocities": len(ear.sent_ns),
        "late_ms": {**median_p99(late.tolist()), "max": round(float(late.max()), 3)},
        "pauses": found,
        "pauses_unexplained": sum(not pause["explained"] for pause in found),
        "memory_growth": {name: growth(samples) for name, samples in machine.memory.items()},
        "memory_mib": {name: round(samples[-1][1] / 1024, 1) for name, samples in machine.memory.items()},
        "runtime": RUNTIME,
    }


def report(row: dict[str, Any]) -> str:
    """The row for people."""
    memory = ", ".join(
        f"{name} {row['memory_mib'][name]} MiB" + ("" if grown is None else f" ({100 * grown:+.2f} %)")
        for name, grown in row["memory_growth"].items()
    )
    late = row["late_ms"]
    stopped = f"ended after {row['minutes']:g} min: {row['stopped']}\n" if row["stopped"] else ""
    return stopped + (
        f"{row['successes']} of {row['episodes']} episodes succeeded in {row['minutes']:g} min\n"
        f"memory at the end, and growth after the first {WARM_UP / 60:.0f} min: {memory}\n"
        f"{row['velocities']} velocities; late by p99 {late['p99']:.1f} ms, at most {late['max']:.1f} ms; "
        f"{len(row['pauses'])} pauses beyond {1e3 * DEADLINE:.0f} ms, {row['pauses_unexplained']} of them unexplained"
    )
