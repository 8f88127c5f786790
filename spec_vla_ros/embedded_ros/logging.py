"""Loggers: console lines on standard error, and ``/rosout`` for the loggers of nodes.

A record is one line, whatever the text holds; only a traceback has further ones, which are indented.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Any

from spec_vla_ros.foreign_text import printable, record

from .console import Console

LONGEST = 16_000  # characters of a record; a traceback of a deep call fits


class LoggingSeverity(IntEnum):
    """Levels of rcl_interfaces/Log."""

    UNSET = 0
    DEBUG = 10
    INFO = 20
    WARN = 30
    ERROR = 40
    FATAL = 50


_default_level = LoggingSeverity.INFO
_levels: dict[str, int] = {}
_publishers: dict[str, Callable[[int, str, str, str, str, int], None]] = {}
_once: set[tuple[str, str, int]] = set()
_last: dict[tuple[str, str, int], float] = {}
console = Console()


def set_default_level(level: int) -> None:
    """What ``--log-level`` sets."""
    global _default_level
    _default_level = LoggingSeverity(level)


def set_publisher(name: str, publish: Callable[[int, str, str, str, str, int], None] | None) -> None:
    """Where the records of logger ``name`` go besides the console."""
    if publish is None:
        _publishers.pop(name, None)
    else:
        _publishers[name] = publish


class RcutilsLogger:
    """One named logger."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def get_child(self, name: str) -> RcutilsLogger:
        """Logger "parent.name"."""
        if not name:
            raise ValueError("Child logger name must not be empty.")
        return RcutilsLogger(f"{self.name}.{name}" if self.name else name)

    def set_level(self, level: int) -> None:
        """Records below ``level`` are dropped."""
        _levels[self.name] = LoggingSeverity(level)

    def get_effective_level(self) -> LoggingSeverity:
        """The level in force, inherited from the nearest parent."""
        name = self.name
        while name:
            if name in _levels:
                return LoggingSeverity(_levels[name])
            name = name.rpartition(".")[0]
        return LoggingSeverity(_default_level)

    def is_enabled_for(self, severity: int) -> bool:
        """Would a record of this severity be written?"""
        return severity >= self.get_effective_level()

    def log(
        self,
        message: str,
        severity: int,
        *,
        once: bool = False,
        throttle_duration_sec: float | None = None,
        skip_first: bool = False,
        name: str | None = None,
    ) -> bool:
        """Write one record; the keywords apply to the line of code that logs. Returns whether it was written."""
        severity = LoggingSeverity(severity)
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_code.co_filename == __file__:
            frame = frame.f_back
        site = (frame.f_code.co_filename, frame.f_code.co_name, frame.f_lineno)
        if not self.is_enabled_for(severity):
            return False
        first = site not in _last
        now = time.monotonic()
        if once and site in _once:
            return False
        if throttle_duration_sec is not None and not first and now - _last[site] < throttle_duration_sec:
            return False
        if throttle_duration_sec is not None or skip_first:
            _last[site] = now
        if skip_first and first:
            return False
        if once:
            _once.add(site)
        text, source = record(str(message), LONGEST), printable(name or self.name)
        stamp = time.time_ns()
        moment = f"[{stamp // 10**9}.{stamp % 10**9:09d}]"

        def lost(count: int) -> str:
            return f"[WARN] {moment} [{source}]: {count} lines of this log were dropped: nobody read them\n"

        console.write(f"[{severity.name}] {moment} [{source}]: {text}\n", lost)
        owner = source
        while owner and owner not in _publishers:
            owner = owner.rpartition(".")[0]
        if owner:
            _publishers[owner](int(severity), source, text, *site)
        return True

    def debug(self, message: str, **kwargs: Any) -> bool:
        """Level DEBUG."""
        return self.log(message, LoggingSeverity.DEBUG, **kwargs)

    def info(self, message: str, **kwargs: Any) -> bool:
        """Level INFO."""
        return self.log(message, LoggingSeverity.INFO, **kwargs)

    def warning(self, message: str, **kwargs: Any) -> bool:
        """Level WARN."""
        return self.log(message, LoggingSeverity.WARN, **kwargs)

    warn = warning

    def error(self, message: str, **kwargs: Any) -> bool:
        """Level ERROR."""
        return self.log(message, LoggingSeverity.ERROR, **kwargs)

    def fatal(self, message: str, **kwargs: Any) -> bool:
        """Level FATAL."""
        return self.log(message, LoggingSeverity.FATAL, **kwargs)


def get_logger(name: str) -> RcutilsLogger:
    """Logger by name."""
    if not name:
        raise ValueError("Logger name must not be empty.")
    return RcutilsLogger(name)


def set_logger_level(name: str, level: int) -> None:
    """Level of logger ``name``."""
    _levels[name] = LoggingSeverity(level)


def get_logger_effective_level(name: str) -> LoggingSeverity:
    """Effective level of logger ``name``."""
    return RcutilsLogger(name).get_effective_level()
