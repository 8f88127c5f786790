"""A seeded campaign of faults against the real act node, judged from outside.

The act node runs in a process of its own and drives a simulated arm over DDS. Fault after fault is injected at a random
moment; the campaign watches the wire, and then does what an operator would do: read the diagnostics, remove the cause,
see that nothing moves by itself, arm the node again. :mod:`.fault_kinds` has the faults and what they must be answered
with, :mod:`.fault_monitor` says what is unsafe.
"""

from __future__ import annotations

import bisect
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spec_vla_ros.demo.processes import Child, DemoError, act_arguments, end_all, own_domain
from spec_vla_ros.demo.summary import median_p99

from . import fault_events as events
from . import fault_kinds as kinds
from . import fault_monitor as judge

START, END = 30.0, 6.0  # s for the process to answer, and to end
MOVING = 3.0  # s from activation to motion
CYCLE = 0.35  # s; a step, an inference and an image, so that every moment of the cycle has its turn
TRIES = 4  # of one fault, when the machine is too busy to make it
REPORT = 20.0  # s between two lines of progress
LISTED = 20  # unsafe commands that are told one by one; a broken node has a hundred per second
LATE = 0.5  # of image_timeout; a gap this long in our own images is our fault, or the machine's
# The domain may be somebody else's, too, such as that of tests: nothing of theirs may reach this node.
NAMESPACE = f"/faults_{os.getpid()}"
APART = [word for rule in ("__ns:=" + NAMESPACE, "/clock:=clock", "/diagnostics:=diagnostics") for word in ("-r", rule)]


@dataclass(frozen=True)
class Options:
    """``width``, ``height``: of the camera, px. ``kinds``: by name, all if empty. ``module``: has the node's ``main``.

    ``seconds_per_fault``: about how long a stopped node is watched, while the cause is there and after it is gone.
    """

    faults: int = 1000
    seed: int = 0
    seconds_per_fault: float = 1.0
    width: int = 64
    height: int = 64
    kinds: Sequence[str] = ()
    module: str = "spec_vla_ros.node.act_node"


@dataclass
class Trial:
    """One fault: what came of it. ``to_zero_ms``: from the injection to the last velocity's end; None if unknown."""

    number: int
    kind: str
    seed: int
    began: float = 0.0  # steady time of the injection, s
    answer: str = ""
    to_zero_ms: float | None = None
    problems: list[str] = field(default_factory=list)
    unsafe: list[judge.Unsafe] = field(default_factory=list)


class _DisturbedError(Exception):
    """The machine stood still for too long; the node's answer says nothing."""


