"""Several processes that train one head, as torchrun starts them. One process alone needs nothing of this."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import CommandError

PATIENCE = timedelta(hours=24)  # one process may label for long while the others are done


class ProcessesError(CommandError):
    """The device cannot be had; the message is for the person at the keyboard."""


@dataclass(frozen=True)
class Processes:
    """``rank`` of ``world`` processes; ``device``: this one's."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this one writes files and talks."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            dist.barrier()

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.world > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values.cpu()

    def agreed(self, value: Any) -> Any:
        """What the first process says."""
        if self.world > 1:
            box = [value]
            dist.broadcast_object_list(box, src=0, device=self.device if self.device.type == "cuda" else None)
            return box[0]
        return value

    def joined(self, module: nn.Module) -> nn.Module:
        """``module`` with gradients averaged over all processes."""
        if self.world == 1:
            return module
        devices = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=devices)


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the others if torchrun has started this process; ``device``: "auto" or a torch device.

    "cuda" is one GPU for each process. Raises :class:`ProcessesError` where a device is named that cannot be had.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    chosen = torch.device(device)
    if chosen.type == "cuda":
        if world > 1 and chosen.index is not None:
            raise ProcessesError(f"{world} processes cannot share {device}; with --device cuda each takes its own GPU")
        index = int(os.environ.get("LOCAL_RANK", 0)) if chosen.index is None else chosen.index
        if index >= torch.cuda.device_count():
            raise ProcessesError(f"there is no cuda:{index}; torch sees {torch.cuda.device_count()} CUDA device(s)")
        chosen = torch.device("cuda", index)
        torch.cuda.set_device(chosen)
    if world == 1:
        yield Processes(0, 1, chosen)
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Processes(rank, world, chosen)
    finally:
        dist.destroy_process_group()
