"""The launch files on a real ROS 2 with the package installed: processes, arguments, a bag, Ctrl-C.

Tolerant where time matters: how many images meet the node depends on the machine.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

PREFIXES = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)

pytestmark = [
    pytest.mark.ros,
    pytest.mark.skipif(shutil.which("ros2") is None, reason="no ROS 2 is sourced"),
    pytest.mark.skipif(
        not any(Path(prefix, "share", "spec_vla_ros", "launch").is_dir() for prefix in PREFIXES),
        reason="the package is not installed in the sourced ROS 2 (colcon build)",
    ),
]
FRAMES, PERIOD = 90, 0.1  # images in the bag, s between them


@pytest.fixture
def launch(tmp_path):
    """Starts ``ros2 launch spec_vla_ros FILE ARGUMENTS`` in a session of its own; ended afterwards."""
    running = []

    def start(file, **arguments):
        log = tmp_path / "launch.log"
        words = [f"{name}:={value}" for name, value in arguments.items()]
        with log.open("w") as stream:
            process = subprocess.Popen(
                ["ros2", "launch", "spec_vla_ros", file, *words], stdout=stream, stderr=stream, start_new_session=True
            )
        process.log = log
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def ear(make_node, spin_until):
    """A node that keeps actions and velocities, and a wait."""
    from geometry_msgs.msg import TwistStamped
    from spec_vla_ros.msg import DeltaAction

    node = make_node("ear")
    node.actions, node.twists = [], []
    node.create_subscription(DeltaAction, "/act/action", node.actions.append, 50)
    node.create_subscription(TwistStamped, "/delta_twist_cmds", node.twists.append, 100)
    node.until = lambda condition, limit=60.0: spin_until(condition, node, limit=limit)
    return node


def moving(message):
    linear, angular = message.twist.linear, message.twist.angular
    return any((linear.x, linear.y, linear.z, angular.x, angular.y, angular.z))


@pytest.fixture
def camera(ear):
    """Images at 30 Hz from the ear's own node."""
    import array

    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    publisher = ear.create_publisher(Image, "/camera/image_raw", qos_profile_sensor_data)
    count = iter(range(10**9))

    def film():
        message = Image(height=24, width=32, encoding="rgb8", step=96)
        message.header.stamp = ear.get_clock().now().to_msg()
        message.data = array.array("B", bytes([next(count) % 251]) * (24 * 96))
        publisher.publish(message)

    ear.create_timer(1 / 30, film)


@pytest.mark.usefixtures("camera")
def test_act_moves_and_ctrl_c_of_the_whole_group_ends_in_zero(launch, ear):
    """A terminal sends SIGINT to launch and to the node, and launch sends one more."""
    process = launch(
        "act.launch.py", policy="scripted", instruction="go", dry_run="false", autostart="true",
        image="/camera/image_raw", log_level="info",
    )  # fmt: skip
    ear.until(lambda: sum(map(moving, ear.twists)) > 20)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    ear.until(lambda: process.poll() is not None, 30)
    ear.until(lambda: ear.count_publishers("/delta_twist_cmds") == 0, 30)
    assert not moving(ear.twists[-1])
    said = process.log.read_text()
    assert "process has died" not in said, said
    assert "Traceback" not in said, said


@pytest.mark.usefixtures("camera")
def test_the_first_start_is_a_dry_run_and_waits_for_the_operator(launch, ear):
    launch("act.launch.py", policy="scripted", instruction="go", image="/camera/image_raw")
    ear.until(lambda: "act" in ear.get_node_names())
    for transition in ("configure", "activate"):
        command = ["ros2", "lifecycle", "set", "--no-daemon", "--spin-time", "4", "/act", transition]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert "successful" in done.stdout, done.stdout + done.stderr
    ear.until(lambda: len(ear.actions) >= 3)
    assert not any(action.commanded for action in ear.actions)
    assert ear.twists == []


