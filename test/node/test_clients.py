"""Whether the client of a goal is still there, with a graph and confirmations that are made by hand."""

from types import SimpleNamespace

import pytest

from spec_vla_ros.node.clients import DOUBT, MOST, SETTLING, SILENCE, Clients

SERVICE = "/act/execute/_action/send_goal"


class Graph:
    """What a node is asked; ``here``: names by identifier. Names that begin with "watcher" send no goals."""

    def __init__(self, **here):
        self.here = {}
        self.set(**here)

    def set(self, **here):
        self.here = {int(gid[1:]): name for gid, name in here.items()}

    def get_subscriptions_info_by_topic(self, topic):
        assert topic == "/feedback"
        return [
            SimpleNamespace(endpoint_gid=[gid] * 16, node_name=name, node_namespace="/")
            for gid, name in self.here.items()
        ]

    def get_client_names_and_types_by_node(self, name, namespace):
        if name == "unknown":
            raise RuntimeError("no such node")
        return [("/other", []), *([] if name.startswith("watcher") else [(SERVICE, [])])]


@pytest.fixture
def clients():
    made = Clients("/feedback", SERVICE)
    made.begin(100.0)
    return made


def test_a_client_that_stays_and_confirms_is_there(clients):
    graph = Graph(_1="mission")
    for tick in range(1000):
        assert clients.look(graph, 100.0 + 0.2 * tick, confirmed=tick % 7 != 0) == ""


def test_a_client_that_leaves_is_gone(clients):
    graph = Graph(_1="mission", _2="watcher")
    assert clients.look(graph, 100.2, True) == ""
    graph.set(_2="watcher")
    assert clients.look(graph, 100.4, True) == "mission has left"


def test_who_only_looks_on_may_leave(clients):
    graph = Graph(_1="mission", _2="watcher")
    assert clients.look(graph, 100.2, True) == ""
    graph.set(_1="mission")
    assert clients.look(graph, 100.4, True) == ""


def test_one_client_of_several_in_a_node_may_leave_and_one_of_another_node_may_not(clients):
    """Each node of a behaviour tree has a client of its own, all under one name."""
    graph = Graph(_1="tree", _2="tree", _3="other")
    assert clients.look(graph, 100.2, True) == ""
    graph.set(_1="tree", _3="other")
    assert clients.look(graph, 100.4, True) == ""
    graph.set(_1="tree")
    assert clients.look(graph, 100.6, True) == "other has left", "nobody knows whose the goal is"


def test_a_mission_layer_that_was_restarted_is_another_one(clients):
    graph = Graph(_1="mission")
    assert clients.look(graph, 100.2, True) == ""
    clients.look(graph, 100.1 + SETTLING, True)
    graph.set(_2="mission")
    assert clients.look(graph, 100.2 + SETTLING, True) == "mission has left"


def test_who_comes_later_has_not_sent_the_goal(clients):
    graph = Graph(_1="mission")
    clients.look(graph, 100.2, True)
    graph.set(_1="mission", _2="other")
    clients.look(graph, 100.1 + SETTLING, True)
    graph.set(_1="mission")
    assert clients.look(graph, 100.3 + SETTLING, True) == ""


def test_a_client_that_is_discovered_late_is_one(clients):
    graph = Graph(_1="unknown")
    assert clients.look(graph, 100.2, True) == ""
    graph.set(_1="mission")
    assert clients.look(graph, 99.9 + SETTLING, True) == ""
    graph.set()
    assert clients.look(graph, 100.4 + SETTLING, True) == "mission has left"


def test_a_goal_that_nobody_waits_for_ends(clients):
    graph = Graph(_1="watcher")
    assert clients.look(graph, 100.0 + SETTLING, True) == ""
    assert "nobody" in clients.look(graph, 100.1 + SETTLING, True)


def test_a_client_that_confirms_nothing_any_more_is_gone(clients):
    graph = Graph(_1="mission")
    assert clients.look(graph, 100.2, True) == ""
    assert clients.look(graph, 100.2 + SILENCE, False) == ""
    assert "not confirmed" in clients.look(graph, 100.3 + SILENCE, False)


def test_one_who_was_dead_before_the_goal_does_not_end_it(clients):
    """He keeps the feedback from being confirmed until the graph forgets him."""
    graph = Graph(_1="dead", _2="mission")
    for tick in range(1, 50):
        assert clients.look(graph, 100.0 + 0.2 * tick, False) == ""
    graph.set(_2="mission")
    assert clients.look(graph, 110.0, False) == ""
    assert clients.look(graph, 110.2, True) == ""
    assert clients.look(graph, 110.4 + DOUBT, False) == ""
    assert "not confirmed" in clients.look(graph, 110.3 + SILENCE, False), "from now on it is told"


def test_whether_one_was_dead_shows_soon():
    assert 0.2 < DOUBT < SILENCE < SETTLING


def test_one_who_leaves_beside_a_dead_one_is_gone(clients):
    graph = Graph(_1="dead", _2="mission")
    assert clients.look(graph, 100.2, False) == ""
    graph.set(_1="dead")
    assert clients.look(graph, 100.4, False) == ""
    assert clients.look(graph, 100.4 + DOUBT, False) == ""
    assert clients.look(graph, 100.5 + DOUBT, False) == "mission has left"


def test_the_last_one_who_leaves_is_gone_at_once(clients):
    graph = Graph(_1="mission")
    assert clients.look(graph, 100.2, False) == ""
    graph.set()
    assert clients.look(graph, 100.4, False) == "mission has left"


def test_a_flood_of_subscriptions_is_not_asked_about_all_at_once(clients):
    asked = []
    graph = Graph(**{f"_{number}": f"watcher{number}" for number in range(200)})
    real = graph.get_client_names_and_types_by_node
    graph.get_client_names_and_types_by_node = lambda *name: asked.append(name) or real(*name)
    clients.look(graph, 100.2, True)
    assert len(asked) == MOST


def test_a_command_line_whose_goal_was_preempted_may_leave(clients):
    """It sends one goal and ends with that, while the next one goes on."""
    graph = Graph(_1="_ros2cli_77", _2="mission")
    assert clients.look(graph, 100.2, True) == ""
    clients.begin(101.0)
    assert clients.look(graph, 101.2, True) == ""
    graph.set(_2="mission")
    assert clients.look(graph, 101.4, True) == ""
    graph.set()
    assert clients.look(graph, 101.6, True) == "mission has left"


def test_another_command_line_may_not(clients):
    graph = Graph(_1="_ros2cli_77")
    assert clients.look(graph, 100.2, True) == ""
    clients.begin(101.0)
    graph.set(_1="_ros2cli_77", _3="_ros2cli_78")
    assert clients.look(graph, 101.2, True) == ""
    graph.set(_1="_ros2cli_77")
    assert clients.look(graph, 101.4, True) == "_ros2cli_78 has left"
