"""Whatever is asked of the node, it answers shortly, says so in one short line, and goes on driving."""

import pytest


def lines(capfd):
    """Lines of the log so far."""
    return capfd.readouterr().err.splitlines()


@pytest.fixture(scope="module")
def driving(ros, forks):
    """One node for all tests of this file: none of them may leave a trace in it."""
    from rig import DRIVING, Rig

    one = Rig(None, DRIVING)
    yield one.activate()
    one.close()


@pytest.fixture
def ask(driving):
    """(rig, call): the driving node, and a function that asks one of its services."""
    one = driving
    one.until_moving()

    def call(kind, service, **fields):
        client = one.probe.create_client(kind, f"act/{service}")
        one.until(client.service_is_ready)
        future = client.call_async(kind.Request(**fields))
        one.until(future.done)
        return future.result()

    return one, call


def still_driving(one):
    from rig import six

    assert one.control().get("fault", "") == ""
    return any(six(message).any() for message in one.until_ticks(30))


def parameter(name, kind, **value):
    from rcl_interfaces.msg import Parameter, ParameterValue

    message = Parameter(name=name, value=ParameterValue(type=kind))
    for field, content in value.items():
        setattr(message.value, field, content)
    return message


def test_a_value_of_no_type_is_refused_and_no_fault(ask):
    """It ended in a latched fault and no answer: anybody on the network could stop the arm by a typing error."""
    from rcl_interfaces.srv import SetParameters

    one, call = ask
    (result,) = call(SetParameters, "set_parameters", parameters=[parameter("action_scale", 77)]).results
    assert not result.successful
    assert "77" in result.reason
    assert still_driving(one)


def test_a_refused_value_is_told_in_a_few_words(ask, capfd):
    from rcl_interfaces.srv import SetParameters

    one, call = ask
    lines(capfd)
    for message in (
        parameter("workspace_min", 8, double_array_value=[0.5] * 1000),
        parameter("workspace_min", 8, double_array_value=[0.5] * 5000),
        parameter("preset", 4, string_value="x" * 20_000),
        parameter("preset", 4, string_value="a\n[INFO] [1.0] [act]: all is well"),
        parameter("drafters", 9, string_array_value=["n\no" * 10] * 500),
        parameter("drafters", 9, string_array_value=["hold"] * 500),
        parameter("instruction", 4, string_value="x" * 20_000),
    ):
        (result,) = call(SetParameters, "set_parameters", parameters=[message]).results
        assert not result.successful
        assert 0 < len(result.reason) < 700
        assert result.reason.isprintable()
    told = lines(capfd)
    assert any("refused" in line for line in told)
    assert all(len(line) < 1000 and line.isprintable() for line in told)
    assert not any(line.startswith("[INFO] [1.0]") for line in told)
    assert still_driving(one)


def test_more_drafters_than_there_are_is_refused():
    """Each would be asked for every pass: a thousand times the same one makes an inference hang."""
    from spec_vla_ros.decoding.drafters import DRAFTERS
    from spec_vla_ros.node.parameters import refusal

    assert not refusal({"drafters": sorted(DRAFTERS)})
    assert str(len(DRAFTERS)) in refusal({"drafters": ["hold"] * (len(DRAFTERS) + 1)})


def test_thousands_of_names_cost_nothing(ask):
    from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters

    one, call = ask
    names = ["dry_run"] * 2000
    assert call(GetParameters, "get_parameters", names=names).values == []
    assert call(DescribeParameters, "describe_parameters", names=names).descriptors == []
    assert list(call(ListParameters, "list_parameters", prefixes=names).result.names) == []
    assert len(call(GetParameters, "get_parameters", names=["dry_run", "preset"]).values) == 2
    assert still_driving(one)


@pytest.mark.parametrize("label", ["x" * 30_000, "configure\n[FATAL] [1.0] [act]: a forged line", "\x1b[2J", "ende"])
def test_a_label_of_no_transition_is_refused_in_one_line(ask, capfd, label):
    """The C library under rclpy would write it into the log as it came."""
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    one, call = ask
    lines(capfd)
    assert not call(ChangeState, "change_state", transition=Transition(label=label)).success
    told = lines(capfd)
    assert all(len(line) < 1000 and line.isprintable() and not line.startswith("[FATAL]") for line in told)
    assert still_driving(one)
    for name in ("deactivate", "activate"):
        assert call(ChangeState, "change_state", transition=Transition(label=name)).success


def test_the_services_are_the_six_of_a_node(ask):
    """rclpy's own are left out, ours must not be beside them."""
    one, _ = ask
    names = [service.srv_name.rpartition("/")[2] for service in one.node.services]
    assert sorted(name for name in names if "parameter" in name) == [
        "describe_parameters", "get_parameter_types", "get_parameters", "list_parameters", "set_parameters",
        "set_parameters_atomically",
    ]  # fmt: skip
