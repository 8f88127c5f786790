"""Message classes that behave like the ones rosidl generates, built from field definitions at run time.

Keyword-only constructors, defaults filled in, unknown names refused, and every assignment checked: what real ROS 2
refuses with ``ROS_PYTHON_CHECK_FIELDS=1`` is always refused here, or the bug would show on the robot only.
"""

from __future__ import annotations

import array
import re
from collections import UserList
from collections.abc import Callable, Sequence, Set
from typing import Any, ClassVar

import numpy as np

INTEGERS = {"int8": "b", "uint8": "B", "char": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I",
            "int64": "q", "uint64": "Q"}  # fmt: skip
FLOATS = {"float32": "f", "float64": "d"}
NUMBERS = INTEGERS | FLOATS
DTYPES = {k: np.dtype(v) for k, v in NUMBERS.items()}
_LIMITS = {
    name: (0, 2 ** (8 * DTYPES[name].itemsize) - 1)
    if name.startswith(("u", "c"))
    else (-(2 ** (8 * DTYPES[name].itemsize - 1)), 2 ** (8 * DTYPES[name].itemsize - 1) - 1)
    for name in INTEGERS
}


class FieldType:
    """One field's type: ``base`` (a primitive or "pkg/msg/Name"), ``size`` of a fixed array, ``bound`` of a sequence.

    ``kind`` is "one", "array" or "sequence"; ``text_bound`` limits a string (0 = none).
    """

    def __init__(self, base: str, kind: str = "one", size: int = 0, text_bound: int = 0) -> None:
        self.base, self.kind, self.size, self.text_bound = base, kind, size, text_bound
        self.nested: type[Message] | None = None  # filled in by the type registry

    def __str__(self) -> str:
        """The spelling of ``get_fields_and_field_types``."""
        inner = re.sub("/(msg|srv|action)/", "/", self.base)
        inner = {"bool": "boolean", "byte": "octet", "char": "uint8", "float32": "float", "float64": "double"}.get(
            inner, inner
        )
        if self.base == "string" and self.text_bound:
            inner = f"string<{self.text_bound}>"
        if self.kind == "array":
            return f"{inner}[{self.size}]"
        if self.kind == "sequence":
            return f"sequence<{inner}, {self.size}>" if self.size else f"sequence<{inner}>"
        return inner

    def default(self) -> Any:
        """A fresh default value."""
        if self.kind == "one":
            return self._default_one()
        if self.base in NUMBERS:
            if self.kind == "array":
                return np.zeros(self.size, dtype=DTYPES[self.base])
            return array.array(NUMBERS[self.base])
        return [self._default_one() for _ in range(self.size if self.kind == "array" else 0)]

    def _default_one(self) -> Any:
        if self.nested is not None:
            return self.nested()
        if self.base in INTEGERS:
            return 0
        if self.base in FLOATS:
            return 0.0
        return {"bool": False, "byte": b"\0", "string": ""}[self.base]

    def check(self, value: Any, where: str) -> Any:
        """The value to store; AssertionError (as rosidl raises) if it does not fit."""
        if self.kind == "one":
            self._check_one(value, where)
            return value
        if isinstance(value, array.array) and self.kind == "sequence" and self.base in NUMBERS:
            code = NUMBERS[self.base]
            _require(value.typecode == code, f"{where} must have type code '{code}', not '{value.typecode}'")
            self._check_length(len(value), where)
            return value
        if isinstance(value, np.ndarray) and self.kind == "array" and self.base in NUMBERS:
            _require(
                value.dtype == DTYPES[self.base], f"{where} must have dtype {DTYPES[self.base]}, not {value.dtype}"
            )
            self._check_length(value.size, where)
            return value
        plain = isinstance(value, Sequence | Set | UserList) and not isinstance(value, str | UserList)
        _require(plain or isinstance(value, UserList), f"{where} must be a sequence, not {type(value).__name__}")
        self._check_length(len(value), where)
        for item in value:
            self._check_one(item, f"{where}[]")
        if self.base in NUMBERS:
            if self.kind == "array":
                return np.array(list(value), dtype=DTYPES[self.base])
            return array.array(NUMBERS[self.base], value)
        return list(value)

    def _check_length(self, length: int, where: str) -> None:
        if self.kind == "array":
            _require(length == self.size, f"{where} must have {self.size} elements, not {length}")
        elif self.size:
            _require(length <= self.size, f"{where} may have at most {self.size} elements, not {length}")

    def _check_one(self, value: Any, where: str) -> None:
        kind = type(value).__name__
        if self.nested is not None:
            _require(isinstance(value, self.nested), f"{where} must be a {self.nested.__name__}, not {kind}")
        elif self.base in INTEGERS:
            _require(isinstance(value, int), f"{where} must be an int, not {kind}")
            low, high = _LIMITS[self.base]
            _require(low <= value <= high, f"{where} must lie in [{low}, {high}], not {value}")
        elif self.base in FLOATS:
            _require(isinstance(value, float), f"{where} must be a float, not {kind}")
            fits = self.base == "float64" or not np.isfinite(value) or abs(value) <= 3.402823466e38
            _require(fits, f"{where} does not fit into a float32: {value}")
        elif self.base == "bool":
            _require(isinstance(value, bool), f"{where} must be a bool, not {kind}")
        elif self.base == "byte":
            _require(isinstance(value, bytes) and len(value) == 1, f"{where} must be one byte (bytes of length 1)")
        else:
            _require(isinstance(value, str), f"{where} must be a str, not {kind}")
            _require(not self.text_bound or len(value) <= self.text_bound, f"{where} is longer than {self.text_bound}")


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise AssertionError(text)


