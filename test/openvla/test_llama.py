"""The cached, fused language model against the plain forward pass."""

import pytest
import torch

from spec_vla_ros.decoding.heads.vision_head import VisionHead, VisionHeadConfig
from spec_vla_ros.openvla.example import example_config, example_model
from spec_vla_ros.openvla.llama import KVCache, causal_mask, rope_tables
from spec_vla_ros.openvla.model import OpenVLA

CONFIG = example_config(width=48, layers=3)


@pytest.fixture
def model():
    """Example model of three layers."""
    return example_model(CONFIG, seed=2)


@torch.inference_mode()
def test_fusing_changes_neither_result_nor_names(model):
    pixels, ids = torch.randn(2, 6, 56, 56), torch.randint(3, 500, (2, 9))
    before, names = model(pixels, ids), model.state_dict().keys()
    model.language_model.fuse()
    torch.testing.assert_close(model(pixels, ids), before, rtol=1e-5, atol=1e-5)
    assert model.state_dict().keys() == names
    assert model.language_model.model.layers[0].mlp.up_proj.weight.untyped_storage().data_ptr() == (
        model.language_model.model.layers[0].mlp.gate_up.untyped_storage().data_ptr()
    )


def test_a_model_without_values_draws_none(monkeypatch):
    """On the meta device torch imports its compiler to draw them: every start of the node waited a second for it."""
    monkeypatch.setattr(torch.nn.init, "normal_", lambda *_, **__: pytest.fail("values were drawn"))
    with torch.device("meta"):
        OpenVLA(CONFIG)
        VisionHead(VisionHeadConfig(hidden=48, patches=16))


@pytest.mark.parametrize("chunks", [(20,), (13, 7), (12, 1, 1, 6), (1,) * 20])
@torch.inference_mode()
def test_the_cache_gives_what_one_pass_gives(model, chunks):
    llama = model.language_model
    rows = torch.randn(1, 20, 48)
    full = llama(rows, torch.arange(20), causal_mask(20, "cpu"))
    cache, mask, start, parts = KVCache(CONFIG.llama, 24, "cpu", torch.float32), causal_mask(24, "cpu"), 0, []
    for count in chunks:
        end = start + count
        parts.append(llama(rows[:, start:end], torch.arange(start, end), mask[start:end, :end], cache, start))
        start = end
    torch.testing.assert_close(torch.cat(parts, dim=1), full, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_branches_of_a_tree_do_not_see_each_other(model):
    # The mask and the positions are the caller's: two branches after the same rows, verified in one pass.
    llama, rows = model.language_model, torch.randn(1, 10, 48)
    mask = causal_mask(10, "cpu")
    mask[8:10, 6:8] = False
    positions = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 6, 7])
    tree = llama(rows, positions, mask)
    alone = llama(torch.cat([rows[:, :6], rows[:, 8:]], dim=1), torch.arange(8), causal_mask(8, "cpu"))
    torch.testing.assert_close(tree[:, 8:], alone[:, 6:], rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_ready_made_rotary_tables_are_the_same(model):
    llama, rows, positions = model.language_model, torch.randn(1, 5, 48), torch.arange(3, 8)
    tables = rope_tables(CONFIG.llama, positions, torch.float32)
    mask = causal_mask(5, "cpu")
    assert torch.equal(llama(rows, positions, mask, rope=tables), llama(rows, positions, mask))
