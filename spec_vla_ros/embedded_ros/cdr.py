"""XCDR1, the bytes of ROS 2 messages: one writer and one reader per message type, put together once.

Written here, and not taken from rosbags, because its functions want numpy arrays where rosidl's classes hold
``array.array`` and lists, and the conversions would cost more than the bytes.
"""

from __future__ import annotations

import array
import functools
import struct
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from . import types

HEADER = 4
#: The encapsulation for this machine's byte order: the second byte is 1 for little endian.
ENCAPSULATION = b"\x00\x01\x00\x00" if sys.byteorder == "little" else b"\x00\x00\x00\x00"

Write = Callable[[bytearray, Any], None]
Read = Callable[[memoryview, int, str], tuple[Any, int]]


def _pad(out: bytearray, size: int) -> None:
    """Align to ``size``, counted from the end of the encapsulation."""
    out += bytes((HEADER - len(out)) % size)


def _write_string(out: bytearray, value: str) -> None:
    data = value.encode()
    _pad(out, 4)
    out += struct.pack("=I", len(data) + 1)
    out += data
    out.append(0)


def _read_count(data: memoryview, at: int, order: str) -> tuple[int, int]:
    at += -at % 4
    return struct.unpack_from(order + "I", data, at)[0], at + 4


def _read_string(data: memoryview, at: int, order: str) -> tuple[str, int]:
    count, at = _read_count(data, at, order)
    if at + count > len(data):
        raise ValueError("a string is longer than the message")
    return str(data[at : at + max(count - 1, 0)], "utf-8"), at + count


def _scalar(base: str) -> tuple[Write, Read]:
    if base == "string":
        return _write_string, _read_string
    if base == "byte":
        return (lambda out, value: out.extend(value)), (lambda data, at, order: (bytes(data[at : at + 1]), at + 1))
    code = "?" if base == "bool" else types.CODES[base]
    size = struct.calcsize("=" + code)
    pack = struct.Struct("=" + code).pack
    unpack = {order: struct.Struct(order + code).unpack_from for order in "<>"}

    def write(out: bytearray, value: Any) -> None:
        if size > 1:
            _pad(out, size)
        out += pack(value)

    def read(data: memoryview, at: int, order: str) -> tuple[Any, int]:
        at += -at % size
        return unpack[order](data, at)[0], at + size

    return write, read


def _numbers(field: types.Field) -> tuple[Write, Read]:
    """Arrays and sequences of numbers go as one block of memory."""
    code = types.CODES[field.base]
    size = struct.calcsize("=" + code)
    fixed = field.kind == "array"

    def write(out: bytearray, value: Any) -> None:
        if not fixed:
            _pad(out, 4)
            out += struct.pack("=I", len(value))
        if len(value):
            _pad(out, size)
            out += memoryview(value).cast("B") if isinstance(value, array.array) else value.tobytes()

    def read(data: memoryview, at: int, order: str) -> tuple[Any, int]:
        count = field.size
        if not fixed:
            count, at = _read_count(data, at, order)
        if count:
            at += -at % size
        end = at + count * size
        if end > len(data):
            raise ValueError(f"'{field.name}' is longer than the message")
        if fixed:
            found = np.frombuffer(data, dtype=order + code, count=count, offset=at).astype(code)
        else:
            found = array.array(code)
            found.frombytes(data[at:end])
            if (order == "<") != (sys.byteorder == "little"):
                found.byteswap()
        return found, end

    return write, read


def _plan(field: types.Field) -> tuple[Write, Read]:
    if field.kind != "one" and field.base in types.CODES:
        return _numbers(field)
    write_one, read_one = _struct(field.base) if field.nested else _scalar(field.base)
    if field.kind == "one":
        return write_one, read_one
    fixed = field.kind == "array"

    def write(out: bytearray, value: Any) -> None:
        if not fixed:
            _pad(out, 4)
            out += struct.pack("=I", len(value))
        for item in value:
            write_one(out, item)

    def read(data: memoryview, at: int, order: str) -> tuple[Any, int]:
        count = field.size
        if not fixed:
            count, at = _read_count(data, at, order)
            if count > len(data):  # each element takes a byte at least: refuse before making a huge list
                raise ValueError(f"'{field.name}' is longer than the message")
        found = []
        for _ in range(count):
            item, at = read_one(data, at, order)
            found.append(item)
        return found, at

    return write, read


@functools.cache
def _struct(name: str) -> tuple[Write, Read]:
    cls = types.message_class(name)
    fields = types.raw_fields(name)
    if fields[0].name == types.PLACEHOLDER:
        return (lambda out, value: out.append(0)), (lambda data, at, order: (cls(), at + 1))
    plan = [(f"_{field.name}", *_plan(field)) for field in fields]
    writers = [(slot, write) for slot, write, _ in plan]
    readers = [(slot, read) for slot, _, read in plan]
    put = object.__setattr__

    def write(out: bytearray, value: Any) -> None:
        for slot, write_field in writers:
            write_field(out, getattr(value, slot))

    def read(data: memoryview, at: int, order: str) -> tuple[Any, int]:
        made = cls.__new__(cls)  # the setters are for programs; what arrives has its type by construction
        for slot, read_field in readers:
            value, at = read_field(data, at, order)
            put(made, slot, value)
        return made, at

    return write, read


def serialize(message: types.Message, prefix: bytes = b"") -> bytes:
    """Return the CDR of a message; ``prefix`` (16 bytes of a service header) goes between encapsulation and fields."""
    out = bytearray(ENCAPSULATION)
    _struct(message._type_name)[0](out, message)
    if prefix:
        out[HEADER:HEADER] = prefix
    return bytes(out)


def deserialize(data: bytes, name: str) -> Any:
    """Return the message of type ``pkg/msg/Name`` from CDR in either byte order."""
    if len(data) < HEADER or data[0] != 0 or data[1] not in (0, 1):
        raise ValueError("not XCDR1: the encapsulation is missing or another one")
    try:
        return _struct(name)[1](memoryview(data)[HEADER:], 0, "<" if data[1] else ">")[0]
    except (struct.error, IndexError) as error:
        raise ValueError(f"{name}: the message is shorter than its type ({error})") from error
