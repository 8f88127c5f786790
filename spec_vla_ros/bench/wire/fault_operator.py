"""Whoever runs the act node in a fault campaign: starts it, reads what it says, brings it to move again, ends it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spec_vla_ros.ros.children import DemoError, act_arguments, end_all

from . import fault_events as events
from . import fault_settings as settings
from .fault_monitor import SUCCESSOR
from .fault_motion import SINK_TIMEOUT
from .fault_plan import Planned
from .fault_process import ActProcess

START, END = 30.0, 6.0  # s for the process to answer, and to end
MOVING = 3.0  # s from activation to motion
LAST_WORDS = 1.5  # s for the child to end after the node
DISCOVERY = 0.8  # s for node and arm to discover each other; Fast DDS takes long
ATTEMPTS = 3  # of activation, where the world has just been put in order and the graph may not show it yet
# The domain may be somebody else's, too, such as that of tests: nothing of theirs may reach this node.
NAMESPACE = f"/faults_{os.getpid()}"
REMAPPED = ("/clock:=clock", "/diagnostics:=diagnostics", "/tf:=tf", "/tf_static:=tf_static")
APART = [word for rule in ("__ns:=" + NAMESPACE, *REMAPPED) for word in ("-r", rule)]


class Operator:
    """One node after the other. ``lost``: the state of the node is unknown, so that the next one is new."""

    def __init__(self, module: str, world: Any, folder: Path, env: dict[str, str], pacing: str = "blocking") -> None:
        self._pacing = pacing
        self.starts, self.lost = 0, False
        self._module, self._world, self._folder, self._env = module, world, folder, env
        self._child: ActProcess | None = None
        self._sim_time = False
        world.send_signal, world.block_log, world.read_log = self._signal, self._block_log, self._read_log

    @property
    def alive(self) -> bool:
        """Whether the act node runs."""
        return self._child is not None and self._child.alive

    def answer(self) -> str | None:
        """What the node says now, None while it drives the arm."""
        if not self.alive:
            return settings.ENDS
        control = self._world.control
        state, fault = control.get("state", ""), control.get("fault", "")
        if state in settings.STATES:
            return state
        if fault and state == "active" and (control["level"] == "2" or fault in settings.HOLDS):
            return fault
        return settings.DRY_RUN if control.get("dry_run") == "true" else None

    def detail(self) -> str:
        """What it says beside."""
        detail = self._world.control.get("detail", "")
        return f" ({detail})" if detail else ""

    # -- to move -------------------------------------------------------------------------------------------------------

    def ready(self, sim_time: bool, look: Callable[[], None]) -> None:
        """The node runs, with simulated time or without, and drives the arm. ``look``: at what has stopped it."""
        self._world.spin(END, self._world.helpers.settled)
        if not self.alive or sim_time != self._sim_time or self.lost:
            self._sim_time = sim_time
            self.restart()
            self.lost = False
        look()
        if not self._moves():
            text = f"the arm does not move: {self._message()}"
            tail = self._child.tail()
            self.restart()
            raise DemoError(f"{text}\n{tail}")

    def restart(self) -> None:
        """Another process."""
        self._stop()
        world = self._world
        world.repair()
        world.camera.use_simulated_time(self._sim_time)
        world.begin()
        self.starts += 1
        values = {**settings.NODE, "pacing": self._pacing, "use_sim_time": str(self._sim_time).lower()}
        arguments = act_arguments(values | (settings.SIMULATED if self._sim_time else {})) + APART
        self._child = ActProcess(self._module, arguments, self._folder, self._env, self.starts)
        state = world.state(START)
        if state != settings.UNCONFIGURED:
            self._child.check()
            raise DemoError(f"the act node said {state!r} after {START:g} s:\n{self._child.tail()}")
        world.helpers.came_at = time.monotonic()
        self._transition("configure")
        self._activate()
        world.spin(MOVING, lambda: self.answer() is None)

    def rearm(self, planned: Planned, answer: str, known: bool, expected_dead: tuple[str, ...]) -> list[str]:
        """Bring the arm to move again after ``answer``; returns what was wrong. ``known``: one that was expected."""
        world = self._world
        if answer == settings.ENDS:
            return self._ended(expected_dead)
        if answer == settings.GOES_ON:
            return []
        if not known or settings.FINALIZED in (answer, world.control.get("state")):  # of a pair the other one may do it
            self._stop()  # who knows what state it is in; it is started anew
            return []
        problems = []
        if answer in settings.HOLDS:
            world.resume("go on with it")
        elif answer == settings.DRY_RUN:
            world.set_dry_run(False)
        else:
            if answer not in settings.STATES:
                if not world.control.get("remedy"):
                    problems.append(f"{answer} came without a remedy")
                self._transition("deactivate")
            if world.control.get("dry_run") == "true":
                world.set_dry_run(False)
            if planned.kind.tempt and planned.second is None:
                problems += self._tempt()
            reload = answer != settings.UNCONFIGURED and self._reload(planned, answer)
            if reload:
                self._transition("cleanup")
            if reload or answer == settings.UNCONFIGURED:
                self._transition("configure")
            self._activate()
        return problems

    @staticmethod
    def _reload(planned: Planned, answer: str) -> bool:
        """Whether the operator configures the node anew: as its remedy says, or one of two ways that have to work."""
        if answer.startswith("SAFETY_LOOP"):  # a successor is there already, and the remedy asks for another one
            return planned.seed % 2 == 0
        others = {one for kind in planned.kinds for one in kind.answers} if planned.second is not None else set()
        return bool({answer, *others} & set(settings.RELOAD))

    def _tempt(self) -> list[str]:
        """Ask for activation while somebody else commands the arm."""
        world, problems = self._world, []
        world.rival(random.Random(0))  # noqa: S311
        world.spin(0.1)
        if world.transition("activate"):
            problems.append("activation was not refused while another publisher was there")
            self._transition("deactivate")
        world.repair()
        world.spin(0.1)
        return problems

    def _transition(self, label: str) -> None:
        if not self._world.transition(label):
            raise DemoError(f"{label} failed: {self._message()}")

    def _activate(self) -> None:
        # Whoever has just come must be known: an arm that is discovered after activation is one that has changed.
        self._world.spin(max(0.0, self._world.helpers.came_at + DISCOVERY - time.monotonic()))
        for attempt in range(ATTEMPTS):
            if self._world.transition("activate"):
                return
            if attempt < ATTEMPTS - 1:
                self._world.spin(0.3)
        raise DemoError(f"activate failed: {self._message()}")

    def _message(self) -> str:
        return self._world.control.get("message", "no diagnostics")

    def _moves(self) -> bool:
        monitor = self._world.monitor
        count = monitor.moving_commands
        return self._world.spin(MOVING, lambda: monitor.moving_commands > count)

    def to_zero(self, answer: str, began: float) -> float | None:
        """Time from ``began`` to the first zero of what stands still now, ms; None if nobody heard it."""
        world = self._world
        if answer in (settings.ENDS, "SAFETY_LOOP_GONE"):  # seen at once, and the zero is on its way
            world.spin(SUCCESSOR, lambda: bool(world.first_zero) or (answer == settings.ENDS and world.standing()))
        if answer == "ARM_GONE" or not world.first_zero:
            return None
        return 1e3 * max(0.0, world.first_zero - began)

    # -- to an end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._child is None:
            return
        self._stop()
        if self._child is not None:
            end_all([self._child])
            self._child.forget()

    def _stop(self) -> None:
        """End the process as Ctrl-C would."""
        if self._child is None:
            return
        if self._child.alive:
            self._world.repair()
            self._signal(signal.SIGINT)
            if not self._world.spin(END, lambda: not self._child.alive):
                self._world.complain(f"the process did not end within {END:g} s of SIGINT:\n{self._child.tail()}")
                self._signal(signal.SIGKILL)
                self._world.spin(END, lambda: not self._child.alive)
        self._over()

    def _ended(self, expected: tuple[str, ...]) -> list[str]:
        problems, tail = [], self._child.tail()
        if (how := self._over()) not in expected:
            problems.append(f"the process ended with {how}, expected {' or '.join(expected)}:\n{tail}")
        if not self._world.standing():
            problems.append("the arm was still moving")
        return problems

    def _over(self) -> str:
        """Take note of the end of both processes; returns how the act node ended."""
        child, world = self._child, self._world
        world.repair()
        for pid in child.members():  # one that was suspended cannot hear that the other is gone
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        if not world.spin(LAST_WORDS, lambda: not child.members()):
            world.complain(f"{LAST_WORDS:g} s after the end of the act node its child still runs")
        world.drain()
        world.spin(2 * SINK_TIMEOUT)
        world.monitor.feed(events.Ended(time.monotonic()))
        try:
            child.check()
            how = "nothing"
        except DemoError as error:
            how = str(error).partition("(")[2].partition(")")[0]
        child.forget()
        self._child = None
        return how

    def _signal(self, number: int, whom: str = events.ACT) -> None:
        if self._child is not None and self._child.alive:
            at = time.monotonic()
            if self._child.signal(number, whom):
                self._world.monitor.feed(events.Signalled(at, signal.Signals(number).name, whom))

    def _block_log(self) -> None:
        if self._child is not None:
            self._child.block_log()

    def _read_log(self) -> None:
        if self._child is not None:
            self._child.read_log()
