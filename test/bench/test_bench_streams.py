"""``spec-vla bench streams``: figures of streams that can be counted by hand, and of two real ones."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from stream_writers import ids, npz

from spec_vla_ros.cli import main
from spec_vla_ros.decoding.presets import PRESETS

REAL = Path(__file__).parents[3] / "shared" / "real" / "traces"
HOLD = ["--drafters", "hold", "--presets"]


def rows_of(tmp_path, *words):
    path = tmp_path / "deep" / "rows.json"
    assert main(["bench", "streams", *map(str, words), "--json", str(path)]) == 0
    return json.loads(path.read_text())["rows"]


@pytest.fixture
def still(tmp_path):
    """Ten equal actions after one that no motion is far from; the last moves by 9 bins in y."""
    rows = [[200, 200, 200, 200, 200, 200, 254]] * 10 + [[200, 209, 200, 200, 200, 200, 254]]
    return npz(tmp_path / "still.npz", tokens=ids(*rows), rate_hz=5)


def test_held_actions_take_one_pass_and_the_first_takes_seven(tmp_path, still):
    """Without history nothing is near: hold drafts the middle, and every pass settles one token."""
    relaxed, strict = rows_of(tmp_path, still, *HOLD, "--tip", "0")
    assert relaxed["passes_histogram"] == {"1": 10, "7": 1}
    assert relaxed["passes_mean"] == pytest.approx(17 / 11, abs=1e-4)
    assert relaxed["one_pass_share"] == pytest.approx(10 / 11, abs=1e-4)
    assert relaxed["passes_by_step"] == {"0": 7.0, "1": 1.0, "2": 1.0, "later": 1.0}
    assert relaxed["accepted_per_position"][-1] == 0, "the last dimension is never drafted"
    assert strict["passes_histogram"] == {"1": 9, "2": 1, "7": 1}


def test_history_ends_with_the_episode(tmp_path, still):
    tokens = np.load(still)["tokens"]
    cut = npz(tmp_path / "cut.npz", tokens=tokens[:10], lengths=[5, 5])
    (row,) = rows_of(tmp_path, cut, *HOLD, "--tip", "0", "--radii", "9")
    assert row["passes_histogram"] == {"1": 8, "7": 2}
    assert row["episodes"] == 2


def test_velocity_sees_two_actions_back(tmp_path):
    ramp = npz(tmp_path / "ramp.npz", bins=np.array([[20 * i] * 6 + [0] for i in range(10)]))
    words = [ramp, "--presets", "--tip", "0", "--radii", "0"]
    (row,) = rows_of(tmp_path, *words, "--drafters", "velocity")
    assert row["passes_histogram"] == {"1": 8, "7": 2}
    (held,) = rows_of(tmp_path, *words, "--drafters", "hold")
    assert held["passes_histogram"] == {"7": 10}


def test_the_gripper_is_exact(tmp_path):
    """Its token is never drafted, so a change of it costs nothing; in front of it, radius 9 forgives 9 bins."""
    rows = np.array([[127] * 6 + [254 * (i % 2)] for i in range(6)])
    (row,) = rows_of(tmp_path, npz(tmp_path / "g.npz", bins=rows), *HOLD, "--tip", "0", "--radii", "9")
    assert row["passes_mean"] == 1
    assert row["radius_per_dimension"] == [9] * 6 + [0]


@pytest.mark.parametrize("width", [1, 2, 9])
def test_actions_of_other_widths(tmp_path, width):
    rows = np.full((6, width), 127)
    (row,) = rows_of(tmp_path, npz(tmp_path / "w.npz", bins=rows), *HOLD, "--tip", "0", "--radii", "9")
    assert row["passes_mean"] == 1, "drafts are as deep as the action"
    assert row["accepted_per_position"] == [1.0] * (width - 1) + [0.0]


def test_every_row_has_what_a_reader_looks_for(tmp_path, still, capsys):
    found = rows_of(tmp_path, still, "--at", "2.5", "--drafters", "hold", "refine")
    drafting = [
        name for name, preset in PRESETS.items() if preset.drafters and not {"vision", "eagle"} & {*preset.drafters}
    ]
    assert len(found) == 2 * (len(drafting) + 1) * 2 * 2, "rates, settings, radii, stubs"
    assert [row["rate_hz"] for row in found[:1] + found[-1:]] == [5, 2.5]
    assert {row["stub"] for row in found} == {"recorded", "tipped"}
    for row in found:
        assert row["stream"] == str(still)
        assert row["preset"] in (*drafting, "custom")
        assert row["acceptance_radius"] in (0, 9)
        assert sum(row["passes_histogram"].values()) == row["actions"]
        assert row["passes_mean"] == pytest.approx(
            sum(int(n) * count for n, count in row["passes_histogram"].items()) / row["actions"], abs=1e-3
        )
        assert row["assumption"].endswith(".")
        assert row["equal_to_recorded"] == row["actions"] or (row["stub"] == "tipped" and row["acceptance_radius"])
        assert row["recorded_rate_hz"] == 5
    assert found[0]["equal_to_previous_share"] == pytest.approx(0.9)
    assert found[0]["distinct_bins"] == [1, 2, 1, 1, 1, 1, 1]
    assert found[-1]["drafters"] == ["refine", "hold"]
    assert "passes, " in capsys.readouterr().out


def test_a_rate_that_nobody_knows_is_null(tmp_path):
    (row,) = rows_of(tmp_path, npz(tmp_path / "a.npz", bins=np.full((3, 7), 9)), *HOLD, "--tip", "0", "--radii", "0")
    assert row["rate_hz"] is None


def test_fewer_branches_are_fewer_rows(tmp_path, still):
    few, many = (
        rows_of(tmp_path, still, "--presets", "training_free", "--radii", "9", "--tip", "0", *more)[0]
        for more in (["--draft-width", "1"], [])
    )
    assert few["drafted_rows_first_pass"] <= 18 < many["drafted_rows_first_pass"], "one branch of three drafters"
    assert few["preset"] == many["preset"] == "training_free"


def test_a_preset_with_a_trained_head_is_left_out_and_said(tmp_path, still, capsys):
    assert main(["bench", "streams", str(still), "--presets", "fastest"]) == 1, "nothing was measured"
    assert "fastest drafts with a trained head" in capsys.readouterr().out
    (row,) = rows_of(tmp_path, still, "--presets", "autoregressive", "--tip", "0")
    assert row["passes_mean"] == 7


def test_nothing_is_measured_before_every_file_is_read(tmp_path, still, capsys):
    assert main(["bench", "streams", str(still), str(tmp_path / "none.npz")]) == 1
    captured = capsys.readouterr()
    assert captured.err == f"spec-vla bench streams: there is no {tmp_path / 'none.npz'}\n"
    assert captured.out == ""


@pytest.mark.skipif(not REAL.is_dir(), reason="no streams of others beside the project (../shared/real)")
@pytest.mark.parametrize(
    ("name", "drafters", "passes", "share"),
    [
        ("bridge_v2", ["hold", "refine"], 1.97, 0.03), ("bridge_v2", ["velocity", "sweep", "refine"], 1.96, 0.04),
        ("libero10_oft", ["velocity", "sweep", "refine"], 1.15, 0.85),
    ],
)  # fmt: skip
def test_real_streams_give_the_figures_that_are_known_of_them(tmp_path, name, drafters, passes, share):
    words = [REAL / f"{name}.npz", "--radii", "9", "--tip", "0", "--presets", "--drafters", *drafters]
    (row,) = rows_of(tmp_path, *words)
    assert row["passes_mean"] == pytest.approx(passes, abs=0.01)
    assert row["one_pass_share"] == pytest.approx(share, abs=0.01)
    assert row["actions"] == row["equal_to_recorded"]
