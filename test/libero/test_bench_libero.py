"""``spec-vla bench libero``: no episode is lost, none runs twice, and figures add up. The simulator is a small one."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import libero_small as small
import pytest
from processes import ROOT, environment

from spec_vla_ros.cli import main
from spec_vla_ros.figures import wilson_interval
from spec_vla_ros.libero.bench import Journal, LiberoBenchError, Parts, measure, read_episodes
from spec_vla_ros.libero.episode import LiberoEpisode
from spec_vla_ros.libero.options import Options
from spec_vla_ros.libero.report import make_rows, report
from spec_vla_ros.libero.world import PACKAGES

PATIENCE = 60.0  # s; the machine may be busy


def parts(driver=small.driver):
    return Parts(small.nothing_missing, small.small_world, driver)


def options(work, **more):
    given = {"suite": "spatial", "model": "small", "presets": ("autoregressive",), "trials": 3, "tasks": (0,)}
    return Options(work=work, **{**given, **more})


def resets(work):
    return sorted(line for path in work.glob("resets-*") for line in path.read_text().splitlines())


def episode(success=True, passes=(1, 2), error="", instruction=""):
    n = len(passes)
    ms = tuple(10.0 * (i + 1) for i in range(n))
    return LiberoEpisode(success, passes, (5,) * n, (6,) * n, ms, 1.0, instruction, error)


# -- the runner


def test_episodes_are_shared_out_and_every_one_runs_once(tmp_path):
    said = []
    given = options(tmp_path, presets=("autoregressive", "fastest"), trials=5, workers=3, devices=("a", "b"))
    rows = measure(given, said.append, parts())
    assert [(row["preset"], row["episodes"], row["successes"]) for row in rows] == [
        ("autoregressive", 5, 5), ("fastest", 5, 5),
    ]  # fmt: skip
    assert resets(tmp_path) == sorted(f"0 {trial} {trial}" for trial in range(5) for _ in range(2))
    counts = [len(path.read_text().splitlines()) for path in sorted(tmp_path.glob("episodes-*.jsonl"))]
    assert counts == [4, 3, 3], "ten episodes, every third one for each"
    devices = {json.loads(path.read_text().splitlines()[0])["device"] for path in tmp_path.glob("episodes-*.jsonl")}
    assert devices == {"a", "b"}
    assert sum(line.startswith(("1/10", "10/10")) for line in said) == 2


def test_a_trial_takes_its_own_initial_state_and_the_seed_goes_on_top(tmp_path):
    measure(options(tmp_path, seed=100), lambda line: None, parts())
    assert resets(tmp_path) == ["0 0 100", "0 1 101", "0 2 102"]
    actions = {key[2]: len(e.passes) for key, e in read_episodes(tmp_path).items()}
    assert actions == {0: 4, 1: 5, 2: 6}


def test_an_episode_that_is_not_won_ends_at_the_limit_of_the_suite(tmp_path):
    (row,) = measure(options(tmp_path, tasks=(1,), trials=1), lambda line: None, parts())
    assert (row["successes"], row["actions"]) == (0, 220)


def test_what_is_done_is_not_done_again_and_more_trials_may_be_asked_for(tmp_path):
    measure(options(tmp_path), lambda line: None, parts())
    measure(options(tmp_path), lambda line: None, parts(small.broken_driver))  # nothing to do: no worker starts
    said = []
    (row,) = measure(options(tmp_path, trials=5, workers=2), said.append, parts())
    assert row["episodes"] == 5
    assert len(resets(tmp_path)) == 5
    assert "5 episodes, 3 of them done" in said[0]


def test_a_line_that_a_kill_cut_short_is_run_again_and_spoils_no_other(tmp_path):
    measure(options(tmp_path), lambda line: None, parts())
    path = tmp_path / "episodes-0.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])  # as a kill in the middle of the last write leaves it
    said = []
    (row,) = measure(options(tmp_path), said.append, parts())
    assert row["episodes"] == 3
    assert "2 of them done" in " ".join(said)
    assert "1 unfinished line" in said[0]
    lines = path.read_bytes().splitlines()
    assert len(lines) == 4, "the torn line keeps its own line"
    assert json.loads(lines[-1])["trial"] == 2


def test_after_a_worker_was_killed_the_rest_stands_and_the_same_command_goes_on(tmp_path):
    given = options(tmp_path, trials=4, workers=2, devices=("first", "second"))
    with pytest.raises(LiberoBenchError, match=r"(?s)worker 1 ended with status -9.*2 of 4 episodes stand"):
        measure(given, lambda line: None, parts(small.dying_driver))
    (row,) = measure(given, lambda line: None, parts())
    assert row["episodes"] == 4
    assert sorted(resets(tmp_path)) == ["0 0 0", "0 1 1", "0 1 1", "0 2 2", "0 3 3"], "only the killed one began twice"


def test_a_model_that_does_not_load_is_said(tmp_path):
    with pytest.raises(LiberoBenchError, match=r"worker 0: OSError: no such model"):
        measure(options(tmp_path), lambda line: None, parts(small.broken_driver))


def test_an_action_that_is_refused_ends_the_episode_as_a_failure_with_its_name(tmp_path):
    (row,) = measure(options(tmp_path), lambda line: None, parts(small.refusing_driver))
    assert row["successes"] == 0
    assert row["errors"] == {"NON_ACTION_TOKEN": 3}
    assert "NON_ACTION_TOKEN" in report([row])


def test_a_preset_without_its_head_is_left_out_and_said(tmp_path):
    said = []
    given = options(tmp_path, presets=("fastest", "training_free"))
    rows = measure(given, said.append, parts(small.driver_without_heads))
    assert [row["preset"] for row in rows] == ["training_free"]
    assert "fastest needs a head that is not there; left out" in said


def test_a_folder_of_another_run_is_refused(tmp_path):
    measure(options(tmp_path), lambda line: None, parts())
    with pytest.raises(LiberoBenchError, match=r"radius was 9, now 5.*another --work"):
        measure(options(tmp_path, radius=5), lambda line: None, parts())


def test_two_runs_in_one_folder_are_refused(tmp_path):
    import fcntl

    tmp_path.joinpath("lock").touch()
    with tmp_path.joinpath("lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LiberoBenchError, match="another run is working"):
            measure(options(tmp_path), lambda line: None, parts())


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import libero_small as small
from spec_vla_ros.libero.bench import Options, Parts, measure
if __name__ == "__main__":
    work = Path(sys.argv[2])
    given = Options(suite="spatial", model="small", work=work, presets=("autoregressive",), trials=2, workers=2)
    try:
        measure(given, lambda line: print(line, flush=True), Parts(small.nothing_missing, small.small_world,
                small.slow_driver))
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.fixture
def running(tmp_path):
    """A bench of slow episodes in a process group of its own, as a shell starts it; its first action has begun."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    work = tmp_path / "work"
    process = subprocess.Popen(
        [sys.executable, str(script), str(Path(__file__).parent), str(work)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env=environment(),
    )  # fmt: skip
    try:
        until(lambda: (work / "began").exists() or process.poll() is not None, "the first action")
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s for {what}"
        time.sleep(0.02)


def members(group):
    """Living processes of a process group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(path.parent.name)
    return found


def test_ctrl_c_ends_all_processes_without_a_traceback(running):
    os.killpg(running.pid, signal.SIGINT)  # a terminal signals the whole group
    text, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130
    assert "interrupted; 0 of 20 episodes stand" in text
    assert "Traceback" not in text
    until(lambda: not members(running.pid), "the workers to end")


def test_workers_end_when_their_parent_is_killed(running):
    os.kill(running.pid, signal.SIGKILL)
    running.communicate(timeout=PATIENCE)
    until(lambda: not members(running.pid), "the workers to end")


# -- figures


def test_the_figures_of_a_row_add_up(tmp_path):
    given = options(tmp_path, presets=("fastest",), tasks=(0, 1), trials=2)
    episodes = {
        ("fastest", 0, 0): episode(passes=(1, 1, 3)),
        ("fastest", 0, 1): episode(success=False, passes=(2,), error="NON_FINITE"),
        ("fastest", 1, 0): episode(passes=(1,), instruction="two"),
        ("fastest", 1, 7): episode(),  # of an earlier run with more trials
        ("autoregressive", 0, 0): episode(passes=(7,)),
    }
    (row,) = make_rows(given, episodes)
    assert (row["episodes"], row["successes"], row["planned"]) == (3, 2, 4)
    assert row["success_interval"] == wilson_interval(2, 3)
    assert [(task["task"], task["successes"], task["episodes"]) for task in row["tasks"]] == [(0, 1, 2), (1, 1, 1)]
    assert row["passes_histogram"] == {"1": 3, "2": 1, "3": 1}
    assert row["passes_mean"] == pytest.approx(8 / 5)
    assert row["one_pass_share"] == pytest.approx(3 / 5)
    assert row["acceptance_length"] == pytest.approx(6 * 5 / 3), "the first pass does not count, as in the paper"
    assert row["tokens_per_pass"] == pytest.approx(35 / 8)
    assert row["accepted_first_pass"] == 5
    assert row["latency_ms"]["median"] == 10.0
    assert row["actions_of_successes"] == 2.0
    assert row["errors"] == {"NON_FINITE": 1}
    text = report([row])
    assert "2 of 3" in text
    assert "(4 planned)" in text
    assert "| 1 two | 1 of 1 (20.7-100.0 %) |" in text


def test_a_row_without_an_action_has_no_figures_and_no_error(tmp_path):
    (row,) = make_rows(options(tmp_path), {("autoregressive", 0, 0): episode(False, (), "NON_FINITE")})
    assert row["passes_mean"] is None
    assert row["latency_ms"] == {"median": None, "p99": None}
    assert "0 of 1" in report([row])


def test_what_the_journal_writes_is_what_is_read(tmp_path):
    journal = Journal(tmp_path / "episodes-0.jsonl")
    written = {("fastest", task, trial): episode(passes=(task + 1, trial + 1)) for task in (0, 1) for trial in (0, 1)}
    for key, one in written.items():
        journal.append(key, one, "cpu")
    journal.close()
    assert read_episodes(tmp_path) == written


# -- the command


@pytest.mark.skipif(importlib.util.find_spec("robosuite") is not None, reason="LIBERO's packages are installed")
def test_without_the_packages_the_command_says_in_one_line_how_to_get_them(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "libero", "--suite", "goal", "--model", "none"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "robosuite" in line
    assert "pip install" in line
    assert not list(tmp_path.iterdir()), "nothing is begun in vain"


@pytest.mark.parametrize("wrong", [["--trials", "51"], ["--tasks", "10"], ["--suite", "90"], ["--presets", "quick"]])
def test_what_cannot_be_is_refused(wrong, capsys):
    with pytest.raises(SystemExit):
        main(["bench", "libero", "--suite", "goal", "--model", "none", *wrong])


def test_the_documentation_names_the_packages_that_the_error_names():
    assert f"pip install --no-deps {PACKAGES}" in (ROOT / "docs" / "libero.md").read_text()
