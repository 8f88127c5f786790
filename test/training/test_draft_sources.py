"""Frames out of recordings: all of them, in order, with the right instruction, cut into episodes where one ends."""

import shutil

import numpy as np
import pytest
from draft_recordings import ALL, everything, outline, pictures, read, write_bag

from spec_vla_ros.recordings.episodes import bags_in
from spec_vla_ros.training.draft_sources import open_bags, open_source
from spec_vla_ros.training.frame_source import SourceError, SourceOptions

# -- bags


@pytest.mark.parametrize("compressed", [False, True])
def test_a_new_instruction_and_a_gap_begin_an_episode(tmp_path, compressed):
    first, second, third = pictures(3, 2, 2)
    bag = write_bag(
        tmp_path / "bag", [("pick it up", first), (None, second), ("  Touch it.\n", third)], compressed=compressed
    )
    source, shots = read(bag)
    assert outline(shots) == [
        *((n, 0, "pick it up") for n in range(3)), (3, 1, "pick it up"), (4, 1, "pick it up"),
        (5, 2, "  Touch it."), (6, 2, "  Touch it."),
    ]  # fmt: skip
    assert (source.expected, source.instructions, source.notes) == (7, ["pick it up", "  Touch it."], [])
    for shot, pixels in zip(shots, [*first, *second, *third], strict=True):
        assert np.abs(shot.image.astype(int) - pixels).mean() < (4 if compressed else 1e-9)


def test_a_new_instruction_begins_an_episode_even_without_a_gap(tmp_path):
    first, second = pictures(2, 2)
    _, shots = read(write_bag(tmp_path / "bag", [("lift", first), ("drop", second)], gap=0.0))
    assert [shot.episode for shot in shots] == [0, 0, 1, 1]


def test_while_the_instruction_is_blank_or_missing_nothing_is_learnt(tmp_path):
    first, second, third = pictures(2, 2, 2)
    bag = write_bag(tmp_path / "bag", [(None, first), ("lift", second), (" ", third)])
    _, shots = read(bag)
    assert outline(shots) == [(0, 0, "lift"), (1, 0, "lift")]
    _, shots = read(bag, SourceOptions(0.0, instruction="wait"))
    assert outline(shots) == [(0, 0, "lift"), (1, 0, "lift")], "what was recorded counts more"


def test_frames_come_at_the_period_of_the_data_set(tmp_path):
    (images,) = pictures(13)
    bag = write_bag(tmp_path / "bag", [("lift", images)], period=1 / 30)
    source, shots = read(bag, SourceOptions(period=0.1))
    assert [shot.number for shot in shots] == list(range(5))
    for shot, pixels in zip(shots, images[::3], strict=True):
        np.testing.assert_array_equal(shot.image, pixels)
    assert source.expected == 5


def test_only_what_is_wanted_is_decoded_and_the_numbers_stay(tmp_path, monkeypatch):
    pytest.importorskip("mcap")
    from spec_vla_ros.recordings import frames

    bag = write_bag(tmp_path / "bag", [("lift", pictures(8)[0])])
    decoded = []
    convert = frames.rgb_from_image
    monkeypatch.setattr(frames, "rgb_from_image", lambda message: decoded.append(1) or convert(message))
    _, shots = read(bag, wanted=lambda number: number >= 6)
    assert [shot.number for shot in shots] == [6, 7]
    assert len(decoded) == 2


@pytest.mark.parametrize(("compressed", "numbers"), [(False, [0, 1, 2, 3]), (True, [0, 1, 3, 4])])
def test_a_picture_that_cannot_be_decoded_is_left_out_and_told(tmp_path, compressed, numbers):
    """A wrong encoding shows before it is decoded, and such a message takes no number; a spoilt JPEG does not."""
    images = pictures(5)[0]
    bag = write_bag(tmp_path / "bag", [("lift", images)], compressed=compressed, spoilt={2})
    source, shots = read(bag)
    assert [shot.number for shot in shots] == numbers
    for shot, pixels in zip(shots, [*images[:2], *images[3:]], strict=True):
        assert np.abs(shot.image.astype(int) - pixels).mean() < 4
    assert len(source.notes) == 1
    assert "1 pictures were left out" in source.notes[0]


