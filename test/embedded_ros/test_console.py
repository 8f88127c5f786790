"""The embedded logger's lines on standard error: one per record, and never a wait for whoever reads them."""

import os
import socket
import sys

import pytest

from spec_vla_ros.embedded_ros import logging as log
from spec_vla_ros.embedded_ros.console import Console


class Stream:
    """Standard error with a file descriptor of its own."""

    def __init__(self, number):
        self.number = number

    def fileno(self):
        return self.number


def report(count):
    return f"{count} lost\n"


@pytest.fixture
def pipe():
    """(reading end, console) of a pipe that is standard error."""
    reading, writing = os.pipe()
    yield reading, Console(Stream(writing))
    os.close(reading)
    os.close(writing)


def fill(console, line="x" * 999 + "\n"):
    """Write until nobody would take more; returns how many lines went in."""
    count = 0
    while console.write(line, report):
        count += 1
        assert count < 10**5
    return count


def drain(reading):
    os.set_blocking(reading, False)
    parts = []
    try:
        while part := os.read(reading, 65536):
            parts.append(part)
    except BlockingIOError:
        pass
    os.set_blocking(reading, True)
    return b"".join(parts).decode()


def test_a_pipe_that_nobody_reads_costs_lines_but_no_time(pipe):
    reading, console = pipe
    assert fill(console) > 10
    assert not any(console.write("lost\n", report) for _ in range(4)), "with a wait this would never end"
    drain(reading)
    assert console.write("again\n", report)
    assert drain(reading) == "5 lost\nagain\n", "the one that did not fit, and four more"
    assert console.write("and on\n", report)
    assert drain(reading) == "and on\n", "told once"


def test_a_line_that_was_cut_does_not_run_into_the_next_one(pipe):
    reading, console = pipe
    assert not console.write("y" * 10**6 + "\n", report)
    cut = drain(reading)
    assert set(cut) == {"y"}
    assert console.write("next\n", report)
    assert drain(reading) == "\n1 lost\nnext\n"


def test_the_description_that_others_share_is_left_as_it_is(pipe):
    _, console = pipe
    fill(console)
    assert os.get_blocking(console._stream.fileno())


def test_another_writer_that_fills_the_pipe_meanwhile_does_no_harm(pipe, monkeypatch):
    """A process beside this one shares the pipe, and there is room when we look but none when we write."""
    if not os.path.exists("/proc/self/fd"):
        pytest.skip("a pipe cannot be opened again here")
    reading, console = pipe
    fill(console, "x" * 4095 + "\n")  # to the last byte

    class Optimist:
        def poll(self, timeout):
            return [(0, 4)]

    monkeypatch.setattr(console._outlet, "_poll", Optimist())
    assert not console.write("lost\n", report)
    assert drain(reading)


def test_a_socket_that_nobody_reads():
    """What systemd gives its services."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        console = Console(Stream(ours.fileno()))
        assert fill(console) > 10
        console._outlet._waits = False  # there is room when we look, but another process is quicker
        fill(console, "x\n")
        assert ours.getblocking()


def test_a_reader_that_has_gone():
    reading, writing = os.pipe()
    os.close(reading)
    assert not Console(Stream(writing)).write("to nobody\n", report)
    os.close(writing)


def test_standard_error_may_be_redirected_in_between(pipe, tmp_path, monkeypatch):
    reading, console = pipe
    console.write("one\n", report)
    with open(tmp_path / "log", "a") as file:
        before, console._stream = console._stream, Stream(file.fileno())
        console.write("two\n", report)
        console._stream = before
    console.write("three\n", report)
    assert drain(reading) == "one\nthree\n"
    assert (tmp_path / "log").read_text() == "two\n"


def test_a_process_without_standard_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert not Console().write("to nobody\n", report)


def test_a_record_is_one_line(capfd):
    logger = log.get_logger("honest")
    logger.error("a name with\n[FATAL] [1.0] [act]: a forged line\x1b[2J")
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("[ERROR]")
    assert "\x1b" not in line
    logger.error("x" * 10**6)
    (line,) = capfd.readouterr().err.splitlines()
    assert len(line) < 2 * log.LONGEST


def test_the_console_of_a_process_survives_a_reader_that_is_stuck(start):
    """The whole way: a node's process whose log nobody reads goes on working."""
    process = start(
        "import sys\n"
        "from spec_vla_ros.embedded_ros.logging import get_logger\n"
        "for number in range(5000):\n"
        "    get_logger('chatty').warning('x' * 100)\n"
        "print('done', flush=True)\n"
    )
    assert process.stdout.readline() == "done\n"
