"""Parameters of another node, asynchronously."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .parameter import Parameter
from .task import Future
from .types import registry

if TYPE_CHECKING:
    from .node import Node


class AsyncParameterClient:
    """One client per parameter service of ``remote_node_name``."""

    def __init__(self, node: Node, remote_node_name: str, **kwargs: Any) -> None:
        if kwargs.keys() - {"qos_profile", "callback_group"}:
            raise TypeError(f"unexpected arguments: {', '.join(sorted(kwargs))}")
        self.remote_node_name = remote_node_name
        self._clients = {}
        for name in ("GetParameters", "GetParameterTypes", "SetParameters", "SetParametersAtomically",
                     "DescribeParameters", "ListParameters"):  # fmt: skip
            topic = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
            srv = registry().service(f"rcl_interfaces/srv/{name}")
            self._clients[name] = node.create_client(srv, f"{remote_node_name}/{topic}")

    def services_are_ready(self) -> bool:
        """Are all six there?"""
        return all(client.service_is_ready() for client in self._clients.values())

    def wait_for_services(self, timeout_sec: float | None = None) -> bool:
        """Wait for all six; False when the time is up."""
        end = None if timeout_sec is None else time.monotonic() + timeout_sec
        for client in self._clients.values():
            left = None if end is None else max(0.0, end - time.monotonic())
            if not client.wait_for_service(left):
                return False
        return True

    def _call(self, service: str, **request: Any) -> Future:
        client = self._clients[service]
        return client.call_async(client.srv_type.Request(**request))

    def get_parameters(self, names: list[str]) -> Future:
        """GetParameters response."""
        return self._call("GetParameters", names=names)

    def get_parameter_types(self, names: list[str]) -> Future:
        """GetParameterTypes response."""
        return self._call("GetParameterTypes", names=names)

    def set_parameters(self, parameters: Sequence[Any]) -> Future:
        """SetParameters response."""
        return self._call("SetParameters", parameters=[_as_message(p) for p in parameters])

    def set_parameters_atomically(self, parameters: Sequence[Any]) -> Future:
        """SetParametersAtomically response."""
        return self._call("SetParametersAtomically", parameters=[_as_message(p) for p in parameters])

    def describe_parameters(self, names: list[str]) -> Future:
        """DescribeParameters response."""
        return self._call("DescribeParameters", names=names)

    def list_parameters(self, prefixes: list[str] | None = None, depth: int | None = None) -> Future:
        """ListParameters response."""
        return self._call("ListParameters", prefixes=list(prefixes or ()), depth=depth or 0)


def _as_message(parameter: Any) -> Any:
    return parameter.to_parameter_msg() if isinstance(parameter, Parameter) else parameter
