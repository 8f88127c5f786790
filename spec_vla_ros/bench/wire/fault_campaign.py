"""One campaign of faults: injects the plan, watches the wire, and does what an operator would do.

:mod:`.faults` starts it; the world (:class:`.fault_world_node.FaultWorld`) is what it acts through, and
:class:`.fault_operator.Operator` runs the node.
"""

from __future__ import annotations

import bisect
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spec_vla_ros.ros.children import DemoError

from . import fault_events as events
from . import fault_kinds, fault_plan
from . import fault_monitor as judge
from . import fault_settings as settings
from .fault_operator import END, MOVING, Operator
from .fault_plan import Planned

CYCLE = 0.35  # s; a step, an inference and an image, so that every moment of the cycle has its turn
TRIES = 4  # of one fault, when the machine is too busy to make it
REPORT = 20.0  # s between two lines of progress
LISTED = 20  # unsafe commands that are told one by one; a broken node has a hundred per second
LATER = 0.6  # s for the other fault to show itself: a policy that hangs, a process that says zeros before it ends
LATE = 0.5  # of image_timeout; a gap this long in our own images is our fault, or the machine's


@dataclass(frozen=True)
class Options:
    """``width``, ``height``: of the camera, px. ``kinds``: by name, all if empty. ``module``: has the node's ``main``.

    ``seconds_per_fault``: about how long a stopped node is watched, while the cause is there and after it is gone.
    ``pairs``: share of the faults that get a second one, 0..1. ``pacing``: of the node.
    """

    faults: int = 1000
    seed: int = 0
    seconds_per_fault: float = 1.0
    width: int = 64
    height: int = 64
    kinds: Sequence[str] = ()
    pairs: float = 0.25
    pacing: str = "blocking"
    module: str = "spec_vla_ros.node.act_node"


