"""Paths given together: what a recording has of what a model needs."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mcap")
pytest.importorskip("rosbags")

from bag_writer import BagWriter

from spec_vla_ros.openvla.loader import load_model

TABLETOP = Path(__file__).parents[2] / "models" / "tabletop"


@pytest.fixture
def bag():
    writer = BagWriter()
    writer.say("pick up the red block")
    return writer


def test_a_recording_that_a_model_can_use(inspect, bag, tmp_path):
    bag.images(10)
    said = inspect(TABLETOP, bag.write(tmp_path / "bag"))
    assert said.status == 0
    assert said.warnings == []
    for part in (
        "/camera/image_raw, 160x120 -> bicubic to 112x112 (image_resize processor)",
        "10.0 Hz; one image is used per step of 0.2 s",
        "1 instruction, prompts of at most 20 ids",
        "none to compare with",
        "unnorm_key is yours to know",
    ):
        assert part in said.text, part


def test_too_few_and_too_small_pictures(inspect, bag, tmp_path):
    bag.images(10, rate=3.0, size=(64, 48))
    said = inspect(bag.write(tmp_path / "bag"), TABLETOP)
    assert said.status == 0
    assert any("an image every 0.33 s, a step" in warning for warning in said.warnings)
    assert any("64 x 48 px" in warning and "blown up" in warning for warning in said.warnings)


def test_no_pictures(inspect, bag, tmp_path):
    bag.images(3, encoding="yuv444")
    said = inspect(bag.write(tmp_path / "bag"), TABLETOP)
    assert any("has no images that" in error for error in said.errors)


def test_an_instruction_that_is_no_prompt(inspect, bag, tmp_path):
    bag.messages.clear()
    bag.say("pick up " + "zqj vxw " * 45)
    bag.images(10)
    said = inspect(bag.write(tmp_path / "bag"), TABLETOP)
    assert any("is no prompt for" in warning and "at most 192 are allowed" in warning for warning in said.warnings)


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_recorded_actions_tell_their_statistics(inspect, bag, tmp_path, factor):
    loaded = load_model(TABLETOP)
    bag.images(10)
    for index in range(3):
        bins = np.array([10, 200, 130 + index, 127, 90, 40, 254])
        delta = loaded.statistics.unnormalise(loaded.tokens.centres[bins])[:6]
        bag.action(0.1 * index, bins, factor * delta)
    said = inspect(TABLETOP, bag.write(tmp_path / "bag"))
    assert said.status == 0
    expected = "are those of tabletop" if factor == 1.0 else "were made with none of this model's keys"
    assert f"the recorded actions {expected}" in said.text
    assert "commands /act/action" in said.text


def test_velocities_are_compared_with_only_if_their_topic_is_named(inspect, bag, tmp_path):
    bag.images(4)
    bag.twist(0.1)
    said = inspect(TABLETOP, bag.write(tmp_path / "bag"))
    assert "commands none to compare with" in said.text
    assert "--command-topic /servo_node/delta_twist_cmds (geometry_msgs/msg/TwistStamped)" in said.text


def test_what_is_none_of_them_is_said(inspect, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    said = inspect(tmp_path / "notes.txt", tmp_path / "nothing", TABLETOP)
    assert said.status == 1
    assert len(said.errors) == 2
    assert "rosbag2 folder" in said.text


def test_the_command_is_listed(capsys):
    from spec_vla_ros.cli import main

    with pytest.raises(SystemExit):
        main(["--help"])
    assert "inspect" in capsys.readouterr().out
