"""Draft heads: for which model they were made, damaged ones, and published ones."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from spec_vla_ros.decoding.heads.eagle_head import EagleHead
from spec_vla_ros.openvla.config import LlamaConfig
from spec_vla_ros.openvla.loader import load_model

TABLETOP = Path(__file__).parents[2] / "models" / "tabletop"
HEADS = TABLETOP / "drafters"


@pytest.fixture
def published(tmp_path):
    """Write a head as published ones are: torch.save, half precision, a copy of the table, names with a prefix."""

    def write(config, vocabulary=None):
        folder = tmp_path / "published"
        folder.mkdir()
        state = {f"module.{name}": tensor.half() for name, tensor in EagleHead(config).state_dict().items()}
        rows = config.vocab_size if vocabulary is None else vocabulary
        state["module.embed_tokens.weight"] = torch.zeros(rows, config.hidden_size, dtype=torch.float16)
        torch.save(state, folder / "pytorch_model.bin")
        (folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": config.hidden_size}))
        return folder

    return write


def test_heads_are_described_alone(inspect):
    said = inspect(HEADS)
    assert said.status == 0
    assert "a model with hidden 128, patches 64, action_dim 7, bins 255" in said.text
    assert "1.30 M parameters, stored as float16" in said.text
    assert "answers_learnt_from 54027" in said.text
    assert "what fits with what" not in said.text
    assert "eagle head" in inspect(HEADS / "eagle").text
    assert "vision head" not in inspect(HEADS / "eagle").text


def test_heads_fit_their_own_model(inspect):
    said = inspect(TABLETOP, HEADS)
    assert said.status == 0
    assert said.text.count("head fits") == 2
    assert "equal sizes do not say that it was trained on this model's answers" in said.text


def test_a_head_of_another_model_is_refused_where_it_was_asked_for(inspect, folder):
    said = inspect(folder, HEADS)
    assert said.status == 1
    for part in ("hidden 128, the model has 32", "patches 64, the model has 16"):
        assert any(part in error for error in said.errors), part


def test_a_head_of_another_model_beside_the_model_costs_speed_only(inspect, folder):
    shutil.copytree(HEADS, folder / "drafters")
    said = inspect(folder)
    assert said.status == 0
    assert any("vision head" in warning and "hidden 128" in warning for warning in said.warnings)
    assert any("eagle head" in warning and "hidden 128" in warning for warning in said.warnings)
    assert load_model(folder).statistics.action_dim == 7, "configure does go on"


def test_bins_and_dimensions_are_compared(inspect, tabletop, edit):
    edit(tabletop / "config.json", n_action_bins=128)
    said = inspect(tabletop)
    assert any("bins 255, the model has 127" in warning for warning in said.warnings)
    edit(tabletop / "config.json", n_action_bins=256)
    path = tabletop / "dataset_statistics.json"
    action = json.loads(path.read_text())["tabletop"]["action"]
    six = {name: action[name][:6] for name in ("q01", "q99", "mask")}
    path.write_text(json.dumps({"tabletop": {"action": six}}))
    assert any("action_dim 7, the model has 6" in warning for warning in inspect(tabletop).warnings)


def test_heads_that_learnt_from_other_pictures_are_said(inspect, tabletop, edit):
    """Such a head fits, drafts, and is accepted less often; nothing else would tell."""
    for given, crop in (((), False), (("--centre-crop",), True)):
        warnings = inspect(tabletop, *given).warnings
        assert (
            sum("learnt from other pictures (centre_crop False, this is True)" in one for one in warnings) == 2 * crop
        )
    said = inspect(tabletop, HEADS, "--image-resize", "evaluation")
    assert said.status == 0, "it costs speed and not correctness"
    for place in (tabletop / "drafters", HEADS):
        for name in ("vision", "eagle"):
            expected = (
                f"the {name} head in {place / name} learnt from other pictures (image_resize 'processor', this is "
            )
            assert any(one.startswith(expected) for one in said.warnings), expected


def test_a_published_head(inspect, published):
    llama = load_model(TABLETOP).config.llama
    folder = published(llama)
    said = inspect(TABLETOP, folder)
    assert said.status == 0
    assert "a model with hidden 128, vocabulary 832" in said.text
    assert "in pytorch_model.bin" in said.text
    assert said.text.count("head fits") == 1


def test_a_published_head_of_another_vocabulary(inspect, published):
    said = inspect(published(load_model(TABLETOP).config.llama, vocabulary=32064), TABLETOP)
    assert any("vocabulary 32064, the model has 832" in error for error in said.errors)


def test_a_published_head_of_another_width_of_the_mlp(inspect, published):
    said = inspect(published(LlamaConfig(128, 64, 8, 4, 832)), TABLETOP)
    assert any("does not fit" in error and "mlp.gate_proj.weight" in error for error in said.errors)


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_a_published_head_that_was_cut_off(inspect, published, keep):
    folder = published(load_model(TABLETOP).config.llama)
    file = folder / "pytorch_model.bin"
    os.truncate(file, keep if isinstance(keep, int) else int(keep * file.stat().st_size))
    said = inspect(folder)
    assert said.status == 1
    assert any("unreadable" in error and str(file) in error for error in said.errors)


@pytest.mark.parametrize("name", ["vision", "eagle"])
def test_damaged_heads(inspect, tabletop, name):
    head = tabletop / "drafters" / name
    size = (head / "model.safetensors").stat().st_size
    os.truncate(head / "model.safetensors", size - 1000)
    assert any(f"{size - 1000:,} of {size:,} bytes" in error for error in inspect(head).errors)
    said = inspect(tabletop)
    assert said.status == 0
    assert any("is truncated" in warning for warning in said.warnings)
    (head / "model.safetensors").unlink()
    assert any("is missing" in error or "unreadable" in error for error in inspect(head).errors)


def test_a_vision_head_without_a_usable_config(inspect, tabletop, edit):
    head = tabletop / "drafters" / "vision"
    edit(head / "config.json", colour="red")
    assert any("no usable config.json" in error and "colour" in error for error in inspect(head).errors)
    edit(head / "config.json", colour=None, width=130)
    assert any("does not fit its verifier" in error or "impossible" in error for error in inspect(head).errors)
    (head / "config.json").write_text("{")
    assert any("no usable config.json" in error for error in inspect(head).errors)


def test_tensors_that_are_not_the_heads(inspect, tabletop):
    head = tabletop / "drafters" / "vision"
    tensors = load_file(head / "model.safetensors")
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, head / "model.safetensors")
    assert any("Missing key" in error for error in inspect(head).errors)
