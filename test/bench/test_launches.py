"""``spec-vla bench launches``: an action asks no more of a GPU than it has to, and it is counted rightly."""

import json

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
import torch.nn.functional as F

from spec_vla_ros.bench.decoding.launch_counter import DEVICE, counting
from spec_vla_ros.bench.decoding.launches import counted, measure
from spec_vla_ros.bench.decoding.replayed import RecordedLuck
from spec_vla_ros.bench.decoding.shapes import SEVEN_B, eagle_head, random_model, shortened, vision_head
from spec_vla_ros.cli import main
from spec_vla_ros.decoding.drafters.eagle import Eagle, eagle_slots
from spec_vla_ros.decoding.drafters.vision import Vision
from spec_vla_ros.decoding.planner import Planner
from spec_vla_ros.decoding.verifier import Verifier, cache_slots
from spec_vla_ros.kernels.operators import beam_step, rotary_write, silu_times
from spec_vla_ros.openvla.example import EXAMPLE_INSTRUCTIONS
from spec_vla_ros.policy import OpenVLAPolicy
from spec_vla_ros.policy_types import DecodeSettings

LAYER = 9  # launches of a layer of the language model
# Launches and waits of each part, but for the layers. Fewer are welcome: here and in docs/benchmarks.md.
PARTS = {
    "towers and projector": (504, []),
    "prompt pass": (19, ["tolist"]),
    "prompt pass, with drafts": (22, ["tolist"]),
    "token pass": (19, ["tolist"]),
    "token pass, with drafts": (20, ["tolist"]),
    "choices and margins": (9, []),
    "moving a branch": (1, []),
    "vision head, one look": (145, []),
    "vision head again, 8 branches": (104, []),
    "vision head again, 1 branch": (104, []),
    "eagle head, prompt and tree": (170, []),
    "one action, autoregressive": (653, ["tolist"] * 7),
    "one action, spec_vla": (833, ["tolist"] * 3),
    "one action, training_free": (562, ["tolist"] * 2),
    "one action, fastest": (691, ["tolist"]),
}
PASSES = {
    "one action, autoregressive": 7,
    "one action, spec_vla": 3,
    "one action, training_free": 2,
    "one action, fastest": 1,
}


@pytest.fixture(scope="module")
def rows():
    return {row["part"]: row for row in measure(shortened(SEVEN_B, 2), lambda line: None)}


