"""Parameters as real rclpy 7.1.3 was seen to treat them: in the process, by service, and by event."""

import pytest
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    ParameterEvent,
    SetParametersResult,
)
from rcl_interfaces.srv import GetParameters, GetParameterTypes, ListParameters
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterAlreadyDeclaredException,
    ParameterNotDeclaredException,
    ParameterUninitializedException,
)
from rclpy.parameter import Parameter

UNIT = ParameterDescriptor(floating_point_range=[FloatingPointRange(from_value=0.0, to_value=1.0)])
EVEN = ParameterDescriptor(integer_range=[IntegerRange(from_value=1, to_value=10, step=2)])


def test_declared_values_and_overrides(make_node):
    node = make_node(parameter_overrides=[Parameter("gain", Parameter.Type.DOUBLE, 2.5)])
    assert node.declare_parameter("gain", 1.0).value == 2.5
    assert node.get_parameter("gain").type_ == Parameter.Type.DOUBLE
    assert node.get_parameter("use_sim_time").value is False
    with pytest.raises(ParameterAlreadyDeclaredException):
        node.declare_parameter("gain", 1.0)
    with pytest.raises(ParameterNotDeclaredException):
        node.get_parameter("nothing")
    node.declare_parameter("typed", Parameter.Type.STRING)
    with pytest.raises(ParameterUninitializedException):
        node.get_parameter("typed")


def test_types_are_strict(make_node):
    node = make_node(parameter_overrides=[Parameter("ratio", Parameter.Type.INTEGER, 1)])
    with pytest.raises(InvalidParameterTypeException):
        node.declare_parameter("ratio", 1.0)
    node.declare_parameter("gain", 1.0)
    (result,) = node.set_parameters([Parameter("gain", Parameter.Type.INTEGER, 2)])
    assert not result.successful
    assert result.reason
    assert node.get_parameter("gain").value == 1.0
    node.declare_parameter("free", 1, ParameterDescriptor(dynamic_typing=True))
    assert node.set_parameters([Parameter("free", Parameter.Type.STRING, "x")])[0].successful


@pytest.mark.parametrize(
    ("descriptor", "good", "bad"),
    [(UNIT, [0.0, 0.5, 1.0, 1.0 + 1e-9], [-0.1, 1.1]), (EVEN, [1, 3, 9, 10], [0, 2, 8, 11])],
    ids=["double", "integer"],
)
def test_ranges(make_node, descriptor, good, bad):
    node = make_node()
    node.declare_parameter("x", good[0], descriptor)
    for value in good:
        assert node.set_parameters([Parameter("x", value=value)])[0].successful, value
    for value in bad:
        assert not node.set_parameters([Parameter("x", value=value)])[0].successful, value
    with pytest.raises(InvalidParameterValueException):
        node.declare_parameter("y", bad[0], descriptor)
    assert not node.has_parameter("y")


def test_read_only_and_undeclare(make_node):
    node = make_node()
    node.declare_parameter("fixed", 1, ParameterDescriptor(read_only=True))
    assert not node.set_parameters([Parameter("fixed", value=2)])[0].successful
    node.declare_parameter("gone", 1)
    node.undeclare_parameter("gone")
    assert not node.has_parameter("gone")
    with pytest.raises(ParameterNotDeclaredException):
        node.set_parameters([Parameter("gone", value=2)])


def test_callbacks_may_refuse_and_hear_what_was_set(make_node):
    node, after = make_node(), []
    node.declare_parameter("x", 1)
    node.declare_parameter("y", 1)

    def refuse_negative(parameters):
        return SetParametersResult(successful=all(p.value >= 0 for p in parameters), reason="negative")

    node.add_on_set_parameters_callback(refuse_negative)
    tell = getattr(node, "add_post_set_parameters_callback", None)  # not on Humble
    if tell:
        tell(lambda parameters: after.extend(p.name for p in parameters))
    results = node.set_parameters([Parameter("x", value=2), Parameter("y", value=-1)])
    assert [r.successful for r in results] == [True, False]
    assert results[1].reason == "negative"
    together = node.set_parameters_atomically([Parameter("x", value=3), Parameter("y", value=-1)])
    assert not together.successful
    assert (node.get_parameter("x").value, node.get_parameter("y").value) == (2, 1)
    assert after == (["x"] if tell else [])
    node.remove_on_set_parameters_callback(refuse_negative)
    assert node.set_parameters([Parameter("y", value=-1)])[0].successful


def test_the_services_of_a_node(make_node, spin_until):
    clients = pytest.importorskip("rclpy.parameter_client", reason="Humble has no parameter clients")
    node, asker = make_node("served", namespace="/p"), make_node()
    node.declare_parameter("gain", 0.5, UNIT)
    node.declare_parameter("group.a", [1, 2])
    node.declare_parameter("unset", Parameter.Type.STRING)
    client = clients.AsyncParameterClient(asker, "/p/served")
    assert client.wait_for_services(10)

    def ask(future):
        spin_until(future.done, node, asker)
        return future.result()

    assert ask(client.get_parameters(["gain"])).values[0].double_value == 0.5
    assert ask(client.get_parameters(["gain", "nothing"])).values == []  # one unknown name empties the answer
    assert ask(client.get_parameters(["gain", "unset"])).values == []
    assert list(ask(client.get_parameter_types(["gain", "unset", "group.a"])).types) == [3, 0, 7]
    described = ask(client.describe_parameters(["gain"])).descriptors[0]
    assert (described.name, described.type) == ("gain", 3)
    assert described.floating_point_range[0].to_value == 1.0
    listed = ask(client.list_parameters(["group"], 10)).result
    assert (listed.names, listed.prefixes) == (["group.a"], ["group"])
    results = ask(
        client.set_parameters([Parameter("gain", value=0.75), Parameter("gain", value=7.0), Parameter("no", value=1)])
    ).results
    assert [r.successful for r in results] == [True, False, False]
    assert all(r.reason for r in results[1:])
    assert node.get_parameter("gain").value == 0.75


def test_events_tell_of_every_change(make_node, spin_until, publishers_of):
    watcher, events = make_node(), []
    subscription = watcher.create_subscription(ParameterEvent, "/parameter_events", events.append, 100)
    node = make_node("changing", namespace="/p")
    spin_until(lambda: publishers_of(watcher, subscription) >= 2, watcher)

    def told(kind):
        names = [p.name for e in events if e.node == "/p/changing" for p in getattr(e, kind)]
        return "speed" in names

    node.declare_parameter("speed", 1.0)
    spin_until(lambda: told("new_parameters"))
    node.set_parameters([Parameter("speed", value=2.0)])
    spin_until(lambda: told("changed_parameters"))
    node.undeclare_parameter("speed")  # which tells nobody
    node.declare_parameter("speed", 1, ParameterDescriptor(dynamic_typing=True))
    assert node.set_parameters([Parameter("speed", Parameter.Type.NOT_SET, None)])[0].successful
    assert not node.has_parameter("speed")
    spin_until(lambda: told("deleted_parameters"))


def test_service_types_are_those_of_ros_2():
    assert GetParameters.Request.get_fields_and_field_types() == {"names": "sequence<string>"}
    assert GetParameterTypes.Response.get_fields_and_field_types() == {"types": "sequence<uint8>"}
    assert ListParameters.Request.DEPTH_RECURSIVE == 0
