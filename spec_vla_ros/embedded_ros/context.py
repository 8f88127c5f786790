"""Contexts, ``init`` and ``shutdown``, and what signals do."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from enum import IntFlag
from typing import Any

from . import surroundings
from .args import RosArgs, parse_ros_args
from .exceptions import NotInitializedException
from .graph import Graph
from .logging import get_logger, set_default_level
from .wire import Wire

NOTICE = (
    "This is the embedded runtime of spec_vla_ros: a subset of rclpy over Cyclone DDS for machines without ROS 2. "
    "It has no clients of actions, composition, launch, security or other DDS vendors; on a robot, install ROS 2."
)


class SignalHandlerOptions(IntFlag):
    """Which signals ``init`` handles."""

    NO = 0
    SIGINT = 1
    SIGTERM = 2
    ALL = 3


class Context:
    """One DDS participant and the arguments of the process."""

    def __init__(self) -> None:
        self._wire: Wire | None = None
        self._graph: Graph | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.RLock()
        self._ok = False
        self.args = RosArgs()
        self.nodes: list[Any] = []

    def init(self, args: list[str] | None = None, *, domain_id: int | None = None) -> None:
        """Join the domain (``domain_id``, else ROS_DOMAIN_ID, else 0). RuntimeError if already done."""
        with self._lock:
            if self._ok:
                raise RuntimeError("Context.init() must only be called once")
            self.args = parse_ros_args(sys.argv[1:] if args is None else list(args))
            if self.args.log_level is not None:
                set_default_level(self.args.log_level)
            domain = surroundings.domain_id(os.environ, domain_id)
            if odd := surroundings.odd_range(os.environ):
                get_logger("spec_vla_ros.embedded_ros").warning(odd)
            self._wire = Wire(domain)
            self._graph = Graph(self._wire)
            self._ok = True

    @property
    def wire(self) -> Wire:
        """The participant. NotInitializedException before ``init``."""
        if self._wire is None:
            raise NotInitializedException("cannot use the context: rclpy.init() has not been called")
        return self._wire

    @property
    def graph(self) -> Graph:
        """The node graph. NotInitializedException before ``init``."""
        if self._graph is None:
            raise NotInitializedException("cannot use the context: rclpy.init() has not been called")
        return self._graph

    def ok(self) -> bool:
        """Initialised and not shut down?"""
        return self._ok

    def get_domain_id(self) -> int:
        """The DDS domain."""
        return self.wire.domain_id

    def on_shutdown(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the context is shut down."""
        self._callbacks.append(callback)

    def shutdown(self) -> None:
        """Leave the domain. RuntimeError if that was done before."""
        with self._lock:
            if not self._ok:
                raise RuntimeError("Context must be initialized before it can be shutdown")
            self.try_shutdown()

    def try_shutdown(self) -> None:
        """Like ``shutdown``, but never raises."""
        with self._lock:
            if not self._ok:
                return
            self._ok = False
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()


_default = Context()
_previous: dict[int, Any] = {}
_noticed = False


def get_default_context() -> Context:
    """The context that ``init`` without arguments uses."""
    return _default


def init(
    *,
    args: list[str] | None = None,
    context: Context | None = None,
    domain_id: int | None = None,
    signal_handler_options: SignalHandlerOptions | None = None,
) -> InitContextManager:
    """Start communication for ``context``; see :class:`SignalHandlerOptions`."""
    global _default, _noticed
    if context is None:
        if not _default.ok() and _default._wire is not None:
            _default = Context()  # after a shutdown, init starts afresh
        context = _default
    context.init(args, domain_id=domain_id)
    options = SignalHandlerOptions.ALL if signal_handler_options is None else signal_handler_options
    if context is _default:
        install_signal_handlers(options)
    if not _noticed:
        _noticed = True
        get_logger("spec_vla_ros.embedded_ros").info(NOTICE)
    return InitContextManager(context)


class InitContextManager:
    """``with rclpy.init(): ...`` shuts the context down at the end."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def __enter__(self) -> InitContextManager:
        return self

    def __exit__(self, *exception: object) -> None:
        self.context.try_shutdown()


def install_signal_handlers(options: SignalHandlerOptions = SignalHandlerOptions.ALL) -> None:
    """SIGINT shuts the context down and raises KeyboardInterrupt; SIGTERM shuts it down."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number, flag in ((signal.SIGINT, SignalHandlerOptions.SIGINT), (signal.SIGTERM, SignalHandlerOptions.SIGTERM)):
        if options & flag and number not in _previous:
            _previous[number] = signal.signal(number, _on_signal)


def uninstall_signal_handlers() -> None:
    """Put back what was there before."""
    for number in list(_previous):
        with contextlib.suppress(ValueError):
            signal.signal(number, _previous.pop(number))


def _on_signal(number: int, frame: Any) -> None:
    del frame
    _default.try_shutdown()
    if number == signal.SIGINT:
        raise KeyboardInterrupt


def shutdown(*, context: Context | None = None, uninstall_handlers: bool | None = None) -> None:
    """Shut ``context`` down; RuntimeError if it is down already."""
    (context or _default).shutdown()
    if uninstall_handlers is not False:
        uninstall_signal_handlers()


def try_shutdown(*, context: Context | None = None, uninstall_handlers: bool | None = None) -> None:
    """Shut ``context`` down if it is up."""
    (context or _default).try_shutdown()
    if uninstall_handlers is not False:
        uninstall_signal_handlers()


def ok(*, context: Context | None = None) -> bool:
    """Is ``context`` up?"""
    return (context or _default).ok()
