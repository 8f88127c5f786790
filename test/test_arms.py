"""What ships for arms and for the eyes of the operator: it must fit the node, the messages and itself."""

import ast
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from spec_vla_ros.node.parameters import PARAMETERS, box_refusal

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "config"
SPECS = {spec.name: spec for spec in PARAMETERS}
ARMS = sorted((CONFIG / "arms").glob("*.yaml"))
REAL = [path for path in ARMS if path.stem != "tabletop"]
SERVOS = sorted((CONFIG / "arms" / "servo").glob("*.yaml"))
TOPICS = {"delta_twist_cmds", "gripper_command", "gripper_cmd", "image"}
# Every name that ServoNode of moveit_servo 2.12 (Jazzy) declares and one of our files may set.
SERVO_NAMES = {
    *("command_in_type", "scale", "incoming_command_timeout", "apply_twist_commands_about_ee_frame"),
    *("publish_period", "max_expected_latency", "move_group_name", "command_out_type", "command_out_topic"),
    *("publish_joint_positions", "publish_joint_velocities", "use_smoothing", "joint_topic"),
    *("lower_singularity_threshold", "hard_stop_singularity_threshold", "joint_limit_margins", "check_collisions"),
    "is_primary_planning_scene_monitor",
}
# What that of 2.5 (Humble) has in the place of some, or besides; either skips what only the other declares.
HUMBLE_NAMES = {
    *("planning_frame", "ee_frame_name", "robot_link_command_frame"),
    *("joint_limit_margin", "low_latency_mode"),
}
CAP_OF_UR = 0.3  # rad/s, scale.rotational in ur_servo.yaml of the UR driver, which its launch file insists on

names = pytest.mark.parametrize("path", ARMS, ids=lambda path: path.stem)
real = pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
servos = pytest.mark.parametrize("path", SERVOS, ids=lambda path: path.stem)


def sections(path):
    return {name: section["ros__parameters"] for name, section in yaml.safe_load(path.read_text()).items()}


def parameters(path):
    return sections(path)["/**"]


def servo(path):
    return parameters(path)["moveit_servo"]


def with_defaults(path):
    return {spec.name: spec.default for spec in PARAMETERS} | parameters(path)


# -- arms


def test_the_promised_arms_are_there():
    assert {path.stem for path in ARMS} == {"ur", "franka", "xarm", "tabletop"}
    assert {path.stem for path in SERVOS} == {f"{path.stem}_servo" for path in REAL}


@names
def test_an_arm_sets_known_parameters_of_the_right_type_and_range(path):
    for name, value in parameters(path).items():
        assert name in SPECS, f"{name} is no parameter of the act node"
        spec = SPECS[name]
        assert type(value) is type(spec.default), f"{name}: a double needs its point"
        if isinstance(value, list):
            assert {type(item) for item in value} <= {type(item) for item in spec.default}, name
        if spec.range:
            assert spec.range[0] <= value <= spec.range[1], name
        if spec.choices:
            assert value in spec.choices, name
    full = with_defaults(path)
    assert not box_refusal(full["workspace_min"], full["workspace_max"])


@names
def test_an_arm_file_is_a_ros_parameter_file_with_topics_beside(path):
    assert set(sections(path)) == {"/**", "topics"}
    topics = sections(path)["topics"]
    assert set(topics) <= TOPICS
    assert all(isinstance(target, str) and target.startswith("/") for target in topics.values())


@names
def test_an_arm_does_not_decide_about_the_run(path):
    """Above all, no arm file may switch the dry run off."""
    assert not {"dry_run", "autostart", "model", "unnorm_key", "policy", "instruction"} & set(parameters(path))


@names
def test_every_setting_of_an_arm_is_explained(path):
    lines = path.read_text().partition("\ntopics:")[0].splitlines()
    for index, line in enumerate(lines):
        if re.match(r"    \w+: ", line):
            context = line + lines[index - 1]
            assert "#" in context, line


@real
def test_first_runs_on_a_real_arm_are_slow_and_boxed_in(path):
    values = with_defaults(path)
    assert values["action_scale"] <= 0.2
    assert 0 < values["max_linear_speed"] <= 0.05
    assert 0 < values["max_angular_speed"] <= 0.5
    assert values["tool_frame"]
    low, high = values["workspace_min"], values["workspace_max"]
    assert low[0] > 0, "in front of the base, so that no wall runs through the arm"
    assert all(0.2 <= b - a <= 0.8 for a, b in zip(low, high, strict=True))
    assert low[2] > 0
    assert "CHECK" in path.read_text()
    assert "Not run on hardware" in path.read_text()


@real
def test_a_real_arm_goes_through_servo_and_an_action(path):
    values, topics = with_defaults(path), sections(path)["topics"]
    assert values["servo_node"] == "/servo_node"
    assert topics["delta_twist_cmds"] == values["servo_node"] + "/delta_twist_cmds"
    assert values["gripper_interface"] == "action"
    assert "gripper_cmd" in topics
    assert values["gripper_open"] != values["gripper_closed"]


