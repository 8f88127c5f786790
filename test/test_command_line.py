"""Every command says in one line, with an exit status, what it cannot do.

Typing errors, wrong folders, full disks and Ctrl-C used to end in tracebacks of the libraries below, or went on with
-3 threads and a period of nan.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from spec_vla_ros import cli
from spec_vla_ros.arguments import Parser, number, whole
from spec_vla_ros.openvla.example import write_example_checkpoint

ROOT = Path(__file__).parents[1]
SMALL = str(ROOT / "models" / "tabletop")


def parsers():
    """Every parser of every command, with its name."""
    from spec_vla_ros.bench import cli as bench
    from spec_vla_ros.inspection import cli as inspection
    from spec_vla_ros.replay import cli as replay
    from spec_vla_ros.tabletop.training import bag as tabletop_bag
    from spec_vla_ros.tabletop.training import train as tabletop
    from spec_vla_ros.training import train_draft

    todo = [cli._parser(), bench._parser(), inspection._parser(), replay._parser(), tabletop._parser()]
    todo += [tabletop_bag._parser(), train_draft.parser()]
    while todo:
        parser = todo.pop()
        yield parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                todo += action.choices.values()


def run(capsys, *words):
    """(status, lines of standard error) of one command."""
    try:
        status = cli.main(list(map(str, words)))
    except SystemExit as error:
        status = error.code
    return status, capsys.readouterr().err.splitlines()


def refused(capsys, *words, naming, status=1):
    """The one line that names the thing."""
    found, lines = run(capsys, *words)
    assert found == status, lines
    assert len(lines) == 1, lines
    assert lines[0].startswith("spec-vla")
    assert "Traceback" not in lines[0]
    assert naming in lines[0]
    return lines[0]


# -- numbers


def test_no_number_on_a_command_line_is_taken_as_it_comes():
    """``type=float`` took nan and inf, ``type=int`` -3."""
    names = []
    for parser in parsers():
        assert isinstance(parser, Parser), f"{parser.prog}: its errors are not one line"
        for action in parser._actions:
            if action.type in (None, Path) or not action.option_strings:
                continue
            names.append(f"{parser.prog} {action.option_strings[0]}")
            assert action.type not in (int, float), names[-1]
            for text in ("nan", "inf", "-inf", "-1", "1e999", "x", "", "9" * 5000):
                if names[-1].endswith("--device"):
                    continue
                with pytest.raises(argparse.ArgumentTypeError, match=r"expected a (whole )?number"):
                    action.type(text)
            if isinstance(action.default, int | float):
                assert action.type(str(action.default)) == action.default
    assert len(names) > 60


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("7", 7), (" 5 ", 5)])
def test_whole_numbers(text, value):
    assert whole(0, 7)(text) == value


@pytest.mark.parametrize("text", ["8", "-1", "1.0", "1e1", "nan", ""])
def test_what_is_no_whole_number_up_to_seven(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number from 0 to 7, got"):
        whole(0, 7)(text)


def test_numbers_and_their_ends():
    assert number(0.0, 2.0)("0") == 0.0
    assert number(0.0, 2.0)("2") == 2.0
    assert number(0.0, 2.0, above=True)("1e-9") == 1e-9
    with pytest.raises(argparse.ArgumentTypeError, match=r"above 0 and at most 2, got '0'"):
        number(0.0, 2.0, above=True)("0")
    with pytest.raises(argparse.ArgumentTypeError, match=r"from 0 to 2, got '2.1'"):
        number(0.0, 2.0)("2.1")


@pytest.mark.parametrize(
    "words",
    [
        ["replay", "bag", "--period", "nan"],
        ["inspect", SMALL, "--step-dt", "inf"],
        ["demo", "--seed", "1000"],
        ["bench", "wire", "--seconds", "nan"],
        ["bench", "latency", "--layers", "0"],
        ["bench", "streams", "a.npz", "--rate", "0"],
        ["bench", "streams", "a.npz", "--drafters", "vision"],
        ["bench", "libero", "--suite", "goal", "--model", "m", "--tasks", "10"],
        ["train-draft", "--others", "-1"],
        ["train-tabletop", "--rate", "nan"],
        ["eval-tabletop", "--decoders", "speculativ"],
        ["eval-tabletop", "--drafters", "nobody"],
        ["record-tabletop", "bag", "--frames", "-5"],
        ["bench", "faults", "--kinds", "no such thing"],
        ["nonsense"],
        ["bench", "nonsense"],
        [],
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(capsys, words):
    refused(capsys, *words, naming="", status=2)


@pytest.mark.parametrize("words", [["--gripper-radius", "3"], ["--gripper-radius=0"], ["--gripper-radius"]])
def test_an_option_of_before_is_answered_with_what_became_of_it(capsys, words):
    line = refused(capsys, "replay", "bag", *words, naming="--gripper-radius is no longer there", status=2)
    assert "delete it" in line


# -- models


@pytest.fixture
def offline(monkeypatch):
    """Whoever asks the hub fails."""

    def ask(*_, **__):
        pytest.fail("the hub was asked")

    monkeypatch.setattr("huggingface_hub.snapshot_download", ask)
    monkeypatch.setattr("huggingface_hub.model_info", ask)


WITH_MODEL = {
    "demo": ["demo", "--out", "out"],
    "eval-tabletop": ["eval-tabletop", "--episodes", "1"],
    "record-tabletop": ["record-tabletop", "bag", "--frames", "1"],
    "train-draft": ["train-draft", "--out", "out", "--work", "work"],
    "passes": ["bench", "passes", "--episodes", "1"],
    "precision": ["bench", "precision", "--episodes", "1"],
    "latency": ["bench", "latency", "--actions", "1"],
}


@pytest.mark.parametrize("model", ["./tabletop", "{tmp}/tabeltop", "models/some/tabletop", "~nobody/tabletop", "~/x y"])
@pytest.mark.parametrize("command", WITH_MODEL)
def test_a_slip_in_the_name_of_a_model_is_not_looked_up_on_the_hub(
    capsys, offline, tmp_path, monkeypatch, command, model
):
    monkeypatch.chdir(tmp_path)
    option = "--shapes" if command == "latency" else "--model"
    model = model.format(tmp=tmp_path)
    refused(capsys, *WITH_MODEL[command], option, model, naming=model.split("/")[-1])
    assert list(tmp_path.iterdir()) == []


def test_what_may_have_been_meant_is_said(capsys, offline, tmp_path, make_bag_folder):
    (tmp_path / "my_model").mkdir()
    line = refused(capsys, "replay", make_bag_folder, "--model", tmp_path / "my_modell", naming="no folder")
    assert f"Did you mean {tmp_path / 'my_model'}?" in line
    line = refused(capsys, "replay", make_bag_folder, "--model", "models/tabeltop", naming="no folder")
    assert "Did you mean models/tabletop?" in line


@pytest.fixture
def make_bag_folder(tmp_path):
    """A recording of two images, in which nothing is said."""
    from spec_vla_ros.recordings.writer import new_typestore, whole_bag

    store, kind = new_typestore(), "sensor_msgs/msg/Image"
    types = store.types
    with whole_bag(tmp_path / "bag") as writer:
        connection = writer.add_connection("/image", kind, typestore=store)
        for i in range(2):
            import numpy as np

            stamp = types["builtin_interfaces/msg/Time"](sec=i, nanosec=0)
            header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera")
            pixels = np.zeros(12, np.uint8)
            image = types[kind](
                header=header, height=2, width=2, encoding="rgb8", is_bigendian=0, step=6, data=pixels
            )  # fmt: skip
            writer.write(connection, i * 10**9, store.serialize_cdr(image, kind))
    return tmp_path / "bag"


# -- files that cannot be read


@contextlib.contextmanager
def nobody():
    """As somebody who is not root, whom permissions bind."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def hidden():
    """A checkpoint in a folder that may not be looked into, and one that may be listed and no more.

    Not in pytest's own folder, which is closed to others.
    """
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        top.chmod(0o777)
        for folder, mode in ((top / "closed", 0), (top / "listed", 0o444)):
            folder.mkdir()
            write_example_checkpoint(folder / "model")
            write_example_checkpoint(folder)
            folder.chmod(mode)
        yield top
        for folder in ("closed", "listed"):
            (top / folder).chmod(0o755)


