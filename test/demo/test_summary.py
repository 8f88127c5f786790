"""The figures of the summary, checked against numbers worked out by hand."""

import numpy as np
import pytest
from recorded_run import MS, SETTINGS, START

from spec_vla_ros.demo.results import action_records, twist_records
from spec_vla_ros.demo.summary import (
    ActionRecord,
    EpisodeRecord,
    TwistRecord,
    overheads_ms,
    summarize_row,
    table,
    within,
)
from spec_vla_ros.figures import histogram, median_p99, wilson_interval
from spec_vla_ros.machine import machine, versions


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 0, 0.0, 1.0), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (76, 100, 0.6677, 0.8331)],
)
def test_wilson_interval(successes, trials, low, high):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


def test_histogram_is_in_numerical_order_with_text_as_keys():
    assert list(histogram([10, 2, 2, 7]).items()) == [("2", 2), ("7", 1), ("10", 1)]


def test_median_and_p99():
    assert median_p99(range(101)) == {"median": 50.0, "p99": 99.0}
    assert median_p99([]) == {"median": None, "p99": None}


def test_records_belong_to_the_episode_in_which_they_were_received():
    episodes = [EpisodeRecord(0, i, 0, "", True, 1.0, 100 * i, 100 * i + 50) for i in range(2)]
    records = [TwistRecord(ns, ns, True) for ns in (0, 50, 51, 99, 100, 150, 151)]
    assert [r.received_ns for r in within(records, episodes)] == [0, 50, 100, 150]


def test_overhead_is_what_remains_without_the_inference():
    action = ActionRecord(START, START, 3, 20.0, ())
    twists = [
        TwistRecord(0, START + ms * MS, moving) for ms, moving in ((5, True), (22, False), (26, True), (36, True))
    ]
    assert overheads_ms([action], twists) == [pytest.approx(6.0)]


def test_an_action_that_did_not_move_the_arm_has_no_overhead():
    action = ActionRecord(START, START, 3, 20.0, ())
    assert overheads_ms([action], [TwistRecord(0, START + 400 * MS, True)]) == []


def test_a_row_of_the_summary(recorded):
    actions, twists = action_records(recorded.recording), twist_records(recorded.recording)
    mine = [episode for episode in recorded.episodes if episode.row == 1]
    row = summarize_row(SETTINGS[1], mine, actions, twists)
    assert row["decoder"] == "speculative"
    assert row["drafters"] == ["hold", "refine"]
    assert (row["acceptance_radius"], row["draft_depth"], row["emit"]) == (9, 6, "verifier")
    assert (row["episodes"], row["success_rate"], row["actions"]) == (2, 0.5, 6)
    assert row["passes_histogram"] == {"2": 4, "3": 2}
    assert row["passes_mean"] == pytest.approx(14 / 6, abs=1e-3)
    assert row["latency_ms"] == {"median": 22.0, "p99": 23.0}
    assert row["image_to_twist_overhead_ms"]["median"] == pytest.approx(4.0)
    assert row["commands_per_second"]["actions"] == pytest.approx(6 / 1.8, abs=1e-3)
    assert row["commands_per_second"]["twist"] == pytest.approx(12 / 1.8, abs=1e-2)


def test_a_row_without_any_action_says_so_instead_of_failing():
    episode = EpisodeRecord(0, 0, 0, "", False, 7.0, START, START + 7000 * MS)
    row = summarize_row(SETTINGS[0], [episode], [], [])
    assert row["passes_mean"] is None
    assert row["latency_ms"]["median"] is None
    assert "0/1" in table([row])


def test_the_table_has_a_line_per_row(recorded):
    actions, twists = action_records(recorded.recording), twist_records(recorded.recording)
    rows = [summarize_row(s, recorded.episodes, actions, twists) for s in SETTINGS]
    lines = table(rows).splitlines()
    assert len(lines) == 4
    assert "hold+refine" in lines[3]


def test_machine_and_versions_are_filled_in():
    assert machine()["cores"] >= 1
    assert versions()["numpy"] == np.__version__
