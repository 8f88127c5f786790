"""Habits on disk begin the next start, and nothing else that lies there does."""

import json
import os

import numpy as np
import pytest

pytest.importorskip("torch")

from spec_vla_ros.decoding import habits_file
from spec_vla_ros.decoding.drafters.habits import CAPACITY, LOOK_BACK, Habits
from spec_vla_ros.decoding.habits_file import HabitsError, load, save
from spec_vla_ros.openvla.example import write_example_checkpoint
from spec_vla_ros.openvla.loader import load_model
from spec_vla_ros.outputs import OutputError

ABOUT = {"model": "m", "base": "", "unnorm_key": "k", "action_dim": 7, "bins": 255, "step_dt": 0.2}


@pytest.fixture
def habits():
    """A few actions."""
    found = Habits(7, 255)
    for action in np.random.default_rng(0).integers(0, 255, (20, 7)):
        found.learn(action)
    return found


@pytest.fixture
def path(tmp_path, habits):
    """They are saved."""
    save(tmp_path / "drafters" / "habits.json", ABOUT, habits)
    return tmp_path / "drafters" / "habits.json"


def test_what_was_saved_is_known_again(path, habits):
    again = load(path, ABOUT)
    assert (again.moments == habits.moments).all()
    habits.begin()
    assert (again.ahead()[0] == habits.ahead()[0]).all()


def test_without_a_file_there_are_none(tmp_path):
    assert len(load(tmp_path / "nothing.json", ABOUT).moments) == 0


def test_empty_habits_are_saved_as_such(tmp_path):
    save(tmp_path / "none.json", ABOUT, Habits(7, 255))
    assert len(load(tmp_path / "none.json", ABOUT).moments) == 0


def test_a_full_file_is_far_below_the_limit(tmp_path):
    habits = Habits.of(np.full((CAPACITY + 5, LOOK_BACK + 1, 9), 254), 255)
    about = ABOUT | {"action_dim": 9}
    save(tmp_path / "full.json", about, habits)
    assert (tmp_path / "full.json").stat().st_size < habits_file.LARGEST / 2
    assert len(load(tmp_path / "full.json", about).moments) == CAPACITY


@pytest.mark.parametrize(
    "other", [{"model": "n"}, {"base": "b"}, {"unnorm_key": "q"}, {"action_dim": 6}, {"bins": 127}, {"step_dt": 0.1}]
)
def test_those_of_another_model_or_robot_are_refused_by_name(path, other):
    ((name, value),) = other.items()
    with pytest.raises(HabitsError, match=f"another model or robot: {name} .*expected {value!r}"):
        load(path, ABOUT | other)


def damaged(**changes):
    moments = np.full((3, LOOK_BACK + 1, 7), 5).tolist()
    data = {"format": habits_file.FORMAT, "version": habits_file.VERSION, "about": ABOUT, "moments": moments}
    return json.dumps(data | changes).encode()


def moments(value=5, count=1, length=LOOK_BACK + 1):
    return [[[value] * 7] * length] * count


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (damaged()[:-40], "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"[]", "holds no habits of a model"),
        (b"{}", "holds no habits of a model"),
        (damaged(version=2), "version 2, expected 1"),
        (damaged(about=None), "another model"),
        (damaged(about=ABOUT | {"more": 1}), "more is said"),
        (damaged(moments=None), "damaged"),
        (damaged(moments={}), "damaged"),
        (damaged(moments=[[[1] * 7] * 4, [[1] * 6] * 4]), "damaged"),
        (damaged(moments=moments(length=3)), "damaged"),
        (damaged(moments=moments(1.5)), "damaged"),
        (damaged(moments=moments("5")), "damaged"),
        (damaged(moments=moments(2**70)), "damaged"),
        (damaged(moments=moments(True)), "damaged"),
        (damaged(moments=moments(255)), "outside 0..254"),
        (damaged(moments=moments(-1)), "outside 0..254"),
        (damaged(moments=moments(count=CAPACITY + 1)), "damaged"),
        (b" " * (habits_file.LARGEST + 1), "at most"),
    ],
)
def test_a_damaged_file_is_refused_and_kept_beside_the_new_one(tmp_path, habits, content, why):
    path = tmp_path / "habits.json"
    path.write_bytes(content)
    with pytest.raises(HabitsError, match=why) as refused:
        load(path, ABOUT)
    assert str(path) in str(refused.value)
    save(path, ABOUT, habits)
    assert (load(path, ABOUT).moments == habits.moments).all()
    assert (tmp_path / "habits.json.refused").read_bytes() == content


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(HabitsError, match="no file"):
            load(path, ABOUT)


def test_saving_replaces_the_file_as_a_whole(path, habits, monkeypatch):
    before = path.read_bytes()
    habits.learn(np.zeros(7, dtype=int))

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="No space left"):
            save(path, ABOUT, habits)
    assert path.read_bytes() == before
    save(path, ABOUT, habits)
    assert [file.name for file in path.parent.iterdir()] == ["habits.json"]


def test_they_belong_to_the_files_of_a_model(tmp_path):
    one, same = (load_model(write_example_checkpoint(tmp_path / name, seed=0)) for name in ("one", "same"))
    other = load_model(write_example_checkpoint(tmp_path / "other", seed=1))
    assert habits_file.about(one, 0.2) == habits_file.about(same, 0.2), "wherever they lie"
    assert habits_file.about(one, 0.2) != habits_file.about(other, 0.2)
    assert habits_file.about(one, 0.2) != habits_file.about(one, 0.1)
