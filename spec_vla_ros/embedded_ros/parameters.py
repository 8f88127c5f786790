"""Parameters of a node: ranges, callbacks, the six services and ``/parameter_events``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from spec_vla_ros.foreign_text import shortened

from .exceptions import (
    InvalidParameterException,
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterAlreadyDeclaredException,
    ParameterImmutableException,
    ParameterNotDeclaredException,
    ParameterUninitializedException,
)
from .parameter import Parameter, ParameterType, parameter_message
from .qos import qos_profile_parameter_events


class ParameterMixin:
    """The parameter half of a node. Callbacks run in the order pre-set, on-set (newest first), post-set."""

    def _ros_init_parameters(
        self, overrides: dict[str, Any], start_services: bool, allow_undeclared: bool, declare_overrides: bool
    ) -> None:
        self._ros_parameter_overrides = overrides
        self._ros_allow_undeclared = allow_undeclared
        self._ros_values: dict[str, Parameter] = {}
        self._ros_descriptors: dict[str, Any] = {}
        self._ros_pre_set: list[Callable[..., Any]] = []
        self._ros_on_set: list[Callable[..., Any]] = []
        self._ros_post_set: list[Callable[..., Any]] = []
        events = parameter_message("ParameterEvent")
        self._ros_events = self.create_publisher(events, "/parameter_events", qos_profile_parameter_events)  # type: ignore[attr-defined]
        if declare_overrides:
            for name, value in overrides.items():
                self._ros_declare(name, value, None, ignore_override=True)
        if not self.has_parameter("use_sim_time"):
            self.declare_parameter("use_sim_time", False)
        if self.get_parameter("use_sim_time").value:
            self._ros_use_sim_time(True)  # type: ignore[attr-defined]
        if start_services:
            self._ros_start_services()

    # Declaring and reading

    def declare_parameter(
        self, name: str, value: Any = None, descriptor: Any = None, ignore_override: bool = False
    ) -> Parameter:
        """Declare one parameter; overrides from the command line and files replace ``value``."""
        return self._ros_declare(name, value, descriptor, ignore_override)

    def declare_parameters(
        self, namespace: str, parameters: Sequence[tuple[Any, ...]], ignore_override: bool = False
    ) -> list[Parameter]:
        """Declare several: (name,), (name, value) or (name, value, descriptor)."""
        prefix = f"{namespace}." if namespace else ""
        return [
            self._ros_declare(prefix + entry[0], *[*entry[1:], None, None][:2], ignore_override) for entry in parameters
        ]

    def _ros_declare(self, name: str, value: Any, descriptor: Any, ignore_override: bool) -> Parameter:
        if name in self._ros_values:
            raise ParameterAlreadyDeclaredException(name)
        if not name:
            raise InvalidParameterException(name)
        descriptor = descriptor if descriptor is not None else parameter_message("ParameterDescriptor")()
        typed_only = isinstance(value, ParameterType)
        kind = value if typed_only else ParameterType.from_parameter_value(value)
        value = None if typed_only else value
        if kind == ParameterType.NOT_SET and not typed_only and not descriptor.dynamic_typing:
            self.get_logger().warning(f"parameter '{name}' is declared without a value or type; it is dynamic")  # type: ignore[attr-defined]
            descriptor.dynamic_typing = True
        if not ignore_override and name in self._ros_parameter_overrides:
            given = self._ros_parameter_overrides[name]
            given_kind = ParameterType.from_parameter_value(given)
            empty = given_kind == ParameterType.BYTE_ARRAY and not len(given) and kind >= ParameterType.BYTE_ARRAY
            if not descriptor.dynamic_typing and given_kind != kind and not empty:
                raise InvalidParameterTypeException(Parameter(name, value=given), kind.name)
            value, kind = given, kind if empty else given_kind
        descriptor.name, descriptor.type = name, int(kind)
        parameter = Parameter(name, kind if value is not None else ParameterType.NOT_SET, value)
        if value is not None:
            if reason := self._ros_range_violation(parameter, descriptor):
                raise InvalidParameterValueException(name, value, reason)
            result = self._ros_ask_callbacks([parameter])
            if not result.successful:
                raise InvalidParameterValueException(name, value, result.reason)
        self._ros_values[name], self._ros_descriptors[name] = parameter, descriptor
        self._ros_publish_event([parameter], new={name})
        if value is not None:
            self._ros_after([parameter])
        return parameter

    def undeclare_parameter(self, name: str) -> None:
        """Forget a parameter."""
        if name not in self._ros_values:
            raise ParameterNotDeclaredException(name)
        if self._ros_descriptors[name].read_only:
            raise ParameterImmutableException(name)
        del self._ros_values[name], self._ros_descriptors[name]

    def has_parameter(self, name: str) -> bool:
        """Is it declared?"""
        return name in self._ros_values

    def get_parameter(self, name: str) -> Parameter:
        """The parameter; raises if it is undeclared or has no value."""
        if name not in self._ros_values:
            if self._ros_allow_undeclared:
                return Parameter(name, ParameterType.NOT_SET, None)
            raise ParameterNotDeclaredException(name)
        parameter = self._ros_values[name]
        if parameter.type_ == ParameterType.NOT_SET and not self._ros_descriptors[name].dynamic_typing:
            raise ParameterUninitializedException(name)
        return parameter

    def get_parameters(self, names: Sequence[str]) -> list[Parameter]:
        """Several parameters."""
        return [self.get_parameter(name) for name in names]

    def get_parameter_or(self, name: str, alternative_value: Parameter | None = None) -> Parameter:
        """The parameter, or ``alternative_value`` if it is not declared."""
        return self._ros_values.get(name) or alternative_value or Parameter(name, ParameterType.NOT_SET, None)

    def get_parameters_by_prefix(self, prefix: str) -> dict[str, Parameter]:
        """Parameters below ``prefix``, by the rest of their names."""
        start = f"{prefix}." if prefix else ""
        return {n.removeprefix(start): p for n, p in self._ros_values.items() if n.startswith(start)}

    def describe_parameter(self, name: str) -> Any:
        """rcl_interfaces/ParameterDescriptor."""
        if name not in self._ros_descriptors:
            if self._ros_allow_undeclared:
                return parameter_message("ParameterDescriptor")()
            raise ParameterNotDeclaredException(name)
        return self._ros_descriptors[name]

    def describe_parameters(self, names: Sequence[str]) -> list[Any]:
        """Several descriptors."""
        return [self.describe_parameter(name) for name in names]

    def get_parameter_type(self, name: str) -> ParameterType:
        """Type of one parameter."""
        return self._ros_values[name].type_ if name in self._ros_values else self.get_parameter(name).type_

    def get_parameter_types(self, names: Sequence[str]) -> list[ParameterType]:
        """Types of several."""
        return [self.get_parameter_type(name) for name in names]

    def list_parameters(self, prefixes: Sequence[str], depth: int) -> Any:
        """rcl_interfaces/ListParametersResult."""
        from .parameter_services import listed

        names = listed(self._ros_values, prefixes, depth)
        parents = dict.fromkeys(n.rpartition(".")[0] for n in names if "." in n)
        return parameter_message("ListParametersResult")(names=names, prefixes=list(parents))

    # Setting

    def set_parameters(self, parameter_list: Sequence[Parameter]) -> list[Any]:
        """Set each by itself; a list of SetParametersResult. Undeclared names raise before anything is set."""
        self._ros_require_declared(parameter_list)
        return [self._ros_set([parameter]) for parameter in parameter_list]

    def set_parameters_atomically(self, parameter_list: Sequence[Parameter]) -> Any:
        """All or none; one SetParametersResult."""
        self._ros_require_declared(parameter_list)
        return self._ros_set(list(parameter_list))

    def _ros_require_declared(self, parameters: Sequence[Parameter]) -> None:
        unknown = [p.name for p in parameters if p.name not in self._ros_values]
        if unknown and not self._ros_allow_undeclared:
            raise ParameterNotDeclaredException(unknown)

    def _ros_set(self, parameters: list[Parameter]) -> Any:
        for callback in list(self._ros_pre_set):
            parameters = list(callback(parameters))
            if not parameters:
                return _refused("parameter list cannot be empty, this might be due to a pre-set callback")
        for parameter in parameters:
            if reason := self._ros_refusal(parameter):
                return _refused(reason)
        result = self._ros_ask_callbacks(parameters)
        if not result.successful:
            return result
        new = {p.name for p in parameters if p.name not in self._ros_values or self._ros_values[p.name].value is None}
        deleted = {p.name for p in parameters if p.type_ == ParameterType.NOT_SET}
        for parameter in parameters:
            if parameter.name in deleted and not self._ros_allow_undeclared:
                # To take the value away is to take the declaration away; possible for dynamic types only.
                self._ros_values.pop(parameter.name, None)
                self._ros_descriptors.pop(parameter.name, None)
                continue
            if parameter.name not in self._ros_descriptors:
                self._ros_descriptors[parameter.name] = parameter_message("ParameterDescriptor")(dynamic_typing=True)
            descriptor = self._ros_descriptors[parameter.name]
            descriptor.name = parameter.name
            if parameter.type_ != ParameterType.NOT_SET:
                descriptor.type = int(parameter.type_)
            self._ros_values[parameter.name] = parameter
        self._ros_publish_event(parameters, new, deleted)
        self._ros_after(parameters)
        for callback in list(self._ros_post_set):
            callback(parameters)
        return result

    def _ros_refusal(self, parameter: Parameter) -> str:
        if parameter.name not in self._ros_values:
            return "" if self._ros_allow_undeclared else f"parameter {shortened(parameter.name)} is not declared"
        descriptor, present = self._ros_descriptors[parameter.name], self._ros_values[parameter.name]
        if descriptor.read_only:
            return f"Trying to set a read-only parameter: {parameter.name}."
        if not descriptor.dynamic_typing:
            wanted = ParameterType(descriptor.type)
            if (
                parameter.type_ == ParameterType.BYTE_ARRAY
                and not parameter.value
                and wanted > ParameterType.BYTE_ARRAY
            ):
                parameter.type_ = wanted  # an empty list has no type of its own
            if parameter.type_ != wanted:
                return f"Wrong parameter type, expected '{wanted.name}' got '{parameter.type_.name}' ({present.name})"
        return self._ros_range_violation(parameter, descriptor)

    @staticmethod
    def _ros_range_violation(parameter: Parameter, descriptor: Any) -> str:
        value = parameter.value
        if parameter.type_ == ParameterType.INTEGER and descriptor.integer_range:
            limits = descriptor.integer_range[0]
            low, high = sorted((limits.from_value, limits.to_value))
            if value in (low, high):
                return ""
            if not low <= value <= high:
                return f"Parameter {parameter.name} out of range. Min: {low}, Max: {high}, value: {value}"
            if limits.step and (value - limits.from_value) % limits.step:
                return f"The parameter value for {parameter.name} must be a multiple of step {limits.step} from {low}"
        if parameter.type_ == ParameterType.DOUBLE and descriptor.floating_point_range:
            limits = descriptor.floating_point_range[0]
            low, high = sorted((limits.from_value, limits.to_value))
            if any(math.isclose(value, end, rel_tol=1e-6) for end in (low, high)):
                return ""
            if not low <= value <= high:  # also refuses NaN
                return f"Parameter {parameter.name} out of range. Min: {low}, Max: {high}, value: {value}"
            if limits.step:
                nearest = limits.from_value + round((value - limits.from_value) / limits.step) * limits.step
                if not math.isclose(value, nearest, rel_tol=1e-6):
                    return (
                        f"The parameter value for {parameter.name} must be a multiple of step {limits.step} from {low}"
                    )
        return ""

    def _ros_ask_callbacks(self, parameters: list[Parameter]) -> Any:
        for callback in list(self._ros_on_set):
            result = callback(parameters)
            if not result.successful:
                return result
        return parameter_message("SetParametersResult")(successful=True)

    def _ros_after(self, parameters: list[Parameter]) -> None:
        for parameter in parameters:
            if parameter.name == "use_sim_time" and hasattr(self, "_ros_events"):
                self._ros_use_sim_time(bool(parameter.value))  # type: ignore[attr-defined]

    def add_pre_set_parameters_callback(self, callback: Callable[..., Any]) -> None:
        """May rewrite the list before anything is checked."""
        self._ros_pre_set.insert(0, callback)

    def add_on_set_parameters_callback(self, callback: Callable[..., Any]) -> None:
        """Validates: returns SetParametersResult; the old values are still in force."""
        self._ros_on_set.insert(0, callback)

    def add_post_set_parameters_callback(self, callback: Callable[..., Any]) -> None:
        """Applies: the new values are in force."""
        self._ros_post_set.insert(0, callback)

    def remove_pre_set_parameters_callback(self, callback: Callable[..., Any]) -> None:
        """ValueError if it was not added."""
        self._ros_pre_set.remove(callback)

    def remove_on_set_parameters_callback(self, callback: Callable[..., Any]) -> None:
        """ValueError if it was not added."""
        self._ros_on_set.remove(callback)

    def remove_post_set_parameters_callback(self, callback: Callable[..., Any]) -> None:
        """ValueError if it was not added."""
        self._ros_post_set.remove(callback)

    def _ros_publish_event(self, parameters: list[Parameter], new: set[str], deleted: set[str] | None = None) -> None:
        if not hasattr(self, "_ros_events") or self._ros_events.destroyed:
            return
        deleted = deleted or set()
        split: dict[str, list[Any]] = {"new_parameters": [], "changed_parameters": [], "deleted_parameters": []}
        for parameter in parameters:
            kind = "deleted" if parameter.name in deleted and parameter.name not in new else None
            kind = kind or ("new" if parameter.name in new else "changed")
            split[f"{kind}_parameters"].append(parameter.to_parameter_msg())
        node = self.get_fully_qualified_name()  # type: ignore[attr-defined]
        stamp = self.get_clock().now().to_msg()  # type: ignore[attr-defined]
        self._ros_events.publish(parameter_message("ParameterEvent")(node=node, stamp=stamp, **split))

    # Services

    def _ros_start_services(self) -> None:
        # Written for rclpy's names, which exist by the time that a node is made.
        from .parameter_services import ParameterServices

        ParameterServices(self)


def _refused(reason: str) -> Any:
    return parameter_message("SetParametersResult")(successful=False, reason=reason)