class Campaign:
    """Runs the plan. ``say``: takes lines for people."""

    def __init__(self, options: Options, world: Any, folder: Path, env: dict[str, str], say: Callable[[str], None]):
        self.trials: list[Trial] = []
        self.starts = self.disturbed = 0
        self._options, self._world, self._monitor, self._say = options, world, world.monitor, say
        self._folder, self._env = folder, env
        self._child: Child | None = None
        self._sim_time = False
        self._lost = False  # whether the state of the node is unknown since the last fault
        self._told = 0  # unsafe commands that were told of
        world.send_signal = self._signal

    def run(self) -> None:
        """Inject every fault of the plan."""
        began = told = time.monotonic()
        chosen = tuple(kind for kind in kinds.KINDS if not self._options.kinds or kind.name in self._options.kinds)
        plan = kinds.plan(self._options.faults, self._options.seed, chosen)
        try:
            for planned in plan:
                self._inject(planned)
                if time.monotonic() - told > REPORT or planned is plan[-1]:
                    told = time.monotonic()
                    wrong = sum(bool(trial.problems) for trial in self.trials)
                    self._say(
                        f"{len(self.trials)} of {len(plan)} faults in {told - began:.0f} s: {self._monitor.commands} "
                        f"velocities heard, {len(self._monitor.unsafe)} unsafe, {wrong} faults not answered as expected"
                    )
        finally:
            if self._child is not None:
                self._stop()
                end_all([self._child])
            begins = [trial.began for trial in self.trials]
            for unsafe in self._monitor.unsafe:
                if self.trials:
                    self.trials[max(0, bisect.bisect_right(begins, unsafe.at) - 1)].unsafe.append(unsafe)

    # -- one fault -----------------------------------------------------------------------------------------------------

    def _inject(self, planned: kinds.Planned) -> None:
        for attempt in range(TRIES):
            trial = Trial(planned.number, planned.kind.name, planned.seed)
            try:
                self._try(planned, trial, last=attempt == TRIES - 1)
            except _DisturbedError:
                self.disturbed += 1
                continue
            except DemoError as error:
                trial.problems.append(str(error))
            finally:
                trial.problems += self._world.complaints
                self._world.complaints.clear()
            break
        self._lost = bool(trial.problems)
        self.trials.append(trial)
        for problem in trial.problems:
            self._say(f"fault {trial.number} ({trial.kind}): {problem}")
        for unsafe in self._monitor.unsafe[self._told : LISTED]:
            self._say(f"UNSAFE since {unsafe.kind!r}, {unsafe.rule}: {unsafe.detail}")
        self._told = len(self._monitor.unsafe)

    def _try(self, planned: kinds.Planned, trial: Trial, last: bool) -> None:
        world, kind, rng = self._world, planned.kind, random.Random(planned.seed)  # noqa: S311
        self._ready(planned.sim_time, trial, last)
        world.spin(rng.uniform(0.0, CYCLE))
        self._look_for_unasked(trial, last)
        world.camera.gap, trial.began = 0.0, time.monotonic()
        self._monitor.feed(events.Injected(trial.began, kind.name, kind.within))
        kind.inject(world, rng)
        trial.answer = answer = self._observe(kind, rng)
        if answer not in kind.answers:
            if not last and answer in ("IMAGE_STALE", "WORKER_HUNG") and world.camera.gap > LATE * kinds.IMAGE_TIMEOUT:
                self._recover(kind, answer, rng, trial)
                raise _DisturbedError
            trial.problems.append(f"answered with {answer}, expected {' or '.join(kind.answers)}{self._detail()}")
        self._recover(kind, answer, rng, trial)

    def _look_for_unasked(self, trial: Trial, last: bool) -> None:
        """Whether something has stopped the node although nothing was injected; it is started anew then."""
        answer = self._answer()
        if answer is None:
            return
        busy = answer == "IMAGE_STALE" and self._world.camera.gap > LATE * kinds.IMAGE_TIMEOUT
        if last or not busy:
            trial.problems.append(f"{answer} before anything was injected{self._detail()}")
        self._restart(self._sim_time)
        if busy and not last:
            raise _DisturbedError

    def _observe(self, kind: kinds.Kind, rng: random.Random) -> str:
        """The answer of the node, by what it does and by its diagnostics."""
        world = self._world
        may_go_on = kinds.GOES_ON in kind.answers
        wait = rng.uniform(*kind.lasts) if may_go_on else kind.patience
        if kinds.ENDS in kind.answers:  # its states on the way there are none
            world.spin(END, lambda: not self._child.alive)
        world.spin(wait, lambda: self._answer() is not None)
        if (answer := self._answer()) is not None:
            return answer
        if may_go_on:
            world.repair()
        count = self._monitor.moving_commands
        if world.spin(MOVING, lambda: self._monitor.moving_commands > count or self._answer() is not None):
            return self._answer() or kinds.GOES_ON
        return "nothing"

    def _answer(self) -> str | None:
        """What the node says now, None while it drives the arm."""
        if self._child is None or not self._child.alive:
            return kinds.ENDS
        control = self._world.control
        state, fault = control.get("state", ""), control.get("fault", "")
        if state in kinds.STATES:
            return state
        if fault and state == "active" and (control["level"] == "2" or fault in kinds.HOLDS):
            return fault
        return kinds.DRY_RUN if control.get("dry_run") == "true" else None

    def _detail(self) -> str:
        detail = self._world.control.get("detail", "")
        return f" ({detail})" if detail else ""

    # -- what the operator does ----------------------------------------------------------------------------------------

    def _recover(self, kind: kinds.Kind, answer: str, rng: random.Random, trial: Trial) -> None:
        """Watch that nothing moves by itself, remove the cause, and bring the arm to move again."""
        world, watch = self._world, self._options.seconds_per_fault
        if answer not in (kinds.ENDS, kinds.GOES_ON):
            world.spin(watch * rng.uniform(*kind.lasts))
            if rng.random() < 0.25 and answer not in (*kinds.HOLDS, *kinds.STATES):
                world.say("carry on")  # no instruction may clear what is latched
            world.repair()
            world.spin(max(0.2, 0.3 * watch))
        if answer != kinds.GOES_ON:
            trial.to_zero_ms = self._to_zero(answer, trial.began)
        if answer == kinds.ENDS:
            self._ended(kind, trial)
        elif answer in kinds.HOLDS:
            world.resume("go on with it")
        elif answer == kinds.DRY_RUN:
            world.set_dry_run(False)
        elif answer not in kind.answers or answer == kinds.FINALIZED:
            self._stop()  # who knows what state it is in; it is started anew
        elif answer != kinds.GOES_ON:
            self._rearm(kind, answer, trial)
        world.repair()
        world.spin(MOVING, lambda: self._answer() in (None, kinds.ENDS))
        world.camera.gap = 0.0

    def _rearm(self, kind: kinds.Kind, answer: str, trial: Trial) -> None:
        world = self._world
        if answer not in kinds.STATES:
            if not world.control.get("remedy"):
                trial.problems.append(f"{answer} came without a remedy")
            self._transition("deactivate")
        if kind.tempt:
            world.rival(random.Random(0))  # noqa: S311
            world.spin(0.1)
            if world.transition("activate"):
                trial.problems.append("activation was not refused while another publisher was there")
                self._transition("deactivate")
            world.repair()
            world.spin(0.1)
        if answer in kinds.RELOAD:
            self._transition("cleanup")
        if answer in (*kinds.RELOAD, kinds.UNCONFIGURED):
            self._transition("configure")
        self._transition("activate")

    def _transition(self, label: str) -> None:
        if not self._world.transition(label):
            raise DemoError(f"{label} failed: {self._world.control.get('message', 'no diagnostics')}")

    def _to_zero(self, answer: str, began: float) -> float | None:
        world = self._world
        if answer == "ARM_GONE":
            return None  # nobody heard
        if world.last_moving < began and world.first_zero:
            return 1e3 * max(0.0, world.first_zero - began)
        if world.first_zero:
            return 1e3 * (world.first_zero - began)
        if answer == kinds.ENDS and world.spin(2 * judge.SINK_TIMEOUT, world.standing):
            return 1e3 * max(0.0, world.last_moving + judge.SINK_TIMEOUT - began)  # the sink's doing
        return None

    # -- the process ---------------------------------------------------------------------------------------------------

    def _ready(self, sim_time: bool, trial: Trial, last: bool) -> None:
        """The node runs, with simulated time or without, and drives the arm."""
        if self._child is None or not self._child.alive or sim_time != self._sim_time or self._lost:
            self._restart(sim_time)
        self._look_for_unasked(trial, last)
        if not self._moves():
            text = f"the arm does not move: {self._world.control.get('message', 'no diagnostics')}"
            self._restart(sim_time)
            if not self._moves():
                raise DemoError(f"{text}\n{self._child.tail()}")

    def _moves(self) -> bool:
        count = self._monitor.moving_commands
        return self._world.spin(MOVING, lambda: self._monitor.moving_commands > count)

    def _restart(self, sim_time: bool) -> None:
        self._stop()
        world, self._sim_time = self._world, sim_time
        world.repair()
        world.camera.use_simulated_time(sim_time)
        world.begin()
        self.starts += 1
        arguments = act_arguments({**kinds.NODE, "use_sim_time": str(sim_time).lower()}) + APART
        self._child = Child("the act node", self._options.module, arguments, self._folder / "act.log", self._env)
        state = world.state(START)
        if state != kinds.UNCONFIGURED:
            self._child.check()
            raise DemoError(f"the act node said {state!r} after {START:g} s:\n{self._child.tail()}")
        self._transition("configure")
        self._transition("activate")
        world.spin(MOVING, lambda: self._answer() is None)

    def _stop(self) -> None:
        """End the process as Ctrl-C would."""
        if self._child is None or not self._child.alive:
            return
        self._signal(signal.SIGINT)
        if not self._world.spin(END, lambda: not self._child.alive):
            self._world.complain(f"the process did not end within {END:g} s of SIGINT:\n{self._child.tail()}")
            self._signal(signal.SIGKILL)
            self._world.spin(END, lambda: not self._child.alive)
        self._over()

    def _ended(self, kind: kinds.Kind, trial: Trial) -> None:
        expected = "signal SIGKILL" if kind.name == "SIGKILL" else "exit status 0"
        if (how := self._over()) != expected:
            trial.problems.append(f"the process ended with {how}, expected {expected}:\n{self._child.tail()}")
        if not self._world.standing():
            trial.problems.append("the arm was still moving")

    def _over(self) -> str:
        """Take note of the end of the process; returns how it ended."""
        self._world.drain()
        self._world.spin(2 * judge.SINK_TIMEOUT)
        self._monitor.feed(events.Ended(time.monotonic()))
        try:
            self._child.check()
        except DemoError as error:
            return str(error).partition("(")[2].partition(")")[0]
        return "nothing"

    def _signal(self, number: int) -> None:
        if self._child is not None and self._child.alive:
            self._monitor.feed(events.Signalled(time.monotonic(), signal.Signals(number).name))
            os.kill(self._child.pid, number)


