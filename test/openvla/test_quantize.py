"""Quantised layers: how far off they are, what they save, what becomes of numbers that no scale fits."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spec_vla_ros.errors import ConfigurationError, NonFiniteError
from spec_vla_ros.installed import share_path
from spec_vla_ros.openvla import quantize
from spec_vla_ros.openvla.example import write_example_checkpoint
from spec_vla_ros.openvla.loader import load_model
from spec_vla_ros.openvla.precisions import QUANTISED, beside, missing
from spec_vla_ros.openvla.quantize import Int8Weights, quantise_layers

# Of the output's standard deviation, for normally distributed weights and rows: from, to.
ERROR = {"float8": (0.02, 0.05), "int8": (0.005, 0.015), "int8_weights": (0.003, 0.01), "int4_weights": (0.05, 0.12)}


def filled(precision, dtype=torch.float32, width=256, out=96, seed=0):
    """A quantised layer and its weight."""
    weight = torch.randn(out, width, generator=torch.Generator().manual_seed(seed)).to(dtype)
    layer = QUANTISED[precision](width, out, dtype)
    layer.fill(weight)
    return layer, weight


@pytest.mark.parametrize("precision", QUANTISED)
@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_error_is_that_of_the_bits(precision, rows, dtype):
    layer, weight = filled(precision, dtype)
    x = torch.randn(1, rows, 256, generator=torch.Generator().manual_seed(1)).to(dtype)
    exact = x.float() @ weight.float().T
    out = layer(x)
    assert out.shape == (1, rows, 96)
    assert out.dtype == dtype
    low, high = ERROR[precision]
    assert low < (out.float() - exact).std() / exact.std() < high + (0.01 if dtype == torch.bfloat16 else 0)


@pytest.mark.parametrize("precision", QUANTISED)
def test_filled_in_parts_as_a_checkpoint_has_them(precision):
    """q, k and v become one layer; the parts come from the file in any order, and are left as they were."""
    whole, weight = filled(precision)
    before, parts = weight.clone(), QUANTISED[precision](256, 96, torch.float32)
    for first, end in ((64, 96), (0, 32), (32, 64)):
        parts.fill(weight[first:end], first)
    x = torch.randn(3, 256, generator=torch.Generator().manual_seed(2))
    assert torch.equal(parts(x), whole(x))
    assert torch.equal(weight, before), "a mapped file, or somebody else's tensor"


@pytest.mark.parametrize("precision", QUANTISED)
def test_blocks_of_outputs_change_nothing(precision, monkeypatch):
    x = torch.randn(40, 256, generator=torch.Generator().manual_seed(3))
    whole = filled(precision)[0](x)
    monkeypatch.setitem(quantize.BLOCK, "cpu", 7 * 256)
    assert torch.allclose(filled(precision)[0](x), whole, atol=1e-4)


def test_rows_are_multiplied_alike_with_and_without_the_kernel(monkeypatch):
    x = torch.randn(5, 256, generator=torch.Generator().manual_seed(3))
    fast, _ = filled("int8_weights")
    monkeypatch.setattr(quantize, "_kernel_agrees", lambda device, dtype: False)
    plain, _ = filled("int8_weights")
    assert torch.allclose(fast(x), plain(x), atol=1e-3)
    assert torch.allclose(plain(x), F.linear(x, plain.weight()), atol=1e-3)


@torch.inference_mode()
def test_layers_that_unpack_into_the_same_memory_do_not_disturb_each_other():
    """Fresh memory for every layer took four times as long as to unpack; q, k and v of one thread are used up before
    the next layer comes, and another thread has memory of its own.
    """
    shared, (small, big) = quantize.Workspace(), (filled("int8_weights", width=256, out=out)[0] for out in (96, 200))
    x = torch.randn(40, 256, generator=torch.Generator().manual_seed(3))
    expected = [F.linear(x, layer.weight()) for layer in (small, big)]
    for layer in (small, big):
        layer.workspace = shared
    before = [layer(x) for layer in (small, big, small)]
    memory = shared.unpacked(big.packed, torch.float32).data_ptr()
    assert shared.unpacked(small.packed, torch.float32).data_ptr() == memory
    for said, layer in zip(before, (0, 1, 0), strict=True):
        assert torch.allclose(said, expected[layer], atol=1e-3)
    with ThreadPoolExecutor(1) as other:
        unpacked = torch.inference_mode()(shared.unpacked)
        assert other.submit(unpacked, small.packed, torch.float32).result().data_ptr() != memory


def test_a_model_has_one_memory_to_unpack_into(tmp_path):
    model = load_model(write_example_checkpoint(tmp_path / "base"), dtype="int8_weights").model
    layers = [m for m in model.language_model.modules() if isinstance(m, Int8Weights)]
    assert len(layers) > 1
    assert len({id(layer.workspace) for layer in layers}) == 1


def test_layers_that_were_asked_in_inference_mode_answer_elsewhere_too():
    """A model checks itself in it while it is loaded: nobody could ask it under ``no_grad`` any more, so that the rows
    that a draft head learns from were an error.
    """
    layer, _ = filled("int8_weights")
    x = torch.randn(40, 256, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = layer(x).clone()
    with torch.no_grad():
        assert torch.equal(layer(x), expected)
    assert torch.equal(layer(x), expected)


def test_what_is_learnt_through_several_layers_finds_the_weights_of_each():
    """The way back reads them again: it found those of the last layer in the place of all, and raised."""
    first, second = (filled("int8_weights", width=256, out=256, seed=seed)[0] for seed in range(2))
    second.workspace = first.workspace
    x = torch.randn(40, 256, generator=torch.Generator().manual_seed(3), requires_grad=True)
    second(first(x)).sum().backward()
    expected = torch.ones(40, 256) @ second.weight() @ first.weight()
    assert torch.allclose(x.grad, expected, rtol=1e-3, atol=1e-2)


def test_a_copy_of_quantised_layers_has_a_memory_of_its_own():
    """Memory of a thread cannot be copied, and with it no model in this precision could be."""
    layers = torch.nn.Sequential(*(filled("int8_weights", width=96, out=96)[0] for _ in range(2)))
    layers[1].workspace = layers[0].workspace
    twin = copy.deepcopy(layers)
    x = torch.randn(40, 96, generator=torch.Generator().manual_seed(3))
    assert torch.equal(twin(x), layers(x))
    assert twin[0].workspace is twin[1].workspace is not layers[0].workspace


def test_a_kernel_that_disagrees_is_not_used(monkeypatch):
    monkeypatch.setattr(torch, "_weight_int8pack_mm", lambda rows, packed, scale: torch.zeros(len(rows), len(scale)))
    quantize._kernel_agrees.cache_clear()
    try:
        layer, weight = filled("int8_weights")
        x = torch.ones(2, 256)
        assert (layer(x) - x @ weight.T).abs().max() < 1, "the wrong kernel's answer would be zero"
    finally:
        quantize._kernel_agrees.cache_clear()


@pytest.mark.parametrize("value", [0.0, 0.25])
@pytest.mark.parametrize("precision", QUANTISED)
def test_constant_weights_stay_finite(precision, value):
    layer = QUANTISED[precision](64, 8, torch.float32)
    layer.fill(torch.full((8, 64), value))
    assert torch.allclose(layer(torch.ones(2, 64)), torch.full((2, 8), 64 * value), rtol=0.05, atol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("precision", QUANTISED)
def test_a_row_that_is_not_finite_gives_no_number_that_looks_like_one(precision, bad):
    """Cast to an integer it would be any number, and the arm would move by it; its neighbours do not suffer."""
    layer, _ = filled(precision)
    x = torch.randn(3, 256, generator=torch.Generator().manual_seed(5))
    good = layer(x)
    x[1, 3] = bad
    said = layer(x)
    assert not said[1].isfinite().any()
    assert torch.allclose(said[[0, 2]], good[[0, 2]])


def stored(model):
    """Bytes of the decoder's layers."""
    layers = model.language_model.model.layers
    return sum(t.nbytes for t in [*layers.parameters(), *layers.buffers()] if t is not None)


