"""Weights in 8 and 4 bits: how far off they are, what they save, and what cannot be quantised."""

import numpy as np
import pytest
import torch

from spec_vla_ros.errors import ConfigurationError
from spec_vla_ros.installed import share_path
from spec_vla_ros.openvla import quantize
from spec_vla_ros.openvla.example import write_example_checkpoint
from spec_vla_ros.openvla.loader import load_model
from spec_vla_ros.openvla.quantize import QuantisedLinear

ERROR = {"int8": 0.01, "int4": 0.12}  # of the output's standard deviation, for normally distributed weights


def filled(precision, dtype=torch.float32, width=256, out=96, seed=0):
    """A quantised layer and its weight."""
    weight = torch.randn(out, width, generator=torch.Generator().manual_seed(seed)).to(dtype)
    layer = QuantisedLinear(width, out, precision)
    layer.fill(weight)
    return layer, weight


@pytest.mark.parametrize("precision", quantize.PRECISIONS)
@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_error_is_that_of_the_bits(precision, rows, dtype):
    layer, weight = filled(precision, dtype)
    x = torch.randn(1, rows, 256, generator=torch.Generator().manual_seed(1)).to(dtype)
    exact = x.float() @ weight.float().T
    out = layer(x)
    assert out.shape == (1, rows, 96)
    assert out.dtype == dtype
    error = (out.float() - exact).std() / exact.std()
    assert error < ERROR[precision] + (0.01 if dtype == torch.bfloat16 else 0)


@pytest.mark.parametrize("precision", quantize.PRECISIONS)
def test_rows_are_multiplied_alike_with_and_without_the_kernel(precision, monkeypatch):
    x = torch.randn(5, 256, generator=torch.Generator().manual_seed(3))
    fast, _ = filled(precision)
    monkeypatch.setattr(quantize, "_kernel_agrees", lambda device, dtype: False)
    plain, _ = filled(precision)
    assert torch.allclose(fast(x), plain(x), atol=1e-3)


def test_a_kernel_that_disagrees_is_not_used(monkeypatch):
    monkeypatch.setattr(torch, "_weight_int8pack_mm", lambda rows, packed, scale: torch.zeros(len(rows), len(scale)))
    quantize._kernel_agrees.cache_clear()
    try:
        layer, weight = filled("int8")
        x = torch.ones(2, 256)
        assert (layer(x) - x @ weight.T).abs().max() < 1, "the wrong kernel's answer would be zero"
    finally:
        quantize._kernel_agrees.cache_clear()


@pytest.mark.parametrize("value", [0.0, 0.25])
@pytest.mark.parametrize("precision", quantize.PRECISIONS)
def test_constant_rows_stay_finite(precision, value):
    layer = QuantisedLinear(64, 8, precision)
    layer.fill(torch.full((8, 64), value))
    assert torch.allclose(layer.weight(), torch.full((8, 64), value), atol=0.01)


def stored(model):
    """Bytes of the decoder's layers."""
    layers = model.language_model.model.layers
    return sum(t.numel() * t.element_size() for t in [*layers.parameters(), *layers.buffers()])


def test_a_checkpoint_is_loaded_in_less_memory_and_still_drives_alike():
    folder = share_path("models/tabletop")
    image = np.random.default_rng(0).integers(0, 255, (224, 224, 3), dtype=np.uint8)
    exact = load_model(folder)
    logits = exact.first_logits(image, "pick up the red block")
    for precision, share in (("int8", 0.3), ("int4", 0.2)):
        loaded = load_model(folder, dtype=precision)
        assert loaded.model.precision == precision
        assert loaded.model.parameter_count == exact.model.parameter_count
        assert not any(p.is_meta for p in loaded.model.parameters())
        # Fused layers hold the same memory twice over in this count, as themselves and as views.
        assert stored(loaded.model) < share * stored(exact.model)
        said = loaded.first_logits(image, "pick up the red block")
        assert 0 < (said - logits).abs().max() < (0.1 if precision == "int8" else 0.8) * logits.std()


def test_an_unknown_precision_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="int8, int4"):
        load_model(write_example_checkpoint(tmp_path / "base"), dtype="int3")
