"""Exceptions of a callback become faults.

One that leaves a callback ends the executor, while the arm waits for somebody to decide.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import Any

from spec_vla_ros.errors import SpecVlaError
from spec_vla_ros.foreign_text import record
from spec_vla_ros.motion.watchdog import Fault

LONGEST = 16_000  # characters of a traceback in the log


def log_traceback(node: Any, error: BaseException) -> None:
    """The traceback of ``error`` as one record of the node's log, in which foreign text begins no line of its own."""
    node.get_logger().error(record("".join(traceback.format_exception(error)), LONGEST))


def guarded(callback: Callable[..., None]) -> Callable[..., None]:
    """A method whose exceptions are logged and given to the node's ``_fail`` as INTERNAL_ERROR."""

    @functools.wraps(callback)
    def wrapper(self: Any, *args: Any) -> None:
        try:
            callback(self, *args)
        except Exception as error:  # noqa: BLE001
            log_traceback(self, error)
            self._fail(Fault("INTERNAL_ERROR", f"{type(error).__name__}: {error}", SpecVlaError.remedy))

    return wrapper
