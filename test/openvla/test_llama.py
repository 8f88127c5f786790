"""The cached, fused language model against the plain forward pass."""

import pytest
import torch

from spec_vla_ros.decoding.heads.vision_head import VisionHead, VisionHeadConfig
from spec_vla_ros.openvla.example import example_config, example_model
from spec_vla_ros.openvla.llama import KVCache, RMSNorm, causal_mask, rope_matrices, rope_tables, rotate, turn
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


@torch.inference_mode()
def test_rotary_matrices_give_what_the_tables_give(model):
    llama, rows, positions = model.language_model, torch.randn(1, 5, 48), torch.arange(3, 8)
    tables, matrices = (make(CONFIG.llama, positions, torch.float32) for make in (rope_tables, rope_matrices))
    mask = causal_mask(5, "cpu")
    for _ in range(2):  # before and after q, k and v lie side by side
        with_tables = llama(rows, positions, mask, rope=tables)
        torch.testing.assert_close(llama(rows, positions, mask, rope=matrices), with_tables, rtol=1e-5, atol=1e-5)
        llama.fuse()


@torch.inference_mode()
def test_in_half_precision_a_rotary_matrix_is_no_further_off_than_the_tables():
    torch.manual_seed(0)
    positions, x = torch.arange(400), torch.randn(2, 1, 4, 400, CONFIG.llama.head_dim, dtype=torch.bfloat16)
    exact = rotate(x.double(), *rope_tables(CONFIG.llama, positions, torch.float64))
    off = turn(x, rope_matrices(CONFIG.llama, positions, torch.bfloat16)).double() - exact
    before = rotate(x, *rope_tables(CONFIG.llama, positions, torch.bfloat16)).double() - exact
    assert off.square().mean() < before.square().mean()


@torch.inference_mode()
def test_what_a_gpu_norms_with_one_kernel_is_no_further_off():
    """The same function on the CPU, where it is not one kernel, and therefore not used."""
    torch.manual_seed(0)
    norm = RMSNorm(256, 1e-6).to(torch.bfloat16)
    norm.weight.normal_(1.0, 0.2)
    x = torch.randn(64, 256, dtype=torch.bfloat16)
    exact = x.double() * torch.rsqrt(x.double().square().mean(-1, keepdim=True) + 1e-6) * norm.weight.double()
    fused = torch.nn.functional.rms_norm(x, (256,), norm.weight, 1e-6)
    assert (fused.double() - exact).square().mean() < (norm(x).double() - exact).square().mean()


@torch.inference_mode()
def test_rows_that_are_given_are_left_as_they_are(model):
    """Residuals are added in place, but never to what a caller may want again."""
    rows = torch.randn(1, 5, 48)
    kept = rows.clone()
    model.language_model(rows, torch.arange(5), causal_mask(5, "cpu"))
    assert torch.equal(rows, kept)


def test_a_pass_can_be_learnt_from(model):
    llama, rows = model.language_model, torch.randn(1, 5, 48, requires_grad=True)
    llama.requires_grad_(True)
    hidden = llama(rows, torch.arange(5), causal_mask(5, "cpu"))
    hidden.square().sum().backward()
    assert all(parameter.grad is not None for parameter in llama.model.layers.parameters())
    with torch.no_grad():
        torch.testing.assert_close(llama(rows, torch.arange(5), causal_mask(5, "cpu")), hidden, rtol=1e-5, atol=1e-5)


def test_a_branch_moves_whole_wherever_it_lies():
    generator = torch.Generator().manual_seed(3)
    cases = [sorted(torch.randperm(14, generator=generator)[:6].tolist()) for _ in range(60)]
    for path in (*cases, [0, 1, 2], [1, 2, 3, 4, 5, 6], [2, 3, 4, 5, 6], [5], []):
        cache = KVCache(CONFIG.llama, 24, "cpu", torch.float32)
        cache.data.normal_(generator=generator)
        before = cache.data.clone()
        cache.move([5 + node for node in path], 5)
        wanted = before.clone()
        wanted[..., 5 : 5 + len(path), :] = before[..., [5 + node for node in path], :]
        assert torch.equal(cache.data, wanted), path