def test_the_table_top_as_an_arm_is_the_table_top_of_the_simulation():
    arm, sim = parameters(CONFIG / "arms" / "tabletop.yaml"), parameters(CONFIG / "sim.yaml")
    run = {"dry_run", "autostart"}
    assert {name: value for name, value in sim.items() if name not in run} == {
        name: arm[name] for name in sim if name not in run
    }


# -- MoveIt Servo


@servos
def test_servo_takes_velocities_in_units_and_rotates_about_the_tool(path):
    values = servo(path)
    assert values.keys() <= SERVO_NAMES | HUMBLE_NAMES
    assert values["command_in_type"] == "speed_units"
    assert values["apply_twist_commands_about_ee_frame"] is True
    assert "Not run on hardware" in path.read_text()


@servos
def test_servo_waits_long_enough_for_the_act_node_and_not_longer(path):
    values, act = servo(path), with_defaults(CONFIG / "arms" / path.name.replace("_servo", ""))
    timeout = values["incoming_command_timeout"]
    assert timeout >= 3 / act["publish_rate"]
    assert timeout >= 3 * values["publish_period"]
    assert timeout <= 0.2, "this long an arm moves on when the node has died"


@servos
def test_servo_does_not_shorten_what_the_act_node_has_limited(path):
    """Servo shortens the linear and the angular part each alone, which bends the motion."""
    values, act = servo(path), with_defaults(CONFIG / "arms" / path.name.replace("_servo", ""))
    assert values["scale"]["linear"] >= act["max_linear_speed"]
    assert values["scale"]["rotational"] >= act["max_angular_speed"]
    if path.stem == "ur_servo":
        assert act["max_angular_speed"] <= CAP_OF_UR


@servos
def test_servo_accepts_its_own_parameters(path):
    """The rules of Servo::validateParams, which ends the process otherwise."""
    values = servo(path)
    assert values["max_expected_latency"] / 3 >= values["publish_period"]
    assert values["hard_stop_singularity_threshold"] > values["lower_singularity_threshold"]
    if values["command_out_type"] == "std_msgs/Float64MultiArray":
        assert values["publish_joint_positions"] is not values["publish_joint_velocities"]


@servos
def test_servo_of_humble_is_given_its_own_names(path):
    values, act = servo(path), with_defaults(CONFIG / "arms" / path.name.replace("_servo", ""))
    assert values.keys() >= HUMBLE_NAMES, "its defaults are of a Panda"
    assert values["planning_frame"] == values["robot_link_command_frame"] == act["base_frame"]
    assert values["joint_limit_margins"] == [values["joint_limit_margin"]]
    assert values["low_latency_mode"] is False, "the act node waits for a status before it commands"


# -- rqt, PlotJuggler, Foxglove and rviz


def fields(message):
    """{field: how many elements, None if it is no array} of one of our messages, constants left out."""
    found = {}
    for line in (ROOT / "msg" / f"{message}.msg").read_text().splitlines():
        code = line.partition("#")[0].strip()
        if code and "=" not in code:
            kind, name = code.split()
            array = re.search(r"\[(\d*)\]$", kind)
            found[name] = int(array.group(1) or ACTION) if array else None
    return found


ACTION = 7  # dimensions; an array of any length has one element for each, or for each of at most as many passes
MESSAGES = {"/act/decode_stats": "DecodeStats", "/act/action": "DeltaAction"}
OURS = {topic: fields(message) for topic, message in MESSAGES.items()}
CAMERA, DIAGNOSTICS = "/camera/image_raw", "/diagnostics"
TWISTS = ("/delta_twist_cmds", "/servo_node/delta_twist_cmds")
TWIST_FIELDS = {f"twist/{part}/{axis}" for part in ("linear", "angular") for axis in "xyz"}


def check_curve(curve):
    for topic, known in OURS.items():
        if curve.startswith(topic + "/"):
            name, bracket, index = curve.removeprefix(topic + "/").partition("[")
            assert name in known, f"{topic} has no field {name}"
            size = known[name]
            assert bool(bracket) == bool(size), f"{name}: an array needs an index, a number must not have one"
            assert not bracket or int(index.rstrip("]")) < size, f"{name} has {size} elements"
            return
    topic = next((topic for topic in TWISTS if curve.startswith(topic + "/")), None)
    assert topic, curve
    assert curve.removeprefix(topic + "/") in TWIST_FIELDS


def test_the_topics_of_the_layouts_are_the_node_s():
    node = "\n".join(path.read_text() for path in (ROOT / "spec_vla_ros" / "node").glob("*.py"))
    published = {name: kind for kind, name in re.findall(r'create_(?:lifecycle_)?publisher\((\w+), "([^"]+)"', node)}
    for topic, message in MESSAGES.items():
        assert published[topic.replace("/act/", "~/")] == message
    assert published[DIAGNOSTICS] == "DiagnosticArray"
    assert "create_publisher(TwistStamped, self._command_topic" in node
    arms = {sections(path)["topics"].get("delta_twist_cmds", "/delta_twist_cmds") for path in ARMS}
    assert set(TWISTS) == arms
    assert f"image:={CAMERA}" in (ROOT / "README.md").read_text()


