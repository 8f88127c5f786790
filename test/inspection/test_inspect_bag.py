"""Recordings: what they hold, what is wrong with their images and times, and where they end."""

import os
import sqlite3
from pathlib import Path

import pytest

pytest.importorskip("mcap")
pytest.importorskip("rosbags")

from backports import zstd
from bag_writer import CAMERA, BagWriter

from spec_vla_ros.inspection import recording as module
from spec_vla_ros.inspection.camera import Camera

REAL = Path(__file__).parents[3] / "shared" / "real" / "bags"


@pytest.fixture
def bag():
    writer = BagWriter()
    writer.say("pick up the red block")
    return writer


@pytest.fixture
def look(inspect, tmp_path):
    """Write a bag and inspect it."""
    return lambda bag, *options: inspect(bag.write(tmp_path / "bag"), *options)


@pytest.mark.parametrize("plugin", ["MCAP", "SQLITE3"])
def test_a_whole_recording_is_described(inspect, bag, tmp_path, plugin):
    bag.images(30)
    said = inspect(bag.write(tmp_path / "bag", plugin))
    assert said.status == 0
    assert said.warnings == []
    for part in (
        "MCAP" if plugin == "MCAP" else "SQLite",
        f"{CAMERA} sensor_msgs/msg/Image 30",
        "2.9 s from 2023-11-14 22:13:1",
        "30 of 160 x 120 rgb8",
        "10.00 Hz by the stamps, intervals 100.0 +- 0.0 ms",
        "'pick up the red block'",
        "nothing to compare its actions with",
        "nothing was found that would go wrong",
    ):
        assert part in said.text, part


def test_compressed_images_are_measured_without_decoding(look, bag):
    for index in range(5):
        bag.jpeg(0.1 * index)
    said = look(bag)
    assert said.status == 0
    assert "5 of 160 x 120 jpeg" in said.text


def test_a_jpeg_that_was_cut_off(look, bag):
    for index in range(5):
        bag.jpeg(0.1 * index, keep=0.5 if index == 2 else 1.0)
    said = look(bag)
    assert said.status == 0
    assert any("1 image cannot be used (IMAGE_INVALID): truncated" in warning for warning in said.warnings)


@pytest.mark.parametrize("plugin", ["MCAP", "SQLITE3"])
@pytest.mark.parametrize("metadata", [True, False])
def test_where_a_recording_was_cut_off(inspect, bag, tmp_path, plugin, metadata):
    bag.images(60)
    folder = bag.write(tmp_path / "bag", plugin)
    (file,) = [path for path in folder.iterdir() if path.suffix in (".mcap", ".db3")]
    os.truncate(file, int(0.6 * file.stat().st_size))
    if not metadata:
        (folder / "metadata.yaml").unlink()
    said = inspect(folder)
    assert said.status == 0, "what is there can be replayed"
    (told,) = [warning for warning in said.warnings if "the last message that was read" in warning]
    assert str(folder) in told
    seconds = float(told.rpartition("read is ")[2].split(" s after")[0])
    assert 0.1 < seconds < 5.0
    usable = said.facts[str(folder)]["images_/camera/image_raw"]["usable"]
    assert 0 < usable["usable"] == pytest.approx(10 * seconds + 1, abs=1)
    assert "whole no, see below" in said.text


def test_nothing_that_can_be_read(inspect, tmp_path):
    file = tmp_path / "bag.mcap"
    file.write_bytes(b"this is no recording")
    assert any("cannot be read" in error for error in inspect(file).errors)


def test_no_images(look, bag):
    assert any("holds no images; its topics are /instruction" in error for error in look(bag).errors)


def test_a_topic_without_messages(look, bag):
    bag.images(3)
    bag.messages = bag.messages[:1]
    bag.say("x", topic="/other")
    assert look(bag).status == 1


def test_no_instruction_recorded(inspect, tmp_path):
    bag = BagWriter()
    bag.images(5)
    folder = bag.write(tmp_path / "bag")
    said = inspect(folder)
    (error,) = said.errors
    assert "says no instruction" in error
    assert "--instruction" in error
    assert inspect(folder, "--instruction", "pick up the red block").status == 0
    assert any("the instruction is empty" in error for error in inspect(folder, "--instruction", "</s>").errors)


def test_instructions_elsewhere(inspect, tmp_path):
    bag = BagWriter()
    bag.images(5)
    bag.say("pick up the red block", topic="/operator/instruction")
    folder = bag.write(tmp_path / "bag")
    said = inspect(folder)
    assert said.status == 0
    assert "/operator/instruction" in said.text


