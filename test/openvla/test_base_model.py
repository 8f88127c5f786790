"""The base model of an adapter, named by the user: its own file names a path of the machine that trained it."""

from dataclasses import fields
from types import SimpleNamespace

import pytest
from test_loader import edit_json, make_adapter
from test_sources import COMMIT, Hub, lines

from spec_vla_ros.errors import CheckpointError
from spec_vla_ros.node.parameters import PARAMETERS, Fixed
from spec_vla_ros.node.policy_factory import load_openvla
from spec_vla_ros.openvla.checkpoint import base_of
from spec_vla_ros.openvla.loader import load_model

ELSEWHERE = "/mnt/trainer/checkpoints/openvla-7b"


@pytest.fixture
def adapter(tmp_path):
    make_adapter(tmp_path / "lora", ELSEWHERE)
    return tmp_path / "lora"


@pytest.fixture
def hub(monkeypatch, tmp_path, written):
    """A hub that answers every repository with a snapshot of the example."""
    found = Hub()
    found.folder = tmp_path / "snapshots" / COMMIT
    found.folder.parent.mkdir()
    found.folder.symlink_to(written)
    monkeypatch.setattr("huggingface_hub.snapshot_download", found)
    monkeypatch.setattr("huggingface_hub.model_info", found.list)
    return found


def test_the_refusal_names_the_option(adapter):
    with pytest.raises(
        CheckpointError, match=rf"no folder {ELSEWHERE} .*; base_model \(on the command line --base-model\)"
    ):
        load_model(adapter)
    edit_json(adapter / "adapter_config.json", base_model_name_or_path=None)
    with pytest.raises(CheckpointError, match="does not name its base model; base_model"):
        load_model(adapter)


def test_a_folder_that_is_named_is_taken(adapter, written):
    loaded = load_model(adapter, base_model=str(written))
    assert (loaded.folder, loaded.base) == (adapter, written)


def test_it_goes_before_what_the_adapter_names(adapter, written, tmp_path):
    edit_json(adapter / "adapter_config.json", base_model_name_or_path=str(tmp_path), revision="main")
    assert load_model(adapter, base_model=str(written)).base == written


def test_a_hub_id_may_carry_a_revision_and_is_not_pinned_without(adapter, hub, caplog):
    """The revision in the adapter's file is of the base that it names, and of no other."""
    import logging

    edit_json(adapter / "adapter_config.json", revision="of-the-other")
    assert load_model(adapter, base_model="owner/base").base == hub.folder
    assert hub.asked == [("owner/base", None)]
    (warned,) = lines(caplog, logging.WARNING)
    assert f"Set base_model to owner/base@{COMMIT}" in warned
    caplog.clear()
    load_model(adapter, base_model=f"owner/base@{COMMIT}")
    assert hub.asked[-1] == ("owner/base", COMMIT)
    assert lines(caplog, logging.WARNING) == []


def test_a_base_that_is_not_there_or_is_an_adapter_is_refused(adapter, tmp_path):
    with pytest.raises(CheckpointError, match=r"the base model of the adapter in .*no folder \./nothing"):
        load_model(adapter, base_model="./nothing")
    with pytest.raises(CheckpointError, match="is itself an un-merged adapter"):
        load_model(adapter, base_model=str(adapter))


def test_a_base_for_a_model_that_is_no_adapter_is_refused(written, tmp_path):
    """It would have had no effect, and nobody would have known what drives."""
    with pytest.raises(CheckpointError, match=rf"{written} is no LoRA adapter, so base_model {tmp_path} has no effect"):
        load_model(written, base_model=str(tmp_path))


def test_the_node_has_it_as_a_parameter(adapter, written):
    (spec,) = [spec for spec in PARAMETERS if spec.name == "base_model"]
    assert (spec.default, spec.read_only) == ("", True)
    assert "base_model" in {field.name for field in fields(Fixed)}
    settings = {"cpu_threads": 0, "device": "cpu", "dtype": "auto", "unnorm_key": "", "revision": "", "draft_heads": ""}
    settings |= {"model": str(adapter), "base_model": str(written), "centre_crop": False, "image_resize": "auto"}
    settings |= {"habits_file": "", "record_to": ""}
    assert load_openvla(SimpleNamespace(**settings)).loaded.base == written


def test_every_command_that_takes_a_model_takes_it():
    from spec_vla_ros import cli
    from spec_vla_ros.bench import cli as bench
    from spec_vla_ros.inspection import cli as inspection
    from spec_vla_ros.replay import cli as replay
    from spec_vla_ros.tabletop.training import bag as tabletop_bag
    from spec_vla_ros.tabletop.training import train as tabletop
    from spec_vla_ros.training import train_draft

    parsers = [inspection._parser(), replay._parser(), tabletop_bag._parser(), train_draft.parser()]
    for one in (cli._parser(), bench._parser(), tabletop._parser()):
        (commands,) = [action for action in one._actions if action.choices and hasattr(action, "_name_parser_map")]
        parsers += commands.choices.values()
    takes = [parser for parser in parsers if {"--model", "--shapes"} & parser._option_string_actions.keys()]
    assert len(takes) > 9
    for parser in (*takes, inspection._parser()):
        assert "--base-model" in parser._option_string_actions, parser.prog


def test_an_inspection_takes_it(adapter, written, capsys):
    from spec_vla_ros.cli import main

    assert main(["inspect", str(adapter)]) == 1
    assert "--base-model" in " ".join(capsys.readouterr().out.split())
    main(["inspect", str(adapter), "--base-model", str(written)])
    assert "no folder" not in capsys.readouterr().out
    assert base_of(adapter, str(written), download=False).folder == written