def test_a_recording_that_was_cut_off_gives_what_is_readable_and_a_note(tmp_path):
    bag = write_bag(tmp_path / "bag", [("lift", pictures(12)[0])], plugin="SQLITE3")
    (file,) = bag.glob("*.db3")
    with file.open("r+b") as stream:
        stream.truncate(int(0.7 * file.stat().st_size))
    source, shots = read(bag)
    assert 2 <= len(shots) < 12
    assert str(bag) in source.notes[0]


def test_what_is_missing_of_a_bag_is_a_note(tmp_path):
    bag = write_bag(tmp_path / "bag", [("lift", pictures(3)[0])])
    (bag / "metadata.yaml").unlink()
    source, shots = read(bag)
    assert len(shots) == 3
    assert "there is no metadata.yaml" in source.notes[0]


def test_what_a_bag_does_not_say_is_asked_for(tmp_path):
    silent = write_bag(tmp_path / "silent", [(None, pictures(2)[0])])
    with pytest.raises(SourceError, match=r"says no instruction.*--instruction-topic.*/instruction.*--instruction"):
        open_source(str(silent), ALL, None)
    assert len(read(silent, SourceOptions(0.0, instruction="lift"))[1]) == 2
    with pytest.raises(
        SourceError, match=r"/speech is no std_msgs/String or DeltaAction topic; there are: /instruction"
    ):
        open_source(str(silent), SourceOptions(0.0, instruction_topic="/speech"), None)
    with pytest.raises(SourceError, match=r"/wrist is no image topic; image topics: /camera/image_raw"):
        open_source(str(silent), SourceOptions(0.0, instruction="lift", image_topic="/wrist"), None)
    with pytest.raises(SourceError, match="no such recording"):
        open_source(str(tmp_path / "nothing"), ALL, None)


def test_a_bag_is_told_apart_from_another_one_of_the_same_name(tmp_path):
    one = open_source(str(write_bag(tmp_path / "a/bag", [("lift", pictures(3)[0])])), ALL, None).identity()
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert open_source(str(tmp_path / "b/bag"), ALL, None).identity() == one, "it may be moved"
    other = open_source(str(write_bag(tmp_path / "a/bag", [("lift", pictures(0, 3)[1])])), ALL, None).identity()
    assert other != one


# -- the simulator


def test_each_shard_of_the_simulator_stands_alone():
    pytest.importorskip("mujoco")
    from types import SimpleNamespace

    from spec_vla_ros.training.draft_sim import ARMS, SimSource

    def drive(wanted):
        source = SimSource(SimpleNamespace(statistics=SimpleNamespace(action_dim=7)), 3 * ARMS, 2 * ARMS, seed=5)
        shots = []
        for shot in source.frames(wanted):
            shots.append(shot)
            if len(shots) % ARMS == 0:
                source.answered(np.tile([0.01, 0, 0, 0, 0, 0, 1.0], (ARMS, 1)), np.zeros((ARMS, 7), int))
        return shots

    whole, part = drive(everything), drive(lambda number: number >= 2 * ARMS)
    assert len(whole) == 3 * ARMS
    assert outline(whole[2 * ARMS :]) == outline(part)
    for one, other in zip(whole[2 * ARMS :], part, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
    assert not np.array_equal(whole[0].image, whole[ARMS].image), "the arm has moved"


def test_a_folder_of_recordings_is_as_many_sources(tmp_path):
    """As ``record_to`` of the node makes it; what cannot be read is left out by name."""
    for name, text in (("a", "go"), ("b", "stop")):
        write_bag(tmp_path / "many" / name, [(text, pictures(2)[0])])
    (tmp_path / "many" / "cut").mkdir()
    (tmp_path / "many" / "cut" / "c.mcap").write_bytes(b"\x89MCAP")
    sources, notes = open_bags(bags_in(tmp_path / "many"), ALL)
    assert [(source.name, source.instructions) for source in sources] == [("a", ["go"]), ("b", ["stop"])]
    assert [len(list(source.frames(everything))) for source in sources] == [2, 2]
    assert len(notes) == 1
    assert "cut" in notes[0]
