"""The node graph with neighbours who write into it what they like."""

import uuid

import numpy as np
import pytest

from spec_vla_ros.embedded_ros import bounds, cdr
from spec_vla_ros.embedded_ros.qos import QoSProfile, graph_writer_profile
from spec_vla_ros.embedded_ros.types import registry
from spec_vla_ros.embedded_ros.wire import gid, write_cdr


class Neighbour:
    """A participant that announces nodes by hand."""

    def __init__(self):
        from rclpy.context import Context

        self.context = Context()
        self.context.init([])
        self.wire = self.context.wire
        self.info, self.node, self.gid = (
            registry().message(f"rmw_dds_common/msg/{name}")
            for name in ("ParticipantEntitiesInfo", "NodeEntitiesInfo", "Gid")
        )
        self.writer = self.wire.writer("ros_discovery_info", self.info, graph_writer_profile)

    def _gid(self, data):
        return self.gid(data=np.frombuffer(data, dtype=np.uint8).copy())

    def announce(self, *names, writers=(), namespace="/"):
        nodes = [self.node(node_name=name, node_namespace=namespace) for name in names]
        if nodes:
            nodes[-1].writer_gid_seq = [self._gid(data) for data in writers]
        write_cdr(self.writer, cdr.serialize(self.info(gid=self._gid(gid(self.wire.participant)),
                                                        node_entities_info_seq=nodes)))  # fmt: skip


@pytest.fixture
def neighbour(ros):
    one = Neighbour()
    yield one
    one.context.try_shutdown()


def test_names_of_others_are_fit_for_a_log(make_node, neighbour, spin_until):
    """They end up in the sentence that says who has left the arm's topic."""
    from std_msgs.msg import String

    node, topic = make_node(), f"/t_{uuid.uuid4().hex}"
    evil = "nobody\n[INFO] [1.0] [act]: all is well\x1b[2J"
    writer = neighbour.wire.writer(f"rt{topic}", String, QoSProfile(depth=1))
    neighbour.announce(evil, "y" * 256, writers=[gid(writer)], namespace="/a\rb")
    spin_until(lambda: any("nobody" in name for name in node.get_node_names()), node)
    spin_until(lambda: node.count_publishers(topic) == 1, node)
    (info,) = node.get_publishers_info_by_topic(topic)
    told = [*node.get_node_names(), info.node_name, info.node_namespace]
    assert all(text.isprintable() and len(text) < 300 for text in told)
    assert info.node_name.startswith("yyy")


def test_whose_an_endpoint_is_follows_what_is_announced(make_node, neighbour, spin_until):
    from std_msgs.msg import String

    node, topic = make_node(), f"/t_{uuid.uuid4().hex}"
    writer = neighbour.wire.writer(f"rt{topic}", String, QoSProfile(depth=1))
    spin_until(lambda: node.count_publishers(topic) == 1, node)

    def owner():
        return [info.node_name for info in node.get_publishers_info_by_topic(topic)]

    assert owner() == ["_NODE_NAME_UNKNOWN_"]
    for name in ("first", "second"):
        neighbour.announce(name, writers=[gid(writer)])
        spin_until(lambda name=name: owner() == [name], node)
    mine = node.create_publisher(String, topic, 1)
    spin_until(lambda: sorted(owner()) == [node.get_name(), "second"], node)
    node.destroy_publisher(mine)
    spin_until(lambda: owner() == ["second"], node)
    neighbour.announce()
    spin_until(lambda: owner() == ["_NODE_NAME_UNKNOWN_"], node)


def test_announcements_do_not_pile_up_while_nobody_asks(make_node, neighbour, executor, spin_until):
    """The reader keeps them all, for everybody's last word counts; so it has to be emptied."""
    node = make_node()
    graph = node.context.graph
    for number in range(500):
        neighbour.announce(f"many_{number}")
    executor.add_node(node)
    spin_until(lambda: any(n.name == "many_499" for nodes in graph._others.values() for n in nodes))
    assert not graph._reader.read(10)


def test_nobody_waits_for_a_participant_that_does_not_take_announcements_in(neighbour):
    """A context that is not spun, or a stopped process, is in the domain like any other; with a full reader it would
    hold everybody who makes a publisher.
    """
    deaf = Neighbour()
    for number in range(6000):
        neighbour.announce(f"one_{number % 3}")
    deaf.context.try_shutdown()


def test_too_much_in_an_announcement_is_not_worked_through(make_node, neighbour, spin_until, monkeypatch):
    monkeypatch.setattr(bounds, "MAX_GRAPH", 10_000)
    node = make_node()
    neighbour.announce(*(f"flood_{number}" for number in range(1000)))
    neighbour.announce("after")
    spin_until(lambda: "after" in node.get_node_names(), node)
    neighbour.announce(*(f"flood_{number}" for number in range(1000)))
    mark = Neighbour()
    mark.announce("mark")
    spin_until(lambda: "mark" in node.get_node_names(), node)
    mark.context.try_shutdown()
    assert "after" in node.get_node_names()
    assert "flood_1" not in node.get_node_names()


def test_a_topic_whose_name_is_none_is_not_listed(make_node, neighbour, spin_until):
    from std_msgs.msg import String

    node, good = make_node(), f"/t_{uuid.uuid4().hex}"
    odd = neighbour.wire.writer(f"rt{good}-odd", String, QoSProfile(depth=1))
    even = neighbour.wire.writer(f"rt{good}", String, QoSProfile(depth=1))
    ids = {gid(odd), gid(even)}
    spin_until(lambda: ids <= {endpoint.gid for endpoint in node.context.graph.endpoints(True)}, node)
    listed = dict(node.get_topic_names_and_types())
    assert good in listed
    assert f"{good}-odd" not in listed
