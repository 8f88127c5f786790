"""Names of recorded episodes: whoever gives an instruction chooses no path, and outcomes mean the same everywhere."""

import re
from pathlib import Path

import pytest

from spec_vla_ros.episode_record import SLUG, Outcome, episode_name, slug
from spec_vla_ros.node import goal

ROOT = Path(__file__).parents[1]
CONSTANT = re.compile(r"^uint8 (\w+)=(\d+)", re.MULTILINE)


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("Pick up the red block.", "pick_up_the_red_block"),
        ("../../etc/passwd", "etc_passwd"),
        ("; rm -rf / & $(reboot)", "rm_rf_reboot"),
        ("--output", "output"),
        (".hidden\n\x00", "hidden"),
        ("pack die Tasse auf den Löffel", "pack_die_tasse_auf_den_loffel"),
        ("拿起杯子", "instruction"),
        ("", "instruction"),
    ],
)
def test_an_instruction_names_nothing_but_itself(instruction, expected):
    assert slug(instruction) == expected


def test_a_long_instruction_is_cut():
    assert len(slug("word " * 1000)) <= SLUG
    assert not slug("a" * (SLUG - 1) + " b").endswith("_")


def test_names_sort_by_time():
    names = [episode_name(seconds, "go") for seconds in (0, 1_700_000_000, 1_700_000_001, 4_000_000_000)]
    assert names[0] == "19700101T000000Z_go"
    assert names == sorted(names)


def test_outcomes_are_those_of_the_message_and_of_goals():
    said = CONSTANT.findall((ROOT / "msg" / "EpisodeRecord.msg").read_text())
    assert {name: int(value) for name, value in said if name not in ("BEGUN", "ENDED")} == {
        one.name: int(one) for one in Outcome
    }
    for one in goal.Outcome:
        assert Outcome[one.name] == one


def test_an_outcome_of_a_later_version_has_a_name():
    assert Outcome.named(2) == "TIME_LIMIT"
    assert Outcome.named(200) == "outcome 200"
