"""A checkpoint that is swapped under a running policy."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from spec_vla_ros.errors import CheckpointChangedError
from spec_vla_ros.openvla.file_stamps import PERIOD, FileStamps

TABLETOP = Path(__file__).parents[2] / "models" / "tabletop"


def later(path):
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def write(path):
    path.write_text("[]")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", later),
        ("model.safetensors", Path.unlink),
        ("dataset_statistics.json", write),
        ("preprocessor_config.json", write),
        ("adapter_config.json", write),
        ("pytorch_model.bin", write),
        ("tokenizer.json", write),
    ],
)
def test_a_file_that_is_changed_removed_or_added_is_named(tmp_path, name, change):
    for file in ("config.json", "model.safetensors"):
        (tmp_path / file).write_text("{}")
    stamps = FileStamps(tmp_path)
    stamps.check()
    change(tmp_path / name)
    with pytest.raises(CheckpointChangedError, match=name):
        stamps.check()


def test_heads_and_notes_in_the_folder_do_not_count(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    stamps = FileStamps(tmp_path)
    (tmp_path / "README.md").write_text("notes")
    (tmp_path / "drafters").mkdir()
    stamps.check()


def test_another_file_of_the_same_size_and_time_is_another_file(tmp_path):
    """Weights in half precision all have one size, and a copy that keeps the times keeps them."""
    weights, other = tmp_path / "model.safetensors", tmp_path / "other"
    for path, content in ((weights, b"one"), (other, b"two")):
        path.write_bytes(content)
        os.utime(path, ns=(10**18, 10**18))
    stamps = FileStamps(tmp_path)
    other.rename(weights)
    with pytest.raises(CheckpointChangedError, match=r"model\.safetensors"):
        stamps.check()


def test_a_link_to_nothing_and_a_folder_that_goes_are_no_other_error(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").symlink_to("nowhere")
    stamps = FileStamps(folder)
    stamps.check()
    folder.rename(tmp_path / "moved")
    with pytest.raises(CheckpointChangedError, match=r"config\.json"):
        stamps.check()


def test_it_looks_once_per_period(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    stamps = FileStamps(tmp_path)
    stamps.check()
    began = stamps._looked_at
    later(tmp_path / "config.json")
    stamps.check(began + 0.5 * PERIOD)
    with pytest.raises(CheckpointChangedError):
        stamps.check(began + 1.5 * PERIOD)
    with pytest.raises(CheckpointChangedError):  # between two looks: a fault that is re-armed at once comes back
        stamps.check(began + 1.6 * PERIOD)


def test_the_weights_in_memory_outlive_the_files_and_the_policy_stops(tmp_path):
    """Mapped into memory, a file that is overwritten would change the arm's motion, a truncated one kill the node."""
    from spec_vla_ros.openvla.loader import load_model
    from spec_vla_ros.policy import OpenVLAPolicy
    from spec_vla_ros.policy_types import DecodeSettings

    folder = tmp_path / "model"
    shutil.copytree(TABLETOP, folder, ignore=shutil.ignore_patterns("drafters", "trace.json"))
    policy = OpenVLAPolicy(load_model(folder, dtype="bfloat16"))
    image, settings = np.full((64, 64, 3), 90, np.uint8), DecodeSettings(decoder="autoregressive")
    before = policy.infer(image, "pick up the red block", settings).values
    policy.reset()
    weights = folder / "model.safetensors"
    with weights.open("r+b") as stream:
        stream.seek(weights.stat().st_size // 2)
        stream.write(bytes(100_000))
    with weights.open("r+b") as stream:
        stream.truncate(100)
    files, policy.loaded = policy.loaded.files, policy.loaded.__class__(**{**policy.loaded.__dict__, "files": None})
    np.testing.assert_array_equal(policy.infer(image, "pick up the red block", settings).values, before)
    with pytest.raises(CheckpointChangedError, match=r"model\.safetensors"):
        files.check()


IMAGE, TEXT = np.full((64, 64, 3), 90, np.uint8), "pick up the red block"


def refuses(policy, name):
    """Whether the policy, that has just answered, stops because of the file ``name``."""
    from spec_vla_ros.policy_types import DecodeSettings

    policy.loaded.files._looked_at -= 2 * PERIOD
    with pytest.raises(CheckpointChangedError, match=name):
        policy.infer(IMAGE, TEXT, DecodeSettings(decoder="autoregressive"))
    return True


def answers(policy):
    from spec_vla_ros.policy_types import DecodeSettings

    policy.loaded.files._looked_at -= 2 * PERIOD
    return policy.infer(IMAGE, TEXT, DecodeSettings(decoder="autoregressive")) is not None


@pytest.mark.parametrize(
    ("place", "name", "change"),
    [
        ("adapter", "adapter_model.safetensors", later),
        ("adapter", "adapter_config.json", later),
        ("adapter", "dataset_statistics.json", write),
        ("copy", "model.safetensors", later),
        ("copy", "tokenizer.json", later),
        ("copy", "preprocessor_config.json", later),
    ],
)
def test_an_adapter_and_its_base_are_watched(folder, tmp_path, place, name, change):
    """Only the base was: another adapter on the disk drove the arm after the next restart, and nobody was told."""
    from test_loader import make_adapter

    from spec_vla_ros.openvla.loader import load_model
    from spec_vla_ros.policy import OpenVLAPolicy

    make_adapter(tmp_path / "adapter", folder)
    policy = OpenVLAPolicy(load_model(tmp_path / "adapter"))
    assert answers(policy)
    change(tmp_path / place / name)
    assert refuses(policy, f"{place}/{name}")


@pytest.mark.parametrize("explicit", [False, True])
def test_the_draft_heads_that_are_in_use_are_watched(tmp_path, explicit):
    from spec_vla_ros.decoding.heads.store import heads_folder, trained_drafters
    from spec_vla_ros.openvla.loader import load_model
    from spec_vla_ros.policy import OpenVLAPolicy

    folder = shutil.copytree(TABLETOP, tmp_path / "model")
    (folder / "drafters" / "eagle" / "config.json").unlink()
    (folder / "drafters" / "eagle" / "model.safetensors").write_bytes(b"cut short")
    place = (folder / "drafters").rename(tmp_path / "heads") if explicit else folder / "drafters"
    loaded = load_model(folder)
    found, problems = trained_drafters(loaded, heads_folder(loaded, place if explicit else ""))
    assert (list(found), len(problems)) == (["vision"], 1)
    policy = OpenVLAPolicy(loaded, found, problems)
    (place / "vision" / "report.json").write_text("{}")
    shutil.copy(TABLETOP / "drafters" / "eagle" / "model.safetensors", place / "eagle")  # nothing of it is in use
    assert answers(policy)
    later(place / "vision" / "model.safetensors")
    assert refuses(policy, "vision/model.safetensors")


def test_a_head_that_is_being_written_is_not_used(tmp_path, monkeypatch):
    from spec_vla_ros.decoding.heads import store
    from spec_vla_ros.openvla.loader import load_model

    folder = shutil.copytree(TABLETOP, tmp_path / "model")
    loaded, load = load_model(folder), store.load_vision_head

    def meanwhile(place, *arguments, **more):
        head = load(place, *arguments, **more)
        later(place / "model.safetensors")
        return head

    monkeypatch.setattr(store, "load_vision_head", meanwhile)
    found, problems = store.trained_drafters(loaded, store.heads_folder(loaded))
    assert list(found) == ["eagle"]
    assert "vision/model.safetensors" in problems[0]
    loaded.files.check()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "dataset_statistics.json", "model.safetensors"])
def test_what_changes_while_it_is_read_is_refused(folder, monkeypatch, name):
    """The configuration is read first: what it was then has to be what it is when the weights are there."""
    from spec_vla_ros.openvla import loader

    choose = loader.choose_statistics
    monkeypatch.setattr(loader, "choose_statistics", lambda *a: later(folder / name) or choose(*a))
    with pytest.raises(CheckpointChangedError, match=name):
        loader.load_model(folder)


def test_what_changes_between_the_first_look_and_the_first_file_is_refused(folder, monkeypatch):
    from spec_vla_ros.openvla import checkpoint, loader

    read = checkpoint.read_tokenizer
    monkeypatch.setattr(checkpoint, "read_tokenizer", lambda at: (read(at), later(folder / "config.json"))[0])
    with pytest.raises(CheckpointChangedError, match=r"config\.json"):
        loader.load_model(folder)
