"""What passes cost is a table that may come from a file, and a wrong one must not choose trees."""

import json
from dataclasses import replace

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
        {"first": (1.0, 1.2)},
        {"later": (0.1, 0.2, float("nan"))},
        {"later": (0.1, -0.2, 0.9)},
        {"later": (0.0, 0.2, 0.9)},
        {"first": (1.0, 1.2, 1e4)},
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


@pytest.mark.parametrize("damage", ["", "[" * 100_000, "{}", '{"about": 1}', "null", "\x00"])
def test_a_damaged_table_is_measured_anew(tmp_path, damage):
    costs.save(ABOUT, TABLE, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(damage)
    assert costs.load(ABOUT, tmp_path) is None
    assert costs.save(ABOUT, TABLE, tmp_path)
    assert costs.load(ABOUT, tmp_path) == TABLE


@pytest.mark.parametrize(
    "change",
    [
        {"first": None}, {"drafting": {"hold": 3}}, {"rows": "abc"}, {"later": [1]}, {"rows": [0, float("inf")]},
        {"first": [10**400, 1, 1]}, {"first": "111"}, {"steps": "no"},
    ],
)  # fmt: skip
def test_a_table_with_other_content_is_measured_anew(tmp_path, change):
    costs.save(ABOUT, TABLE, tmp_path)
    (path,) = tmp_path.iterdir()
    content = json.loads(path.read_text())
    content["costs"] |= change
    path.write_text(json.dumps(content))
    assert costs.load(ABOUT, tmp_path) is None


def test_where_nothing_can_be_kept_nothing_breaks(tmp_path):
    (tmp_path / "file").write_text("")
    assert not costs.save(ABOUT, TABLE, tmp_path / "file")


def test_a_user_without_a_home_measures_each_time(monkeypatch):
    """A container that runs as some number has none, and the node did not configure."""
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
    assert list(tmp_path.rglob("*.json"))
    assert costs.load(ABOUT) == TABLE
