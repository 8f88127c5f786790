"""Frames out of LeRobot data sets: the right picture for every row, and a sentence for what cannot be used.

AV1, which LeRobot writes, could not be decoded; a missing video was blamed on its codec; a template that could not be
filled in was found in the middle of labelling.
"""

import json
import shutil

import numpy as np
import pytest
from draft_recordings import ALL, outline, read
from lerobot_writer import film, pictures, png, write_lerobot, write_table

pytest.importorskip("av")
pytest.importorskip("pyarrow")

from spec_vla_ros.training.draft_sources import open_source
from spec_vla_ros.training.frame_source import SourceError, SourceOptions

CAMERA = "observation.images.front"
LAYOUTS = [("v2.0", True), ("v2.1", True), ("v3.0", True), ("v2.0", False), ("v3.0", False)]


def assert_shown(shots, images, lossy=True):
    for shot, pixels in zip(shots, images, strict=True):
        assert np.abs(shot.image.astype(int) - pixels).mean() < (4 if lossy else 1e-9)


def change_info(data, **changes):
    path = data / "meta" / "info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_table(path, change):
    from pyarrow import parquet

    rows = parquet.read_table(path).to_pylist()
    write_table(path, [change(dict(row)) for row in rows])


# -- the right picture


@pytest.mark.parametrize(("layout", "video"), LAYOUTS)
def test_a_lerobot_folder_of_any_layout_gives_its_frames(tmp_path, layout, video):
    images = pictures(5, 4, 3)
    data = write_lerobot(tmp_path / "data", list(zip(["lift", "drop", "lift"], images, strict=True)), layout, video)
    source, shots = read(data)
    texts = ["lift"] * 5 + ["drop"] * 4 + ["lift"] * 3
    assert outline(shots) == list(zip(range(12), [0] * 5 + [1] * 4 + [2] * 3, texts, strict=True))
    assert (source.expected, source.instructions, source.notes) == (12, ["lift", "drop"], [])
    assert source.camera == CAMERA
    assert_shown(shots, [pixels for episode in images for pixels in episode], lossy=video)