def rqt_settings():
    """The perspective as rqt reads it: "repr" values are evaluated; raw Qt data is allowed for the layout only."""

    def values(group):
        keys = {}
        for key, value in group["keys"].items():
            if value["type"] == "repr":
                keys[key] = ast.literal_eval(value["repr"])
            else:
                assert key in ("geometry", "state", "_splitter", "splitter"), f"{key}: raw data cannot be reviewed"
        return keys | {name: values(inner) for name, inner in group["groups"].items()}

    return values(json.loads((CONFIG / "rqt" / "act.perspective").read_text()))["pluginmanager"]


def test_the_perspective_opens_what_it_has_settings_for():
    manager = rqt_settings()
    running = {
        f"plugin__{plugin.replace('/', '__')}__{serial}"
        for plugin, serials in manager["running-plugins"].items()
        for serial in serials
    }
    assert running == {name for name in manager if name.startswith("plugin__")}
    assert "rqt_image_view/ImageView" not in manager["running-plugins"], (
        "one that is missing keeps rqt from restoring any"
    )
    assert {"rqt_reconfigure/Param", "rqt_plot/Plot", "rqt_runtime_monitor/RuntimeMonitor"} <= set(
        manager["running-plugins"]
    )


def test_the_perspective_plots_fields_that_exist_and_tunes_the_node():
    manager = rqt_settings()
    curves = [curve for group in manager.values() for curve in group.get("plugin", {}).get("topics", ())]
    assert {"/act/decode_stats/verifier_passes", "/act/decode_stats/inference_ms"} <= set(curves)
    for curve in curves:
        check_curve(curve)
    assert manager["plugin__rqt_reconfigure__Param__1"]["plugin"]["selected_nodes"] == ["/act"]


def test_the_layout_plots_fields_that_exist():
    root = ElementTree.parse(CONFIG / "plotjuggler" / "act.xml").getroot()
    curves = [curve.get("name") for curve in root.iter("curve")]
    assert {curve.rsplit("/", 1)[0] for curve in curves} >= set(OURS)
    for curve in curves:
        check_curve(curve)
    selected = root.find("Plugins/plugin/selected_topics").get("value").split(";")
    assert set(selected) == {*OURS, *TWISTS}
    assert root.find("previouslyLoaded_Streamer").get("name") == root.find("Plugins/plugin").get("ID")


def test_the_layout_has_the_shape_that_plotjuggler_reads():
    root = ElementTree.parse(CONFIG / "plotjuggler" / "act.xml").getroot()
    window = root.find("tabbed_widget")
    assert (window.get("name"), window.get("parent")) == ("Main Window", "main_window")
    for tab in window.findall("Tab"):
        splitter = tab.find("Container/DockSplitter")
        areas = splitter.findall("DockArea")
        assert len(areas) == int(splitter.get("count")) == len(splitter.get("sizes").split(";"))
        assert all(area.find("plot/range") is not None for area in areas)


def foxglove():
    """({panel: its settings}, the panels in the order in which they are laid out)."""
    layout = json.loads((CONFIG / "foxglove" / "act.json").read_text())

    def leaves(part):
        return [part] if isinstance(part, str) else leaves(part["first"]) + leaves(part["second"])

    return layout["configById"], leaves(layout["layout"])


def test_foxglove_shows_topics_and_fields_that_exist():
    panels, shown = foxglove()
    assert sorted(shown) == sorted(panels)
    paths = []
    for name, settings in panels.items():
        match name.partition("!")[0]:
            case "Plot":
                paths += [path["value"] for path in settings["paths"]]
            case "RawMessages":
                paths.append(settings["topicPath"])
            case "Image":
                assert settings["imageMode"]["imageTopic"] == CAMERA
            case "DiagnosticSummary":
                assert settings["topicToRender"] == DIAGNOSTICS
            case kind:
                pytest.fail(f"nobody checks the topics of a panel {kind}")
    for path in paths:
        check_curve(path.replace(".", "/"))
    assert {f"/act/action.step[{index}]" for index in range(6)} <= set(paths)
    assert {"/act/decode_stats.verifier_passes", "/act/decode_stats.accepted_per_pass[0]"} <= set(paths)


def test_rviz_shows_topics_that_exist_in_the_frame_of_the_velocities():
    manager = yaml.safe_load((CONFIG / "rviz" / "act.rviz").read_text())["Visualization Manager"]
    assert manager["Global Options"]["Fixed Frame"] == SPECS["base_frame"].default
    topics = {}
    for display in manager["Displays"]:
        assert display["Enabled"] is display["Value"] is True, "rviz wants both"
        topics.setdefault(display["Class"].removeprefix("rviz_default_plugins/"), []).append(
            display.get("Topic", {}).get("Value")
        )
    assert topics == {"Grid": [None], "TF": [None], "Image": [CAMERA], "TwistStamped": list(TWISTS)}