def test_instructions_in_two_places_have_to_be_chosen_from(inspect, tmp_path):
    bag = BagWriter()
    bag.images(5)
    for topic in ("/left/instruction", "/right/instruction"):
        bag.say("pick up the red block", topic=topic)
    folder = bag.write(tmp_path / "bag")
    (error,) = inspect(folder).errors
    assert "/left/instruction, /right/instruction" in error
    assert inspect(folder, "--instruction-topic", "/left/instruction").status == 0
    assert inspect(folder, "--instruction", "pick up the red block").status == 0


def test_instructions_that_come_late_or_cannot_be_used(look, bag):
    bag.messages.clear()
    bag.images(20)
    bag.say("</s>", at=0.56)
    bag.say("pick up the red block", at=0.95)
    said = look(bag)
    assert said.status == 0
    assert "10 images without an instruction in force" in said.warnings
    assert any("/instruction at 0.6 s" in w and "INSTRUCTION_INVALID" in w for w in said.warnings), said.warnings


def test_gaps(look, bag):
    bag.images(10)
    bag.images(10, begin=2.0)
    bag.images(10, begin=4.0)
    said = look(bag)
    assert said.status == 0
    assert any("2 times no image for longer than image_timeout 0.5 s, 1.10 s at worst" in w for w in said.warnings)
    assert "2: 1.10 s at 2.9 s, 1.10 s at 0.9 s" in said.text


@pytest.mark.parametrize(
    ("stamp", "said_what"),
    [
        (0.2, "5 images stamped more than 0.05 s after it was recorded, 0.20 s at worst, first at 0.5 s"),
        (-0.9, "5 images older than image_timeout 0.5 s when recorded, 0.90 s at worst"),
        (None, "5 images stamped zero"),
        (-0.1, "1 image stamped like the image in front of it"),
    ],
)
def test_stamps_that_would_stop_the_arm(look, bag, stamp, said_what):
    bag.images(5)
    bag.images(5, begin=0.5, stamp=stamp)
    said = look(bag)
    assert said.status == 0
    assert any(said_what in warning for warning in said.warnings), said.warnings


def test_a_clock_that_was_set_is_told_from_an_image_that_came_late(inspect, bag, tmp_path):
    bag.images(10)
    bag.images(10, begin=1.0, stamp=-3.0)
    said = inspect(bag.write(tmp_path / "set"))
    assert any("1 image stamped more than 0.05 s before the image in front of it" in w for w in said.warnings)
    assert any("1 image from which on stamps and recording are apart by another time" in w for w in said.warnings)
    late = BagWriter()
    late.say("pick up the red block")
    late.images(10)
    late.image(1.6, stamp=-0.6)
    late.images(10, begin=1.7)
    for index in range(8):  # a stall, and the images that waited for its end
        late.image(3.6 + 0.01 * index, stamp=-0.8 + 0.09 * index)
    late.images(20, begin=3.7)
    said = inspect(late.write(tmp_path / "late"))
    assert not any("apart by another time" in warning for warning in said.warnings), said.warnings


def test_simulated_time_is_not_called_late(look, bag):
    bag.images(10, stamp=-1_700_000_000.0 + 5)
    said = look(bag)
    assert len(said.warnings) == 1
    assert "different clocks" in said.warnings[0]


def test_a_simulation_that_was_reset(look, bag):
    bag.images(10)
    for at, seconds in ((0.1, 5), (0.2, 6), (0.3, 1)):
        bag.clock(at, seconds)
    assert any("/clock went back 1 time, first at 0.3 s" in warning for warning in look(bag).warnings)


def test_mixed_encodings_and_sizes(look, bag):
    bag.images(5)
    bag.images(5, begin=0.5, encoding="bgr8", size=(320, 240))
    said = look(bag)
    assert said.status == 0
    assert any("changes size or encoding: 160 x 120 rgb8, 320 x 240 bgr8" in warning for warning in said.warnings)


def test_an_encoding_that_nobody_converts(look, bag):
    bag.images(5, encoding="yuv444")
    said = look(bag)
    assert said.status == 1
    assert any("none of 5 images can be used: unsupported encoding 'yuv444'" in error for error in said.errors)


def test_truncated_images_are_counted(look, bag):
    bag.images(8)
    bag.images(2, begin=0.8, drop=100)
    said = look(bag)
    assert said.status == 0
    assert any(
        "2 images cannot be used (IMAGE_INVALID): truncated: 57500 bytes" in warning for warning in said.warnings
    )


