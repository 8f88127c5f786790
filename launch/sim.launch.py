"""The simulated table top and the act node that drives it with the small checkpoint of this package.

ros2 launch spec_vla_ros sim.launch.py instruction:="pick up the red block"
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

ARGUMENTS = {
    "params_file": ("", "YAML file with the act node's parameters; empty = config/sim.yaml of this package"),
    "model": ("", "checkpoint; empty = the small one of this package"),
    "policy": ("", "openvla | scripted; empty = as in params_file"),
    "instruction": ("pick up the red block", "initial instruction; the topic instruction replaces it"),
    "dry_run": ("", "true | false; empty = as in params_file: false, for nothing can break here"),
    "autostart": ("", "true | false; false = wait for ros2 lifecycle set; empty = as in params_file: true"),
    "use_sim_time": ("", "true | false; true = the arm publishes /clock and all stamps follow it; empty = false"),
    "namespace": ("", "namespace of both nodes"),
    "tf_prefix": ("", "put in front of all frames; empty = the namespace and a slash, since /tf is shared by all"),
    "log_level": ("info", "debug | info | warn | error, of both nodes"),
}
SMALL_CHECKPOINT = "tabletop"


def parameter_file(text):
    """The path that ``text`` means, if there is such a file; else the arm would be up before act.launch.py refuses."""
    path = Path(text).expanduser()
    if text and not path.is_file():
        raise RuntimeError(f"params_file:={text}: there is no such file")
    return str(path) if text else ""


def start(context):
    """Start both nodes; the act node waits for the first image."""
    share = Path(get_package_share_directory("spec_vla_ros"))
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    given["params_file"] = parameter_file(given["params_file"]) or str(share / "config" / "sim.yaml")
    given["model"] = given["model"] or str(share / "models" / SMALL_CHECKPOINT)
    clock, space = given["use_sim_time"].lower() == "true", given["namespace"].strip("/")
    given["tf_prefix"] = given["tf_prefix"] or (f"{space}/" if space else "")
    own = {"publish_clock": True} if clock else {}
    if given["tf_prefix"]:
        own["tf_prefix"] = ParameterValue(given["tf_prefix"], value_type=str)
    arm = Node(
        package="spec_vla_ros",
        executable="tabletop_arm",
        name="tabletop_arm",
        namespace=given["namespace"],
        output="screen",
        parameters=[own] if own else [],
        arguments=["--ros-args", "--log-level", given["log_level"]],
    )
    act = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share / "launch" / "act.launch.py")),
        launch_arguments=given.items(),
    )
    middleware = str(share / "launch" / "middleware.launch.py")
    return [IncludeLaunchDescription(PythonLaunchDescriptionSource(middleware)), arm, act]


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])
