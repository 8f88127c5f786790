"""int8 and float8 with rows quantised as they come: the numbers are those of the definition, on whatever kernel."""

import pytest
import torch

from spec_vla_ros.openvla import quantised_activations
from spec_vla_ros.openvla.quantised_activations import (
    Float8,
    Int8,
    computes,
    int_product,
    onednn_is_exact,
    quantised_rows,
)


def numbers(*shape, seed=0, size=1.0):
    return size * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def defined(x, weight, top, rounding):
    """The product by the definition, in float64: both stretched by row to ``top``, rounded, multiplied, undone."""
    q, scale = (x / (largest := x.abs().amax(1, keepdim=True)) * top), largest / top
    w, of_weight = (weight / (largest := weight.abs().amax(1, keepdim=True)) * top), largest / top
    return (rounding(q).double() @ rounding(w).double().T) * scale.double() * of_weight.double().T


def to_e4m3(x):
    return x.to(torch.float8_e4m3fn).double()


@pytest.mark.parametrize("rows", [1, 5, 70])
@pytest.mark.parametrize(
    ("kind", "top", "rounding"), [(Int8, 127, torch.round), (Float8, 448, to_e4m3)], ids=["int8", "float8"]
)
def test_the_product_is_that_of_the_definition(kind, top, rounding, rows):
    x, weight = numbers(rows, 4096), numbers(64, 4096, seed=1, size=0.02)
    layer = kind(4096, 64, torch.float32)
    layer.fill(weight)
    expected = defined(x, weight, top, rounding)
    # A number halfway between two may be rounded to either: by how much is a thousandth of what rounding costs.
    assert (layer(x) - expected).abs().max() < 2e-4 * expected.std()


@pytest.mark.parametrize("size", [1e-20, 1e-3, 1e3])
@pytest.mark.parametrize("kind", [Int8, Float8])
def test_scales_are_those_of_each_row(kind, size):
    """A row says the same whatever else is in the pass, and however large it is."""
    layer = kind(256, 32, torch.float32)
    layer.fill(numbers(32, 256, seed=1))
    x = numbers(3, 256)
    alone = layer(x[:1])
    x[1] *= size
    together = layer(x)
    assert torch.equal(together[:1], alone)
    if size > 1e-10:
        assert torch.allclose(together[1] / size, layer(numbers(3, 256))[1], rtol=1e-3, atol=1e-3)
    else:
        assert together[1].abs().max() < 1e-12, "too small for any scale is nothing, not noise"


def test_integers_are_added_without_saturating():
    """256 products of 127 x 127 with one sign: sixteen bits would overflow after two of them."""
    layer = Int8(256, 32, torch.float32)
    layer.fill(torch.ones(32, 256))
    assert torch.allclose(layer(torch.ones(20, 256)), torch.full((20, 32), 256.0))
    assert torch.allclose(layer(-torch.ones(2, 256)), torch.full((2, 32), -256.0))


def test_both_kernels_for_integers_say_the_same_to_the_last_bit(monkeypatch):
    x, weight = numbers(19, 512).bfloat16(), numbers(48, 512, seed=1).bfloat16()
    said = []
    for exact in (onednn_is_exact, lambda: False):
        monkeypatch.setattr(quantised_activations, "onednn_is_exact", exact)
        layer = Int8(512, 48, torch.bfloat16)
        layer.fill(weight)
        said.append(layer(x))
    assert torch.equal(*said)


def test_float8_is_what_the_kernel_of_torch_computes():
    """``_scaled_mm``, which a GPU uses; on a CPU it is too slow to drive with, and right."""
    layer = Float8(512, 48, torch.bfloat16)
    layer.fill(numbers(48, 512, seed=1).bfloat16())
    x = numbers(7, 512).bfloat16()
    q, scale = quantised_rows(x, 448.0)
    kernel = torch._scaled_mm(
        q.to(torch.float8_e4m3fn), layer.packed.to(torch.float8_e4m3fn).t(), scale_a=scale, scale_b=layer.scale,
        out_dtype=torch.bfloat16,
    )  # fmt: skip
    said = layer(x)
    assert torch.allclose(kernel.float(), said.float(), rtol=2**-7, atol=1e-6), "bfloat16 may round once more"
    assert (kernel == said).float().mean() > 0.9


@pytest.mark.parametrize("rows", [1, 17, 33])
def test_padding_for_a_gpu_changes_no_row(rows, monkeypatch):
    """cuBLAS wants more than 16 rows; the ones that are added are cut off again."""
    seen = []
    x = torch.randint(-127, 128, (rows, 64), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    weight = torch.randint(-127, 128, (16, 64), generator=torch.Generator().manual_seed(1)).to(torch.int8)
    kernel = torch._int_mm

    def watched(a, b):
        seen.append(len(a))
        return kernel(a, b)

    monkeypatch.setattr(torch, "_int_mm", watched)
    monkeypatch.setattr(quantised_activations, "PADDED", ("cpu",))
    assert torch.equal(int_product(x, weight), (x.double() @ weight.double().T).int())
    assert seen[0] > 16
    assert seen[0] % 8 == 0


def test_a_device_that_saturates_does_not_have_int8(monkeypatch):
    for cached in (onednn_is_exact, computes):
        cached.cache_clear()
    real = torch.ops.onednn.qlinear_pointwise
    try:
        monkeypatch.setattr(torch.ops.onednn, "qlinear_pointwise", lambda *rest: real(*rest).clamp(-(2**15), 2**15 - 1))
        assert not computes("int8", torch.device("cpu"))
    finally:
        for cached in (onednn_is_exact, computes):
            cached.cache_clear()
