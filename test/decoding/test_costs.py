"""What passes cost is a table that may come from a file, and a wrong one must not choose trees."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from spec_vla_ros.decoding import costs
from spec_vla_ros.decoding.costs import PassCosts

TABLE = PassCosts((0, 8, 64), (1.0, 1.2, 4.0), (0.1, 0.2, 0.9), drafting={"hold": (0.01, 0.02)})
ABOUT = {"model": "m", "device": "cpu, 1 threads"}


def test_between_two_sizes_a_row_costs_its_share():
    assert TABLE.first_by_rows[0] == 1.0
    assert TABLE.first_by_rows[4] == pytest.approx(1.1)
    assert TABLE.first_by_rows[36] == pytest.approx(2.6)
    assert TABLE.later_by_rows[64] == 0.9
    assert len(TABLE.later_by_rows) == 65


def test_where_passes_are_filled_up_rows_are_free_up_to_the_next_size():
    filled = replace(TABLE, steps=True)
    assert set(filled.first_by_rows[1:9]) == {1.2}
    assert set(filled.first_by_rows[9:]) == {4.0}


def test_more_rows_never_seem_cheaper():
    """While the first sizes were timed something else was running."""
    odd = replace(TABLE, later=(0.5, 0.2, 0.9))
    assert (odd.later_by_rows[0], odd.later_by_rows[8]) == (0.2, 0.2), "what disturbs only ever adds"


def test_asking_for_a_part_of_the_branches_costs_a_part():
    assert TABLE.ask("hold", 0.0) == 0.01
    assert TABLE.ask("hold", 0.5) == pytest.approx(0.015)
    assert TABLE.ask("somebody else", 1.0) == 0.0
    assert replace(TABLE, drafting={"hold": (0.02, 0.01)}).ask("hold", 1.0) == 0.02


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": ()},
        {"rows": (1, 8, 64)},
        {"rows": (0, 64, 8)},
        {"rows": (0, 8, 32)},
        {"rows": (0, 70, 64)},
        {"rows": (0, 0, 64)},
        {"first": (1.0, 1.2)},
        {"later": (0.1, 0.2, float("nan"))},
        {"later": (0.1, -0.2, 0.9)},
        {"later": (0.0, 0.2, 0.9)},
        {"first": (1.0, 1.2, 600.1)},
        {"later": (float("-inf"), 0.2, 0.9)},
        {"drafting": {"hold": (-1e-9, 0.1)}},
        {"drafting": {"hold": (0.1, 600.1)}},
        {"drafting": {"hold": (0.1, 0.2), "sweep": (float("nan"), 0.1)}},
        {"drafting": {"hold": (0.1, float("inf"))}},
    ],
)
def test_what_cannot_be_times_is_refused(wrong):
    with pytest.raises(ValueError, match=r"rows|time"):
        replace(TABLE, **wrong)


def test_a_table_is_kept_for_exactly_what_it_was_measured_on(tmp_path):
    assert costs.load(ABOUT, tmp_path) is None
    assert costs.save(ABOUT, TABLE, tmp_path)
    assert costs.load(ABOUT, tmp_path) == TABLE
    assert costs.load({**ABOUT, "device": "cpu, 2 threads"}, tmp_path) is None


def test_what_can_just_be_times_is_taken():
    PassCosts((0, 64), (1e-9, 600.0), (600.0, 600.0), drafting={"hold": (0.0, 600.0)})


def test_where_rows_are_free_every_pass_takes_the_same_and_asking_nothing():
    free = PassCosts.free()
    assert {*free.first, *free.later, *free.first_by_rows, *free.later_by_rows} == {1.0}
    assert free.ask("anybody", 1.0) == 0.0


def test_tables_of_several_models_are_kept_side_by_side(tmp_path):
    other, table = {**ABOUT, "model": "another"}, replace(TABLE, steps=True)
    assert costs.save(ABOUT, TABLE, tmp_path)
    assert costs.save(other, table, tmp_path)
    assert (costs.load(ABOUT, tmp_path), costs.load(other, tmp_path)) == (TABLE, table)
    assert costs.load(dict(reversed(ABOUT.items())), tmp_path) == TABLE


def test_a_table_that_says_that_it_is_of_something_else_is_not_believed(tmp_path):
    """Copied from another machine, under the name that was missing here."""
    costs.save(ABOUT, TABLE, tmp_path)
    (path,) = tmp_path.iterdir()
    content = json.loads(path.read_text())
    content["about"]["device"] = "cpu, 64 threads"
    path.write_text(json.dumps(content))
    assert costs.load(ABOUT, tmp_path) is None


@pytest.mark.parametrize(
    "damage", [b"", b"[" * 100_000, b"{}", b'{"about": 1}', b"null", b"\x00", b"\xff\xfe", b"9" * 5000]
)
def test_a_damaged_table_is_measured_anew(tmp_path, damage):
    costs.save(ABOUT, TABLE, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage)
    assert costs.load(ABOUT, tmp_path) is None
    assert costs.save(ABOUT, TABLE, tmp_path)
    assert costs.load(ABOUT, tmp_path) == TABLE


@pytest.mark.parametrize(
    "change",
    [
        {"first": None}, {"drafting": {"hold": 3}}, {"rows": "abc"}, {"later": [1]}, {"rows": [0, float("inf")]},
        {"first": [10**400, 1, 1]}, {"first": "111"}, {"steps": "no"}, {"steps": 1}, {"rows": [0, 8.5, 64]},
        {"rows": [0, 8.0, 64]}, {"rows": [False, 8, 64]}, {"first": [True, 1.2, 4.0]}, {"later": ["0.1", "0.2", "0.9"]},
        {"later": [0.1, None, 0.9]}, {"later": [0.1, [0.2], 0.9]}, {"later": [0.1, float("nan"), 0.9]},
        {"later": [-0.1, 0.2, 0.9]}, {"first": [1e300, 1.2, 4.0]}, {"first": {"0": 1.0, "8": 1.2, "64": 4.0}},
        {"drafting": {"hold": [0.1]}}, {"drafting": {"hold": ["0.1", "0.2"]}}, {"drafting": {"hold": [0.1, 1e9]}},
        {"drafting": []}, {"drafting": {"hold": "12"}},
    ],
)  # fmt: skip
def test_a_table_with_other_content_is_measured_anew(tmp_path, change):
    costs.save(ABOUT, TABLE, tmp_path)
    (path,) = tmp_path.iterdir()
    content = json.loads(path.read_text())
    content["costs"] |= change
    path.write_text(json.dumps(content))
    assert costs.load(ABOUT, tmp_path) is None
    with pytest.raises(ValueError, match=r"time|rows|kind|unpack"):
        PassCosts.from_json(content["costs"])


def test_whole_numbers_are_times_as_well(tmp_path):
    costs.save(ABOUT, TABLE, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text().replace("4.0", "4"))
    assert costs.load(ABOUT, tmp_path) == TABLE


def test_what_is_no_file_in_its_place_is_neither_read_nor_written(tmp_path):
    """A pipe was waited for without end, while the node configured."""
    costs.save(ABOUT, TABLE, tmp_path)
    (path,) = tmp_path.iterdir()
    for make in (os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/full", path)):
        path.unlink()
        make(path)
        assert costs.load(ABOUT, tmp_path) is None
        assert not costs.save(ABOUT, TABLE, tmp_path)
        if path.is_dir():
            path.rmdir()
            path.touch()


def test_a_file_of_gigabytes_is_not_read(tmp_path):
    costs.save(ABOUT, TABLE, tmp_path)
    (path,) = tmp_path.iterdir()
    size = path.stat().st_size
    with path.open("a") as file:
        file.write(" " * ((1 << 20) - size))
    assert costs.load(ABOUT, tmp_path) == TABLE
    with path.open("a") as file:
        file.write(" ")
    assert costs.load(ABOUT, tmp_path) is None
    os.truncate(path, 1 << 40)
    assert costs.load(ABOUT, tmp_path) is None
    assert costs.save(ABOUT, TABLE, tmp_path)
    assert costs.load(ABOUT, tmp_path) == TABLE


@pytest.mark.parametrize("trouble", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO])
def test_a_disk_that_refuses_costs_the_table_and_nothing_else(tmp_path, monkeypatch, trouble):
    def refuse(*arguments, **more):
        raise OSError(trouble, os.strerror(trouble))

    costs.save(ABOUT, TABLE, tmp_path)
    monkeypatch.setattr(Path, "write_text", refuse)
    assert not costs.save(ABOUT, replace(TABLE, steps=True), tmp_path)
    assert costs.load(ABOUT, tmp_path) == TABLE, "what was there is still there"
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert not costs.save(ABOUT, TABLE, tmp_path / "new")
    monkeypatch.setattr(Path, "read_text", refuse)
    assert costs.load(ABOUT, tmp_path) is None


def test_where_nothing_can_be_kept_nothing_breaks(tmp_path):
    (tmp_path / "file").write_text("")
    assert not costs.save(ABOUT, TABLE, tmp_path / "file")


def test_a_user_without_a_home_measures_each_time(monkeypatch, tmp_path):
    """A container that runs as some number has none, and the node did not configure."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(costs.Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert costs.load(ABOUT) is None
    assert not costs.save(ABOUT, TABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/folder")
    assert not costs.save(ABOUT, TABLE), "which folder that is depends on where the node was started"


def test_tables_belong_to_the_user(monkeypatch, tmp_path):
    """The folder of a model may be read-only, and is watched for changes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert costs.save(ABOUT, TABLE)
    assert [path.parent for path in tmp_path.rglob("*.json")] == [tmp_path / "spec_vla_ros" / "pass_times"]
    assert costs.load(ABOUT) == TABLE
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert costs.save(ABOUT, TABLE)
    assert len(list((tmp_path / "home" / ".cache" / "spec_vla_ros" / "pass_times").iterdir())) == 1
