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
    [("config.json", later), ("model.safetensors", Path.unlink), ("dataset_statistics.json", write)],
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
