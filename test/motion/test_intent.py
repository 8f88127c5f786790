"""What goes through the socket: the same comes out, and what is no message is refused by name."""

import json

import pytest

from spec_vla_ros.motion.intent import Intent, IntentError, Pose, Report, Step
from spec_vla_ros.motion.watchdog import Fault, Limits

FULL = Intent(
    at=12.5,
    run=3,
    commanding=True,
    step=Step(7, (0.1, -0.2, 0.3, 0.0, 1e-9, 0.1 + 0.2), 0.2, 12.4),
    steps=7,
    fault=Fault("NAME", "what happened", "what to do"),
    captured_at=12.3,
    busy_since=12.2,
    limits=Limits(0.5, 3.0, 2.0, 0.25, 0.4, 0.1, 0.5),
    box=((0.0, -1.0, 0.0), (1.0, 1.0, 1.0)),
    pose=Pose((0.1, 0.2, 0.3), (0.0, 0.0, 0.0, 1.0), 12.45),
    needs_pose=True,
    simulated=True,
    leave=True,
)


NOWHERE = Intent(at=1.0, pose=Pose(None, None, None), needs_pose=True)  # no box, and the axes are the same


@pytest.mark.parametrize("intent", [Intent(at=1.0), FULL, NOWHERE])
def test_an_intent_arrives_as_it_was_sent_to_the_last_bit(intent):
    assert Intent.from_bytes(intent.to_bytes()) == intent


BUSY = Report(
    1.0, 0.9, 2, True, 3, True, True, True, 0.5, FULL.fault, 4, 5, 6, (10.0, 10.1, 12.0), True, "0a", "normal", 0.8,
    (0.0, 0.0, -0.1, 0.0, 0.25, 0.0),
)  # fmt: skip


@pytest.mark.parametrize("report", [Report(at=1.0), BUSY])
def test_a_report_arrives_as_it_was_sent(report):
    assert Report.from_bytes(report.to_bytes()) == report


def test_an_intent_that_says_nothing_but_the_time_asks_for_nothing():
    """The farewell of a deactivated node is such a one."""
    intent = Intent(at=1.0)
    assert (intent.run, intent.steps) == (0, 0), "not active"
    assert (intent.commanding, intent.simulated, intent.needs_pose, intent.leave) == (False,) * 4
    wanted = (intent.step, intent.fault, intent.captured_at, intent.busy_since, intent.box, intent.pose)
    assert wanted == (None,) * 6
    assert (intent.limits.linear, intent.limits.angular, intent.limits.pose) == (0.0, 0.0, 0.0)


def test_before_the_loop_has_said_anything_it_is_taken_to_do_nothing():
    report = Report(at=0.0)
    assert (report.ready, report.on_wire, report.accepted, report.moving) == (False,) * 4
    assert (report.heard, report.run, report.step, report.zero_at) == (0.0, 0, 0, 0.0)
    assert (report.fault, report.intervals, report.gid, report.priority) == (None, (), "", "")
    assert report.held_back == (0.0,) * 6
    assert (report.listeners, report.newcomers, report.at_wall) == (0, 0, 0)


def changed(message=FULL, **fields):
    return json.dumps({**json.loads(message.to_bytes()), **fields}).encode()


def step_of(*twist):
    return {"number": 1, "twist": twist, "seconds": 0.2, "made_at": 1.0}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\xff",
        b"[]",
        b"{}",
        b"[" * 10_000,
        FULL.to_bytes()[:-1],
        Report(at=1.0).to_bytes(),
        changed(unknown=1),
        changed(step={"number": 1}),
        changed(step=step_of(*[0.1] * 5)),
        changed(step=step_of(*["x"] * 6)),
        changed(step=step_of(*[float("nan")] * 6)),
        changed(step=step_of(*[0.1] * 5, "nan")),
        changed(step=step_of(*[0.1] * 5, 10**400)),
        changed(at=float("inf")),
        changed(at="@").replace(b'"@"', b"1e999"),
        changed(limits={"image": 1.0, "speed": 1.0}),
        changed(box=[[0, 0, 0]]),
        changed(box=[[0, 0, 0], [1, 1]]),
        changed(pose={"position": [1, 2], "rotation": None, "at": 1.0}),
        changed(pose={"position": None, "rotation": [1, 2, 3], "at": 1.0}),
        changed(fault={"name": "X"}),
    ],
)
def test_what_is_no_intent_is_refused(data):
    with pytest.raises(IntentError):
        Intent.from_bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        FULL.to_bytes(),
        changed(BUSY, fault={"name": "X"}),
        changed(BUSY, intervals=1.0),
        changed(BUSY, zero_at=float("nan")),
    ],
)
def test_what_is_no_report_is_refused(data):
    with pytest.raises(IntentError):
        Report.from_bytes(data)


def test_a_velocity_that_is_not_finite_does_not_leave_the_node():
    with pytest.raises(ValueError, match="JSON compliant"):
        Intent(at=1.0, step=Step(1, (float("nan"),) * 6, 0.2, 1.0)).to_bytes()


def test_an_exception_that_quotes_a_megabyte_does_not_keep_its_fault_from_the_loop():
    fault = Fault("WORKER_EXCEPTION", "é" * 1_000_000, "read the log")
    data = Intent(at=1.0, fault=fault).to_bytes()
    arrived = Intent.from_bytes(data).fault
    assert (arrived.name, arrived.remedy) == ("WORKER_EXCEPTION", "read the log")
    assert arrived.detail == "é" * 1000, "its beginning"


def test_sixteen_kibibytes_are_read_and_not_a_byte_more():
    data = FULL.to_bytes().ljust(16384)
    assert Intent.from_bytes(data) == FULL
    with pytest.raises(IntentError, match="bytes"):
        Intent.from_bytes(data + b" ")


def test_what_the_other_side_would_not_read_is_not_sent():
    room = 16384 - len(Report(at=1.0).to_bytes())
    full = Report(at=1.0, priority="x" * room)
    assert Report.from_bytes(full.to_bytes()) == full
    with pytest.raises(IntentError, match="bytes"):
        Report(at=1.0, priority="x" * (room + 1)).to_bytes()
