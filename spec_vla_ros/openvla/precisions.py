"""The names of the parameter ``dtype``: what each of them computes in, and which device has it."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch

from spec_vla_ros.errors import ConfigurationError
from spec_vla_ros.foreign_text import shortened

from .quantised_activations import Float8, Int8, computes
from .quantize import Int4Weights, Int8Weights, QuantisedLinear

FLOATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
QUANTISED: dict[str, type[QuantisedLinear]] = {
    kind.precision: kind for kind in (Float8, Int8, Int8Weights, Int4Weights)
}
NAMES = ("auto", *FLOATS, *QUANTISED)
RENAMED = {"int4": "int4_weights"}  # what older files say
SLOW_ON_CPUS = {
    "float8": "CPUs have no arithmetic for it, so that it is slower than bfloat16; choose bfloat16 or int8",
    "int4_weights": "every pass would unpack every layer, which takes longer than bfloat16; choose int8",
}

_log = logging.getLogger(__name__)


def named_precision(name: str, device: torch.device) -> tuple[torch.dtype, type[QuantisedLinear] | None]:
    """The type to compute in and the layers of the decoder that quantise (None: nothing is quantised).

    ``name``: "auto" (bfloat16 on an accelerator, float32 on the CPU), a floating-point type, or one of ``QUANTISED``,
    which computes the rest in bfloat16 except on CPUs that are slow at that. Raises :class:`ConfigurationError` for any
    other, and for what ``device`` does not have.
    """
    if name in RENAMED:
        _log.warning(f"dtype {name} is called {RENAMED[name]} now: only weights are quantised")
        name = RENAMED[name]
    if name not in NAMES:
        raise ConfigurationError(f"dtype {shortened(name)} is none of {', '.join(NAMES)}")
    if name not in QUANTISED:
        return FLOATS.get(name, torch.float32 if device.type == "cpu" else torch.bfloat16), None
    if why := missing(name, device):
        raise ConfigurationError(f"dtype {name} on {device}: {why}")
    if name == "int8":
        _log.warning("dtype int8 quantises activations as well as weights; weights alone, its former meaning, are "
                     "int8_weights")  # fmt: skip
    if name == "int8_weights" and device.type == "cpu" and computes("int8", device):
        _log.warning("dtype int8_weights unpacks every layer for every prompt on a CPU; int8 takes as little memory,"
                     " and two thirds of the time or less on this one")  # fmt: skip
    return beside(device), QUANTISED[name]


def had_by(device: torch.device, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Those of ``names`` (types or ``QUANTISED``) that ``device`` has, each once, and why it has no others."""
    asked = {name: missing(name, device) if name in QUANTISED else "" for name in names}
    had = [name for name, why in asked.items() if not why]
    return had, [f"dtype {name} on {device}: {why}" for name, why in asked.items() if why]


def beside(device: torch.device) -> torch.dtype:
    """What is computed in beside quantised layers."""
    return torch.float32 if device.type == "cpu" and not _quick_bfloat16() else torch.bfloat16


def missing(precision: str, device: torch.device) -> str:
    """Why ``device`` cannot do ``precision``; empty if it can."""
    if device.type == "cpu":
        if precision == "int8" and not computes(precision, device):
            return "this processor has no exact kernel for it (AVX512-VNNI); choose int8_weights or bfloat16"
        return SLOW_ON_CPUS.get(precision, "")
    if precision in ("int8", "float8") and not computes(precision, device):
        more = " (it takes compute capability 8.9: Ada, Hopper or later)" if precision == "float8" else ""
        return f"this device has no kernel for it, or one that is off{more}; choose bfloat16 or int8_weights"
    return ""


def _quick_bfloat16() -> bool:
    """Has this processor instructions for bfloat16?"""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)
