"""Launch files: what would be started with which parameters, without starting it.

Most tests run on stand-ins of launch's actions, so that they need no ROS 2; the last ones put what the files say
through the real launch where it is installed, because stand-ins believe everything.
"""

import importlib.util
import sys
import types
import xml.etree.ElementTree as ElementTree
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


def service(name):
    return types.SimpleNamespace(name=name, Request=types.SimpleNamespace)


@pytest.fixture
def stand_ins(monkeypatch):
    """Just enough of launch to describe what would be started; a context is a dictionary of arguments."""
    fakes = {
        "ament_index_python.packages": {"get_package_share_directory": lambda name: str(ROOT)},
        "diagnostic_msgs.msg": {"DiagnosticArray": object, "DiagnosticStatus": types.SimpleNamespace(ERROR=b"\x02")},
        "launch": {
            "Event": object,
            "EventHandler": record("handler"),
            "LaunchDescription": lambda entities: types.SimpleNamespace(entities=entities),
        },
        "launch.actions": {
            "DeclareLaunchArgument": lambda name, default_value, description: types.SimpleNamespace(
                kind="argument", name=name, default_value=default_value, description=description
            ),
            "EmitEvent": record("emit"),
            "ExecuteProcess": record("process"),
            "IncludeLaunchDescription": record("include"),
            "OpaqueFunction": lambda function: types.SimpleNamespace(kind="function", function=function),
            "RegisterEventHandler": lambda handler: handler,
            "SetEnvironmentVariable": record("variable"),
            "Shutdown": record("shutdown"),
        },
        "launch.event_handlers": {"OnProcessExit": record("exit")},
        "launch.launch_description_sources": {"PythonLaunchDescriptionSource": lambda path: path},
        "launch.substitutions": {
            "LaunchConfiguration": lambda name: types.SimpleNamespace(perform=lambda given: given.get(name, ""))
        },
        "launch_ros.actions": {"LifecycleNode": record("node"), "Node": record("node")},
        "launch_ros.event_handlers": {"OnStateTransition": record("transition")},
        "launch_ros.events.lifecycle": {"ChangeState": record("change"), "StateTransition": types.SimpleNamespace},
        "rosbag2_interfaces.srv": {"IsPaused": service("IsPaused"), "Resume": service("Resume")},
        "launch_ros.ros_adapters": {"get_ros_node": lambda context: context.node},
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
    middleware, node = load("act.launch.py").start(given)
    assert Path(middleware.args[0]).name == "middleware.launch.py", "before the node that it is for"
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
    middleware, arm, node = load("sim.launch.py").start({})
    assert Path(middleware.args[0]).is_file(), "the arm's camera is the one that needs it"
    given = dict(node.launch_arguments)
    assert Path(given["params_file"]).is_file()
    assert (Path(given["model"]) / "config.json").is_file()
    assert Path(node.args[0]).is_file()
    assert set(given) <= set(load("act.launch.py").ARGUMENTS)
    assert arm.parameters == []
    assert given["autostart"] == given["dry_run"] == "", "as config/sim.yaml says"


@pytest.mark.usefixtures("stand_ins")
def test_with_simulated_time_somebody_publishes_the_clock():
    _, arm, node = load("sim.launch.py").start({"use_sim_time": "true", "autostart": "false"})
    assert arm.parameters == [{"publish_clock": True}]
    assert dict(node.launch_arguments)["use_sim_time"] == "true"
    assert dict(node.launch_arguments)["autostart"] == "false"


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize(
    ("given", "prefix"),
    [({}, ""), ({"namespace": "/left"}, "left/"), ({"namespace": "cell/left/"}, "cell/left/"),
     ({"namespace": "left", "tf_prefix": "left_"}, "left_")],
)  # fmt: skip
def test_two_arms_in_two_namespaces_have_frames_of_their_own(given, prefix):
    """/tf is one topic for all: both published base_link -> tool0."""
    _, arm, node = load("sim.launch.py").start(given)
    assert arm.parameters == ([{"tf_prefix": (str, prefix)}] if prefix else [])
    assert dict(node.launch_arguments)["tf_prefix"] == prefix
    if prefix:
        assert {"tf_prefix": (str, prefix)} in act(tf_prefix=prefix).parameters


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
    assert given["future_tolerance"] == "1.05", "/clock may be a second late"
    assert Path(given["arm"]).is_file()
    assert set(given) <= set(load("act.launch.py").ARGUMENTS)


def reaches(state, before=None):
    """The event that launch emits when the act node gets there."""
    action = types.SimpleNamespace(node_name="/act")
    return types.SimpleNamespace(action=action, goal_state=state, start_state=before)


def player_asked(action):
    """Service type and name that ``action`` calls until it is answered, and the transition that follows."""
    asked, emitted, futures = [], [], []

    class Client:
        def __init__(self, kind, name):
            self.kind, self.name, self.waits = kind.name, name, iter([False, True])

        def wait_for_service(self, timeout_sec):
            return next(self.waits)

        def call_async(self, request):
            asked.append((self.kind, self.name))
            return types.SimpleNamespace(add_done_callback=lambda done: done(None))

    loop = types.SimpleNamespace(
        run_in_executor=lambda pool, call, context: call(context), call_soon_threadsafe=lambda call, event: call(event)
    )
    action.function(
        types.SimpleNamespace(
            node=types.SimpleNamespace(create_client=Client), asyncio_loop=loop, is_shutdown=False,
            add_completion_future=futures.append, emit_event_sync=emitted.append,
        )
    )  # fmt: skip
    assert len(futures) == 1, "launch waits for it, or would find itself idle"
    return *asked[0], next((event.transition_id for event in emitted), None)


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
    assert player_asked(answers) == ("IsPaused", "/rosbag2_player/is_paused", 3), "up before the node is activated"
    resume = next(entity for entity in entities if entity.kind == "transition" and entity.matcher(reaches("active")))
    (resume,) = resume.entities
    assert player_asked(resume) == ("Resume", "/rosbag2_player/resume", None)


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


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize(("rate", "tolerance"), [("0.5", 0.55), ("1", 1.05), ("4.0", 4.05), ("20", 5.0)])
def test_the_faster_a_bag_is_played_the_later_its_clock_is(rate, tolerance, bag):
    """At rate 4 a /clock that came 20 ms late made images 80 ms older than it, and the node stopped."""
    module = load("replay.launch.py")
    assert module.future_tolerance(module.playing_rate(rate)) == tolerance
    low, high = next(spec.range for spec in parameters() if spec.name == "future_tolerance")
    assert low <= tolerance <= high


def parameters():
    from spec_vla_ros.node.parameters import PARAMETERS

    return PARAMETERS


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("rate", ["fast", "0", "-1", "nan", "inf", "0.01"])
def test_a_rate_that_is_none_is_refused_before_anything_is_started(rate, bag):
    with pytest.raises(RuntimeError, match=f"rate:={rate} "):
        replay(bag=bag(camera="Image"), rate=rate)


@pytest.mark.usefixtures("stand_ins")
def test_whatever_goes_wrong_in_a_replay_ends_it_with_a_status_that_is_not_zero(bag):
    """A fault of the node was no failure: launch ended with status 0. It fails on exceptions only."""
    entities, _ = replay(bag=bag(camera="Image"), namespace="left")
    context = types.SimpleNamespace(is_shutdown=False)
    ends = [entity.entities[0] for entity in entities if entity.kind == "transition"]
    failing = [end for end in ends if end.kind == "function" and end.function.__name__ == "raising"]
    assert len(failing) == 2
    for end in failing:
        with pytest.raises(RuntimeError, match=r"the act node could not be (configured|activated)"):
            end.function(context)
    (exit_,) = (entity for entity in entities if entity.kind == "exit")
    assert exit_.target_action(types.SimpleNamespace(node_name="/left/act"))
    assert not exit_.target_action(types.SimpleNamespace(cmd=["ros2"])), "the player ends by itself"
    with pytest.raises(RuntimeError, match=r"has ended \(exit status -11"):
        exit_.on_exit(types.SimpleNamespace(returncode=-11), context).function(context)
    begin = next(entity for entity in entities if entity.kind == "transition").entities[0].function
    (refused,) = begin(context)[0].on_exit(types.SimpleNamespace(returncode=1), context)
    with pytest.raises(RuntimeError, match="ros2 bag play failed"):
        refused.function(context)
    context.is_shutdown = True
    assert exit_.on_exit(types.SimpleNamespace(returncode=-2), context) is None, "what is asked to end may"


@pytest.mark.usefixtures("stand_ins")
def test_a_fault_is_heard_where_the_node_tells_it_and_ends_the_replay(bag):
    entities, _ = replay(bag=bag(camera="Image"), namespace="/left/")
    ears, emitted = [], []
    node = types.SimpleNamespace(create_subscription=lambda kind, topic, hear, depth: ears.append((topic, hear)))
    loop = types.SimpleNamespace(call_soon_threadsafe=lambda call, event: call(event))
    context = types.SimpleNamespace(
        node=node, asyncio_loop=loop, emit_event_sync=emitted.append, is_shutdown=False, locals=types.SimpleNamespace()
    )
    next(entity for entity in entities if entity.kind == "function").function(context)
    ((topic, hear),) = ears
    assert topic == "/diagnostics"

    def say(name, level, text):
        hear(types.SimpleNamespace(status=[types.SimpleNamespace(name=name, level=level, message=text)]))

    say("left/act: control", b"\x01", "NO_IMAGE: waiting")
    say("act: control", b"\x02", "of another node")
    assert emitted == []
    say("left/act: control", b"\x02", "IMAGE_STALE: too old -- look")
    (handler,) = (entity for entity in entities if entity.kind == "handler")
    assert handler.matcher(emitted[0])
    assert not handler.matcher(object())
    context.locals.event = emitted[0]
    with pytest.raises(RuntimeError, match="the act node has stopped: IMAGE_STALE: too old"):
        handler.entities[0].function(context)
    context.is_shutdown = True
    handler.entities[0].function(context)


# -- the middleware


FAST, CYCLONE = {"RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"}, {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}


@pytest.mark.usefixtures("stand_ins")
def test_the_middleware_is_set_up_for_images_unless_the_user_has_done_it(tmp_path):
    """Stock Fast DDS holds less than one image of 640 x 480."""
    variables = load("middleware.launch.py").variables
    for environment in ({}, {"RMW_IMPLEMENTATION": ""}, FAST):
        found = variables(environment, tmp_path, ROOT)
        assert set(found) == {"FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"}
        assert all(Path(path).is_file() for path in found.values())
    assert "SocketReceiveBufferSize" in variables(CYCLONE, tmp_path, ROOT)["CYCLONEDDS_URI"]
    assert variables({"RMW_IMPLEMENTATION": "rmw_zenoh_cpp"}, tmp_path, ROOT) == {}
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS"):
        assert variables(FAST | {name: "mine"}, tmp_path, ROOT) == {}
    assert variables(CYCLONE | {"CYCLONEDDS_URI": "mine"}, tmp_path, ROOT) == {}
    (tmp_path / "DEFAULT_FASTRTPS_PROFILES.xml").touch()
    assert variables(FAST, tmp_path, ROOT) == {}, "Fast DDS reads this file of the working directory"


def test_the_profile_of_fast_dds_holds_some_images_of_1080p_and_goes_on_with_the_network():
    root = ElementTree.parse(ROOT / "config" / "fastdds.xml").getroot()
    name = "{http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles}"
    assert int(root.find(f".//{name}segment_size").text) > 3 * 1920 * 1080 * 3
    defined = {node.text for node in root.iterfind(f"{name}transport_descriptors//{name}transport_id")}
    used = {node.text for node in root.iterfind(f".//{name}userTransports/{name}transport_id")}
    assert defined == used
    assert {node.text for node in root.iterfind(f".//{name}type")} == {"SHM", "UDPv4"}
    assert root.find(f"{name}participant").get("is_default_profile") == "true"


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
    assert {argument.name for argument in declared} == set(load(name).ARGUMENTS)
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