@pytest.mark.parametrize("place", ["closed/model", "closed", "listed", "listed/model"])
def test_a_folder_that_may_not_be_read_is_one_sentence(capsys, hidden, offline, make_bag_folder, place):
    path, bag = hidden / place, shutil.copytree(make_bag_folder, hidden / "bag")
    # Imports and reads everything of ours while it may: the checkout, too, may be closed to others.
    cli.main(["inspect", SMALL])
    capsys.readouterr()
    refused(capsys, "replay", bag, "--out", hidden / "o", "--model", hidden / "none", naming="none")
    with nobody():
        assert cli.main(["inspect", str(path)]) == 1
        assert "ermission denied" in capsys.readouterr().out
        line = refused(capsys, "replay", bag, "--out", hidden / "o", "--model", path, naming=str(path))
    assert "ermission denied" in line


def test_a_link_to_nothing_is_one_sentence(capsys, tmp_path, offline, make_bag_folder):
    (tmp_path / "model").symlink_to(tmp_path / "gone")
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    for name in ("model", "ring"):
        refused(capsys, "replay", make_bag_folder, "--model", tmp_path / name, naming="is a link to")
        assert cli.main(["inspect", str(tmp_path / name)]) == 1
        out = capsys.readouterr().out
        assert "link" in out
    (tmp_path / "bag2").symlink_to(tmp_path / "gone")
    refused(capsys, "replay", tmp_path / "bag2", naming="bag2")


