"""``record_to`` in the node: refused where nothing can be recorded, never in the way of the arm where something is."""

import json

import pytest

from spec_vla_ros.embedded_ros.doorway import ensure_rclpy
from spec_vla_ros.errors import CommandError
from spec_vla_ros.outputs import OutputError


@pytest.mark.skipif(ensure_rclpy() != "embedded", reason="a ROS 2 with its recorder is sourced")
def test_without_ros_configure_says_that_nothing_can_be_recorded(rig, tmp_path):
    from rig import FAILURE

    one = rig(None, record_to=str(tmp_path))
    assert one.node.trigger_configure() == FAILURE
    one.until(lambda: "record_to needs the recorder of ROS 2" in one.control().get("message", ""))
    assert list(tmp_path.iterdir()) == []


class Link:
    """In place of the recording process: what it would be told, and a report that the test writes."""

    def __init__(self, setup, on_news):
        from spec_vla_ros.node.record_setup import Report

        self.setup, self.on_news, self.report, self.gone, self.sent = setup, on_news, Report(), False, []
        self.room = True

    def send(self, message):
        self.sent.append(message)
        return self.room

    def trouble(self, now):
        return self.report.trouble

    def lines(self):
        return []

    def close(self):
        self.gone = True


@pytest.fixture
def recording(ros, monkeypatch, tmp_path):
    """Of a node with the act node's parameters; ``looked`` collects the times from which images count."""
    from rclpy.node import Node

    from spec_vla_ros.node import parameters, recording

    monkeypatch.setattr(recording, "folder_of", lambda text: tmp_path)
    monkeypatch.setattr(recording, "RecordLink", Link)
    node = Node("act", namespace="/left")
    parameters.declare(node)
    looked = []
    fixed = parameters.read_fixed(node)
    one = recording.Recording(node, fixed, "/left/image", lambda now: looked.append(now) or True, lambda: None)
    one.describe({"policy": "openvla"}, {"unnorm_key": "bridge_orig", "model_digest": "abc"})
    one.looked, one.link = looked, one._link
    yield one
    node.destroy_node()


def report(**fields):
    from spec_vla_ros.node.record_setup import Report

    return Report(at=1.0, **fields)


def view(*arguments, **fields):
    from spec_vla_ros.node.episodes import View

    return View(*arguments, **fields)


def began(one):
    return one._episodes.current.began_at


def test_the_first_image_waits_for_the_recorder_and_no_longer(recording):
    assert recording.wait(0.0) == 0.0, "no episode"
    recording.look(view(1, "go"))
    now = began(recording)
    assert 1.4 < recording.wait(now + 0.05) < 1.5
    recording.link.report = report(recording=1)
    assert recording.wait(now + 0.1) == 0.0
    assert recording.looked == [now + 0.1], "images from before are not in the bag"
    assert recording.wait(now + 0.2) == 0.0
    assert len(recording.looked) == 1
    recording.look(view(1))
    assert recording.link.sent[-1]["end"]["from_start"]


@pytest.mark.parametrize("why", ["late", "missed", "gone", "no room"])
def test_a_recorder_that_does_not_record_holds_up_nobody_for_long(recording, why):
    recording.link.room = why != "no room"
    recording.look(view(1, "go"))
    now = began(recording)
    if why == "missed":
        recording.link.report = report(missed=1)
    recording.link.gone = why == "gone"
    assert recording.wait(now + (1.6 if why == "late" else 0.01)) == 0.0
    assert recording.looked == []
    recording.look(view(1))
    assert not recording.link.sent[-1]["end"]["from_start"]
    assert recording.part().values["episodes not recorded from their start"] == "1"


def test_an_answer_about_the_episode_before_is_none_about_this_one(recording):
    recording.look(view(1, "go"))
    recording.link.report = report(recording=1)
    recording.look(view(1, "on"))
    assert recording.wait(began(recording) + 0.1) > 0.0


def test_what_is_told_explains_the_episode(recording):
    recording.look(view(1, "go"))
    told = recording.link.sent[0]["begin"]
    assert told["name"].endswith("_go")
    assert (told["unnorm_key"], told["model_digest"], told["given_by"]) == ("bridge_orig", "abc", "instruction")
    about = json.loads(told["about"])
    assert about["parameters"]["max_linear_speed"] == 0.1
    assert about["parameters"]["workspace_min"] == [-10.0, -10.0, -10.0]
    assert about["topics"]["action"] == "/left/act/action"
    recording.act()
    recording.look(view(1))
    end = recording.link.sent[1]["end"]
    assert (end["number"], end["actions"], end["outcome"]) == (1, 1, 9)


