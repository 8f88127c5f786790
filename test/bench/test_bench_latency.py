"""``spec-vla bench latency``: the recorded acceptance is what is decoded, and the figures add up."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from spec_vla_ros.bench.decoding.floor import Device, floor_ms, layer_weights, vision_work
from spec_vla_ros.bench.decoding.reference import TransformersAutoregressive
from spec_vla_ros.bench.decoding.replayed import RecordedLuck, Trace, record
from spec_vla_ros.bench.decoding.shapes import SEVEN_B, random_heads, random_model, shortened
from spec_vla_ros.cli import main
from spec_vla_ros.decoding.fixed_shapes import TEXT_SIZES, TREE_SIZES
from spec_vla_ros.decoding.planner import Planner
from spec_vla_ros.decoding.verifier import Verifier, cache_slots
from spec_vla_ros.installed import share_path
from spec_vla_ros.openvla.example import EXAMPLE_INSTRUCTIONS, example_config, write_example_checkpoint
from spec_vla_ros.openvla.loader import load_model
from spec_vla_ros.policy import OpenVLAPolicy
from spec_vla_ros.policy_types import DecodeSettings

IMAGE = np.full((48, 64, 3), 90, dtype=np.uint8)
ACTIONS = {
    "fastest": [(6,), (3, 2), (0, 0, 4), (6, 5), (3, 2, 1, 3)],  # the last two with a second look
    "training_free": [(1, 4), (6,), (0, 5), (1, 4, 5)],
    "spec_vla": [(0, 2, 2), (0, 1, 2, 0), (0, 2, 1, 0)],  # a random head's tree is two levels deep
}


@pytest.mark.parametrize("preset", ACTIONS)
@pytest.mark.parametrize("fixed", [False, True])
def test_a_recorded_action_is_decoded_with_its_acceptance(preset, fixed):
    loaded = random_model(example_config(), torch.device("cpu"), "float32")
    luck = RecordedLuck(loaded.tokens)
    verifier = Verifier(loaded.model, loaded.tokens, cache_slots(loaded), fixed_shapes=fixed, judge=luck)
    planner = Planner.steady()
    policy = OpenVLAPolicy(loaded, random_heads(loaded), verifier=verifier, planner=planner)
    prompt_ids = len(loaded.prompt.ids(EXAMPLE_INSTRUCTIONS[0]))
    for action in ACTIONS[preset]:
        luck.replay(action)
        report = policy.infer(IMAGE, EXAMPLE_INSTRUCTIONS[0], DecodeSettings(preset=preset)).report
        assert report.accepted_per_pass == action
        assert report.verifier_passes == len(action)
        # The floor is of the rows that were computed.
        prompt = loaded.config.towers[0].patches + (TEXT_SIZES[0] if fixed else prompt_ids)
        filled = [next(size for size in TREE_SIZES if size >= d) if fixed else d for d in report.drafted_per_pass]
        assert report.rows_per_pass == (prompt + filled[0], *(1 + rows for rows in filled[1:]))


def test_a_trace_survives_its_file_and_the_shipped_one_is_whole(tmp_path):
    trace = Trace("by hand", ACTIONS)
    trace.save(tmp_path / "a" / "trace.json")
    assert Trace.load(tmp_path / "a" / "trace.json") == trace
    shipped = Trace.load(share_path("models/tabletop") / "trace.json")
    for preset, actions in shipped.actions.items():
        assert len(actions) > 300, preset
        # Seven tokens: accepted ones, and one a pass; six more where the model looked twice.
        assert {sum(action) + len(action) for action in actions} <= {7, 13}, preset


def test_recording_drives_the_table_top():
    pytest.importorskip("mujoco")
    trace = record(share_path("models/tabletop"), ["training_free"], 1, lambda line: None)
    assert all(sum(action) + len(action) in (7, 13) for action in trace.actions["training_free"])
    assert "1 episode" in trace.about


def test_the_command_measures_every_decoder_and_precision(tmp_path, capsys):
    model = write_example_checkpoint(tmp_path / "model")
    Trace("by hand", ACTIONS).save(tmp_path / "trace.json")
    command = ["bench", "latency", "--shapes", str(model), "--device", "cpu", "--actions", "6"]
    command += ["--precisions", "float32", "int8_weights", "--bandwidth", "0.02", "--tflops", "0.1"]
    files = [tmp_path / "out" / "rows.json", tmp_path / "out" / "rows.png"]
    command += ["--trace", str(tmp_path / "trace.json"), "--json", str(files[0]), "--plot", str(files[1])]
    assert main(command) == 0
    rows = json.loads(files[0].read_text())["rows"]
    names = ["autoregressive, eager", "autoregressive", "spec_vla", "training_free", "fastest"]
    for precision in ("float32", "int8_weights"):
        mine = [row for row in rows if row["precision"] == precision and "transformers" not in row["decoder"]]
        assert [row["decoder"] for row in mine] == names
        for row in mine:
            stages = sum(row[stage]["median"] for stage in ("preprocess_ms", "vision_ms", "prefill_ms", "decode_ms"))
            assert 0 < stages < 2 * row["total_ms"]["median"]
            assert row["total_ms"]["median"] <= row["total_ms"]["p99"]
            assert row["actions"] == 6
            assert row["floor_ms_computed"] > 0
        plain = next(row for row in mine if row["decoder"] == "autoregressive")
        assert plain["passes_mean"] == 7
        assert plain["speedup_over_autoregressive"] == 1
        assert next(row for row in mine if row["decoder"] == "fastest")["one_pass_ms"]["median"] > 0
    assert files[1].read_bytes().startswith(b"\x89PNG")
    assert "by hand" in capsys.readouterr().out


def test_an_unreadable_trace_is_said(tmp_path, capsys):
    (tmp_path / "trace.json").write_text("{}")
    model = write_example_checkpoint(tmp_path / "model")
    command = ["bench", "latency", "--shapes", str(model), "--device", "cpu", "--trace", str(tmp_path / "trace.json")]
    assert main(command) == 1
    assert "about" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said(capsys):
    assert main(["bench", "latency", "--device", "cuda"]) == 1
    assert "no CUDA device" in capsys.readouterr().err


def test_the_floor_of_the_published_model():
    """Against figures derived by hand: 6476 million weights in layers, 421 GFLOP of vision less the dead blocks."""
    assert layer_weights(SEVEN_B) == pytest.approx(6476e6, rel=1e-3)
    weights, operations = vision_work(SEVEN_B)
    assert weights == pytest.approx(0.78e9, rel=0.03)
    assert operations == pytest.approx(405e9, rel=0.03)
    h200 = Device.named("NVIDIA H200")
    single = floor_ms(SEVEN_B, h200, [283], "bfloat16")
    plain = floor_ms(SEVEN_B, h200, [277] + [1] * 6, "bfloat16")
    assert single == pytest.approx(4.2, rel=0.05)
    assert plain == pytest.approx(20.8, rel=0.05)
    assert floor_ms(shortened(SEVEN_B, 16), h200, [1], "bfloat16") < floor_ms(SEVEN_B, h200, [1], "int8") * 1.1
    assert Device.named("unheard of") is None


def test_the_decoder_of_transformers_says_the_same():
    """The baseline that people run today decodes the same tokens, so that its time can be compared."""
    pytest.importorskip("transformers")
    loaded = load_model(share_path("models/tabletop"))
    theirs, ours = TransformersAutoregressive(loaded), OpenVLAPolicy(loaded)
    generator = np.random.default_rng(4)
    for instruction in ("pick up the red block", "touch the blue block"):
        image = generator.integers(0, 255, (224, 224, 3), dtype=np.uint8)
        tokens, total = theirs.infer(image, instruction)
        said = ours.infer(image, instruction, DecodeSettings(preset="autoregressive"))
        assert tokens == said.tokens.tolist()
        assert total > 0