@pytest.fixture
def bag(tmp_path):
    """A few seconds of a camera."""
    if not any(Path(prefix, "share", "ros2bag").is_dir() for prefix in PREFIXES):
        pytest.skip("the sourced ROS 2 has no ros2bag")
    rosbag2 = pytest.importorskip("rosbags.rosbag2")
    from spec_vla_ros.recordings.writer import new_typestore

    store, start = new_typestore(), 1_700_000_000 * 10**9
    with rosbag2.Writer(tmp_path / "bag", version=9, storage_plugin=rosbag2.StoragePlugin.MCAP) as writer:
        images = writer.add_connection("/camera/image_raw", "sensor_msgs/msg/Image", typestore=store)
        for index in range(FRAMES):
            ns = start + round(index * PERIOD * 1e9)
            stamp = store.types["builtin_interfaces/msg/Time"](sec=ns // 10**9, nanosec=ns % 10**9)
            header = store.types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera")
            message = store.types["sensor_msgs/msg/Image"](
                header=header, height=24, width=32, encoding="rgb8", is_bigendian=0, step=96,
                data=np.full(24 * 96, index % 251, dtype=np.uint8),
            )  # fmt: skip
            writer.write(images, ns, store.serialize_cdr(message, "sensor_msgs/msg/Image"))
    return tmp_path / "bag"


@pytest.mark.parametrize("rate", ["1.0", "4.0"])
def test_a_bag_is_played_against_the_real_node_and_everything_ends_with_it(launch, ear, bag, rate):
    """At rate 4 it stopped with IMAGE_FROM_FUTURE after 1.3 s: /clock is late by what it takes, times the rate."""
    process = launch("replay.launch.py", bag=bag, policy="scripted", instruction="go", rate=rate)
    ear.until(lambda: process.poll() is not None, 120)
    said = process.log.read_text()
    assert process.returncode == 0, said
    assert "process has died" not in said, said
    assert "[act]: finalized" in said, said
    # 9 s of recorded time, a step of 0.2 s and a scripted 0.1 s of thinking: about 30 actions at best, 7 at rate 4.
    assert 3 <= len(ear.actions) <= FRAMES, said
    stamps = [action.header.stamp.sec for action in ear.actions]
    assert all(1_700_000_000 <= stamp <= 1_700_000_010 for stamp in stamps), "recorded time"
    assert not any(action.commanded for action in ear.actions)
    assert ear.twists == []


def test_a_fault_is_the_exit_status_of_a_replay(launch, ear, bag, tmp_path):
    """It was 0, and whoever replayed in a script took a stopped node for one that had nothing to say."""
    own = tmp_path / "own.yaml"
    own.write_text("/**:\n  ros__parameters:\n    script: 'nan'\n")
    process = launch("replay.launch.py", bag=bag, policy="scripted", instruction="go", params_file=own)
    ear.until(lambda: process.poll() is not None, 120)
    said = process.log.read_text()
    assert process.returncode == 1, said
    assert "the act node has stopped: NON_FINITE" in said, said
    assert "[act]: finalized" in said, "and the node ends as ever"


def test_the_simulation_drives_with_torch_from_a_virtual_environment(launch, ear):
    """``ros2 launch`` starts the node with the python3 of the active environment, where torch is."""
    probe = subprocess.run(["python3", "-c", "import torch, mujoco, tokenizers"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("the first python3 of PATH has no torch, tokenizers and mujoco")
    from spec_vla_ros.msg import DecodeStats

    stats = []
    ear.create_subscription(DecodeStats, "/act/decode_stats", stats.append, 10)
    process = launch("sim.launch.py", instruction="pick up the red block")
    ear.until(lambda: len(stats) >= 5, 120)
    assert any(action.commanded for action in ear.actions)
    ear.until(lambda: any(map(moving, ear.twists)))
    assert stats[0].decoder == "speculative"
    assert {"refine", "vision"} <= {*stats[0].drafters}, "the head beside the model was found"
    os.killpg(process.pid, signal.SIGINT)
    ear.until(lambda: process.poll() is not None, 30)
    assert "process has died" not in process.log.read_text(), process.log.read_text()
