"""The command as a user runs it, and things to inspect."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from spec_vla_ros.cli import main
from spec_vla_ros.openvla.example import write_example_checkpoint

TABLETOP = Path(__file__).parents[2] / "models" / "tabletop"


@dataclass
class Said:
    """What a user reads. ``text``: without line breaks and alignment; ``lines``: as printed; ``facts``: by path."""

    status: int
    lines: str
    data: dict

    @property
    def text(self):
        return " ".join(self.lines.split())

    def _of(self, severity):
        return [problem["what"] for problem in self.data["problems"] if problem["severity"] == severity]

    @property
    def errors(self):
        return self._of("error")

    @property
    def warnings(self):
        return self._of("warning")

    @property
    def facts(self):
        return {report["path"]: report["facts"] for report in self.data["reports"]}


@pytest.fixture
def inspect(capsys, tmp_path):
    """Run ``spec-vla inspect``; everything in the file must be on the screen, and the other way round."""

    def run(*arguments):
        file = tmp_path / "said.json"
        status = main(["inspect", *map(str, arguments), "--json", str(file)])
        said = Said(status, capsys.readouterr().out, json.loads(file.read_text()))
        assert said.data["status"] == status == int(bool(said.errors))
        for problem in said.data["problems"]:
            assert problem["remedy"]
            for part in (problem["what"], problem["remedy"]):
                assert " ".join(part.split()) in said.text
        assert max(map(len, said.lines.splitlines())) < 250
        return said

    return run


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Folder of the example checkpoint; not to be changed."""
    return write_example_checkpoint(tmp_path_factory.mktemp("checkpoint") / "example")


@pytest.fixture
def folder(written, tmp_path):
    """A copy of the example checkpoint that a test may damage; its statistics are those of a known data set."""
    copy = shutil.copytree(written, tmp_path / "copy")
    path = copy / "dataset_statistics.json"
    path.write_text(path.read_text().replace('"example"', '"bridge_orig"'))
    return copy


@pytest.fixture
def tabletop(tmp_path):
    """A copy of the small model of the table top, heads included."""
    return shutil.copytree(TABLETOP, tmp_path / "tabletop")


@pytest.fixture
def edit():
    """Change top-level entries of a JSON file; None removes one."""

    def change(path, **changes):
        data = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))

    return change
