"""What the node wants of the safety loop, and what the loop says back: plain data, as bytes on a socket.

Every message is the whole of it, not a change: one that is lost, late or read twice does no harm, the newest counts.
Times are seconds on the steady clock (CLOCK_MONOTONIC), which all processes of a machine share.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields

from .watchdog import Fault, Limits

LARGEST = 16384  # bytes of a message; the node's own are a tenth of that
LONGEST_TEXT = 1000  # characters of a fault's texts; an exception may quote whatever it was given


class IntentError(ValueError):
    """Bytes that are no message of ours."""


@dataclass(frozen=True)
class Step:
    """One action's motion. ``number`` counts from 1 and never comes again within a run; a larger one replaces it.

    ``twist``: (6,) m/s and rad/s, base axes, within the speed limits. ``seconds``: for how long. ``made_at``: when it
    was decided; an old one is refused.
    """

    number: int
    twist: tuple[float, ...]
    seconds: float
    made_at: float


@dataclass(frozen=True)
class Pose:
    """Where the tool is. ``position``: (3,) m in the base frame, for the workspace box; None if there is no box.

    ``rotation``: (4,) quaternion x y z w of the base axes in the command frame; None if they are the same.
    ``at``: when both were true; None for what never changes.
    """

    position: tuple[float, ...] | None
    rotation: tuple[float, ...] | None
    at: float | None


@dataclass(frozen=True)
class Intent:
    """The node to the loop.

    ``at``: when it was sent, which makes it the heartbeat. ``run``: number of the activation, 0 while not active.
    ``commanding``: the arm shall hear it; false in a dry run. ``step``: None = stand still, and nothing follows.
    ``following``: begins where ``step`` ends, without a gap, or at once if that is over. ``steps``: number of the
    newest step that was decided, also if it was taken back since. ``fault``: latched by the node. ``captured_at``: of
    the newest image, None before the first. ``busy_since``: start of the inference under way. ``limits``: of ages and
    speeds. ``box``: corners (3,) (3,) of the workspace in m; None = none. ``pose``: needed while moving if
    ``needs_pose``. ``simulated``: stamps follow ``/clock``. ``leave``: zero, then end.
    """

    at: float
    run: int = 0
    commanding: bool = False
    step: Step | None = None
    steps: int = 0
    fault: Fault | None = None
    captured_at: float | None = None
    busy_since: float | None = None
    limits: Limits = field(default_factory=Limits)
    box: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    pose: Pose | None = None
    needs_pose: bool = False
    simulated: bool = False
    leave: bool = False
    following: Step | None = None

    def to_bytes(self) -> bytes:
        """At most :data:`LARGEST` bytes; texts of the fault are shortened."""
        return _pack(self)

    @staticmethod
    def from_bytes(data: bytes) -> Intent:
        """The reverse; :class:`IntentError` for anything else, numbers that are not finite included."""
        raw = _unpack(data, Intent)
        try:
            for name in ("step", "following"):
                if raw[name] is not None:
                    step = Step(**raw[name])
                    raw[name] = Step(step.number, _vector(step.twist, 6), step.seconds, step.made_at)
            if raw["fault"] is not None:
                raw["fault"] = Fault(**raw["fault"])
            raw["limits"] = Limits(**raw["limits"])
            if raw["box"] is not None:
                low, high = raw["box"]
                raw["box"] = (_vector(low, 3), _vector(high, 3))
            if raw["pose"] is not None:
                pose = Pose(**raw["pose"])
                raw["pose"] = Pose(
                    None if pose.position is None else _vector(pose.position, 3),
                    None if pose.rotation is None else _vector(pose.rotation, 4),
                    pose.at,
                )
            return Intent(**raw)
        except (TypeError, ValueError, OverflowError) as error:
            raise IntentError(f"not an intent: {error}") from error


@dataclass(frozen=True)
class Report:
    """The loop to the node.

    ``at``: when. ``heard``: ``at`` of the newest intent that was taken; a report with a smaller one was under way when
    that intent was sent, and confirms nothing. ``run``: as last heard. ``on_wire``: velocities are being published, the
    last zeros included. ``step``: number of the newest step that was looked at, ``accepted``: whether it was begun,
    ``commanded``: and an arm was told so (these stay known when the run is over), ``moving``: whether it is under way,
    ``began_at``: when its first velocity was due, 0.0 before. ``held_back``: (6,) m and rad, base axes, that limits and
    the box have taken off all velocities of this run so far. ``zero_at``: when the first zero after the step was sent.
    ``fault``: latched by the loop. ``listeners``: matched subscriptions. ``newcomers``: how often one more came while
    driving. ``at_wall``: meetings with the box. ``intervals``: ms between two velocities during the last second or so:
    median, p99, largest; empty if there were none. ``ready``: the publisher exists; ``gid``: its identifier in the
    graph, hexadecimal, if known. ``priority``: how the process is scheduled.
    """

    at: float
    heard: float = 0.0
    run: int = 0
    on_wire: bool = False
    step: int = 0
    accepted: bool = False
    commanded: bool = False
    moving: bool = False
    zero_at: float = 0.0
    fault: Fault | None = None
    listeners: int = 0
    newcomers: int = 0
    at_wall: int = 0
    intervals: tuple[float, ...] = ()
    ready: bool = False
    gid: str = ""
    priority: str = ""
    began_at: float = 0.0
    held_back: tuple[float, ...] = (0.0,) * 6

    def to_bytes(self) -> bytes:
        """At most :data:`LARGEST` bytes."""
        return _pack(self)

    @staticmethod
    def from_bytes(data: bytes) -> Report:
        """The reverse; :class:`IntentError` for anything else."""
        raw = _unpack(data, Report)
        try:
            if raw["fault"] is not None:
                raw["fault"] = Fault(**raw["fault"])
            raw["intervals"] = tuple(raw["intervals"])
            raw["held_back"] = _vector(raw["held_back"], 6)
            return Report(**raw)
        except (TypeError, ValueError, OverflowError) as error:
            raise IntentError(f"not a report: {error}") from error


def _pack(message: Intent | Report) -> bytes:
    raw = asdict(message)
    if raw["fault"] is not None:
        raw["fault"] = {name: text[:LONGEST_TEXT] for name, text in raw["fault"].items()}
    data = json.dumps(raw, allow_nan=False, separators=(",", ":")).encode()
    if len(data) > LARGEST:
        raise IntentError(f"a message of {len(data)} bytes, {LARGEST} are allowed")
    return data


def _unpack(data: bytes, kind: type) -> dict:
    if len(data) > LARGEST:
        raise IntentError(f"a message of {len(data)} bytes, {LARGEST} are allowed")
    try:
        raw = json.loads(data, parse_constant=_finite, parse_float=_finite)
    except IntentError:
        raise
    except (ValueError, RecursionError) as error:
        raise IntentError(f"not a message: {error}") from error
    if not isinstance(raw, dict) or raw.keys() != {one.name for one in fields(kind)}:
        raise IntentError(f"not a message of the kind {kind.__name__}")
    return raw


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):  # 1e999 is a number to JSON
        raise IntentError(f"{text} is not finite")
    return value


def _vector(values: Sequence[float], size: int) -> tuple[float, ...]:
    vector = tuple(float(value) for value in values)
    if len(vector) != size or not all(map(math.isfinite, vector)):
        raise IntentError(f"{size} finite numbers expected, got {vector}")
    return vector
