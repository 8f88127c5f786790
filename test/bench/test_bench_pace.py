"""Tasks at the speed of known hardware, in emulated time."""

import json

import numpy as np
import pytest

from spec_vla_ros.bench.pace import hardware
from spec_vla_ros.bench.pace.drive import Drive, Driven, Table
from spec_vla_ros.bench.pace.pace import Options, Row, figures, line, measure, rows_of
from spec_vla_ros.cli import main
from spec_vla_ros.installed import TABLETOP, model_folder
from spec_vla_ros.policy import ScriptedPolicy
from spec_vla_ros.policy_types import DecodeReport, DecodeSettings
from spec_vla_ros.tabletop.tasks import TASKS
from spec_vla_ros.tolerance import Tolerance


def report(*drafters, depth=6):
    """Of an action whose passes verified rows of these drafters."""
    passes, dims = len(drafters), 7
    return DecodeReport(
        "speculative", passes, (0,) * passes, (0,) * passes, drafters, ("verifier",) * dims, 0,
        Tolerance.of_bins((0,) * dims, (1.0,) * dims), depth, "verifier",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("drafters", "ms"),
    [
        (("",) * 7, 55.3 + 6 * 17.9),
        (("sweep+forecast",), 54.9),
        (("sweep", "refine"), 54.9 + 18.8),
        (("vision",), 54.9 + 6 * 1.9),
        (("vision", "refine"), 54.9 + 6 * 1.9 + 18.8),
        (("", "eagle", "eagle"), 55.3 + 2 * (18.8 + 6 * 1.9)),
        (("hold", "second_look"), 54.9 + 17.9),
        (("hold", "second_look+hold"), 54.9 + 18.8),
    ],
)
def test_an_action_takes_what_its_passes_take_on_the_hardware(drafters, ms):
    assert hardware.RTX_4090.seconds(report(*drafters), "any") == pytest.approx(1e-3 * ms)


def test_computed_hardware_is_quicker_where_the_data_sheet_says_so():
    fast, slow = hardware.known("H200"), hardware.computed("4090")
    assert (fast.kind, slow.kind) == ("computed", "computed")
    for drafters in (("",) * 7, ("sweep",), ("", "eagle")):
        assert fast.seconds(report(*drafters), "any") < slow.seconds(report(*drafters), "any") / 2
    assert fast.seconds(report(*("",) * 7), "any") == pytest.approx(0.0208, rel=0.1)


def test_own_hardware_is_what_bench_latency_measured(tmp_path):
    rows = [
        {"preset": "", "precision": "bfloat16", "device": "GPU", "mean_ms": 9.0},
        {"preset": "autoregressive", "precision": "bfloat16", "device": "GPU", "mean_ms": 70.0, "passes_mean": 7.0,
         "one_pass_ms": None},
        {"preset": "fastest", "precision": "bfloat16", "device": "GPU", "mean_ms": 12.0, "passes_mean": 1.25,
         "one_pass_ms": {"median": 10.0, "p99": 11.0}},
        {"preset": "fastest", "precision": "int8", "device": "GPU", "mean_ms": 99.0, "passes_mean": 1.0,
         "one_pass_ms": {"median": 99.0, "p99": 99.0}},
    ]  # fmt: skip
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"rows": rows}))
    own = hardware.known(str(path))
    assert own.name == "GPU"
    assert own.kind == "own"
    assert own.seconds(report(*("",) * 7), "autoregressive") == pytest.approx(0.07)
    assert own.seconds(report("vision"), "fastest") == pytest.approx(0.01)
    assert own.seconds(report("vision", "refine"), "fastest") == pytest.approx(0.018)
    with pytest.raises(ValueError, match="no row of spec_vla; there are: autoregressive, fastest"):
        own.seconds(report("", "eagle"), "spec_vla")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": []}', '{"rows": [{"preset": "fastest"}]}', "\x00"])
def test_a_file_that_is_no_measurement_is_refused_by_name(tmp_path, text):
    path = tmp_path / "foreign.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"foreign\.json is no JSON of bench latency"):
        hardware.known(str(path))


def test_hardware_that_nobody_knows_is_refused(capsys):
    assert main(["bench", "pace", "--latencies", "Voodoo", "--episodes", "1"]) == 2
    assert "nothing is known of 'Voodoo'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def table():
    return Table(32)


def drive(table, values, steady, ms, compensation="none"):
    policy = ScriptedPolicy(values, 7)
    how = Drive(steady, compensation, 0.2, DecodeSettings(), lambda report: 1e-3 * ms)
    return table.run(policy, how, TASKS[0], 5_000_000)


STROKE = [[0.0, 0.0, 0.01, 0, 0, 0, 1.0]] * 4 + [[0.0] * 6 + [1.0]] * 400


@pytest.mark.parametrize("steady", [False, True])
@pytest.mark.parametrize("ms", [10.0, 160.0])
def test_the_arm_travels_what_it_is_told_whatever_the_pace(table, steady, ms):
    driven = drive(table, STROKE, steady, ms)
    assert not driven.success
    assert driven.seconds == pytest.approx(TASKS[0].time_limit)
    assert driven.tool[-1][2] - driven.tool[0][2] == pytest.approx(0.04, abs=2e-3)


def test_a_blocking_arm_waits_for_an_image_and_its_answer_and_a_steady_one_does_not(table):
    moving = [[0.0, 0.002 * (-1) ** (n // 8), 0, 0, 0, 0, 1.0] for n in range(400)]
    blocking, steady = (drive(table, moving, pacing, 60.0) for pacing in (False, True))
    assert 0.08 < np.median(blocking.late) < 0.08 + 1 / 30 + 0.011, "a frame, its delivery, the inference"
    assert blocking.standstill == pytest.approx(np.median(blocking.late) / (0.2 + np.median(blocking.late)), abs=0.05)
    assert max(steady.late) == pytest.approx(0.0, abs=1e-6)
    assert steady.standstill < 0.01
    assert 0.08 < np.median(steady.ages) < 0.08 + 1 / 30 + 0.011
    assert steady.actions > 1.3 * blocking.actions


def test_rows_say_that_they_are_emulated_and_compare_with_plain_decoding_that_waits(tmp_path):
    presets = ("autoregressive", "fastest")
    todo = rows_of(presets, ("blocking", "steady"), ("catch_up",), ("RTX 4090",), (0.2,))
    rows = measure(todo, Options(model_folder(TABLETOP), episodes=1), lambda line: None)
    assert [(row["preset"], row["pacing"], row["compensation"]) for row in rows] == [
        ("autoregressive", "blocking", "none"), ("autoregressive", "steady", "catch_up"),
        ("fastest", "blocking", "none"), ("fastest", "steady", "catch_up"),
    ]  # fmt: skip
    assert all("RTX 4090" in row["emulated"] and row["latency_kind"] == "published" for row in rows)
    assert rows[0]["task_time_ratio"] == 1.0
    assert rows[3]["task_time_ratio"] < 0.8
    assert rows[0]["standstill_share"] > 0.4 > 0.05 > rows[3]["standstill_share"]
    assert json.dumps(rows, allow_nan=False)


def test_a_row_without_a_success_is_a_row():
    failed = Driven(TASKS[0], seconds=9.0, inferences=[0.07], passes=[1])
    row = figures(Row("fastest", "steady", "catch_up", "RTX 4090"), hardware.RTX_4090, [failed])
    assert row["task_time_mean"] is None
    assert row["task_time_all"] == 9.0
    assert "no success" in line(row)
