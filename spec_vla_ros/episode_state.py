"""What an episode of a simulator is doing, as the topic ``episode`` says it."""

from __future__ import annotations

import enum


class State(enum.IntEnum):
    """As in Episode.msg."""

    IDLE = 0
    RUNNING = 1
    SUCCESS = 2
    FAILURE = 3
