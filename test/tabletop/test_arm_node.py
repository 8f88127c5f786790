"""The simulated arm on the wire: a process of its own, met over DDS as a robot would be."""
# ruff: noqa: E402 - ensure_rclpy() has to run before rclpy is imported

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from processes import ROOT, environment

pytest.importorskip("mujoco")
doorway = pytest.importorskip("spec_vla_ros.embedded_ros.doorway")
try:
    doorway.ensure_rclpy()
except ImportError as error:
    pytest.skip(str(error), allow_module_level=True)

import rclpy
from geometry_msgs.msg import TwistStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import qos_profile_sensor_data
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from spec_vla_ros.msg import Episode
from std_msgs.msg import Float64
from tf2_ros import Buffer, TransformListener

PATIENCE = 20.0  # s, deadline of every wait; the machine may be busy


class Driver:
    """A node that commands the arm and keeps what the arm says."""

    def __init__(self):
        self.node = rclpy.create_node("driver")
        self.images, self.episodes, self.joints, self.arrivals = [], [], [], []
        node = self.node
        self.twist = node.create_publisher(TwistStamped, "delta_twist_cmds", 10)
        self.gripper = node.create_publisher(Float64, "gripper_command", 10)
        self.request = node.create_publisher(Episode, "episode_request", 10)
        node.create_subscription(Image, "image", self._on_image, qos_profile_sensor_data)
        node.create_subscription(Episode, "episode", self.episodes.append, 50)
        node.create_subscription(JointState, "joint_states", self.joints.append, 50)
        self.buffer = Buffer()
        self.listener = TransformListener(self.buffer, node, spin_thread=False)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(node)
        self.number = 0

    def _on_image(self, message):
        self.arrivals.append(time.monotonic())
        self.images.append(message)

    def until(self, condition, what="", tick=lambda: None):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s for {what}"
            self.executor.spin_once(timeout_sec=0.01)
            tick()

    def episode(self, instruction="pick up the red block", seed=5, time_limit=0.0):
        self.number += 1
        self.request.publish(Episode(id=self.number, seed=seed, instruction=instruction, time_limit=time_limit))
        self.until(lambda: any(e.id == self.number for e in self.episodes), "an answer")
        return next(e for e in self.episodes if e.id == self.number)

    def send(self, x, frame="base_link", age=0.0):
        message = TwistStamped()
        stamp = self.node.get_clock().now().nanoseconds - round(age * 1e9)
        message.header.stamp.sec, message.header.stamp.nanosec = stamp // 10**9, stamp % 10**9
        message.header.frame_id = frame
        message.twist.linear.x = x
        self.twist.publish(message)

    def move(self, x, seconds, **header):
        """Command ``x`` m/s at 100 Hz for ``seconds``, then say nothing more."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.send(x, **header)
            self.executor.spin_once(timeout_sec=0.01)
            time.sleep(max(0.0, min(0.01, end - time.monotonic())))

    def settle(self):
        """Wait until the joints stand still; returns them."""
        self.joints.clear()

        def still():
            if len(self.joints) < 25:
                return False
            positions = np.array([list(joint.position) for joint in self.joints[-25:]])
            return bool(np.ptp(positions, axis=0).max() < 2e-4)

        self.until(still, "the arm to stand still")
        return np.array(self.joints[-1].position)


def start(log, *arguments):
    with log.open("wb") as stream:
        command = [sys.executable, "-m", "spec_vla_ros.tabletop.arm_node", *arguments]
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=environment(), cwd=ROOT)
    process.log = log
    return process


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    process = start(tmp_path_factory.mktemp("arm") / "log")
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def driver(process):
    rclpy.init(args=[])
    driver = Driver()
    try:
        driver.until(lambda: driver.images and driver.episodes and driver.joints, "the arm")
    except AssertionError:
        pytest.fail(process.log.read_text())
    publishers = (driver.twist, driver.gripper, driver.request)
    driver.until(lambda: all(p.get_subscription_count() for p in publishers), "the arm to listen")
    yield driver
    driver.node.destroy_node()
    rclpy.try_shutdown()


def test_images_are_rgb8_at_thirty_hertz(driver):
    driver.images.clear()
    driver.arrivals.clear()
    driver.until(lambda: len(driver.images) >= 60, "60 images")
    image = driver.images[-1]
    assert (image.encoding, image.width, image.height, image.step) == ("rgb8", 224, 224, 672)
    assert len(image.data) == 224 * 224 * 3
    assert image.header.frame_id == "camera"
    stamps = np.array([i.header.stamp.sec + 1e-9 * i.header.stamp.nanosec for i in driver.images])
    assert np.all(np.diff(stamps) > 0)
    assert 25.0 < 1.0 / np.median(np.diff(driver.arrivals)) < 35.0


def test_joint_states_name_every_joint(driver):
    joints = driver.joints[-1]
    assert len(joints.name) == len(joints.position) == len(joints.velocity) == 8
    assert "finger_left" in joints.name


def test_the_tool_is_in_tf_and_points_down(driver):
    driver.until(lambda: driver.buffer.can_transform("base_link", "tool0", Time()), "the transform")
    pose = driver.buffer.lookup_transform("base_link", "tool0", Time()).transform
    assert 0.2 < pose.translation.x < 0.6
    assert 0.0 < pose.translation.z < 0.5
    x, y, z, w = (getattr(pose.rotation, name) for name in "xyzw")
    down = np.array([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)])  # third column
    assert down @ [0, 0, -1] > 0.9


def test_an_unknown_instruction_is_answered_with_the_known_ones(driver):
    answer = driver.episode("make coffee")
    assert answer.state == Episode.IDLE
    assert "touch the blue block" in answer.detail


def test_a_request_is_echoed_and_runs_out_of_time(driver):
    answer = driver.episode("touch the blue block", seed=6, time_limit=0.5)
    assert (answer.state, answer.seed, answer.instruction) == (Episode.RUNNING, 6, "touch the blue block")
    driver.until(lambda: driver.episodes[-1].state == Episode.FAILURE, "the end")
    end = driver.episodes[-1]
    assert end.id == driver.number
    assert end.elapsed == pytest.approx(0.5, abs=0.02)
    assert end.time_limit == pytest.approx(0.5)


def test_a_velocity_moves_the_arm_and_silence_stops_it(driver):
    driver.episode()
    before = driver.settle()
    driver.move(0.05, 0.6)
    after = driver.settle()  # would not settle if the last command stayed in force
    assert np.abs(after[:6] - before[:6]).max() > 0.02


@pytest.mark.parametrize("header", [{"age": 0.3}, {"frame": "tool0"}, {"age": -1.0}])
def test_a_stale_or_foreign_command_moves_nothing(driver, header):
    driver.episode()
    before = driver.settle()
    driver.move(0.05, 0.4, **header)
    np.testing.assert_allclose(driver.settle()[:6], before[:6], atol=2e-3)


def test_after_the_end_of_an_episode_motion_is_ignored(driver):
    driver.episode(time_limit=0.1)
    driver.until(lambda: driver.episodes[-1].state == Episode.FAILURE, "the end")
    before = driver.settle()
    driver.move(0.05, 0.4)
    np.testing.assert_allclose(driver.settle()[:6], before[:6], atol=2e-3)


def test_the_gripper_closes_on_command(driver):
    driver.episode()
    driver.gripper.publish(Float64(data=0.0))
    driver.until(lambda: driver.joints and driver.joints[-1].position[6] < 0.005, "the gripper to close")
    driver.gripper.publish(Float64(data=1.0))
    driver.until(lambda: driver.joints[-1].position[6] > 0.035, "the gripper to open")


def test_a_large_image_and_simulated_time_on_request(driver, tmp_path):
    images, clocks = [], []
    driver.node.create_subscription(Image, "large/image", images.append, qos_profile_sensor_data)
    driver.node.create_subscription(Clock, "/clock", clocks.append, 10)
    parameters = {"image_width": 640, "image_height": 480, "publish_clock": True, "real_time_factor": 2.0}
    arguments = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}".lower())]
    process = start(tmp_path / "log", "--ros-args", "-r", "__ns:=/large", *arguments)
    try:
        driver.until(lambda: len(images) > 5 and len(clocks) > 100, "images and the clock")
    except AssertionError:
        pytest.fail(process.log.read_text())
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0
    assert (images[-1].width, images[-1].height, len(images[-1].data)) == (640, 480, 640 * 480 * 3)
    assert images[-1].header.stamp.sec < 60  # simulated time starts at zero
    seconds = np.array([c.clock.sec + 1e-9 * c.clock.nanosec for c in clocks])
    assert np.all(np.diff(seconds) >= 0)
    assert np.median(np.diff(seconds)) == pytest.approx(0.02, abs=0.011)


def test_sigint_ends_the_process_cleanly(driver, process):
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 0
    log = process.log.read_text()
    assert "Traceback" not in log
    assert "dropped twists" in log


def test_an_arm_with_a_prefix_shares_no_frame_with_another(process, driver, tmp_path):
    """/tf is one topic for all namespaces."""
    del process
    left = start(tmp_path / "log", *("--ros-args", "-r", "__ns:=/left", "-p", "tf_prefix:=left/"))
    try:
        driver.until(lambda: driver.buffer.can_transform("left/base_link", "left/tool0", Time()), "the other's frames")
        images = []
        driver.node.create_subscription(Image, "/left/image", images.append, qos_profile_sensor_data)
        driver.until(lambda: images, "an image of the other")
        assert images[0].header.frame_id == "left/camera"
        assert driver.buffer.can_transform("base_link", "tool0", Time())
        assert not driver.buffer.can_transform("base_link", "left/tool0", Time())
    finally:
        left.kill()
        left.wait()
