"""Bag, plot and film are made from the recording after the run, and standard tools can read them."""

import json

import cv2
import numpy as np
import pytest
from recorded_run import SETTINGS, START, image
from rosbags.highlevel import AnyReader

from spec_vla_ros.demo.figures import plot
from spec_vla_ros.demo.film import color_of, frames, write_film
from spec_vla_ros.demo.results import action_records, scenes, write_results
from spec_vla_ros.outputs import OutputError
from spec_vla_ros.recordings.recording import TOPICS, Recording
from spec_vla_ros.recordings.writer import decode, typestore, write_bag


@pytest.fixture(scope="module")
def clips(recorded):
    return scenes(recorded.recording, SETTINGS, recorded.episodes, action_records(recorded.recording), 1)


def test_the_bag_holds_every_message_as_received(recorded, tmp_path):
    size = write_bag(recorded.recording, tmp_path / "bag")
    assert size > 1000
    assert [path.suffix for path in sorted((tmp_path / "bag").iterdir())] == [".mcap", ".yaml"]
    with AnyReader([tmp_path / "bag"]) as reader:  # knows our messages from the bag alone
        assert {connection.topic for connection in reader.connections} == {topic.name for topic in TOPICS}
        read = [(connection.topic, ns, bytes(raw)) for connection, ns, raw in reader.messages()]
        connection = next(c for c in reader.connections if c.topic == "/act/decode_stats")
        _, _, raw = next(reader.messages([connection]))
        assert reader.deserialize(raw, connection.msgtype).verifier_passes == 7
    written = sorted(recorded.recording.messages(), key=lambda entry: entry[1])
    assert sorted(read) == sorted(written)


def test_a_bag_of_an_earlier_run_is_replaced(recorded, tmp_path):
    write_bag(recorded.recording, tmp_path / "bag")
    write_bag(recorded.recording, tmp_path / "bag")
    assert len(list((tmp_path / "bag").iterdir())) == 2


def test_images_are_thinned_out_and_come_back_exactly():
    recording, topic = Recording(), TOPICS[0]
    kept = []
    for k in range(60):  # 2 s at 30 Hz
        ns = START + k * 33_333_333
        raw = bytes(typestore().serialize_cdr(image(ns), topic.type))
        if recording.add(topic, ns, raw):
            kept.append(raw)
    assert len(kept) == 30
    assert [raw for _, _, raw in recording.messages("/image")] == kept
    assert decode(recording, "/image")[3][1].width == 96


def test_the_plot_is_written(recorded, tmp_path):
    path = tmp_path / "plot.png"
    plot(SETTINGS, recorded.episodes, action_records(recorded.recording), path)
    picture = cv2.imread(str(path))
    assert picture.shape[1] > 800
    assert picture.std() > 5


def test_a_plot_of_nothing_is_no_error(tmp_path):
    plot(SETTINGS, [], [], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").exists()


def test_scenes_pair_the_same_episode_of_every_row(clips):
    assert [[clip.episode.row for clip in scene] for scene in clips] == [[0, 1]]
    assert len({clip.episode.seed for clip in clips[0]}) == 1
    assert all(len(clip.images) > 5 and len(clip.actions) == 3 for clip in clips[0])


def test_the_film_plays_and_the_picture_is_there(clips, tmp_path):
    path = write_film(clips, tmp_path)
    assert path.name == "demo.mp4"
    video = cv2.VideoCapture(str(path))
    count = 0
    while (read := video.read())[0]:
        count += 1
        shape = read[1].shape
    assert count == sum(1 for _ in frames(clips))
    assert shape == cv2.imread(str(tmp_path / "frame.png")).shape


def test_accepted_tokens_have_the_colour_of_their_drafter(clips):
    frame = next(iter(frames(clips)))
    later = list(frames(clips))[5]
    assert not np.array_equal(frame, later)
    colors = {tuple(int(c) for c in pixel) for pixel in later[:, later.shape[1] // 2 :].reshape(-1, 3)}
    assert {color_of(source, SETTINGS[1]) for source in ("verifier", "hold", "refine")} <= colors


def test_no_scene_makes_no_film(tmp_path):
    assert write_film([], tmp_path) is None


def test_all_files_of_a_run(recorded, tmp_path):
    lines = []
    write_results(tmp_path, recorded.recording, SETTINGS, recorded.episodes, {"seed": 0}, 1, lines.append)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {"machine", "versions", "rows"} <= summary.keys()
    assert [row["decoder"] for row in summary["rows"]] == ["autoregressive", "speculative"]
    for name in ("bag", "plot.png", "demo.mp4", "frame.png"):
        assert (tmp_path / name).exists()
        assert any(name in line for line in lines)


def test_a_disk_that_is_full_is_an_error_and_not_half_a_bag_that_looks_whole(recorded, tmp_path):
    """The limit of a process's files stands in for the disk."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OutputError, match=r"bag cannot be written: .*(too large|space)"):
            write_bag(recorded.recording, tmp_path / "bag")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
