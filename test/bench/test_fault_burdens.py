"""Burdens on the machine are bounded, and given back."""

import os
import subprocess
import sys
import time
import types

import pytest

from spec_vla_ros.bench.wire import fault_burdens as burdens

MB = 1024 * 1024


def room(monkeypatch, free):
    usage = types.SimpleNamespace(f_bavail=free // 4096, f_frsize=4096)
    monkeypatch.setattr(burdens.os, "statvfs", lambda folder: usage)


def test_memory_is_taken_within_bounds(monkeypatch):
    def meminfo(kilobytes):
        text = f"MemTotal: 99 kB\nMemAvailable: {kilobytes} kB\n"
        monkeypatch.setattr(burdens.Path, "read_text", lambda path: text)

    meminfo(1_000_000)
    assert burdens.memory_to_take() == int(0.7 * 1_024_000_000)
    meminfo(100_000_000)
    assert burdens.memory_to_take() == burdens.LARGEST


@pytest.mark.parametrize(("free", "possible"), [(64 * MB, True), (2048 * MB, False), (3 * MB, False)])
def test_only_a_small_shared_memory_is_filled(monkeypatch, tmp_path, free, possible):
    room(monkeypatch, free)
    assert (burdens.why_no_shared_memory(tmp_path) == "") == possible
    if not possible:
        with pytest.raises(OSError, match="MB free"):
            burdens.shared_memory_to_take(tmp_path)
    else:
        assert burdens.shared_memory_to_take(tmp_path) == free - burdens.LEFT


def test_shared_memory_is_taken_by_a_process_of_its_own_and_given_back_when_that_is_killed():
    """Filled in the campaign's own thread, its clock stood still and stamps of that time looked wrong."""
    folder = burdens.SHARED

    def free():
        usage = os.statvfs(folder)
        return usage.f_bavail * usage.f_frsize

    if free() < 64 * MB:
        pytest.skip(f"{folder} is nearly full")
    before = free()
    command = [sys.executable, "-m", burdens.__name__, "shared", str(32 * MB)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        until(lambda: before - free() >= 30 * MB)
        process.kill()
    until(lambda: before - free() < 8 * MB)


def until(condition, timeout=20.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
