"""LIBERO's node on the wire: the real act node, in a process of its own, drives a small world over DDS."""
# ruff: noqa: E402 - ensure_rclpy() has to run before rclpy is imported

import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco")
doorway = pytest.importorskip("spec_vla_ros.embedded_ros.doorway")
try:
    doorway.ensure_rclpy()
except ImportError as error:
    pytest.skip(str(error), allow_module_level=True)

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from geometry_msgs.msg import TwistStamped
from libero_small import SmallWorld
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from spec_vla_ros.msg import Episode
from std_msgs.msg import Float64

from spec_vla_ros.libero.libero_node import LiberoNode
from spec_vla_ros.libero.protocol import env_action, model_picture
from spec_vla_ros.node.policy_factory import script

PATIENCE = 30.0  # s, deadline of every wait; the machine may be busy
STREAMED = 0.15  # s of one action; a gripper command may be that late on a busy machine and still belong to its motion
ACT = "import sys; from spec_vla_ros.node.act_node import main; sys.exit(main())"
PARAMETERS = {
    "policy": "scripted",
    "script": "axes",
    "script_delay": 0.02,
    "autostart": "true",
    "dry_run": "false",
    "instruction": "leave the point alone",
    "step_dt": STREAMED,
    "action_scale": 0.01,
    "max_linear_speed": 0.5,
    "max_angular_speed": 2.0,
    "gripper_hysteresis": 0.0,
    "frozen_image_steps": 0,
    "image_timeout": 2.0,
    "first_image_timeout": 30.0,
}


class SlowWorld(SmallWorld):
    """Takes as long for a step as the act node streams one."""

    def step(self, action):
        time.sleep(0.04)
        return super().step(action)


class Bench:
    """The node under test, its world, and a node that listens."""

    def __init__(self, make_node):
        self.world = SlowWorld()
        self.node = LiberoNode(self.world, parameter_overrides=[Parameter("step_dt", value=STREAMED)])
        self.driver = make_node()
        self.images, self.episodes = [], []
        self.driver.create_subscription(Image, "image", self.images.append, qos_profile_sensor_data)
        self.driver.create_subscription(Episode, "episode", self.episodes.append, 50)
        self.request = self.driver.create_publisher(Episode, "episode_request", 10)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.executor.add_node(self.driver)

    def until(self, condition, what):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s for {what}"
            self.executor.spin_once(timeout_sec=0.01)

    def ask(self, number, instruction, seed=0, time_limit=0.0):
        self.until(lambda: self.request.get_subscription_count(), "the node to listen")
        self.request.publish(Episode(id=number, seed=seed, instruction=instruction, time_limit=time_limit))
        self.until(lambda: any(e.id == number for e in self.episodes), f"an answer to episode {number}")
        return next(e for e in self.episodes if e.id == number)


@pytest.fixture
def bench(make_node):
    bench = Bench(make_node)
    yield bench
    bench.executor.shutdown()
    bench.node.close()
    assert bench.world.closed


def test_a_request_resets_and_is_echoed_and_an_unknown_one_lists_the_tasks(bench):
    answer = bench.ask(1, "make coffee")
    assert answer.state == Episode.IDLE
    assert "push the point, leave the point alone" in answer.detail
    answer = bench.ask(2, "leave the point alone", seed=53)
    assert (answer.state, answer.seed, answer.instruction) == (Episode.RUNNING, 53, "leave the point alone")
    assert answer.time_limit == pytest.approx(11.0)
    assert bench.world.resets[-1] == (1, 3, 3)


def test_the_picture_is_prepared_for_the_model_and_repeated_while_the_world_stands_still(bench):
    bench.until(lambda: len(bench.images) >= 5, "pictures")
    first, last = bench.images[0], bench.images[-1]
    assert (first.encoding, first.width, first.height, len(first.data)) == ("rgb8", 224, 224, 3 * 224**2)
    assert bytes(first.data) == bytes(last.data) == model_picture(bench.world.render(), 224).tobytes()
    stamps = [image.header.stamp.sec + 1e-9 * image.header.stamp.nanosec for image in bench.images]
    assert np.all(np.diff(stamps) > 0), "a camera that shows the same goes on stamping"
    assert bench.world.actions == []


def test_a_gripper_command_that_comes_after_its_motion_is_counted(bench):
    bench.ask(1, "leave the point alone")
    twists = bench.driver.create_publisher(TwistStamped, "delta_twist_cmds", 10)
    gripper = bench.driver.create_publisher(Float64, "gripper_command", 10)
    bench.until(lambda: twists.get_subscription_count() and gripper.get_subscription_count(), "the node to listen")

    def send(x):
        message = TwistStamped()
        message.header.frame_id, message.header.stamp = "base_link", bench.driver.get_clock().now().to_msg()
        message.twist.linear.x = x
        twists.publish(message)

    send(0.05)
    gripper.publish(Float64(data=0.0))
    bench.until(lambda: bench.node.window.open, "the step to begin")
    time.sleep(STREAMED)
    send(0.0)
    bench.until(lambda: len(bench.world.actions) == 1 and bench.node._work is None, "the step")
    assert (bench.world.actions[0][6], bench.node.late) == (env_action(np.zeros(7))[6], 0), "in time"
    send(0.05)
    bench.until(lambda: bench.node.window.open, "the next step to begin")
    time.sleep(STREAMED)
    send(0.0)
    bench.until(lambda: bench.node._work is not None, "the next step to be carried out")
    gripper.publish(Float64(data=1.0))
    bench.until(lambda: bench.node.late == 1, "the late command to be counted")
    bench.until(lambda: len(bench.world.actions) == 2, "the end of the step")
    assert bench.world.actions[1][6] == env_action(np.zeros(7))[6], "it was carried out with the command before"


def test_the_act_node_drives_it_with_exactly_its_own_actions(bench, start):
    arguments = [word for name, value in PARAMETERS.items() for word in ("-p", f"{name}:={value}")]
    bench.ask(1, "leave the point alone", time_limit=1.2)
    act = start(ACT, "--ros-args", *arguments)
    try:
        bench.until(lambda: bench.episodes[-1].state == Episode.FAILURE or act.poll() is not None, "the end")
    except AssertionError:
        act.kill()
    assert bench.episodes[-1].state == Episode.FAILURE, act.communicate()
    actions = np.array(bench.world.actions)
    assert len(actions) == 24, "one step for every action, and none that the act node did not ask for"
    wanted = script("axes")
    np.testing.assert_allclose(actions, [env_action(wanted[i % len(wanted)]) for i in range(24)], atol=1e-6)
    assert bench.episodes[-1].elapsed == pytest.approx(1.2)
    assert bench.node.late == 0
    before = len(bench.world.actions)
    count = len(bench.images)
    bench.until(lambda: len(bench.images) > count + 20, "a second of pictures")
    assert len(bench.world.actions) == before, "after the end of the episode motion is ignored"
    act.terminate()
    assert act.wait(timeout=PATIENCE) == 0
