"""XCDR1 encoding of message objects (little endian out, both byte orders in)."""

from __future__ import annotations

import array
import struct
import sys
from typing import Any

import numpy as np

from .messages import DTYPES, NUMBERS, FieldType, Message

ENCAPSULATION = b"\x00\x01\x00\x00"
_STRUCT = {name: struct.Struct("<" + code) for name, code in NUMBERS.items()}


def serialize(message: Message) -> bytes:
    """CDR bytes with the four bytes of encapsulation."""
    out = bytearray(ENCAPSULATION)
    _write_message(out, message)
    return bytes(out)


def deserialize(data: bytes | memoryview, cls: type[Message]) -> Message:
    """A message from CDR bytes with encapsulation. ValueError if they are cut short or of another encoding."""
    view = memoryview(data)
    if len(view) < 4 or view[0] != 0 or view[1] not in (0, 1):
        raise ValueError(f"not XCDR1: encapsulation {bytes(view[:4]).hex()}")
    try:
        message, _ = _read_message(view[4:], 0, cls, "<" if view[1] == 1 else ">")
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"{cls.FULL_NAME}: {error}") from error
    return message


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


def _read_message(view: memoryview, at: int, cls: type[Message], order: str) -> tuple[Message, int]:
    message = cls.__new__(cls)
    if not cls.FIELDS:
        at += 1
    for name, kind in cls.FIELDS.items():
        value, at = _read_field(view, at, kind, order)
        object.__setattr__(message, f"_{name}", value)
    return message, at


def _read_field(view: memoryview, at: int, kind: FieldType, order: str) -> tuple[Any, int]:
    if kind.kind == "one":
        return _read_one(view, at, kind, order)
    count = kind.size
    if kind.kind == "sequence":
        at += -at % 4
        (count,) = struct.unpack_from(order + "I", view, at)
        at += 4
    if kind.base in NUMBERS:
        return _read_numbers(view, at, kind, count, order)
    if count > len(view):
        raise ValueError(f"a sequence of {count} elements in {len(view)} bytes")
    items = []
    for _ in range(count):
        item, at = _read_one(view, at, kind, order)
        items.append(item)
    return items, at


def _read_numbers(view: memoryview, at: int, kind: FieldType, count: int, order: str) -> tuple[Any, int]:
    dtype = DTYPES[kind.base]
    if count:
        at += -at % dtype.itemsize
    end = at + count * dtype.itemsize
    if end > len(view):
        raise ValueError(f"a sequence of {count} elements in {len(view)} bytes")
    values = np.frombuffer(view[at:end], dtype=dtype.newbyteorder(order)).astype(dtype)
    if kind.kind == "array":
        return values, end
    numbers = array.array(NUMBERS[kind.base])
    numbers.frombytes(values.tobytes() if order != "<" else view[at:end])
    return numbers, end


def _read_one(view: memoryview, at: int, kind: FieldType, order: str) -> tuple[Any, int]:
    if kind.nested is not None:
        return _read_message(view, at, kind.nested, order)
    if kind.base == "string":
        at += -at % 4
        (length,) = struct.unpack_from(order + "I", view, at)
        at += 4
        if at + length > len(view):
            raise ValueError(f"a string of {length} bytes in {len(view)} bytes")
        return bytes(view[at : at + max(length - 1, 0)]).decode("utf-8", "surrogateescape"), at + length
    if kind.base == "bool":
        return view[at] != 0, at + 1
    if kind.base == "byte":
        return bytes(view[at : at + 1]), at + 1
    size = DTYPES[kind.base].itemsize
    at += -at % size
    (value,) = struct.unpack_from(order + NUMBERS[kind.base], view, at)
    return value, at + size
