"""Drafters by name. A new one is a class with the two attributes and the method of :class:`.base.Drafter`."""

from __future__ import annotations

from collections.abc import Iterable

from .base import DraftContext, Drafter
from .hold import Hold
from .refine import Refine
from .velocity import Velocity

DRAFTERS: dict[str, type[Drafter]] = {drafter.name: drafter for drafter in (Hold, Velocity, Refine)}

__all__ = ["DRAFTERS", "DraftContext", "Drafter", "make_drafters"]


def make_drafters(names: Iterable[str]) -> tuple[Drafter, ...]:
    """Drafters in the order in which they are asked: those that build on this action's passes, then as named.

    Raises ``ValueError`` for an unknown name, listing the known ones.
    """
    names = tuple(names)
    if unknown := [name for name in names if name not in DRAFTERS]:
        raise ValueError(f"unknown drafters {unknown}; available: {', '.join(sorted(DRAFTERS))}")
    return tuple(sorted((DRAFTERS[name]() for name in names), key=lambda drafter: not drafter.from_verifier))
