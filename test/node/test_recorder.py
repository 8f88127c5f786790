"""One recorder process from its start to its bag's name. Here a program of the same habits stands in for rosbag2's: it
writes a file, and its metadata when it is interrupted; the real one is driven where ROS 2 is sourced.
"""

import os
import signal
import sys
import textwrap
import time

import processes
import pytest

from spec_vla_ros.node import recorder
from spec_vla_ros.node.recorder import Phase, Recorder, put_away_others

STAND_IN = """
import os, signal, sys, time
bag, kind = sys.argv[1], sys.argv[2]
stopped = []
signal.signal(signal.SIGINT, signal.SIG_IGN if kind == "deaf" else lambda *_: stopped.append(1))
os.mkdir(bag)
open(os.path.join(bag, "episode_0.mcap"), "w").write("data")
print("Listening for topics...", flush=True)
if kind == "dies":
    sys.exit("the disk is full")
while not stopped:
    time.sleep(0.01)
if kind == "slow":
    print("Cache buffers lost messages per topic:\\n\\t/image: 7\\nTotal lost: 7", flush=True)
open(os.path.join(bag, "metadata.yaml"), "w").write("whole")
"""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl and flock of Linux")


class Ear:
    def __init__(self, place, hears=True, confirms=True, settles=True):
        self._place, self._hears, self._confirms, self._settles = place, hears, confirms, settles
        self.closed = self.asked = self.asked_to_pause = False

    def listens(self):
        return self._hears and any("Listening" in path.read_text() for path in self._place.glob(".recorder-*/log"))

    def resume(self):
        self.asked = True

    def resumed(self):
        return self.asked and self._confirms

    def settled(self):
        return self._settles

    def pause(self):
        self.asked_to_pause = True

    def paused(self):
        return self.asked_to_pause and self._confirms

    def close(self):
        self.closed = True


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "SETTLE", 0.05)
    made = []

    def start(kind="good", number=1, **ear):
        words = [sys.executable, "-c", STAND_IN]
        one = Recorder(tmp_path, number, lambda bag: [*words, str(bag), kind], Ear(tmp_path, **ear))
        made.append(one)
        return one

    yield start
    for one in made:
        one._process.kill()
        one._process.wait()


def drive(one, phase, seconds=10.0):
    end = time.monotonic() + seconds
    while one.phase is not phase:
        assert time.monotonic() < end, (one.phase, one.trouble)
        one.look(time.monotonic())
        time.sleep(0.005)


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_an_episode_gets_its_name_when_it_is_whole(make, tmp_path):
    one = make()
    drive(one, Phase.READY)
    one.begin("now_go")
    drive(one, Phase.RECORDING)
    assert visible(tmp_path) == [], "what is being written is not to be taken for a recording"
    one.end()
    drive(one, Phase.GONE)
    assert one.path == tmp_path / "now_go"
    assert (one.path / "metadata.yaml").read_text() == "whole"
    assert one.trouble == ""
    assert list(tmp_path.iterdir()) == [one.path]


def test_one_goes_on_when_the_one_before_is_silent(make, tmp_path, monkeypatch):
    """What is decided in an episode is in its bag alone, and the last words of the one before are in its own."""
    monkeypatch.setattr(recorder, "SETTLE_AT_MOST", 60.0)
    before, after = make(number=1, settles=False), make(number=2)
    drive(before, Phase.READY)
    drive(after, Phase.READY)
    before.begin("before")
    drive(before, Phase.RECORDING)
    before.end()
    drive(before, Phase.SETTLING)
    after.begin("after")
    since, late = time.monotonic(), []
    while after.phase is not Phase.RECORDING:
        assert time.monotonic() - since < 10.0, (before.phase, after.phase)
        before.look(time.monotonic(), hurry=True)
        after.look(time.monotonic(), wait=before.hears)
        if after.phase is not Phase.READY:
            late.append(before.phase)
    assert before._ear.asked_to_pause
    assert late, "it has been waited for"
    assert set(late) <= {Phase.FLUSHING, Phase.GONE}
    assert time.monotonic() - since > 0.4, "a velocity that is not zero yet is waited for"
    after.end()
    drive(after, Phase.GONE)
    drive(before, Phase.GONE)
    assert visible(tmp_path) == ["after", "before"]


@pytest.mark.parametrize("settles", [True, False])
def test_the_last_zero_is_waited_for_and_not_for_ever(make, monkeypatch, settles):
    monkeypatch.setattr(recorder, "SETTLE_AT_MOST", 0.3)
    one = make(settles=settles)
    drive(one, Phase.READY)
    one.begin("now")
    drive(one, Phase.RECORDING)
    one.end()
    drive(one, Phase.SETTLING)
    now = time.monotonic()
    one.look(now + 0.2)
    assert one.phase is (Phase.PAUSING if settles else Phase.SETTLING)
    one.look(now + 0.4)
    assert one.phase in (Phase.PAUSING, Phase.FLUSHING)
    drive(one, Phase.GONE)


