"""Recordings of every kind, intact and broken."""

import shutil

import numpy as np
import pytest

pytest.importorskip("mcap")

from spec_vla_ros.recordings.reader import Bag, BagError


@pytest.mark.parametrize("plugin", ["MCAP", "SQLITE3"])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_recording_is_read_in_order_with_the_types_it_says(make_bag, scenes, plugin, compressed):
    bag = Bag(make_bag(plugin=plugin, compressed=compressed))
    topic = bag.image_topic()
    assert bag.counts[topic] == 12
    assert bag.duration_ns == pytest.approx(1.1e9, rel=0.01)
    read = list(bag.messages())
    assert len(read) == 13
    assert read[0].topic == "/instruction"
    assert read[0].message.data == "pick up the red block"
    assert [m.log_ns for m in read] == sorted(m.log_ns for m in read)
    assert bag.broken == ""
    images = list(bag.messages([topic]))
    assert len(images) == 12
    if not compressed:
        np.testing.assert_array_equal(images[3].message.data.reshape(112, 112, 3), scenes[3])


def test_a_single_file_is_a_recording_too(make_bag):
    (file,) = make_bag().glob("*.mcap")
    assert len(list(Bag(file).messages())) == 13


@pytest.mark.parametrize("plugin", ["MCAP", "SQLITE3"])
@pytest.mark.parametrize("without_metadata", [False, True])
def test_a_recording_that_was_cut_off_gives_what_is_readable_and_says_where_it_ended(
    make_bag, plugin, without_metadata
):
    folder = make_bag(plugin=plugin, frames=60)
    (file,) = [path for path in folder.iterdir() if path.suffix in (".mcap", ".db3")]
    size = file.stat().st_size
    with file.open("r+b") as stream:
        stream.truncate(int(0.6 * size))
    if without_metadata:
        (folder / "metadata.yaml").unlink()
    bag = Bag(folder)
    read = list(bag.messages([bag.image_topic()]))
    assert 3 <= len(read) < 60
    assert str(folder) in bag.broken
    assert str(len(read)) in bag.broken or "messages" in bag.broken


def test_without_metadata_alone_nothing_is_lost(make_bag):
    folder = make_bag()
    (folder / "metadata.yaml").unlink()
    bag = Bag(folder)
    assert len(list(bag.messages())) == 13
    assert "no index" in bag.broken


def test_a_garbled_middle_ends_the_reading_there(make_bag):
    folder = make_bag(plugin="MCAP")
    (file,) = folder.glob("*.mcap")
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4096] = bytes(4096)
    file.write_bytes(data)
    bag = Bag(folder)
    assert len(list(bag.messages())) <= 13  # the pixels of one image are not protected; the structure is


@pytest.mark.parametrize("what", ["nothing", "empty folder", "text"])
def test_what_is_no_recording_says_so(tmp_path, what):
    path = tmp_path / "bag"
    if what == "empty folder":
        path.mkdir()
    elif what == "text":
        path = tmp_path / "bag.mcap"
        path.write_text("this is no recording")
    with pytest.raises(BagError, match="bag"):
        Bag(path)


def test_the_camera_is_asked_for_where_it_is_not_clear(make_bag, tmp_path):
    folder = make_bag()
    bag = Bag(folder)
    assert bag.image_topic("/camera/image_raw") == "/camera/image_raw"
    with pytest.raises(BagError, match="/camera/image_raw"):
        bag.image_topic("/front/image_raw")
    shutil.copytree(folder, tmp_path / "copy")
    other = Bag(tmp_path / "copy")
    other.topics["/wrist/image_raw"] = "sensor_msgs/msg/Image"
    with pytest.raises(BagError, match="--image-topic"):
        other.image_topic()


def test_memory_does_not_grow_with_the_recording(tmp_path):
    """In a process of its own: the peak after 150 MB is that after the first few images."""
    import subprocess
    import sys
    from pathlib import Path

    from recordings import PERIOD, START, image_message
    from rosbags.rosbag2 import StoragePlugin, Writer

    from spec_vla_ros.recordings.writer import new_typestore

    store, pixels = new_typestore(), np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        images = writer.add_connection("/image", "sensor_msgs/msg/Image", typestore=store)
        for index in range(160):
            message = image_message(store, START + index * PERIOD, pixels)
            writer.write(images, START + index * PERIOD, store.serialize_cdr(message, "sensor_msgs/msg/Image"))
    code = (
        "import sys; from spec_vla_ros.recordings.reader import Bag\n"
        "from spec_vla_ros.recordings.frames import Frames\n"
        "from spec_vla_ros.machine import peak_memory as peak\n"
        "bag = Bag(sys.argv[1]); early = 0\n"
        "for frame in Frames(bag, bag.image_topic(), instruction='go', period=0.0):\n"
        "    frame.rgb(); early = peak() if frame.index == 9 else early\n"
        "print(peak() - early, frame.index + 1)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bag")], capture_output=True, text=True, check=True, cwd=root
    )
    grown, images = map(int, done.stdout.split())
    assert images == 160
    assert grown < 20e6


def test_a_recording_without_a_camera_says_so_and_what_it_has_instead(tmp_path):
    """It was asked which of no topics the camera is."""
    from rosbags import rosbag2

    from spec_vla_ros.recordings.writer import new_typestore

    store = new_typestore()
    with rosbag2.Writer(tmp_path / "bag", version=9, storage_plugin=rosbag2.StoragePlugin.MCAP) as writer:
        said = writer.add_connection("/chatter", "std_msgs/msg/String", typestore=store)
        message = store.types["std_msgs/msg/String"](data="hello")
        writer.write(said, 1_000, store.serialize_cdr(message, "std_msgs/msg/String"))
    with pytest.raises(BagError, match=r"holds no images; its topics are /chatter"):
        Bag(tmp_path / "bag").image_topic()
