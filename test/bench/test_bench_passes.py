"""``spec-vla bench passes``: every figure of a row adds up."""

import json

import pytest

pytest.importorskip("mujoco")
pytest.importorskip("torch")

from spec_vla_ros.cli import main
from spec_vla_ros.installed import model_folder


def test_rows_have_every_figure_and_agree_with_themselves(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the model is found from anywhere
    path = tmp_path / "deep" / "passes.json"
    command = ["bench", "passes", "--episodes", "2", "--radii", "0", "9"]
    assert main([*command, "--presets", "autoregressive", "training_free", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert [(row["preset"], row["acceptance_radius"]) for row in rows] == [
        ("autoregressive", 0), ("training_free", 0), ("training_free", 9),
    ]  # fmt: skip
    for row in rows:
        low, high = row["success_interval"]
        assert 0 <= low <= row["success_rate"] <= high <= 1
        assert sum(row["passes_histogram"].values()) == row["actions"]
        mean = sum(int(k) * n for k, n in row["passes_histogram"].items()) / row["actions"]
        assert row["passes_mean"] == pytest.approx(mean, abs=1e-3)
        assert row["one_pass_share"] == pytest.approx(row["passes_histogram"].get("1", 0) / row["actions"], abs=1e-3)
        assert row["moving_steps"]["actions"] <= row["actions"]
        assert row["successful_episodes"]["actions"] <= row["actions"]
        assert sum(row["tokens_by_source"].values()) == pytest.approx(1, abs=1e-2)
        assert len(row["drift_bins"]) == len(row["accepted_per_position"]) == 7
    autoregressive, strict, relaxed = rows
    assert autoregressive["passes_mean"] == 7
    assert max(strict["drift_bins"]) < 0.2, "the strict rule is lossless, but for rounding where two logits nearly tie"
    assert strict["success_rate"] == autoregressive["success_rate"]
    assert relaxed["passes_mean"] < strict["passes_mean"] < 7
    assert "training_free" in capsys.readouterr().out


def test_a_preset_without_its_head_is_left_out_and_said(tmp_path, capsys):
    command = ["bench", "passes", "--model", str(model_folder()), "--episodes", "1", "--radii", "9"]
    path = tmp_path / "passes.json"
    assert main([*command, "--presets", "fastest", "--heads", str(tmp_path / "none"), "--json", str(path)]) == 1, (
        "nothing was measured"
    )
    assert json.loads(path.read_text())["rows"] == []
    assert "fastest needs a head" in capsys.readouterr().out


@pytest.mark.parametrize("bench", ["passes", "wire", "soak"])
def test_a_model_that_is_not_there_is_said_in_one_line(bench, capsys):
    assert main(["bench", bench, "--model", "models/none"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"spec-vla bench {bench}: ")
    assert "models/none" in line
