"""The processes of the node on Fast DDS: by sockets, unless the user has decided otherwise."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from spec_vla_ros.installed import share_path
from spec_vla_ros.node.fast_dds import PROFILES, RANGE, unsure, variables

FAST, CYCLONE = "rmw_fastrtps_cpp", "rmw_cyclonedds_cpp"


def of(tmp_path, middleware=FAST, **environment):
    return variables(middleware, environment, tmp_path, share_path)


def why(tmp_path, middleware=FAST, **environment):
    return unsure(middleware, environment, tmp_path, share_path)


def transports(path):
    tree = ET.parse(path)
    return [one.text for one in tree.iter() if one.tag.endswith("}type")]


@pytest.mark.parametrize("scope", [None, "SUBNET", "SYSTEM_DEFAULT", "LOCALHOST", "localhost"])
@pytest.mark.parametrize("images", [False, True])
def test_there_is_no_shared_memory_between_the_node_and_whoever_starts(tmp_path, scope, images):
    environment = {} if scope is None else {RANGE: scope}
    if images:  # launch/middleware.launch.py has set it for all processes
        environment |= dict.fromkeys(PROFILES, str(share_path("config/fastdds.xml")))
    found = of(tmp_path, **environment)
    assert {transport for name in PROFILES for transport in transports(found[name])} == {"UDPv4"}
    assert transports(share_path("config/fastdds.xml")) == ["SHM", "UDPv4"], "or this test says nothing"
    local = scope is not None and scope.upper() == "LOCALHOST"
    assert found.get(RANGE) == ("SYSTEM_DEFAULT" if local else None), "rmw adds shared memory for LOCALHOST"
    text = Path(found[PROFILES[0]]).read_text()
    assert ("127.0.0.1" in text) == local, "found by nobody but this machine, as asked for"
    assert why(tmp_path, **environment) == ""
    assert of(tmp_path, **environment | found) == found, "the safety process inherits it, and is not asked twice"
    assert why(tmp_path, **environment | found) == ""


@pytest.mark.parametrize("scope", ["SUBNET", "LOCALHOST"])
def test_images_have_room_in_the_socket_in_place_of_shared_memory(tmp_path, scope):
    """With the sockets of most kernels two of three images of 1280 x 720 were lost."""
    tree = ET.parse(of(tmp_path, **{RANGE: scope})[PROFILES[0]])
    sizes = [int(one.text) for one in tree.iter() if one.tag.endswith("}receiveBufferSize")]
    assert sizes == [16 * 2**20]


@pytest.mark.parametrize("scope", ["SUBNET", "LOCALHOST"])
def test_the_act_node_says_so_before_it_joins_the_graph(tmp_path, monkeypatch, scope):
    """It stood still for 0.33 s whenever a process was started, and the arm by NODE_SILENT."""
    from spec_vla_ros.node import act_node, middleware

    images = dict.fromkeys(PROFILES, str(share_path("config/fastdds.xml")))  # as act.launch.py leaves it
    for name, value in {**images, RANGE: scope}.items():
        monkeypatch.setenv(name, value)
    seen = {}
    monkeypatch.setattr(sys, "setswitchinterval", lambda seconds: None)
    monkeypatch.setattr(middleware, "surroundings", lambda: (FAST, os.environ, tmp_path, share_path))
    monkeypatch.setattr(act_node.process, "run", lambda *how: seen.update(os.environ))
    monkeypatch.setattr(act_node.process, "leave", lambda status: None)
    act_node.main([])
    assert transports(seen[PROFILES[0]]) == ["UDPv4"]
    assert seen[RANGE] == ("SYSTEM_DEFAULT" if scope == "LOCALHOST" else scope)


@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({PROFILES[0]: "/etc/mine.xml"}, PROFILES[0]),
        ({PROFILES[1]: "/etc/mine.xml"}, PROFILES[1]),
        ({"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}, "LARGE_DATA"),
        ({"ROS_LOCALHOST_ONLY": "1"}, "ROS_LOCALHOST_ONLY"),
        ({RANGE: "LOCALHOST", "ROS_STATIC_PEERS": "10.0.0.2"}, "ROS_STATIC_PEERS"),
        ({RANGE: "OFF"}, "OFF"),
        ({"ROS2_EASY_MODE": "127.0.0.1"}, "ROS2_EASY_MODE"),
        ({"ROS_LOCALHOST_ONLY": "1", "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}, "ROS_LOCALHOST_ONLY"),
        ({RANGE: "LOCALHOST", "FASTDDS_BUILTIN_TRANSPORTS": "UDPv6"}, "UDPv6"),
    ],
)
def test_what_the_user_has_set_up_stays_and_what_that_may_cost_is_said(tmp_path, environment, word):
    assert of(tmp_path, **environment) == {}
    assert word in why(tmp_path, **environment)
    assert why(tmp_path, CYCLONE, **environment) == ""


def test_sockets_that_the_user_has_chosen_are_as_good(tmp_path):
    assert of(tmp_path, FASTDDS_BUILTIN_TRANSPORTS="UDPv4") == {}
    assert why(tmp_path, FASTDDS_BUILTIN_TRANSPORTS="UDPv4") == ""


@pytest.mark.parametrize("more", [{RANGE: "LOCALHOST"}, dict.fromkeys(PROFILES, str(share_path("config/fastdds.xml")))])
def test_sockets_that_have_no_effect_are_not_relied_upon(tmp_path, more):
    """A profile goes before them, and for LOCALHOST rmw brings shared memory of its own."""
    found = of(tmp_path, FASTDDS_BUILTIN_TRANSPORTS="UDPv4", **more)
    assert "fastdds_act" in found[PROFILES[0]]
    assert found[PROFILES[0]] == found[PROFILES[1]]


@pytest.mark.parametrize(
    ("environment", "local"),
    [
        ({RANGE: "subnet"}, True),  # which ROS 2 takes for LOCALHOST, as everything that it does not know
        ({RANGE: "of this machine"}, True),
        ({RANGE: "LOCALHOST", "ROS_DISTRO": "humble"}, False),  # which does not read it: nobody else would be local
    ],
)
def test_the_range_is_read_as_ros_reads_it(tmp_path, environment, local):
    found = of(tmp_path, **environment)
    assert found.get(RANGE) == ("SYSTEM_DEFAULT" if local else None)
    assert ("localhost" in Path(found[PROFILES[0]]).name) == local


def test_a_profile_beside_the_process_is_one_of_the_user(tmp_path):
    (tmp_path / "DEFAULT_FASTRTPS_PROFILES.xml").write_text("<profiles/>")
    assert of(tmp_path) == {}
    assert "DEFAULT_FASTRTPS_PROFILES.xml" in why(tmp_path)


def test_other_middlewares_are_left_alone(tmp_path):
    assert of(tmp_path, CYCLONE) == {}


def test_an_installation_without_the_file_says_so(tmp_path):
    def nowhere(name):
        raise FileNotFoundError(f"{name} is nowhere")

    assert variables(FAST, {}, tmp_path, nowhere) == {}
    assert "fastdds_act.xml is nowhere" in unsure(FAST, {}, tmp_path, nowhere)


@pytest.mark.skipif(
    not os.environ.get("RMW_IMPLEMENTATION", "").startswith("rmw_fastrtps"), reason="no ROS 2 on Fast DDS is sourced"
)
def test_the_running_processes_have_opened_no_shared_memory(world, act):
    """Asked of the kernel, because a profile that is not read is no error of Fast DDS."""
    node = act(policy="scripted", autostart="true", dry_run="false", image_timeout="5.0", heartbeat_timeout="5.0",
               script_delay="0.0", arm_timeout="0.0", instruction="go on")  # fmt: skip
    world.until(lambda: len(world.actions) >= 2, 60, "actions")
    found = subprocess.run(["pgrep", "-P", str(node.pid)], capture_output=True, text=True, check=True)
    assert len(found.stdout.split()) == 1, "the safety process"
    for pid in (node.pid, *found.stdout.split()):
        assert "/dev/shm/fastrtps_" not in Path(f"/proc/{pid}/maps").read_text()
    assert "/dev/shm/fastrtps_" in Path("/proc/self/maps").read_text(), "or this test says nothing"
