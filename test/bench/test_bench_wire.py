"""``spec-vla bench wire``: the real node, a real camera topic."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from spec_vla_ros.installed import share_path

pytest.importorskip("mujoco")
pytest.importorskip("torch")


def bench(*arguments, **more):
    code = "import sys; from spec_vla_ros.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "bench", "wire", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def test_every_image_and_every_action_is_accounted_for(ros, tmp_path):
    path = tmp_path / "wire.json"
    model = str(share_path("models/tabletop"))
    process = bench("--seconds", "3", "--preset", "autoregressive", "--model", model, "--json", str(path))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    report = json.loads(path.read_text())
    assert report["machine"]["cores"] >= 1
    (row,) = report["rows"]
    assert row["width"] == 640
    assert row["height"] == 480
    assert 0.8 * 90 <= row["frames_sent"] <= 91, "3 s at 30 Hz, on a busy machine"
    assert 0.8 * row["frames_sent"] <= row["frames_received"] <= row["frames_sent"]
    assert row["actions"] == sum(row["passes_histogram"].values()) >= 5
    assert set(row["passes_histogram"]) == {"7"}, "the preset reaches the node"
    overhead = row["image_to_twist_overhead_ms"]
    assert 0 < overhead["samples"] <= row["actions"]
    assert 0 < overhead["median"] <= overhead["p99"]
    assert re.search(r"\d+ of \d+ images arrived", out)


def test_a_model_that_does_not_load_is_told_and_no_node_is_left(ros, tmp_path):
    process = bench("--seconds", "1", "--model", str(tmp_path))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "CHECKPOINT_INVALID" in err
    assert "Traceback" not in err


def test_ctrl_c_is_no_traceback(ros, tmp_path):
    process = bench("--seconds", "60", start_new_session=True)
    assert "the act node is active" in process.stdout.readline()
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
