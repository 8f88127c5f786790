"""Play a bag against the real node in a dry run: what would it have done with these images?

ros2 launch spec_vla_ros replay.launch.py bag:=my_bag model:=openvla/openvla-7b unnorm_key:=bridge_orig \
    instruction:="pick up the cup"

Recorded images carry recorded stamps, so the node has to live in recorded time: the bag's player publishes /clock. One
round: player up but paused (the clock stands at the beginning), node activated, player resumed, bag ended, node
deactivated. So no image is lost to the loading of the model, and the clock never goes back while the node is active.
Nothing but the camera's topic is played: what was commanded then must not reach an arm now.

The exit status is 1 where the node has stopped with a fault, could not be configured or activated, or has died, and
where the bag could not be played; launch says which ("Caught exception in launch").
"""

import threading
from pathlib import Path

import yaml
from ament_index_python.packages import get_package_share_directory
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from launch import Event, EventHandler, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState, StateTransition
from launch_ros.ros_adapters import get_ros_node
from lifecycle_msgs.msg import Transition
from rosbag2_interfaces.srv import IsPaused, Resume

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
PATIENCE = 2.0  # s for the player to answer before it is asked again
TOLERANCE, LAG = 0.05, 1.0  # s that an image may be ahead of the clock, on a robot; s by which /clock may come late
LARGEST_TOLERANCE = 5.0  # s, range of future_tolerance
SLOWEST = 0.1  # below that, images of 2 Hz are further apart than image_timeout can be set


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


def playing_rate(text):
    """The argument ``rate`` as a number; raises for one at which nothing could be played."""
    try:
        rate = float(text)
    except ValueError:
        raise RuntimeError(f"rate:={text} is no number") from None
    if not SLOWEST <= rate < float("inf"):
        raise RuntimeError(f"rate:={text} must be at least {SLOWEST}: images would be further apart than image_timeout")
    return rate


def future_tolerance(rate):
    """By how much (s) an image may be ahead of the node's clock: /clock is late by what it takes, times ``rate``.

    Nothing depends on an image's age here, since nothing moves.
    """
    return round(min(LARGEST_TOLERANCE, TOLERANCE + LAG * rate), 3)


class Stopped(Event):
    """The act node says that it has stopped."""

    name = "spec_vla_ros.Stopped"

    def __init__(self, text):
        self.text = text


def fail(text):
    """End the launch with the exit status 1; launch has no other way to say that than an exception."""

    def raising(context):
        raise RuntimeError(text)

    return OpaqueFunction(function=raising)


def watch(namespace):
    """Have a fault of the act node end the launch. It says so in /diagnostics, also if nothing is logged."""
    name = f"{namespace.strip('/')}/act: control".lstrip("/")

    def begin(context):
        def hear(message):
            for status in message.status:
                if status.name == name and status.level == DiagnosticStatus.ERROR:
                    context.asyncio_loop.call_soon_threadsafe(context.emit_event_sync, Stopped(status.message))

        get_ros_node(context).create_subscription(DiagnosticArray, "/diagnostics", hear, 10)

    return OpaqueFunction(function=begin)


def stopped(context):
    """What :func:`watch` has heard ends the launch; the first time."""
    if not context.is_shutdown:
        raise RuntimeError(f"the act node has stopped: {context.locals.event.text}")


def died(event, context):
    """The process of the act node has ended, which it does not do by itself."""
    return None if context.is_shutdown else fail(f"the act node has ended (exit status {event.returncode})")


def is_act(node):
    """Whether an action of this launch is the node of this file."""
    return getattr(node, "node_name", "").rsplit("/", 1)[-1] == "act"


def to(transition):
    """The event that asks the act node for a transition."""
    return ChangeState(lifecycle_node_matcher=is_act, transition_id=transition)


def change(transition):
    return EmitEvent(event=to(transition))


def ask(kind, service, then=None):
    """Call a service of the player, without arguments, until it answers; then emit the event ``then``.

    Not by the command line, which takes seconds to start and to find the player, while the clock stands still.
    """

    def call(context):
        client = get_ros_node(context).create_client(kind, f"{PLAYER}/{service}")
        while not context.is_shutdown:
            if not client.wait_for_service(timeout_sec=0.5):
                continue
            answered = threading.Event()
            client.call_async(kind.Request()).add_done_callback(lambda future, answered=answered: answered.set())
            if answered.wait(PATIENCE):
                break
        if then is not None and not context.is_shutdown:
            context.asyncio_loop.call_soon_threadsafe(context.emit_event_sync, then)

    def begin(context):
        context.add_completion_future(context.asyncio_loop.run_in_executor(None, call, context))

    return OpaqueFunction(function=begin)


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
    bag, rate = find_bag(given["bag"]), playing_rate(given["rate"])
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
            ("future_tolerance", str(future_tolerance(rate))),
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
        return [player, ask(IsPaused, "is_paused", then=to(Transition.TRANSITION_ACTIVATE))]

    def over(event, context):
        """The player has ended: with the bag, or because it could not play it."""
        if context.is_shutdown:
            return []
        if event.returncode:
            return [fail(f"ros2 bag play failed ({event.returncode}); its message is above")]
        return [change(Transition.TRANSITION_DEACTIVATE)]

    again = OpaqueFunction(function=begin) if given["loop"].lower() == "true" else Shutdown(reason="the bag has ended")
    return [
        reached("inactive", [OpaqueFunction(function=begin)], before="configuring"),
        reached(
            "unconfigured", [fail("the act node could not be configured; why, it says above")], before="configuring"
        ),
        reached("active", [ask(Resume, "resume")]),
        reached("inactive", [fail("the act node could not be activated; why, it says above")], before="activating"),
        reached("inactive", [again], before="deactivating"),
        RegisterEventHandler(
            EventHandler(matcher=lambda event: isinstance(event, Stopped), entities=[OpaqueFunction(function=stopped)])
        ),
        RegisterEventHandler(OnProcessExit(target_action=is_act, on_exit=died)),
        watch(given["namespace"]),
        act,
        change(Transition.TRANSITION_CONFIGURE),
    ]


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])
