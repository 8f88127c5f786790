"""The module-level functions of rclpy: one global executor, spin helpers, serialization."""

from __future__ import annotations

from typing import Any

from . import cdr
from .context import get_default_context
from .executors import Executor, SingleThreadedExecutor
from .messages import Message
from .node import Node
from .task import Future

S_TO_NS = 1_000_000_000
_executor: Executor | None = None


def get_global_executor() -> Executor:
    """The executor that the spin functions share."""
    global _executor
    if _executor is None or not _executor.context.ok():
        _executor = SingleThreadedExecutor(context=get_default_context())
    return _executor


def create_node(node_name: str, **kwargs: Any) -> Node:
    """A plain node."""
    return Node(node_name, **kwargs)


def spin(node: Node, executor: Executor | None = None) -> None:
    """Serve ``node`` until shutdown."""
    executor = executor or get_global_executor()
    executor.add_node(node)
    try:
        executor.spin()
    finally:
        executor.remove_node(node)


def spin_once(node: Node, *, executor: Executor | None = None, timeout_sec: float | None = None) -> None:
    """Run at most one callback of ``node``."""
    executor = executor or get_global_executor()
    executor.add_node(node)
    try:
        executor.spin_once(timeout_sec=timeout_sec)
    finally:
        executor.remove_node(node)


def spin_until_future_complete(
    node: Node, future: Future, executor: Executor | None = None, timeout_sec: float | None = None
) -> None:
    """Serve ``node`` until ``future`` is done or the time is up."""
    executor = executor or get_global_executor()
    executor.add_node(node)
    try:
        executor.spin_until_future_complete(future, timeout_sec)
    finally:
        executor.remove_node(node)


def serialize_message(message: Message) -> bytes:
    """CDR bytes with encapsulation."""
    return cdr.serialize(message)


def deserialize_message(data: bytes, message_type: type[Message]) -> Message:
    """The reverse."""
    return cdr.deserialize(data, message_type)
