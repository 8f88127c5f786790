"""The tables of the report, which fold, and what was replayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .advice import load_warning
from .compare import AXES, UNITS, Comparison
from .markup import html_table, text


def extent(comparison: Comparison) -> str:
    """How much was compared, of what follows."""
    return f"{len(comparison)} images compared, {comparison.seconds_at(-1):.1f} s of"


def decoders(summary: Sequence[Mapping[str, Any]]) -> str:
    """One row per decoder."""
    head = "preset|equal actions|passes, mean|one pass|accepted in first pass|median ms|p99 ms|gripper differs"
    rows = [
        (
            row["preset"], f"{100 * row['equal_actions']:.1f} %", f"{row['passes_mean']:.2f}",
            f"{100 * row['one_pass_share']:.1f} %", f"{row['accepted_in_first_pass_mean']:.2f}",
            f"{row['inference_ms']['median']:.1f}", f"{row['inference_ms']['p99']:.1f}",
            f"{100 * row['gripper_differs']:.2f} %",
        )
        for row in summary
    ]  # fmt: skip
    return html_table(head.split("|"), rows) + _compared(summary)


def episodes(content: Mapping[str, Any]) -> str:
    """One row per recorded episode, with how it ended."""
    head = "episode|instruction|outcome|succeeded|from the start|actions|s|images replayed"
    rows = [
        (
            one["name"], one["instruction"], one["outcome"] + (f": {one['fault']}" if one["fault"] else ""),
            "yes" if one["succeeded"] else "no", "yes" if one["from_start"] else "no", str(one["actions"]),
            f"{one['elapsed']:.1f}", str(one["images"]),
        )
        for one in content["episodes"]
    ]  # fmt: skip
    return html_table(head.split("|"), rows)


def distances(summary: Sequence[Mapping[str, Any]]) -> str:
    """Mean, p99 and largest per axis: from the first decoder, and from what was recorded."""
    head = ["preset", "", *(f"{axis} {unit}".strip() for axis, unit in zip(AXES, UNITS, strict=True))]
    rows = []
    for row in summary[1:]:
        for name in ("mean", "p99", "max"):
            rows.append((row["preset"], name, *(f"{value:.2f}" for value in row["drift_si"][name])))
    for row in summary:
        if told := row.get("against_recorded"):
            for name in ("mean", "p99", "max"):
                cells = (*(f"{value:.2f}" for value in told[name]), "")
                rows.append((f"{row['preset']} against the recording ({told['images']} images)", name, *cells))
    if not rows:
        return "<p>One decoder, and no recorded motion to compare with.</p>"
    return html_table(head, rows) + _compared(summary)


def _compared(summary: Sequence[Mapping[str, Any]]) -> str:
    return f"<p>Compared with {text(summary[0]['compared_with'])}, {summary[0]['images']} images.</p>"


def made_with(content: Mapping[str, Any]) -> str:
    """What was replayed and how, and what the times were measured on."""
    made, counts = content["made_of"], content["counts"]
    replayed = (
        f"{counts['images_used']} images of {made['image_topic']}, one per {made['period']:g} s, model {made['model']} "
        f"({made['unnorm_key']}, {made['dtype']} on {made['device']}), acceptance {_acceptance(made)}, "
        f"draft depth {made['draft_depth']}. Each decoder starts from its own earlier actions; the recorded arm "
        "moved as it did then, whatever they say."
    )
    return "".join(f"<p>{text(line)}</p>" for line in (replayed, *times_of(content)))


def times_of(content: Mapping[str, Any]) -> list[str]:
    """On which machine times were measured, and what else has to be known of them; in sentences."""
    machine, counts = content["machine"], content["counts"]
    parts = [machine.get("accelerator"), machine["processor"], f"{machine['cores']} cores"]
    name, earlier = ", ".join(str(part) for part in parts if part), counts["continued_from_row"]
    if earlier and earlier >= counts["images_used"]:
        return [f"All times are of an earlier run, and of its machine; this one is {name}."]
    lines = [f"Times were measured on {name}."]
    if earlier:
        lines.append(f"Those of the first {earlier} images are of an earlier run.")
    if load := load_warning(machine):
        lines.append(load)
    return lines


def _acceptance(made: Mapping[str, Any]) -> str:
    mm, mrad = made["acceptance_mm"], made["acceptance_mrad"]
    words = f"radius {made['acceptance_radius']} bins"
    words += f", at most {mm:g} mm" if mm else ""
    words += f", at most {mrad:g} mrad" if mrad else ""
    words += f", sum {made['acceptance_sum']} bins" if made["acceptance_sum"] else ""
    return words + (f", second look {made['second_look']:g} nats" if made["second_look"] else "")


def warnings(content: Mapping[str, Any]) -> list[str]:
    """What was not replayed, and why."""
    counts = content["counts"]
    lines = [content["broken"]] if content["broken"] else []
    lines += content.get("remarks", [])
    lines += [f"left out: {line}" for line in content["left_out"]]
    lines += [
        f"{number} images: {reason}" for reason, number in {**counts["images_unreadable"], **counts["errors"]}.items()
    ]
    if blank := counts.get("images_that_show_nothing"):
        lines.append(
            f"{blank} images are black or of one colour: the camera saw nothing, and no verdict on them means anything"
        )
    lines += [f"instruction refused: {reason}" for reason in counts["instructions_refused"][:5]]
    if counts["images_without_instruction"]:
        lines.append(f"{counts['images_without_instruction']} images came before any instruction")
    if counts["actions_not_commanded"]:
        lines.append(f"{counts['actions_not_commanded']} recorded actions were not given to the arm: not compared")
    return lines
