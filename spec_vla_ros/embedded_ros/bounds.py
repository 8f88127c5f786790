"""How much is accepted from others, and how a service says no to more.

A callback of the executor holds up every other one, the stream of velocities among them. So a size is looked at before
anything is made of the bytes, and what is refused costs a line of log.
"""

from __future__ import annotations

import functools
from typing import Any

from .messages import Message

MAX_MESSAGE = 2**27  # bytes of a message on a topic; an image of 64 MB passes
MAX_REQUEST = 2**16  # bytes; sixty parameters with long texts have some 10**4
MAX_REPLY = 2**20  # bytes
MAX_KEPT = 100  # requests or replies of one endpoint that are kept until a peer confirms them
MAX_GRAPH = 2**20  # bytes of what one participant says about its nodes
QUIET = 5.0  # s between two lines about the same refusal
REPLY_PATIENCE = 1.0  # s that a reply is kept for a client whose reader has not been discovered
MAX_PENDING = 32  # replies of one service that are kept so
MAX_GOALS = 32  # ended goals of one action server whose results are kept
MAX_AWAITED = 32  # requests for the result of one goal that wait for its end
LOOK_FOR_CLIENTS = 0.01  # s between two looks whether such a reader has come

_YES_OR_NO = {"success", "successful"}


@functools.cache
def can_refuse(cls: type[Message]) -> bool:
    """Whether a response of this class can say no without being mistaken: by empty lists, or a false "success".

    A text counts beside the latter only; alone it would be taken for what was asked for.
    """
    fields, texts = cls.FIELDS, bool(_YES_OR_NO & cls.FIELDS.keys())
    return bool(fields) and all(
        kind.kind == "sequence"
        or (kind.kind == "one" and kind.base == "string" and texts)
        or (kind.kind == "one" and kind.base == "bool" and name in _YES_OR_NO)
        or (kind.kind == "one" and kind.nested is not None and can_refuse(kind.nested))
        for name, kind in fields.items()
    )


def refusal(cls: type[Message], reason: str) -> Message | None:
    """A response that says no, with ``reason`` where it has a place for one; None if the class cannot say it."""
    if not can_refuse(cls):
        return None
    response = cls()
    for name, kind in cls.FIELDS.items():
        if kind.kind == "one" and kind.base == "string":
            setattr(response, name, reason)
        elif kind.nested is not None and _is_result(kind.nested):
            result = refusal(kind.nested, reason)
            setattr(response, name, result if kind.kind == "one" else [result])
    return response


def _is_result(cls: type[Message]) -> bool:
    return can_refuse(cls) and bool(_YES_OR_NO & cls.FIELDS.keys())


def size_reason(size: int, limit: int, what: str) -> str:
    """The sentence about something too large."""
    return f"{what} has {size} bytes, at most {limit} are accepted"


def too_large(data: Any, limit: int, what: str) -> str:
    """Why ``data`` is refused, or an empty string."""
    return size_reason(len(data), limit, what) if len(data) > limit else ""