def test_heads_that_are_links_to_nothing_are_told(tmp_path):
    """They were passed over in silence: nobody knew why decoding was slow."""
    from spec_vla_ros.decoding.heads.store import trained_drafters
    from spec_vla_ros.openvla.loader import load_model

    model = write_example_checkpoint(tmp_path / "model")
    (model / "drafters").mkdir()
    (model / "drafters" / "vision").symlink_to(tmp_path / "blobs" / "gone")
    found, problems = trained_drafters(load_model(model), model / "drafters")
    assert found == {}
    assert problems == [f"{model}/drafters/vision is a link to {tmp_path}/blobs/gone, which does not exist"]


# -- files that cannot be written: refused before the work

WRITES = {
    "demo": (["demo", "--policy", "scripted", "--out"], True),
    "inspect": (["inspect", SMALL, "--json"], False),
    "replay": (["replay", "bag", "--out"], True),
    "golden": (["replay", "bag", "--save-golden"], False),
    "train-draft": (["train-draft", "--out", "out", "--work"], True),
    "train-draft heads": (["train-draft", "--work", "work", "--out"], True),
    "train-tabletop": (["train-tabletop", "--work", "work", "--out"], True),
    "train-tabletop work": (["train-tabletop", "--out", "out", "--work"], True),
    "eval-tabletop": (["eval-tabletop", "--json"], False),
    "record-tabletop": (["record-tabletop"], True),
    "passes": (["bench", "passes", "--json"], False),
    "precision": (["bench", "precision", "--json"], False),
    "full-size": (["bench", "full-size", "--folder"], True),
    "plot": (["bench", "latency", "--plot"], False),
    "trace": (["bench", "latency", "--trace"], False),
    "wire": (["bench", "wire", "--json"], False),
    "streams": (["bench", "streams", "a.npz", "--json"], False),
    "two-hosts": (["bench", "two-hosts", "--json"], False),
    "soak": (["bench", "soak", "--json"], False),
    "dead-man": (["bench", "dead-man", "--json"], False),
    "faults": (["bench", "faults", "--json"], False),
    "libero": (["bench", "libero", "--suite", "goal", "--model", "m", "--work"], True),
}


@pytest.mark.parametrize("command", WRITES)
@pytest.mark.parametrize("place", ["below a file", "ring of links", "name too long"])
def test_an_output_that_cannot_be_is_refused_before_the_work(capsys, tmp_path, monkeypatch, command, place):
    words, _ = WRITES[command]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    target = {"below a file": "file/x", "ring of links": "ring/x", "name too long": f"{'n' * 300}/x"}[place]
    refused(capsys, *words, target, naming=f"{target} cannot be written: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "ring"]


@pytest.mark.parametrize("command", [name for name, (_, folder) in WRITES.items() if not folder])
def test_a_folder_in_place_of_an_output_file_is_refused(capsys, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    words = WRITES[command][0]
    if command == "trace":
        refused(capsys, *words, "there", naming="there")
    else:
        refused(capsys, *words, "there", naming="there cannot be written: it is a folder")


def test_a_disk_that_is_full_at_the_end_is_one_line(capsys, make_bag_folder):
    for words in (
        ["inspect", SMALL, "--json", "/dev/full"],
        ["eval-tabletop", "--episodes", "1", "--json", "/dev/full"],
    ):
        refused(capsys, *words, naming="/dev/full cannot be written: No space left on device")


# -- texts that a terminal cannot show, readers that go away, signals


def start(*words, **more):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more.pop("env", {})}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | more
    return subprocess.Popen([sys.executable, "-m", "spec_vla_ros.cli", *map(str, words)], env=environment, **pipes)


def test_text_that_the_terminal_cannot_show_is_written_nevertheless(tmp_path):
    name = tmp_path / "größe"
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    with start("inspect", name, tmp_path / os.fsdecode(b"\xff"), env=ascii_only) as process:
        out, err = process.communicate()
    assert err == ""
    assert process.returncode == 1
    assert "gr\\xf6\\xdfe" in out or "gr\\udcc3" in out
    assert "\\udcff does not exist" in out


def test_a_reader_that_goes_away_ends_the_command_in_silence():
    with start("inspect", *([SMALL] * 3), bufsize=0) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_standard_output_on_a_full_disk_is_one_line():
    with Path("/dev/full").open("w") as full, start("inspect", SMALL, stdout=full) as process:
        assert process.stderr.read() == "spec-vla inspect: standard output: No space left on device\n"
    assert process.returncode == 1


@pytest.mark.parametrize(("number", "status", "word"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")])
def test_a_signal_ends_training_with_one_line_and_without_helpers(tmp_path, number, status, word):
    """The process that records frames printed a traceback of its own, or went on for itself."""
    with start("train-tabletop", "--work", tmp_path / "w", "--out", tmp_path / "o") as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not (found := children.read_text().split()):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.002)  # while it is still being started
        process.send_signal(getattr(signal, number))
        _, err = process.communicate(timeout=120)
    assert err == f"spec-vla train-tabletop: {word}\n"
    assert process.returncode == status
    assert not any(Path(f"/proc/{child}").exists() for child in found)
    assert not (tmp_path / "o").exists()