@pytest.mark.parametrize(("layout", "video"), LAYOUTS)
@pytest.mark.parametrize("split", [1, 2])
def test_episodes_are_found_in_whatever_file_they_are(tmp_path, layout, video, split):
    """Rows and videos are cut into files of their own."""
    images = pictures(3, 2, 4, 2, 3)
    data = write_lerobot(tmp_path / "data", [("lift", part) for part in images], layout, video, split=split)
    files = {path.parent.name + path.name for path in data.glob("data/**/*.parquet")}
    assert len(files) == (-(-5 // split) if layout == "v3.0" else 5)
    source, shots = read(data)
    assert_shown(shots, [pixels for part in images for pixels in part], lossy=video)
    assert (source.expected, source.notes) == (14, [])
    assert [shot.episode for shot in shots] == [0] * 3 + [1] * 2 + [2] * 4 + [3] * 2 + [4] * 3


@pytest.mark.parametrize("layout", ["v2.1", "v3.0"])
@pytest.mark.parametrize("codec", ["libsvtav1", "libx264", "mpeg4"])
def test_videos_of_every_codec_are_decoded_av1_as_well(tmp_path, layout, codec):
    images = pictures(6, 5)
    data = write_lerobot(tmp_path / "data", list(zip(["lift", "drop"], images, strict=True)), layout, codec=codec)
    source, shots = read(data)
    assert source.notes == []
    assert_shown(shots, [pixels for episode in images for pixels in episode])


@pytest.mark.parametrize("layout", ["v2.1", "v3.0"])
def test_frames_of_a_video_are_skipped_to_the_right_place(tmp_path, layout):
    images = pictures(6, 6)
    data = write_lerobot(tmp_path / "data", list(zip(["lift", "drop"], images, strict=True)), layout)
    _, shots = read(data, SourceOptions(period=0.2), wanted=lambda number: number in (1, 4))
    assert outline(shots) == [(1, 0, "lift"), (4, 1, "drop")]
    assert_shown(shots, [images[0][2], images[1][2]])


@pytest.mark.parametrize("first", [0, 7])
def test_a_frame_far_ahead_and_one_behind_are_sought(tmp_path, first):
    """Forwards beyond AHEAD and backwards by a key frame, with pictures between key frames that are stored in another
    order than they are shown; a video need not begin at zero.
    """
    from spec_vla_ros.lerobot import video as module

    colours = [(20 + 37 * number % 200, 90, 20 + 91 * number % 200) for number in range(120)]
    images = [np.full((48, 64, 3), colour, np.uint8) for colour in colours]
    film(tmp_path / "long.mp4", images, options={"preset": "medium", "g": "50", "crf": "10"}, first=first)
    with module.Video(tmp_path / "long.mp4") as video:
        assert (video.codec, video.size, video.count) == ("h264", (64, 48), 120)
        assert video.rate == pytest.approx(10, rel=0.01)
        for number in (0, 1, 100, 101, 3, 119, 40, 41, 61, 0, 0):
            assert np.abs(video.picture(number).astype(int) - images[number]).mean() < 5, number
        assert video.picture(120) is None
        assert video.picture(50) is not None, "and goes on after the end"
        for number in (0, 1, 60, 119):
            assert video.number_at((number + first) / 10 + 0.04) == number
            assert video.number_at((number + first) / 10 - 0.04) == number
        assert video.number_at(0.0) == 0
        assert video.number_at(30.0) == 120


def test_a_file_of_sound_is_no_video(tmp_path):
    import av

    from spec_vla_ros.lerobot.video import Video, VideoError

    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    with pytest.raises(VideoError, match=r"sound\.mp4 holds no video"):
        Video(tmp_path / "sound.mp4")


def test_which_of_several_tasks_a_row_is_about_has_to_be_said(tmp_path):
    data = write_lerobot(
        tmp_path / "data", list(zip(["lift", "drop"], pictures(2, 2), strict=True)), without=("task_index",)
    )
    with pytest.raises(SourceError, match=r"has no column task_index: which of 2 tasks, is not known"):
        read(data)


@pytest.mark.parametrize("without", [("frame_index",), ("frame_index", "timestamp"), ("timestamp",), ("task_index",)])
def test_a_column_that_can_be_done_without(tmp_path, without):
    images = pictures(5, 4)
    data = write_lerobot(tmp_path / "data", [("lift", part) for part in images], "v3.0", without=without)
    _, shots = read(data, SourceOptions(period=0.2))
    assert [shot.number for shot in shots] == [0, 1, 2, 3, 4]
    assert_shown(shots, [*images[0][::2], *images[1][::2]])


@pytest.mark.parametrize("without", ["frame_index", "timestamp"])
def test_rows_that_were_taken_out_do_not_move_the_pictures_of_the_others(tmp_path, without):
    """Idle rows are often removed, the videos stay as they are. Number or timestamp say which picture is meant."""
    images = pictures(6)[0]
    data = write_lerobot(tmp_path / "data", [("lift", images)], without=(without,))
    path = data / "data/chunk-000/episode_000000.parquet"
    from pyarrow import parquet

    write_table(path, [row for number, row in enumerate(parquet.read_table(path).to_pylist()) if number not in (0, 2)])
    assert_shown(read(data)[1], [images[number] for number in (1, 3, 4, 5)])


def test_the_rate_is_the_median_interval_and_not_what_info_says(tmp_path):
    """30 Hz with a pause, in a data set that says 10: every third frame is one per 0.1 s."""
    times = [number / 30 + 7.0 * (number > 5) for number in range(12)]
    images = pictures(12)[0]
    data = write_lerobot(tmp_path / "data", [("lift", images)], video=False, times=times)
    source, shots = read(data, SourceOptions(period=0.1))
    assert_shown(shots, images[::3], lossy=False)
    assert source.expected == 4
    assert "says 10 frames per second, by the median of the timestamps it is 30" in source.notes[0]


def test_timestamps_of_a_wall_clock_do_not_move_the_pictures(tmp_path):
    """Not as LeRobot writes them; then the number of the frame counts, with and without a column of it."""
    images = pictures(6)[0]
    times = [1.7e9 + number / 10 for number in range(6)]
    for without in ((), ("frame_index",)):
        data = write_lerobot(tmp_path / str(len(without)), [("lift", images)], times=times, without=without)
        assert_shown(read(data)[1], images)


@pytest.mark.parametrize("layout", ["v2.1", "v3.0"])
@pytest.mark.parametrize("lengths", [(1,), (1, 1), (1, 3, 1)])
def test_episodes_of_a_single_frame(tmp_path, layout, lengths):
    images = pictures(*lengths)
    data = write_lerobot(tmp_path / "data", [("lift", part) for part in images], layout)
    assert_shown(read(data)[1], [pixels for part in images for pixels in part])


def test_a_pause_between_two_episodes_of_a_video_moves_no_picture(tmp_path):
    """Files that were joined have times that no rate explains; by 1/fps the second episode would begin elsewhere."""
    images = pictures(5, 4)
    data = write_lerobot(tmp_path / "data", [("lift", part) for part in images], "v3.0")
    film(data / f"videos/{CAMERA}/chunk-000/file-000.mp4", [*images[0], *images[1]], pause=(5, 3))
    about = f"videos/{CAMERA}/from_timestamp"
    change_table(
        data / "meta/episodes/chunk-000/file-000.parquet",
        lambda row: row | {about: 0.8 * row["episode_index"]},
    )
    assert_shown(read(data)[1], [*images[0], *images[1]])


def test_pictures_may_lie_beside_the_rows(tmp_path):
    images = pictures(3)[0]
    data = write_lerobot(tmp_path / "data", [("lift", images)], video=False)
    for number, pixels in enumerate(images):
        (data / f"frame_{number}.png").write_bytes(png(pixels))

    def beside(row):
        return row | {CAMERA: {"bytes": None, "path": f"frame_{row['frame_index']}.png"}}

    change_table(data / "data/chunk-000/episode_000000.parquet", beside)
    assert_shown(read(data)[1], images, lossy=False)
    (data / "frame_1.png").unlink()
    source, shots = read(data)
    assert_shown(shots, images[::2], lossy=False)
    assert "1 pictures were left out: the file of the picture is missing" in source.notes[0]


def test_a_picture_may_be_nothing_but_its_bytes(tmp_path):
    data = write_lerobot(tmp_path / "data", [("lift", pictures(3)[0])], video=False)
    change_table(data / "data/chunk-000/episode_000000.parquet", lambda row: row | {CAMERA: row[CAMERA]["bytes"]})
    assert_shown(read(data)[1], pictures(3)[0], lossy=False)


def test_a_file_without_pictures_is_found_before_anything_is_labelled(tmp_path):
    data = write_lerobot(tmp_path / "data", [("lift", part) for part in pictures(3, 3)], video=False)
    change_table(
        data / "data/chunk-000/episode_000001.parquet", lambda row: {k: v for k, v in row.items() if k != CAMERA}
    )
    with pytest.raises(SourceError, match=r"episode_000001\.parquet has no column observation\.images\.front"):
        open_source(str(data), ALL, None)


def test_a_feature_of_one_number_may_be_a_list(tmp_path):
    data = write_lerobot(tmp_path / "data", [("lift", pictures(4)[0])])
    listed = ("timestamp", "frame_index", "task_index", "episode_index")
    change_table(
        data / "data/chunk-000/episode_000000.parquet", lambda row: row | {name: [row[name]] for name in listed}
    )
    assert len(read(data)[1]) == 4


# -- what cannot be used


def test_a_lerobot_folder_that_cannot_be_used_says_why(tmp_path):
    data = write_lerobot(tmp_path / "data", [("lift", pictures(2)[0])])
    with pytest.raises(SourceError, match=r"wrist is no camera; cameras: observation\.images\.front"):
        open_source(str(data), SourceOptions(0.0, camera="wrist"), None)
    two = {name: {"dtype": "video"} for name in ("left", "right")}
    change_info(data, features=two)
    with pytest.raises(SourceError, match=r"which camera\? \(--camera\); cameras: left, right"):
        open_source(str(data), ALL, None)
    change_info(data, codebase_version="v1.6")
    with pytest.raises(SourceError, match=r"LeRobot layout 1\.6 cannot be read; 2\.x and 3\.0 can"):
        open_source(str(data), ALL, None)
    (data / "meta" / "info.json").write_text("{")
    with pytest.raises(SourceError, match=r"info\.json cannot be read"):
        open_source(str(data), ALL, None)
    (data / "meta" / "info.json").write_text("[]")
    with pytest.raises(SourceError, match=r"expected an object, found a list"):
        open_source(str(data), ALL, None)


@pytest.mark.parametrize(
    "about",
    [{"info": {"is_depth_map": True}}, {"info": {"video.is_depth_map": True}},
     {"video_info": {"video.is_depth_map": True}}],
)  # fmt: skip
def test_depth_is_no_camera_however_it_is_marked(tmp_path, about):
    data = write_lerobot(tmp_path / "data", [("lift", pictures(2)[0])])
    features = json.loads((data / "meta/info.json").read_text())["features"]
    change_info(data, features=features | {"observation.images.front_depth": {"dtype": "video", **about}})
    assert read(data)[0].camera == CAMERA
    with pytest.raises(SourceError, match=r"front_depth holds depth images, which are not pictures; cameras: .*front$"):
        open_source(str(data), SourceOptions(0.0, camera="observation.images.front_depth"), None)


@pytest.mark.parametrize("name", ["task", "__index_level_0__", "instruction"])
def test_the_index_of_a_table_of_tasks_may_have_any_name(tmp_path, name):
    data = write_lerobot(tmp_path / "data", [("lift", pictures(2)[0])], "v3.0", video=False)
    write_table(data / "meta/tasks.parquet", [{"task_index": 0, name: "lift it"}])
    assert read(data)[0].instructions == ["lift it"]
    write_table(data / "meta/tasks.parquet", [{"task_index": 0, name + "s": "lift it", "language": "en"}])
    with pytest.raises(SourceError, match=r"tasks\.parquet has the columns .*, expected task and task_index"):
        read(data)


def test_where_a_picture_lies_is_known_by_its_file_of_2_x(tmp_path):
    """Rows of another episode in a file would be given that episode's pictures."""
    data = write_lerobot(tmp_path / "data", [("lift", part) for part in pictures(3, 3)])
    change_table(data / "data/chunk-000/episode_000000.parquet", lambda row: row | {"episode_index": 1})
    with pytest.raises(SourceError, match=r"has rows of episode 1, which meta/ says to be elsewhere"):
        read(data)


def test_a_data_set_without_rows_says_so(tmp_path):
    data = write_lerobot(tmp_path / "data", [("lift", pictures(2)[0])], video=False)
    path = data / "data/chunk-000/episode_000000.parquet"
    from pyarrow import parquet

    parquet.write_table(parquet.read_table(path).slice(0, 0), path)
    with pytest.raises(SourceError, match=r"no data file holds a row"):
        open_source(str(data), ALL, None)


def test_one_file_without_a_column_is_as_good_as_all(tmp_path):
    images = pictures(4, 4)
    for name in ("timestamp", "frame_index"):
        data = write_lerobot(tmp_path / name, [("lift", part) for part in images], video=False)
        change_table(
            data / "data/chunk-000/episode_000001.parquet", lambda row, n=name: {k: v for k, v in row.items() if k != n}
        )
        assert_shown(read(data, SourceOptions(0.2))[1], [*images[0][::2], *images[1][::2]], lossy=False)


def test_a_data_set_without_words_says_so(tmp_path):
    data = write_lerobot(tmp_path / "data", [("", pictures(2)[0])])
    with pytest.raises(SourceError, match=r"task 0 is no instruction .* see --instruction"):
        open_source(str(data), ALL, None)
    options = SourceOptions(0.0, instruction="lift")
    assert [shot.instruction for shot in read(data, options)[1]] == ["lift", "lift"]
    (data / "meta/tasks.jsonl").unlink()
    assert [shot.instruction for shot in read(data, options)[1]] == ["lift", "lift"]


@pytest.mark.parametrize("pattern", ["videos/**/episode_000001.mp4", "data/**/episode_000001.parquet"])
def test_a_missing_file_is_not_blamed_on_its_codec(tmp_path, pattern):
    data = write_lerobot(tmp_path / "data", [("lift", part) for part in pictures(3, 3)])
    (path,) = data.glob(pattern)
    path.unlink()
    with pytest.raises(
        SourceError, match=rf"1 of 4 files are missing, the first is .*{path.name}; of episodes 1: fetch"
    ):
        open_source(str(data), ALL, None)
    for other in [*data.glob("videos/**/*.mp4"), *data.glob("data/**/*.parquet")][:2]:
        other.unlink()
    with pytest.raises(SourceError, match=r"3 of 4 files are missing, the first is .*; of episodes 0, 1: fetch"):
        open_source(str(data), ALL, None)


@pytest.mark.parametrize(
    ("layout", "name", "template", "unknown"),
    [
        ("v2.1", "data_path", "data/{split}/episode_{episode_index:06d}.parquet", "split is not known"),
        ("v2.1", "video_path", "videos/{camera}/episode_{episode_index:06d}.mp4", "camera is not known"),
        ("v2.1", "data_path", "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet", "chunk_index, file_index"),
        ("v3.0", "video_path", "videos/{video_key", "is no template"),
        ("v3.0", "video_path", None, "has no video_path"),
        ("v2.1", "data_path", "", "has no data_path"),
        ("v2.1", "data_path", 5, "has no data_path"),
        ("v2.1", "data_path", "data/{video_key}/{episode_index}.parquet", "video_key is not known"),
        ("v2.1", "data_path", "data/{0}.parquet", "0 is not known"),
    ],
)
def test_a_template_with_other_fields_is_found_before_anything_is_labelled(tmp_path, layout, name, template, unknown):
    data = write_lerobot(tmp_path / "data", [("lift", pictures(2)[0])], layout)
    change_info(data, **{name: template})
    with pytest.raises(SourceError, match=unknown):
        open_source(str(data), ALL, None)


def test_rows_that_meta_does_not_know_are_found_before_anything_is_labelled(tmp_path):
    data = write_lerobot(tmp_path / "data", [("lift", part) for part in pictures(3, 3)], "v3.0")
    table = data / "data/chunk-000/file-000.parquet"
    change_table(table, lambda row: row | {"task_index": 3 * row["episode_index"]})
    with pytest.raises(SourceError, match=r"episode 1 is about task 3, which meta/ does not list"):
        open_source(str(data), ALL, None)
    change_table(table, lambda row: row | {"task_index": 0, "episode_index": 7})
    with pytest.raises(SourceError, match=r"has rows of episode 7, which meta/ does not list"):
        open_source(str(data), ALL, None)
    change_table(table, lambda row: {"timestamp": row["timestamp"]})
    with pytest.raises(SourceError, match=r"has no column episode_index"):
        open_source(str(data), ALL, None)


def test_where_an_episode_begins_in_its_video_has_to_be_said(tmp_path):
    """It was taken for the beginning of the file, so that each episode got the pictures of the first."""
    data = write_lerobot(tmp_path / "data", [("lift", part) for part in pictures(3, 3)], "v3.0")
    name = f"videos/{CAMERA}/from_timestamp"
    change_table(
        data / "meta/episodes/chunk-000/file-000.parquet", lambda row: {k: v for k, v in row.items() if k != name}
    )
    with pytest.raises(SourceError, match=r"does not say videos/.*/from_timestamp of episode 0"):
        open_source(str(data), ALL, None)


def test_an_episode_that_is_listed_and_has_no_rows_is_a_note(tmp_path):
    data = write_lerobot(tmp_path / "data", [("lift", part) for part in pictures(3, 3)], "v3.0")
    from pyarrow import parquet

    table = data / "data/chunk-000/file-000.parquet"
    write_table(table, [row for row in parquet.read_table(table).to_pylist() if row["episode_index"] == 1])
    source, shots = read(data)
    assert_shown(shots, pictures(3, 3)[1])
    assert "no row is of episodes 0, which meta/ lists" in source.notes[0]


def test_a_video_that_is_shorter_than_its_rows_loses_the_last_of_them(tmp_path):
    images = pictures(6, 6)
    data = write_lerobot(tmp_path / "data", [("lift", part) for part in images])
    film(data / f"videos/chunk-000/{CAMERA}/episode_000000.mp4", images[0][:4])
    source, shots = read(data)
    assert [shot.number for shot in shots] == [0, 1, 2, 3, *range(6, 12)]
    assert_shown(shots, [*images[0][:4], *images[1]])
    (note,) = source.notes
    assert "2 pictures were left out: the video has no picture for the row" in note
    assert "episode_000000.mp4 ends before picture 4" in note


def test_a_video_of_another_rate_is_refused_unless_it_has_a_picture_for_every_row(tmp_path):
    """By the rows' times every third picture would be meant, by their numbers every one."""
    images = pictures(6)[0]
    data = write_lerobot(tmp_path / "data", [("lift", images)])
    path = data / f"videos/chunk-000/{CAMERA}/episode_000000.mp4"
    film(path, images, rate=30)
    assert_shown(read(data)[1], images)
    film(path, [pixels for pixels in images for _ in range(3)], rate=30)
    with pytest.raises(SourceError, match=r"has 18 pictures at 30\.00 per second, the rows come at 10\.00"):
        read(data)


def test_a_damaged_video_is_named_with_what_is_wrong(tmp_path):
    data = write_lerobot(tmp_path / "data", [("lift", pictures(4)[0])])
    path = data / f"videos/chunk-000/{CAMERA}/episode_000000.mp4"
    path.write_bytes(b"no video at all " * 200)
    with pytest.raises(SourceError, match=r"too few pictures .*episode_000000\.mp4 cannot be opened: Invalid data"):
        read(data)


def test_a_codec_that_is_not_known_is_said(tmp_path):
    data = write_lerobot(tmp_path / "data", [("lift", pictures(4)[0])])
    path = data / f"videos/chunk-000/{CAMERA}/episode_000000.mp4"
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(SourceError, match=r"episode_000000\.mp4 is of a codec that this PyAV cannot decode"):
        read(data)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"episode_index": [0, 0]}, "episode_index is not one number in every row"),
        ({"timestamp": "noon"}, "timestamp is no number"),
        ({"timestamp": float("nan")}, "timestamp is not one number in every row"),
        ({"task_index": None}, "4 rows have no task_index"),
        ({CAMERA: "a name"}, "too few pictures of .*: frame 0 of episode 0 has none"),
        ({CAMERA: {"bytes": b"\x89PNG cut"}}, "too few pictures of .*: frame 0 of episode 0: cannot identify"),
    ],
)
def test_cells_that_are_not_what_they_should_be(tmp_path, change, said):
    data = write_lerobot(tmp_path / "data", [("lift", pictures(4)[0])], video=False)
    change_table(data / "data/chunk-000/episode_000000.parquet", lambda row: row | change)
    with pytest.raises(SourceError, match=said):
        read(data)


