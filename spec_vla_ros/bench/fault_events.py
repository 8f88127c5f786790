"""What happens in a fault campaign, as far as the judge (:mod:`.fault_monitor`) has to know. Plain data, no ROS.

All times ``at`` are seconds on this process's steady clock. What was heard on a topic also has ``since``: the last
moment at which nothing was waiting to be read, so that the message arrived between ``since`` and ``at``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Twist:
    """A velocity heard: m/s, rad/s. ``stamp``: s. ``clock``: what the ROS clock showed at least and at most (s)."""

    at: float
    since: float
    values: tuple[float, float, float, float, float, float]
    frame: str
    stamp: float
    clock: tuple[float, float]


@dataclass(frozen=True)
class Gripper:
    """A gripper command heard."""

    at: float
    since: float


@dataclass(frozen=True)
class Action:
    """An action announced: the motion that it commands (m, rad as a rotation vector) within ``step_dt`` s.

    ``commanded``: false if it says that nothing is sent to the arm, as in a dry run.
    """

    at: float
    since: float
    motion: tuple[float, float, float, float, float, float]
    step_dt: float
    commanded: bool = True


@dataclass(frozen=True)
class Shown:
    """Diagnostics of an active node named a fault. ``latched``: by an error; otherwise the node holds."""

    at: float
    fault: str
    latched: bool


@dataclass(frozen=True)
class Image:
    """The camera published a good image, captured at steady time ``captured`` (s)."""

    at: float
    captured: float


@dataclass(frozen=True)
class Limits:
    """The operator asked for these limits: m/s, rad/s, s."""

    at: float
    linear: float
    angular: float
    image_timeout: float


@dataclass(frozen=True)
class Asked:
    """The operator asked for something: a transition, "dry run off", or "instruction" (a good one)."""

    at: float
    what: str


@dataclass(frozen=True)
class Answered:
    """The node confirmed (or refused) a transition or "dry run on"."""

    at: float
    what: str
    success: bool


@dataclass(frozen=True)
class Injected:
    """A fault was made. ``within``: s after which nothing may move any more; None where motion may go on."""

    at: float
    kind: str
    within: float | None


@dataclass(frozen=True)
class Signalled:
    """The process was sent the signal ``name``."""

    at: float
    name: str


@dataclass(frozen=True)
class Started:
    """A process was started: nothing may move before it is activated."""

    at: float


@dataclass(frozen=True)
class Ended:
    """The process is gone, and everything that it sent was read."""

    at: float


@dataclass(frozen=True)
class Deaf:
    """The listener left the topics of the arm; what is published from here on is not heard."""

    at: float


@dataclass(frozen=True)
class Idle:
    """At this moment nothing was waiting to be read."""

    at: float
