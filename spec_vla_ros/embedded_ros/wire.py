"""One DDS participant per context, and ROS topics on it as raw CDR.

cyclonedds-python packs every byte of a sequence by itself, far too slow for images. The generated types therefore
carry the finished CDR bytes through the (undocumented, pinned and tested) serialize/deserialize hooks, while their
field lists stay true, because Cyclone announces them as type information.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import threading
import weakref
from collections.abc import Callable
from typing import Any
from xml.sax.saxutils import escape

from cyclonedds.core import DDSException, Policy, Qos
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.idl import IdlStruct, make_idl_struct
from cyclonedds.idl import types as idl
from cyclonedds.pub import DataWriter, Publisher
from cyclonedds.sub import DataReader, Subscriber
from cyclonedds.topic import Topic

from . import bounds, surroundings
from .messages import FieldType, Message
from .qos import QoSProfile, ReliabilityPolicy
from .types import registry

# As in rmw: with any other participant index the ports are arbitrary, and a peer that lists this host cannot find it.
_DISCOVERY = (
    "<Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>32</MaxAutoParticipantIndex>"
    "{peers}</Discovery>"
)
# rmw's own localhost settings name no interface; Cyclone 11 then may pick another one and ignore what arrives on lo.
_LOCALHOST = (
    "<General><Interfaces><NetworkInterface name='lo' multicast='false'/></Interfaces>"
    "<AllowMulticast>false</AllowMulticast><MaxMessageSize>65500B</MaxMessageSize></General>"
)
# Peers on other hosts cannot be reached through lo, and Cyclone would announce itself on every interface it is given.
_LOCALHOST_AND_PEERS = "<General><AllowMulticast>false</AllowMulticast></General>"
# Who names peers may have no multicast. Cyclone would send to two processes of a host (the node and its safety process)
# by multicast all the same, endpoints first, and they would never find each other.
_PEERS_BESIDE_MULTICAST = "<General><AllowMulticast>spdp</AllowMulticast></General>"
_OFF = (
    "<General><AllowMulticast>false</AllowMulticast></General><Discovery><ParticipantIndex>none</ParticipantIndex>"
    "<Tag>spec_vla_ros_off_{pid}</Tag></Discovery>"
)
# At most what net.core.rmem_max allows. A burst of one large image overflows Cyclone's own 1 MiB.
_RECEIVE = "<Internal><SocketReceiveBufferSize max='16MB'/></Internal>"
_QUOTE = {"'": "&apos;"}
MANY = 100  # times that a list of peers is asked for while it grows
_domains: dict[int, Domain] = {}
_raw_types: dict[str, type[IdlStruct]] = {}
_participants: weakref.WeakSet[DomainParticipant] = weakref.WeakSet()
_lock = threading.RLock()


@atexit.register
def _leave() -> None:
    """Say goodbye at the end of the process; the others would count its endpoints for another ten seconds."""
    for participant in list(_participants):
        participant.__del__()  # the binding's only way to delete; a second time it does nothing


def discovery_xml(environment: dict[str, str]) -> str:
    """Cyclone settings for the ROS discovery variables; the user's ``CYCLONEDDS_URI`` comes last and wins."""
    scope = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").upper()
    if not scope:
        scope = "LOCALHOST" if environment.get("ROS_LOCALHOST_ONLY") == "1" else "SUBNET"
    peers = surroundings.peers_of(environment)
    if scope == "OFF":
        body = _OFF.format(pid=os.getpid())
    elif scope == "SYSTEM_DEFAULT":  # hands off, peers included
        body = ""
    elif scope == "SUBNET":
        body = (_PEERS_BESIDE_MULTICAST if peers else "") + _DISCOVERY.format(peers=_peers(peers))
    else:  # LOCALHOST, and what ROS 2 makes of an unknown value
        body = _LOCALHOST_AND_PEERS if peers else _LOCALHOST
        body += _DISCOVERY.format(peers=_peers(["127.0.0.1", *peers]))
    uri = environment.get("CYCLONEDDS_URI", "")
    if "<NetworkInterface" in surroundings.settings_text(uri):
        # Cyclone adds the lists of both up, and refuses an interface that is named twice.
        body = re.sub("<Interfaces>.*</Interfaces>", "", body)
    parts = [f"<CycloneDDS><Domain Id='any'>{body}{_RECEIVE}</Domain></CycloneDDS>"] if body else []
    return ",".join([*parts, *filter(None, [uri])])


