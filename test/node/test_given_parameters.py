"""Parameters with typing errors: a limit that nobody reads is no limit, and nobody is told by the runtime."""

from pathlib import Path

import pytest
from test_node_process import finish

from spec_vla_ros.node.parameters import PARAMETERS, REMOVED
from spec_vla_ros.ros.given_parameters import SIMULATORS, Given, given_to, judge

ROOT = Path(__file__).parents[2]
KNOWN = [spec.name for spec in PARAMETERS]


def from_file(tmp_path, text, *more, node="/act"):
    file = tmp_path / "given.yaml"
    file.write_text(text)
    return list(given_to(node, ["--ros-args", "--params-file", str(file), *more]))


def section(pattern, **values):
    lines = [f"    {name}: {value}" for name, value in values.items()]
    return "\n".join([f"{pattern}:", "  ros__parameters:", *lines, ""])


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("acceptence_radius", "acceptance_radius"),
        ("max_linear_sped", "max_linear_speed"),
        ("acceptance-radius", "acceptance_radius"),
        ("Max_Linear_Speed", "max_linear_speed"),
        ("dryrun", "dry_run"),
        ("modle", "model"),
        ("devise", "device"),
        ("image_timout", "image_timeout"),
        ("heartbeat_timeouts", "heartbeat_timeout"),
    ],
)
@pytest.mark.parametrize("pattern", ["/**", "act", "/act", "/*"])
def test_a_slip_is_refused_with_the_name_that_was_meant(tmp_path, typed, meant, pattern):
    given = from_file(tmp_path, section(f'"{pattern}"', **{typed: 1}))
    refused, unread = judge(given, KNOWN)
    assert f"'{typed}' in {tmp_path / 'given.yaml'}: did you mean {meant}?" in refused
    assert unread == ""


def test_on_the_command_line_and_in_the_nodes_own_section_everything_is_the_nodes(tmp_path):
    for given in (
        list(given_to("/act", ["--ros-args", "-p", "robot_colour:=red"])),
        list(given_to("/ns/act", ["x", "--ros-args", "--param", "robot_colour:=red", "--", "-p", "later:=1"])),
        from_file(tmp_path, section("/act", robot_colour="red", image_rate=30.0)),
    ):
        refused, unread = judge(given, KNOWN)
        assert "'robot_colour'" in refused
        assert "later" not in refused
        assert unread == ""
    assert "'image_rate'" in refused, "of the simulated arm, and here for the act node alone"


def test_what_is_shared_may_hold_the_parameters_of_others(tmp_path):
    """One file for the whole robot: those of our other nodes are known, what resembles none is told and no more."""
    text = section(
        '"/**"', image_rate=30.0, use_sim_time=True, robot_description="x", max_linear_speed=0.1, publish_tf=1
    )
    given = from_file(tmp_path, text)
    refused, unread = judge(given, KNOWN)
    assert refused == ""
    assert unread == "not parameters of this node: 'robot_description', 'publish_tf'"
    assert judge(given, ["image_rate"])[0] == "", "nor does the simulated arm mind those of the act node"


@pytest.mark.parametrize("name", ["use_sim_time", "start_type_description_service"])
def test_what_the_runtime_declares_is_never_refused(name):
    names = [name, "qos_overrides./tf.subscription.depth", "diagnostic_updater.period", "diagnostic_updater.use_fqn"]
    assert judge([Given(one, True, "x") for one in names], KNOWN) == ("", "")


@pytest.mark.parametrize("pattern", ["/**", "act", "/*"])
def test_a_parameter_of_before_is_refused_wherever_it_stands_and_what_to_do_is_said(tmp_path, pattern):
    """In a section for many nodes it was a name of others, and its owner went on counting on it."""
    given = from_file(
        tmp_path, section(f'"{pattern}"', gripper_radius=3, image_rate=30.0), "-p", "acceptence_radius:=1"
    )
    refused, unread = judge(given, [*KNOWN, "image_rate"], REMOVED)
    assert f"gripper_radius in {tmp_path / 'given.yaml'}" in refused
    assert "never had an effect" in refused
    assert "delete it" in refused
    assert "did you mean acceptance_radius?" in refused, "and what else is wrong, at once"
    assert unread == ""


def test_a_parameter_of_before_on_the_command_line_is_refused():
    refused, _ = judge(given_to("/act", ["--ros-args", "-p", "gripper_radius:=0"]), KNOWN, REMOVED)
    assert refused.startswith("gripper_radius in the command line ")
    assert "no parameter of this node" not in refused


def test_a_parameter_of_before_in_a_file_that_others_share_does_not_stop_them(tmp_path):
    given = from_file(tmp_path, section('"/**"', gripper_radius=3), node="/tabletop_arm")
    assert judge(given, ["image_rate"])[0] == ""


def test_no_parameter_is_there_and_removed():
    assert not REMOVED.keys() & set(KNOWN)


