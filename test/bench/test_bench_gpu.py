"""``spec-vla bench gpu``: every part runs where nothing but torch is, what fails does not end it, nothing is mixed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from spec_vla_ros.bench.decoding.shapes import random_model
from spec_vla_ros.bench.gpu import checks, kernel_checks, plan
from spec_vla_ros.bench.gpu.campaign import DONE, FAILED, LATE, Campaign, load
from spec_vla_ros.bench.gpu.part import rows_of
from spec_vla_ros.bench.gpu.plan import Options
from spec_vla_ros.bench.gpu.table import markdown, wrong
from spec_vla_ros.cli import main
from spec_vla_ros.decoding.drafters.beams import grown, windows_of
from spec_vla_ros.decoding.drafters.vision import Vision
from spec_vla_ros.kernels.kernel import Kernel
from spec_vla_ros.openvla.example import example_config, write_example_checkpoint
from spec_vla_ros.openvla.llama import gated, rotate

ROOT = Path(__file__).parents[2]
# What the machine of a campaign has beside the standard library: the packages of the brief, and what they need.
BARE = """
import sys
ALLOWED = {
    "torch", "torchgen", "numpy", "PIL", "safetensors", "tokenizers", "transformers", "huggingface_hub", "yaml",
    "filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx", "sympy", "typing_extensions", "packaging",
    "regex", "tqdm", "requests", "functorch", "spec_vla_ros", "sitecustomize", "certifi", "urllib3", "idna",
    "charset_normalizer", "setuptools", "pkg_resources", "_distutils_hack", "httpx", "hf_xet",
}
class Bare:
    @staticmethod
    def find_spec(name, path=None, target=None):
        first = name.partition(".")[0]
        if first in ALLOWED or first in sys.stdlib_module_names or first.startswith("_"):
            return None
        raise ModuleNotFoundError(f"No module named {first!r} on a bare machine", name=first)
sys.meta_path.insert(0, Bare)
"""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A checkpoint folder of the smallest shapes."""
    return str(write_example_checkpoint(tmp_path_factory.mktemp("shapes") / "model"))


def options(shapes, **other):
    return Options("cpu", shapes, actions=1, bandwidth=0.02, tflops=0.1, **other)


def test_on_a_bare_machine_a_part_that_fails_is_recorded_and_the_others_are_run(shapes, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BARE)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    assert "bare machine" in subprocess.run(
        [sys.executable, "-c", "import mujoco"], env=environment, capture_output=True, text=True
    ).stderr  # fmt: skip

    def run(*words):
        command = [sys.executable, "-m", "spec_vla_ros.cli", "bench", "gpu", "--device", "cpu", "--shapes", shapes]
        command += ["--actions", "1", "--precisions", "bfloat16", "--work", str(tmp_path / "work"), *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)

    nowhere = ("--trace", str(tmp_path / "nowhere.json"), "--parts", "fused", "latency bfloat16")
    first = run(*nowhere, "--json", str(tmp_path / "all.json"))
    assert first.returncode == 1, first.stdout + first.stderr
    whole = load(tmp_path / "all.json")
    fused, latency = whole["parts"]
    assert (fused["status"], latency["status"]) == (DONE, FAILED)
    assert "nowhere.json" in latency["error"]
    assert [row["ok"] for row in fused["rows"]] == [True, True]
    assert all(row["count"] == sum(checks.TREES) + len(checks.TREES) for row in fused["rows"])
    assert "| fused, float32 | plain, float32 | 108 of 108 |" in first.stdout
    assert "- profile: not run" in first.stdout


