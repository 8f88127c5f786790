"""Whoever calls the act node's services with what no client should send, in a process of its own.

Orders come as lines of JSON on standard input: ``do``, the name of a function of :class:`Caller` without underscore,
and its arguments. A line on standard output says that an order has been carried out, or why not. Nothing reads replies
but :meth:`Caller.storm`; what the node makes of all this is seen by what it does.
"""

from __future__ import annotations

import json
import random
import struct
import sys
import time
import uuid
from typing import Any

from spec_vla_ros.embedded_ros.doorway import ensure_rclpy

RUNTIME = ensure_rclpy()  # before the first import of rclpy or of a message package

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetAvailableStates, GetAvailableTransitions, GetState
from rcl_interfaces.msg import Parameter, ParameterValue
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_services_default
from rclpy.signals import SignalHandlerOptions

from spec_vla_ros.embedded_ros import parameter_services

SERVICES = {
    **parameter_services.SERVICES, "change_state": ChangeState, "get_state": GetState,
    "get_available_states": GetAvailableStates, "get_available_transitions": GetAvailableTransitions,
    "get_transition_graph": GetAvailableTransitions,
}  # fmt: skip
NO_TRANSITION = 99
NAMED = ("get_parameters", "get_parameter_types", "describe_parameters")
BOOL, INTEGER, DOUBLE, STRING, DOUBLES = 1, 2, 3, 4, 8  # of rcl_interfaces/msg/ParameterType
READY = 5.0  # s for a service to be discovered
LINGER = 0.2  # s


class Caller:
    """Clients of every service of the node ``act``."""

    def __init__(self, namespace: str) -> None:
        self._node = Node("fault_caller", namespace=namespace)
        self._clients: dict[str, Any] = {}
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)

    def meet(self) -> None:
        """Discover every service, so that an attack need not wait for it."""
        for name in SERVICES:
            self._client(name)

    def names(self, service: str, count: int, name: str) -> None:
        """Ask about ``count`` parameters of one name."""
        self._send(service, names=[name] * count)

    def prefixes(self, count: int, depth: int) -> None:
        """List what begins with ``count`` prefixes."""
        self._send("list_parameters", prefixes=[f"prefix_{number}" for number in range(count)], depth=depth)

    def values(self, service: str, name: str, kind: int, size: int, count: int) -> None:
        """Set ``count`` times a parameter to a value of the type ``kind`` with ``size`` elements or characters."""
        value = ParameterValue(type=kind)
        if kind == STRING:
            value.string_value = "x" * size
        elif kind == DOUBLES:
            value.double_array_value = [0.5] * size
        self._send(service, parameters=[Parameter(name=name, value=value)] * count)

    def label(self, size: int, number: int) -> None:
        """Ask for a transition that does not exist."""
        self._send("change_state", transition=Transition(id=number, label="x" * size))

    def garbage(self, service: str, size: int, count: int, seed: int) -> None:
        """Random bytes where a request has a string. Only where requests can be written as bytes."""
        if RUNTIME != "embedded":
            raise NotImplementedError("rclpy sends no finished bytes to a service")
        from spec_vla_ros.embedded_ros import cdr
        from spec_vla_ros.embedded_ros.wire import write_cdr

        rng, client = random.Random(seed), self._client(service)  # noqa: S311
        for _ in range(count):
            letters = "?" * size
            fields = {
                "change_state": {"transition": Transition(id=NO_TRANSITION, label=letters)},
                "set_parameters": {"parameters": [Parameter(name=letters)]},
                "set_parameters_atomically": {"parameters": [Parameter(name=letters)]},
                "list_parameters": {"prefixes": [letters]},
            }.get(service, {"names": [letters]} if service in NAMED else {})
            data = cdr.serialize(SERVICES[service].Request(**fields))
            noise = bytes(rng.randrange(0x80, 0x100) for _ in letters)
            write_cdr(client._writer, data[:4] + bytes(16) + data[4:].replace(letters.encode(), noise))

    def deaf(self, count: int) -> None:
        """Ask again and again without anything that could receive the reply."""
        client = self._client("get_state")
        if RUNTIME != "embedded":
            for _ in range(count):
                client.call_async(GetState.Request())  # nobody spins
            return
        from spec_vla_ros.embedded_ros.wire import write_cdr

        name, qos = f"rq{self._node.get_namespace()}/act/get_stateRequest", qos_profile_services_default
        identity = {"clientid": uuid.uuid4().hex}
        writer = self._node.context.wire.writer(name, GetState.Request, qos, service=True, **identity)
        end = time.monotonic() + READY
        while not writer.get_matched_subscriptions() and time.monotonic() < end:
            time.sleep(0.01)
        for number in range(count):
            write_cdr(writer, b"\x00\x01\x00\x00" + struct.pack("<Qq", 1, number) + b"\x00")
        time.sleep(LINGER)  # what has not been delivered dies with the writer

    def storm(self, seconds: float, rate: float, clients: int, seed: int) -> None:
        """Small requests of all kinds from several clients at once, ``rate`` per second together, replies read."""
        rng = random.Random(seed)  # noqa: S311
        quiet = [name for name in SERVICES if name != "change_state"]
        many = [self._node.create_client(SERVICES[name], f"act/{name}") for name in rng.choices(quiet, k=clients)]
        for client in many:
            self._wait_for(client, client.srv_name)
        began, sent = time.monotonic(), 0
        while (passed := time.monotonic() - began) < seconds:
            while sent < passed * rate:
                client = rng.choice(many)
                client.call_async(client.srv_type.Request())
                sent += 1
            self._executor.spin_once(timeout_sec=0.001)
        for client in many:
            self._node.destroy_client(client)

    def _send(self, service: str, **fields: Any) -> None:
        client = self._client(service)
        client.call_async(SERVICES[service].Request(**fields))

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self._node.create_client(SERVICES[service], f"act/{service}")
        self._wait_for(self._clients[service], service)
        return self._clients[service]

    @staticmethod
    def _wait_for(client: Any, service: str) -> None:
        if not client.wait_for_service(timeout_sec=READY):
            raise TimeoutError(f"no service {service} within {READY:g} s")


def main() -> int:
    """``NAMESPACE`` on the command line. A line on standard output says that orders are heard."""
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    caller = Caller(sys.argv[1])
    _say("ready")
    for line in sys.stdin:
        order = json.loads(line)
        try:
            getattr(caller, order.pop("do"))(**order)
            _say("done")
        except Exception as error:  # noqa: BLE001 - it is told, and the next order is heard
            _say(f"{type(error).__name__}: {error}".replace("\n", " "))
    rclpy.try_shutdown()
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