def test_a_name_that_is_taken_is_not_overwritten(make, tmp_path):
    (tmp_path / "now_go").mkdir()
    one = make()
    one.begin("now_go")
    drive(one, Phase.RECORDING)
    one.end()
    drive(one, Phase.GONE)
    assert visible(tmp_path) == ["now_go", "now_go_2"]
    assert list((tmp_path / "now_go").iterdir()) == []


def test_a_spare_that_was_not_needed_leaves_nothing(make, tmp_path):
    one = make()
    drive(one, Phase.READY)
    one.end()
    drive(one, Phase.GONE)
    assert (one.path, one.trouble) == (None, "")
    assert list(tmp_path.iterdir()) == []


def test_one_that_was_told_to_end_is_of_no_use_any_more(make):
    one = make()
    assert one.usable
    one.end()
    assert not one.usable
    drive(one, Phase.GONE)
    assert not one.usable


def test_an_episode_that_is_over_before_the_recorder_is_ready(make, tmp_path):
    one = make(hears=False)
    one.begin("short")
    one.end()
    drive(one, Phase.GONE)
    assert one.path is None
    assert list(tmp_path.iterdir()) == []


def test_what_a_recorder_that_died_had_written_is_kept_and_the_reason_told(make, tmp_path):
    one = make()
    one.begin("now_go")
    drive(one, Phase.RECORDING)
    one._process.kill()
    drive(one, Phase.GONE)
    assert "signal 9" in one.trouble
    assert (tmp_path / "now_go" / "episode_0.mcap").exists()


def test_a_recorder_that_does_not_start_says_why(make, tmp_path):
    one = make("dies")
    drive(one, Phase.GONE)
    assert "exit status 1" in one.trouble
    assert "the disk is full" in one.trouble
    assert list(tmp_path.iterdir()) == []


def test_one_that_never_listens_is_given_up(make, monkeypatch):
    monkeypatch.setattr(recorder, "START", 0.1)
    one = make(hears=False)
    drive(one, Phase.GONE)
    assert "does not listen" in one.trouble


def test_one_that_does_not_confirm_is_given_up(make, monkeypatch):
    monkeypatch.setattr(recorder, "RESUME", 0.1)
    one = make(confirms=False)
    one.begin("now_go")
    drive(one, Phase.GONE)
    assert "not confirmed" in one.trouble


def test_one_that_hangs_at_its_end_is_killed_and_its_bag_kept(make, tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "FLUSH", 0.2)
    one = make("deaf")
    one.begin("now_go")
    drive(one, Phase.RECORDING)
    one.end()
    drive(one, Phase.GONE)
    assert "cut short" in one.trouble
    assert visible(tmp_path) == ["now_go"]


def test_messages_that_a_slow_disk_cost_are_told(make):
    one = make("slow")
    one.begin("now_go")
    drive(one, Phase.RECORDING)
    one.end()
    drive(one, Phase.GONE)
    assert "7 messages" in one.trouble


def test_a_folder_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OSError, match="file"):
        Recorder(blocked / "bags", 1, lambda bag: ["true"], Ear(tmp_path))


PARENT = """
import pathlib, sys, time
sys.path[:0] = [{test!r}, {test!r} + "/.."]
from test_recorder import Ear, STAND_IN
from spec_vla_ros.node.recorder import Phase, Recorder
place = pathlib.Path({place!r})
one = Recorder(place, 1, lambda bag: [sys.executable, "-c", STAND_IN, str(bag), "good"], Ear(place))
one.begin("now_go")
while one.phase is not Phase.RECORDING:
    one.look(time.monotonic())
    time.sleep(0.01)
print(one.pid, flush=True)
time.sleep(60)
"""


def test_a_killed_keeper_takes_its_recorder_along_and_the_next_one_names_the_bag(tmp_path):
    with processes.beside() as begin:
        program = textwrap.dedent(PARENT).format(test=os.path.dirname(__file__), place=str(tmp_path))
        parent = begin("-c", program)
        assert int(parent.stdout.readline())
        assert put_away_others(tmp_path) == [], "somebody works there"
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        end = time.monotonic() + 10
        while (found := put_away_others(tmp_path)) == []:
            assert time.monotonic() < end
            time.sleep(0.02)
    assert found == [tmp_path / "now_go"]
    assert (found[0] / "metadata.yaml").read_text() == "whole", "it was interrupted, not killed"
    assert list(tmp_path.iterdir()) == found


def test_what_was_never_begun_is_cleared_away(tmp_path):
    place = tmp_path / ".recorder-host-1-1"
    (place / "episode").mkdir(parents=True)
    (place / "lock").write_text("")
    (tmp_path / ".recorder-of-somebody").mkdir()  # without a lock it is not ours
    assert put_away_others(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == [".recorder-of-somebody"]