def test_every_other_part_runs_and_is_in_the_table(shapes, monkeypatch, tmp_path):
    """In this process, because each of its own would import torch anew."""
    monkeypatch.setattr(checks, "PICTURES", 1)
    quick = options(shapes)
    campaign = Campaign(tmp_path, quick, ["bfloat16", "int8"])
    rows = {
        name: rows_of(name, quick, lambda line: None)
        for name in campaign.names
        if name not in ("check device", "check compiled", "latency compiled", "latency int8", "passes bfloat16")
    }
    for check in ("check recorded", "check fused"):
        assert all(row["ok"] for row in rows[check]), rows[check]
    assert [row["ok"] for row in rows["check kernels"]] == [True, True, None, True, True]
    assert {row["ours"] for row in rows["check kernels"]} == {"plain torch"}, "no kernel runs here, and the rows say so"
    compared = {row["what"]: row for row in rows["check int8"]}
    assert compared["choices, random weights"]["ok"] is None
    assert 0 < compared["choices, random weights"]["apart"] < 0.1, "the same weights in another precision"
    assert all(row["floor_share"] > 0 for row in rows["passes int8"] if row["what"] != "vision head")
    assert {row["decoder"] for row in rows["latency bfloat16"]} >= {"autoregressive, eager", "fastest"}
    assert sum(row["share"] for row in rows["profile"]) <= 1.0001
    parts = [
        {"part": name, "status": DONE, "error": "", "seconds": 1.0, "card": [], "rows": found}
        for name, found in rows.items()
    ]
    parts.append({"part": "check device", "status": LATE, "error": "x", "seconds": 1.0, "card": [], "rows": []})
    whole = {"key": "k", **campaign.identity, "planned": campaign.names, "parts": parts}
    (tmp_path / "all.json").write_text(json.dumps(whole))
    text = markdown(load(tmp_path / "all.json"))
    assert "**No GPU**" in text
    for word in (
        "| fastest | bfloat16 |",
        "| prompt pass | int8 |",
        "| gated product | plain torch |",
        "- check device: timed out",
        "- latency compiled",
    ):
        assert word in text
    assert wrong(whole) == ["check device: timed out"]


def test_a_part_that_takes_too_long_is_ended_and_the_next_one_has_its_turn(shapes, tmp_path):
    said = []
    campaign = Campaign(tmp_path, options(shapes), ["bfloat16"])
    parts = campaign.run(said.append, ["fused", "recorded"], limit=0.3)
    assert [(part["part"], part["status"]) for part in parts] == [("check recorded", LATE), ("check fused", LATE)]
    assert campaign.run(said.append, ["compiled"], minutes=0.1) == parts, "less time than a part needs: none is begun"
    assert "run the same command again" in said[-1]


def test_what_is_finished_is_not_run_again_and_what_failed_comes_last(shapes, tmp_path):
    said, campaign = [], Campaign(tmp_path, options(shapes), ["bfloat16"])
    campaign.folder.mkdir()
    for name, status in (("check device", FAILED), ("check recorded", DONE)):
        part = {"part": name, "status": status, "error": "", "seconds": 1.0, "card": [], "rows": []}
        (campaign.folder / f"{name.replace(' ', '_')}.json").write_text(json.dumps(part))
    campaign.run(said.append, ["check"], limit=0.2)
    assert said[0].startswith("1 of 5 parts are finished")
    begun = [line for line in said if " of 4)" in line]
    assert begun == [
        "check fused (1 of 4)",
        "check kernels (2 of 4)",
        "check compiled (3 of 4)",
        "check device (4 of 4)",
    ]
    assert campaign.part("check recorded")["seconds"] == 1.0


def test_another_machine_other_code_and_other_options_have_folders_of_their_own(shapes, tmp_path, monkeypatch):
    here = Campaign(tmp_path, options(shapes), ["bfloat16"])
    assert Campaign(tmp_path, options(shapes), ["bfloat16"]).folder == here.folder
    assert Campaign(tmp_path, options(shapes, layers=1), ["bfloat16"]).folder != here.folder
    for name, value in (("machine", {"processor": "another"}), ("versions", {"torch": "2.11.0"})):
        with monkeypatch.context() as patch:
            patch.setattr(plan, name, lambda value=value: value)
            assert Campaign(tmp_path, options(shapes), ["bfloat16"]).folder != here.folder
    with monkeypatch.context() as patch:
        patch.setattr(plan, "_source_digest", lambda: "edited")
        assert Campaign(tmp_path, options(shapes), ["bfloat16"]).folder != here.folder


def test_half_a_file_of_a_part_is_no_part(shapes, tmp_path):
    campaign = Campaign(tmp_path, options(shapes), ["bfloat16"])
    campaign.folder.mkdir()
    (campaign.folder / "profile.json").write_text('{"part": "profile", "status": "do')
    assert campaign.part("profile") is None


def test_what_a_device_does_not_have_is_left_out_and_no_failure(tmp_path, capsys):
    command = ["bench", "gpu", "--device", "cpu", "--work", str(tmp_path), "--list", "--precisions"]
    assert main([*command, "bfloat16", "float8"]) == 0
    said = capsys.readouterr().out
    assert "left out: dtype float8 on cpu: CPUs have no arithmetic for it" in said
    assert "latency bfloat16: not run" in said
    assert "latency float8" not in said
    assert main([*command, "float8"]) == 1
    assert "none of these precisions" in capsys.readouterr().err