@pytest.mark.parametrize(
    "changes", [{"features": {"a": 1}}, {"features": []}, {"fps": "fast"}, {"fps": 0}, {"chunks_size": 0}]
)
def test_values_of_info_that_cannot_be_are_told_or_not_needed(tmp_path, changes):
    data = write_lerobot(tmp_path / "data", [("lift", pictures(2)[0])], video=False)
    change_info(data, **changes)
    if "chunks_size" in changes or changes.get("fps") == 0:
        assert len(read(data)[1]) == 2
        return
    with pytest.raises(SourceError, match=r"info\.json has a value that cannot be|cameras: none"):
        read(data)


def test_how_fast_frames_come_has_to_be_said_somewhere(tmp_path):
    data = write_lerobot(tmp_path / "data", [("lift", pictures(2)[0])], video=False, without=("timestamp",))
    change_info(data, fps=None)
    with pytest.raises(SourceError, match=r"neither timestamps nor fps"):
        read(data)


@pytest.mark.parametrize("layout", ["v2.0", "v2.1", "v3.0"])
@pytest.mark.parametrize("what", ["videos", "data", "meta/tasks*", "meta/episodes*", "meta/info.json"])
def test_what_git_lfs_did_not_download_is_called_that(tmp_path, layout, what):
    data = write_lerobot(tmp_path / "data", [("lift", pictures(3)[0]), ("drop", pictures(3)[0])], layout)
    (first, *_) = data.glob(what)
    file = first if first.is_file() else sorted(path for path in first.rglob("*") if path.is_file())[-1]
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(SourceError, match=rf"{file.name} is a Git LFS pointer.*git lfs pull"):
        open_source(str(data), ALL, None)