@dataclass
class Trial:
    """One fault: what came of it. ``second``: the other one of a pair, or empty.

    ``to_zero_ms``: from the injection to the last velocity's end; None if unknown.
    """

    number: int
    kind: str
    seed: int
    second: str = ""
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
        self.disturbed = 0
        self.impossible: dict[str, str] = {}  # kinds that cannot be made here, and why
        self.operator = Operator(options.module, world, folder, env, options.pacing)
        self._options, self._world, self._monitor, self._say = options, world, world.monitor, say
        self._told = 0  # unsafe commands that were told of

    def run(self) -> None:
        """Inject every fault of the plan."""
        began = told = time.monotonic()
        plan = fault_plan.plan(self._options.faults, self._options.seed, self._chosen(), self._options.pairs)
        try:
            self._world.helpers.begin()
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
            self.operator.close()
            begins = [trial.began for trial in self.trials]
            for unsafe in self._monitor.unsafe:
                if self.trials:
                    self.trials[max(0, bisect.bisect_right(begins, unsafe.at) - 1)].unsafe.append(unsafe)

    def _chosen(self) -> tuple[fault_kinds.Kind, ...]:
        """The kinds that were asked for, as far as this machine has what they need."""
        names, chosen = self._options.kinds, []
        for kind in fault_kinds.KINDS:
            if names and kind.name not in names:
                continue
            if reason := kind.impossible():
                self.impossible[kind.name] = reason
                self._say(f"left out: {kind.name}: {reason}")
            else:
                chosen.append(kind)
        return tuple(chosen)

    # -- one fault -----------------------------------------------------------------------------------------------------

    def _inject(self, planned: Planned) -> None:
        second = planned.second.name if planned.second else ""
        for attempt in range(TRIES):
            trial = Trial(planned.number, planned.kind.name, planned.seed, second)
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
        self.operator.lost = bool(trial.problems)
        self.trials.append(trial)
        for problem in trial.problems:
            self._say(f"fault {trial.number} ({planned.name}): {problem}")
        for unsafe in self._monitor.unsafe[self._told : LISTED]:
            self._say(f"fault {trial.number}: UNSAFE since {unsafe.kind!r}, {unsafe.rule}: {unsafe.detail}")
        self._told = len(self._monitor.unsafe)

    def _try(self, planned: Planned, trial: Trial, last: bool) -> None:
        world, rng = self._world, random.Random(planned.seed)  # noqa: S311
        self.operator.ready(planned.sim_time, lambda: self._look_for_unasked(trial, last))
        if any(kind.calls for kind in planned.kinds):
            world.helpers.meet()
        driven = max(kind.driven for kind in planned.kinds)
        world.spin(max(0.0, world.driven_since + driven - time.monotonic()))
        world.spin(rng.uniform(0.0, CYCLE))
        self._look_for_unasked(trial, last)
        world.camera.gap, trial.began = 0.0, time.monotonic()
        self._make(planned, planned.kind, rng)
        if planned.second is not None:
            world.spin(max(0.0, trial.began + planned.after - time.monotonic()))
            self._make(planned, planned.second, rng)
        trial.answer = answer = self._observe(planned, rng)
        if planned.second is not None:
            world.complaints.clear()  # one fault may well keep the node from taking the other as it should
        if answer not in planned.answers:
            if not last and answer in settings.SLOW and world.camera.gap > LATE * settings.IMAGE_TIMEOUT:
                self._recover(planned, answer, rng, trial)
                raise _DisturbedError
            expected = " or ".join(planned.answers)
            trial.problems.append(f"answered with {answer}, expected {expected}{self.operator.detail()}")
        self._recover(planned, answer, rng, trial)

    def _make(self, planned: Planned, kind: fault_kinds.Kind, rng: random.Random) -> None:
        late = max(one.late for one in planned.kinds)
        self._monitor.feed(events.Injected(time.monotonic(), kind.name, planned.within(kind), late))
        kind.inject(self._world, rng)

    def _look_for_unasked(self, trial: Trial, last: bool) -> None:
        """Whether something has stopped the node although nothing was injected; it is started anew then."""
        answer = self.operator.answer()
        if answer is None:
            return
        busy = answer in settings.SLOW and self._world.camera.gap > LATE * settings.IMAGE_TIMEOUT
        if last or not busy:
            trial.problems.append(f"{answer} before anything was injected{self.operator.detail()}")
        self.operator.restart()
        if busy and not last:
            raise _DisturbedError

    def _observe(self, planned: Planned, rng: random.Random) -> str:
        """The answer of the node, by what it does and by its diagnostics."""
        world, answer = self._world, self.operator.answer
        may_go_on = settings.GOES_ON in planned.answers
        longest = tuple(max(kind.lasts[end] for kind in planned.kinds) for end in (0, 1))
        mute = any(kind.mute for kind in planned.kinds)
        wait = rng.uniform(*longest) if may_go_on or mute else max(kind.patience for kind in planned.kinds)
        if settings.ENDS in planned.answers:  # its states on the way there are none
            if not world.spin(END, lambda: not self.operator.alive):
                world.repair()
                world.spin(END, lambda: not self.operator.alive)
            return answer() or settings.GOES_ON
        world.spin(wait, lambda: answer() is not None)
        if (found := answer()) is not None:
            return found
        if may_go_on or mute:
            world.repair()
        count, patience = self._monitor.moving_commands, MOVING + max(kind.late for kind in planned.kinds)
        if world.spin(patience, lambda: self._monitor.moving_commands > count or answer() is not None):
            return answer() or settings.GOES_ON
        return "nothing"

    # -- what the operator does ----------------------------------------------------------------------------------------

    def _recover(self, planned: Planned, answer: str, rng: random.Random, trial: Trial) -> None:
        """Watch that nothing moves by itself, remove the causes, and bring the arm to move again."""
        world, watch = self._world, self._options.seconds_per_fault
        if answer not in (settings.ENDS, settings.GOES_ON):
            world.spin(watch * rng.uniform(*planned.kind.lasts))
            if rng.random() < 0.25 and answer not in (*settings.HOLDS, *settings.STATES):
                world.say("carry on")  # no instruction may clear what is latched
            world.repair()
            world.spin(max(0.2, 0.3 * watch))
            if planned.second is not None and answer in (*settings.HOLDS, settings.DRY_RUN):
                answer = self.operator.answer() or answer  # the other one may have been shown later
        if answer != settings.GOES_ON:
            trial.to_zero_ms = self.operator.to_zero(answer, trial.began)
        known = answer in planned.answers
        trial.problems += self.operator.rearm(planned, answer, known, expected_dead=self._may_be_killed(planned))
        world.repair()
        world.spin(MOVING, lambda: self.operator.answer() in (None, settings.ENDS))
        if planned.second is not None and answer not in (settings.ENDS, settings.GOES_ON):
            world.spin(LATER, lambda: self.operator.answer() is not None)
        again = self.operator.answer()
        if planned.second is not None and again in planned.answers and again != settings.ENDS:  # it was shown later
            trial.problems += self.operator.rearm(planned, again, known=True, expected_dead=())
            world.spin(MOVING, lambda: self.operator.answer() in (None, settings.ENDS))
        world.camera.gap = 0.0

    @staticmethod
    def _may_be_killed(planned: Planned) -> tuple[str, ...]:
        """How the process may end."""
        killed = [kind.name in ("SIGKILL", "both killed") for kind in planned.kinds]
        if all(killed):
            return ("signal SIGKILL",)
        return ("signal SIGKILL", "exit status 0") if any(killed) else ("exit status 0",)
