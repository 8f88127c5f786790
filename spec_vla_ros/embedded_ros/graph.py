"""The node graph: which nodes exist and which endpoints are theirs (``ros_discovery_info``)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from cyclonedds.builtin import (
    BuiltinDataReader,
    BuiltinTopicDcpsParticipant,
    BuiltinTopicDcpsPublication,
    BuiltinTopicDcpsSubscription,
)
from cyclonedds.core import InstanceState

from . import cdr
from .qos import graph_reader_profile, graph_writer_profile
from .types import registry
from .wire import gid, parse_user_data, take_cdr, write_cdr

if TYPE_CHECKING:
    from .wire import Wire

TOPIC = "ros_discovery_info"
_MANY = 4096


class Endpoint(NamedTuple):
    """One reader or writer of the domain."""

    topic: str  # DDS name
    type_name: str
    gid: bytes
    participant: bytes
    user_data: dict[str, str]
    qos: Any


class Graph:
    """Announces this context's nodes and answers questions about everyone's."""

    def __init__(self, wire: Wire) -> None:
        self._info = registry().message("rmw_dds_common/msg/ParticipantEntitiesInfo")
        self._node = registry().message("rmw_dds_common/msg/NodeEntitiesInfo")
        self._gid = registry().message("rmw_dds_common/msg/Gid")
        self._participant = wire.participant
        self._writer = wire.writer(TOPIC, self._info, graph_writer_profile)
        self._reader = wire.graph_reader(TOPIC, self._info, graph_reader_profile)
        self._builtin = {
            topic: BuiltinDataReader(wire.participant, topic)
            for topic in (BuiltinTopicDcpsParticipant, BuiltinTopicDcpsPublication, BuiltinTopicDcpsSubscription)
        }
        self._known: dict[Any, dict[bytes, Any]] = {topic: {} for topic in self._builtin}  # by key
        self._lock = threading.RLock()
        self._mine: dict[tuple[str, str], tuple[list[bytes], list[bytes]]] = {}
        self._others: dict[bytes, Any] = {}

    # Announcing

    def add_node(self, namespace: str, name: str) -> None:
        """Announce a node; it has no endpoints yet."""
        with self._lock:
            self._mine[namespace, name] = ([], [])
            self._announce()

    def remove_node(self, namespace: str, name: str) -> None:
        """The node is gone."""
        with self._lock:
            self._mine.pop((namespace, name), None)
            self._announce()

    def add(self, node: tuple[str, str], readers: list[Any], writers: list[Any]) -> None:
        """Endpoints that now belong to ``node`` (namespace, name)."""
        with self._lock:
            if node in self._mine:
                self._mine[node][0].extend(gid(r) for r in readers)
                self._mine[node][1].extend(gid(w) for w in writers)
                self._announce()

    def remove(self, node: tuple[str, str], entities: list[Any]) -> None:
        """Endpoints that ``node`` has given up."""
        with self._lock:
            for known in self._mine.get(node, ()):
                gone = {gid(e) for e in entities}
                known[:] = [g for g in known if g not in gone]
            self._announce()

    def _announce(self) -> None:
        nodes = [
            self._node(
                node_namespace=namespace,
                node_name=name,
                reader_gid_seq=[self._as_gid(g) for g in readers],
                writer_gid_seq=[self._as_gid(g) for g in writers],
            )
            for (namespace, name), (readers, writers) in self._mine.items()
        ]
        info = self._info(gid=self._as_gid(gid(self._participant)), node_entities_info_seq=nodes)
        write_cdr(self._writer, cdr.serialize(info))

    def _as_gid(self, data: bytes) -> Any:
        return self._gid(data=np.frombuffer(data, dtype=np.uint8).copy())

    # Asking

    def nodes(self) -> list[tuple[str, str]]:
        """(name, namespace) of every node of the domain."""
        return [(name, namespace) for (namespace, name), _, _ in self._entities()]

    def endpoints(self, publications: bool) -> list[Endpoint]:
        """All writers (or readers) of the domain that are alive."""
        topic = BuiltinTopicDcpsPublication if publications else BuiltinTopicDcpsSubscription
        return [
            Endpoint(s.topic_name, s.type_name, s.key.bytes, s.participant_key.bytes, _user_data(s.qos), s.qos)
            for s in self._alive(topic)
        ]

    def owner(self, endpoint: bytes) -> tuple[str, str] | None:
        """(name, namespace) of the node that an endpoint belongs to."""
        for (namespace, name), readers, writers in self._entities():
            if endpoint in readers or endpoint in writers:
                return name, namespace
        return None

    def writers(self, name: str, namespace: str) -> set[bytes]:
        """Identifiers of the writers of a node."""
        return {gid for node, _, writers in self._entities() if node == (namespace, name) for gid in writers}

    def _alive(self, topic: Any) -> list[Any]:
        """What is alive, by the changes since the last time: cyclonedds never frees what reading a sample costs."""
        known = self._known[topic]
        with self._lock:
            while samples := self._builtin[topic].take(_MANY):
                for sample in samples:
                    info = sample.sample_info
                    if info.instance_state != InstanceState.Alive:
                        known.pop(sample.key.bytes, None)
                    elif info.valid_data:
                        known[sample.key.bytes] = sample
            return list(known.values())

    def _entities(self) -> list[tuple[tuple[str, str], set[bytes], set[bytes]]]:
        with self._lock:
            while (taken := take_cdr(self._reader)) is not None:
                try:
                    info = cdr.deserialize(taken[0], self._info)
                except ValueError:
                    continue  # another distribution's layout
                self._others[info.gid.data.tobytes()] = info
            present = {s.key.bytes for s in self._alive(BuiltinTopicDcpsParticipant)}
            self._others = {key: info for key, info in self._others.items() if key in present}
            found = [(node, set(readers), set(writers)) for node, (readers, writers) in self._mine.items()]
            for info in self._others.values():
                for node in info.node_entities_info_seq:
                    readers = {g.data.tobytes() for g in node.reader_gid_seq}
                    writers = {g.data.tobytes() for g in node.writer_gid_seq}
                    found.append(((node.node_namespace, node.node_name), readers, writers))
        return found


def _user_data(qos: Any) -> dict[str, str]:
    from cyclonedds.core import Policy

    return parse_user_data(qos[Policy.Userdata].data) if Policy.Userdata in qos else {}
