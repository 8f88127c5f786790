"""``spec-vla bench precision``: the arithmetic is that of the device, and the figures are about it alone."""

import json

import numpy as np
import pytest
import torch

from spec_vla_ros.bench.decoding import outliers
from spec_vla_ros.bench.decoding.nvfp4 import Nvfp4, rounded
from spec_vla_ros.bench.decoding.precision import KINDS, forced_tokens, requantise, too_much
from spec_vla_ros.cli import main
from spec_vla_ros.installed import model_folder
from spec_vla_ros.openvla.loader import load_model
from spec_vla_ros.openvla.precisions import beside, missing
from spec_vla_ros.policy import OpenVLAPolicy
from spec_vla_ros.policy_types import DecodeSettings

CPU = torch.device("cpu")
SAID = "pick up the red block"


@pytest.fixture(scope="module")
def loaded():
    return load_model(model_folder(), "cpu", torch.bfloat16)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 255, (224, 224, 3), dtype=np.uint8)


def test_what_is_measured_is_what_loading_gives(image):
    if beside(CPU) != torch.bfloat16 or missing("int8", CPU):
        pytest.skip("this processor computes int8 otherwise")
    emulated = load_model(model_folder(), "cpu", torch.bfloat16)
    requantise(emulated, KINDS["int8"])
    loaded = load_model(model_folder(), "cpu", "int8")
    assert torch.equal(emulated.first_logits(image, SAID), loaded.first_logits(image, SAID))


def test_forced_tokens_of_the_same_model_are_its_own_and_follow_the_prefix(loaded, image):
    said = OpenVLAPolicy(loaded).infer(image, SAID, DecodeSettings(preset="autoregressive")).tokens
    tokens, strays = forced_tokens(loaded, image, SAID, said)
    assert (tokens == said).mean() > 0.8, "but for rounding where two logits nearly tie"
    assert strays == 0
    other = said.copy()
    other[0] = loaded.tokens.first + 5
    tokens, _ = forced_tokens(loaded, image, SAID, other)
    assert tokens[0] == forced_tokens(loaded, image, SAID, said)[0][0], "the first follows nothing"
    assert (tokens[1:] != said[1:]).any(), "the others follow what was given, right or not"


def test_rows_are_about_the_precision(tmp_path, capsys):
    pytest.importorskip("mujoco")
    command = ["bench", "precision", "--episodes", "1", "--precisions", "bfloat16", "nvfp4", "--json"]
    assert main([*command, str(tmp_path / "rows.json")]) == 0
    plain, coarse = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert (plain["precision"], plain["emulated"]) == ("bfloat16", False)
    assert plain["equal_tokens"] > 0.99
    assert plain["drift_bins"]["mean"] < 0.05
    assert coarse["emulated"]
    assert coarse["equal_tokens"] < 0.8
    assert coarse["drift_bins"]["mean"] > 0.3
    for row in (plain, coarse):
        assert row["drift_bins"]["mean"] <= row["drift_bins"]["max"]
        assert row["equal_actions"] <= row["equal_tokens"]
        assert len(row["drift_bins"]["mean_by_dimension"]) == 6, "the gripper is counted apart"
        low, high = row["success_interval"]
        assert low <= row["success_rate"] <= high
        assert 1 <= row["passes_mean"] <= 7
    assert "% of tokens equal" in capsys.readouterr().out


def test_what_costs_too_much_is_said():
    def row(drift, success):
        return {"drift_bins": {"mean": drift}, "success_rate": success}

    assert too_much(row(0.9, 0.99), row(0, 1.0)) == []
    assert too_much(row(1.1, 1.0), row(0, 1.0)) == ["more than a bin on average"]
    assert too_much(row(0.5, 0.98), row(0, 1.0)) == ["more than a point of success"]
    assert too_much(row(0.5, 0.98), None) == [], "nothing to compare with"


def test_four_bits_have_sixteen_values_and_a_scale_per_sixteen_numbers():
    x = torch.tensor([[6.0, 5.1, 4.9, 0.24, 0.26, -1.1, -3.4, 0.0] * 2, [600.0, *[1.0] * 15]])
    said = rounded(x, x.abs().amax(-1, keepdim=True))
    assert said[0, :8].tolist() == pytest.approx([6, 6, 4, 0, 0.5, -1, -3, 0], rel=0.07)
    assert said[1].tolist() == pytest.approx([600, *[0] * 15]), "the smallest step is a twelfth of the largest number"
    assert not rounded(torch.zeros(2, 32), torch.zeros(2, 1)).any()
    layer = Nvfp4(16, 1, torch.float32)
    layer.fill(x[:1])
    assert layer(torch.ones(1, 16)).item() == pytest.approx(2 * 12.5, rel=0.07)


def test_outliers_drown_the_others_in_int8_and_a_rotation_helps(monkeypatch):
    monkeypatch.setattr(outliers, "WIDTHS", {"small": 512})
    monkeypatch.setattr(outliers, "OUTPUTS", 64)
    rows = outliers.measure(["bfloat16", "int8", "float8"], [1, 60], lambda line: None)
    errors = {(row["precision"], row["outliers"]): row["error"]["small"] for row in rows}
    turned = {(row["precision"], row["outliers"]): row["error_rotated"]["small"] for row in rows}
    assert 0.005 < errors["int8", 1] < 0.02
    assert errors["int8", 60] > 10 * errors["int8", 1]
    assert turned["int8", 60] < errors["int8", 60] / 3
    assert turned["int8", 1] == pytest.approx(errors["int8", 1], rel=0.3)


def test_a_rotation_changes_no_product():
    x, weight = (torch.randn(n, 3 * 64, generator=torch.Generator().manual_seed(n)) for n in (5, 7))
    turned = outliers.rotated(x) @ outliers.rotated(weight).T
    assert torch.allclose(turned, x @ weight.T, atol=1e-4)
