"""One call at a moment that is set anew again and again, by a timer that stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

FAR = 3600.0  # s; a timer needs some period


class Alarm:
    """Calls back once per :meth:`set`, in the executor's thread."""

    def __init__(self, node: Any, clock: Any, callback: Callable[[], None]) -> None:
        """``clock``: whose time counts, a steady one."""
        self._callback = callback
        self._timer = node.create_timer(FAR, self._ring, clock=clock)
        self._timer.cancel()

    def set(self, seconds: float) -> None:
        """Call back in so many s, and not at the moment that was set before."""
        self._timer.timer_period_ns = max(1, int(1e9 * seconds))
        self._timer.reset()

    def cancel(self) -> None:
        """Do not call back."""
        self._timer.cancel()

    def _ring(self) -> None:
        self._timer.cancel()
        self._callback()
