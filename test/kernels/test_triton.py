"""The kernels themselves, without a GPU: interpreted on the CPU, and compiled for GPUs that are not there.

Triton is no dependency of this package (torch's packages for CUDA bring it), and a download of 200 MB, so that these
tests are skipped where it is missing, as in ``make test``. To run them, in an environment of its own beside torch:

    pip install triton==3.7.1
    TRITON_INTERPRET=1 pytest test/kernels
"""

import importlib.util
import os
import subprocess
import sys

import pytest

pytest.importorskip("torch")
if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("kernels are interpreted with TRITON_INTERPRET=1 only", allow_module_level=True)

import torch
from inputs import BINS, exact_modes, odd_logits, plain_rotary, random_steps, rows_of_attention

from spec_vla_ros.bench.decoding.shapes import random_model, vision_head
from spec_vla_ros.decoding.drafters.base import DraftContext, Observation
from spec_vla_ros.decoding.drafters.beams import grown, try_kernel, windows_of
from spec_vla_ros.decoding.drafters.vision import Vision
from spec_vla_ros.kernels import beams, operators, sizes
from spec_vla_ros.openvla.example import example_config
from spec_vla_ros.openvla.llama import KVCache, rope_tables, try_gated, try_rotary
from spec_vla_ros.openvla.llama import gated as plain_gated

CPU = torch.device("cpu")
GUARD = 7777


@pytest.fixture(autouse=True, scope="module")
def interpreted():
    """The operators run on the CPU, as they do on CUDA."""
    library = torch.library.Library(operators.NAMESPACE, "IMPL")
    library.impl("beam_step", operators._beam_step, "CPU")
    library.impl("rotary_write", operators._rotary_write, "CPU")
    library.impl("silu_times", operators._silu_times, "CPU")
    yield
    library._destroy()


def step(logits, scores, chains, radius, width):
    """By the kernel, in memory that is guarded at both ends."""
    count = min(width, len(logits) * min(width, sizes.MODES))
    row = chains.shape[1] + 1
    room = torch.full((2, 64 + count * row), GUARD), torch.full((2, 64 + count), float(GUARD))
    new_chains, new_scores = room[0][0, 32:-32].view(count, row), room[1][0, 32:-32]
    radii = torch.tensor([-1, radius, 9])
    beams.launch(logits, scores, radii, 1, chains, min(width, sizes.MODES), new_scores, new_chains)
    for memory in room:
        assert (memory[1] == GUARD).all()
        assert (memory[0, :32] == GUARD).all()
        assert (memory[0, -32:] == GUARD).all()
    return new_scores, new_chains


def exact(logits, scores, chains, radius, width):
    """The step in exact arithmetic: scores and chains."""
    found = []
    for row, score, chain in zip(logits, scores.tolist(), chains.tolist(), strict=True):
        for best, mass in exact_modes((row.softmax(-1) * 2.0**62).long(), radius, min(width, sizes.MODES)):
            found.append((score * mass / 2**62, [*chain, best]))
    found = sorted(found, key=lambda candidate: -candidate[0])[:width]
    return torch.tensor([score for score, _ in found]), torch.tensor([chain for _, chain in found])


def test_steps_are_exact():
    """Exponentials of two libraries may decide between guesses that are nearly as good, and only between those."""
    same, count = 0, 0
    for logits, scores, chains, radius, width in random_steps(16):
        expected, found = exact(logits, scores, chains, radius, width), step(logits, scores, chains, radius, width)
        torch.testing.assert_close(found[0][0], expected[0][0], rtol=1e-5, atol=0)
        if torch.equal(found[1], expected[1]):
            torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-15)
            same += 1
        count += 1
    assert same >= 0.9 * count, f"{same} of {count}"


def test_steps_are_those_of_plain_torch():
    for logits, scores, chains, radius, width in random_steps(16):
        if radius <= 9 and logits.std() < 3:  # else a window holds nearly all there is, wherever it lies
            within, outside = windows_of(torch.tensor([radius]), BINS)[:, 0]
            expected = grown(logits, scores, within, outside, chains, width)
            found = step(logits, scores, chains, radius, width)
            assert torch.equal(found[1], expected[1])
            if width > 1:
                torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=0)