def _peers(addresses: list[str]) -> str:
    listed = "".join(f"<Peer address='{escape(address, _QUOTE)}'/>" for address in addresses)
    return f"<Peers>{listed}</Peers>" if listed else ""


def dds_type_name(full_name: str) -> str:
    """DDS spelling of "pkg/msg/Name": "pkg::msg::dds_::Name_"."""
    package, group, name = full_name.split("/")
    return f"{package}::{group}::dds_::{name}_"


def _idl_type(kind: FieldType) -> Any:
    if kind.nested is not None:
        inner: Any = raw_type(kind.nested)
    elif kind.base == "string":
        inner = idl.bounded_str[kind.text_bound] if kind.text_bound else str
    else:
        inner = {"bool": bool, "char": idl.uint8}.get(kind.base) or getattr(idl, kind.base)
    if kind.kind == "array":
        return idl.array[inner, kind.size]
    if kind.kind == "sequence":
        return idl.sequence[inner, kind.size] if kind.size else idl.sequence[inner]
    return inner


def raw_type(cls: type[Message], service: bool = False) -> type[IdlStruct]:
    """The DDS type of a message class; samples hold ``cdr`` (bytes with encapsulation).

    ``service``: the type as it travels for services, with the request's identity in front.
    """
    name = cls.FULL_NAME
    with _lock:
        if name not in _raw_types:
            fields = {field: _idl_type(kind) for field, kind in cls.FIELDS.items()}
            fields = fields or {"structure_needs_at_least_one_member": idl.uint8}
            if service:
                fields = {"guid": idl.uint64, "seq": idl.int64} | fields
            raw = make_idl_struct(name.replace("/", "_"), dds_type_name(name), fields, dataclassify=False)
            raw.__init__ = _store  # type: ignore[method-assign]
            raw.serialize = lambda self, *args, **kwargs: self.cdr  # type: ignore[method-assign]
            raw.deserialize = classmethod(lambda c, data, *args, **kwargs: c(bytes(data)))  # type: ignore[method-assign]
            # Called for samples without data, when a peer's writer goes away.
            raw.deserialize_key = classmethod(lambda c, data, *args, **kwargs: c(bytes(data)))  # type: ignore[method-assign]
            _raw_types[name] = raw
        return _raw_types[name]


def _store(self: Any, cdr: bytes = b"") -> None:
    self.cdr = cdr


def user_data(**entries: str) -> str:
    """Discovery's "key=value;" list."""
    return "".join(f"{key}={value.replace(';', ';;')};" for key, value in entries.items())


def parse_user_data(data: bytes) -> dict[str, str]:
    """The reverse of :func:`user_data`; anything that is not of that form is skipped."""
    text = data.decode("utf-8", "replace").replace(";;", "\0")
    pairs = (part.split("=", 1) for part in text.split(";") if "=" in part)
    return {key: value.replace("\0", ";") for key, value in pairs}


class _Utf8(str):
    """The binding encodes settings in ASCII, although Cyclone reads UTF-8; a path may have any letters."""

    def encode(self, *_: str) -> bytes:
        """In UTF-8, whatever is asked for; what was no UTF-8 in the environment is again what it was."""
        return str.encode(self, "utf-8", "surrogateescape")


def make_domain(domain_id: int, xml: str) -> Domain:
    """The domain with these settings. Raises ``DDSException``, or ends the process."""
    return Domain(domain_id, _Utf8(xml))


