"""What goes through the socket: the same comes out, and what is no message is refused by name."""

import json

import pytest

from spec_vla_ros.motion.intent import LARGEST, Intent, IntentError, Pose, Report, Step
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


@pytest.mark.parametrize("intent", [Intent(at=1.0), FULL])
def test_an_intent_arrives_as_it_was_sent_to_the_last_bit(intent):
    assert Intent.from_bytes(intent.to_bytes()) == intent


def test_a_report_arrives_as_it_was_sent():
    report = Report(
        1.0, 2, True, 3, True, True, True, 0.5, FULL.fault, 4, 5, 6, (10.0, 10.1, 12.0), True, "0a", "normal"
    )
    assert Report.from_bytes(report.to_bytes()) == report


def changed(**fields):
    return json.dumps({**json.loads(FULL.to_bytes()), **fields}).encode()


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
        changed(step={"number": 1, "twist": [0.1] * 5, "seconds": 0.2, "made_at": 1.0}),
        changed(step={"number": 1, "twist": ["x"] * 6, "seconds": 0.2, "made_at": 1.0}),
        changed(step={"number": 1, "twist": [float("nan")] * 6, "seconds": 0.2, "made_at": 1.0}),
        changed(at=float("inf")),
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


def test_a_velocity_that_is_not_finite_does_not_leave_the_node():
    with pytest.raises(ValueError, match="JSON compliant"):
        Intent(at=1.0, step=Step(1, (float("nan"),) * 6, 0.2, 1.0)).to_bytes()


def test_an_exception_that_quotes_a_megabyte_does_not_keep_its_fault_from_the_loop():
    fault = Fault("WORKER_EXCEPTION", "é" * 1_000_000, "read the log")
    data = Intent(at=1.0, fault=fault).to_bytes()
    assert len(data) < LARGEST
    assert Intent.from_bytes(data).fault.name == "WORKER_EXCEPTION"


def test_what_is_too_long_is_refused_before_it_is_read():
    with pytest.raises(IntentError, match="bytes"):
        Intent.from_bytes(b" " * LARGEST + FULL.to_bytes())
