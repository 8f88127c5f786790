"""The node graph: which nodes exist and which endpoints are theirs (``ros_discovery_info``).

Anybody in the domain writes into it. So names are made fit for a log, what a participant says about itself has a size,
and it is worked through once when it arrives, not whenever somebody asks: the act node asks several times a second.
"""

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
from cyclonedds.core import InstanceState, Policy

from spec_vla_ros.foreign_text import sentence

from . import bounds, cdr
from .qos import graph_reader_profile, graph_writer_profile
from .types import registry
from .wire import gid, parse_user_data, take_cdr, write_cdr

if TYPE_CHECKING:
    from .wire import Wire

TOPIC = "ros_discovery_info"
_MANY = 4096
_AT_ONCE = 100  # announcements that one look takes in, some 10 ms
_LOOKS = 10  # looks that an answer is worth
_OBJECTS = 50_000  # nodes and endpoints of one participant; a container of 500 nodes has some 15 000
_LONGEST_NAME = 255  # characters, as rmw allows


class Endpoint(NamedTuple):
    """One reader or writer of the domain."""

    topic: str  # DDS name
    type_name: str
    gid: bytes
    participant: bytes
    user_data: dict[str, str]
    qos: Any


class Announced(NamedTuple):
    """One node as its participant announced it."""

    name: str
    namespace: str
    endpoints: frozenset[bytes]


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
        self._others: dict[bytes, list[Announced]] = {}  # by participant
        self._owners: dict[bytes, tuple[str, str]] | None = None  # (name, namespace) by endpoint; None = to be made

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
        self._owners = None
        info = self._info(gid=self._as_gid(gid(self._participant)), node_entities_info_seq=nodes)
        write_cdr(self._writer, cdr.serialize(info))

    def _as_gid(self, data: bytes) -> Any:
        return self._gid(data=np.frombuffer(data, dtype=np.uint8).copy())

    # Asking

    def nodes(self) -> list[tuple[str, str]]:
        """(name, namespace) of every node of the domain."""
        with self._lock:
            self._catch_up()
            mine = [(name, namespace) for namespace, name in self._mine]
            return mine + [(node.name, node.namespace) for nodes in self._others.values() for node in nodes]

    def endpoints(self, publications: bool) -> list[Endpoint]:
        """All writers (or readers) of the domain that are alive."""
        return self._alive(BuiltinTopicDcpsPublication if publications else BuiltinTopicDcpsSubscription)

    def owner(self, endpoint: bytes) -> tuple[str, str] | None:
        """(name, namespace) of the node that an endpoint belongs to."""
        with self._lock:
            self._catch_up()
            if self._owners is None:
                self._owners = {gid: (node.name, node.namespace) for nodes in self._others.values() for node in nodes
                                for gid in node.endpoints}  # fmt: skip
                for (namespace, name), sides in self._mine.items():
                    self._owners |= dict.fromkeys((g for side in sides for g in side), (name, namespace))
            return self._owners.get(endpoint)

    def listen(self) -> bool:
        """Take in what others have announced; whether there may be more of it.

        Now and then, or it piles up: the reader keeps everybody's last word, and with it all earlier ones.
        """
        with self._lock:
            more = True
            for _ in range(_AT_ONCE):
                if (taken := take_cdr(self._reader)) is None:
                    more = False
                    break
                if len(taken[0]) > bounds.MAX_GRAPH:
                    continue
                try:
                    info = cdr.deserialize(taken[0], self._info, _OBJECTS)
                except ValueError:
                    continue  # another distribution's layout
                self._others[info.gid.data.tobytes()] = [_announced(node) for node in info.node_entities_info_seq]
                self._owners = None
            present = {sample.key.bytes for sample in self._alive(BuiltinTopicDcpsParticipant)}
            if gone := self._others.keys() - present:
                for key in gone:
                    del self._others[key]
                self._owners = None
            return more

    def _catch_up(self) -> None:
        for _ in range(_LOOKS):  # whoever announces without end must not hold the one who asks
            if not self.listen():
                break

    def endpoints_of(self, name: str, namespace: str) -> set[bytes]:
        """Identifiers of the readers and writers of a node; of all that have this name."""
        with self._lock:
            self._catch_up()
            others = (node for nodes in self._others.values() for node in nodes)
            found = {
                gid for node in others if (node.name, node.namespace) == (name, namespace) for gid in node.endpoints
            }
            return found.union(*self._mine.get((namespace, name), ()))

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
                        known[sample.key.bytes] = sample if topic is BuiltinTopicDcpsParticipant else _endpoint(sample)
            return list(known.values())


def _announced(node: Any) -> Announced:
    gids = [g.data.tobytes() for g in (*node.reader_gid_seq, *node.writer_gid_seq)]
    names = (sentence(text, _LONGEST_NAME) for text in (node.node_name, node.node_namespace))
    return Announced(*names, frozenset(gids))


def _endpoint(sample: Any) -> Endpoint:
    keys = sample.key.bytes, sample.participant_key.bytes
    return Endpoint(sample.topic_name, sample.type_name, *keys, _user_data(sample.qos), sample.qos)


def _user_data(qos: Any) -> dict[str, str]:
    return parse_user_data(qos[Policy.Userdata].data) if Policy.Userdata in qos else {}