def test_depth_is_no_camera(inspect, bag, tmp_path):
    bag.images(5, topic="/camera/depth", encoding="16UC1")
    said = inspect(bag.write(tmp_path / "only"))
    assert said.errors == ["/camera/depth holds depth images, which are not pictures"]
    bag.images(5)
    folder = bag.write(tmp_path / "both")
    said = inspect(folder)
    assert said.errors == [f"{folder} has 2 image topics: /camera/depth, {CAMERA}"]
    assert f"--image-topic {CAMERA}; the others hold depth images" in said.text
    assert inspect(folder, "--image-topic", CAMERA).status == 0
    assert any(
        "/elsewhere is no image topic" in error for error in inspect(folder, "--image-topic", "/elsewhere").errors
    )


def test_two_cameras_need_a_choice(inspect, bag, tmp_path):
    bag.images(5)
    bag.images(5, topic="/wrist/image_raw", rate=30.0)
    folder = bag.write(tmp_path / "bag")
    said = inspect(folder)
    assert any("2 image topics" in error for error in said.errors)
    assert "10.00 Hz" in said.text
    assert "30.00 Hz" in said.text
    assert inspect(folder, "--image-topic", "/wrist/image_raw").status == 0


def test_long_recordings_say_how_far_they_are(bag, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAID_EVERY", -1.0)
    bag.images(5)
    lines = []
    module.inspect_bag(str(bag.write(tmp_path / "bag")), progress=lines.append)
    assert len(lines) == 6
    assert "3 of 6 messages, " in lines[2]
    assert lines[-1].endswith(" 0 s left")


def test_what_is_kept_does_not_grow(bag):
    camera = Camera(CAMERA, compressed=False)
    for index in range(300):
        bag.messages.clear()
        bag.image(index, size=(8 + index, 8), drop=index % 40, stamp=-1.0 * (index % 7))
        ((_, _, ns, message),) = bag.messages
        camera.add(message, ns)
    assert len(camera.kinds) <= 17
    assert len(camera.reasons) <= 9
    assert len(camera.gaps) <= 5
    assert len(camera.sizes) <= 16
    assert sum(camera.kinds.values()) == 300


@pytest.mark.parametrize(
    ("fill", "what"), [(0, "black"), (14, "black"), (128, "of one colour"), (255, "of one colour")]
)
def test_a_camera_that_shows_nothing_in_any_image_is_a_finding(look, bag, fill, what):
    bag.images(12, fill=fill)
    said = look(bag)
    assert said.errors == [f"{CAMERA} shows nothing: it is {what} in all of 12 images"]


def test_black_jpegs_of_a_camera_that_is_not_used_are_a_warning(inspect, bag, tmp_path):
    bag.images(5)
    for index in range(5):
        bag.jpeg(0.1 * index, topic="/wrist/compressed", fill=5)
    said = inspect(bag.write(tmp_path / "bag"), "--image-topic", CAMERA)
    assert said.status == 0
    assert said.warnings == ["/wrist/compressed shows nothing: it is black in all of 5 images"]


def test_one_image_with_something_in_it_is_enough(look, bag):
    bag.images(6, fill=0)
    bag.image(0.6)
    bag.images(6, begin=0.7, fill=200)
    said = look(bag)
    assert (said.errors, said.warnings) == ([], [])


def test_black_and_white_flicker_shows_nothing_either(look, bag):
    for index in range(6):
        bag.image(0.1 * index, fill=255 * (index % 2))
    assert look(bag).errors == [f"{CAMERA} shows nothing: it is of one colour in all of 6 images, 3 of them black"]


def test_a_camera_that_repeats_one_picture_is_a_finding(look, bag):
    for index in range(6):
        bag.messages, kept = [], bag.messages
        bag.image(0.1 * index)
        bag.messages = kept + bag.messages
    said = look(bag)
    assert said.warnings == [f"{CAMERA} shows the same picture in all of 6 images, to the last bit"]
    assert "IMAGE_FROZEN" in said.text


def test_compressed_depth_is_no_camera(inspect, bag, tmp_path):
    """By what stands before the semicolon; it was 5 usable pictures."""
    for index in range(5):
        bag.jpeg(0.1 * index, topic="/depth/compressed", form="16UC1; png compressed")
    assert inspect(bag.write(tmp_path / "bag")).errors == [
        "/depth/compressed holds depth images, which are not pictures"
    ]


@pytest.mark.skipif(not REAL.exists(), reason="no real recordings here")
def test_the_black_camera_of_a_real_recording_is_found(inspect):
    said = inspect(REAL / "bridge_bag")
    (told,) = [what for what in said.warnings if "shows nothing" in what]
    assert "camera_3" in told
    assert "black in all of" in told


def test_the_rate_is_that_within_episodes(look, bag):
    for episode in range(8):
        bag.images(6, rate=5.0, begin=4.0 * episode)
    assert "5.00 Hz by the stamps, intervals 200.0 +- 0.0 ms" in look(bag).text


def test_the_rate_of_a_camera_that_jitters_is_the_middle_one(look, bag):
    for index in range(51):
        bag.image(0.1 * index + (0.004 * (index % 5 - 2) if index else 0.0))
    said = look(bag)
    section = said.facts[next(iter(said.facts))]["images_/camera/image_raw"]
    assert section["rate"]["interval_ms"] == pytest.approx(104, abs=0.5)


def test_a_recording_in_simulated_time_was_not_made_in_1970(inspect, bag, tmp_path, monkeypatch):
    monkeypatch.setattr("bag_writer.START", 5 * 10**9)
    bag.messages.clear()
    bag.say("pick up the red block")
    bag.images(5)
    said = inspect(bag.write(tmp_path / "bag"))
    assert "0.4 s from 5.0 s of simulated time" in said.text
    assert "1970" not in said.lines


def test_a_recording_without_a_message_was_not_made_in_1970(inspect, bag, tmp_path):
    folder = bag.write(tmp_path / "bag", "SQLITE3")
    with sqlite3.connect(folder / "bag.db3") as database:
        database.execute("DELETE FROM messages")
    database.close()
    said = inspect(folder)
    assert "from no message" in said.text
    assert "whole no, see below" in said.text
    assert "1970" not in said.lines


def test_a_recording_is_whole_only_if_messages_that_nobody_needs_are(inspect, bag, tmp_path):
    """Damage in the last chunk, which holds nothing but odometry."""
    from mcap.reader import make_reader

    bag.images(2, size=(700, 600))
    for index in range(400):
        bag.twist(1 + index / 100, topic="/odometry")
    file = bag.write(tmp_path / "bag") / "bag.mcap"
    assert "whole yes" in inspect(file.parent).text
    with file.open("r+b") as stream:
        chunk = make_reader(stream).get_summary().chunk_indexes[-1]
        stream.seek(chunk.chunk_start_offset + chunk.chunk_length // 2)
        stream.write(b"\xff" * 200)
    said = inspect(file.parent)
    assert "whole no, see below" in said.text
    assert "2 of 700 x 600 rgb8" in said.text
    assert any("bag.mcap is broken" in warning for warning in said.warnings)


@pytest.mark.parametrize("plugin", ["MCAP", "SQLITE3"])
def test_a_compressed_file_is_a_recording(inspect, bag, tmp_path, plugin):
    bag.images(5)
    folder = bag.write(tmp_path / "bag", plugin)
    (folder / "metadata.yaml").unlink()
    (file,) = folder.iterdir()
    packed = file.with_name(file.name + ".zstd")
    packed.write_bytes(zstd.compress(file.read_bytes()))
    file.unlink()
    assert "whole yes" in inspect(packed).text
    said = inspect(folder)
    assert f"1, {'MCAP' if plugin == 'MCAP' else 'SQLite'} in zstd" in said.text
    assert any("there is no metadata.yaml" in warning for warning in said.warnings)


def test_images_after_a_file_that_is_missing_have_no_instruction(inspect, bag, tmp_path):
    bag.images(5)
    folder = bag.write(tmp_path / "bag", "SQLITE3")
    bag.messages.clear()
    bag.images(5, begin=9.0)
    (bag.write(tmp_path / "late", "SQLITE3") / "late.db3").rename(folder / "late.db3")
    about = (folder / "metadata.yaml").read_text().replace("- bag.db3", "- bag.db3\n  - gone.db3\n  - late.db3")
    (folder / "metadata.yaml").write_text(about)
    said = inspect(folder)
    assert any("5 images without an instruction in force" in warning for warning in said.warnings)
    assert any("gone.db3 is missing, which metadata.yaml lists" in warning for warning in said.warnings)


@pytest.mark.skipif(not REAL.is_dir(), reason="no recordings of others beside the project (../shared/real)")
def test_recordings_of_others(inspect):
    said = inspect(REAL / "bridge_bag", "--image-topic", "/camera_0/image_raw/compressed")
    assert said.status == 0
    assert "5.00 Hz" in said.text
    for name, begin in (("file_compression", "2020-11-02 22:41:49"), ("message_compression", "2020-11-05 13:02:37")):
        text = inspect(REAL / name).text
        assert "whole yes" in text
        assert begin in text
