"""Launch files: what would be started with which parameters, without starting it.

Most tests run on stand-ins of launch's actions, so that they need no ROS 2; the last ones put what the files say
through the real launch where it is installed, because stand-ins believe everything.
"""

import importlib.util
import sys
import types
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FILES = sorted(path.name for path in (ROOT / "launch").glob("*.launch.py"))
HAS_LAUNCH = importlib.util.find_spec("launch_ros") is not None
with_launch = pytest.mark.skipif(
    not HAS_LAUNCH, reason="no launch_ros: what launch makes of the files is not seen here"
)


def load(name):
    spec = importlib.util.spec_from_file_location(name.replace(".", "_"), ROOT / "launch" / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(kind):
    return lambda *args, **kwargs: types.SimpleNamespace(kind=kind, args=args, **kwargs)


@pytest.fixture
def stand_ins(monkeypatch):
    """Just enough of launch to describe what would be started; a context is a dictionary of arguments."""
    fakes = {
        "ament_index_python.packages": {"get_package_share_directory": lambda name: str(ROOT)},
        "launch": {"LaunchDescription": lambda entities: types.SimpleNamespace(entities=entities)},
        "launch.actions": {
            "DeclareLaunchArgument": lambda name, default_value, description: types.SimpleNamespace(
                kind="argument", name=name, default_value=default_value, description=description
            ),
            "EmitEvent": record("emit"),
            "ExecuteProcess": record("process"),
            "IncludeLaunchDescription": record("include"),
            "OpaqueFunction": lambda function: types.SimpleNamespace(kind="function", function=function),
            "RegisterEventHandler": lambda handler: handler,
            "Shutdown": record("shutdown"),
        },
        "launch.launch_description_sources": {"PythonLaunchDescriptionSource": lambda path: path},
        "launch.substitutions": {
            "LaunchConfiguration": lambda name: types.SimpleNamespace(perform=lambda given: given.get(name, ""))
        },
        "launch_ros.actions": {"LifecycleNode": record("node"), "Node": record("node")},
        "launch_ros.event_handlers": {"OnStateTransition": record("transition")},
        "launch_ros.events.lifecycle": {"ChangeState": record("change"), "StateTransition": types.SimpleNamespace},
        "launch_ros.parameter_descriptions": {"ParameterValue": lambda value, value_type: (value_type, value)},
        "lifecycle_msgs.msg": {
            "Transition": types.SimpleNamespace(TRANSITION_CONFIGURE=1, TRANSITION_ACTIVATE=3, TRANSITION_DEACTIVATE=4)
        },
    }
    for name in fakes:
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            full = ".".join(parts[:depth])
            if full not in fakes or depth == len(parts):
                module = types.ModuleType(full)
                module.__path__ = []
                module.__dict__.update(fakes.get(full, {}))
                monkeypatch.setitem(sys.modules, full, module)


def act(**given):
    (node,) = load("act.launch.py").start(given)
    return node


# -- every file


@pytest.mark.parametrize("name", FILES)
@pytest.mark.usefixtures("stand_ins")
def test_every_argument_is_declared_and_described(name):
    module = load(name)
    entities = module.generate_launch_description().entities
    arguments = [entity for entity in entities if entity.kind == "argument"]
    assert {argument.name for argument in arguments} == set(module.ARGUMENTS)
    assert all(len(argument.description) > 10 for argument in arguments)


@pytest.mark.usefixtures("stand_ins")
def test_the_promised_arguments_are_there():
    assert set(load("act.launch.py").ARGUMENTS) >= {
        *("model", "draft", "unnorm_key", "policy", "params_file", "arm", "image", "image_transport", "instruction"),
        *("delta_twist_cmds", "gripper_command", "dry_run", "autostart", "namespace", "use_sim_time", "log_level"),
        "step_dt",
    }


# -- act


@pytest.mark.usefixtures("stand_ins")
def test_an_argument_that_is_not_given_does_not_override_the_file():
    node = act()
    assert node.parameters == [str(ROOT / "config" / "act.yaml")]
    assert node.remappings == []
    assert node.arguments == []


@pytest.mark.usefixtures("stand_ins")
def test_what_is_given_comes_last_and_has_its_type(tmp_path):
    (tmp_path / "a.yaml").touch()
    mine = str(tmp_path / "a.yaml")
    node = act(dry_run="false", instruction="yes", draft="/heads", step_dt="1", log_level="debug", params_file=mine)
    assert node.parameters == [
        mine,
        {"dry_run": False, "instruction": (str, "yes"), "draft_heads": (str, "/heads"), "step_dt": 1.0},
    ], "yes is a word, no bool; 1 is a time, no integer"
    assert node.arguments == ["--ros-args", "--log-level", "debug"]


@pytest.mark.parametrize(("argument", "text"), [("dry_run", "off"), ("autostart", "1"), ("step_dt", "fast")])
@pytest.mark.usefixtures("stand_ins")
def test_a_value_that_is_none_is_refused_by_name(argument, text):
    """Above all: dry_run:=off must not become anything by accident."""
    with pytest.raises(RuntimeError, match=rf"{argument}:={text}"):
        act(**{argument: text})


@pytest.mark.usefixtures("stand_ins")
def test_every_argument_for_a_parameter_names_one():
    from spec_vla_ros.node.parameters import PARAMETERS

    kinds = {spec.name: type(spec.default) for spec in PARAMETERS} | {"use_sim_time": bool}
    for parameter, kind, _ in load("act.launch.py").PARAMETERS.values():
        assert kinds[parameter] is kind, parameter


@pytest.mark.usefixtures("stand_ins")
def test_an_arm_is_found_by_name_and_stands_between_file_and_arguments():
    node = act(arm="ur", dry_run="false")
    assert node.parameters == [
        str(ROOT / "config" / "act.yaml"),
        str(ROOT / "config" / "arms" / "ur.yaml"),
        {"dry_run": False},
    ]
    rules = dict(node.remappings)
    assert rules["delta_twist_cmds"] == "/servo_node/delta_twist_cmds"
    assert "gripper_cmd" not in rules, "a rule for an action's own name does nothing"
    assert rules["gripper_cmd/_action/send_goal"] == "/robotiq_gripper_controller/gripper_cmd/_action/send_goal"
    assert len([name for name in rules if name.startswith("gripper_cmd/")]) == 5


@pytest.mark.usefixtures("stand_ins")
def test_an_argument_beats_the_topic_of_the_arm():
    rules = dict(act(arm="ur", delta_twist_cmds="/mine", image="/camera/image_raw").remappings)
    assert rules["delta_twist_cmds"] == "/mine"
    assert rules["image"] == "/camera/image_raw"


@pytest.mark.usefixtures("stand_ins")
def test_an_arm_of_ones_own_is_given_with_its_path(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("/**:\n  ros__parameters:\n    base_frame: base\ntopics:\n  ros__parameters:\n    image: /eye\n")
    node = act(arm=str(own))
    assert node.parameters[1] == str(own)
    assert node.remappings == [("image", "/eye")]
    own.write_text("/**:\n  ros__parameters:\n    base_frame: base\n")
    assert act(arm=str(own)).remappings == []


@pytest.mark.usefixtures("stand_ins")
def test_an_unknown_arm_lists_those_there_are(tmp_path):
    with pytest.raises(RuntimeError, match="arm:=kuka is none of franka, tabletop, ur, xarm"):
        act(arm="kuka")
    with pytest.raises(RuntimeError, match="no such file"):
        act(arm=str(tmp_path / "none.yaml"))


@pytest.mark.usefixtures("stand_ins")
def test_a_topic_that_the_node_does_not_have_is_refused(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("topics:\n  ros__parameters:\n    twist: /cmd_vel\n")
    with pytest.raises(RuntimeError, match="not twist"):
        act(arm=str(own))


# -- sim


@pytest.mark.usefixtures("stand_ins")
def test_the_simulation_launches_files_and_a_checkpoint_that_exist():
    arm, node = load("sim.launch.py").start({})
    given = dict(node.launch_arguments)
    assert Path(given["params_file"]).is_file()
    assert (Path(given["model"]) / "config.json").is_file()
    assert Path(node.args[0]).is_file()
    assert set(given) <= set(load("act.launch.py").ARGUMENTS)
    assert arm.parameters == []
    assert given["autostart"] == given["dry_run"] == "", "as config/sim.yaml says"


@pytest.mark.usefixtures("stand_ins")
def test_with_simulated_time_somebody_publishes_the_clock():
    arm, node = load("sim.launch.py").start({"use_sim_time": "true", "autostart": "false"})
    assert arm.parameters == [{"publish_clock": True}]
    assert dict(node.launch_arguments)["use_sim_time"] == "true"
    assert dict(node.launch_arguments)["autostart"] == "false"


# -- replay


@pytest.fixture
def bag(tmp_path):
    """The metadata of a bag; nobody reads its messages here."""

    def make(**topics):
        listed = [
            {"topic_metadata": {"name": f"/{name.replace('__', '/')}", "type": f"sensor_msgs/msg/{kind}"}}
            for name, kind in topics.items()
        ]
        text = yaml.safe_dump({"rosbag2_bagfile_information": {"topics_with_message_count": listed}})
        (tmp_path / "metadata.yaml").write_text(text)
        return str(tmp_path)

    return make


def replay(**given):
    module = load("replay.launch.py")
    defaults = {name: default for name, (default, _) in module.ARGUMENTS.items()}
    entities = module.start(defaults | given)
    return entities, next(dict(entity.launch_arguments) for entity in entities if entity.kind == "include")


@pytest.mark.usefixtures("stand_ins")
def test_a_replay_sends_nothing_to_an_arm_and_lives_in_the_time_of_the_bag(bag):
    _, given = replay(bag=bag(camera="Image", joint_states="JointState"), instruction="go")
    assert given["dry_run"] == given["use_sim_time"] == "true"
    assert given["autostart"] == "false", "the images would start without the node, or the node without the images"
    assert given["image"] == "/camera"
    assert given["image_transport"] == "raw"
    assert given["instruction"] == "go"
    assert Path(given["arm"]).is_file()
    assert set(given) <= set(load("act.launch.py").ARGUMENTS)


@pytest.mark.usefixtures("stand_ins")
def test_only_the_camera_is_played(bag):
    """Velocities in the bag must not reach an arm that happens to be there."""
    entities, _ = replay(bag=bag(camera="Image", joint_states="JointState"), rate="0.5", start_offset="3", loop="true")
    begin = next(entity for entity in entities if entity.kind == "transition").entities[0].function
    player, answers = begin({})
    words = player.cmd
    assert words[:3] == ["ros2", "bag", "play"]
    topics = words[words.index("--topics") + 1 :]
    assert topics[:2] == ["/camera", "--clock"]
    assert words[words.index("--rate") + 1] == "0.5"
    assert words[words.index("--start-offset") + 1] == "3"
    assert "--start-paused" in words
    assert "--loop" not in words, "the clock must not go back while the node is active"
    assert "/rosbag2_player/is_paused" in answers.cmd


@pytest.mark.usefixtures("stand_ins")
def test_a_compressed_camera_is_recognised(bag):
    _, given = replay(bag=bag(cam__compressed="CompressedImage"))
    assert (given["image"], given["image_transport"]) == ("/cam", "compressed")


@pytest.mark.usefixtures("stand_ins")
def test_what_cannot_be_replayed_is_refused_with_a_reason(bag, tmp_path):
    for given, reason in (
        ({"bag": ""}, "bag:= is missing"),
        ({"bag": str(tmp_path / "none")}, "no such folder or file"),
        ({"bag": str(tmp_path)}, "no metadata.yaml"),
    ):
        with pytest.raises(RuntimeError, match=reason):
            replay(**given)
    for topics, image, reason in (
        ({"joint_states": "JointState"}, "", "image topics: none"),
        ({"left": "Image", "right": "Image"}, "", "image topics: /left, /right"),
        ({"left": "Image"}, "/front", "/front is no image topic .* /left"),
        ({"left": "CompressedImage"}, "", "not named <image>/compressed"),
    ):
        with pytest.raises(RuntimeError, match=reason):
            replay(bag=bag(**topics), image=image)
    (tmp_path / "single.mcap").touch()
    with pytest.raises(RuntimeError, match="image:= is missing"):
        replay(bag=str(tmp_path / "single.mcap"))
    assert replay(bag=str(tmp_path / "single.mcap"), image="/cam")[1]["image"] == "/cam"


# -- a file of parameters that is not there


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("name", ["act.launch.py", "sim.launch.py"])
def test_a_file_of_parameters_that_is_not_there_is_refused(name, tmp_path):
    """launch warns in a line among many, and the node starts on its defaults."""
    with pytest.raises(RuntimeError, match=r"params_file:=/nonexistent\.yaml: there is no such file"):
        load(name).start({"params_file": "/nonexistent.yaml"})
    with pytest.raises(RuntimeError, match="there is no such file"):
        load(name).start({"params_file": str(tmp_path)})


@pytest.mark.usefixtures("stand_ins")
def test_a_replay_hands_the_file_of_parameters_to_the_launch_file_that_checks_it(bag):
    assert replay(bag=bag(camera="Image"), params_file="/nonexistent.yaml")[1]["params_file"] == "/nonexistent.yaml"


# -- the same with the real launch


def evaluated(monkeypatch, name="act.launch.py", **given):
    """Parameters and remapping rules of the node as launch would hand them over."""
    from launch import LaunchContext
    from launch_ros.utilities import evaluate_parameters, normalize_parameters, normalize_remap_rules

    module, seen = load(name), {}
    monkeypatch.setattr(module, "get_package_share_directory", lambda package: str(ROOT))
    monkeypatch.setattr(module, "LifecycleNode", lambda **arguments: seen.update(arguments))
    context = LaunchContext()
    context.launch_configurations.update(dict.fromkeys(module.ARGUMENTS, "") | given)
    module.start(context)
    assert list(normalize_remap_rules(seen["remappings"])) is not None
    return evaluate_parameters(context, normalize_parameters(seen["parameters"]))


@with_launch
@pytest.mark.ros
@pytest.mark.parametrize("name", FILES)
def test_launch_reads_the_file(name):
    from launch.actions import DeclareLaunchArgument

    entities = load(name).generate_launch_description().entities
    declared = [entity for entity in entities if isinstance(entity, DeclareLaunchArgument)]
    assert declared
    assert all(len(argument.description) > 10 for argument in declared)


@with_launch
@pytest.mark.ros
def test_launch_takes_every_kind_of_value(monkeypatch):
    """launch is strict about types, and says so only when the node is about to start."""
    parameters = evaluated(
        monkeypatch, dry_run="false", autostart="true", step_dt="1", instruction="yes", model="7", arm="ur"
    )
    assert [Path(item).name for item in parameters[:2]] == ["act.yaml", "ur.yaml"]
    assert parameters[2] == {
        "dry_run": False,
        "autostart": True,
        "step_dt": 1.0,
        "instruction": "yes",
        "model": "7",
    }


@with_launch
@pytest.mark.ros
def test_launch_is_given_nothing_but_files_where_nothing_is_given(monkeypatch):
    assert [Path(item).name for item in evaluated(monkeypatch)] == ["act.yaml"]
