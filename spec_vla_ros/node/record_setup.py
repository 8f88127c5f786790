"""What the act node and its process for recordings say to each other: once at the beginning, and then in reports."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

LARGEST = 128 * 1024  # bytes of a message between both processes


@dataclass(frozen=True)
class Setup:
    """What the act node decides. ``root``: folder of the bags. ``keep_free``: bytes. ``topics``: full names of all that
    is recorded; ``required``: those of them that are there before an episode can begin; ``unconfirmed``: those that are
    heard with best effort; ``images``: the one of them that is heard as reliably as everybody publishes it. ``record``:
    topic of the records. ``velocities``: topic of what the arm is told, ``copies``: where the same messages are said
    once more. ``node``: name of this process's node.
    """

    root: str
    keep_free: int
    topics: tuple[str, ...]
    required: tuple[str, ...]
    unconfirmed: tuple[str, ...]
    images: str
    record: str
    velocities: str
    copies: str
    node: str
    namespace: str


@dataclass(frozen=True)
class Report:
    """What this process says. ``at``: steady time. ``spare``: phase of the recorder that waits, "" if there is none.
    ``recording``, ``missed``: numbers of the newest episode that is being recorded, and of the newest that is not, 0 if
    none. ``name``: of the episode that is being recorded. ``trouble``: what is wrong, "" if nothing is. ``free``:
    bytes, -1 if unknown. ``bags``: that are complete. ``last``: the newest of them. ``notes``: that came since the
    last report.
    """

    at: float = 0.0
    spare: str = ""
    recording: int = 0
    missed: int = 0
    name: str = ""
    trouble: str = ""
    free: int = -1
    bags: int = 0
    last: str = ""
    notes: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """For the socket."""
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def from_bytes(data: bytes) -> Report:
        """Raises ``ValueError`` or ``TypeError`` for what is no report."""
        return Report(**json.loads(data))
