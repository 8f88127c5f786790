"""LeRobot data sets: what a reader wants to know before a training, and what would spoil one."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("pyarrow")
pytest.importorskip("rosbags")  # the fixtures' command imports it
pytest.importorskip("mcap")

from lerobot_writer import film, pictures, write_lerobot, write_table

from spec_vla_ros.inspection.fits import shared_range
from spec_vla_ros.openvla.action_tokens import ActionStatistics, choose_statistics

TABLETOP = Path(__file__).parents[2] / "models" / "tabletop"
FRONT, WRIST = "observation.images.front", "observation.images.wrist"


def scene(number, level=200):
    image = np.full((96, 128, 3), (60, 90, 120), np.uint8)
    image[20:60, 4 * number : 4 * number + 30] = (level, 40, 30)
    return image


def episodes(*lengths):
    return [(text, [scene(i) for i in range(n)]) for text, n in zip(("lift", "drop", "lift"), lengths, strict=False)]


def change_info(data, **changes):
    path = data / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def tabletop_statistics():
    return choose_statistics(json.loads((TABLETOP / "dataset_statistics.json").read_text()), "tabletop")


@pytest.mark.parametrize(("layout", "video"), [("v2.0", True), ("v2.1", False), ("v3.0", True), ("v3.0", False)])
def test_a_data_set_is_described(inspect, tmp_path, layout, video):
    data = write_lerobot(tmp_path / "data", episodes(6, 5, 4), layout, video, codec="libsvtav1")
    said = inspect(data)
    assert (said.status, said.warnings) == (0, [])
    for part in (
        f"LeRobot {layout[1:]}",
        "episodes 3 of 4 to 6 frames, median 5",
        "frames 15",
        "10.00 per second by the median interval, meta/info.json says 10",
        f"pictures {FRONT} (the camera)",
        ("in av1" if video else "stored in the rows"),
        "size 128 x 96",
        "different 2",
        "10 frames 'lift'",
        "5 frames 'drop'",
        "action, 7 numbers",
        "remark never moves: x, y, z",
    ):
        assert part in said.text, part
    facts = said.facts[str(data)]["data_set"]
    assert (facts["frames"], facts["episodes"]) == (15, {"count": 3, "shortest": 4, "longest": 6})


def test_the_rate_is_the_median_and_not_moved_by_pauses(inspect, tmp_path):
    times = [number / 30 + 9.0 * (number > 3) for number in range(8)]
    said = inspect(write_lerobot(tmp_path / "data", episodes(8, 8), video=False, times=times))
    assert said.status == 0
    assert "30.00 per second by the median interval" in said.text
    assert any("come at 30.00 per second, meta/info.json says 10" in warning for warning in said.warnings)


def test_which_camera_is_asked_and_said(inspect, tmp_path):
    data = write_lerobot(tmp_path / "data", episodes(4, 4), more_cameras=(WRIST,))
    said = inspect(data)
    assert any(f"which camera? (--camera); cameras: {FRONT}, {WRIST}" in error for error in said.errors)
    said = inspect(data, "--camera", WRIST)
    assert said.status == 0
    assert f"pictures {WRIST} (the camera)" in said.text


@pytest.mark.parametrize("level", [0, 130])
def test_a_camera_that_shows_nothing_is_a_finding(inspect, tmp_path, level):
    data = write_lerobot(tmp_path / "data", [("lift", [np.full((96, 128, 3), level, np.uint8)] * 5)] * 2)
    said = inspect(data)
    (error,) = said.errors
    assert f"{FRONT} shows nothing: it is {'of one colour' if level else 'black'} in all of" in error


def test_a_camera_that_repeats_one_picture_is_a_finding(inspect, tmp_path):
    said = inspect(write_lerobot(tmp_path / "data", [("lift", [scene(3)] * 5)] * 2, video=False))
    assert any(f"{FRONT} shows the same picture in all of" in warning for warning in said.warnings)


def test_a_video_that_is_missing_and_one_that_is_damaged(inspect, tmp_path):
    data = write_lerobot(tmp_path / "data", episodes(4, 4))
    path = data / f"videos/chunk-000/{FRONT}/episode_000001.mp4"
    path.write_bytes(b"no video " * 300)
    said = inspect(data)
    assert any("episode_000001.mp4 cannot be opened" in error for error in said.errors)
    assert any("3 of 6 pictures cannot be used: the video cannot be decoded (3)" in error for error in said.errors)
    path.unlink()
    said = inspect(data)
    assert any("1 of 4 files are missing, the first is videos/" in error for error in said.errors)
    assert "codec" not in said.text


@pytest.mark.parametrize("layout", ["v2.1", "v3.0"])
def test_a_video_that_is_shorter_than_its_rows(inspect, tmp_path, layout):
    data = write_lerobot(tmp_path / "data", episodes(6, 6), layout)
    path = sorted(data.glob("videos/**/*.mp4"))[-1]
    film(path, [scene(i) for i in range(4 if layout == "v2.1" else 10)])
    said = inspect(data)
    wanted = "(4 of 6 pictures)" if layout == "v2.1" else "(10 of 12 pictures)"
    assert any("1 video shorter than the rows" in warning and wanted in warning for warning in said.warnings)


def test_pictures_that_come_at_another_rate_than_the_rows(inspect, tmp_path):
    data = write_lerobot(tmp_path / "data", episodes(6, 6))
    film(data / f"videos/chunk-000/{FRONT}/episode_000000.mp4", [scene(i) for i in range(18)], rate=30)
    said = inspect(data)
    assert any("has 18 pictures at 30.00 per second, the rows come at 10.00" in error for error in said.errors)


def test_words_that_are_missing_and_words_that_are_given(inspect, tmp_path):
    data = write_lerobot(tmp_path / "data", [("", [scene(i) for i in range(4)])] * 2)
    said = inspect(data)
    assert any("8 frames without an instruction: task 0 is none" in error for error in said.errors)
    said = inspect(data, "--instruction", "lift it")
    assert said.status == 0
    assert "8 frames 'lift it'" in said.text


def test_what_meta_says_and_is_not_so(inspect, tmp_path):
    data = write_lerobot(tmp_path / "data", episodes(5, 4, 3), "v3.0")
    table = data / "data/chunk-000/file-000.parquet"
    from pyarrow import parquet

    write_table(table, [row for row in parquet.read_table(table).to_pylist() if row["episode_index"] != 1])
    said = inspect(data)
    assert said.status == 0
    assert any("lists 1 episode without a row: 1" in warning for warning in said.warnings)
    assert any("says 12 frames, there are 8" in warning for warning in said.warnings)
    change_info(data, data_path="data/{split}.parquet")
    assert any("split is not known of episode 0" in error for error in inspect(data).errors)


def test_a_single_episode_cannot_be_split(inspect, tmp_path):
    said = inspect(write_lerobot(tmp_path / "data", episodes(5)))
    assert any("is a single episode" in warning for warning in said.warnings)


def test_the_statistics_that_fit_are_named(inspect, tmp_path):
    """Actions over the whole range of the key; a tenth as large they are another robot's, or of other units."""
    one = tabletop_statistics()
    normalised = np.linspace([-1.0204] * 7, [1.0204] * 7, 40)  # quantiles of 1 % and 99 %: -1 and 1
    for factor in (1.0, 0.1):
        actions = factor * one.unnormalise(normalised)
        parts = [("lift", [scene(i) for i in range(20)])] * 2
        data = write_lerobot(tmp_path / str(factor), parts, "v3.0", actions=actions)
        said = inspect(TABLETOP, data)
        assert said.status == 0
        if factor == 1.0:
            assert "the actions have the range of tabletop (100 %)" in said.text
        else:
            assert any("range of none of the statistics" in w and "10 % in common" in w for w in said.warnings)