@pytest.mark.parametrize(("precision", "share", "most"), [("int8", 0.3, 0.15), ("int8_weights", 0.3, 0.1)])
def test_a_checkpoint_is_loaded_in_less_memory_and_still_drives_alike(precision, share, most):
    cpu = torch.device("cpu")
    if why := missing(precision, cpu):
        pytest.skip(why)
    folder = share_path("models/tabletop")
    image = np.random.default_rng(0).integers(0, 255, (224, 224, 3), dtype=np.uint8)
    exact, loaded = load_model(folder, dtype=beside(cpu)), load_model(folder, dtype=precision)
    assert loaded.model.precision == precision
    assert loaded.model.dtype == beside(cpu)
    assert loaded.model.parameter_count == exact.model.parameter_count
    assert not any(p.is_meta for p in loaded.model.parameters())
    # Fused layers hold the same memory twice over in this count, as themselves and as views.
    assert stored(loaded.model) < share * stored(exact.model) * 4 / beside(cpu).itemsize
    logits, said = (m.first_logits(image, "pick up the red block") for m in (exact, loaded))
    assert 0 < (said - logits).abs().max() < most * logits.std()


def test_weights_that_are_not_finite_do_not_get_past_the_self_check(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = write_example_checkpoint(tmp_path / "base")
    tensors = load_file(folder / "model.safetensors")
    tensors["language_model.model.layers.0.mlp.up_proj.weight"][3, 3] = float("inf")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NonFiniteError):
        load_model(folder, dtype="int8_weights")


def test_every_layer_of_the_decoder_is_replaced_and_nothing_else(tmp_path):
    model = load_model(write_example_checkpoint(tmp_path / "base")).model
    towers = sum(isinstance(m, torch.nn.Linear) for m in model.vision_backbone.modules())
    parts = quantise_layers(model.language_model, Int8Weights, torch.float32)
    assert len(parts) == 7 * len(model.language_model.model.layers), "by the names of the checkpoint"
    assert not any(isinstance(m, torch.nn.Linear) for m in model.language_model.model.layers.modules())
    assert sum(isinstance(m, torch.nn.Linear) for m in model.vision_backbone.modules()) == towers
    assert isinstance(model.language_model.lm_head, torch.nn.Linear)


def test_an_unknown_precision_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="int8, int8_weights"):
        load_model(write_example_checkpoint(tmp_path / "base"), dtype="int3")
