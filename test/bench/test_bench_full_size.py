"""``spec-vla bench full-size``: a checkpoint that loads, figures of a process of its own, and nothing that stays."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from spec_vla_ros.bench.decoding.shapes import SEVEN_B
from spec_vla_ros.bench.full_size import act, bench, checkpoint
from spec_vla_ros.bench.full_size.checkpoint import full_size_checkpoint, tensor_shapes
from spec_vla_ros.cli import main
from spec_vla_ros.errors import CommandError
from spec_vla_ros.openvla.example import example_config
from spec_vla_ros.openvla.loader import load_model
from spec_vla_ros.openvla.prompt import LLAMA_EMPTY_ID

SMALL = example_config()


def said(line):
    """Nobody listens."""


def test_what_is_written_loads_and_answers_with_action_tokens(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SHARD", 60_000)
    with full_size_checkpoint(tmp_path, SMALL, said) as folder:
        assert len(list(folder.glob("*.safetensors"))) > 2
        row = act.measure(act.Options(str(folder), "int8_weights", actions=2))
        model = load_model(folder).model
        first = model.language_model.model.layers[0]
        assert first.self_attn.q_proj.weight.std() == pytest.approx(checkpoint.STD, rel=0.1)
        assert not torch.equal(first.self_attn.q_proj.weight, first.self_attn.o_proj.weight)
    assert list(tmp_path.iterdir()) == []
    assert row["precision"] == "int8_weights"
    plain, wide, planned = (row["presets"][name] for name in (act.PLAIN, act.WIDE, act.PLANNED))
    assert [preset["passes_mean"] for preset in (plain, wide)] == [7, 1]
    assert planned["passes_mean"] in (1, 7), "by its times, which are of a busy moment"
    assert plain["drafted_mean"] == 0
    assert 6 <= wide["drafted_mean"] <= 64
    assert planned["drafted_mean"] <= 64
    for preset in (plain, wide, planned):
        parts = sum(preset[f"{stage}_s"]["median"] for stage in ("vision", "prefill", "decode"))
        assert 0 < parts <= 1.05 * preset["total_s"]["median"]
        assert preset["cpu_s"]["median"] > 0
    assert 0.1 < row["peak_gb"]["acting"]["anonymous"] < 20
    assert row["peak_gb"]["loading"]["mapped"] > 0


def test_the_prompt_of_the_published_size_ends_as_llamas(tmp_path):
    """A vocabulary of 32000 makes the loader insist on Llama's piece in its place."""
    from spec_vla_ros.openvla.prompt import Prompt

    ids = Prompt(checkpoint._tokenizer(SEVEN_B), SEVEN_B.action_vocab_end).ids("pick up the red block")
    assert ids[-1] == LLAMA_EMPTY_ID
    assert max(ids) < SEVEN_B.action_vocab_end
    assert sum(map(checkpoint.size_of, tensor_shapes(SEVEN_B).values())) == pytest.approx(15e9, rel=0.05)


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, checkpoint.SPARE + 1000))
    with (
        pytest.raises(CommandError, match=r"1\.1 GB are free on this disk, 16\.\d GB are needed"),
        full_size_checkpoint(tmp_path, SEVEN_B, said),
    ):
        pytest.fail("there is no room")
    assert list(tmp_path.iterdir()) == []


def test_memory_that_is_not_there_is_told_and_nobody_is_pushed_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "available_memory", lambda: 16.0e9)
    assert "16.0 GB are available" in bench.no_room(SEVEN_B, "bfloat16", "cpu")
    assert bench.no_room(SEVEN_B, "int8", "cpu") == ""
    assert bench.available_memory() > 0
    lines = []
    monkeypatch.setattr(bench, "available_memory", lambda: 1e6)
    assert bench.measure(tmp_path, SMALL, ["bfloat16"], lines.append) == []
    assert "left out: bfloat16" in lines[-1]