@pytest.mark.parametrize("radius", [0, 1, 9, 127, 254])
def test_odd_logits_give_the_lowest_of_equal_guesses_and_write_nowhere_else(radius):
    chains, scores = torch.arange(24).view(8, 3), torch.linspace(1, 0.3, 8)
    for logits in odd_logits():
        for beams_, width in ((8, 8), (8, 1), (1, 8), (1, 1)):
            new_scores, new_chains = step(logits[:beams_].contiguous(), scores[:beams_], chains[:beams_], radius, width)
            assert new_scores.isfinite().all()
            assert (new_scores.diff() <= 0).all()
            assert ((new_chains[:, -1] >= 0) & (new_chains[:, -1] < BINS)).all()
            rows = {tuple(row) for row in chains[:beams_].tolist()}
            assert all(tuple(row) in rows for row in new_chains[:, :-1].tolist())
        if logits.softmax(-1).isfinite().all():
            probability = (logits[:1].softmax(-1)[0] * 2.0**62).long()
            modes = exact_modes(probability, radius, 4)
            found = step(logits[:1].contiguous(), scores[:1], chains[:1], radius, 8)[1][:, -1].tolist()
            masses = [mass for _, mass in modes]
            if masses == sorted(masses, reverse=True):
                assert found == [best for best, _ in modes]


def test_scores_that_are_no_numbers_go_last():
    logits, chains = torch.randn(4, BINS), torch.arange(4)[:, None]
    scores = torch.tensor([float("nan"), 0.5, float("nan"), 0.1])
    new_scores, new_chains = step(logits, scores, chains, 9, 8)
    assert set(new_chains[:, 0].tolist()) == {1, 3}
    assert (new_scores > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_trial_succeeds(dtype):
    try_kernel(255, CPU, dtype)
    try_kernel(256, CPU, dtype)
    try_gated(1000, CPU, dtype)
    for config in (example_config().llama, example_config(width=128).llama):
        try_rotary(config, CPU, dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1, 2 * 7), (3, 2 * 1024), (2, 5, 2 * 1500)])
def test_the_gated_product_is_that_of_plain_torch(dtype, shape):
    both = (4 * torch.randn(*shape, generator=torch.Generator().manual_seed(1))).to(dtype)
    both.view(-1)[:4] = torch.tensor([float("inf"), -float("inf"), 1e4, -1e4])
    expected, found = plain_gated(both), operators.silu_times(both)
    torch.testing.assert_close(found, expected, rtol=2 * torch.finfo(dtype).eps, atol=0, equal_nan=True)
    if dtype == torch.float16:  # the interpreter cuts bfloat16 off where a GPU rounds
        assert ((found == expected) | expected.isnan()).float().mean() > 0.995


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("heads", "size", "rows"), [(2, 16, 1), (3, 8, 5), (5, 128, 3), (32, 128, 2), (40, 64, 1)])
def test_rows_are_turned_and_kept_as_plain_torch_does_and_nothing_else_is_written(heads, size, rows, dtype):
    room = 11
    qkv, cos, sin = rows_of_attention(heads, size, rows, dtype)
    for at in (0, 4, room - rows, torch.randperm(room)[:rows], torch.full((rows,), 3)):
        memory = torch.full((64 + 2 * heads * room * size,), GUARD).to(dtype)
        cache = memory[32:-32].view(2, 1, heads, room, size)
        expected = cache.clone()
        slots, start = (None, at) if isinstance(at, int) else (at, 0)
        q, found = plain_rotary(qkv, cos, sin, expected, slots, start), operators.rotary_write(qkv, cos, sin, cache, at)
        if slots is not None and len(slots.unique()) < rows:  # rows that only fill up a pass: any of them stays
            cache[:, :, :, 3] = expected[:, :, :, 3]
        # The interpreter cuts bfloat16 off where a GPU rounds.
        close = {"rtol": 2 * torch.finfo(dtype).eps, "atol": 1e-6 if dtype == torch.float32 else 0.0}
        torch.testing.assert_close(found, q, **close)
        torch.testing.assert_close(cache, expected, **close)
        assert torch.equal(cache[1], expected[1]), "values are copied"
        if dtype == torch.float16:
            assert torch.equal(found, q)
        assert (memory[:32] == memory[-32:]).all()
        assert (memory[:32] == torch.tensor(GUARD).to(dtype)).all()


def test_rows_without_a_slot_in_the_cache_are_not_kept():
    qkv, cos, sin = rows_of_attention(2, 16, 4)
    memory = torch.full((6, 2, 1, 2, 5, 16), float(GUARD))
    expected = memory[3].clone()
    q = plain_rotary(qkv, cos, sin, expected, torch.tensor([4, 0, 2, 1]), 0)
    expected[:, :, :, 1:3] = GUARD
    found = operators.rotary_write(qkv, cos, sin, memory[3], torch.tensor([4, 0, 5, -1]))
    torch.testing.assert_close(found, q)
    torch.testing.assert_close(memory[3], expected)
    assert (memory[[0, 1, 2, 4, 5]] == GUARD).all()


