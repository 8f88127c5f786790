"""What happens in a fault campaign, as far as the judge (:mod:`.fault_monitor`) has to know. Plain data, no ROS.

All times ``at`` are seconds on this process's steady clock. What was heard on a topic also has ``since``: the last
moment at which nothing was waiting to be read, so that the message arrived between ``since`` and ``at``.

Two processes are watched: :data:`ACT`, the node, and :data:`SAFETY`, its child that publishes the velocities.
"""

from __future__ import annotations

from dataclasses import dataclass

ACT, SAFETY, GROUP = "act", "safety", "group"  # whom a signal goes to; GROUP is both at the same moment


@dataclass(frozen=True)
class Twist:
    """A velocity heard: m/s, rad/s. ``stamp``: s. ``clock``: what the ROS clock showed at least and at most (s).

    ``sent``: when it was published by its stamp, on the steady clock; None where stamps follow simulated time.
    """

    at: float
    since: float
    values: tuple[float, float, float, float, float, float]
    frame: str
    stamp: float
    clock: tuple[float, float]
    sent: float | None = None

    @property
    def certain(self) -> float:
        """A moment before which it was not published for certain: a listener that is late proves nothing."""
        return self.since if self.sent is None else min(self.since, self.sent)


@dataclass(frozen=True)
class Gripper:
    """A gripper command heard."""

    at: float
    since: float

    @property
    def certain(self) -> float:
        """As of a velocity; there is no stamp."""
        return self.since


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
    """The operator asked for these limits: m/s, rad/s, s. ``number`` counts the requests."""

    at: float
    linear: float
    angular: float
    image_timeout: float
    number: int = 0


@dataclass(frozen=True)
class InForce:
    """The node confirmed the limits of this number, and with them all that were asked for before."""

    at: float
    number: int


@dataclass(frozen=True)
class Asked:
    """The operator asked for something: a transition, "dry run off", or "instruction" (a good one).

    "words": good instructions that are part of a fault; they end a hold, and no operator waits for what follows.
    """

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
    """A fault was made. ``within``: s after which nothing may move any more; None where motion may go on.

    ``late``: s by which the node's own words may be late, because the fault keeps it from its work.
    """

    at: float
    kind: str
    within: float | None
    late: float = 0.0


@dataclass(frozen=True)
class Signalled:
    """``whom`` was sent the signal ``name``."""

    at: float
    name: str
    whom: str = ACT


@dataclass(frozen=True)
class Started:
    """The node was started: nothing may move before it is activated."""

    at: float


@dataclass(frozen=True)
class Ended:
    """Both processes are gone, and everything that was sent has been read."""

    at: float


@dataclass(frozen=True)
class Deaf:
    """The listener left the topics of the arm; what is published from here on is not heard."""

    at: float


@dataclass(frozen=True)
class Idle:
    """At this moment nothing was waiting to be read."""

    at: float