def measure(options: Options, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Run the campaign; rows per kind, and a last one with the total."""
    env = own_domain()
    from .fault_world_node import RUNTIME, FaultWorld, session  # joins the domain that was just chosen

    began = time.monotonic()
    monitor = judge.Monitor(kinds.FRAME, 1.0 / kinds.PUBLISH_RATE)
    with tempfile.TemporaryDirectory() as folder, session():
        world = FaultWorld(monitor, NAMESPACE, (options.height, options.width))
        try:
            campaign = Campaign(options, world, Path(folder), env, say)
            campaign.run()
        finally:
            world.close()
    total = {
        "kind": "total", **asdict(options), "injected": len(campaign.trials), "unsafe": len(monitor.unsafe),
        "unexpected": sum(bool(trial.problems) for trial in campaign.trials), "velocities": monitor.commands,
        "moving_velocities": monitor.moving_commands, "node_starts": campaign.starts,
        "repeated_because_of_a_busy_machine": campaign.disturbed, "seconds": round(time.monotonic() - began, 1),
        "worst_overshoot": round(max(monitor.overshoot.values(), default=0.0), 4),
        "listener_lag_ms": round(1e3 * monitor.listener_lag, 1),
        "runtime": RUNTIME,
    }  # fmt: skip
    return [*rows(campaign.trials, monitor.overshoot), total]


def rows(trials: Sequence[Trial], overshoot: Mapping[str, float]) -> list[dict[str, Any]]:
    """One row per kind, in the order of the table of kinds. ``overshoot``: of the displacement, by kind."""
    result = []
    for kind in kinds.KINDS:
        mine = [trial for trial in trials if trial.kind == kind.name]
        if mine:
            times = [trial.to_zero_ms for trial in mine if trial.to_zero_ms is not None]
            answers = Counter(trial.answer for trial in mine).most_common()
            unsafe = [{"fault": t.number, "rule": u.rule, "detail": u.detail} for t in mine for u in t.unsafe]
            problems = [{"fault": trial.number, "problem": text} for trial in mine for text in trial.problems]
            result.append({
                "kind": kind.name, "injected": len(mine), "expected": list(kind.answers), "answers": dict(answers),
                "to_zero_ms": median_p99(times), "worst_overshoot": round(overshoot.get(kind.name, 0.0), 4),
                "unsafe": len(unsafe), "unsafe_first": unsafe[:LISTED], "problems": problems,
            })  # fmt: skip
    return result


def safe(result: Sequence[dict[str, Any]]) -> bool:
    """Whether nothing was unsafe and everything was answered as expected."""
    return not result[-1]["unsafe"] and not result[-1]["unexpected"]


def report(result: Sequence[dict[str, Any]]) -> str:
    """The rows for people."""
    lines = [("fault", "injected", "answers", "to zero, ms: median, p99", "too far, %", "unsafe", "unexpected")]
    for row in result[:-1]:
        answers = ", ".join(f"{answer or 'none'} {count}" for answer, count in row["answers"].items())
        median, p99 = row["to_zero_ms"]["median"], row["to_zero_ms"]["p99"]
        times = "-" if median is None else f"{median:.0f}, {p99:.0f}"
        counts = str(row["unsafe"]), str(len({problem["fault"] for problem in row["problems"]}))
        lines.append(
            (row["kind"], str(row["injected"]), answers, times, f"{100 * row['worst_overshoot']:.1f}", *counts)
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    total = result[-1]
    return "\n".join([
        *table,
        f"{total['injected']} faults in {total['seconds']:.0f} s, {total['node_starts']} starts of the node, "
        f"{total['velocities']} velocities heard, {total['moving_velocities']} of them not zero",
        f"unsafe: {total['unsafe']}; not answered as expected: {total['unexpected']}; repeated because the machine was "
        f"busy: {total['repeated_because_of_a_busy_machine']}",
        "too far: how much further than commanded a sink moves that keeps a velocity for 0.1 s; the listener was late "
        f"by {total['listener_lag_ms']:.0f} ms at most",
    ])  # fmt: skip
