"""Heads distilled from a verifier: the labels are its own greedy tokens, and training learns them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mujoco")

from spec_vla_ros.demo.share import share_path
from spec_vla_ros.openvla.loader import load_model
from spec_vla_ros.policy import OpenVLAPolicy
from spec_vla_ros.policy_types import DecodeSettings
from spec_vla_ros.sim.tasks import TASKS
from spec_vla_ros.training import draft_data, train_draft, train_eagle_head, train_vision_head

MODEL = share_path("models/tabletop")


@pytest.fixture(scope="module")
def loaded():
    torch.set_num_threads(1)
    return load_model(MODEL, device="cpu")


@pytest.fixture(scope="module")
def frames(loaded):
    return draft_data.collect(loaded, 36, seed=3)


def test_labels_are_what_the_policy_itself_would_do(loaded):
    """Batched decoding pads shorter prompts; padding must not change a token."""
    greedy, policy = draft_data.BatchedGreedy(loaded), OpenVLAPolicy(loaded)
    images = list(np.random.default_rng(0).integers(0, 256, (len(TASKS), 224, 224, 3), dtype=np.uint8))
    prompts = [loaded.prompt.ids(task.instruction) for task in TASKS]
    assert len({len(prompt) for prompt in prompts}) > 1
    tokens = greedy.tokens(greedy.patches(images), prompts)
    settings = DecodeSettings(preset="autoregressive")
    for image, task, row in zip(images, TASKS, tokens, strict=True):
        np.testing.assert_array_equal(policy.infer(image, task.instruction, settings).tokens, row)


def test_frames_are_those_of_a_drive(loaded, frames, tmp_path):
    assert len(frames) == 3 * len(frames.patches) == 3 * 36
    driving = slice(0, None, 3)
    assert (frames.last[driving][: draft_data.ARMS] == draft_data.NO_ACTION).all(), "nothing before the first action"
    later = frames.last[driving][draft_data.ARMS :]
    assert (later >= 0).all(1).mean() > 0.8
    assert ((frames.tokens >= loaded.tokens.first) & (frames.tokens < loaded.tokens.vocab_end)).all()
    frames.save(tmp_path / "draft_1.npz")
    frames.save(tmp_path / "draft_2.npz")
    both = draft_data.DraftFrames.load([tmp_path / "draft_2.npz", tmp_path / "draft_1.npz"])
    assert len(both) == 2 * len(frames)
    np.testing.assert_array_equal(both.patches[both.frame[len(frames) :]], frames.patches[frames.frame])


@pytest.mark.parametrize("kind", ["vision", "eagle"])
def test_training_learns_its_labels(loaded, frames, kind, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda module: module)  # compiling takes longer than this training
    samples = train_vision_head.Samples(frames, loaded, [task.instruction for task in TASKS], 48)
    losses = []

    def log(text):
        losses.append(float(text.rsplit(" ", 1)[1]))

    if kind == "vision":
        config = train_vision_head.VisionHeadConfig(128, 64, width=64, encoder_layers=1)
        head = train_vision_head.train(samples, config, 0.25, 0, log, lambda head: None, batch=16)
        report = train_vision_head.agreement(head, samples, torch.tensor([9] * 6 + [0]))
        assert len(report["within_radius_per_dimension"]) == 7
        assert np.mean(report["within_radius_per_dimension"]) > 0.2, "chance is below 0.1"
    else:
        prompts = [loaded.prompt.ids(task.instruction) for task in TASKS]
        train_eagle_head.train(loaded, samples, prompts, 0.25, 0, log, lambda head: None, batch=2)
    assert len(losses) >= 1
    assert losses[-1] < (5.2 if kind == "vision" else 1.1), losses


def test_too_few_frames_are_said_instead_of_waited_for(tmp_path, monkeypatch):
    """One file is held out, so nothing would be left to learn from."""
    monkeypatch.setattr(train_draft, "keep_freed_memory", lambda: None)
    loaded = load_model(MODEL, device="cpu")
    draft_data.collect(loaded, 12, 1).save(tmp_path / f"draft_{train_draft.FIRST_SEED:08d}.npz")
    with pytest.raises(SystemExit, match="2 files of frames are needed"):
        train_draft.main(["train-draft", "--model", str(MODEL), "--work", str(tmp_path), "--files", "1"])


def test_the_command_writes_heads_that_load_and_goes_on_where_it_was(tmp_path, monkeypatch):
    from spec_vla_ros.decoding.heads.store import trained_drafters

    monkeypatch.setattr(torch, "compile", lambda module: module)
    monkeypatch.setattr(train_draft, "keep_freed_memory", lambda: None)  # of this process
    work, out = tmp_path / "work", tmp_path / "out"
    work.mkdir()
    loaded = load_model(MODEL, device="cpu")
    for seed in (train_draft.FIRST_SEED, train_draft.FIRST_SEED + 1):
        draft_data.collect(loaded, 12, seed).save(work / f"draft_{seed:08d}.npz")
    command = ["train-draft", "--model", str(MODEL), "--work", str(work), "--out", str(out), "--files", "2"]
    command += ["--vision-minutes", "0.02", "--eagle-minutes", "0.02"]
    for _ in range(2):
        assert train_draft.main(command) == 0
    found, problems = trained_drafters(loaded, out)
    assert (sorted(found), problems) == (["eagle", "vision"], [])
    about = json.loads(Path(out, "vision", "config.json").read_text())["about"]
    assert about["report"]["pairs"] == 36
    assert (work / "vision.pt").exists()
