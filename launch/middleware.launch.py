"""Settings of the middleware for camera images, for every node that is started after this file.

With its defaults Fast DDS loses images of 640 x 480 and more, Cyclone DDS those of 1280 x 720 (docs/two_machines.md,
"Large images"). The launch files of this package include this one; include it in yours before the camera's driver,
because on Fast DDS the setting is the publisher's. It is for rviz, rqt and recorders there: the act node hears images
by sockets, and sees to those itself.

    IncludeLaunchDescription(PythonLaunchDescriptionSource([
        get_package_share_directory("spec_vla_ros"), "/launch/middleware.launch.py"]))

Settings of your own are left alone, and so are other middlewares.
"""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import OpaqueFunction, SetEnvironmentVariable

ARGUMENTS = {}
DEFAULT = "rmw_fastrtps_cpp"  # where RMW_IMPLEMENTATION is not set
PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")  # the second from Kilted on
OWN = {  # any of these, and Fast DDS has been set up by the user
    "variables": (*PROFILES, "FASTDDS_BUILTIN_TRANSPORTS"),
    "files": ("DEFAULT_FASTRTPS_PROFILES.xml", "DEFAULT_FASTDDS_PROFILES.xml"),
}
# At most what net.core.rmem_max allows.
RECEIVE = (
    "<CycloneDDS><Domain Id='any'><Internal><SocketReceiveBufferSize max='16MB'/></Internal></Domain></CycloneDDS>"
)


def variables(environment, folder, share):
    """What to set. ``folder``: in which the nodes will run. ``share``: of this package."""
    middleware = environment.get("RMW_IMPLEMENTATION") or DEFAULT
    if "cyclonedds" in middleware:
        return {} if environment.get("CYCLONEDDS_URI") else {"CYCLONEDDS_URI": RECEIVE}
    own = any(environment.get(name) for name in OWN["variables"]) or any(
        (folder / name).exists() for name in OWN["files"]
    )
    if "fastrtps" not in middleware or own:
        return {}
    return dict.fromkeys(PROFILES, str(share / "config" / "fastdds.xml"))


def start(context):
    """Set them."""
    found = variables(os.environ, Path.cwd(), Path(get_package_share_directory("spec_vla_ros")))
    return [SetEnvironmentVariable(name, value) for name, value in found.items()]


def generate_launch_description():
    return LaunchDescription([OpaqueFunction(function=start)])