class _Field:
    """Descriptor of one field: checked on assignment."""

    def __init__(self, name: str, kind: FieldType) -> None:
        self.slot, self.kind, self.name = f"_{name}", kind, name

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else getattr(instance, self.slot)

    def __set__(self, instance: Any, value: Any) -> None:
        setattr(instance, self.slot, self.kind.check(value, f"{type(instance).__name__}.{self.name}"))


class _MessageMeta(type):
    def __setattr__(cls, name: str, value: Any) -> None:
        if name in getattr(cls, "CONSTANTS", {}):
            raise AttributeError(f"{name} is a constant of {cls.__name__}")
        super().__setattr__(name, value)


class Message(metaclass=_MessageMeta):
    """Base of all message, request and response classes."""

    __slots__ = ()
    FULL_NAME: ClassVar[str] = ""
    FIELDS: ClassVar[dict[str, FieldType]] = {}
    DEFAULTS: ClassVar[dict[str, Any]] = {}
    CONSTANTS: ClassVar[dict[str, Any]] = {}

    def __init__(self, **values: Any) -> None:
        if unknown := values.keys() - self.FIELDS.keys():
            raise AssertionError(f"Invalid arguments passed to constructor: {', '.join(sorted(unknown))}")
        for name, kind in self.FIELDS.items():
            if name in values:
                setattr(self, name, values[name])
            elif name in self.DEFAULTS:
                setattr(self, name, self.DEFAULTS[name])
            else:
                object.__setattr__(self, f"_{name}", kind.default())

    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]:
        """Field names and their types in IDL spelling."""
        return {name: str(kind) for name, kind in cls.FIELDS.items()}

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.FIELDS)
        return f"{self.FULL_NAME.replace('/', '.')}({values})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(np.array_equal(getattr(self, n), getattr(other, n)) if isinstance(getattr(self, n), np.ndarray)
                   else getattr(self, n) == getattr(other, n) for n in self.FIELDS)  # fmt: skip

    __hash__ = None  # type: ignore[assignment]


def make_message_class(
    full_name: str, fields: dict[str, FieldType], constants: dict[str, Any], defaults: dict[str, Any]
) -> type[Message]:
    """A message class for "pkg/msg/Name"."""
    body: dict[str, Any] = {"__slots__": tuple(f"_{name}" for name in fields), "__module__": _module(full_name)}
    cls = _MessageMeta(full_name.rsplit("/", 1)[1], (Message,), body)
    for name, kind in fields.items():
        setattr(cls, name, _Field(name, kind))
    for name, value in constants.items():
        setattr(cls, name, value)
    cls.FULL_NAME, cls.FIELDS, cls.DEFAULTS = full_name, fields, defaults
    cls.CONSTANTS = constants
    return cls


def _module(full_name: str) -> str:
    package, group, name = full_name.split("/")
    return f"{package}.{group}._{re.sub('(?<!^)(?=[A-Z])', '_', name).lower()}"


Encoder = Callable[[bytearray, Any], None]
