"""Where to compute and with how many threads: checked before anything is read, so that nothing else gets the blame."""

from __future__ import annotations

import torch

from spec_vla_ros.errors import ConfigurationError
from spec_vla_ros.foreign_text import shortened


def named_device(name: str | torch.device) -> torch.device:
    """The device called ``name`` ("auto": a GPU where there is one), which this machine has.

    Raises :class:`ConfigurationError`.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ConfigurationError(
            f"device {shortened(name)} is no torch device: expected auto, cpu, cuda, cuda:1, ..."
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError(f"torch {torch.__version__} sees no CUDA device, asked for {device}")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise ConfigurationError(f"device {device}: this machine has {count}, cuda:0 to cuda:{count - 1}")
    if device.type == "meta":
        raise ConfigurationError("device meta holds no numbers")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise ConfigurationError(f"device {device} cannot be used: {str(error).splitlines()[0]}") from error
    return device


def use_threads(count: int) -> None:
    """Let torch use ``count`` threads on the CPU; 0 = its own choice. Raises :class:`ConfigurationError`."""
    if count < 0:
        raise ConfigurationError(f"{count} threads: expected 0 (one per core) or more")
    if count:
        torch.set_num_threads(count)


def wait_for(device: torch.device) -> None:
    """Until ``device`` has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
