"""One parameter: its name, type and value, as rclpy.parameter has it, and its message form."""

from __future__ import annotations

import array
from enum import IntEnum
from typing import Any

import numpy as np

from spec_vla_ros.foreign_text import shortened

from .types import registry


def parameter_message(name: str) -> Any:
    """The class of a message in rcl_interfaces."""
    return registry().message(f"rcl_interfaces/msg/{name}")


class ParameterType(IntEnum):
    """The numbers of rcl_interfaces/ParameterType."""

    NOT_SET = 0
    BOOL = 1
    INTEGER = 2
    DOUBLE = 3
    STRING = 4
    BYTE_ARRAY = 5
    BOOL_ARRAY = 6
    INTEGER_ARRAY = 7
    DOUBLE_ARRAY = 8
    STRING_ARRAY = 9

    @classmethod
    def from_parameter_value(cls, value: Any) -> ParameterType:
        """The type of a Python value. TypeError if it has none."""
        if value is None:
            return cls.NOT_SET
        for kind, python in ((cls.BOOL, bool), (cls.INTEGER, int), (cls.DOUBLE, float), (cls.STRING, str)):
            if isinstance(value, python):
                return kind
        if isinstance(value, list | tuple | array.array | np.ndarray):
            items = list(value)
            if all(isinstance(v, bytes) for v in items):
                return cls.BYTE_ARRAY  # an empty list, too
            for kind, python in ((cls.BOOL_ARRAY, bool), (cls.INTEGER_ARRAY, int | np.integer),
                                 (cls.DOUBLE_ARRAY, float), (cls.STRING_ARRAY, str)):  # fmt: skip
                if all(isinstance(v, python) and (python is bool or not isinstance(v, bool)) for v in items):
                    return kind
            raise TypeError(f"The given value is not a list of one type: {shortened(items)}.")
        raise TypeError(f"The given value is not one of the allowed types '{type(value)}'.")


_FIELDS = {1: "bool_value", 2: "integer_value", 3: "double_value", 4: "string_value", 5: "byte_array_value",
           6: "bool_array_value", 7: "integer_array_value", 8: "double_array_value", 9: "string_array_value"
           }  # fmt: skip


class Parameter:
    """A name, a type and a value."""

    Type = ParameterType

    def __init__(self, name: str, type_: ParameterType | None = None, value: Any = None) -> None:
        inferred = ParameterType.from_parameter_value(value)
        if type_ is None:
            type_ = inferred
        elif inferred != type_ and value is not None and value != []:
            raise ValueError(f"Type '{type_}' and value {shortened(value)} do not agree")
        self.name, self.type_, self.value = name, ParameterType(type_), value

    @classmethod
    def from_parameter_msg(cls, message: Any) -> Parameter:
        """From rcl_interfaces/Parameter."""
        return cls(message.name, ParameterType(message.value.type), parameter_value_to_python(message.value))

    def get_parameter_value(self) -> Any:
        """rcl_interfaces/ParameterValue."""
        value = parameter_message("ParameterValue")(type=int(self.type_))
        if self.type_ in _FIELDS:
            data = self.value
            if self.type_ >= ParameterType.BYTE_ARRAY:
                data = [int(v) for v in data] if self.type_ == ParameterType.INTEGER_ARRAY else list(data)
            setattr(value, _FIELDS[self.type_], data)
        return value

    def to_parameter_msg(self) -> Any:
        """rcl_interfaces/Parameter."""
        return parameter_message("Parameter")(name=self.name, value=self.get_parameter_value())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parameter) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, {self.type_.name}, {self.value!r})"


def parameter_value_to_python(value: Any) -> Any:
    """The Python value in rcl_interfaces/ParameterValue; arrays as lists."""
    if value.type == 0:
        return None
    if value.type not in _FIELDS:
        raise RuntimeError(f"unexpected parameter type {value.type}")
    data = getattr(value, _FIELDS[value.type])
    return list(data) if value.type >= ParameterType.BYTE_ARRAY else data
