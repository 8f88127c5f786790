"""What ``spec-vla bench soak`` makes of an hour: pauses and whose they are, growth of memory."""

import os
import struct

import pytest

from spec_vla_ros.bench.wire.soak import VELOCITIES, Ear, growth, pauses, resident, waited

MS = 10**6


def sent(*gaps_ms):
    stamps = [10**18]
    for gap in gaps_ms:
        stamps.append(stamps[-1] + gap * MS)
    return stamps


def test_a_pause_without_a_waiting_thread_is_ours():
    stamps = sent(10, 10, 210, 10)
    (found,) = pauses(stamps, [])
    assert found["ms"] == pytest.approx(210)
    assert found["at_s"] == pytest.approx(0.02)
    assert not found["explained"]


@pytest.mark.parametrize(("waited_ms", "explained"), [(200, True), (100, False), (0, False)])
def test_a_pause_is_explained_by_the_time_without_a_core_if_that_leaves_an_ordinary_interval(waited_ms, explained):
    stamps = sent(10, 210, 10)
    (found,) = pauses(stamps, [(stamps[2] - 2 * MS, waited_ms * MS)])
    assert found["explained"] is explained
    assert pauses(stamps, [(stamps[0] - 50 * MS, 200 * MS)])[0]["explained"] is False, "a wait before it is none in it"


def test_ordinary_intervals_are_no_pauses():
    assert pauses(sent(*[10] * 50, 49, 10), []) == []


def test_growth_is_that_after_the_warm_up():
    flat = [(float(at), 400_000) for at in range(0, 3600, 10)]
    assert growth(flat) == 0.0
    leaking = [(float(at), 400_000 + 40 * at) for at in range(0, 3600, 10)]
    assert growth(leaking) == pytest.approx((3545 - 345) * 40 / (400_000 + 345 * 40), rel=0.02)
    assert growth(flat[:20]) is None, "too short to say"


def test_the_ear_keeps_the_stamps_of_velocities_and_nothing_else():
    ear = Ear()
    raw = b"\x00\x01\x00\x00" + struct.pack("<iI", 1_700_000_000, 5) + bytes(60)
    assert ear.add(VELOCITIES, 0, raw) is False
    ear.add(ear.topics[0], 0, raw)
    assert ear.sent_ns == [1_700_000_000 * 10**9 + 5]
    assert len(ear) == 0


def test_memory_and_waiting_time_are_read_from_the_kernel():
    assert resident(os.getpid()) > 10_000
    assert waited(os.getpid())[str(os.getpid())] >= 0


def test_a_process_that_has_ended_has_waited_for_nothing():
    """It ended the thread that watches, with a traceback beside the reason."""
    assert waited(2**22 - 1) == {}


def test_what_was_seen_before_the_node_stopped_is_not_lost(ros, monkeypatch):
    """After an hour a starved machine had cost the whole report."""
    ros.try_shutdown()  # the bench begins by itself
    from spec_vla_ros.bench.wire import soak
    from spec_vla_ros.demo.operator_node import Operator

    driven = Operator.run_episode

    def starved(self, *arguments):
        if arguments[1] == 1:
            raise soak.DemoError("the act node stopped: NODE_SILENT")
        return driven(self, *arguments)

    monkeypatch.setattr(Operator, "run_episode", starved)
    row = soak.measure(soak.Options(minutes=1.0), lambda text: None)
    assert (row["stopped"], row["episodes"]) == ("the act node stopped: NODE_SILENT", 1)
    assert 0 < row["minutes"] < 1
    assert row["velocities"] > 50
    assert "NODE_SILENT" in soak.report(row)
