"""One HTML file with everything: figures, plots, the images on which decoders disagree most. Needs no network."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spec_vla_ros.outputs import write_text

from .compare import AXES, UNITS, Comparison, table
from .frames import Commands

COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3")
MOST = 2000  # points of a line; longer recordings are thinned out, and say so

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { border: 1px solid #ccc; padding: .25rem .6rem; text-align: right; }
th:first-child, td:first-child { text-align: left; } img { max-width: 100%; } .warn { color: #a00; }
figure { display: inline-block; margin: .5rem; vertical-align: top; width: 250px; font-size: 13px; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; }
"""


def write(
    path: Path, content: Mapping[str, Any], comparison: Comparison, commands: Commands, pictures: Mapping[int, bytes]
) -> None:
    """Write ``path``. ``content``: as in summary.json; ``pictures``: JPEG by the index of the row."""
    made, counts = content["made_of"], content["counts"]
    parts = [
        f"<!doctype html><meta charset='utf-8'><title>Replay of {html.escape(made['bag']['name'])}</title>",
        f"<style>{_STYLE}</style><h1>Replay of {html.escape(made['bag']['name'])}</h1>",
        f"<p>{_about(made, counts)}</p>",
    ]
    parts += [f"<p class='warn'>{html.escape(line)}</p>" for line in _warnings(content)]
    parts += ["<h2>Decoders</h2>", _table(content["summary"])]
    parts += ["<h2>Distance per axis</h2>", _drift(content["summary"])]
    for title, plot in (
        ("Motion per axis", _trajectory(comparison, commands)),
        ("Tokens accepted in the first pass", _acceptance(comparison)),
        ("Time per action", _latency(comparison)),
    ):
        parts.append(
            f"<h2>{title}</h2><img alt='{title}' src='data:image/png;base64,{base64.b64encode(plot).decode()}'>"
        )
    parts += ["<h2>Images on which decoders disagree most</h2>", _gallery(content["worst"], comparison, pictures)]
    machine = content["machine"]
    parts += [
        "<h2>Made with</h2>",
        f"<p>{html.escape(str(machine['processor']))}, {machine['cores']} cores; times are those of this machine.</p>",
        f"<pre>{html.escape(table(content['summary']))}</pre>",
    ]
    write_text(path, "\n".join(parts))


def _about(made: Mapping[str, Any], counts: Mapping[str, Any]) -> str:
    text = (
        f"{counts['images_used']} images of {made['image_topic']}, one per {made['period']:g} s, model {made['model']} "
        f"({made['unnorm_key']}, {made['dtype']} on {made['device']}), acceptance {_acceptance_of(made)}, "
        f"draft depth {made['draft_depth']}. Each decoder starts from its own earlier actions; the recorded arm "
        "moved as it did then, whatever they say."
    )
    return html.escape(text)


def _acceptance_of(made: Mapping[str, Any]) -> str:
    mm, mrad = made["acceptance_mm"], made["acceptance_mrad"]
    text = f"radius {mm:g} mm, {mrad:g} mrad" if mm or mrad else f"radius {made['acceptance_radius']} bins"
    text += f", gripper {made['gripper_radius']} bins" if made["gripper_radius"] else ""
    text += f", sum {made['acceptance_sum']} bins" if made["acceptance_sum"] else ""
    return text + (f", second look {made['second_look']:g} nats" if made["second_look"] else "")


def _warnings(content: Mapping[str, Any]) -> list[str]:
    counts = content["counts"]
    lines = [content["broken"]] if content["broken"] else []
    lines += [f"left out: {line}" for line in content["left_out"]]
    lines += [
        f"{number} images: {reason}" for reason, number in {**counts["images_unreadable"], **counts["errors"]}.items()
    ]
    lines += [f"instruction refused: {reason}" for reason in counts["instructions_refused"][:5]]
    if counts["images_without_instruction"]:
        lines.append(f"{counts['images_without_instruction']} images came before any instruction")
    if counts["actions_not_commanded"]:
        lines.append(f"{counts['actions_not_commanded']} recorded actions were not given to the arm: not compared")
    return lines


def _table(summary: Sequence[Mapping[str, Any]]) -> str:
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
    reference = summary[0]["compared_with"]
    return (
        _html_table(head.split("|"), rows)
        + f"<p>Compared with {html.escape(reference)}, {summary[0]['images']} images.</p>"
    )