def test_whoever_moves_the_arm_waits_for_no_confirmation_of_a_recorder(recording):
    setup = recording.link.setup
    heard = {"/left/gripper_command", "/left/image", "/left/act/execute/_action/feedback"}
    assert heard <= set(setup.unconfirmed)
    assert "/left/act/action" in setup.topics
    assert "/left/act/action" not in setup.unconfirmed
    assert setup.velocities == "/left/delta_twist_cmds"
    assert setup.velocities not in setup.topics, "a recorder that begins to listen there makes the arm stop"


def test_trouble_is_a_warning_and_not_more(recording):
    assert recording.part().level == "OK"
    recording.link.report = report(trouble="0.1 GiB are free")
    assert recording.part().level == "WARN"
    assert "0.1 GiB" in recording.part().text


def test_a_folder_that_cannot_be_written_is_refused(monkeypatch, tmp_path):
    from spec_vla_ros.node import recording

    assert issubclass(OutputError, CommandError)
    monkeypatch.setattr(recording.shutil, "which", lambda name: "/bin/true")
    monkeypatch.setattr(recording.importlib.util, "find_spec", lambda name: object())
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"record_to: .*cannot be written"):
        recording.folder_of(str(tmp_path / "file" / "bags"))
    assert recording.folder_of(str(tmp_path / "bags")) == tmp_path / "bags"


def setup_of(root):
    from spec_vla_ros.node.record_setup import Setup

    return Setup(str(root), 0, ("/a", "/b", "/i"), ("/a",), ("/b", "/i"), "/i", "/r", "/v", "/c", "n", "/")


@pytest.mark.parametrize("confirmed", [False, True])
def test_the_recorder_is_started_without_a_shell_and_with_every_topic(tmp_path, confirmed):
    from spec_vla_ros.node.recorder_ear import words

    said = words(setup_of(tmp_path), "name", tmp_path / "episode", confirmed=confirmed)
    assert said[:3] == ["ros2", "bag", "record"]
    assert said[-3:] == ["/a", "/b", "/i"]
    assert "--start-paused" in said
    profiles = json.loads((tmp_path / "qos.yaml").read_text())
    assert list(profiles) == ["/b", "/i"]
    assert profiles["/b"]["reliability"] == "best_effort"
    assert profiles["/i"]["reliability"] == ("reliable" if confirmed else "best_effort")


@pytest.mark.parametrize(
    ("identifier", "seconds"),
    [("rmw_cyclonedds_cpp", 1.0), ("rmw_fastrtps_cpp", 4.0), ("rmw_fastrtps_dynamic_cpp", 4.0)],
)
def test_a_recorder_is_ready_when_those_who_publish_have_found_it_as_well(monkeypatch, identifier, seconds):
    """On Fast DDS they may do so 3 s later than this process, and the beginning of an episode would be missing."""
    import sys
    from types import ModuleType

    from spec_vla_ros.node import recorder_ear

    services = ModuleType("rosbag2_interfaces.srv")
    services.Resume = services.Pause = type("Service", (), {"Request": object})
    monkeypatch.setitem(sys.modules, "rosbag2_interfaces", ModuleType("rosbag2_interfaces"))
    monkeypatch.setitem(sys.modules, "rosbag2_interfaces.srv", services)
    monkeypatch.setattr(recorder_ear, "middleware", lambda: identifier)
    now = [100.0]
    monkeypatch.setattr(recorder_ear.time, "monotonic", lambda: now[0])
    node = Graph()
    ear = recorder_ear.RosEar(node, "recorder", ["/a", "/b"], None)
    assert not ear.listens()
    now[0] += 60.0
    node.topics = ["/a", "/b"]
    assert not ear.listens(), "it has been heard of just now"
    now[0] += seconds - 0.1
    assert not ear.listens()
    now[0] += 0.2
    assert ear.listens()


def test_a_spare_is_not_started_anew_whenever_a_publisher_comes_and_goes():
    """Each start takes seconds, and none would ever be ready."""
    from spec_vla_ros.node.record_node import STEADY, Keeper

    keeper, offered = Keeper.__new__(Keeper), [True]
    keeper._reliable = lambda: offered[0]
    keeper._confirmed, keeper._restarted_at = False, 100.0
    assert not keeper._deaf(100.0 + STEADY - 1.0), "best effort hears everybody, large images aside"
    assert keeper._deaf(100.0 + STEADY + 1.0)
    keeper._confirmed = True
    assert not keeper._deaf(101.0)
    offered[0] = None
    assert not keeper._deaf(101.0), "nobody publishes"
    offered[0] = False
    assert keeper._deaf(101.0), "a reliable listener hears nothing of a publisher that is not, however soon"


class Graph:
    """A node whose graph has one recorder, that listens to ``topics``."""

    def __init__(self):
        self.topics = ["/a"]

    def create_client(self, kind, name):
        del kind
        assert name in ("/recorder/resume", "/recorder/pause")
        return self

    def service_is_ready(self):
        return True

    def get_subscriptions_info_by_topic(self, topic):
        from types import SimpleNamespace

        return [SimpleNamespace(node_name="recorder")] if topic in self.topics else []
