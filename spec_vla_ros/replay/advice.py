"""What the verdicts of :mod:`.verdict` mean for the person who asked, in words, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spec_vla_ros.tolerance import Tolerance

from .compare import AXES, UNITS, Comparison
from .verdict import AUTOREGRESSIVE, MOTIONS, Level, Verdict, differences

FEW = 100  # images; with fewer, what happens once in a hundred is likely not to have happened
MANY = 0.05  # of the actions beyond the radius: no longer a close choice now and then
FASTER, SLOWER = 1.05, 0.95  # of medians; between them nobody would notice
NO_JUDGE = (
    f"Cannot judge: {AUTOREGRESSIVE} decoding, which a verdict compares with, was not replayed. Replay again with it "
    f"among the decoders (--presets {AUTOREGRESSIVE} fastest)."
)
NOTHING_TO_JUDGE = (
    f"Nothing to judge: only {AUTOREGRESSIVE} decoding was replayed. Replay again with a decoder to compare "
    f"(--presets {AUTOREGRESSIVE} fastest)."
)
LABELS = {
    Level.IDENTICAL: "identical",
    Level.WITHIN: "within the radius everywhere",
    Level.BEYOND: "not within the radius everywhere",
}


def title(verdicts: Sequence[Verdict]) -> str:
    """The answer in a line, for the decoder that is nearest to autoregressive decoding."""
    if not verdicts:
        return "Cannot judge"
    best = in_order(verdicts)[0]
    pace = f"{best.times_as_fast:.2f} times as fast" if best.times_as_fast >= FASTER else "no faster"
    if best.level is Level.BEYOND:
        return f"{best.preset}: {len(best.beyond)} of {best.images} actions beyond the radius, {pace}"
    near = "identical" if best.level is Level.IDENTICAL else "in the radius"
    return f"{best.preset}: all {best.images} actions {near}, {pace}"


def answer(verdicts: Sequence[Verdict], presets: Sequence[str]) -> str:
    """Of all decoders in a line, the nearest first: do they do what autoregressive decoding does?"""
    if not verdicts:
        return NOTHING_TO_JUDGE if AUTOREGRESSIVE in presets else NO_JUDGE
    return (
        f"of {verdicts[0].images} actions, beyond what the radius allows of {AUTOREGRESSIVE}: "
        + ", ".join(f"{v.preset} {_count(v)}" for v in in_order(verdicts))
    )  # fmt: skip


def _count(verdict: Verdict) -> str:
    if verdict.level is Level.IDENTICAL:
        return "none (all identical)"
    flips = f" ({len(verdict.flips)} with the gripper the opposite way)" if verdict.flips else ""
    return f"{len(verdict.beyond) or 'none'}{flips}"


def not_judged(comparison: Comparison) -> str:
    """A sentence about images of which some decoder made no action; "" without."""
    failed = sum(comparison.errors.values())
    return f"{failed} of {failed + len(comparison)} images gave an error and are not judged." if failed else ""


def savings(verdict: Verdict) -> str:
    """What the decoder saves, in a sentence."""
    (own, plain), (total, plain_total) = verdict.passes, verdict.total_passes
    return (
        f"{verdict.preset} takes {own:.2f} passes of the language model per action in place of {plain:.2f} "
        f"({share(plain_total - total, plain_total)} saved) and is {speed(verdict)}."
    )


def share(part: int, whole: int) -> str:
    """Per cent, never rounded up to all or down to none."""
    value = 100 * part / whole
    if 0 < part < whole:
        value = min(max(value, 0.1), 99.9)
    return f"{value:.1f} %"


def in_order(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The nearest level first; within it fewer actions beyond the radius, then fewer passes."""
    return sorted(verdicts, key=lambda v: (list(Level).index(v.level), len(v.beyond), v.passes[0]))


def best_level(verdicts: Sequence[Verdict]) -> Level | None:
    """Of the best decoder; None where nothing can be judged."""
    return in_order(verdicts)[0].level if verdicts else None


def outcome(verdict: Verdict, comparison: Comparison) -> str:
    """What the decoder did, in one sentence with its denominator."""
    if verdict.level is Level.IDENTICAL:
        return f"All {verdict.images} actions are those of {AUTOREGRESSIVE} decoding, bin for bin."
    same = f"{verdict.identical} are identical"
    if verdict.level is Level.WITHIN:
        return f"All {verdict.images} actions lie within what the radius allows; {same}."
    at = verdict.furthest
    text = f"{len(verdict.beyond)} of {verdict.images} actions differ by more than the radius allows; {same}. "
    text += f"The furthest, at {moment(comparison, at)}: {'; '.join(differences(comparison, verdict, at))}."
    return text


