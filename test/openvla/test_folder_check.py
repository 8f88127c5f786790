"""Folders that look like a checkpoint: what lies beside the weights decides."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from test_loader import make_adapter, split

from spec_vla_ros.errors import CheckpointError
from spec_vla_ros.lfs_pointer import lfs_pointer
from spec_vla_ros.openvla.folder_check import check_folder, unread_parts
from spec_vla_ros.openvla.loader import load_model

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 4\n"
PARTS = [
    "action_head--150000_checkpoint.pt", "proprio_projector--latest_checkpoint.pt",
    "noisy_action_projector--50000_checkpoint.pt", "vision_backbone--100_checkpoint.pt",
    "something_new--1_checkpoint.pt", "action_head.safetensors", "action_head--1.safetensors", "proprio_projector.pt",
]  # fmt: skip
HARMLESS = [
    "optimizer.pt", "training_args.bin", "rng_state_0.pth", "scheduler.pt", "run--notes.txt", "action_head--plot.png",
    "model-00001-of-00003.safetensors", "openvla-7b--note.json", "vision_backbone.md", "checkpoints/action_head--1.pt",
]  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_a_fine_tune_with_parts_of_its_own_is_refused_by_their_name(folder, part):
    """OpenVLA-OFT's folder was loaded as plain OpenVLA, and the node drove with a head that was never trained."""
    (folder / part).write_bytes(b"x")
    with pytest.raises(CheckpointError, match="parts that are not read") as caught:
        load_model(folder)
    assert part in str(caught.value)


def test_several_parts_are_named_together(folder):
    for part in PARTS[:3]:
        (folder / part).touch()
    with pytest.raises(CheckpointError, match="action_head, noisy_action_projector, proprio_projector: "):
        load_model(folder)


def test_what_training_leaves_beside_a_plain_model_is_harmless(folder):
    assert unread_parts(HARMLESS) == ""
    for name in HARMLESS[:-1]:
        (folder / name).touch()
    load_model(folder)


def test_the_adapter_that_such_a_fine_tune_keeps_beside_its_weights(folder, written):
    """Of a repository the parts are not fetched, so that this is the only sign of them on disk."""
    make_adapter(folder / "lora_adapter", written)
    with pytest.raises(CheckpointError, match="holds lora_adapter/ as fine-tunes of OpenVLA-OFT do"):
        load_model(folder)


def test_the_adapter_of_such_a_fine_tune_alone_is_no_plain_adapter(written, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    make_adapter(run / "lora_adapter", written)
    load_model(run / "lora_adapter")
    (run / PARTS[0]).touch()
    with pytest.raises(CheckpointError, match=r"is the adapter of .*run, which holds parts"):
        load_model(run / "lora_adapter")


FILES = ["model.safetensors", "config.json", "preprocessor_config.json", "dataset_statistics.json", "tokenizer.json"]


@pytest.mark.parametrize("name", FILES)
def test_a_link_to_nothing_is_named_and_no_missing_file(folder, name):
    """Statistics behind such a link were those of config.json, without a word; the rest blamed the checkpoint."""
    (folder / name).unlink()
    (folder / name).symlink_to("../../blobs/abc")
    with pytest.raises(CheckpointError, match=rf"{name}: a link to nothing \(\.\./\.\./blobs/abc\)"):
        load_model(folder)


def test_a_shard_that_is_a_link_to_nothing(folder):
    names = split(folder)
    (folder / names[1]).unlink()
    (folder / names[1]).symlink_to("../../blobs/abc")
    with pytest.raises(CheckpointError, match=f"{names[1]}: a link to nothing"):
        load_model(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_git_lfs_pointer_is_named_as_such(folder, name):
    """It was a truncated file, or one that is no JSON."""
    (folder / name).write_text(POINTER)
    with pytest.raises(CheckpointError, match=f"{name} is a Git LFS pointer and not the file itself: run git lfs pull"):
        load_model(folder)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_git_lfs_pointer_in_an_adapter(written, tmp_path, name):
    make_adapter(tmp_path / "lora", written)
    (tmp_path / "lora" / name).write_text(POINTER)
    with pytest.raises(CheckpointError, match=f"{name} is a Git LFS pointer"):
        load_model(tmp_path / "lora")


def test_a_git_lfs_pointer_among_draft_heads(tmp_path):
    from spec_vla_ros.decoding.heads.store import trained_drafters

    tabletop = Path(__file__).parents[2] / "models" / "tabletop"
    heads = shutil.copytree(tabletop / "drafters", tmp_path / "heads")
    (heads / "vision" / "model.safetensors").write_text(POINTER)
    _, problems = trained_drafters(load_model(tabletop), heads)
    assert len([line for line in problems if "is a Git LFS pointer" in line]) == 1


def test_other_texts_are_no_pointers(tmp_path):
    path = tmp_path / "file"
    assert lfs_pointer(path) == ""
    for text in ("", "version 1\n", json.dumps({"version": "https://git-lfs.github.com/spec/v1"})):
        path.write_text(text)
        assert lfs_pointer(path) == ""


def test_a_folder_that_may_be_listed_and_not_looked_into_is_refused_by_name(written):
    """It was a PermissionError out of the first file, which the node showed as a defect of its own."""
    # Not in pytest's folder, which is closed to others; root is bound by no permissions.
    with tempfile.TemporaryDirectory() as name:
        folder = shutil.copytree(written, Path(name, "model"))
        Path(name).chmod(0o755)
        folder.chmod(0o444)
        root = not os.geteuid()
        if root:
            os.seteuid(65534)
        try:
            with pytest.raises(CheckpointError, match=r"model cannot be read: Permission denied"):
                check_folder(folder)
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)
