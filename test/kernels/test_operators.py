"""Kernels of our own where there is no GPU: shapes, the switch, and what happens where one cannot run."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

import torch
from inputs import plain_rotary, rows_of_attention

from spec_vla_ros.bench.decoding.shapes import random_model, vision_head
from spec_vla_ros.bench.gpu.checks import FIXED, PLAIN, TREES, answers, compared
from spec_vla_ros.decoding.drafters.base import DraftContext, Observation
from spec_vla_ros.decoding.drafters.beams import TRIAL_RADII, clear_logits, grown, modes, try_kernel, windows_of
from spec_vla_ros.decoding.drafters.vision import Vision
from spec_vla_ros.kernels.kernel import Kernel, state_of
from spec_vla_ros.kernels.operators import NAMESPACE, beam_step, rotary_write, silu_times
from spec_vla_ros.kernels.sizes import WIDEST
from spec_vla_ros.node.diagnostics import DecodeWindow, decoding_summary
from spec_vla_ros.openvla.example import example_config
from spec_vla_ros.openvla.llama import KVCache, causal_mask, gated, rope_matrices, rope_tables, try_gated, try_rotary
from spec_vla_ros.policy import OpenVLAPolicy

CUDA = torch.device("cuda")
CPU = torch.device("cpu")


def plain_step(logits, scores, radii, dimension, chains, width):
    """What stands in for the kernel on a CPU."""
    within, outside = windows_of(radii[dimension : dimension + 1], logits.shape[1])[:, 0]
    found = grown(logits, scores, within, outside, chains, width)
    return (scores.clone(), found[1]) if width == 1 else found  # an operator returns no argument


@pytest.fixture
def on_cpu():
    """Give operators an implementation on the CPU, until the test is over."""
    library = torch.library.Library(NAMESPACE, "IMPL")
    yield lambda name, function: library.impl(name, function, "CPU")
    library._destroy()


@pytest.fixture(scope="module")
def loaded():
    return random_model(example_config(), torch.device("cpu"), "float32")


# -- shapes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("beams", "width"), [(1, 1), (1, 2), (1, 8), (2, 2), (4, 8), (8, 8), (8, 3)])
def test_without_memory_a_step_has_the_shapes_of_plain_torch(beams, width, dtype):
    given = torch.randn(beams, 255).to(dtype), torch.ones(beams), torch.zeros(beams, 3, dtype=torch.long)
    expected = plain_step(*given[:2], torch.tensor([2, 9]), 1, given[2], width)
    logits, scores, chains = (tensor.to("meta") for tensor in given)
    found = beam_step(logits, scores, torch.tensor([2, 9], device="meta"), 1, chains, width)
    assert [tensor.dtype for tensor in found] == [tensor.dtype for tensor in expected]
    assert found[1].shape == expected[1].shape
    assert width == 1 or found[0].shape == expected[0].shape
    both = torch.zeros(2, 5, 32, dtype=dtype)
    assert (silu_times(both.to("meta")).shape, silu_times(both.to("meta")).dtype) == ((2, 5, 16), dtype)


@pytest.mark.parametrize(("beams", "chains", "width"), [(9, 9, 8), (8, 8, 9), (4, 3, 8), (0, 0, 1), (1, 1, 0)])
def test_more_beams_than_the_kernel_has_room_for_are_refused(beams, chains, width):
    like = {"device": "meta"}
    logits, scores = torch.zeros(beams, 255, **like), torch.ones(beams, **like)
    radii, rows = torch.zeros(7, dtype=torch.long, **like), torch.zeros(chains, 2, dtype=torch.long, **like)
    with pytest.raises(ValueError, match="there may be 8"):
        beam_step(logits, scores, radii, 0, rows, width)


def rotary_arguments(heads=2, size=8, rows=3, slots=9, dtype=torch.bfloat16):
    """On the device without memory, by name."""
    qkv, cos, sin = (tensor.to("meta") for tensor in rows_of_attention(heads, size, rows, dtype))
    cache = torch.zeros(2, 1, heads, slots, size, dtype=dtype, device="meta")
    return {"qkv": qkv, "cos": cos, "sin": sin, "cache": cache, "at": 0}


@pytest.mark.parametrize("at", [6, torch.tensor([8, 0, 3], device="meta")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_memory_turned_queries_lie_row_by_row(at, dtype):
    """As (N, heads, head_dim), so that attention finds them as it found those of plain torch."""
    found = rotary_write(**rotary_arguments(dtype=dtype) | {"at": at})
    assert (found.shape, found.dtype) == ((1, 2, 3, 8), dtype)
    assert found.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize(
    "wrong",
    [
        {"at": 7}, {"at": -1}, {"at": torch.zeros(2, dtype=torch.long)}, {"at": torch.zeros(3, dtype=torch.int32)},
        {"qkv": torch.zeros(2, 3, 48, dtype=torch.bfloat16)}, {"qkv": torch.zeros(1, 3, 48)},
        {"qkv": torch.zeros(1, 3, 32, dtype=torch.bfloat16)}, {"cos": torch.zeros(1, 2, 8, dtype=torch.bfloat16)},
        {"sin": torch.zeros(1, 3, 4, dtype=torch.bfloat16)}, {"sin": torch.zeros(1, 3, 8)},
        {"cos": torch.zeros(2, 1, 3, 8, dtype=torch.bfloat16)}, {"cos": torch.zeros(1, 8, 3, dtype=torch.bfloat16)},
        {"sin": torch.zeros(1, 8, 3, dtype=torch.bfloat16)},
        {"cache": torch.zeros(2, 2, 2, 9, 8, dtype=torch.bfloat16)}, {"cache": torch.zeros(2, 1, 2, 9, 8)},
        {"cache": torch.zeros(2, 1, 9, 2, 8, dtype=torch.bfloat16).transpose(2, 3)},
        {"cache": torch.zeros(2, 1, 2, 12, 8, dtype=torch.bfloat16, device="meta")[:, :, :, :9]},
        rotary_arguments(size=12), rotary_arguments(size=4),
    ],
)  # fmt: skip
def test_rows_and_caches_that_do_not_go_together_are_refused(wrong):
    """A kernel that believed them would write anywhere."""
    given = rotary_arguments() | wrong
    with pytest.raises(ValueError, match=r"do not go together|from slot|slots"):
        rotary_write(*(part.to("meta") if isinstance(part, torch.Tensor) else part for part in given.values()))


# -- plain torch, which the kernels are held to


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bins", [255, 256])
def test_a_trial_is_about_clear_answers(dtype, bins):
    """Two that are nearly as good would fail a kernel that is right."""
    radii, scores, chains = torch.tensor(TRIAL_RADII), torch.ones(1), torch.full((1, 1), bins)
    for dimension, radius in enumerate(TRIAL_RADII):
        within, outside = windows_of(radii[dimension : dimension + 1], bins)[:, 0]
        logits = clear_logits(len(chains), dimension, bins, radius).to(dtype)
        left = logits.float().softmax(-1)
        for _ in range(4):
            best, second = (left @ within).topk(2).values.unbind(1)
            assert (second < 0.999 * best).all()
            left = left * outside[(left @ within).argmax(1)]
        masses = modes(logits.float().softmax(-1), within, outside, 4)[1]
        totals = (scores[:, None] * masses).flatten().sort(descending=True).values[: WIDEST + 1]
        assert (totals[1:] < 0.998 * totals[:-1]).all()
        scores, chains = grown(logits, scores, within, outside, chains, WIDEST)
    assert len(chains) == WIDEST


def test_a_trial_finds_a_kernel_that_is_wrong(on_cpu):
    wrong = {"what": lambda *a: plain_step(*a)}
    on_cpu("beam_step", lambda *arguments: wrong["what"](*arguments))
    on_cpu("silu_times", lambda both: wrong.get("silu", gated)(both))
    for bins in (255, 256):
        try_kernel(bins, torch.device("cpu"), torch.float32)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        try_gated(1000, torch.device("cpu"), dtype)

    def narrower(logits, scores, radii, *rest):
        return plain_step(logits, scores, (radii - 1).clamp(min=0), *rest)

    def unweighted(logits, scores, *rest):
        return plain_step(logits, torch.ones_like(scores), *rest)

    def forgetful(logits, scores, radii, dimension, chains, width):
        return plain_step(logits, scores, radii, dimension, chains.flip(0), width)

    for what in (narrower, unweighted, forgetful):
        wrong["what"] = what
        with pytest.raises(RuntimeError, match="not what plain torch says"):
            try_kernel(255, torch.device("cpu"), torch.float32)
    wrong["silu"] = lambda both: gated(both.flip(-1))
    with pytest.raises(RuntimeError, match="not what plain torch says"):
        try_gated(1000, torch.device("cpu"), torch.bfloat16)


def test_a_trial_finds_a_rotary_kernel_that_is_wrong(on_cpu, loaded):
    config, wrong = loaded.config.llama, {"what": plain_rotary}
    on_cpu("rotary_write", lambda *arguments: wrong["what"](*arguments))
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        try_rotary(config, CPU, dtype)

    def other_way(qkv, cos, sin, *rest):
        return plain_rotary(qkv, cos, -sin, *rest)

    def other_position(qkv, cos, sin, *rest):
        return plain_rotary(qkv, cos.roll(1, -2), sin.roll(1, -2), *rest)

    def next_slot(qkv, cos, sin, cache, slots, start):
        return plain_rotary(qkv, cos, sin, cache, None if slots is None else slots + 1, start + 1)

    def in_order(qkv, cos, sin, cache, slots, start):
        return plain_rotary(qkv, cos, sin, cache, None if slots is None else slots.sort().values, start)

    def first_slot(qkv, cos, sin, cache, slots, start):
        return plain_rotary(qkv, cos, sin, cache, slots, 0)

    def keys_and_values_exchanged(qkv, cos, sin, cache, slots, start):
        kept = cache.clone()
        q = plain_rotary(qkv, cos, sin, kept, slots, start)
        cache.copy_(kept.flip(0))
        return q

    def queries_as_they_were(qkv, cos, sin, cache, slots, start):
        plain_rotary(qkv, cos, sin, cache, slots, start)
        return plain_rotary(qkv, torch.ones_like(cos), torch.zeros_like(sin), cache.clone(), slots, start)

    def one_slot_more(qkv, cos, sin, cache, slots, start):
        q = plain_rotary(qkv, cos, sin, cache, slots, start)
        cache[:, :, :, 6] = 0
        return q

    for what in (
        other_way, other_position, next_slot, in_order, first_slot, keys_and_values_exchanged, queries_as_they_were,
        one_slot_more,
    ):  # fmt: skip
        wrong["what"] = what
        with pytest.raises(RuntimeError, match="not what plain torch says"):
            try_rotary(config, CPU, torch.bfloat16)


# -- the switch


def no_trial():
    pytest.fail("nothing was to be tried")


def test_no_kernel_is_used_or_tried_but_on_cuda():
    off = Kernel("a", torch.device("cpu"), no_trial)
    assert (off.on, off.problem, state_of([off])) == (False, "", "off")
    assert Kernel("a", torch.device("meta"), no_trial, wanted=True).on
    assert not Kernel("a", CUDA, no_trial, wanted=False).on


def test_a_torch_without_triton_is_nothing_to_warn_of(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "triton", None)
    kernel = Kernel("a", CUDA, no_trial)
    assert (kernel.on, kernel.problem, caplog.records) == (False, "", [])


@pytest.fixture
def broken_triton(monkeypatch, tmp_path):
    (tmp_path / "triton").mkdir()
    (tmp_path / "triton" / "__init__.py").write_text('raise ImportError("libtriton.so: undefined symbol\\nof long")')
    for name in [name for name in sys.modules if name.partition(".")[0] == "triton"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_triton_that_cannot_be_imported_leaves_plain_torch_and_says_why(broken_triton, caplog):
    kernel = Kernel("beam_step", CUDA, lambda: importlib.import_module("spec_vla_ros.kernels.beams"))
    assert not kernel.on
    assert state_of([kernel]) == "failed: beam_step: ImportError: libtriton.so: undefined symbol of long"
    assert "slower; beam_step: ImportError: libtriton.so" in caplog.text


def test_what_a_compiler_says_is_cut_short(tmp_path):
    (tmp_path / "triton").mkdir()

    def trial():
        raise Exception("Failed to find C compiler. " + "x" * 5000)  # Triton's are of many classes

    with pytest.MonkeyPatch.context() as patch:
        (tmp_path / "triton" / "__init__.py").write_text("")
        patch.syspath_prepend(tmp_path)
        patch.delitem(sys.modules, "triton", raising=False)
        kernel = Kernel("beam_step", CUDA, trial)
    assert "Failed to find C compiler" in kernel.problem
    assert len(kernel.problem) <= 300


def test_the_kernels_of_a_policy_are_told_and_a_failure_warns(loaded):
    heads = {"vision": Vision(vision_head(loaded))}
    policy = OpenVLAPolicy(loaded, heads)

    def told():
        return decoding_summary(SimpleNamespace(description=policy.describe(), bin_width=None), DecodeWindow())

    assert told()[0] == "OK"
    assert told()[2]["kernels"] == "off"
    heads["vision"].kernel.problem = "beam_step: RuntimeError: Failed to find C compiler"
    level, text, values = told()
    assert (level, values["kernels"]) == ("WARN", "failed: beam_step: RuntimeError: Failed to find C compiler")
    assert "Failed to find C compiler" in text


# -- what uses them


def test_drafts_go_through_the_operator_and_are_what_they_were(loaded, on_cpu):
    """Radii, dimensions, scores and chains arrive where they should; wider drafts than it knows are plain torch's."""
    asked, depth = [], 6

    def step(logits, scores, radii, dimension, chains, width):
        asked.append((dimension, width))
        return plain_step(logits, scores, radii, dimension, chains, width)

    on_cpu("beam_step", step)
    torch.manual_seed(3)
    head = vision_head(loaded)
    torch.nn.init.normal_(head.out.weight)
    config = head.config
    drafters = [Vision(head, fixed_shapes=True, fused=fused) for fused in (True, False)]
    for seed in range(4):
        hidden = torch.randn(1, config.patches + 9, config.hidden, generator=torch.Generator().manual_seed(seed))
        seen = Observation(hidden[:, : config.patches], hidden[:, config.patches :], hidden)
        radii = (9, 0, 3, 40, 1, 9, 0) if seed % 2 else (0, 30, 2, 1, 5, 6, 7)
        for first, width in ((0, 1), (0, 8), (2, 8), (5, 2), (0, WIDEST + 1)):
            emitted = tuple(loaded.tokens.to_ids([3, 200]).tolist())[:first] * 3
            context = DraftContext(first, depth - first, width, radii, loaded.tokens, emitted=emitted[:first])
            proposed = []
            for drafter in drafters:
                drafter.begin(seen)
                proposed.append(drafter.propose(context))
            assert proposed[0] == proposed[1]
    assert set(asked) == {(d, w) for f, w in ((0, 1), (0, 8), (2, 8), (5, 2)) for d in range(f, depth)}


