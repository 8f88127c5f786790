"""The six parameter services of a node with bounds, over the public interface of either runtime.

They answer as rclpy's own do, except that a request has a size and that no value in it can raise: rclpy's services
work through whatever arrives, in the thread that serves everything else, and an unknown type ends the callback.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from rcl_interfaces.msg import ListParametersResult, SetParametersResult
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    GetParameterTypes,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from rclpy.exceptions import ParameterNotDeclaredException, ParameterUninitializedException
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_parameters

from spec_vla_ros.foreign_text import sentence, shortened

MAX_NAMES = 1000  # names or prefixes of one request
MAX_SET = 256  # parameters of one request
MAX_ELEMENTS = 1024  # of an array
MAX_TEXT = 2**15  # characters of a string, and of all strings of an array together
MAX_NAME = 256  # characters of a parameter's name
MAX_ANSWER = 2**19  # bytes of an answer, roughly
QUIET = 5.0  # s between two lines of log about the same refusal

SERVICES = {
    "get_parameters": GetParameters, "get_parameter_types": GetParameterTypes,
    "describe_parameters": DescribeParameters, "list_parameters": ListParameters, "set_parameters": SetParameters,
    "set_parameters_atomically": SetParametersAtomically,
}  # fmt: skip

_BYTE_ARRAY, _STRING, _STRING_ARRAY = 5, 4, 9
_FIELDS = {
    _STRING: "string_value", _BYTE_ARRAY: "byte_array_value", 6: "bool_array_value", 7: "integer_array_value",
    8: "double_array_value", _STRING_ARRAY: "string_array_value",
}  # fmt: skip
_TYPES = range(10)  # rcl_interfaces/ParameterType
_UNKNOWN = (ParameterNotDeclaredException, ParameterUninitializedException)


class ParameterServices:
    """Made by a node that was started with ``start_parameter_services=False``; lives as long as the node keeps it."""

    def __init__(self, node: Any, removed: Mapping[str, str] = MappingProxyType({})) -> None:
        """``removed``: parameters that the node used to have, each with what to say to who sets one."""
        self._node_reference, self._removed = weakref.ref(node), removed
        callbacks = {
            "get_parameters": self._get, "get_parameter_types": self._get_types,
            "describe_parameters": self._describe, "list_parameters": self._list, "set_parameters": self._set,
            "set_parameters_atomically": self._set_atomically,
        }  # fmt: skip
        for name, kind in SERVICES.items():
            node.create_service(kind, f"~/{name}", callbacks[name], qos_profile=qos_profile_parameters)

    @property
    def _node(self) -> Any:
        node = self._node_reference()
        if node is None:
            raise ReferenceError("the node of these services is gone")
        return node

    def _complain(self, service: str, reason: str) -> None:
        self._node.get_logger().error(f"{service}: {reason}", throttle_duration_sec=QUIET)

    # Asking: one unknown name, or too many, empty the whole answer

    def _get(self, request: Any, response: Any) -> Any:
        def value(name: str) -> Any:
            return self._node.get_parameter(name).get_parameter_value()

        response.values = self._collect("get_parameters", request.names, value, _size_of_value)
        return response

    def _get_types(self, request: Any, response: Any) -> Any:
        def kind(name: str) -> int:
            return int(getattr(found := self._node.get_parameter_type(name), "value", found))

        response.types = self._collect("get_parameter_types", request.names, kind, lambda _: 1)
        return response

    def _describe(self, request: Any, response: Any) -> Any:
        def size(descriptor: Any) -> int:
            return 100 + len(descriptor.description) + len(descriptor.additional_constraints)

        describe = self._node.describe_parameter
        response.descriptors = self._collect("describe_parameters", request.names, describe, size)
        return response

    def _collect(
        self, service: str, names: Sequence[str], look: Callable[[str], Any], size: Callable[[Any], int]
    ) -> list[Any]:
        if len(names) > MAX_NAMES:
            self._complain(service, f"{len(names)} names, at most {MAX_NAMES} are accepted")
            return []
        found, total = [], 0
        for name in names:
            try:
                found.append(look(name))
            except _UNKNOWN:
                return []
            total += size(found[-1])
            if total > MAX_ANSWER:
                self._complain(service, f"the answer would have more than {MAX_ANSWER} bytes")
                return []
        return found

    def _list(self, request: Any, response: Any) -> Any:
        if len(request.prefixes) > MAX_NAMES:
            self._complain("list_parameters", f"{len(request.prefixes)} prefixes, at most {MAX_NAMES} are accepted")
            return response
        every = self._node.get_parameters_by_prefix("")  # Humble has no list_parameters
        names = listed(every, request.prefixes, request.depth)
        prefixes = dict.fromkeys(name.rpartition(".")[0] for name in names if "." in name)
        response.result = ListParametersResult(names=names, prefixes=list(prefixes))
        return response

    # Setting: every refusal has a reason

    def _set(self, request: Any, response: Any) -> Any:
        if len(request.parameters) > MAX_SET:
            refused = self._refused("set_parameters", _too_many(request.parameters))
            response.results = [refused] * MAX_SET
            return response
        response.results = [self._apply("set_parameters", [parameter]) for parameter in request.parameters]
        return response

    def _set_atomically(self, request: Any, response: Any) -> Any:
        service = "set_parameters_atomically"
        if len(request.parameters) > MAX_SET:
            response.result = self._refused(service, _too_many(request.parameters))
        else:
            response.result = self._apply(service, request.parameters)
        return response

    def _apply(self, service: str, messages: Sequence[Any]) -> Any:
        for message in messages:
            if reason := refusal_of(message):
                return self._refused(service, reason)
        if sum(_size_of_value(message.value) for message in messages) > MAX_ANSWER:  # they make one event
            return self._refused(service, f"more than {MAX_ANSWER} bytes of values in one request")
        messages = [message for message in messages if not self._is_so_already(message)]
        if not messages:
            return SetParametersResult(successful=True)
        try:
            result = self._node.set_parameters_atomically([Parameter.from_parameter_msg(m) for m in messages])
        except ParameterNotDeclaredException:
            unknown = [m.name for m in messages if not self._node.has_parameter(m.name)]
            about = [f"{name} {self._removed[name]}" for name in unknown if name in self._removed]
            reason = f"not declared: {shortened(unknown)}"
            return SetParametersResult(successful=False, reason="; ".join([reason, *about]))
        except Exception as error:  # noqa: BLE001  whatever a value provokes, the caller is told and the node goes on
            return self._refused(service, f"{type(error).__name__}: {error}")
        if not result.successful:
            result.reason = sentence(result.reason)
        return result

    def _is_so_already(self, message: Any) -> bool:
        """Whether a read-only parameter is set to the value that it has, as ``ros2 param load`` does with a dump."""
        try:
            fixed = self._node.describe_parameter(message.name).read_only
            return fixed and self._node.get_parameter(message.name).get_parameter_value() == message.value
        except _UNKNOWN:
            return False

    def _refused(self, service: str, reason: str) -> Any:
        reason = sentence(reason)
        self._complain(service, f"refused: {reason}")
        return SetParametersResult(successful=False, reason=reason)


def _too_many(parameters: Sequence[Any]) -> str:
    return f"{len(parameters)} parameters in one request, at most {MAX_SET} are accepted"


def refusal_of(message: Any) -> str:
    """Why an rcl_interfaces/Parameter cannot be a value of any parameter here, or an empty string."""
    kind = message.value.type
    if not message.name:  # rclpy of Jazzy takes it for a declared one and makes it
        return "a parameter without a name"
    if len(message.name) > MAX_NAME:
        return f"a name of {len(message.name)} characters, at most {MAX_NAME} are accepted"
    if kind not in _TYPES:
        return f"parameter {shortened(message.name)}: there is no type {kind}"
    if kind not in _FIELDS:
        return ""
    value = getattr(message.value, _FIELDS[kind])
    if kind == _STRING:
        if len(value) > MAX_TEXT:
            return f"parameter {shortened(message.name)}: {len(value)} characters, at most {MAX_TEXT} are accepted"
    elif len(value) > MAX_ELEMENTS:
        return f"parameter {shortened(message.name)}: {len(value)} elements, at most {MAX_ELEMENTS} are accepted"
    elif kind == _STRING_ARRAY and sum(map(len, value)) > MAX_TEXT:
        return f"parameter {shortened(message.name)}: more than {MAX_TEXT} characters"
    return ""


def listed(names: Iterable[str], prefixes: Iterable[str], depth: int) -> list[str]:
    """Those of ``names`` that list_parameters answers. ``depth`` 0 is any.

    A prefix is a name or a beginning of one up to a dot. So each name is cut at its dots and looked up, which costs the
    same for one prefix and for a thousand.
    """
    wanted = set(prefixes)
    if not wanted:
        return [name for name in names if depth == 0 or name.count(".") < depth]
    return [name for name in names if _below(name, wanted, depth)]


def _below(name: str, wanted: set[str], depth: int) -> bool:
    if name in wanted:
        return True
    dots = [i for i, c in enumerate(name) if c == "."]
    # The rest behind the dot at index i of so many has len(dots) - i - 1 dots.
    return any(name[:dot] in wanted and (depth == 0 or len(dots) - i - 1 < depth) for i, dot in enumerate(dots))


def _size_of_value(message: Any) -> int:
    """Bytes of an rcl_interfaces/ParameterValue, roughly."""
    kind = message.type
    value = getattr(message, _FIELDS[kind]) if kind in _FIELDS else ()
    return 60 + len(value) * (1 if kind == _STRING else 8) + (sum(map(len, value)) if kind == _STRING_ARRAY else 0)