def test_every_part_is_counted(rows):
    assert list(rows) == list(PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_no_launch_and_no_wait_creeps_in(rows, part):
    """One of a layer would be 32 of a pass, and a wait costs a GPU more than any launch."""
    row, (others, waits) = rows[part], PARTS[part]
    passes = PASSES.get(part, int(part.startswith(("prompt pass", "token pass"))))
    assert row["kernels"] == others + passes * 2 * LAYER, row["by_operation"]
    assert row["waits"] == waits
    assert row["host_waits"] == len(waits)


@pytest.mark.parametrize(
    ("preset", "accepted", "count"),
    [
        ("auto", (2, 3, 1, 1), 6),  # the last two are a second look
        ("fastest", (2, 3, 1, 1), 6),
        ("spec_vla", (0, 2, 2), 3),
        ("spec_vla", (), 7),
    ],
)
def test_the_host_waits_once_per_pass_whoever_drafts(preset, accepted, count):
    """And so at no place in between: the head of Spec-VLA waited in every step of its tree."""
    loaded = random_model(shortened(SEVEN_B, 1), DEVICE, "bfloat16")
    heads = {
        "vision": Vision(vision_head(loaded), fixed_shapes=True),
        "eagle": Eagle(eagle_head(loaded), loaded.model, eagle_slots(loaded), fixed_shapes=True),
    }
    luck = RecordedLuck(loaded.tokens)
    verifier = Verifier(loaded.model, loaded.tokens, cache_slots(loaded), fixed_shapes=True, graphs=False, judge=luck)
    policy, image = OpenVLAPolicy(loaded, heads, verifier=verifier, planner=Planner.steady()), np.zeros((9, 9, 3), "u1")
    passes = []

    def act():
        luck.replay(accepted)
        result = policy.infer(image, EXAMPLE_INSTRUCTIONS[0], DecodeSettings(preset=preset))
        passes.append(result.report.verifier_passes)

    assert counted(act, loaded.tokens.first).waits == ["tolist"] * passes[-1]
    assert passes[-1] == count


def test_a_pass_reads_the_weights_once(rows):
    llama = SEVEN_B.llama
    layer = 4 * llama.hidden_size**2 + 3 * llama.hidden_size * llama.intermediate_size
    weights = 2 * (2 * layer + llama.hidden_size * llama.vocab_size)  # bytes: two layers and the output head, bf16
    assert 1.0 < 1e9 * rows["token pass"]["gemm_gb"] / weights < 1.02
    assert rows["token pass"]["elementwise_gb"] < 0.01 * rows["token pass"]["gemm_gb"]


def test_the_command_writes_what_it_counts(tmp_path, capsys):
    assert main(["bench", "launches", "--layers", "1", "--json", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["part"] for row in rows] == list(PARTS)
    assert {"part", "rows", "kernels", "gemm_gb", "elementwise_gb", "host_waits"} <= set(rows[0])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(rows)
    assert "28 kernels" in lines[3], "a token through one layer"


# -- how it is counted


def on_device(*shape, dtype=torch.bfloat16):
    return torch.zeros(*shape, device="meta", dtype=dtype)


X, FOUR, FIVE, W = on_device(8, 16), on_device(2, 2, 4, 8), on_device(1, 2, 2, 4, 8), on_device(16, 16)
LONG = on_device(8, dtype=torch.long)
QUERY, SEEN = on_device(1, 2, 8, 16), on_device(8, 8, dtype=torch.bool)
OTHER, BIAS, WIDE, ODD, TABLE, NONE = (
    X.float(),
    on_device(16),
    on_device(8, 8),
    on_device(8, 7),
    on_device(1000, 16),
    on_device(0, 3),
)
TURNED = on_device(1, 3, 3 * 2 * 16), on_device(1, 3, 16), on_device(1, 3, 16), on_device(2, 1, 2, 50, 16)


@pytest.mark.parametrize(
    ("kernels", "work"),
    [
        (0, lambda: X.view(2, 4, 16).transpose(0, 1)[1:].permute(2, 0, 1).expand(5, 16, 3, 2)),
        (0, lambda: torch.empty_like(X)),
        (0, lambda: NONE + 1),
        (0, lambda: torch.zeros(4) + 1),
        (1, lambda: X + X),
        (1, lambda: F.linear(X[None], W, BIAS)),
        (1, lambda: X.transpose(0, 1).reshape(-1)),
        (1, lambda: torch.cat([FOUR, FOUR], dim=-1)),
        (2, lambda: torch.cat([FIVE, FIVE], dim=-1)),
        (2, lambda: torch.cat([X, OTHER])),
        (1, lambda: torch.stack([X, X])),
        (2, lambda: X.masked_fill(SEEN[:, :1], 1.0)),
        (1, lambda: X.masked_fill_(SEEN[:, :1], 1.0)),
        (2, lambda: torch.addmm(X, X, W)),
        (1, lambda: X.addmm_(X, W)),
        (1, lambda: F.rms_norm(X, (16,), BIAS)),
        (1, lambda: F.scaled_dot_product_attention(QUERY, QUERY, QUERY)),
        (1, lambda: F.scaled_dot_product_attention(QUERY, QUERY, QUERY, WIDE)),
        (3, lambda: F.scaled_dot_product_attention(QUERY, QUERY[:, :, :7], QUERY[:, :, :7], ODD)),
        (4, lambda: F.scaled_dot_product_attention(QUERY, QUERY, QUERY, SEEN)),
        (2, lambda: X.topk(3)),
        (1, lambda: X.topk(3, sorted=False)),
        (4, lambda: X.isfinite()),
        (1, lambda: X[LONG]),
        (1, lambda: silu_times(X)),
        (1, lambda: rotary_write(*TURNED, 0)),
        (1, lambda: rotary_write(*TURNED, LONG[:3])),
        (1, lambda: beam_step(ODD, OTHER[:, 0], LONG, 3, LONG[:, None], 8)),
    ],
)
@torch.inference_mode()
def test_launches_are_those_of_eager_cuda(kernels, work):
    with counting() as count:
        work()
    assert count.kernels == kernels, count.names
    assert count.waits == []


@pytest.mark.parametrize(
    ("waits", "work"),
    [
        (["tolist"], lambda: LONG.tolist()),
        (["item"], lambda: LONG[0].item()),
        (["cpu"], lambda: LONG.cpu()),
        (["to"], lambda: LONG.to("cpu")),
        (["__bool__"], lambda: bool(LONG[0] > 0)),
        (["tensor"], lambda: torch.tensor([1, 2], device="meta")),
        (["new_tensor"], lambda: LONG.new_tensor([1, 2])),
        (["copy_"], lambda: LONG.copy_(torch.zeros(8, dtype=torch.long))),
        ([], lambda: LONG.copy_(torch.zeros(8, dtype=torch.long), non_blocking=True)),
        ([], lambda: torch.tensor([1, 2])),
        ([], lambda: torch.zeros(3).tolist()),
    ],
)
@torch.inference_mode()
def test_the_host_waits_where_numbers_pass_between_it_and_the_device(waits, work):
    with counting() as count:
        work()
    assert count.waits == waits
    assert count.kernels == sum(count.names.values())


@torch.inference_mode()
def test_what_the_host_reads_may_be_said():
    with counting(lambda asked: torch.ones(asked.shape)) as count:
        assert X[0].tolist() == [1.0] * 16
    assert count.waits == ["tolist"]


@torch.inference_mode()
def test_bytes_are_those_of_the_operands_and_of_a_table_what_is_taken():
    with counting() as count:
        F.linear(X, W)
    assert (count.gemm_bytes, count.elementwise_bytes) == (2 * (8 * 16 + 16 * 16 + 8 * 16), 0)
    for work, moved in (
        (lambda: X + X[:1].expand(8, -1), 2 * (2 * 8 * 16 + 16)),
        (lambda: F.embedding(LONG, TABLE), 2 * 2 * 8 * 16),
        (lambda: TABLE.index_copy_(0, LONG, X), 2 * (2 * 8 * 16) + 2 * 8 * 8),
        (lambda: X.copy_(X), 2 * 2 * 8 * 16),
        (lambda: rotary_write(*TURNED, 0), 2 * (2 * 3 * 96 + 2 * 3 * 16)),
        (lambda: rotary_write(*TURNED, LONG[:3]), 2 * (2 * 3 * 96 + 2 * 3 * 16) + 3 * 8),
    ):
        with counting() as count:
            work()
        assert count.elementwise_bytes == moved
