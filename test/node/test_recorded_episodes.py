"""Episodes are recorded with what explains them: the real node, rosbag2's own recorder, bags read as users read them.

Needs a sourced ROS 2; what is recorded without one is refused, which another file tests.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from spec_vla_ros.embedded_ros.doorway import ensure_rclpy

pytestmark = pytest.mark.skipif(
    shutil.which("ros2") is None or find_spec("rosbag2_py") is None or ensure_rclpy() == "embedded",
    reason="no ROS 2 with its recorder is sourced",
)
# A busy machine is not what is tested here.
DRIVE = {
    "policy": "scripted", "autostart": "true", "dry_run": "false", "script_delay": "0.0", "image_timeout": "5.0",
    "heartbeat_timeout": "5.0", "arm_timeout": "0.0", "record_keep_free": "0.1",
}  # fmt: skip
READY = 100  # s for a recorder on a busy machine


def records(bag):
    """What explains the episode: the messages of its records."""
    return [one.message for one in bag.messages([topic for topic in bag.topics if topic.endswith("/episode_record")])]


def count(bag, topic):
    return sum(1 for _ in bag.messages([topic]))


def stamps(bag, topic):
    return [(m.header.stamp.sec, m.header.stamp.nanosec) for m in (one.message for one in bag.messages([topic]))]


def part(world):
    """Newest diagnostics of the recording."""
    for message in reversed(world.diagnostics):
        for status in message.status:
            if status.name.endswith("act: recording"):
                return {**{pair.key: pair.value for pair in status.values}, "message": status.message}
    return {}


def bags(folder):
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def until_bags(world, folder, number):
    world.until(lambda: len(bags(folder)) >= number, READY, f"{number} bags")
    return bags(folder)


def until_spare(world):
    world.until(lambda: part(world).get("spare recorder") == "ready", READY, "a recorder in spare")


def test_every_instruction_has_a_bag_that_explains_it(world, act, tmp_path):
    from mission import Mission

    from spec_vla_ros.recordings.reader import Bag

    folder = tmp_path / "episodes"
    mission = Mission(world.probe)
    act(**DRIVE, record_to=str(folder), log=(tmp_path / "log").open("w"))
    until_spare(world)
    world.until(mission.ready, READY, "the action server")
    goal = mission.send("Pick up the /Cup\u00e9!", time_limit=1.5)
    world.until(lambda: goal.result is not None, READY, "the end of the goal")
    until_spare(world)
    world.say("push it away")
    world.until(lambda: part(world).get("episode", "").endswith("push_it_away"), READY, "the second episode")
    count_of = len(world.actions)
    world.until(lambda: len(world.actions) >= count_of + 3, READY, "actions")
    until_spare(world)
    assert part(world)["waited_ms for the recorder"] != ""
    world.say("push it back")
    count_of = len(world.actions)
    world.until(lambda: len(world.actions) >= count_of + 4, READY, "actions of the third")
    assert "fault" not in world.control(), "recorders come and go, and the arm does not care"
    world.say("")
    first, second, third = until_bags(world, folder, 3)
    assert first.name.endswith("Z_pick_up_the_cupe")
    assert second.name.endswith("Z_push_it_away")
    assert third.name.endswith("Z_push_it_back")
    for path, outcome, given_by in ((first, 2, "goal"), (second, 4, "instruction"), (third, 9, "instruction")):
        bag = Bag(path)
        begun, ended = [record for record in records(bag) if record.name == path.name]
        assert (begun.phase, ended.phase) == (0, 1)
        assert ended.outcome == outcome
        assert ended.given_by == given_by
        assert ended.succeeded == (given_by == "goal")
        assert ended.from_start
        actions = [one.message for one in bag.messages(["/act/action"])]
        assert len({action.instruction for action in actions}) == 1, "what another episode decided is in its own bag"
        assert len(records(bag)) == 2
        # One that was decided or begun as the episode ended is told, and does not count.
        assert 2 < ended.actions <= len(actions) == count(bag, "/act/decode_stats") <= ended.actions + 1
        about = json.loads(ended.about)
        assert about["parameters"]["policy"] == "scripted"
        assert about["parameters"]["max_linear_speed"] == 0.1
        assert about["topics"]["image"] == "/image"
        assert "spec_vla_ros" in about["versions"]
        assert set(stamps(bag, "/act/action")) <= set(stamps(bag, "/image")), "every action with its image"
        twists = [one.message.twist for one in bag.messages(["/act/delta_twist_cmds"])]
        moving = [any((t.linear.x, t.linear.y, t.linear.z, t.angular.x, t.angular.y, t.angular.z)) for t in twists]
        assert any(moving)
        assert not moving[-1], "the zero at the end"
        assert count(bag, "/diagnostics")
        assert not bag.broken
    said = subprocess.run(["ros2", "bag", "info", first], capture_output=True, text=True, check=True).stdout
    assert "/act/action" in said
    assert list(first.glob("metadata.yaml"))


def test_images_of_an_ordinary_camera_are_in_the_bag_also_after_its_driver_has_changed(world, act, tmp_path):
    """An image of 640 x 480 hardly ever arrives with best effort on Fast DDS as installed, and a reliable listener
    hears nothing of a publisher that is not.
    """
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from rig import image
    from sensor_msgs.msg import Image

    from spec_vla_ros.recordings.reader import Bag

    folder, sent = tmp_path / "episodes", []

    def drive(reliability, camera):
        world.probe.destroy_publisher(world.images)
        world.images = world.probe.create_publisher(Image, "image", QoSProfile(depth=5, reliability=reliability))
        world.camera = camera

    def vga():
        sent.append(image(world.now(), height=480, width=640))
        return sent[-1]

    drive(ReliabilityPolicy.RELIABLE, vga)
    act(**DRIVE, record_to=str(folder), log=(tmp_path / "log").open("w"))
    for number, reliability in enumerate((ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT), 1):
        if reliability != ReliabilityPolicy.RELIABLE:
            drive(reliability, lambda: image(world.now()))
            world.until(lambda: part(world).get("spare recorder") != "ready", READY, "the end of a spare of no use")
        until_spare(world)
        world.say("go on")
        seen = len(world.actions)
        world.until(lambda at=seen: len(world.actions) >= at + 8, READY, "actions")
        world.say("")
        bag = Bag(until_bags(world, folder, number)[-1])
        taken = {(action.header.stamp.sec, action.header.stamp.nanosec) for action in world.actions[seen:]}
        kept = set(stamps(bag, "/image"))
        assert len(taken & kept) >= len(taken) - 1, "the action under way as it ended aside, each with its image"
        if reliability == ReliabilityPolicy.RELIABLE:
            within = [
                s for s in ((m.header.stamp.sec, m.header.stamp.nanosec) for m in sent) if min(kept) <= s <= max(kept)
            ]
            assert len(kept) >= 0.9 * len(within), "a camera of 30 Hz"


def test_a_killed_node_leaves_a_whole_bag_and_no_process(world, act, tmp_path):
    from spec_vla_ros.recordings.reader import Bag

    folder = tmp_path / "episodes"
    process = act(**DRIVE, record_to=str(folder), log=(tmp_path / "log").open("w"))
    until_spare(world)
    world.say("go on")
    world.until(lambda: len(world.actions) >= 2, READY, "actions")
    pids = recorders(folder)
    assert pids
    process.send_signal(signal.SIGKILL)
    (path,) = until_bags(world, folder, 1)
    world.until(lambda: not recorders(folder), READY, "the end of the recorders")
    bag = Bag(path)
    ended = records(bag)[-1]
    assert ended.outcome == 10  # NODE_GONE
    assert count(bag, "/act/action") >= 2
    assert not bag.broken
    assert not list(folder.glob(".recorder-*"))


def test_a_keeper_that_is_killed_costs_the_arm_nothing(world, act, tmp_path):
    """Its recorders end with it; the bag has no outcome, and the next process gives it its name."""
    from spec_vla_ros.recordings.reader import Bag

    folder = tmp_path / "episodes"
    process = act(**DRIVE, record_to=str(folder), log=(tmp_path / "log").open("w"))
    until_spare(world)
    world.say("go on")
    world.until(lambda: len(world.actions) >= 2, READY, "actions")
    (keeper,) = processes_of("spec_vla_ros.node.record_node", str(folder))
    os.kill(keeper, signal.SIGKILL)
    world.until(lambda: not recorders(folder), READY, "the end of the recorders")
    seen = len(world.actions)
    world.until(lambda: len(world.actions) > seen + 1, READY, "the arm going on")
    world.until(lambda: "recording process has ended" in part(world).get("message", ""), READY, "a word about it")
    time.sleep(5.0)  # until a new one may be started
    world.say("something else")
    (path, *_) = until_bags(world, folder, 1)
    assert path.name.endswith("go_on")
    assert [record.phase for record in records(Bag(path))] == [0]
    assert process.poll() is None


def test_a_full_disk_is_named_and_the_arm_goes_on(world, act, tmp_path):
    folder = tmp_path / "episodes"
    act(**{**DRIVE, "record_keep_free": "999.0"}, record_to=str(folder), instruction="go",
        log=(tmp_path / "log").open("w"))  # fmt: skip
    world.until(lambda: len(world.actions) >= 2, READY, "actions")
    world.until(lambda: "record_keep_free" in part(world).get("message", ""), READY, "a word about it")
    assert bags(folder) == []


def recorders(folder):
    return processes_of("rosbag2_recorder", str(folder))


def processes_of(*words):
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if all(word in text for word in words):
            found.append(int(path.parent.name))
    return found