def test_the_operator_is_what_its_schema_says():
    """What it writes and what it returns; torch.compile and the count of launches believe it."""
    qkv, cos, sin = rows_of_attention(2, 16, 3)
    for slots, start in ((None, 1), (torch.tensor([2, 0, 4]), 0)):
        given = qkv, cos, sin, torch.zeros(2, 1, 2, 5, 16), slots, start
        utilities = ("test_schema", "test_faketensor")
        torch.library.opcheck(torch.ops.spec_vla_ros.rotary_write.default, given, test_utils=utilities)


@torch.inference_mode()
def test_whole_passes_are_those_of_plain_torch():
    hidden, caches, config = [], [], example_config().llama
    for kernels in (True, False):
        llama = random_model(example_config(), CPU, "float32", kernels=kernels).model.language_model
        cache = KVCache(config, 12, "cpu", torch.float32)
        rows = torch.randn(1, 7, config.hidden_size, generator=torch.Generator().manual_seed(2))
        rope = rope_tables(config, torch.arange(7), torch.float32)
        first = llama(rows[:, :4], torch.arange(4), None, cache, 0, tuple(table[:, :4] for table in rope))
        slots = torch.tensor([4, 9, 5])
        behind = llama(rows[:, 4:], torch.arange(3), None, cache, slots, tuple(table[:, 4:] for table in rope), 11)
        hidden.append(torch.cat([first, behind], dim=1))
        caches.append(cache.data)
    torch.testing.assert_close(hidden[0], hidden[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(caches[0], caches[1], rtol=1e-4, atol=1e-5)


def test_whole_drafts_are_those_of_plain_torch():
    loaded = random_model(example_config(), CPU, "float32")
    torch.manual_seed(3)
    head = vision_head(loaded)
    torch.nn.init.normal_(head.out.weight, std=0.2)
    config, drafters = head.config, [Vision(head, fixed_shapes=True, fused=fused) for fused in (True, False)]
    for seed in range(3):
        hidden = torch.randn(1, config.patches + 9, config.hidden, generator=torch.Generator().manual_seed(seed))
        seen = Observation(hidden[:, : config.patches], hidden[:, config.patches :], hidden)
        for width in (1, 8):
            context, proposed = DraftContext(0, 6, width, (0, 9, 3, 5, 1, 9, 0), loaded.tokens), []
            for drafter in drafters:
                drafter.begin(seen)
                proposed.append(drafter.propose(context))
            assert proposed[0] == proposed[1]


COMPILE = """
import sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile as compiled
from spec_vla_ros.kernels import beams, gated, rotary
from spec_vla_ros.kernels.sizes import MODES, WIDEST

capability, kind = int(sys.argv[1]), sys.argv[2]
numbers = {name: "i32" for name in ("beams", "bins", "dimension", "length", "modes", "width")}
types = {"logits": f"*{kind}", "scores": "*fp32", "radii": "*i64", "chains": "*i64", "new_scores": "*fp32",
         "new_chains": "*i64", **numbers, **dict.fromkeys(("rows", "columns", "guesses", "cells"), "constexpr")}
sizes = {"rows": WIDEST, "columns": 256, "guesses": MODES, "cells": beams.ROW}
target = GPUTarget("cuda", capability, 32)
rows = {**dict.fromkeys(("qkv", "cos", "sin", "cache"), f"*{kind}"), "at": "*i64", "out": f"*{kind}", "room": "i32",
        "start": "i32", **dict.fromkeys(("heads", "half", "block", "listed"), "constexpr")}
heads = {"heads": 32, "half": 64, "block": rotary.PAIRS // 64}
for function, signature, constants, warps in (
    (beams.beam_step, types, sizes, beams.WARPS),
    (gated.silu_times, {"both": f"*{kind}", "out": f"*{kind}", "width": "i32", "block": "constexpr"},
     {"block": gated.BLOCK}, 4),
    (rotary.rotary_write, rows, heads | {"listed": True}, rotary.WARPS),
    (rotary.rotary_write, rows | {"at": f"*{kind}"}, heads | {"listed": False}, rotary.WARPS),
):
    made = compiled(ASTSource(function, signature, constants), target=target, options={"num_warps": warps})
    print(function.fn.__name__, len(made.asm["cubin"]), made.metadata.shared, "global_scratch",
          getattr(made.metadata, "global_scratch_size", 0))
"""


@pytest.mark.parametrize("kind", ["bf16", "fp32"])
@pytest.mark.parametrize("capability", [80, 87, 90, 100])
def test_the_kernels_compile_for_gpus_that_are_not_here(capability, kind, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, str(capability), kind], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["beam_step", "silu_times", "rotary_write", "rotary_write"]
    assert all(int(size) > 1000 and int(shared) <= 48 * 1024 for _, size, shared, *_ in lines)
