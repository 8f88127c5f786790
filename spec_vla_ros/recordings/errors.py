"""What makes a replay impossible. Without the libraries that a replay needs, so that their absence can be told."""

from __future__ import annotations

from spec_vla_ros.errors import CommandError


class BagError(CommandError):
    """There is nothing that could be read; the message is for the person at the keyboard."""


class ReplayError(CommandError):
    """The run cannot go on; the message is for the person at the keyboard."""
