"""A node as a process: signals, spinning, the way out.

rclpy's own signal handlers invalidate the context before the node's code runs again, which would make a last message
impossible; hence ours, which only set an event. A second signal finds them still in place.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

import rclpy
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from spec_vla_ros import outermost
from spec_vla_ros.errors import CommandError, SpecVlaError
from spec_vla_ros.foreign_text import sentence

from . import given_parameters

AnyNode = TypeVar("AnyNode", bound=Node)


def run(
    name: str,
    make: Callable[[threading.Event], AnyNode],
    end: Callable[[AnyNode], None],
    args: list[str] | None = None,
    on_stray: Callable[[AnyNode, Exception], None] | None = None,
    removed: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Run the node that ``make`` builds until SIGINT or SIGTERM, then ``end`` it; returns the exit status.

    ``make`` gets the event that is set when the process has to end. A parameter that cannot be, or that the node does
    not have, and an environment in which no node can be are one line of log.
    ``on_stray`` is told what a callback has raised, and the node goes on; without it the node ends. ``removed``: see
    :func:`.given_parameters.judge`.
    """
    outermost.any_text()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except (RuntimeError, ValueError, OSError) as error:  # what the runtimes make of arguments and environment
        get_logger(name).fatal(f"cannot start: {sentence(outermost.one_line(error))}")
        return 1
    try:
        node = make(stop)
    except (ParameterException, NameValidationException) as error:
        get_logger(name).fatal(f"{type(error).__name__}: {sentence(error)}")
        rclpy.try_shutdown()
        return 1
    except (CommandError, SpecVlaError, ImportError, OSError) as error:
        get_logger(name).fatal(f"cannot start: {outermost.in_words(error) or outermost.one_line(error)}")
        rclpy.try_shutdown()
        return 1
    if refused := given_parameters.check(node, sys.argv[1:] if args is None else args, removed):
        get_logger(name).fatal(refused)
        end(node)
        rclpy.try_shutdown()
        return 1
    executor: Any = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not stop.is_set():
            try:
                executor.spin_once(timeout_sec=0.1)  # returns to Python, so that a signal handler can run
            except Exception as error:
                if on_stray is None or not rclpy.ok():
                    raise
                on_stray(node, error)
    finally:
        end(node)
        rclpy.try_shutdown()
        for number in (signal.SIGINT, signal.SIGTERM):  # one more, as ros2 launch sends, would kill the interpreter
            signal.signal(number, signal.SIG_IGN)
    return 0


def leave(status: int) -> NoReturn:
    """End the process with ``status`` after :func:`run`, without taking the interpreter apart.

    Taking torch and a model apart takes seconds, in which the node has said its last zero and left the graph already,
    and ros2 launch loses patience after five. Nobody needs that: what has to happen at the end of a process (logs,
    temporary files, the goodbye of the embedded runtime) happens before it, in functions registered with ``atexit``,
    and memory and devices are the system's to take back.
    """
    if threading.active_count() == 1:  # else an inference goes on, which needs what these would take away
        atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