def test_a_dump_of_before_that_is_loaded_into_the_node_is_told_what_to_do():
    """``ros2 param load`` reported that the name is not declared, which reads like a defect of the node."""
    from types import SimpleNamespace

    from spec_vla_ros.embedded_ros.doorway import ensure_rclpy

    ensure_rclpy()
    from rcl_interfaces.msg import Parameter, ParameterValue
    from rclpy.exceptions import ParameterNotDeclaredException

    from spec_vla_ros.embedded_ros.parameter_services import ParameterServices

    class Node(SimpleNamespace):
        def set_parameters_atomically(self, parameters):
            raise ParameterNotDeclaredException([parameter.name for parameter in parameters])

        def describe_parameter(self, name):
            raise ParameterNotDeclaredException([name])

    served = {}
    node = Node(create_service=lambda _, name, answer, **__: served.update({name: answer}), has_parameter=KNOWN.count)
    services = ParameterServices(node, REMOVED)
    assert services

    def answer(name):
        parameter = Parameter(name=name, value=ParameterValue(type=2, integer_value=3))
        response = SimpleNamespace(results=[])
        served["~/set_parameters"](SimpleNamespace(parameters=[parameter]), response)
        return response.results[0]

    assert not answer("gripper_radius").successful
    assert answer("gripper_radius").reason.startswith("not declared: ['gripper_radius']; gripper_radius is no longer")
    assert answer("robot_colour").reason == "not declared: ['robot_colour']"


def test_the_section_of_another_node_is_not_looked_at(tmp_path):
    text = section("/tabletop_arm", acceptence_radius=1) + section("/left/act", max_linear_sped=1)
    assert from_file(tmp_path, text) == []
    assert [one.name for one in from_file(tmp_path, text, node="/left/act")] == ["max_linear_sped"]
    assert from_file(tmp_path, text, "-p", "other:x:=1", "-p", "act:y:=1")[-1].name == "y"


@pytest.mark.parametrize("arguments", [[], ["x"], ["--ros-args"], ["--ros-args", "--", "-p", "x:=1"]])
def test_a_process_that_was_given_nothing(arguments):
    assert list(given_to("/act", arguments)) == []


def test_a_file_that_the_runtime_refuses_is_not_refused_twice():
    assert list(given_to("/act", ["--ros-args", "--params-file", "/nowhere.yaml"])) == []
    assert list(given_to("/act", ["--ros-args", "-p"])) == [Given("", True, "the command line")]


def test_a_long_foreign_name_costs_nothing_and_is_cut():
    refused, _ = judge([Given("x" * 10**5, True, "the command line")], KNOWN)
    assert len(refused) < 600


@pytest.mark.parametrize(
    "file",
    sorted([*(ROOT / "config").glob("*.yaml"), *(ROOT / "config" / "arms").glob("*.yaml")]),
    ids=lambda path: path.name,
)
def test_the_shipped_files_hold_nothing_else(file):
    given = list(given_to("/act", ["--ros-args", "--params-file", str(file)]))
    assert given
    assert judge(given, KNOWN) == ("", "")


def test_the_simulators_parameters_are_known():
    arm_node, libero_node = (
        pytest.importorskip(f"spec_vla_ros.{name}", exc_type=ImportError)
        for name in ("tabletop.arm_node", "libero.libero_node")
    )
    theirs = {spec.name for spec in (*arm_node.PARAMETERS, *libero_node.PARAMETERS)}
    assert theirs - set(KNOWN) == SIMULATORS


def test_a_file_full_of_foreign_parameters_is_one_short_line(tmp_path):
    servo = ROOT / "config" / "arms" / "servo" / "ur_servo.yaml"
    refused, unread = judge(given_to("/act", ["--ros-args", "--params-file", str(servo)]), KNOWN)
    assert refused == ""
    assert "moveit_servo.command_in_type" in unread
    assert " more" in unread
    assert len(unread) < 300


# -- the process


@pytest.mark.parametrize("how", ["-p", "file", "namespace"])
def test_a_mistyped_parameter_is_one_line_and_an_exit_code(world, act, tmp_path, how):
    file = tmp_path / "mine.yaml"
    file.write_text(section('"/**"', acceptence_radius=3))
    arguments = {
        "-p": ["-p", "acceptence_radius:=3"],
        "file": ["--params-file", file],
        "namespace": ["-r", "__ns:=/left", "-r", "__node:=pilot", "--params-file", file],
    }[how]
    code, output = finish(act(*arguments, policy="scripted", autostart="true"), world, 30)
    assert code == 1, output
    assert "'acceptence_radius'" in output
    assert "did you mean acceptance_radius?" in output
    assert "Traceback" not in output
    assert "active" not in output


def test_a_file_of_before_is_one_line_and_an_exit_code(world, act, tmp_path):
    file = tmp_path / "robot.yaml"
    file.write_text(section('"/**"', gripper_radius=0))
    code, output = finish(act("--params-file", file, policy="scripted", autostart="true"), world, 30)
    assert code == 1, output
    assert f"gripper_radius in {file} is no longer there" in output
    assert "Traceback" not in output
    assert "active" not in output


def test_a_shared_file_starts_the_node_and_is_told(world, act, tmp_path):
    import signal

    file = tmp_path / "robot.yaml"
    file.write_text(section('"/**"', robot_description="x", image_rate=30.0))
    process = act("--params-file", file, policy="scripted", autostart="true", instruction="go")
    world.until(lambda: len(world.actions) >= 1, 30, "an action")
    process.send_signal(signal.SIGINT)
    code, output = finish(process, world)
    assert code == 0, output
    assert "not parameters of this node: 'robot_description'" in output
