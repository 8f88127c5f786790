"""A folder of recorded episodes is replayed as it is: with instructions and statistics, and with how they ended."""

import json

import pytest

pytest.importorskip("mcap")
pytest.importorskip("torch")

from recordings import MODEL, PERIOD, START, header

from spec_vla_ros.cli import main
from spec_vla_ros.episode_record import TYPE
from spec_vla_ros.recordings.episodes import Episodes, Reading, bags_in, open_bags, told_by
from spec_vla_ros.recordings.errors import BagError, ReplayError
from spec_vla_ros.recordings.reader import Bag
from spec_vla_ros.replay.options import Options
from spec_vla_ros.replay.session import replay

KEY = "tabletop"


def record(name, phase, **fields):
    """An entry for ``extra`` of ``make_bag``."""

    def build(store):
        values = {
            "phase": phase, "name": name, "instruction": "pick up the red block", "given_by": "goal", "outcome": 0,
            "succeeded": False, "fault": "", "message": "", "from_start": False, "actions": 0, "elapsed": 0.0,
            "unnorm_key": KEY, "model_digest": "", "about": "{}", **fields,
        }  # fmt: skip
        return store.types[TYPE](header=header(store, START), **values)

    return ("/act/episode_record", TYPE, START + phase * 12 * PERIOD, build)


@pytest.fixture
def episodes(make_bag, tmp_path):
    """Two episodes, a bag that is none of ours, one that is cut off at its first byte, and what else lies about."""
    folder = tmp_path / "episodes"
    folder.mkdir()
    ends = {"a": {"outcome": 1, "succeeded": True}, "b": {"outcome": 5, "fault": "IMAGE_STALE"}}
    for name, end in ends.items():
        end = {"from_start": True, "actions": 3, "elapsed": 1.5, **end}
        make_bag(f"episodes/{name}", frames=3, instruction=None, extra=[record(name, 0), record(name, 1, **end)])
    (folder / "cut").mkdir()
    (folder / "cut" / "episode_0.mcap").write_bytes(b"\x89MCAP")
    (folder / ".recorder-host-1-1" / "episode").mkdir(parents=True)
    (folder / "notes.txt").write_text("")
    return folder


def options(bag, out, **more):
    given = {"model": str(MODEL), "presets": ("autoregressive", "fastest"), "period": 0.0, "cpu_threads": 1}
    return Options(**{"bag": bag, "out": out, **given, **more})


def test_episodes_are_told_from_other_folders(episodes, make_bag):
    assert [path.name for path in bags_in(episodes)] == ["a", "b", "cut"]
    assert bags_in(episodes / "a") == [], "a recording itself"
    assert bags_in(episodes / "notes.txt") == []
    assert bags_in(episodes / "nowhere") == []
    assert told_by(Bag(make_bag("plain"))) is None


def test_a_bag_says_how_its_own_episode_ended_and_not_the_next(make_bag):
    extra = [record("other", 1, outcome=9), record("a", 0), record("a", 1, outcome=2), record("next", 0)]
    told = told_by(Bag(make_bag("a", frames=1, extra=extra)))
    assert (told.name, told.outcome) == ("a", "TIME_LIMIT")
    cut = told_by(Bag(make_bag("cut", frames=1, extra=[record("cut", 0)])))
    assert (cut.outcome, cut.succeeded, cut.from_start) == ("UNKNOWN", False, False)


def test_the_folder_is_replayed_as_one_and_success_is_told_apart(episodes, tmp_path):
    said = []
    result = replay(options(episodes, tmp_path / "out"), said.append)
    rows = list(result.rows())
    assert [(row["episode"], row["fresh"], row["index"]) for row in rows] == [
        ("a", True, 0), ("a", False, 1), ("a", False, 2), ("b", True, 3), ("b", False, 4), ("b", False, 5),
    ]  # fmt: skip
    assert {row["instruction"] for row in rows} == {"pick up the red block"}, "of the record; no topic says it"
    assert result.summary[0]["images"] == 6
    assert result.successful[0]["images"] == 3
    assert [(one["name"], one["outcome"], one["images"]) for one in result.episodes] == [
        ("a", "SUCCEEDED_AT_REST", 3), ("b", "FAULT", 3),
    ]  # fmt: skip
    assert any("left out" in line and "cut" in line for line in said)
    assert any("same times" in line for line in said), "both bags have the same stamps"
    content = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert content["summary_of_successful"][0]["images"] == 3
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Episodes: 1 of 2 succeeded" in page
    assert "IMAGE_STALE" in page
    again = replay(options(episodes, tmp_path / "out"))
    assert again.counts["continued_from_row"] == 6


def test_the_command_line_shows_outcomes(episodes, tmp_path, capsys):
    arguments = ["--model", str(MODEL), "--out", str(tmp_path / "o"), "--presets", "fastest", "--period", "0"]
    assert main(["replay", str(episodes), *arguments, "--cpu-threads", "1"]) == 0
    said = capsys.readouterr().out
    assert "1 of 2 episodes succeeded; outcomes: SUCCEEDED_AT_REST 1, FAULT 1" in said
    assert "of the episodes that succeeded:" in said


def test_statistics_of_the_recording_are_asked_of_the_model(make_bag, tmp_path):
    bag = make_bag("other", frames=1, extra=[record("other", 0, unnorm_key="bridge_orig", model_digest="of another")])
    with pytest.raises(Exception, match="bridge_orig"):
        replay(options(bag, tmp_path / "out"))
    said = []
    replay(options(bag, tmp_path / "out", unnorm_key=KEY, report=False), said.append)
    assert any("recorded with other statistics (bridge_orig)" in line for line in said)
    assert any("recorded with another model (of another)" in line for line in said)


def test_actions_that_the_recorder_did_not_hear_are_told(episodes, tmp_path):
    said = []
    replay(options(episodes / "a", tmp_path / "out", report=False), said.append)
    assert any("3 actions that were begun are not in the bags" in line for line in said)


def test_episodes_of_two_statistics_are_refused(make_bag, tmp_path):
    for name, key in (("a", KEY), ("b", "bridge_orig")):
        make_bag(f"mixed/{name}", frames=1, extra=[record(name, 0, unnorm_key=key)])
    with pytest.raises(ReplayError, match="several statistics"):
        replay(options(tmp_path / "mixed", tmp_path / "out"))


def test_a_folder_of_what_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "episode_0.mcap").write_bytes(b"\x89MCAP")
    with pytest.raises(BagError, match="none of the recordings"):
        open_bags(tmp_path)


def test_images_under_no_instruction_are_counted_over_all(make_bag, tmp_path):
    make_bag("some/a", frames=2)
    make_bag("some/b", frames=3, instruction=None)
    found = Episodes(open_bags(tmp_path / "some"), Reading(period=0.0))
    assert [frame.episode for frame in found] == ["a", "a"]
    assert (found.used, found.without_instruction, found.images) == (2, 3, 5)
    assert [frame.episode for frame in found.again()] == ["a", "a"]
