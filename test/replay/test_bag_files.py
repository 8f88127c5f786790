"""Recordings of several files: their order, what is missing of them, and every form in which rosbag2 stores them."""

import os
import shutil
import sqlite3

import pytest

pytest.importorskip("mcap")
pytest.importorskip("rosbags")

from recordings import PERIOD, START
from splits import CAMERA, PER_SPLIT, REAL, SAID, all_of, change, heard, leave_log, pack, write_metadata, write_splits

from spec_vla_ros.recordings.reader import Bag, BagError

real = pytest.mark.skipif(not REAL.is_dir(), reason="no recordings of others beside the project (../shared/real)")
PLUGINS = pytest.mark.parametrize("plugin", ["MCAP", "SQLITE3"])


@PLUGINS
@pytest.mark.parametrize("metadata", ["whole", "none", "garbled", "without storage"])
@pytest.mark.parametrize("name", ["bag_{}", "{}_bag_2026_11_28-21_00_00"])
def test_twelve_files_are_read_in_the_order_of_recording(tmp_path, plugin, metadata, name):
    files = write_splits(tmp_path / "bag", 12, plugin, name, metadata=metadata == "whole")
    if metadata == "garbled":
        (tmp_path / "bag/metadata.yaml").write_text("rosbag2_bagfile_information: [")
    if metadata == "without storage":
        write_metadata(tmp_path / "bag", files, plugin, storage="")
    bag = Bag(tmp_path / "bag")
    assert bag.files == files
    assert heard(bag) == all_of(*range(12))
    if metadata in ("whole", "without storage"):
        assert bag.broken == ""
    else:
        assert "metadata.yaml" in bag.broken
        assert "72 messages were read" in bag.broken
    assert bag.duration_ns == (12 * PER_SPLIT - 1) * PERIOD + 1000


