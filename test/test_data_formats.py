"""What data is called where nothing here reads it; before, it was "none of what can be inspected" or "no recording"."""

import pytest

from spec_vla_ros.cli import main
from spec_vla_ros.data_formats import foreign_data
from spec_vla_ros.training.draft_sources import open_source
from spec_vla_ros.training.frame_source import SourceError, SourceOptions

RLDS, HDF5, ZARR = r"holds RLDS .*convert_libero_data_to_lerobot\.py", r"holds HDF5 .*LeRobot", r"holds Zarr .*LeRobot"
ROS1, OLD = r"holds a recording of ROS 1.*rosbags-convert", r"holds a LeRobot data set of layout 1\.x"


def folder_of(*names):
    def make(path):
        for name in names:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text("{}")
        return path

    return make


def file_of(name):
    return lambda path: folder_of(name)(path) / name


CASES = [
    (folder_of("dataset_info.json", "features.json", "bridge-train.tfrecord-00000-of-00010"), RLDS),
    (folder_of("1.0.0/dataset_info.json", "1.0.0/features.json"), RLDS),
    (folder_of("bridge_orig/1.0.0/dataset_info.json", "bridge_orig/1.0.0/features.json"), RLDS),
    (file_of("bridge-train.tfrecord-00000-of-00010"), RLDS),
    (file_of("train.tfrecord"), RLDS),
    (file_of("pick_up_the_bowl_demo.hdf5"), HDF5),
    (folder_of("pick_up_the_bowl_demo.hdf5", "notes.txt"), HDF5),
    (file_of("episode_0.h5"), HDF5),
    (folder_of(".zgroup", "data/.zgroup"), ZARR),
    (folder_of("replay_buffer.zarr/.zgroup"), ZARR),
    (file_of("dataset.zarr.zip"), ZARR),
    (file_of("monday.bag"), ROS1),
    (folder_of("monday.bag", "tuesday.bag"), ROS1),
    (folder_of("meta_data/info.json"), OLD),
]


@pytest.mark.parametrize(("make", "said"), CASES)
def test_data_that_is_not_read_is_called_by_its_name_everywhere(tmp_path, capsys, make, said):
    path = make(tmp_path / "data")
    with pytest.raises(SourceError, match=said):
        open_source(str(path), SourceOptions(0.0), None)
    assert main(["inspect", str(path)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert foreign_data(path).split(":")[0] in out
    assert f"-> {foreign_data(path).split(': ')[1].capitalize()[:12]}" in out, "what to do is the remedy"
    pytest.importorskip("rosbags")
    pytest.importorskip("mcap")
    from spec_vla_ros.recordings.errors import BagError
    from spec_vla_ros.recordings.reader import Bag

    with pytest.raises(BagError, match=said):
        Bag(path)


def test_a_replay_of_a_lerobot_folder_says_what_reads_it(tmp_path):
    from spec_vla_ros.recordings.errors import BagError
    from spec_vla_ros.recordings.layout import layout_of

    data = folder_of("meta/info.json")(tmp_path / "data")
    with pytest.raises(BagError, match=r"is a LeRobot data set: spec-vla train-draft and spec-vla inspect read it"):
        layout_of(data)


@pytest.mark.parametrize(
    "make",
    [
        folder_of("meta/info.json", "demo.hdf5"),
        folder_of("config.json", "features.json"),
        folder_of("bag_0.mcap", "notes.h5"),
        folder_of("readme.md"),
        lambda path: path,
    ],
)
def test_what_may_be_something_else_is_not_called_so(tmp_path, make):
    assert foreign_data(make(tmp_path / "data")) == ""
