"""Files of commands: refused before the work, whole or not at all afterwards."""

import contextlib
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from spec_vla_ros.outputs import OutputError, appending, require, whole, write_text, writing


@contextlib.contextmanager
def small_disk(size=4096):
    """The limit of a process's files stands in for a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def numpy_file(path):
    with path.open("wb") as stream:
        np.savez(stream, a=np.zeros(10_000))


BIG = {
    "text": lambda path: path.write_text("x" * 10_000),
    "torch": lambda path: torch.save({"a": torch.zeros(10_000)}, path),
    "safetensors": lambda path: save_file({"a": torch.zeros(10_000)}, path),
    "numpy": numpy_file,
}


@pytest.mark.parametrize("kind", BIG)
def test_a_disk_that_is_full_is_one_sentence_and_leaves_what_was_there(tmp_path, kind):
    """torch says "unexpected pos 704 vs 598" to that, and half a file stayed under the final name."""
    path = tmp_path / "file"
    path.write_text("as it was")
    with (
        small_disk(),
        pytest.raises(OutputError, match=rf"^{path} cannot be written: .*(large|full)"),
        whole(path) as part,
    ):
        BIG[kind](part)
    assert path.read_text() == "as it was"
    assert os.listdir(tmp_path) == ["file"]


def test_an_interruption_leaves_nothing(tmp_path):
    def begin(name, folder):
        with whole(tmp_path / name, folder=folder) as part:
            if folder:
                part.mkdir()
            (part / "one" if folder else part).write_text("half")
            raise KeyboardInterrupt

    for name, folder in (("file", False), ("folder", True)):
        with pytest.raises(KeyboardInterrupt):
            begin(name, folder)
    assert list(tmp_path.iterdir()) == []


def test_a_file_and_a_folder_take_the_place_of_older_ones(tmp_path):
    for text in ("old", "new"):
        write_text(tmp_path / "deep" / "file.json", text)
        with whole(tmp_path / "folder", folder=True) as part:
            assert part.name == "folder"
            part.mkdir()
            (part / text).write_text(text)
    assert (tmp_path / "deep" / "file.json").read_text() == "new"
    assert os.listdir(tmp_path / "folder") == ["new"]
    assert sorted(os.listdir(tmp_path)) == ["deep", "folder"]


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path):
    """Renaming over /dev/stdout would have replaced it for everybody."""
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"
    write_text("/dev/null", "gone")
    assert Path("/dev/null").is_char_device()


def test_text_that_utf8_has_no_word_for_is_written_nevertheless(tmp_path):
    write_text(tmp_path / "file", f"gr\xf6sse {os.fsdecode(bytes([255]))}")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "gr\xf6sse \\udcff"


def test_an_error_of_what_is_read_meanwhile_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(FileNotFoundError), writing(tmp_path / "out"):
        (tmp_path / "other" / "in").read_text()
    with pytest.raises(ValueError, match="own"), writing(tmp_path / "out"):
        raise ValueError("its own")


def test_lines_are_appended_all_or_not_at_all(tmp_path):
    path = tmp_path / "rows"
    with appending(path) as append:
        append("one\n")
        with small_disk(6), pytest.raises(OutputError, match=rf"^{path} cannot be written: File too large"):
            append("another one\n")
        append("two\n")
    assert path.read_text() == "one\ntwo\n"


def test_what_can_be_written_is_not_touched_beforehand(tmp_path):
    (tmp_path / "file").write_text("old")
    require(tmp_path / "file", tmp_path / "new" / "deep" / "file", "/dev/null", None)
    require(tmp_path, tmp_path / "new" / "folder", folder=True)
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_disk_without_room_for_anything_is_told_before_the_work(tmp_path):
    with small_disk(100), pytest.raises(OutputError, match=r"x\.json cannot be written: File too large"):
        require(tmp_path / "x.json")


def test_a_full_disk_of_its_own_is_told_before_the_work():
    """A real one, where this process may mount it."""
    import subprocess
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
        try:
            mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            mounted = False
        if not mounted:
            pytest.skip("needs the right to mount a tmpfs")
        try:
            path = Path(folder, "out.json")
            require(path)
            with pytest.raises(OutputError, match=r"out\.json cannot be written: No space left on device"):
                write_text(path, "x" * 10**6)
            assert os.listdir(folder) == []
            with contextlib.suppress(OSError):
                Path(folder, "rest").write_bytes(bytes(10**6))
            with pytest.raises(OutputError, match=r"out\.json cannot be written: No space left on device"):
                require(path)
            subprocess.run(["mount", "-o", "remount,ro", folder], capture_output=True, check=True)
            with pytest.raises(OutputError, match=r"out\.json cannot be written: Read-only file system"):
                require(path)
        finally:
            subprocess.run(["umount", folder], check=True)
