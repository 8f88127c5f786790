"""A real ROS 2 uses the embedded node: its command line finds it, tunes it, drives its lifecycle and hears it.

Needs a sourced ROS 2 with rmw_cyclonedds_cpp (services do not cross DDS vendors) and a Python in which the embedded
runtime is installed; ``make test`` makes one in ``.venv``.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PREFIXES = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
# No daemon: it would keep what it found in another test's domain.
LOOK = ("--no-daemon", "--spin-time", "4")


def without_ros():
    """The environment that a machine without ROS 2 would have."""
    kept = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "AMENT_PREFIX_PATH"}}
    return {**kept, "PYTHONPATH": str(ROOT)}


def embedded_python():
    """An interpreter in which rclpy is the embedded one, or None."""
    probe = "from spec_vla_ros.embedded_ros.doorway import ensure_rclpy; assert ensure_rclpy() == 'embedded'"
    for python in (sys.executable, str(ROOT / ".venv" / "bin" / "python")):
        if Path(python).exists():
            done = subprocess.run([python, "-c", probe], env=without_ros(), capture_output=True, check=False)
            if done.returncode == 0:
                return python
    return None


pytestmark = [
    pytest.mark.ros,
    pytest.mark.skipif(shutil.which("ros2") is None, reason="no ROS 2 is sourced"),
    pytest.mark.skipif(
        not any(Path(prefix, "share", "rmw_cyclonedds_cpp").is_dir() for prefix in PREFIXES),
        reason="the sourced ROS 2 has no rmw_cyclonedds_cpp",
    ),
    pytest.mark.skipif(
        os.environ.get("ROS_DISTRO") == "humble",
        reason="Humble announces nodes with identifiers of 24 bytes, the embedded runtime and all later with 16",
    ),
]


def ros2(*words, timeout=60):
    """Run the real command line; its output, errors included."""
    environment = {**os.environ, "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}
    done = subprocess.run(
        ["ros2", *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout,
        check=False,
    )  # fmt: skip
    return done.stdout


@pytest.fixture(scope="module")
def act(tmp_path_factory):
    """The embedded act node, unconfigured, with a policy that needs no model."""
    python = embedded_python()
    if python is None:
        pytest.skip("no Python with the embedded runtime; make test creates .venv")
    log = tmp_path_factory.mktemp("cross") / "act.log"
    program = "import sys; from spec_vla_ros.node.act_node import main; sys.exit(main())"
    values = {"policy": "scripted", "dry_run": "false", "autostart": "false", "first_image_timeout": "60.0"}
    arguments = [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]
    with log.open("w") as stream:
        process = subprocess.Popen(
            [python, "-c", program, "--ros-args", *arguments], env=without_ros(), stdout=stream, stderr=stream
        )
    try:
        end = time.monotonic() + 60
        while "/act" not in ros2("node", "list", *LOOK).split():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
        yield process
    finally:
        process.terminate()
        process.wait(10)


def test_the_node_and_its_topics_are_listed(act):
    topics = ros2("topic", "list", "-t", *LOOK)
    assert "/image [sensor_msgs/msg/Image]" in topics
    assert "/diagnostics [diagnostic_msgs/msg/DiagnosticArray]" in topics
    info = ros2("node", "info", *LOOK, "/act")
    assert "/instruction: std_msgs/msg/String" in info
    assert "/act/set_parameters: rcl_interfaces/srv/SetParameters" in info
    assert "/act/change_state: lifecycle_msgs/srv/ChangeState" in info


def test_the_acceptance_radius_is_set_and_a_bad_one_refused(act):
    assert "Set parameter successful" in ros2("param", "set", *LOOK, "/act", "acceptance_radius", "5")
    assert "Integer value is: 5" in ros2("param", "get", *LOOK, "/act", "acceptance_radius")
    assert "Set parameter successful" not in ros2("param", "set", *LOOK, "/act", "acceptance_radius", "9999")
    assert "Integer value is: 5" in ros2("param", "get", *LOOK, "/act", "acceptance_radius")
    described = ros2("param", "describe", *LOOK, "/act", "acceptance_radius")
    assert "Min value: 0" in described


def test_the_lifecycle_is_driven_and_the_wire_is_heard(act):
    assert "unconfigured" in ros2("lifecycle", "get", *LOOK, "/act")
    assert "Transitioning successful" in ros2("lifecycle", "set", *LOOK, "/act", "configure")
    assert "Transitioning successful" in ros2("lifecycle", "set", *LOOK, "/act", "activate")
    assert "active" in ros2("lifecycle", "get", *LOOK, "/act")
    assert "/act/decode_stats [spec_vla_ros/msg/DecodeStats]" in ros2("topic", "list", "-t", *LOOK)
    echoed = ros2("topic", "echo", "--once", *LOOK, "/delta_twist_cmds")
    assert "linear:" in echoed
    assert "x: 0.0" in echoed
    said = ros2("topic", "pub", "--once", "/instruction", "std_msgs/msg/String", "{data: pick up the cup}")
    assert "publishing #1" in said
    heard = ros2("topic", "echo", "--once", *LOOK, "--field", "status", "/diagnostics")
    assert "pick up the cup" in heard
    assert "Transitioning successful" in ros2("lifecycle", "set", *LOOK, "/act", "deactivate")
    assert "Transitioning successful" in ros2("lifecycle", "set", *LOOK, "/act", "cleanup")
