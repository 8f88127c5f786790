"""Drafters by name. A new one is a class with the two attributes and the method of :class:`.base.Drafter`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from .base import DraftContext, Drafter, Looked, Observation, branches_of
from .forecast import Forecast
from .hold import Hold
from .refine import Refine
from .second_look import SecondLook
from .sweep import Sweep
from .velocity import Velocity

TRAINING_FREE: dict[str, Drafter] = {
    drafter.name: drafter for drafter in (Hold(), Velocity(), Sweep(), Forecast(), Refine())
}
TRAINED = ("vision", "eagle")  # need a head that was trained for their verifier
DRAFTERS = (*TRAINING_FREE, *TRAINED)

__all__ = [
    "DRAFTERS",
    "TRAINED",
    "TRAINING_FREE",
    "DraftContext",
    "Drafter",
    "Looked",
    "Observation",
    "Refine",
    "SecondLook",
    "branches_of",
    "make_drafters",
]


def make_drafters(names: Iterable[str], trained: Mapping[str, Drafter] = MappingProxyType({})) -> tuple[Drafter, ...]:
    """Drafters in the order of their branches: those that build on this action's passes, then as named.

    ``trained``: those that have a head for their verifier. Raises ``ValueError`` for a name that is
    unknown or has no head, listing those that can be had.
    """
    names = tuple(names)
    available = {**TRAINING_FREE, **trained}
    if unknown := [name for name in names if name not in available]:
        raise ValueError(f"unknown drafters {unknown}; available: {', '.join(sorted(available))}")
    return tuple(sorted((available[name] for name in names), key=lambda drafter: not drafter.from_verifier))
