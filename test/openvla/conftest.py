"""An example checkpoint, written once."""

import shutil

import pytest

from spec_vla_ros.openvla.example import write_example_checkpoint


@pytest.fixture(scope="module", autouse=True)
def small(one_thread):
    """All models here are."""


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Folder of the example checkpoint; not to be changed."""
    return write_example_checkpoint(tmp_path_factory.mktemp("checkpoint") / "example")


@pytest.fixture
def folder(written, tmp_path):
    """A copy of the example checkpoint that a test may damage."""
    return shutil.copytree(written, tmp_path / "copy")
