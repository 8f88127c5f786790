"""The training loop that all heads share: on one process or many, interrupted or not, the same result.

Which answers a step learns from and all its noise follow from the seed, the step and the process, so the number of the
step is the position in the data and the state of the generators at once. A checkpoint is one file that appears whole.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..errors import CommandError
from ..outputs import whole
from .draft_data import duration
from .draft_parallel import Processes

CHECKPOINT = "checkpoint.pt"
CALIBRATION = (10, 30)  # steps between which the speed is measured where minutes are asked for
TELL = 200  # steps
BETTER = 1e-3  # passes per action by which a head has to be better to count as such
LONGEST_AVERAGE = 0.999


class Recipe(Protocol):
    """How one kind of head is trained. ``peak_rate``, ``warm_up`` (steps), ``clip``: of the gradient's norm."""

    name: str
    peak_rate: float
    warm_up: int
    clip: float

    def make(self) -> nn.Module:
        """A new head; deterministic after ``torch.manual_seed``."""

    def optimizer(self, head: nn.Module) -> torch.optim.Optimizer:
        """Over its parameters."""

    def decay(self, progress: float) -> float:
        """Share of the peak rate at ``progress`` 0..1."""

    def loss(self, forward: Callable[..., Tensor], rows: Tensor, generator: torch.Generator) -> Tensor:
        """Of a batch whose members ``rows`` (B,) suggests; all randomness from ``generator``, on the host."""


@dataclass(frozen=True)
class LoopSettings:
    """``steps``, or ``minutes`` from whose first steps their number is derived. ``batch``: answers per step and
    process. ``eval_every``, ``checkpoint_every``: steps. ``patience``: evaluations without a better head after which it
    ends, 0 = never. ``precision``: "float32" or "bfloat16" (autocast). ``compiled``: by torch.compile.
    """

    steps: int
    minutes: float
    batch: int
    eval_every: int
    checkpoint_every: int
    patience: int
    precision: str
    compiled: bool
    seed: int


class LoopError(CommandError):
    """A checkpoint belongs to another training."""


@dataclass
class _State:
    """What a checkpoint holds beside the weights."""

    step: int = 0
    total: int = 0  # 0 = not known yet
    best: float = math.inf
    best_step: int = 0
    without: int = 0  # evaluations since the best one
    done: bool = False


def scheduled(rows: Tensor, first: int, count: int, seed: int) -> Tensor:
    """``count`` of ``rows`` from place ``first`` on of an endless sequence, in which every pass over the data comes in
    another order.
    """
    found = []
    while count:
        epoch, at = divmod(first, len(rows))
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
        found.append(order[at : at + count])
        first, count = first + len(found[-1]), count - len(found[-1])
    return rows[torch.cat(found)]


