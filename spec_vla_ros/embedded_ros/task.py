"""Futures for service calls and tasks, and coroutines that wait for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Generator
from typing import Any


class Future:
    """A result that comes later; done callbacks run in the thread that sets it."""

    def __init__(self, *, executor: Any = None) -> None:
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._cancelled = False
        self._result: Any = None
        self._exception: BaseException | None = None
        self._callbacks: list[Callable[[Future], Any]] = []
        self._executor = executor

    def __await__(self) -> Generator[Future, None, Any]:
        """Within a task of an executor: wait without holding up anybody, then :meth:`result`."""
        if not self.done():
            yield self
        return self.result()

    def done(self) -> bool:
        """Is there a result, an error or a cancellation?"""
        return self._done.is_set()

    def cancelled(self) -> bool:
        """Was it cancelled?"""
        return self._cancelled

    def cancel(self) -> None:
        """Nobody waits for it any longer."""
        if not self.done():
            self._cancelled = True
            self._finish()

    def result(self) -> Any:
        """The result (None while there is none); raises the exception that was set."""
        if self._exception is not None:
            raise self._exception
        return self._result

    def exception(self) -> BaseException | None:
        """The error, if any."""
        return self._exception

    def set_result(self, result: Any) -> None:
        """Done."""
        self._result = result
        self._finish()

    def set_exception(self, exception: BaseException) -> None:
        """Failed."""
        self._exception = exception
        self._finish()

    def add_done_callback(self, callback: Callable[[Future], Any]) -> None:
        """Called with the future when it is done, at once if it is."""
        with self._lock:
            if not self._done.is_set():
                self._callbacks.append(callback)
                return
        callback(self)

    def _finish(self) -> None:
        with self._lock:
            self._done.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)


def advance(coroutine: Coroutine[Any, None, Any], outcome: Future, later: Callable[[Callable[[], None]], None]) -> None:
    """Run ``coroutine`` until it waits for a future or ends, which ``outcome`` tells.

    What is left of it is given to ``later``, which any thread may call, once that future is done.
    """
    try:
        awaited = coroutine.send(None)
        if not isinstance(awaited, Future):
            coroutine.close()
            raise NotImplementedError("the embedded runtime of spec_vla_ros awaits its own futures only; install ROS 2")
    except StopIteration as end:
        outcome.set_result(end.value)
    except Exception as error:  # noqa: BLE001  the future's owner decides
        outcome.set_exception(error)
    else:
        awaited.add_done_callback(lambda _: later(lambda: advance(coroutine, outcome, later)))
