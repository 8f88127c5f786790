"""Whom publishers, subscriptions, timers, services and clients belong to: what they ask of their node."""

from __future__ import annotations

from typing import Any, Protocol

from .context import Context


class Owner(Protocol):
    """A node, as its entities see it."""

    context: Context
    default_callback_group: Any
    executor: Any

    def get_logger(self) -> Any:
        """The logger of the node."""

    def wake(self) -> None:
        """Let the executor look at once."""