class Loop:
    """Trains one head in ``folder``, from its checkpoint if there is one."""

    def __init__(
        self,
        recipe: Recipe,
        rows: Tensor,
        settings: LoopSettings,
        processes: Processes,
        folder: Path,
        identity: dict[str, Any],
        evaluate: Callable[[nn.Module], tuple[float, str]],
        log: Callable[[str], None],
    ) -> None:
        """``rows``: answers to learn from. ``identity``: what else decides the result, as plain values; a checkpoint of
        another one is refused. ``evaluate``: passes per action of a head, the same on all processes, and in words.
        """
        self._recipe, self._rows, self._settings, self._processes = recipe, rows, settings, processes
        self._path, self._evaluate, self._log = folder / CHECKPOINT, evaluate, log
        decisive = {name: value for name, value in vars(settings).items() if name != "checkpoint_every"}
        self._identity = {**identity, **decisive, "processes": processes.world, "answers": len(rows)}
        torch.manual_seed(settings.seed)
        self._head = recipe.make().to(processes.device)
        self._optimizer = recipe.optimizer(self._head)
        self._average = {name: p.detach().clone() for name, p in self._head.state_dict().items()}
        self._best = {name: p.clone() for name, p in self._average.items()}
        self.state = _State()

    def run(self) -> nn.Module:
        """Train to the end; the best head. Raises :class:`LoopError`."""
        settings, processes = self._settings, self._processes
        self._resume()
        state = self.state
        module = processes.joined(self._head)
        forward = torch.compile(module) if settings.compiled else module
        self._total(settings.steps)
        began, first, running = time.monotonic(), state.step, torch.zeros(())
        evaluated, calibrated = 0.0, 0.0
        while not state.done:
            if not state.total and state.step == CALIBRATION[0]:
                calibrated = time.monotonic()
            if not state.total and state.step >= CALIBRATION[1]:
                per_step = (time.monotonic() - calibrated) / (CALIBRATION[1] - CALIBRATION[0])
                self._total(processes.agreed(max(2 * CALIBRATION[1], int(60 * settings.minutes / per_step))))
                self._log(f"{self._recipe.name}: {1e3 * per_step:.0f} ms per step, so {state.total} steps")
            loss = self._step(forward)
            running = loss if state.step == first + 1 else torch.lerp(running, loss, 0.02)
            ended = state.step == state.total
            if state.step % TELL == 0 or ended:
                spent = time.monotonic() - began - evaluated
                left = duration(spent / (state.step - first) * (state.total - state.step)) if state.total else "?"
                text = f"step {state.step} of {state.total or '?'}, loss {running.item():.4f}, {left} left"
                self._log(f"{self._recipe.name}: {text}")
            if ended or state.step % settings.eval_every == 0:
                start = time.monotonic()
                self._judge()
                evaluated += time.monotonic() - start
                state.done = ended or 0 < settings.patience <= state.without
                self._save()
                if state.done and not ended:
                    self._log(f"{self._recipe.name}: no better head in {state.without} evaluations, so it ends here")
            elif state.step % settings.checkpoint_every == 0:
                self._save()
        best = self._recipe.make().to(processes.device)
        best.load_state_dict(self._best)
        return best.eval()

    def _step(self, forward: Callable[..., Tensor]) -> Tensor:
        recipe, settings, processes, state = self._recipe, self._settings, self._processes, self.state
        for group in self._optimizer.param_groups:
            warm = min(recipe.warm_up, max(1, state.total // 10)) if state.total else recipe.warm_up
            progress = state.step / state.total if state.total else 0.0
            group["lr"] = recipe.peak_rate * min(1.0, (state.step + 1) / warm) * recipe.decay(progress)
        place = (state.step * processes.world + processes.rank) * settings.batch
        rows = scheduled(self._rows, place, settings.batch, settings.seed)
        noise = (settings.seed * 1_000_003 + state.step) * 4099 + processes.rank
        generator = torch.Generator().manual_seed(noise % 2**63)
        with torch.autocast(processes.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
            loss = recipe.loss(forward, rows, generator)
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._head.parameters(), recipe.clip)
        self._optimizer.step()
        keep = min(LONGEST_AVERAGE, state.step / (state.step + 50))
        with torch.no_grad():
            for name, p in self._head.state_dict().items():
                self._average[name].lerp_(p, 1 - keep)
        state.step += 1
        return loss.detach().float()

    def _judge(self) -> None:
        """Evaluate the averaged weights; keep them if they are the best so far."""
        state = self.state
        head = self._recipe.make().to(self._processes.device)
        head.load_state_dict(self._average)
        passes, text = self._evaluate(head.eval())
        state.without += 1
        if passes < state.best - BETTER:
            state.best, state.best_step, state.without = passes, state.step, 0
            self._best = {name: p.clone() for name, p in self._average.items()}
        self._log(f"{self._recipe.name}: held out at step {state.step}: {text}{'' if state.without else ' (best)'}")

    def _total(self, steps: int) -> None:
        if not self.state.total:
            self.state.total = steps

    def _save(self) -> None:
        if not self._processes.first:
            return
        content = {
            "identity": self._identity, "state": vars(self.state), "head": self._head.state_dict(),
            "average": self._average, "best": self._best, "optimizer": self._optimizer.state_dict(),
        }  # fmt: skip
        with whole(self._path) as partial:
            torch.save(content, partial)

    def _resume(self) -> None:
        if not self._path.is_file():
            return
        try:
            content = torch.load(self._path, map_location=self._processes.device, weights_only=True)
            identity = content["identity"]
        except Exception as error:
            raise LoopError(f"{self._path} cannot be read ({error}); delete it to start anew") from error
        wrong = [name for name in self._identity if identity.get(name) != self._identity[name]]
        if wrong:
            text = ", ".join(f"{name} {identity.get(name)!r}, now {self._identity[name]!r}" for name in wrong)
            raise LoopError(f"{self._path} is of another training: {text}; delete it to start anew")
        self.state = _State(**content["state"])
        self._head.load_state_dict(content["head"])
        self._average, self._best = content["average"], content["best"]
        self._optimizer.load_state_dict(content["optimizer"])
        self._log(f"{self._recipe.name}: goes on at step {self.state.step} of {self.state.total or '?'}")
