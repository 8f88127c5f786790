"""Who listens, from look to look, with a graph that is made by hand."""

from types import SimpleNamespace

import pytest

from spec_vla_ros.node.audience import SETTLING, UNKNOWN, Audience, is_tool


class Graph:
    """What a node is asked; ``here``: names by identifier. ``publishing``: types by name."""

    def __init__(self, **publishing):
        self.here, self.publishing = {}, publishing

    def get_subscriptions_info_by_topic(self, topic):
        return [
            SimpleNamespace(endpoint_gid=[gid] * 16, node_name=name, node_namespace="/")
            for gid, name in self.here.items()
        ]

    def get_publisher_names_and_types_by_node(self, name, namespace):
        if name == UNKNOWN:
            raise RuntimeError("no such node")
        return [("/topic", self.publishing.get(name, []))]


@pytest.fixture
def graph():
    return Graph()


def seen(audience, graph, now, **here):
    graph.here = {int(gid[1:]): name for gid, name in here.items()}
    return audience.look(graph, now)


@pytest.mark.parametrize(
    ("name", "published", "tool"),
    [
        ("rosbag2_recorder", ["rosbag2_interfaces/msg/WriteSplitEvent"], True),
        ("_ros2cli_4711", [], True),
        ("_ros2cli_daemon_0_1a2b", [], True),
        ("rqt_gui_py_node_99", ["std_msgs/msg/String"], True),
        ("rviz2", [], True),
        ("rviz", [], True),
        ("foxglove_bridge", [], True),
        ("plotjuggler", [], True),
        ("rqt_arm_driver", [], False),
        ("rosbag2_of_the_arm", [], False),
        ("foxglove_bridge", ["sensor_msgs/msg/JointState"], False),
        ("servo_node", [], False),
        (UNKNOWN, [], False),
    ],
)
def test_who_is_an_arm_is_decided_by_whole_names_and_by_what_it_publishes(name, published, tool):
    assert is_tool(name, published) is tool


def test_an_arm_that_leaves_is_named_and_a_recorder_that_stays_does_not_hide_it(graph):
    audience = Audience("/t")
    assert seen(audience, graph, 0.0, g1="arm", g2="rosbag2_recorder") == ([], [])
    assert seen(audience, graph, 1.0, g2="rosbag2_recorder") == ([], ["arm"])
    assert seen(audience, graph, 2.0, g2="rosbag2_recorder") == ([], []), "told once"


def test_a_tool_that_comes_or_goes_is_nobodys_concern(graph):
    audience = Audience("/t")
    seen(audience, graph, 0.0, g1="arm")
    assert seen(audience, graph, 9.0, g1="arm", g2="rviz2") == ([], [])
    assert seen(audience, graph, 9.5, g1="arm") == ([], [])


def test_a_tool_that_loses_its_name_as_it_leaves_was_no_arm(graph):
    """The graph forgets the node first and the subscription later; that latched ARM_GONE where nothing was wrong."""
    audience = Audience("/t")
    seen(audience, graph, 0.0, g1="arm", g2="rosbag2_recorder")
    assert seen(audience, graph, 9.0, g1="arm", g2=UNKNOWN) == ([], [])
    assert seen(audience, graph, 9.2, g1="arm") == ([], [])
    seen(audience, graph, 9.4, g1="arm", g2=UNKNOWN)
    assert seen(audience, graph, 9.6, g1="arm") == ([], [UNKNOWN]), "its name was never known: it may have been an arm"


def test_another_arm_is_a_newcomer_however_late_its_name_becomes_known(graph):
    audience = Audience("/t")
    seen(audience, graph, 0.0, g1="arm")
    assert seen(audience, graph, 9.0, g1="arm", g2=UNKNOWN) == ([], [])
    assert seen(audience, graph, 9.2, g1="arm", g2="other") == (["other"], [])
    assert seen(audience, graph, 9.4, g1="arm", g2="other") == ([], [])


def test_a_tool_whose_name_is_late_is_a_tool(graph):
    audience = Audience("/t")
    seen(audience, graph, 0.0, g1="arm")
    seen(audience, graph, 9.0, g1="arm", g2=UNKNOWN)
    assert seen(audience, graph, 9.2, g1="arm", g2="rviz2") == ([], [])
    assert seen(audience, graph, 9.4, g1="arm") == ([], [])


def test_who_is_discovered_soon_after_the_first_arm_was_there_with_it(graph):
    """Fast DDS brought the second of two listeners half a second after the first."""
    audience = Audience("/t")
    seen(audience, graph, 0.0)
    seen(audience, graph, 5.0, g1="arm")
    assert seen(audience, graph, 5.0 + SETTLING, g1="arm", g2="logger") == ([], [])
    assert seen(audience, graph, 5.1 + SETTLING, g1="arm", g2="logger", g3="late") == (["late"], [])


def test_the_ghost_of_a_killed_driver_leaves_unnoticed_while_its_successor_is_there(graph):
    """The graph forgets a killed process after 10 to 20 s, long after the operator has armed the node again."""
    audience = Audience("/t")
    seen(audience, graph, 0.0, g1="arm", g2="arm")
    assert seen(audience, graph, 9.0, g2="arm") == ([], [])
    assert seen(audience, graph, 9.5) == ([], ["arm"])


def test_a_name_that_forges_a_line_of_the_log_does_not(graph):
    audience = Audience("/t")
    seen(audience, graph, 0.0, g1="arm\n[INFO] [1.0] [act]: all is well" + "x" * 1000)
    _, (left,) = seen(audience, graph, 1.0)
    assert left.startswith("arm")
    assert left.isprintable()
    assert len(left) < 100