def test_what_this_device_has_not_is_said_before_anything_is_written(tmp_path, capsys):
    assert main(["bench", "full-size", "--folder", str(tmp_path / "there"), "--precisions", "float8"]) == 1
    told = capsys.readouterr()
    assert "left out: dtype float8 on cpu" in told.out
    assert "none of these precisions" in told.err
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(("owner", "words"), [("1", "in use by process 1"), (None, "not of this command")])
def test_a_folder_of_others_is_left_alone(tmp_path, owner, words):
    folder = tmp_path / checkpoint.NAME
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    if owner:
        (folder / checkpoint.OWNER).write_text(owner)
    with pytest.raises(CommandError, match=words), full_size_checkpoint(tmp_path, SMALL, said):
        pytest.fail("it is taken")
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_what_a_killed_process_left_is_deleted_by_the_next_one(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    folder = tmp_path / checkpoint.NAME
    folder.mkdir()
    (folder / checkpoint.OWNER).write_text(f"{process.pid}\n")
    (folder / "old.safetensors").write_bytes(b"old")
    lines = []
    with full_size_checkpoint(tmp_path, SMALL, lines.append) as new:
        assert not (new / "old.safetensors").exists()
    assert "killed" in lines[0]


def at_work(folder):
    """Processes that were started to load the checkpoint in ``folder``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"spec_vla_ros.bench.full_size.act" in words and os.fsencode(folder) in words[-2]:
                found.append(path)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_stays_when_it_is_stopped(tmp_path, number):
    """Neither the checkpoint nor the process that was loading it."""
    code = (
        "import sys; from spec_vla_ros import outermost; from spec_vla_ros.bench.full_size import bench;"
        "from spec_vla_ros.openvla.example import example_config; from pathlib import Path;"
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        f"run = lambda: bench.measure(Path({str(tmp_path)!r}), example_config(), ['bfloat16'], print, actions=10**6);"
        "sys.exit(outermost.run('full-size', lambda: bool(run())))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not at_work(tmp_path) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(number)
    _, text = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert "Traceback" not in text
    assert list(tmp_path.iterdir()) == []
    assert not at_work(tmp_path)


def test_a_process_that_fails_is_told_and_the_checkpoint_is_gone(tmp_path, monkeypatch):
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    monkeypatch.setattr(act, "command", lambda options: [sys.executable, "-c", program])
    with pytest.raises(CommandError, match="memory was not enough"):
        bench.measure(tmp_path, SMALL, ["bfloat16"], said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("seconds", "rows"), [(0.0, 64), (2.2, 6)])
def test_the_planned_tree_is_that_of_the_times_before_it(seconds, rows):
    """Rows that cost nothing are all used; where 64 of them cost two passes one branch has to do."""
    from spec_vla_ros.decoding.drafters import Hold, Sweep
    from spec_vla_ros.decoding.planner import OPENING, Planner
    from spec_vla_ros.tolerance import Tolerance

    plain = {"prefill_s": {"median": 10.0}, "decode_s": {"median": 6.6}, "passes_mean": 7.0}
    planner = Planner(act._costs(plain, {"prefill_s": {"median": 10.0 + seconds}}), learns=False)
    planner.begin(Tolerance.of_bins([act.EVERYTHING] * 6 + [0], [0.01] * 7), 6)
    plan = planner.plan(OPENING, [Hold(), Sweep()], 6, 7)
    assert plan.room == rows


def test_the_lines_have_what_was_measured(tmp_path):
    stage = {"median": 1.5, "least": 1.0}
    preset = {"passes_mean": 1.0, "drafted_mean": 6.0, **{f"{name}_s": stage for name in (*act.STAGES, "cpu")}}
    peak = {"anonymous": 7.25, "mapped": 2.0}
    row = {"precision": "int8", "load_s": 60.0, "load_cpu_s": 80.0,
           "presets": dict.fromkeys((act.PLAIN, act.WIDE, act.PLANNED), preset),
           "peak_gb": {"loading": peak, "acting": peak}, "gpu_peak_gb": None}  # fmt: skip
    assert "int8" in (text := bench.line(json.loads(json.dumps(row))))
    assert "loaded in 60 s (CPU 80 s)" in text
    assert "7.2 GB acting" in text


def test_the_peak_of_a_program_is_its_own_and_not_that_of_who_started_it():
    """``ru_maxrss`` began with what the test process had, so that a bench told that, and no test could fail."""
    big = bytearray(b"x") * int(300e6)
    code = (
        "from spec_vla_ros.machine import peak_memory\n"
        "before = peak_memory(); filled = bytearray(b'x') * 90_000_000; print(before, peak_memory())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    before, after = map(int, said.split())
    assert before < 100e6 < len(big)
    assert after - before > 80e6