def _drift(summary: Sequence[Mapping[str, Any]]) -> str:
    head = ["preset", "", *(f"{axis} {unit}".strip() for axis, unit in zip(AXES, UNITS, strict=True))]
    rows = []
    for row in summary[1:]:
        for name in ("mean", "p99", "max"):
            rows.append((row["preset"], name, *(f"{value:.2f}" for value in row["drift_si"][name])))
    for row in summary:
        if told := row.get("against_recorded"):
            for name in ("mean", "p99", "max"):
                cells = (*(f"{value:.2f}" for value in told[name]), "")
                rows.append((f"{row['preset']} against the recording", name, *cells))
    return _html_table(head, rows) if rows else "<p>One decoder, and no recorded motion to compare with.</p>"


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{body}</table>"


def _gallery(worst: Sequence[Sequence[Any]], comparison: Comparison, pictures: Mapping[int, bytes]) -> str:
    figures = []
    for index, preset, bins in worst:
        if index not in pictures or not bins:
            continue
        source = base64.b64encode(pictures[index]).decode()
        figures.append(
            f"<figure><img alt='image {index}' src='data:image/jpeg;base64,{source}'><figcaption>image {index}: "
            f"{html.escape(preset)} is {bins} bins from {html.escape(comparison.presets[0])}</figcaption></figure>"
        )
    return "".join(figures) or "<p>There is none: all decoders say the same.</p>"


def _thinned(comparison: Comparison) -> np.ndarray:
    step = max(1, -(-len(comparison) // MOST))
    return np.arange(0, len(comparison), step)


def _trajectory(comparison: Comparison, commands: Commands) -> bytes:
    chosen = _thinned(comparison)
    seconds = 1e-9 * (np.array(comparison.stamps, dtype=np.int64) - comparison.stamps[0])[chosen]
    figure, axes = _figure(len(AXES), 1.5)
    for axis, plot in enumerate(axes):
        scale = 1e3 if axis < 6 else 1.0
        for colour, preset in zip(COLOURS, comparison.presets, strict=False):
            values = np.array(comparison.values[preset])[chosen, axis] * scale
            plot.plot(seconds, values, lw=0.9, color=colour, label=preset)
        if axis < 6:
            told = [commands.at(comparison.stamps[index], comparison.period) for index in chosen]
            if any(motion is not None for motion in told):
                values = [np.nan if motion is None else motion[axis] * scale for motion in told]
                plot.plot(seconds, values, lw=0.9, ls=":", color="#222", label="recorded")
        plot.set_ylabel(f"{AXES[axis]} {UNITS[axis]}".strip())
    axes[0].legend(ncol=5, fontsize=8, loc="upper right")
    axes[-1].set_xlabel(
        "s of the recording" + ("" if len(chosen) == len(comparison) else f", every {chosen[1]}th action")
    )
    return _png(figure)


def _acceptance(comparison: Comparison) -> bytes:
    chosen = _thinned(comparison)
    seconds = 1e-9 * (np.array(comparison.stamps, dtype=np.int64) - comparison.stamps[0])
    figure, (plot,) = _figure(1, 2.6)
    window = max(1, min(25, len(comparison) // 4))
    for colour, preset in zip(COLOURS, comparison.presets, strict=False):
        first, ones = np.array(comparison.first[preset], float), np.ones(window)
        smooth = np.convolve(first, ones, mode="same") / np.convolve(np.ones_like(first), ones, mode="same")
        plot.plot(seconds[chosen], smooth[chosen], lw=1.1, color=colour, label=preset)
    plot.set_ylabel(f"tokens, mean of {window}")
    plot.set_xlabel("s of the recording")
    plot.legend(ncol=5, fontsize=8)
    return _png(figure)


def _latency(comparison: Comparison) -> bytes:
    figure, (plot,) = _figure(1, 2.6)
    every = np.concatenate([comparison.milliseconds[preset] for preset in comparison.presets])
    edges = np.linspace(0, np.percentile(every, 99.5) * 1.05, 60)
    for colour, preset in zip(COLOURS, comparison.presets, strict=False):
        plot.hist(comparison.milliseconds[preset], bins=edges, histtype="step", lw=1.3, color=colour, label=preset)
    plot.set_xlabel("ms per action")
    plot.set_ylabel("actions")
    plot.legend(fontsize=8)
    return _png(figure)


def _figure(count: int, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, height * count), layout="constrained")
    return figure, np.atleast_1d(figure.subplots(count, 1, sharex=True))


def _png(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=90)
    return stream.getvalue()