def test_a_kernel_that_is_wrong_or_failed_does_not_pass(monkeypatch):
    """What runs on a GPU is played here by plain torch, right and wrong."""
    config, played = example_config(), torch.library.Library("spec_vla_ros", "IMPL")
    monkeypatch.setattr(kernel_checks, "ROUNDS", 2)
    monkeypatch.setattr(kernel_checks, "PICTURES", 1)
    monkeypatch.setattr(kernel_checks, "random_model", lambda *a: random_model(*a, kernels=True))
    monkeypatch.setattr(kernel_checks, "Vision", lambda head, fused=True, **more: Vision(head, fused=fused, **more))
    faults = set()

    def step(logits, scores, radii, dimension, chains, width):
        within, outside = windows_of(radii[dimension : dimension + 1], logits.shape[1])[:, 0]
        found, grown_ = grown(logits, scores, within, outside, chains, width)
        if "order" in faults:
            grown_ = grown_.flip(0)
        if "range" in faults:
            grown_[:, -1] = torch.where(logits[0, 0].isnan(), 255, grown_[:, -1])
        return found.clone(), grown_

    def product(both):
        return gated(both) * (1.1 if "product" in faults else 1.0)

    def rotary(qkv, cos, sin, cache, slots, start):
        q, k, v = qkv.view(1, qkv.shape[1], 3, cache.shape[2], -1).permute(2, 0, 3, 1, 4).float()
        at = torch.arange(start, start + qkv.shape[1]) if slots is None or "slots" in faults else slots
        q, k = (rotate(x, cos.float(), sin.float()) for x in (q * (1.1 if "queries" in faults else 1.0), k))
        cache.index_copy_(3, at, torch.stack([k, v]).to(cache.dtype))
        return q.to(qkv.dtype)

    played.impl("beam_step", step, "CPU")
    played.impl("rotary_write", rotary, "CPU")
    played.impl("silu_times", product, "CPU")
    for fault, expected in (
        ("", [True, True, None, True, True]), ("order slots", [False, True, None, True, False]),
        ("range queries", [True, False, None, True, False]), ("product", [True, True, None, False, True]),
    ):  # fmt: skip
        faults |= set(fault.split())
        rows = kernel_checks.kernels_against_plain(config, torch.device("cpu"))
        assert [row["ok"] for row in rows] == expected, fault
        assert {row["ours"] for row in rows} == {"kernel"}
        faults.clear()
    played._destroy()
    off = Kernel("a", torch.device("cpu"), lambda: None)
    off.problem = "beam_step: no compiler"
    row = kernel_checks._row("steps of beams", off, 1, 1, "", None)
    assert (row["ok"], row["detail"], row["ours"]) == (False, "beam_step: no compiler", "plain torch")


def test_logits_that_differ_by_more_than_rounding_are_found():
    torch.manual_seed(0)
    theirs = torch.randn(40, 500)
    near = checks.compared("a", "b", [theirs + 1e-5 * torch.randn(40, 500)], [theirs], "float32")
    assert near["ok"]
    assert near["equal"] == 40
    far = checks.compared("a", "b", [theirs + 1e-2 * torch.randn(40, 500)], [theirs], "float32")
    assert far["ok"] is False
    one = theirs.clone()
    one[3, 7] = 9.0  # one wrong choice among many right ones
    assert checks.compared("a", "b", [one], [theirs], "bfloat16")["ok"] is False
    nothing = theirs.clone()
    nothing[0, 0] = float("nan")
    assert checks.compared("a", "b", [nothing], [theirs], None)["ok"] is False


@torch.inference_mode()
def test_a_wrong_weight_is_found():
    """A check that a broken fused matrix passes would be none."""
    loaded = random_model(example_config(), torch.device("cpu"), "float32")
    right = checks.answers(loaded, checks.PLAIN)
    assert checks.compared("a", "b", checks.answers(loaded, checks.FIXED), right, "float32")["ok"]
    loaded.model.language_model.model.layers[1].self_attn.qkv[:, 5] += 0.1
    assert checks.compared("a", "b", checks.answers(loaded, checks.FIXED), right, "float32")["ok"] is False


def test_the_command_names_its_parts_and_refuses_what_is_no_campaign(shapes, tmp_path, capsys):
    assert main(["bench", "gpu", "--list", "--device", "cpu", "--work", str(tmp_path)]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in listed[:2]] == ["left out"] * 2, "float8 and int4_weights"
    assert listed[2] == "check device: not run"
    assert "latency compiled: not run" in listed
    assert not list(tmp_path.iterdir())
    (tmp_path / "rows.json").write_text('{"rows": []}')
    assert main(["bench", "gpu", "--table", str(tmp_path / "rows.json")]) == 1
    assert "no campaign" in capsys.readouterr().err
    assert main(["bench", "gpu", "--device", "cpu", "--bandwidth", "1"]) == 2
