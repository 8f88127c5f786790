"""Start the act node. Parameters come from YAML files; an argument that is given (not empty) overrides them.

ros2 launch spec_vla_ros act.launch.py arm:=ur model:=openvla/openvla-7b unnorm_key:=bridge_orig \
    image:=/camera/image_raw instruction:="pick up the cup"

Later beats earlier: params_file (or config/act.yaml), the file of the arm, the single arguments. The file of an arm is
an ordinary ROS parameter file with one section more, "topics", which this launch file reads: what is remapped to what.
"""

from pathlib import Path

import yaml
from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue

AS_IN_FILES = "; empty = as in params_file and the file of the arm"
# argument: (parameter, type, description)
PARAMETERS = {
    "model": ("model", str, "checkpoint folder or hub id"),
    "draft": ("draft_heads", str, "folder with draft heads trained for this model"),
    "unnorm_key": ("unnorm_key", str, "data set whose statistics turn actions into m and rad, for example bridge_orig"),
    "policy": ("policy", str, "openvla | scripted; scripted = canned moves that show whether frames and axes fit"),
    "script": ("script", str, "axes | still | nan | rehearse; what policy:=scripted plays"),
    "instruction": ("instruction", str, "initial instruction; the topic instruction replaces it"),
    "image_transport": ("image_transport", str, "raw | compressed; compressed subscribes to <image>/compressed"),
    "tf_prefix": ("tf_prefix", str, "put in front of base_frame, command_frame and tool_frame, for example left/"),
    "step_dt": ("step_dt", float, "s that one action takes; 0.0 = the period of the data set, where it is known"),
    "dry_run": ("dry_run", bool, "true | false; true = nothing is sent to the arm"),
    "autostart": ("autostart", bool, "true | false; true = configure and activate without a lifecycle manager"),
    "future_tolerance": ("future_tolerance", float, "s that an image's stamp may lie ahead of the node's clock"),
    "record_to": ("record_to", str, "folder that gets one bag per executed instruction; see docs/recording.md"),
    "use_sim_time": ("use_sim_time", bool, "true | false; stamps follow /clock"),
}
TOPICS = {
    "image": "camera topic (sensor_msgs/Image), without /compressed",
    "delta_twist_cmds": "velocity topic (geometry_msgs/TwistStamped), for example /servo_node/delta_twist_cmds",
    "gripper_command": "gripper topic (std_msgs/Float64, 1 = open)",
    "gripper_cmd": "gripper action (control_msgs/GripperCommand), with gripper_interface: action",
}
OTHERS = {
    "params_file": "YAML file with the node's parameters; empty = config/act.yaml of this package",
    "arm": "name of a file in config/arms without .yaml (ur, franka, xarm, tabletop) or the path of a YAML file; "
    "empty = no arm's parameters and topics",
    "namespace": "namespace of the node; empty = none",
    "log_level": "debug | info | warn | error; empty = info",
}
ARGUMENTS = (
    {name: text + AS_IN_FILES for name, (_, _, text) in PARAMETERS.items()}
    | {name: f"{text}; empty = as in the file of the arm" for name, text in TOPICS.items()}
    | OTHERS
)
# An action is five names on the wire, and a rule for the action's own name covers none of them (rcl_action in Jazzy).
ACTION_PARTS = ("send_goal", "cancel_goal", "get_result", "feedback", "status")


def parameter_file(text):
    """The path that ``text`` means, if there is such a file; launch would start the node on its defaults."""
    path = Path(text).expanduser()
    if text and not path.is_file():
        raise RuntimeError(f"params_file:={text}: there is no such file")
    return str(path) if text else ""


def arm_file(arm, folder):
    """The YAML file that the argument ``arm`` means, or None; raises for a name that is neither there nor a path."""
    if not arm:
        return None
    if arm.endswith((".yaml", ".yml")):
        path = Path(arm).expanduser()
        if not path.is_file():
            raise RuntimeError(f"arm:={arm}: there is no such file")
        return path
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if arm not in known:
        raise RuntimeError(f"arm:={arm} is none of {', '.join(known)}; a file of your own is given with its path")
    return folder / f"{arm}.yaml"


def topics_of(path):
    """What the file of an arm remaps: {topic of the node: topic of the arm}."""
    section = (yaml.safe_load(path.read_text()) or {}).get("topics") or {}
    topics = section.get("ros__parameters") or {}
    if unknown := sorted(set(topics) - set(TOPICS)):
        raise RuntimeError(f"{path}: topics knows {', '.join(TOPICS)}, not {', '.join(unknown)}")
    return topics


def remappings(topics):
    """Rules for launch: one for a topic, one for each part of an action."""
    rules = [(name, target) for name, target in topics.items() if name != "gripper_cmd"]
    if action := topics.get("gripper_cmd"):
        rules += [(f"gripper_cmd/_action/{part}", f"{action}/_action/{part}") for part in ACTION_PARTS]
    return rules


def typed(argument, kind, text):
    """The value of a parameter. A text stays one even if YAML would read it as something else, such as "yes"."""
    if kind is str:
        return ParameterValue(text, value_type=str)
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise RuntimeError(f"{argument}:={text} is neither true nor false")
        return text.lower() == "true"
    try:
        return float(text)
    except ValueError:
        raise RuntimeError(f"{argument}:={text} is no number") from None


def start(context):
    """Build the node from the arguments that were given."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    share = Path(get_package_share_directory("spec_vla_ros"))
    config = share / "config"
    arm = arm_file(given["arm"], config / "arms")
    files = [parameter_file(given["params_file"]) or str(config / "act.yaml"), *([str(arm)] if arm else [])]
    single = {
        parameter: typed(name, kind, given[name]) for name, (parameter, kind, _) in PARAMETERS.items() if given[name]
    }
    topics = (topics_of(arm) if arm else {}) | {name: given[name] for name in TOPICS if given[name]}
    node = LifecycleNode(
        package="spec_vla_ros",
        executable="act",
        name="act",
        namespace=given["namespace"],
        output="screen",
        parameters=[*files, *([single] if single else [])],
        remappings=remappings(topics),
        arguments=["--ros-args", "--log-level", given["log_level"]] if given["log_level"] else [],
    )
    middleware = str(share / "launch" / "middleware.launch.py")
    return [IncludeLaunchDescription(PythonLaunchDescriptionSource(middleware)), node]


def generate_launch_description():
    arguments = [DeclareLaunchArgument(name, default_value="", description=text) for name, text in ARGUMENTS.items()]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])
