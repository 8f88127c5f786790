"""Data that robots are trained on, told apart by the names of files: what is read here, and how the rest becomes that.

Nothing is opened, so that every command can say by name what it was given, whatever is installed.
"""

from __future__ import annotations

import itertools
from pathlib import Path

LOOKED_AT = 2000  # entries of a folder; one that holds more is told by the first of them
ANYTHING = (
    "write its pictures and instructions as a LeRobot data set (LeRobotDataset.create, add_frame and save_episode)"
)
_RLDS = (
    "RLDS (TFRecord files of TensorFlow Datasets, OpenVLA's own training format), which is not read here: convert it "
    "to a LeRobot data set, for example with examples/libero/convert_libero_data_to_lerobot.py of "
    "Physical-Intelligence/openpi or examples/port_datasets/port_droid.py of huggingface/lerobot; both name cameras "
    "and instruction, which are to be those of your data"
)
_HDF5 = f"HDF5 (as of robomimic, LIBERO or ALOHA), which is not read here: {ANYTHING}"
_ZARR = f"Zarr (as of UMI or diffusion policy), which is not read here: {ANYTHING}"
_ROS1 = "a recording of ROS 1, which is not read here: convert it with rosbags-convert --src OLD.bag --dst NEW"
_OLD_LEROBOT = (
    "a LeRobot data set of layout 1.x, which is not read here: convert it with convert_dataset_v1_to_v2.py of an older "
    "huggingface/lerobot"
)


_BAGS = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")  # of rosbag2, whatever else lies beside them


def is_lerobot(path: Path) -> bool:
    """Whether ``path`` is the folder of a LeRobot data set, of layout 2.0 or later."""
    return (path / "meta" / "info.json").is_file()


def foreign_data(path: Path) -> str:
    """What ``path`` holds that is not read here, and what to do about it, to follow "... holds"; empty if it may be
    something that is read, or cannot be told.
    """
    if path.is_file():
        return _of_name(path.name)
    if not path.is_dir() or is_lerobot(path):
        return ""
    if (path / "meta_data" / "info.json").is_file():
        return _OLD_LEROBOT
    if (path / "features.json").is_file() and (path / "dataset_info.json").is_file():
        return _RLDS
    if path.suffix == ".zarr" or any((path / name).is_file() for name in (".zgroup", ".zarray", "zarr.json")):
        return _ZARR
    names = _names(path)
    if any(name.endswith(_BAGS) for name in names):
        return ""
    for name in names:
        if kind := _of_name(name):
            return kind
    # TensorFlow Datasets keeps each of them in NAME/VERSION, and OpenVLA is given the folder above.
    for depth in ("*", "*/*"):
        if next(path.glob(f"{depth}/features.json"), None) is not None:
            return _RLDS
    return ""


def _of_name(name: str) -> str:
    name = name.lower()
    if name.endswith((".tfrecord", ".tfrecords")) or ".tfrecord-" in name:
        return _RLDS
    if name.endswith((".hdf5", ".h5")):
        return _HDF5
    if name.endswith((".zarr", ".zarr.zip")):
        return _ZARR
    return _ROS1 if name.endswith(".bag") else ""


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in itertools.islice(folder.iterdir(), LOOKED_AT)]
    except OSError:
        return []