def test_passes_go_through_the_operator_and_are_what_they_were(loaded, on_cpu):
    llama, seen = loaded.model.language_model, []
    on_cpu("silu_times", lambda both: seen.append(both.shape) or gated(both))
    rows, config = torch.randn(1, 5, loaded.config.llama.hidden_size), loaded.config.llama
    with torch.inference_mode():
        before = llama(rows, torch.arange(5), None)
        assert seen == []
        llama.use_kernels(True)
        after = llama(rows, torch.arange(5), None)
        llama.use_kernels()
    assert torch.equal(before, after)
    assert seen == [(1, 5, 2 * config.intermediate_size)] * config.num_hidden_layers


@pytest.fixture
def layers(loaded):
    """The language model with kernels, until the test is over."""
    llama = loaded.model.language_model
    llama.use_kernels(True)
    yield llama
    llama.use_kernels()


@pytest.mark.parametrize("at", [3, torch.tensor([3, 9, 4, 11, 6])])
@torch.inference_mode()
def test_rows_are_turned_and_kept_by_the_operator_and_are_what_they_were(layers, on_cpu, at):
    seen, config, caches, hidden = [], layers.config, [], []
    on_cpu("silu_times", gated)
    on_cpu("rotary_write", lambda *given: seen.append((given[4], given[5])) or plain_rotary(*given))
    rows, places = torch.randn(1, 5, config.hidden_size), torch.tensor([3, 4, 5, 4, 5])
    mask = torch.rand(5, 12) < 0.7
    mask[:, 3] = True
    for rope in (rope_tables(config, places, torch.float32), rope_matrices(config, places, torch.float32)):
        cache = KVCache(config, 14, "cpu", torch.float32)
        cache.data.normal_(generator=torch.Generator().manual_seed(1))
        hidden.append(layers(rows, places, mask, cache, at, rope, 12))
        caches.append(cache.data)
        assert len(seen) == config.num_hidden_layers, "tables only"
    torch.testing.assert_close(hidden[0], hidden[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(caches[0], caches[1], rtol=1e-5, atol=1e-5)
    assert all(slots is at and start == 0 if isinstance(at, torch.Tensor) else start == at for slots, start in seen)


def test_what_the_operator_does_not_know_goes_the_plain_way(layers, on_cpu, loaded):
    """Several sequences, no cache, what is learnt from, autocast, layers that are not joined, other heads."""
    on_cpu("silu_times", gated)
    on_cpu("rotary_write", lambda *given: pytest.fail("it was asked"))
    config = layers.config
    rows, places, mask = torch.randn(1, 5, config.hidden_size), torch.arange(5), causal_mask(5, "cpu")

    def run(model=layers, batch=1, dtype=torch.float32, cached=True):
        cache = KVCache(model.config, 5, "cpu", dtype, batch=batch) if cached else None
        return model(rows.expand(batch, -1, -1), places, mask, cache).float()

    expected = run(cached=False).detach()  # with gradients
    torch.testing.assert_close(run().detach(), expected)
    with torch.inference_mode():
        torch.testing.assert_close(run(batch=2), expected.expand(2, -1, -1))
        torch.testing.assert_close(run(cached=False), expected)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(run(), expected, rtol=0.1, atol=0.1)
        separate = random_model(example_config(), CPU, "float32", kernels=True).model.language_model
        for layer in separate.model.layers:
            layer.self_attn.qkv = None
        torch.testing.assert_close(run(separate), expected)
        other = random_model(example_config(width=48), CPU, "float32", kernels=True).model.language_model
        assert (other.config.head_dim, other.kernels["rotary_write"].problem, other.wants_tables) == (24, "", False)
        rows = torch.randn(1, 5, 48)
        run(other)


@pytest.mark.parametrize("precision", ["float32", "int8_weights"])
@pytest.mark.parametrize("way", [FIXED, PLAIN])
def test_passes_of_a_verifier_go_through_the_operator_and_are_what_they_were(on_cpu, precision, way):
    """Those of fixed shapes take tables where the kernel runs and matrices elsewhere, with lists of slots; the others
    take tables, and say from which slot on.
    """
    seen, found = [], []
    on_cpu("silu_times", gated)
    on_cpu("rotary_write", lambda *given: seen.append(given[4] is None) or plain_rotary(*given))
    for kernels in (False, True):
        assert seen == []
        loaded = random_model(example_config(), CPU, precision, kernels=kernels)
        found.append(answers(loaded, way))
    assert compared("", "", *found, "float32" if precision == "float32" else "bfloat16")["ok"]
    assert seen == [way is PLAIN] * 2 * len(TREES) * loaded.config.llama.num_hidden_layers


def test_the_files_that_need_triton_are_imported_by_no_other():
    import spec_vla_ros

    root = Path(spec_vla_ros.__file__).parent
    assert {path.name for path in root.rglob("*.py") if "\nimport triton" in path.read_text()} == {
        "beams.py",
        "gated.py",
        "rotary.py",
    }
