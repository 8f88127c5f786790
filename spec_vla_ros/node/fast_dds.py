"""What Fast DDS is told for the processes of this node: no shared memory.

A process that opens the shared memory of another one, which every publisher does as soon as a process is started on
this machine, waits until that one has looked at it, for up to 0.33 s, and holds the locks of its own publishers and
readers meanwhile (``healthy_check`` of Fast DDS, a third of its time-out of 1 s; the time-out is that of the process
that starts, so no profile of ours shortens it). rclpy holds Python's lock as well while it publishes or takes, so that
no thread of this process could go on. The safety process would leave an arm to what it was told last, and the act
node would miss its heartbeat. Sockets carry all of it; for images they are given room. No ROS.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")  # the second from Kilted on
TRANSPORTS = "FASTDDS_BUILTIN_TRANSPORTS"
FILES = ("DEFAULT_FASTRTPS_PROFILES.xml", "DEFAULT_FASTDDS_PROFILES.xml")  # that are read where the process runs
RANGE, LOCALHOST_ONLY, PEERS = "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY", "ROS_STATIC_PEERS"
EASY_MODE = "ROS2_EASY_MODE"  # of Fast DDS 3: transports of its own
SUBNET, LOCAL = "config/fastdds_act.xml", "config/fastdds_act_localhost.xml"  # ours
IMAGES = "config/fastdds.xml"  # of drivers; launch/middleware.launch.py sets it for all that is started after it


def variables(
    middleware: str, environment: Mapping[str, str], folder: Path, share: Callable[[str], Path]
) -> dict[str, str]:
    """What to set before a process joins the graph; empty for another middleware, and where :func:`unsure` says why.

    ``middleware``: its identifier. ``folder``: in which the process runs. ``share``: finds a file of this package;
    raises ``FileNotFoundError``. Where it has been set already, the same again.
    """
    if not middleware.startswith("rmw_fastrtps") or unsure(middleware, environment, folder, share):
        return {}
    if environment.get(TRANSPORTS) and _builtin(environment):
        return {}  # sockets alone, which the user has chosen himself
    found = dict.fromkeys(PROFILES, str(share(_profile(environment))))
    return {**found, RANGE: "SYSTEM_DEFAULT"} if _profile(environment) == LOCAL else found


def unsure(middleware: str, environment: Mapping[str, str], folder: Path, share: Callable[[str], Path]) -> str:
    """Why shared memory may stay in use on Fast DDS, for people; empty where it does not."""
    if not middleware.startswith("rmw_fastrtps"):
        return ""
    for name in PROFILES:
        if (set_to := environment.get(name)) and not _ours(set_to, share):
            return f"{name} is set to a file of yours"
    for file in FILES:
        if (folder / file).exists():
            return f"{file} is in {folder}"
    if environment.get(EASY_MODE):
        return f"{EASY_MODE} is set"
    if environment.get(LOCALHOST_ONLY) == "1":
        return f"{LOCALHOST_ONLY} is 1"
    if _scope(environment) == "OFF":
        return f"{RANGE} is OFF"
    if _local(environment) and environment.get(PEERS):
        return f"{RANGE} is {environment[RANGE]}, which allows this machine alone, with {PEERS}"
    transports = environment.get(TRANSPORTS, "")
    if transports and transports != "UDPv4" and not (transports == "UDPv6" and _builtin(environment)):
        return f"{TRANSPORTS} is {transports}"
    try:
        share(_profile(environment))
    except FileNotFoundError as error:
        return str(error)
    return ""


def _scope(environment: Mapping[str, str]) -> str:
    """The range of discovery as ROS 2 reads it: what it does not know, words in small letters among them, is LOCALHOST.
    Humble reads none.
    """
    said = environment.get(RANGE, "")
    if not said or environment.get("ROS_DISTRO") == "humble":
        return "SUBNET"
    return said if said in ("SUBNET", "OFF", "SYSTEM_DEFAULT") else "LOCALHOST"


def _local(environment: Mapping[str, str]) -> bool:
    return _scope(environment) == "LOCALHOST"


def _builtin(environment: Mapping[str, str]) -> bool:
    """Whether ``TRANSPORTS`` means anything: a profile with transports goes before it, LOCALHOST brings its own, and
    the Fast DDS of Humble does not know it.
    """
    profile = any(environment.get(name) for name in PROFILES)
    return not (profile or _local(environment) or environment.get("ROS_DISTRO") == "humble")


def _profile(environment: Mapping[str, str]) -> str:
    told = any(Path(environment.get(name, "")).name == Path(LOCAL).name for name in PROFILES)  # that it is, before
    return LOCAL if told or _local(environment) else SUBNET


def _ours(path: str, share: Callable[[str], Path]) -> bool:
    for name in (IMAGES, SUBNET, LOCAL):
        with contextlib.suppress(OSError):
            if Path(path).samefile(share(name)):
                return True
    return False
