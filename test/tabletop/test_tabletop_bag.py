"""A bag of the table top is one like any other: what reads bags finds in it what the model was shown."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco")
pytest.importorskip("mcap")

from spec_vla_ros.cli import main
from spec_vla_ros.policy import ScriptedPolicy
from spec_vla_ros.policy_types import DecodeSettings
from spec_vla_ros.tabletop.tasks import TASKS
from spec_vla_ros.tabletop.training.bag import record
from spec_vla_ros.training.draft_sources import open_source
from spec_vla_ros.training.frame_source import SourceOptions


def test_what_was_shown_is_recorded_with_its_instruction_and_its_episode(tmp_path):
    shown = []

    def still(image, instruction):
        shown.append((image.copy(), instruction))
        return [0.0] * 6 + [1.0]

    policy = ScriptedPolicy([still])
    frames, episodes, successes = record(tmp_path / "bag", policy, 50, DecodeSettings(), 0, lambda line: None)
    assert (frames, successes) == (len(shown), 0)
    source = open_source(str(tmp_path / "bag"), SourceOptions(period=0.2), None)
    assert source.instructions == [task.instruction for task in TASKS[:episodes]]
    shots = list(source.frames(lambda number: True))
    assert [shot.instruction for shot in shots] == [instruction for _, instruction in shown]
    assert max(shot.episode for shot in shots) == episodes - 1 == 1
    for shot, (image, _) in zip(shots, shown, strict=True):
        assert np.abs(shot.image.astype(int) - image).mean() < 3


def test_the_command_records_the_model_that_drives(tmp_path, capsys):
    model = Path(__file__).parents[2] / "models" / "tabletop"
    assert main(["record-tabletop", str(tmp_path / "bag"), "--frames", "5", "--model", str(model)]) == 0
    assert "1 of 1 episodes succeeded" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["record-tabletop", str(tmp_path / "bag")])
    assert main(["record-tabletop", str(tmp_path / "other"), "--model", str(tmp_path / "nothing")]) == 1
    assert "spec-vla record-tabletop: CHECKPOINT_INVALID" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_it_records_outside_the_checkout_and_without_a_screen_or_a_choice_of_renderer(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY")}
    command = [sys.executable, "-m", "spec_vla_ros.cli", "record-tabletop", "bag", "--frames", "1"]
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    made = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert "1 of 1 episodes succeeded" in made.stdout


def test_a_missing_library_is_said_with_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    monkeypatch.delitem(sys.modules, "spec_vla_ros.tabletop.arm")
    assert main(["record-tabletop", str(tmp_path / "bag")]) == 1
    assert "It needs: pip install 'spec_vla_ros[model,sim,replay]'" in capsys.readouterr().err