class Wire:
    """Participant, publisher and subscriber of one context."""

    def __init__(self, domain_id: int) -> None:
        with _lock:
            if domain_id not in _domains:
                # A Domain object configures the whole process and can be made only once per id.
                environment = dict(os.environ)
                surroundings.check(environment)
                xml = discovery_xml(environment)
                if surroundings.may_abort(environment):
                    surroundings.rehearse(domain_id, xml)
                _domains[domain_id] = surroundings.attempt(lambda: make_domain(domain_id, xml), (DDSException,))
        self.domain_id = domain_id
        qos = Qos(Policy.Userdata(user_data(enclave="/").encode()))
        self.participant = surroundings.attempt(lambda: DomainParticipant(domain_id, qos=qos), (DDSException,))
        self._publisher, self._subscriber = Publisher(self.participant), Subscriber(self.participant)
        self._topics: dict[str, Topic] = {}
        _participants.add(self.participant)

    def _topic(self, name: str, raw: type[IdlStruct]) -> Topic:
        with _lock:
            if name not in self._topics:
                qos = Qos(Policy.DataRepresentation(use_cdrv0_representation=True, use_xcdrv2_representation=False))
                self._topics[name] = Topic(self.participant, name, raw, qos=qos)
            topic = self._topics[name]
        if topic.data_type is not raw:
            raise ValueError(f"topic {name} already has type {topic.data_type.__idl_typename__} in this process")
        return topic

    def writer(
        self, name: str, cls: type[Message], qos: QoSProfile, *, service: bool = False, **announce: str
    ) -> DataWriter:
        """A writer on the DDS topic ``name``; ``announce`` goes to discovery beside the type hash.

        A writer of a service raises where it would have to wait for a reader that does not confirm what it has got, and
        keeps few samples for such a reader.
        """
        raw = raw_type(cls, service)
        data = user_data(**announce, typehash=registry().type_hash(cls.FULL_NAME))
        policies = qos.to_dds(data, writer=True)
        if service and qos.reliability != ReliabilityPolicy.BEST_EFFORT:
            depth = Policy.History.KeepLast(min(max(1, qos.depth), bounds.MAX_KEPT))
            policies = Qos(Policy.Reliability.Reliable(0), depth, base=policies)
        return DataWriter(self._publisher, self._topic(name, raw), qos=policies)

    def reader(
        self, name: str, cls: type[Message], qos: QoSProfile, *, service: bool = False, **announce: str
    ) -> DataReader:
        """A reader on the DDS topic ``name``."""
        raw = raw_type(cls, service)
        data = user_data(**announce, typehash=registry().type_hash(cls.FULL_NAME))
        return DataReader(self._subscriber, self._topic(name, raw), qos=qos.to_dds(data, writer=False))

    def graph_reader(self, name: str, cls: type[Message], qos: QoSProfile) -> DataReader:
        """A reader that does not hear this participant."""
        policies = qos.to_dds(user_data(typehash=registry().type_hash(cls.FULL_NAME)), writer=False)
        # Without a limit of samples: a reader that is full has everybody wait who announces anything.
        own = Qos(Policy.IgnoreLocal.Participant, base=policies)
        return DataReader(self._subscriber, self._topic(name, raw_type(cls)), qos=own)


def write_cdr(writer: DataWriter, cdr: bytes) -> None:
    """Send finished CDR bytes."""
    writer.write(writer.topic.data_type(cdr))


def matched(ask: Callable[[], list[int]]) -> list[int]:
    """Handles of the peers that ``ask`` (a method of a reader or writer) lists.

    cyclonedds counts them first and lists them afterwards; one that is discovered in between is an IndexError.
    """
    for _ in range(MANY):
        with contextlib.suppress(IndexError):
            return ask()
    return []


def take_cdr(reader: DataReader) -> tuple[bytes, Any] | None:
    """The next sample with data as (bytes, sample info), or None."""
    while samples := reader.take(1):
        if samples[0].sample_info.valid_data:
            return samples[0].cdr, samples[0].sample_info
    return None


def gid(entity: Any) -> bytes:
    """The 16 bytes that identify an endpoint or participant."""
    return entity.guid.bytes
