"""The outermost place: named errors are one line and a status, defects keep their traceback."""

import errno
import signal
import subprocess
import sys
import types

import pytest

from spec_vla_ros import outermost
from spec_vla_ros.errors import CheckpointError, CommandError, UsageError
from spec_vla_ros.ros.children import DemoError


def raising(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (CommandError("no\nsuch \x1b[31mthing"), 1, r"no\nsuch \x1b[31mthing"),
        (DemoError("it ended:\n    its \tlog"), 1, "it ended:\n    its \\tlog"),
        (UsageError("wrong"), 2, "wrong"),
        (CheckpointError("bad\nfile"), 1, f"CHECKPOINT_INVALID: bad file. {CheckpointError.remedy}"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a/b"), 1, "a/b: No such file or directory"),
        (OSError(errno.EXDEV, "Invalid link", "a", None, "b"), 1, "a -> b: Invalid link"),
        (FileNotFoundError("x is in none of: a, b"), 1, "x is in none of: a, b"),
        (MemoryError(), 1, "not enough memory"),
        (ModuleNotFoundError("No mujoco", name="mujoco"), 1, "No mujoco. It needs: pip install 'spec_vla_ros[sim]'"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyboardInterrupt("it goes on"), 130, "interrupted; it goes on"),
        (SystemExit("a text"), 1, "a text"),
    ],
)
def test_what_has_a_name_is_told(capsys, error, status, line):
    assert outermost.run("spec-vla x", raising(error), "sim") == status
    assert capsys.readouterr().err == f"spec-vla x: {line}\n"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"), KeyError("x"), RuntimeError("x"), AssertionError("x"),
        ModuleNotFoundError("No module named 'spec_vla_ros.nothing'", name="spec_vla_ros.nothing"),
    ],
)  # fmt: skip
def test_a_defect_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        outermost.run("spec-vla x", raising(error))


def test_the_status_of_a_command_is_that_of_the_process():
    assert outermost.run("spec-vla x", lambda: 3) == 3
    assert outermost.run("spec-vla x", lambda: None) == 0
    with pytest.raises(SystemExit) as ended:
        outermost.run("spec-vla x", raising(SystemExit(2)))
    assert ended.value.code == 2


def test_sigterm_ends_a_command_like_ctrl_c_with_its_own_status(capsys):
    before = signal.getsignal(signal.SIGTERM)
    assert outermost.run("spec-vla x", lambda: signal.raise_signal(signal.SIGTERM)) == 143
    assert capsys.readouterr().err == "spec-vla x: terminated\n"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_being_started_is_known_before_a_signal_ends_the_command(number):
    """Between fork and the end of ``Popen`` nobody could have ended it: it went on alone."""
    known, before = [], [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]

    def command():
        with outermost.undisturbed():
            signal.raise_signal(number)
            signal.raise_signal(number)
            known.append("child")
        known.append("more")

    assert outermost.run("spec-vla x", command) == 128 + number
    assert known == ["child"]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_signal_that_came_just_before_leaves_none_blocked(monkeypatch):
    """Python handles it on the way out of the call that blocks: whatever cleaned up could not be interrupted any more,
    and whoever it started could not be ended.
    """
    mask, handlers = signal.pthread_sigmask(signal.SIG_BLOCK, ()), []
    block = signal.pthread_sigmask

    def late(how, numbers):
        before = block(how, numbers)
        if how == signal.SIG_BLOCK and numbers:
            raise KeyboardInterrupt
        return before

    with monkeypatch.context() as patched:
        patched.setattr(signal, "pthread_sigmask", late)
        with pytest.raises(KeyboardInterrupt), outermost.undisturbed():
            handlers.append("started")
    try:
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
        assert not handlers
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def test_what_is_started_while_signals_wait_can_be_ended_by_one():
    with outermost.undisturbed():
        child = subprocess.Popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"],
                                 stdout=subprocess.PIPE)  # fmt: skip
    assert child.stdout.readline() == b"up\n"
    child.terminate()
    assert child.wait(30) == -signal.SIGTERM
    child.stdout.close()


def test_a_pipe_that_is_not_standard_output_is_an_error_like_any(capsys):
    assert outermost.run("spec-vla x", raising(BrokenPipeError(errno.EPIPE, "Broken pipe"))) == 1
    assert "Broken pipe" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [(KeyboardInterrupt(), 0, ""), (ImportError("neither ROS 2 nor"), 1, "act: neither ROS 2 nor\n")],
)
def test_a_node_that_is_asked_to_end_or_lacks_a_library_while_it_is_imported(monkeypatch, capsys, error, status, said):
    """Ctrl-C in the second of the imports was a traceback."""
    monkeypatch.setitem(sys.modules, "a_node", types.SimpleNamespace(main=raising(error)))
    assert outermost.main_of("a_node", "act") == status
    assert capsys.readouterr().err == said
