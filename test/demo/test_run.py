"""What happens around the episodes: the plan, the subprocesses, the command line and its errors."""

import signal
import subprocess
import sys
import textwrap
import time

import pytest

from spec_vla_ros import cli
from spec_vla_ros.demo import run as demo
from spec_vla_ros.demo.summary import EpisodeRecord, Setting
from spec_vla_ros.ros import children
from spec_vla_ros.ros.children import Child, DemoError, end_all, environment


@pytest.fixture
def start(tmp_path):
    """Start a module of the given text as a child; ended after the test."""
    children = []

    def start(text, name="the node"):
        module = f"module_{len(children)}"
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(text))
        env = environment(99) | {"PYTHONPATH": str(tmp_path)}
        children.append(Child(name, module, [], tmp_path / f"{module}.log", env))
        return children[-1]

    yield start
    end_all(children)


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_plan_is_the_same_for_the_same_seed_and_mixes_the_tasks():
    assert demo.plan(20, 3) == demo.plan(20, 3)
    assert demo.plan(9, 0) != demo.plan(9, 1)
    assert len({instruction for instruction, _ in demo.plan(9, 0)}) == 9
    assert {instruction.split()[0] for instruction, _ in demo.plan(4, 0)} == {"pick", "put", "touch"}


def test_a_dead_node_is_reported_with_the_end_of_its_log(start):
    child = start("def main():\n    print('the reason')\n    return 3")
    until(lambda: not child.alive)
    with pytest.raises(DemoError, match=r"the node has ended \(exit status 3\)[\s\S]*the reason"):
        child.check()


def test_a_node_is_asked_politely_first(start):
    child = start("""
        import time
        def main():
            print("up", flush=True)
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                print("zero sent", flush=True)
    """)
    until(lambda: "up" in child.tail())
    end_all([child])
    assert "zero sent" in child.tail()
    assert not child.alive


def test_a_node_that_does_not_listen_is_ended_all_the_same(start, monkeypatch):
    monkeypatch.setattr("spec_vla_ros.ros.children.GRACE", 0.1)
    child = start("""
        import signal, time
        def main():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            print("up", flush=True)
            time.sleep(60)
    """)
    until(lambda: "up" in child.tail())
    end_all([child])
    assert not child.alive


def test_a_missing_checkpoint_is_named_before_anything_starts(tmp_path, capsys):
    assert cli.main(["demo", "--out", str(tmp_path), "--model", "models/none"]) == 1
    message = capsys.readouterr().err
    assert "models/none" in message
    assert "train-tabletop" in message


def test_the_line_about_an_episode():
    episode = EpisodeRecord(1, 0, 0, "touch the red block", True, 3.25, 0, 0)
    line = demo.progress(3, 40, Setting.of("training_free"), episode, (2, 3), 130.0)
    assert line.startswith("[ 3/40] training_free")
    for part in ("touch the red block", "success", "2 actions of 2.50 passes", "2.2 min left"):
        assert part in line


def test_other_commands_are_passed_on(monkeypatch):
    seen = []
    fake = type(sys)("spec_vla_ros.tabletop.training.train")
    fake.main = seen.append
    monkeypatch.setitem(sys.modules, "spec_vla_ros.tabletop.training.train", fake)
    assert cli.main(["eval-tabletop", "--episodes", "3"]) == 0
    assert seen == [["eval-tabletop", "--episodes", "3"]]


@pytest.mark.parametrize("arguments", [["demo", "--episodes", "0"], ["unknown"], []])
def test_wrong_arguments_are_one_line_that_names_the_help(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("spec-vla")
    assert "--help tells more" in line


def test_the_model_is_found_in_the_package_or_taken_for_a_hub_id(tmp_path):
    options = demo.Options(tmp_path, "openvla/openvla-7b", 1, 1)
    assert demo._model(options) == "openvla/openvla-7b"
    assert demo._model(demo.Options(tmp_path, str(tmp_path), 1, 1)) == str(tmp_path)
    assert demo._model(demo.Options(tmp_path, "models/none", 1, 1, policy="scripted")) == ""


def test_sigterm_is_taken_like_ctrl_c():
    with pytest.raises(KeyboardInterrupt):
        demo._interrupt(signal.SIGTERM, None)


@pytest.mark.parametrize("which", [1, 2])
def test_a_node_that_is_being_started_ends_with_the_run(monkeypatch, tmp_path, which):
    """Ctrl-C between the beginning of the process and the list of those that are ended left it alone, for ever."""
    started, popen = [], subprocess.Popen

    def interrupted(command, **more):
        started.append(popen([sys.executable, "-c", "import time; time.sleep(60)"], **more))
        if len(started) == which:
            signal.raise_signal(signal.SIGINT)
        return started[-1]

    monkeypatch.setattr(children.subprocess, "Popen", interrupted)
    options = demo.Options(tmp_path, "", 1, 1, policy="scripted")
    try:
        with pytest.raises(KeyboardInterrupt):
            demo.run(options, lambda _: None)
        assert len(started) == which
        assert all(process.poll() is not None for process in started)
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_a_full_disk_is_one_line(monkeypatch, tmp_path, capsys):
    import errno

    def full(options, say):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("spec_vla_ros.demo.run.run", full)
    assert cli.main(["demo", "--policy", "scripted", "--out", str(tmp_path)]) == 1
    assert "No space left on device" in capsys.readouterr().err
