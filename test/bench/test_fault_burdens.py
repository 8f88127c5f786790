"""Burdens on the machine are bounded, and given back."""

import os
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
            burdens.SharedMemory(tmp_path).fill()
    assert os.listdir(tmp_path) == []


def test_shared_memory_is_filled_but_for_a_rest_and_given_back(monkeypatch, tmp_path):
    room(monkeypatch, 6 * MB)
    shared = burdens.SharedMemory(tmp_path)
    shared.fill()
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size == 6 * MB - burdens.LEFT
    shared.repair()
    shared.repair()
    assert os.listdir(tmp_path) == []