@PLUGINS
def test_a_cut_last_file_takes_nothing_from_the_others(tmp_path, plugin):
    files = write_splits(tmp_path / "bag", 12, plugin, metadata=False)
    os.truncate(files[11], files[11].stat().st_size * 6 // 10)
    bag = Bag(tmp_path / "bag")
    read = heard(bag)
    assert read[: 11 * PER_SPLIT] == all_of(*range(11))
    assert len(read) < 12 * PER_SPLIT
    assert "bag_11" in bag.broken


def test_messages_of_all_files_are_merged_by_log_time(tmp_path):
    """Two recorders that ran at the same time: all images in one file, all words in the other."""
    (file,) = write_splits(tmp_path / "bag", 1, metadata=False)
    shutil.copy(file, file.with_name("words.db3"))
    for path, topic in ((file, SAID), (file.with_name("words.db3"), CAMERA)):
        with sqlite3.connect(path) as database:
            database.execute("DELETE FROM messages WHERE topic_id IN (SELECT id FROM topics WHERE name = ?)", (topic,))
            database.execute("UPDATE messages SET timestamp = timestamp + ?", (2 * PERIOD if topic == CAMERA else 0,))
        database.close()
    bag = Bag(tmp_path / "bag")
    read = [recorded.log_ns for recorded in bag.messages()]
    assert read == sorted(read)
    assert heard(bag) == all_of(0)[2:], "the words come before the third image"


def test_a_copy_beside_its_original_is_used_once_and_said(tmp_path):
    (file,) = write_splits(tmp_path / "bag", 1)
    shutil.copy(file, file.with_name("copy.db3"))
    bag = Bag(tmp_path / "bag")
    assert heard(bag) == all_of(0)
    assert "6 messages stand in two files" in bag.broken


@PLUGINS
def test_a_missing_file_is_said_and_the_words_before_it_do_not_count_after_it(tmp_path, plugin):
    files = write_splits(tmp_path / "bag", 4, plugin)
    files[1].unlink()
    bag = Bag(tmp_path / "bag")
    assert heard(bag) == all_of(0, 2, 3)
    assert f"{files[1].name} is missing" in bag.broken
    assert "promises 24 messages" in bag.broken
    assert heard(bag, instruction="go 9")[PER_SPLIT] == (2 * PER_SPLIT, "go 9")


def test_after_a_loss_nobody_knows_what_the_arm_was_told(tmp_path):
    files = write_splits(tmp_path / "bag", 3)
    files[1].unlink()
    with sqlite3.connect(files[2]) as database:  # said once, in the file that is gone
        database.execute("DELETE FROM messages WHERE timestamp = ?", (START + 2 * PER_SPLIT * PERIOD - 1000,))
    database.close()
    assert heard(Bag(tmp_path / "bag")) == all_of(0)


@pytest.mark.parametrize("damage", ["cut", "link", "message"])
def test_after_a_broken_file_nobody_knows_what_the_arm_was_told(tmp_path, damage):
    files = write_splits(tmp_path / "bag", 3)
    change(files[2], "DELETE FROM messages WHERE timestamp = ?", START + 2 * PER_SPLIT * PERIOD - 1000)
    if damage == "cut":
        os.truncate(files[1], files[1].stat().st_size - 4096)
    elif damage == "link":
        files[1].unlink()
        files[1].symlink_to(tmp_path / "unmounted")
    else:
        change(files[1], "UPDATE messages SET data = ? WHERE timestamp = ?", b"\0\1\0\0", START + 6 * PERIOD)
    bag = Bag(tmp_path / "bag")
    read = heard(bag)
    assert read[:PER_SPLIT] == all_of(0)
    assert read == all_of(0, 1)[: len(read)], "none of the last file, and in the second none after the damage"
    assert "bag_1.db3" in bag.broken
    if damage == "message":
        assert len(read) == PER_SPLIT + 1
        assert len(list(bag.messages([CAMERA]))) == 2 * PER_SPLIT + 1
        assert f"broken after 1 messages of {CAMERA}" in bag.broken


def test_files_that_metadata_lists_in_another_order_are_merged(tmp_path):
    files = write_splits(tmp_path / "bag", 3)
    write_metadata(tmp_path / "bag", files[::-1])
    assert heard(Bag(tmp_path / "bag")) == all_of(0, 1, 2)


@pytest.mark.parametrize("listed", ["plain", "compressed"])
def test_files_that_were_compressed_or_unpacked_by_hand_are_those_that_are_listed(tmp_path, listed):
    files = write_splits(tmp_path / "bag", 2)
    packed = [pack(file) for file in files]
    if listed == "compressed":
        write_metadata(tmp_path / "bag", packed)
        write_splits(tmp_path / "again", 2)
        for file in packed:
            shutil.move(tmp_path / "again" / file.stem, file.with_suffix(""))
            file.unlink()
    (tmp_path / "bag" / "older.db3").mkdir()
    bag = Bag(tmp_path / "bag")
    assert heard(bag) == all_of(0, 1)
    assert bag.broken == ""


def test_messages_of_a_listed_copy_are_not_missing(tmp_path):
    (file,) = write_splits(tmp_path / "bag", 1)
    copy = shutil.copy(file, file.with_name("copy.db3"))
    write_metadata(tmp_path / "bag", [file, copy])
    bag = Bag(tmp_path / "bag")
    assert heard(bag) == all_of(0)
    assert "promises" not in bag.broken


def test_the_definitions_in_the_bag_count(tmp_path):
    (file,) = write_splits(tmp_path / "bag", 1)
    of = "WHERE topic_type = 'std_msgs/msg/String'"
    change(file, f"UPDATE message_definitions SET encoded_message_definition = 'string words' {of}")
    assert [said.message.words for said in Bag(file).messages([SAID])] == ["go 0"]


@PLUGINS
def test_metadata_that_lists_two_of_three_files_is_not_all(tmp_path, plugin):
    files = write_splits(tmp_path / "bag", 3, plugin)
    write_metadata(tmp_path / "bag", files[:2], plugin)
    bag = Bag(tmp_path / "bag")
    assert heard(bag) == all_of(0, 1, 2)
    assert f"{files[2].name} is not listed in metadata.yaml" in bag.broken


@PLUGINS
def test_a_listed_file_without_content_is_said(tmp_path, plugin):
    files = write_splits(tmp_path / "bag", 3, plugin)
    files[2].write_bytes(b"")
    bag = Bag(tmp_path / "bag")
    assert heard(bag) == all_of(0, 1)
    assert f"{files[2].name} is empty" in bag.broken


def test_a_listed_file_without_messages_is_said(tmp_path):
    files = write_splits(tmp_path / "bag", 2)
    with sqlite3.connect(files[1]) as database:
        database.execute("DELETE FROM messages")
    database.close()
    bag = Bag(tmp_path / "bag")
    assert heard(bag) == all_of(0)
    assert f"{files[1].name} holds 0 of the 6 messages" in bag.broken
    assert bag.remarks == [f"{files[1].name} holds no message"]


def test_metadata_that_promises_more_than_there_is(tmp_path):
    files = write_splits(tmp_path / "bag", 2)
    write_metadata(tmp_path / "bag", files, each=PER_SPLIT + 3)
    bag = Bag(tmp_path / "bag")
    assert heard(bag) == all_of(0, 1)
    assert "holds 6 of the 8 messages" in bag.broken


@pytest.mark.parametrize("folder", ["bag", "run #1", "50%41", "what?"])
def test_the_write_ahead_log_of_a_killed_recorder_is_read(tmp_path, folder):
    (file,) = write_splits(tmp_path / folder, 1)
    assert leave_log(file, START + PERIOD) == 3
    before = {path.name: path.read_bytes() for path in file.parent.iterdir()}
    bag = Bag(tmp_path / folder)
    assert heard(bag) == all_of(0)
    assert bag.broken == ""
    assert "write-ahead log" in bag.remarks[0]
    assert before == {path.name: path.read_bytes() for path in file.parent.iterdir()}, "nothing is written"


def test_a_write_ahead_log_that_was_lost_leaves_a_gap_that_is_said(tmp_path):
    (file,) = write_splits(tmp_path / "bag", 1)
    leave_log(file, START + PERIOD)
    file.with_name(file.name + "-wal").unlink()
    bag = Bag(tmp_path / "bag")
    assert heard(bag) == all_of(0)[:2]
    assert "holds 3 of the 6 messages" in bag.broken


@PLUGINS
@pytest.mark.parametrize("metadata", [True, False])
def test_compressed_files(tmp_path, plugin, metadata):
    packed = [pack(file) for file in write_splits(tmp_path / "bag", 3, plugin, metadata=False)]
    if metadata:
        write_metadata(tmp_path / "bag", packed, plugin)
    bag = Bag(tmp_path / "bag")
    assert heard(bag) == all_of(0, 1, 2)
    assert bool(bag.broken) is not metadata
    assert heard(Bag(packed[1])) == all_of(1)
    temporary = bag._temporary
    del bag
    assert not temporary.exists()


@PLUGINS
def test_a_crash_leaves_compressed_files_beside_a_plain_one(tmp_path, plugin):
    files = write_splits(tmp_path / "bag", 3, plugin, metadata=False)
    for file in files[:2]:
        pack(file)
    assert heard(Bag(tmp_path / "bag")) == all_of(0, 1, 2)
    plain = files[2].read_bytes()
    half = pack(files[2])  # and was compressing the third
    half.write_bytes(half.read_bytes()[:100])
    files[2].write_bytes(plain)
    bag = Bag(tmp_path / "bag")
    assert heard(bag) == all_of(0, 1, 2)
    assert bag.remarks == [f"{half.name} was left out, because the file that it was made of is there"]


def test_a_compressed_file_that_was_cut_off(tmp_path):
    packed = [pack(file) for file in write_splits(tmp_path / "bag", 2, "MCAP", metadata=False)]
    write_metadata(tmp_path / "bag", packed, "MCAP")
    packed[1].write_bytes(packed[1].read_bytes()[:-20])
    bag = Bag(tmp_path / "bag")
    assert heard(bag)[:PER_SPLIT] == all_of(0)
    assert f"{packed[1].name} its compressed data" in bag.broken


@PLUGINS
@pytest.mark.parametrize("metadata", [True, False])
def test_messages_that_are_compressed_one_by_one(tmp_path, plugin, metadata):
    write_splits(tmp_path / "bag", 2, plugin, metadata=metadata, message_zstd=True)
    bag = Bag(tmp_path / "bag")
    assert heard(bag) == all_of(0, 1)
    assert bool(bag.broken) is not metadata


@pytest.mark.parametrize("name", ["run #1", "50%41", "what?"])
@PLUGINS
def test_folders_with_odd_names(tmp_path, name, plugin):
    files = write_splits(tmp_path / name, 2, plugin)
    bag = Bag(tmp_path / name)
    assert heard(bag) == all_of(0, 1)
    assert bag.broken == ""
    os.truncate(files[1], files[1].stat().st_size - 4096 if plugin == "SQLITE3" else 1500)
    assert heard(Bag(tmp_path / name))[:PER_SPLIT] == all_of(0)


def test_types_as_they_were_called_in_2019(tmp_path):
    (file,) = write_splits(tmp_path / "bag", 1, metadata=False)
    with sqlite3.connect(file) as database:
        database.execute("UPDATE topics SET type = replace(type, '/msg/', '/')")
        database.execute("DELETE FROM message_definitions")
    database.close()
    bag = Bag(file)
    assert bag.image_topic() == CAMERA
    assert heard(bag) == all_of(0)
    assert bag.broken == ""


@pytest.fixture
def mixed(tmp_path):
    """An MCAP of a fleet: ROS beside protobuf (a binary schema) and JSON; and a plan that has no schema."""
    from mcap.writer import CompressionType, IndexType, Writer
    from rosbags.typesys import Stores, get_typestore

    def write(order=int, **options):
        store = get_typestore(Stores.ROS2_JAZZY)
        with (tmp_path / "mixed.mcap").open("wb") as stream:
            writer = Writer(stream, chunk_size=2000, **{"compression": CompressionType.ZSTD, **options})
            writer.start(profile="ros2")
            text, _ = store.generate_msgdef("std_msgs/msg/String", ros_version=2)
            schemas = [
                writer.register_schema("std_msgs/msg/String", "ros2msg", text.encode()),
                writer.register_schema("foxglove.Image", "protobuf", b"\x0a\xff\xfe\x80"),
                writer.register_schema("std_msgs/msg/String", "jsonschema", b"{}"),
            ]
            topics = [SAID, "/fleet/image", "/fleet/status"]
            channels = [
                writer.register_channel(*row) for row in zip(topics, ["cdr", "protobuf", "json"], schemas, strict=True)
            ]
            said = bytes(store.serialize_cdr(store.types["std_msgs/msg/String"](data="go"), "std_msgs/msg/String"))
            for index in map(order, range(100)):
                for channel, data in zip(channels, (said, b"\xff\xff", b"{}"), strict=True):
                    writer.add_message(channel, START + index * PERIOD, data, START + index * PERIOD)
            writer.finish()
        return tmp_path / "mixed.mcap"

    return lambda **options: write(**{"index_types": IndexType.ALL, **options})


def test_a_foreign_channel_does_not_push_the_file_into_salvage(mixed):
    bag = Bag(mixed())
    assert bag._parts[0].why == ""
    assert bag.topics == {
        SAID: "std_msgs/msg/String", "/fleet/image": "foxglove.Image (protobuf)",
        "/fleet/status": "std_msgs/msg/String (json)",
    }  # fmt: skip
    assert bag.texts == [SAID]
    assert [recorded.message.data for recorded in bag.messages(whole=True)] == ["go"] * 100
    assert bag.broken == ""
    assert bag.counts == dict.fromkeys(bag.topics, 100)


@pytest.mark.parametrize("options", [{"use_chunking": False}, {"index_types": 0, "use_statistics": False}])
def test_an_mcap_that_was_written_without_an_index_is_whole_if_it_was_closed(mixed, options):
    from mcap.writer import IndexType

    if "index_types" in options:
        options = {**options, "index_types": IndexType.NONE}
    file = mixed(**options)
    bag = Bag(file)
    assert len(list(bag.messages())) == 100
    assert bag.broken == ""
    os.truncate(file, file.stat().st_size // 2)
    bag = Bag(file)
    assert 0 < len(list(bag.messages())) < 100
    assert "is broken after" in bag.broken


def test_damage_in_a_topic_that_is_not_asked_for_is_found_where_all_is_to_be_read(mixed):
    file = mixed()
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 0xFF
    file.write_bytes(data)
    bag = Bag(file)
    list(bag.messages([SAID], whole=True))
    assert "is broken after" in bag.broken


@pytest.mark.parametrize("cut", [False, True])
def test_a_changed_byte_in_a_message_is_noticed(mixed, cut):
    from mcap.writer import CompressionType

    file = mixed(compression=CompressionType.NONE)
    data = bytearray(file.read_bytes())
    at = data.index(b"go\0", len(data) // 3)
    data[at : at + 2] = b"no"
    file.write_bytes(data[:-200] if cut else data)
    bag = Bag(file)
    said = {recorded.message.data for recorded in bag.messages()}
    assert said == {"go"}
    assert "crc" in bag.broken


def test_messages_without_an_index_are_put_in_order(mixed):
    bag = Bag(mixed(use_chunking=False, order=lambda index: index ^ 1))
    times = [recorded.log_ns for recorded in bag.messages()]
    assert len(times) == 100
    assert times == sorted(times)


@pytest.mark.parametrize("suffix", [".db3", ".mcap", ".db3.zstd"])
def test_a_git_lfs_pointer_is_called_one(tmp_path, suffix):
    file = tmp_path / f"bag{suffix}"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(BagError, match=r"bag.* is a Git LFS pointer.*git lfs pull"):
        Bag(tmp_path)


def test_a_link_to_a_file_that_is_not_there_is_one_file_less(tmp_path):
    files = write_splits(tmp_path / "bag", 3)
    files[1].unlink()
    files[1].symlink_to(tmp_path / "unmounted" / "bag_1.db3")
    bag = Bag(tmp_path / "bag")
    assert heard(bag) == all_of(0, 2)
    assert "bag_1.db3 cannot be read: No such file or directory" in bag.broken
    with pytest.raises(BagError, match=r"bag_1.db3"):
        Bag(files[1])


def test_a_folder_of_which_only_the_metadata_is_left(tmp_path):
    for file in write_splits(tmp_path / "bag", 2):
        file.unlink()
    with pytest.raises(BagError, match=r"none of .* metadata.yaml lists is there: bag_0.db3, bag_1.db3"):
        Bag(tmp_path / "bag")


@real
@pytest.mark.parametrize(
    ("name", "messages"), [("bridge_bag", 1025), ("file_compression", 775), ("message_compression", 1127)]
)
@pytest.mark.parametrize("metadata", [True, False])
def test_recordings_of_others_are_read_to_the_last_message(tmp_path, name, messages, metadata):
    folder = REAL / name
    if not metadata:
        folder = tmp_path / name
        folder.mkdir()
        for file in (REAL / name).iterdir():
            if file.name != "metadata.yaml":
                (folder / file.name).symlink_to(file)
    bag = Bag(folder)
    times = [recorded.log_ns for recorded in bag.messages(whole=True)]
    assert len(times) == messages == sum(bag.counts.values())
    assert times == sorted(times)
    assert bool(bag.broken) is not metadata
