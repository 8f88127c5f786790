"""``spec-vla bench pictures``: what each step changes, on the same images for every row."""

import json

import pytest

pytest.importorskip("mujoco")
pytest.importorskip("torch")

from spec_vla_ros.cli import main


def test_every_row_says_what_a_step_changes_and_costs(tmp_path, capsys):
    path = tmp_path / "pictures.json"
    assert main(["bench", "pictures", "--sizes", "320x240", "--frames", "2", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert [(row["centre_crop"], row["from"], row["to"]) for row in rows] == [
        (crop, *pair)
        for crop in (False, True)
        for pair in (
            ("processor", "evaluation"),
            ("lanczos", "evaluation"),
            ("evaluation", "JPEG, evaluation"),
            ("lanczos", "noise, lanczos"),
        )
    ]
    assert all(row["levels_mean"] > 0 and row["frames"] == 2 and min(row["ms"]) >= 0 for row in rows)
    plain, cropped = rows[0], rows[4]
    assert cropped["levels_mean"] > 2 * plain["levels_mean"], "a crop that comes first samples without a filter"
    assert "320x240, centre crop, processor -> evaluation" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["640", "640x", "0x480", "axb"])
def test_what_is_no_size_is_refused(text, capsys):
    with pytest.raises(SystemExit):
        main(["bench", "pictures", "--sizes", text])
    assert "argument --sizes: expected a whole number from 1 to" in capsys.readouterr().err
