"""What a name means: a folder of this machine is never looked up on the hub, where anyone may register its name."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_loader import edit_json, make_adapter

from spec_vla_ros.decoding.heads.store import heads_folder, trained_drafters
from spec_vla_ros.errors import CheckpointError
from spec_vla_ros.openvla import loader
from spec_vla_ros.openvla.loader import load_model
from spec_vla_ros.openvla.sources import locate

TABLETOP = Path(__file__).parents[2] / "models" / "tabletop"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Answers every repository with ``folder``, and notes what it was asked."""

    def __init__(self):
        self.asked, self.folder, self.options = [], None, None
        self.files = ["config.json", "model.safetensors", "modeling_prismatic.py"]

    def __call__(self, name, revision=None, **options):
        self.asked.append((name, revision))
        self.options = options
        if self.folder is None:
            raise OSError("no such repository")
        return str(self.folder)

    def list(self, name, **_):
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=file) for file in self.files])


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A stranger who has registered every name; the working directory is one that knows nothing."""
    here = tmp_path / "home" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    stranger = Hub()
    monkeypatch.setattr("huggingface_hub.snapshot_download", stranger)
    monkeypatch.setattr("huggingface_hub.model_info", stranger.list)
    return stranger


def make(path):
    """A folder that is a checkpoint at first sight."""
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    return path


def test_the_packages_own_model_is_found_from_everywhere(hub):
    loaded = load_model("models/tabletop")
    assert loaded.folder == TABLETOP
    assert hub.asked == []


PATHS = [
    "models/tabeltop", "Models/mine", "checkpoints/run7", "out/merged", "data/openvla-7b", "./somebody/model",
    "../somebody/model", "~/somebody", "~nobody-of-that-name/model", "/somebody/model", "somebody/../model",
    Path("somebody/model"),
]  # fmt: skip


@pytest.mark.parametrize("name", PATHS, ids=str)
def test_what_reads_like_a_path_is_never_looked_up(hub, name):
    with pytest.raises(CheckpointError) as caught:
        load_model(name)
    assert f"no folder {name} (looked in /" in str(caught.value)
    assert f"hub id {name}: it is a path" in str(caught.value)
    assert hub.asked == []


@pytest.mark.parametrize("name", ["", " ", "openvla", "a/b/c", "some body/model", "somebody/model/", "https://hub/x"])
def test_what_is_no_id_is_not_asked_for(hub, name):
    with pytest.raises(CheckpointError):
        load_model(name)
    assert hub.asked == []


def test_a_folder_above_is_named_and_neither_taken_nor_looked_up(hub, tmp_path):
    above = make(tmp_path / "home" / "somebody" / "model")
    with pytest.raises(CheckpointError, match=f"there is {above}"):
        load_model("somebody/model")
    own = make(tmp_path / "models" / "tabletop")
    with pytest.raises(CheckpointError) as caught:  # which of the two was meant?
        load_model("models/tabletop")
    assert str(own) in str(caught.value)
    assert str(TABLETOP) in str(caught.value)
    assert hub.asked == []


def test_a_folder_here_comes_before_everything(hub):
    make(Path("somebody/model"))
    assert locate("somebody/model").folder == Path.cwd() / "somebody" / "model"
    make(Path("models/tabletop"))
    assert locate("models/tabletop").folder == Path.cwd() / "models" / "tabletop"
    with pytest.raises(CheckpointError, match="revision abc is of the hub"):  # else the pin would be dropped silently
        locate("somebody/model", "abc")
    assert hub.asked == []


def test_what_is_there_but_no_folder_is_not_looked_up(hub):
    Path("somebody").mkdir()
    Path("somebody/model").symlink_to("/mnt/not-there")
    with pytest.raises(CheckpointError, match="link to /mnt/not-there"):
        load_model("somebody/model")
    Path("somebody/file").touch()
    with pytest.raises(CheckpointError, match="is a file"):
        load_model("somebody/file")
    assert hub.asked == []


def test_a_mistyped_name_among_own_models_is_not_looked_up_but_an_owners_name_is(hub):
    make(Path("runs-of-may/one"))
    Path("disk").mkdir()  # where a disk should be mounted
    for name in ("runs-of-may/two", "disk/model"):
        with pytest.raises(CheckpointError, match="where models are kept"):
            load_model(name)
    assert hub.asked == []
    Path("openvla/prismatic").mkdir(parents=True)  # the repository of the source code
    with pytest.raises(CheckpointError) as caught:
        load_model("openvla/openvla-7b")
    assert "no folder openvla/openvla-7b" in str(caught.value)
    assert "hub id openvla/openvla-7b: no such repository" in str(caught.value)
    assert hub.asked == [("openvla/openvla-7b", None)]


def test_a_working_directory_that_is_gone_is_no_other_error(hub):
    Path.cwd().rmdir()
    with pytest.raises(CheckpointError, match="no such repository"):
        load_model("openvla/openvla-7b")
    with pytest.raises(CheckpointError, match="no folder"):
        load_model("models/none")


@pytest.fixture
def fetched(hub, folder, tmp_path):
    """The example checkpoint as a snapshot of a repository."""
    hub.folder = tmp_path / "cache" / "snapshots" / COMMIT
    hub.folder.parent.mkdir(parents=True)
    folder.rename(hub.folder)
    return hub.folder


def lines(caplog, level):
    return [record.getMessage() for record in caplog.records if record.levelno == level]


@pytest.mark.parametrize("revision", [None, "main", "v1", COMMIT, COMMIT[:9]])
def test_repository_and_commit_are_told_before_anything_is_read(hub, fetched, revision, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    before, read = [], loader.load_weights
    monkeypatch.setattr(loader, "load_weights", lambda *a: before.extend(caplog.messages) or read(*a))
    assert load_model("somebody/model", revision=revision).folder == fetched
    assert hub.asked == [("somebody/model", revision)]
    assert any("somebody/model" in line and COMMIT in line for line in before)
    pinned = revision == COMMIT
    assert [f"Set revision to {COMMIT}" in line for line in lines(caplog, logging.WARNING)] == [True] * (not pinned)


def test_only_data_is_fetched_and_no_code_of_a_checkpoint_is_run(hub, fetched):
    edit_json(fetched / "config.json", auto_map={"AutoConfig": "code.Config", "AutoModelForVision2Seq": "code.Model"})
    (fetched / "code.py").write_text("import pathlib; pathlib.Path('run').touch()")
    load_model("somebody/model")
    assert not Path("run").exists()
    assert set(hub.options["allow_patterns"]) == {"*.json", "*.safetensors"}


def test_the_base_of_an_adapter_goes_by_the_same_rules(hub, fetched, tmp_path, caplog):
    adapter = tmp_path / "lora"
    make_adapter(adapter, "models/base")
    with pytest.raises(CheckpointError, match="hub id models/base: it is a path"):
        load_model(adapter)
    assert hub.asked == []
    edit_json(adapter / "adapter_config.json", base_model_name_or_path="somebody/model")
    loaded = load_model(adapter)
    assert (loaded.folder, loaded.base) == (adapter, fetched)
    assert [COMMIT in line and "base model" in line for line in lines(caplog, logging.WARNING)] == [True]
    caplog.clear()
    edit_json(adapter / "adapter_config.json", revision=COMMIT)
    load_model(adapter)
    assert hub.asked[-1] == ("somebody/model", COMMIT)
    assert lines(caplog, logging.WARNING) == []


def test_a_repository_with_parts_that_are_not_read_is_refused_before_it_is_fetched(hub, fetched):
    """Of OpenVLA-OFT only what plain OpenVLA has was fetched, and driven without its action head."""
    hub.files += ["action_head--150000_checkpoint.pt", "proprio_projector--150000_checkpoint.pt"]
    with pytest.raises(CheckpointError, match=r"somebody/model of the hub holds .*action_head, proprio_projector"):
        load_model("somebody/model")
    assert hub.asked == []


def test_a_hub_that_does_not_answer_leaves_the_cache(hub, fetched, monkeypatch):
    def away(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.model_info", away)
    assert load_model("somebody/model").folder == fetched


@pytest.mark.parametrize("end", ["", "/"])
def test_a_base_in_the_cache_of_another_machine_is_that_commit_of_the_hub(hub, fetched, tmp_path, caplog, end):
    """The path means nothing here, but repository and commit stand in it."""
    elsewhere = f"/mnt/trainer/.cache/huggingface/hub/models--openvla--openvla-7b/snapshots/{COMMIT}{end}"
    make_adapter(tmp_path / "lora", elsewhere, revision="main")
    assert load_model(tmp_path / "lora").base == fetched
    assert hub.asked == [("openvla/openvla-7b", COMMIT)]
    assert lines(caplog, logging.WARNING) == [], "a commit is pinned"


def test_a_base_in_the_cache_of_this_machine_is_taken_as_it_is(hub, written, folder, tmp_path):
    here = tmp_path / "hub" / "models--openvla--openvla-7b" / "snapshots" / COMMIT
    here.parent.mkdir(parents=True)
    folder.rename(here)
    make_adapter(tmp_path / "lora", here)
    assert load_model(tmp_path / "lora").base == here
    assert hub.asked == []


@pytest.mark.parametrize(
    "name",
    [
        "/data/models--openvla--openvla-7b",
        "/data/models--openvla--openvla-7b/snapshots/main",
        f"/data/models--openvla-7b/snapshots/{COMMIT}",
        f"/data/models--openvla--openvla-7b/snapshots/{COMMIT}/copy",
        f"/data/models--models--mine/snapshots/{COMMIT}",
    ],
)
def test_other_paths_of_another_machine_are_not_guessed_at(hub, tmp_path, name):
    make_adapter(tmp_path / "lora", name)
    with pytest.raises(CheckpointError, match="the base model of the adapter in"):
        load_model(tmp_path / "lora")
    assert hub.asked == []


def test_an_adapter_on_itself_is_refused(tmp_path):
    make_adapter(tmp_path / "lora", tmp_path / "lora")
    with pytest.raises(CheckpointError, match="itself an un-merged adapter"):
        load_model(tmp_path / "lora")


def test_draft_heads_are_found_like_a_model_and_missing_ones_are_said(hub):
    loaded = load_model("models/tabletop")
    assert heads_folder(loaded) == TABLETOP / "drafters"
    assert heads_folder(loaded, "models/tabletop/drafters") == TABLETOP / "drafters"
    (Path.home() / "heads").mkdir()
    assert heads_folder(loaded, "~/heads") == Path.home() / "heads"
    found, problems = trained_drafters(loaded, heads_folder(loaded, "models/tabeltop/drafters"))
    assert found == {}
    assert "models/tabeltop/drafters has no draft heads" in problems[0]
    assert hub.asked == []


@pytest.mark.parametrize("name", ["monday/run.mcap", "monday/run.DB3", "weights/model.safetensors"])
def test_the_name_of_a_file_is_never_looked_up(hub, name):
    """A recording that is not there was to be fetched from the hub."""
    with pytest.raises(CheckpointError, match="it is the name of a file"):
        load_model(name)
    assert hub.asked == []