def test_actions_of_another_size_are_said(inspect, tmp_path):
    data = write_lerobot(tmp_path / "data", episodes(4, 4), actions=np.zeros((8, 6)))
    said = inspect(data, TABLETOP)
    assert said.status == 0
    assert "action, 6 numbers" in said.text
    assert any("have 6 numbers, those of" in warning for warning in said.warnings)


def test_pictures_smaller_and_slower_than_a_model_wants(inspect, tmp_path):
    said = inspect(write_lerobot(tmp_path / "data", episodes(5, 5), fps=3, video=False), TABLETOP)
    assert any("128 x 96 px" in warning and "blown up" in warning for warning in said.warnings)
    assert any("an image every 0.33 s, a step" in warning for warning in said.warnings)


def test_the_share_of_two_ranges():
    low, high = np.array([-1.0, 0.0, 5.0]), np.array([1.0, 1.0, 6.0])
    key = ActionStatistics("k", np.array([-1.0, 0.5, 0.0]), np.array([1.0, 1.0, 1.0]), np.array([True, True, False]))
    assert shared_range(low, high, key) == pytest.approx(0.5)
    assert shared_range(high, high + 1, key) == 0.0
    still = ActionStatistics("k", np.zeros(3), np.zeros(3), np.ones(3, bool))
    assert shared_range(np.zeros(3), np.zeros(3), still) == 1.0
    assert shared_range(np.zeros(3), np.ones(3), still) == 0.0


@pytest.mark.parametrize("what", ["data", "meta/tasks.jsonl", "videos"])
def test_git_lfs_pointers_are_named(inspect, tmp_path, what):
    data = write_lerobot(tmp_path / "data", episodes(4, 4))
    first = data / what
    file = first if first.is_file() else sorted(path for path in first.rglob("*") if path.is_file())[-1]
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    assert any(f"{file.name} is a Git LFS pointer" in error for error in inspect(data).errors)


def test_actions_under_another_name_and_none_at_all(inspect, tmp_path):
    """Draft heads learn without them, so none of this is refused."""
    data = write_lerobot(tmp_path / "data", episodes(4, 4), without=("action",))
    said = inspect(data, TABLETOP)
    assert said.status == 0
    assert "has no column action, which info.json lists" in said.text
    features = json.loads((data / "meta/info.json").read_text())["features"]
    change_info(data, features={key: about for key, about in features.items() if key != "action"})
    assert "the features name no action" in inspect(data).text
    names = {"motors": ["pan", "lift"]}
    for file in data.glob("data/**/*.parquet"):
        from pyarrow import parquet

        write_table(file, [row | {"actions": [0.5, row["timestamp"]]} for row in parquet.read_table(file).to_pylist()])
    del features["action"]
    change_info(data, features=features | {"actions": {"dtype": "float32", "shape": [2], "names": names}})
    said = inspect(data)
    assert "actions, 2 numbers" in said.text
    assert "lift 0 " in said.text


def test_actions_that_are_no_numbers_are_told(inspect, tmp_path):
    actions = np.zeros((8, 7))
    actions[3, 2] = np.nan
    said = inspect(write_lerobot(tmp_path / "data", episodes(4, 4), actions=actions))
    assert any("1 action not finite" in warning for warning in said.warnings)


def test_writing_such_a_film_leaves_the_process_as_it_was(tmp_path):
    """With the priority that the encoder takes, the tests would starve what they test."""
    before = os.sched_getscheduler(0)
    film(tmp_path / "film.mp4", pictures(3)[0], codec="libsvtav1")
    assert os.sched_getscheduler(0) == before