def apart(verdict: Verdict) -> str:
    """How far the actions are apart, in a sentence; "" where they are not."""
    mm, mrad = verdict.mm, verdict.mrad
    if verdict.level is Level.IDENTICAL:
        return ""
    return (
        f"Of all {verdict.images} the difference is {size(mm.median)} mm and {size(mrad.median)} mrad at the median, "
        f"{size(mm.largest)} mm and {size(mrad.largest)} mrad at most."
    )


def moment(comparison: Comparison, at: int) -> str:
    """The time of a position in the recording."""
    return f"{comparison.seconds_at(at):.1f} s"


def speed(verdict: Verdict) -> str:
    """By the medians. Not "here": the times may be those of a run that was continued elsewhere."""
    factor = verdict.times_as_fast
    if factor >= FASTER:
        return f"{factor:.2f} times as fast where it was measured"
    return f"{'no faster' if factor >= SLOWER else f'slower, {1 / factor:.2f} times as long,'} where it was measured"


def limits(tolerance: Tolerance, radius_si: Sequence[float]) -> str:
    """What acceptance allows an action to differ by, per axis, axes of one limit together."""
    groups: list[tuple[list[str], str]] = []
    for axis, (bins, cost) in enumerate(zip(tolerance.bins[:MOTIONS], tolerance.costs, strict=False)):
        text = "exact" if not bins else f"{radius_si[axis]:.1f} {UNITS[axis]} ({bins} bins)"
        text = text if cost else "never moves"
        if groups and groups[-1][1] == text:
            groups[-1][0].append(AXES[axis])
        else:
            groups.append(([AXES[axis]], text))
    words = ", ".join(f"{' '.join(names)}: {text}" for names, text in [*groups, (["gripper"], "exact")])
    return words + (f"; all together {tolerance.budget} bins" if tolerance.budget else "")


def next_step(verdict: Verdict, made: Mapping[str, Any]) -> str:
    """What to do. ``made``: the settings that the actions were made with, as in the first line of the rows."""
    few = "" if verdict.images >= FEW else (
        f"{verdict.images} images are few: what is rare has hardly had the chance to show. Replay a longer recording. "
    )  # fmt: skip
    if verdict.times_as_fast < FASTER:
        few += "It saved no time where it was measured: measure where it is to run before anything else. "
    if verdict.level is Level.IDENTICAL:
        return few + "Go on to the dry run on the arm (docs/bringup.md)."
    if verdict.level is Level.WITHIN:
        return (
            f"{few}Judge the largest differences above: if your task bears them in any step, go on to the dry run on "
            f"the arm (docs/bringup.md), else {_lower(made)}."
        )
    if not any(verdict.tolerance.bins):
        return (
            f"{few}At radius 0 nothing but rounding can make a difference. Replay with --dtype float32; if it stays, "
            "do not drive the arm with this decoder."
        )
    if len(verdict.beyond) > MANY * verdict.images:
        return (
            f"{few}These are too many to look at one by one. Make sure that model, statistics and camera belong "
            f"together (docs/replay.md, Reading the report); if they do, {_lower(made)}, and replay again."
        )
    text = f"Look at the moments below. {few}"
    if verdict.flips:
        text += (
            "A gripper that does the opposite for an image or two around a grasp grasps a step earlier or later; "
            "anywhere else it lets go of things. "
        )
    return f"{text}Where one of them matters, {_lower(made)}, and replay again."


def _lower(made: Mapping[str, Any]) -> str:
    radius = f"--acceptance-radius {made['acceptance_radius'] // 2}"
    for unit in ("mm", "mrad"):
        if bound := made[f"acceptance_{unit}"]:
            radius += f" --acceptance-{unit} {bound / 2:g}"
    look = max(1.0, 2 * made["second_look"])
    return f"lower the radius ({radius}; 0 is strict) or look twice more often (--second-look {look:g})"


def load_warning(machine: Mapping[str, Any]) -> str:
    """A sentence where other programs ran beside the replay, as far as the load at its end tells; else ""."""
    load, cores = machine.get("load_average") or [0.0], machine["cores"]
    if load[0] <= 1.25 * cores:
        return ""
    return (
        f"The load was {load[0]:.1f} on {cores} cores: other programs ran, and the times are longer than they need be."
    )


def size(value: float) -> str:
    """A distance with one digit after the point, two below one, none for nothing."""
    if not value:
        return "0"
    return f"{value:.2f}" if 0 < abs(value) < 1 else f"{value:.1f}"