def test_a_picture_that_git_lfs_did_not_download_is_called_that(tmp_path):
    data = write_lerobot(tmp_path / "data", [("lift", pictures(2)[0])], video=False)
    (data / "frame.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    change_table(
        data / "data/chunk-000/episode_000000.parquet",
        lambda row: row | {CAMERA: {"bytes": None, "path": "frame.png"}},
    )
    with pytest.raises(SourceError, match=r"frame\.png is a Git LFS pointer"):
        read(data)


def test_a_name_of_the_hub_says_how_to_fetch_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=r"hf download --repo-type dataset lerobot/pusht --local-dir FOLDER"):
        open_source("lerobot/pusht", ALL, None)


def test_a_data_set_that_moved_is_the_same_one_and_another_is_not(tmp_path):
    """Labels of one are never mixed with those of another, of another camera, rate, words or decoder."""

    def identity(folder, task="lift", options=ALL, **changes):
        data = folder / "data"
        if not data.exists():
            write_lerobot(data, [(task, pictures(2)[0])], more_cameras=("wrist",), **changes)
        source = open_source(str(data), options, None)
        return source.identity()

    front = SourceOptions(0.0, camera=CAMERA)
    one = identity(tmp_path / "a", options=front)
    assert "lift" not in json.dumps(one), "what is said in the data is in the digest"
    (tmp_path / "a/data/meta/stats.json").write_text("{}")
    (tmp_path / "a/data/meta/episodes_stats.jsonl").write_text("{}")
    assert identity(tmp_path / "a", options=front) == one, "statistics do not change the frames"
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert identity(tmp_path / "b", options=front) == one
    others = [
        identity(tmp_path / "b", options=SourceOptions(0.0, camera="wrist")),
        identity(tmp_path / "b", options=SourceOptions(0.4, camera=CAMERA)),
        identity(tmp_path / "b", options=SourceOptions(0.0, camera=CAMERA, instruction="drop")),
        identity(tmp_path / "c", "drop", front),
        identity(tmp_path / "d", options=front, video=False),
    ]
    assert all(other != one for other in others)
    assert one["decoder"] == "av"
    assert others[-1]["decoder"] == "pillow"


@pytest.mark.parametrize("bad", [12, 13])
def test_spoilt_pictures_are_left_out_unless_they_are_more_than_half(tmp_path, bad):
    """Wherever they are: a third of a data set was too many because its first episode was the spoilt one."""
    images = pictures(12)[0] * 2
    data = write_lerobot(tmp_path / "data", [("lift", images)], video=False)
    change_table(
        data / "data/chunk-000/episode_000000.parquet",
        lambda row: row | ({CAMERA: {"bytes": b"spoilt", "path": None}} if row["frame_index"] < bad else {}),
    )
    if bad == 13:
        with pytest.raises(SourceError, match=r"too few pictures of .*frame 0 of episode 0: cannot identify"):
            read(data)
        return
    source, shots = read(data)
    assert_shown(shots, images[bad:], lossy=False)
    assert "12 pictures were left out: the picture cannot be decoded" in source.notes[0]
