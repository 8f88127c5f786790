"""Whether an operator of our own is used: tried once, where the model is loaded, before anything moves."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterable

import torch

log = logging.getLogger(__name__)
FAILED = "failed"  # what the state of kernels begins with where one of them should run and does not

LONGEST = 300  # characters of a compiler's complaint that are passed on


class Kernel:
    """One operator on one ``device``. ``on``: use it. ``problem``: why it is off although it should be on, or "".

    ``wanted``: None is on CUDA where Triton is installed, if ``trial`` raises nothing: an old Triton, no compiler for
    C, or a result that is not what plain torch says. True: on, untried; False: off.
    """

    def __init__(self, name: str, device: torch.device, trial: Callable[[], None], wanted: bool | None = None) -> None:
        self.on, self.problem = bool(wanted), ""
        if wanted is not None or device.type != "cuda":
            return
        if importlib.util.find_spec("triton") is None:
            log.info(f"the kernel {name} is off, Triton is not installed")
            return
        try:
            trial()
            self.on = True
        except Exception as error:  # noqa: BLE001 - compilers fail in many ways, and plain torch is right all the same
            self.problem = " ".join(f"{name}: {type(error).__name__}: {error}".split())[:LONGEST]
            log.warning(f"plain torch instead of a kernel of our own, slower; {self.problem}")


def state_of(kernels: Iterable[Kernel]) -> str:
    """What is told of ``kernels``: "on" if any of them is, "off", or "failed" and why."""
    kernels = list(kernels)
    problems = dict.fromkeys(kernel.problem for kernel in kernels if kernel.problem)
    if problems:
        return f"{FAILED}: {'; '.join(problems)}"
    return "on" if any(kernel.on for kernel in kernels) else "off"
