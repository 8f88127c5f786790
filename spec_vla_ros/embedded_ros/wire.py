"""Raw CDR through cyclonedds, names on the wire and DDS QoS.

cyclonedds-python packs sequences element by element, which cannot carry images. So each ROS type gets an ``IdlStruct``
that is described by the real fields (other DDS programs compare type information) but whose ``serialize`` and
``deserialize`` hand the bytes through. This hook is not documented by cyclonedds: the version is pinned, and a test
holds all three overrides, the one for a leaving writer included.
"""

from __future__ import annotations

import functools
from typing import Any

from cyclonedds.idl import IdlStruct, make_idl_struct
from cyclonedds.idl import types as idl

from . import types

SERVICE_HEADER = 16  # uint64 guid, int64 sequence number, after the encapsulation


class RawSample:
    """What the three overrides have in common: a sample is its bytes."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def serialize(self, *_args: Any, **_kwargs: Any) -> bytes:
        """Return the bytes as they are."""
        return self.data

    @classmethod
    def deserialize(cls, data: bytes, *_args: Any, **_kwargs: Any) -> Any:
        """Wrap what came in."""
        return cls(data)

    @classmethod
    def deserialize_key(cls, data: bytes, *_args: Any, **_kwargs: Any) -> Any:
        """Wrap a sample without data: its writer left. The inherited method would raise here."""
        return cls(data)


_IDL = {"bool": bool, "string": str}
_IDL.update({name: getattr(idl, name) for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")})
_IDL.update({name: getattr(idl, name) for name in ("uint64", "float32", "float64", "byte")})


def _idl_type(field: types.Field) -> Any:
    if field.nested:
        base = plain_struct(field.base)
    elif field.base == "string" and field.bound:
        base = idl.bounded_str[field.bound]
    else:
        base = _IDL[field.base]
    if field.kind == "array":
        return idl.array[base, field.size]
    if field.kind == "sequence":
        return idl.sequence[base, field.size] if field.size else idl.sequence[base]
    return base


def dds_type_name(name: str) -> str:
    """``pkg/msg/Name`` -> ``pkg.msg.dds_.Name_`` (cyclonedds turns the dots into ``::``)."""
    package, kind, short = name.split("/")
    return f"{package}.{kind}.dds_.{short}_"


def _make(name: str, *, service: bool) -> type[IdlStruct]:
    fields: dict[str, Any] = {"service_guid": idl.uint64, "service_sequence": idl.int64} if service else {}
    fields.update({field.name: _idl_type(field) for field in types.raw_fields(name)})
    return make_idl_struct(name.split("/")[-1] + "_", dds_type_name(name), fields, dataclassify=False)


@functools.cache
def plain_struct(name: str) -> type[IdlStruct]:
    """Return the struct that describes a message inside another."""
    return _make(name, service=False)


@functools.cache
def raw_struct(name: str, service: bool = False) -> type[IdlStruct]:
    """Return the struct of a topic: described like the message, carried as bytes."""
    made = _make(name, service=service)
    for method in ("__init__", "serialize", "deserialize", "deserialize_key"):
        setattr(made, method, RawSample.__dict__[method])
    return made


def topic_name(name: str) -> str:
    """``/ns/t`` -> the DDS topic."""
    return f"rt{name}"


def request_topic(name: str) -> str:
    """``/ns/s`` -> the DDS topic of the requests."""
    return f"rq{name}Request"


def reply_topic(name: str) -> str:
    """``/ns/s`` -> the DDS topic of the replies."""
    return f"rr{name}Reply"


def user_data(**pairs: str) -> bytes:
    """Return ``key=value;`` for each pair; a semicolon in a value is doubled."""
    return "".join(f"{key}={value.replace(';', ';;')};" for key, value in pairs.items() if value).encode()


def parse_user_data(data: bytes) -> dict[str, str]:
    """Read what :func:`user_data` writes; anything else gives what could be read."""
    found = {}
    for part in data.decode("utf-8", "replace").replace(";;", "\0").split(";"):
        key, equals, value = part.partition("=")
        if equals and key.isalnum() and value:
            found[key] = value.replace("\0", ";")
    return found


def short_type(dds_name: str) -> str:
    """``pkg::msg::dds_::Name_`` -> ``pkg/msg/Name``."""
    return dds_name.replace("::dds_::", "::").replace("::", "/").removesuffix("_")
