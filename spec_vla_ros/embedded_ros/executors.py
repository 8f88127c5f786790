"""Executors: wait for DDS, timers and guard conditions, run one ready callback at a time."""

from __future__ import annotations

import inspect
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from cyclonedds.core import GuardCondition as DdsGuard
from cyclonedds.core import WaitSet
from cyclonedds.util import duration

from .exceptions import ExternalShutdownException
from .task import Future, advance

if TYPE_CHECKING:
    from .node import Node

# A Python signal handler cannot run while the wait is inside C, so no single wait is longer than this.
_LONGEST_WAIT = 0.1


class ShutdownException(Exception):
    """The executor was shut down while it was waiting."""


class TimeoutException(Exception):
    """Nothing became ready in time."""


class Executor:
    """Common part; see the two subclasses."""

    def __init__(self, *, context: Any = None) -> None:
        from .context import get_default_context

        self.context = context or get_default_context()
        self._nodes: list[Node] = []
        self._wake = DdsGuard(self.context.wire.participant)
        self._waitset = WaitSet(self.context.wire.participant)
        self._waitset.attach(self._wake)
        self._attached: dict[int, Any] = {}
        self._ready: deque[tuple[Any, Callable[[], None]]] = deque()
        self._closed = False
        self._next_report = 0.0
        self._waiting = threading.Lock()
        self.context.on_shutdown(self.wake)

    def add_node(self, node: Node) -> bool:
        """Serve ``node``. False if it already was."""
        if node in self._nodes:
            return False
        self._nodes.append(node)
        node.executor = self
        self.wake()
        return True

    def remove_node(self, node: Node) -> None:
        """Serve ``node`` no longer."""
        if node in self._nodes:
            self._nodes.remove(node)
            if node.executor is self:
                node.executor = None
            self.wake()

    def get_nodes(self) -> list[Node]:
        """The nodes that are served."""
        return list(self._nodes)

    def create_task(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> Future:
        """Run ``callback``, a function or a coroutine function, once from the executor; the future holds its result."""
        future = Future(executor=self)

        def run() -> None:
            try:
                result = callback(*args, **kwargs)
            except Exception as error:  # noqa: BLE001  the future's owner decides
                future.set_exception(error)
                return
            if inspect.iscoroutine(result):
                advance(result, future, self._later)
            else:
                future.set_result(result)

        self._later(run)
        return future

    def _later(self, run: Callable[[], None]) -> None:
        self._ready.append((None, run))
        self.wake()

    def wake(self) -> None:
        """End the present wait; callable from any thread."""
        if not self._closed:
            self._wake.set(True)

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Stop serving. Returns True."""
        del timeout_sec
        self.wake()
        self._closed = True
        for node in list(self._nodes):
            self.remove_node(node)
        with self._waiting:  # an attached condition keeps its reader alive, and in the graph of everybody else
            while self._attached:
                self._waitset.detach(self._attached.popitem()[1])
        return True

    def spin(self) -> None:
        """Serve until the context is shut down (ExternalShutdownException) or the executor is."""
        while not self._closed:
            if not self.context.ok():
                raise ExternalShutdownException
            self.spin_once(timeout_sec=_LONGEST_WAIT)

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Run at most one callback; wait for it at most ``timeout_sec`` (None = for ever)."""
        entry = self._next(timeout_sec)
        if entry is not None:
            self._run(*entry)

    def spin_until_future_complete(self, future: Future, timeout_sec: float | None = None) -> None:
        """Serve until ``future`` is done or the time is up."""
        end = None if timeout_sec is None or timeout_sec < 0 else time.monotonic() + timeout_sec
        future.add_done_callback(lambda _: self.wake())
        while not future.done() and not self._closed and self.context.ok():
            left = None if end is None else end - time.monotonic()
            if left is not None and left < 0:
                return
            self.spin_once(timeout_sec=_LONGEST_WAIT if left is None else min(left, _LONGEST_WAIT))

    def spin_once_until_future_complete(self, future: Future, timeout_sec: float | None = None) -> None:
        """One callback, or none if ``future`` is done."""
        future.add_done_callback(lambda _: self.wake())
        if not future.done():
            self.spin_once(timeout_sec=timeout_sec)

    def _run(self, entity: Any, callback: Callable[[], None]) -> None:
        del entity
        callback()

    def _next(self, timeout_sec: float | None) -> tuple[Any, Callable[[], None]] | None:
        end = None if timeout_sec is None or timeout_sec < 0 else time.monotonic() + timeout_sec
        while True:
            while self._ready:
                entity, callback = self._ready.popleft()
                if entity is None or not entity.destroyed:
                    return entity, callback
            if self._closed:
                return None
            self._collect()
            if self._ready:
                continue
            left = _LONGEST_WAIT if end is None else end - time.monotonic()
            if left <= 0 or not self.context.ok():
                return None
            self._wait(min(left, _LONGEST_WAIT, self._until_next_look()))

    def _entities(self, kind: str) -> Iterator[Any]:
        for node in list(self._nodes):
            for entity in list(getattr(node, kind)):
                if not entity.destroyed:
                    yield entity

    def _report_mismatches(self) -> None:
        """Once a second: take in what is new in the graph, and say which peers cannot be matched.

        A topic of theirs is silent otherwise.
        """
        now = time.monotonic()
        if now < self._next_report:
            return
        if self.context.graph.listen():
            return  # others' callbacks first, then the rest
        self._next_report = now + 1.0
        for kind in ("_ros_subscriptions", "_ros_publishers"):
            for entity in self._entities(kind):
                entity.warn_of_incompatible_peers()

    def _collect(self) -> None:
        """Queue what is ready: timers, subscriptions, guard conditions, clients, services, in rclpy's order."""
        self._report_mismatches()
        for kind in ("_ros_timers", "_ros_subscriptions", "_ros_guards", "_ros_clients", "_ros_services"):
            for entity in self._entities(kind):
                if self._may_run(entity) and (callback := entity.take_ready()) is not None:
                    self._ready.append((entity, callback))

    def _may_run(self, entity: Any) -> bool:
        del entity
        return True

    def _until_next_look(self) -> float:
        """Seconds until a timer is due, or a service looks whether somebody hears its replies by now."""
        ready = (e for kind in ("_ros_timers", "_ros_services") for e in self._entities(kind) if self._may_run(e))
        return max(0.0, min((entity.seconds_left() for entity in ready), default=_LONGEST_WAIT))

    def _wait(self, seconds: float) -> None:
        with self._waiting:
            wanted = {}
            for kind in ("_ros_subscriptions", "_ros_clients", "_ros_services"):
                for entity in self._entities(kind):
                    if entity.condition is not None and self._may_run(entity):
                        wanted[id(entity.condition)] = entity.condition
            for key in self._attached.keys() - wanted.keys():
                self._waitset.detach(self._attached.pop(key))
            for key in wanted.keys() - self._attached.keys():
                self._waitset.attach(wanted[key])
                self._attached[key] = wanted[key]
            self._waitset.wait(duration(nanoseconds=max(1, int(seconds * 1e9))))
            self._wake.set(False)


class SingleThreadedExecutor(Executor):
    """Callbacks run in the thread that spins."""


class MultiThreadedExecutor(Executor):
    """Callbacks run in a pool of threads; those of one mutually exclusive group never at the same time."""

    def __init__(self, num_threads: int | None = None, *, context: Any = None) -> None:
        super().__init__(context=context)
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(num_threads or usable)
        self._busy: set[int] = set()
        self._errors: deque[BaseException] = deque()

    def _may_run(self, entity: Any) -> bool:
        return id(entity) not in self._busy and id(entity.callback_group) not in self._busy

    def _run(self, entity: Any, callback: Callable[[], None]) -> None:
        if self._errors:
            raise self._errors.popleft()
        group = None if entity is None else entity.callback_group
        if entity is not None and not self._may_run(entity):
            self._ready.append((entity, callback))  # another callback of the group was started meanwhile
            time.sleep(0.001)
            return
        held = [id(entity)] if group is None or group.reentrant else [id(entity), id(group)]
        self._busy.update(held)

        def work() -> None:
            try:
                callback()
            except BaseException as error:  # noqa: BLE001  raised again by the thread that spins
                self._errors.append(error)
            finally:
                self._busy.difference_update(held)
                self.wake()

        self._pool.submit(work)

    def _next(self, timeout_sec: float | None) -> tuple[Any, Callable[[], None]] | None:
        if self._errors:
            raise self._errors.popleft()
        return super()._next(timeout_sec)

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Also waits for the callbacks that are running."""
        self._pool.shutdown(wait=timeout_sec != 0)
        return super().shutdown(timeout_sec)
