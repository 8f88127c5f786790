"""What others have sent, made fit for a line of a log or a reason in an answer: short, and without control characters.

A newline in a name would begin a line that looks like one of ours, and the value of a refused parameter may have
megabytes.
"""

from __future__ import annotations

from typing import Any

LIMIT = 120  # characters of a foreign value in a line
SENTENCE = 500  # characters of a whole reason
TRACEBACK_START = "Traceback (most recent call last):"
_FIRST = 8  # elements of a sequence that are looked at


def printable(text: Any) -> str:
    """``text`` in one line: what cannot be printed, newlines and lone surrogates among it, as a backslash sequence."""
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shortened(value: Any, limit: int = LIMIT) -> str:
    """The ``repr`` of ``value`` in one line of about ``limit`` characters, with its size if something is left out.

    The cost does not grow with the size of ``value``.
    """
    if isinstance(value, str):
        if len(value) <= limit:
            return repr(value)
        return f"{value[:limit]!r}... ({len(value)} characters)"
    if isinstance(value, bytes | bytearray):
        return repr(bytes(value[:limit])) + (f"... ({len(value)} bytes)" if len(value) > limit else "")
    if hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, dict):
        shown = ", ".join(shortened(item, max(8, limit // _FIRST)) for item in list(value[:_FIRST]))
        return f"[{shown}]" if len(value) <= _FIRST else f"[{shown}, ...] ({len(value)} elements)"
    text = printable(repr(value))
    return text if len(text) <= limit else f"{text[:limit]}..."


def sentence(text: Any, limit: int = SENTENCE) -> str:
    """``text``, a sentence of ours with foreign parts, in one line of at most ``limit`` characters and a sign."""
    text = str(text)
    line = printable(text[: limit + 1])  # one more: a cut has to show
    return line if len(line) <= limit else f"{line[:limit]}..."


def record(text: str, limit: int) -> str:
    """A record of a log: one line, or a traceback whose further lines are indented, as no record begins.

    Of more than ``limit`` characters beginning and end are kept: the last line of a traceback names the error.
    """
    if len(text) > limit:
        text = f"{text[: limit // 2]} ... ({len(text) - limit} characters left out) ... {text[-(limit // 2) :]}"
    if not text.startswith(TRACEBACK_START):
        return printable(text)
    return "\n  ".join(printable(line) for line in text.rstrip("\n").split("\n"))
