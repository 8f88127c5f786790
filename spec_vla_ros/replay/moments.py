"""Which images a person should look at: every action beyond what was allowed, the gripper first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .compare import Comparison
from .verdict import AUTOREGRESSIVE, Verdict, differences, shares

PICTURED = 200  # moments with a picture, of 5 to 10 kB each
LISTED = 2000  # moments of the report; all of them stand in summary.json


@dataclass(frozen=True)
class Moment:
    """One image. ``at``: position in the comparison. ``lines``: (decoder, what is beyond), one per decoder.

    ``flip``: whether a gripper does the opposite. ``share``: the largest distance as a share of the radius.
    """

    at: int
    index: int
    seconds: float
    stamp_ns: int
    instruction: str
    lines: tuple[tuple[str, str], ...]
    flip: bool
    share: float


def moments(comparison: Comparison, verdicts: Sequence[Verdict]) -> list[Moment]:
    """Those of all decoders: first the grippers that do the opposite, by time, then the others, the furthest first."""
    share_of = {v.preset: shares(comparison.distances(v.preset, AUTOREGRESSIVE), v.tolerance) for v in verdicts}
    flips = {at for verdict in verdicts for at in verdict.flips}
    beyond: dict[int, list[Verdict]] = {}
    for verdict in verdicts:
        for at in verdict.beyond:
            beyond.setdefault(at, []).append(verdict)
    found = [
        Moment(
            at, comparison.indices[at], comparison.seconds_at(at), comparison.stamps[at], comparison.instructions[at],
            tuple((v.preset, "; ".join(differences(comparison, v, at))) for v in those),
            at in flips, float(max(share_of[v.preset][at] for v in those)),
        )
        for at, those in beyond.items()
    ]  # fmt: skip
    return sorted(found, key=lambda m: (not m.flip, m.at if m.flip else -m.share, m.at))
