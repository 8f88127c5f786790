"""Start the act node. Parameters come from a YAML file; an argument that is given (not empty) overrides it.

ros2 launch spec_vla_ros act.launch.py model:=openvla/openvla-7b unnorm_key:=bridge_orig instruction:="pick up the cup"
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue

ARGUMENTS = {
    "params_file": "YAML file with the node's parameters; empty = config/act.yaml of this package",
    "model": "checkpoint folder or hub id",
    "unnorm_key": "data set whose statistics turn actions into m and rad, for example bridge_orig",
    "policy": "openvla | scripted; scripted = canned moves that show whether frames and axes are right",
    "instruction": "initial instruction; the topic instruction replaces it",
    "dry_run": "true | false; true = nothing is sent to the arm",
    "autostart": "true | false; true = configure and activate without a lifecycle manager",
    "use_sim_time": "true | false; stamps follow /clock",
    "image": "camera topic (sensor_msgs/Image)",
    "delta_twist_cmds": "velocity topic, for example /servo_node/delta_twist_cmds",
    "gripper_command": "gripper topic (std_msgs/Float64, 1 = open)",
    "namespace": "namespace of the node",
    "log_level": "debug | info | warn | error",
}
TEXTS = ("model", "unnorm_key", "policy", "instruction")
SWITCHES = ("dry_run", "autostart", "use_sim_time")
TOPICS = ("image", "delta_twist_cmds", "gripper_command")


def start(context):
    """Build the node from the arguments that were given."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    overrides = {name: ParameterValue(given[name], value_type=str) for name in TEXTS if given[name]}
    overrides |= {name: ParameterValue(given[name], value_type=bool) for name in SWITCHES if given[name]}
    default = Path(get_package_share_directory("spec_vla_ros"), "config", "act.yaml")
    node = LifecycleNode(
        package="spec_vla_ros",
        executable="act",
        name="act",
        namespace=given["namespace"],
        output="screen",
        parameters=[given["params_file"] or str(default), *([overrides] if overrides else [])],
        remappings=[(name, given[name]) for name in TOPICS if given[name]],
        arguments=["--ros-args", "--log-level", given["log_level"]] if given["log_level"] else [],
    )
    return [node]


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument(name, default_value="", description=f"{text}; empty = as in params_file")
        if name in TEXTS + SWITCHES
        else DeclareLaunchArgument(name, default_value="", description=text)
        for name, text in ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])
