"""XCDR1 encoding of message objects (little endian out, both byte orders in).

What comes in was made by somebody else: a length is compared with the bytes that are there before anything is made of
it, and a message whose decoding would hold up its executor is refused. Arrays of numbers are copied as a whole and cost
next to nothing; everything else becomes Python objects, a microsecond or more each.
"""

from __future__ import annotations

import array
import functools
import struct
import sys
from typing import Any

import numpy as np

from .messages import DTYPES, NUMBERS, FieldType, Message

ENCAPSULATION = b"\x00\x01\x00\x00"
MAX_OBJECTS = 20_000  # strings, nested messages, bools and bytes in sequences of one message
MAX_STRING = 2**24  # bytes; a robot description has some 10**5
_STRUCT = {name: struct.Struct("<" + code) for name, code in NUMBERS.items()}


def serialize(message: Message) -> bytes:
    """CDR bytes with the four bytes of encapsulation."""
    out = bytearray(ENCAPSULATION)
    _write_message(out, message)
    return bytes(out)


def deserialize(data: bytes | memoryview, cls: type[Message], objects: int = MAX_OBJECTS) -> Message:
    """A message from CDR bytes with encapsulation.

    ValueError if they are cut short, of another encoding, or hold more than ``objects`` elements that are no numbers.
    """
    view = memoryview(data)
    if len(view) < 4 or view[0] != 0 or view[1] not in (0, 1):
        raise ValueError(f"not XCDR1: encapsulation {bytes(view[:4]).hex()}")
    try:
        return _Reader(view[4:], "<" if view[1] == 1 else ">", objects).message(cls)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"{cls.FULL_NAME}: {error}") from error


def _align(out: bytearray, size: int) -> None:
    if gap := (4 - len(out)) % size:  # counted from the end of the encapsulation
        out += bytes(gap)


def _write_message(out: bytearray, message: Message) -> None:
    if not message.FIELDS:
        out.append(0)
    for name, kind in message.FIELDS.items():
        _write_field(out, kind, getattr(message, name))


def _write_field(out: bytearray, kind: FieldType, value: Any) -> None:
    if kind.kind == "one":
        _write_one(out, kind, value)
        return
    if kind.kind == "sequence":
        _align(out, 4)
        out += struct.pack("<I", len(value))
    if kind.base in NUMBERS:
        if len(value):
            _align(out, DTYPES[kind.base].itemsize)
            if isinstance(value, array.array) and sys.byteorder == "little":
                out += memoryview(value).cast("B")
            else:
                out += np.asarray(value, dtype=DTYPES[kind.base].newbyteorder("<")).tobytes()
        return
    for item in value:
        _write_one(out, kind, item)


def _write_one(out: bytearray, kind: FieldType, value: Any) -> None:
    if kind.nested is not None:
        _write_message(out, value)
    elif kind.base == "string":
        text = value.encode("utf-8", "surrogateescape") + b"\0"
        _align(out, 4)
        out += struct.pack("<I", len(text)) + text
    elif kind.base == "bool":
        out.append(1 if value else 0)
    elif kind.base == "byte":
        out += value
    else:
        packer = _STRUCT[kind.base]
        _align(out, packer.size)
        out += packer.pack(value)


@functools.cache
def _least(cls: type[Message]) -> int:
    """Bytes that a message of this class has at least."""
    return max(1, sum(_least_field(kind) for kind in cls.FIELDS.values()))


def _least_field(kind: FieldType) -> int:
    return 4 if kind.kind == "sequence" else _least_one(kind) * (kind.size if kind.kind == "array" else 1)


def _least_one(kind: FieldType) -> int:
    if kind.nested is not None:
        return _least(kind.nested)
    return DTYPES[kind.base].itemsize if kind.base in NUMBERS else 4 if kind.base == "string" else 1


class _Reader:
    """A position in the bytes, and how many more objects may be made of them."""

    def __init__(self, view: memoryview, order: str, objects: int) -> None:
        self.view, self.order, self.at, self.left = view, order, 0, objects

    def message(self, cls: type[Message]) -> Message:
        message = cls.__new__(cls)
        if not cls.FIELDS:
            self._skip(1)
        for name, kind in cls.FIELDS.items():
            object.__setattr__(message, f"_{name}", self._field(kind))
        return message

    def _skip(self, count: int) -> int:
        """Go ``count`` bytes on; returns where they begin."""
        start = self.at
        if start + count > len(self.view):
            raise ValueError(f"cut short: {count} bytes wanted, {max(0, len(self.view) - start)} left")
        self.at = start + count
        return start

    def _length(self) -> int:
        self.at += -self.at % 4
        (length,) = struct.unpack_from(self.order + "I", self.view, self.at)
        self.at += 4
        return length

    def _field(self, kind: FieldType) -> Any:
        if kind.kind == "one":
            return self._one(kind)
        count = self._length() if kind.kind == "sequence" else kind.size
        if kind.base in NUMBERS:
            return self._numbers(kind, count)
        if count * _least_one(kind) > len(self.view) - self.at:
            raise ValueError(f"a sequence of {count} elements in {max(0, len(self.view) - self.at)} bytes")
        self.left -= count
        if self.left < 0:
            raise ValueError("more strings and nested messages than are accepted in one message")
        return [self._one(kind) for _ in range(count)]

    def _numbers(self, kind: FieldType, count: int) -> Any:
        dtype = DTYPES[kind.base]
        if count:
            self.at += -self.at % dtype.itemsize
        start = self._skip(count * dtype.itemsize)
        part = self.view[start : self.at]
        values = np.frombuffer(part, dtype=dtype.newbyteorder(self.order)).astype(dtype)
        if kind.kind == "array":
            return values
        numbers = array.array(NUMBERS[kind.base])
        numbers.frombytes(values.tobytes() if self.order != "<" else part)
        return numbers

    def _one(self, kind: FieldType) -> Any:
        if kind.nested is not None:
            return self.message(kind.nested)
        if kind.base == "string":
            length = self._length()
            if length > MAX_STRING:
                raise ValueError(f"a string of {length} bytes, at most {MAX_STRING} are accepted")
            start = self._skip(length)
            return bytes(self.view[start : start + max(length - 1, 0)]).decode("utf-8", "surrogateescape")
        if kind.base == "bool":
            return self.view[self._skip(1)] != 0
        if kind.base == "byte":
            start = self._skip(1)
            return bytes(self.view[start : start + 1])
        size = DTYPES[kind.base].itemsize
        self.at += -self.at % size
        start = self._skip(size)
        return struct.unpack_from(self.order + NUMBERS[kind.base], self.view, start)[0]
