"""Play a bag against the real node in a dry run: what would it have done with these images?

ros2 launch spec_vla_ros replay.launch.py bag:=my_bag model:=openvla/openvla-7b unnorm_key:=bridge_orig \
    instruction:="pick up the cup"

Recorded images carry recorded stamps, so the node has to live in recorded time: the bag's player publishes /clock. One
round: player up but paused (the clock stands at the beginning), node activated, player resumed, bag ended, node
deactivated. So no image is lost to the loading of the model, and the clock never goes back while the node is active.
Nothing but the camera's topic is played: what was commanded then must not reach an arm now.
"""

from pathlib import Path

import yaml
from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState, StateTransition
from lifecycle_msgs.msg import Transition

ARGUMENTS = {
    "bag": ("", "folder that ros2 bag record made, or an .mcap or .db3 file"),
    "image": ("", "camera topic in the bag; empty = the only one there is"),
    "rate": ("1.0", "how many recorded seconds pass in a second"),
    "start_offset": ("0.0", "s of the bag that are skipped"),
    "loop": ("false", "true | false; true = start over when the bag ends, until Ctrl-C"),
    "instruction": ("", "what the arm is told; empty = as in params_file, and without any the node holds"),
    "model": ("", "checkpoint folder or hub id; empty = as in params_file"),
    "draft": ("", "folder with draft heads trained for this model; empty = as in params_file"),
    "unnorm_key": ("", "data set whose statistics turn actions into m and rad; empty = as in params_file"),
    "policy": ("", "openvla | scripted; empty = as in params_file"),
    "params_file": ("", "YAML file with the node's parameters; empty = config/act.yaml of this package"),
    "namespace": ("", "namespace of the node"),
    "log_level": ("info", "debug | info | warn | error"),
}
PASSED_ON = ("instruction", "model", "draft", "unnorm_key", "policy", "params_file", "namespace", "log_level")
IMAGES = {"sensor_msgs/msg/Image": "raw", "sensor_msgs/msg/CompressedImage": "compressed"}
PLAYER = "/rosbag2_player"
CLOCK = "100"  # Hz


def find_bag(text):
    """The bag's path; raises with what is wrong."""
    path = Path(text).expanduser()
    if not text:
        raise RuntimeError("bag:= is missing: the folder that ros2 bag record made, or an .mcap or .db3 file")
    if not path.exists():
        raise RuntimeError(f"bag:={text}: there is no such folder or file")
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        raise RuntimeError(f"bag:={text}: the folder has no metadata.yaml, so it is no bag (or needs ros2 bag reindex)")
    return path


def camera_topic(bag, wanted):
    """(topic in the bag, name for the node's topic image, its transport); raises if it is not clear which one.

    A single file has no metadata beside it: what was asked for is taken as it is, its transport by its name.
    """
    metadata = bag / "metadata.yaml"
    if not metadata.is_file():
        if not wanted:
            raise RuntimeError(f"image:= is missing: {bag.name} is a single file, and ros2 bag info lists its topics")
        found = {wanted: "compressed" if wanted.endswith("/compressed") else "raw"}
    else:
        listed = yaml.safe_load(metadata.read_text())["rosbag2_bagfile_information"]["topics_with_message_count"]
        kinds = {entry["topic_metadata"]["name"]: entry["topic_metadata"]["type"] for entry in listed}
        found = {name: IMAGES[kind] for name, kind in kinds.items() if kind in IMAGES}
        there = ", ".join(sorted(found)) or "none"
        if wanted and wanted not in found:
            raise RuntimeError(f"image:={wanted} is no image topic of the bag; image topics: {there}")
        if not wanted and len(found) != 1:
            raise RuntimeError(f"image:= has to say which topic of the bag is the camera; image topics: {there}")
    topic = wanted or next(iter(found))
    transport = found[topic]
    if transport == "compressed" and not topic.endswith("/compressed"):
        raise RuntimeError(f"{topic} is compressed but not named <image>/compressed: remap it while recording")
    return topic, topic.removesuffix("/compressed") if transport == "compressed" else topic, transport


def is_act(node):
    """Whether a lifecycle node of this launch is the one of this file."""
    return node.node_name.rsplit("/", 1)[-1] == "act"


def change(transition):
    return EmitEvent(event=ChangeState(lifecycle_node_matcher=is_act, transition_id=transition))


def reached(state, entities, before=None):
    """``entities`` whenever the node reaches ``state`` (from ``before``)."""

    def matches(event):
        return (
            isinstance(event, StateTransition)
            and is_act(event.action)
            and event.goal_state == state
            and before in (None, event.start_state)
        )

    return RegisterEventHandler(OnStateTransition(matcher=matches, entities=entities))


def start(context):
    """The node, and what makes it and the player take turns."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    bag = find_bag(given["bag"])
    topic, image, transport = camera_topic(bag, given["image"])
    share = Path(get_package_share_directory("spec_vla_ros"))
    act = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share / "launch" / "act.launch.py")),
        launch_arguments=[
            *((name, given[name]) for name in PASSED_ON),
            ("arm", str(share / "config" / "replay.yaml")),  # beats params_file, is beaten by the next four
            ("image", image),
            ("image_transport", transport),
            ("dry_run", "true"),
            ("use_sim_time", "true"),
            ("autostart", "false"),
        ],
    )

    def begin(context):
        """Start a player of this round, paused, and activate the node as soon as it answers."""
        player = ExecuteProcess(
            cmd=[
                *("ros2", "bag", "play", str(bag), "--topics", topic, "--clock", CLOCK, "--start-paused"),
                *("--rate", given["rate"], "--start-offset", given["start_offset"], "--disable-keyboard-controls"),
            ],
            output="screen",
            on_exit=over,
        )
        answers = ExecuteProcess(
            cmd=["ros2", "service", "call", f"{PLAYER}/is_paused", "rosbag2_interfaces/srv/IsPaused"],
            output="log",
            on_exit=[change(Transition.TRANSITION_ACTIVATE)],
        )
        return [player, answers]

    def over(event, context):
        """The player has ended: with the bag, or because it could not play it."""
        if context.is_shutdown:
            return []
        if event.returncode:
            return [Shutdown(reason=f"ros2 bag play failed ({event.returncode}); its message is above")]
        return [change(Transition.TRANSITION_DEACTIVATE)]

    def resume(context):
        """Let the player go on; the service answers at once."""
        command = ["ros2", "service", "call", f"{PLAYER}/resume", "rosbag2_interfaces/srv/Resume"]
        return [ExecuteProcess(cmd=command, output="log")]

    again = OpaqueFunction(function=begin) if given["loop"].lower() == "true" else Shutdown(reason="the bag has ended")
    return [
        reached("inactive", [OpaqueFunction(function=begin)], before="configuring"),
        reached("unconfigured", [Shutdown(reason="the act node could not be configured")], before="configuring"),
        reached("active", [OpaqueFunction(function=resume)]),
        reached("inactive", [Shutdown(reason="the act node could not be activated")], before="activating"),
        reached("inactive", [again], before="deactivating"),
        act,
        change(Transition.TRANSITION_CONFIGURE),
    ]


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])
