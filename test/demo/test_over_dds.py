"""The whole demonstration with canned moves instead of a model: both nodes, live parameters, every file, Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import environment

pytest.importorskip("mujoco")
pytest.importorskip("rosbags")
from spec_vla_ros.embedded_ros.doorway import ensure_rclpy

try:
    ensure_rclpy()
except ImportError as error:
    pytest.skip(str(error), allow_module_level=True)

PATIENCE = 90.0  # s
PROGRAM = """
from pathlib import Path
from spec_vla_ros.demo.run import Options, run
options = Options(Path({out!r}), "", {episodes}, 1, policy="scripted", time_limit=1.0)
run(options, lambda line: print(line, flush=True))
"""


@pytest.fixture
def demo(tmp_path):
    """Start a run in a process of its own."""
    started = []

    def start(episodes):
        out = tmp_path / "out"
        with (tmp_path / "log").open("wb") as stream:
            command = [sys.executable, "-c", PROGRAM.format(out=str(out), episodes=episodes)]
            process = subprocess.Popen(
                command, stdout=stream, stderr=subprocess.STDOUT, env=environment(), cwd=tmp_path
            )
        process.out, process.log = out, tmp_path / "log"
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(20)


def until_said(process, text):
    deadline = time.monotonic() + PATIENCE
    while text not in process.log.read_text():
        assert process.poll() is None, process.log.read_text()
        assert time.monotonic() < deadline, process.log.read_text()
        time.sleep(0.05)


def children_of(process):
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()


def gone(pids):
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_run_from_start_to_files(demo):
    process = demo(episodes=2)
    assert process.wait(PATIENCE) == 0, process.log.read_text()
    said, out = process.log.read_text(), process.out
    assert "[4/4] training_free" in said
    summary = json.loads((out / "summary.json").read_text())
    assert [row["episodes"] for row in summary["rows"]] == [2, 2]
    for row in summary["rows"]:
        assert row["actions"] >= 4
        assert 80 < row["commands_per_second"]["twist"] < 120
        assert 0 <= row["image_to_twist_overhead_ms"]["median"] < 100
    from rosbags.highlevel import AnyReader

    with AnyReader([out / "bag"]) as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
    for topic in counts.keys() - {"/rosout"}:
        assert counts[topic] > 0, topic
    for name in ("demo.mp4", "plot.png", "frame.png"):
        assert (out / name).stat().st_size > 1000
    act = (out / "act.log").read_text()
    assert "Traceback" not in act
    _, _, dropped = (out / "arm.log").read_text().partition("dropped twists:")  # said at the end, if there were any
    # A machine under load may deliver a twist late, which the arm rightly ignores; nothing else may be wrong with one.
    assert not any(reason in dropped for reason in ("frame", "finite", "stamp"))


def test_ctrl_c_ends_both_nodes(demo):
    process = demo(episodes=30)
    until_said(process, " 1/60]")
    children = children_of(process)
    assert len(children) == 2
    process.send_signal(signal.SIGINT)
    process.wait(20)
    assert "KeyboardInterrupt" in process.log.read_text()
    assert gone(children)


def test_a_node_that_dies_ends_the_run_with_its_log(demo):
    process = demo(episodes=30)
    until_said(process, " 1/60]")
    children = children_of(process)
    os.kill(int(children[0]), signal.SIGKILL)
    assert process.wait(20) == 1
    assert "has ended (signal SIGKILL)" in process.log.read_text()
    assert gone(children)
