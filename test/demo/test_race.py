"""The same task at the pace of known hardware, plain and ours, side by side."""

import cv2
import numpy as np
import pytest

from spec_vla_ros.bench.pace.drive import Driven, Moment
from spec_vla_ros.bench.pace.pace import Row
from spec_vla_ros.demo.film import GOOD
from spec_vla_ros.demo.race import FPS, THINKING, Lane, Painter, race, rows, write
from spec_vla_ros.demo.run import plan
from spec_vla_ros.installed import TABLETOP, model_folder
from spec_vla_ros.tabletop.tasks import TASKS


def test_both_ways_to_the_same_end_are_driven_told_and_filmed(tmp_path):
    said = []
    found = race(str(model_folder(TABLETOP)), ["training_free", "fastest"], plan(1, 0), 1, "", tmp_path, said.append)
    assert [(row["preset"], row["pacing"]) for row in found] == [("autoregressive", "blocking"), ("fastest", "steady")]
    assert all(row["success_rate"] == 1.0 for row in found)
    assert found[1]["task_time_mean"] < 0.8 * found[0]["task_time_mean"]
    assert all("emulated" in line for line in said), "in every line"
    video = cv2.VideoCapture(str(tmp_path / "race.mp4"))
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    assert count == pytest.approx((found[0]["task_time_mean"] + 1.0) * FPS, abs=2), "in real time"
    assert cv2.imread(str(tmp_path / "race.png")).std() > 20


def test_nothing_is_filmed_where_nothing_is_wanted(tmp_path):
    race(str(model_folder(TABLETOP)), ["fastest"], plan(1, 0), 0, "", tmp_path, lambda line: None)
    assert list(tmp_path.iterdir()) == []


def test_without_a_vision_head_the_drafts_that_need_none_race():
    assert rows(["training_free"])[1].preset == "training_free"


def lane(seconds, still, success=True):
    """Moves and waits in turn, ``still`` of every 0.3 s."""
    joints, mocap = np.zeros(0), np.zeros((1, 3))
    moments = [
        Moment(t, (t % 0.3) >= still, (t % 0.3) < still, int(t / 0.3), joints, mocap)
        for t in np.arange(0, seconds, 0.01)
    ]
    driven = Driven(TASKS[0], success, seconds, still=still, moving=0.3 - still)
    return Lane(Row("fastest", "steady", "catch_up", "RTX 4090"), driven, moments)


def colours(picture):
    return {tuple(int(value) for value in pixel) for pixel in picture.reshape(-1, 3)}


def test_the_strip_shows_when_the_arm_waited(monkeypatch):
    painter = Painter()
    monkeypatch.setattr(painter._camera, "see", lambda joints, mocap: np.zeros((448, 448, 3), np.uint8))
    picture = painter.frame([lane(3.0, 0.15), lane(2.0, 0.0)], 1.0)
    below = picture[-60:]
    left, right = below[:, : below.shape[1] // 2], below[:, below.shape[1] // 2 :]
    assert {GOOD, THINKING} <= colours(left)
    assert GOOD in colours(right)
    assert THINKING not in colours(right)


def test_the_picture_is_of_the_moment_at_which_the_quicker_one_is_done(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(
        Painter, "frame", lambda self, lanes, seconds: seen.append(seconds) or np.zeros((2, 2, 3), np.uint8)
    )
    monkeypatch.setattr("spec_vla_ros.demo.race.encode", lambda *arguments: tmp_path / "race.mp4")
    write([[lane(3.0, 0.1), lane(2.0, 0.0)]], tmp_path)
    assert seen == [pytest.approx(2.0, abs=0.05)]
