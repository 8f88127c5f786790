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


@pytest.fixture
def wire(ros):
    from spec_vla_ros.bench.wire import overhead as wire

    return wire


def test_every_camera_is_a_row_and_a_node_that_stops_is_a_result(wire, monkeypatch):
    """The bench was for 640 x 480 as best effort, and ended with the first camera that the node did not survive."""
    said = []

    def run(options, say):
        if options.width == 1920 and not options.compressed:
            raise wire.StoppedNodeError("the act node stopped: IMAGE_STALE")
        return {
            **wire.asdict(options), "frames_sent": 90, "frames_received": 80, "actions": 7,
            "image_to_twist_overhead_ms": {"median": 2.0, "p99": 3.0, "samples": 7},
        }  # fmt: skip

    monkeypatch.setattr(wire, "_measure", run)
    rows = wire.measure(wire.Options(cameras=True), said.append)
    assert len({(row["width"], row["compressed"], row["reliable"]) for row in rows}) == len(rows) == len(said) == 12
    found = "80 of 90 images arrived, 7 actions, image to velocity less inference 2.0 ms, p99 3.0 ms"
    assert said[0] == f"640 x 480 raw, reliable: {found}"
    assert said[9] == "1920 x 1080 raw, best effort: the act node stopped: IMAGE_STALE"
    assert wire.report(rows) == "10 of 12 cameras kept the node going"
    with pytest.raises(wire.StoppedNodeError):
        wire.measure(wire.Options(width=1920, height=1080), said.append)


@pytest.mark.parametrize("compressed", [True, False])
def test_pictures_beyond_what_is_rendered_have_the_size_that_was_asked_for(wire, compressed):
    import io

    import numpy as np
    from PIL import Image

    pixels = wire._picture(wire.Options(width=1280, height=720, compressed=compressed))
    if compressed:
        assert Image.open(io.BytesIO(pixels)).size == (1280, 720)
    else:
        assert np.frombuffer(pixels, np.uint8).reshape(720, 1280, 3).std() > 10
