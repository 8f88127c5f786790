"""What the plots of the report show, as traces and layouts of plotly.js. Numbers only: nothing here imports plotly.

No plot lays one decoder over another where they could hide each other: each has its own row, or is chosen. Colours are
names of CSS variables, which ``report.js`` replaces by what the theme of the reader says. No text from a recording
stands in a plot, because plotly reads some of HTML in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from spec_vla_ros.recordings.frames import Commands

from .advice import in_order
from .compare import AXES, UNITS, Comparison
from .verdict import AUTOREGRESSIVE, MOTIONS, Verdict, differences, shares

MOST = 1500  # points of a line; of longer recordings each point is the furthest of several actions
MARKS = 2000  # actions that are marked as beyond the radius, at most
COLOURS = ("--one", "--two", "--three", "--four")
GAP, ROW = 0.03, 120  # of the height between rows; px of one

Trace = dict[str, Any]


def colours(presets: Sequence[str]) -> dict[str, str]:
    """By decoder; autoregressive is neutral."""
    others = [preset for preset in presets if preset != AUTOREGRESSIVE]
    return {AUTOREGRESSIVE: "--plain"} | {p: COLOURS[i % len(COLOURS)] for i, p in enumerate(others)}


def plots(comparison: Comparison, verdicts: Sequence[Verdict], commands: Commands) -> dict[str, Any]:
    """By name: ``data``, ``layout``, ``height`` (px), or ``choices`` of such by decoder. Without verdicts, those that
    need none.
    """
    made: dict[str, Any] = {}
    if verdicts:
        made["overview"] = overview(comparison, verdicts)
        made["axes"] = {"choices": {verdict.preset: by_axis(comparison, verdict) for verdict in verdicts}}
    made["accepted"] = accepted(comparison)
    made["passes"] = passes(comparison)
    made["times"] = times(comparison)
    made["motion"] = motion(comparison, commands)
    return made


def overview(comparison: Comparison, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """A row per decoder: the largest distance of each action as a share of the radius, and what is beyond it."""
    seconds, data, shapes, notes, top = comparison.seconds(), [], [], [], 1.3
    for row, verdict in enumerate(in_order(verdicts)):
        share = shares(comparison.distances(verdict.preset, AUTOREGRESSIVE), verdict.tolerance)
        top = max(top, 1.15 * float(share.max()))
        beyond, flips = set(verdict.beyond), verdict.flips
        inside = [at for at in thinned(share) if at not in beyond]
        further = [at for at in _marked(verdict, share) if at not in set(flips)]
        axes = {"xaxis": "x", "yaxis": _axis("y", row), "type": "scatter", "mode": "markers"}
        for name, chosen, marker in (
            ("within", inside, {"size": 4, "color": colours(comparison.presets)[verdict.preset]}),
            ("beyond", further, {"size": 9, "color": "--bad", "symbol": "diamond"}),
            ("gripper", flips[:MARKS], {"size": 12, "color": "--flip", "symbol": "triangle-down"}),
        ):
            trace = {
                **axes, "name": name, "marker": marker, "x": _list(seconds[list(chosen)]),
                "y": _list(share[list(chosen)]), "customdata": [comparison.indices[at] for at in chosen],
            }  # fmt: skip
            if name == "within":  # many: no text of their own
                told = f"{verdict.preset}, %{{x:.1f}} s, image %{{customdata}}<br>%{{y:.2f}} of the radius"
                trace["hovertemplate"] = f"{told}<extra></extra>"
            else:
                trace |= {"hoverinfo": "text", "text": [_told(comparison, verdict, at) for at in chosen]}
            data.append(trace)
        shapes += [_band(row, 0, 1), _line(row, 1)]
        notes.append(_title(row, verdict.preset))
    layout = _rows(len(verdicts), shapes, notes, seconds)
    for row in range(len(verdicts)):
        layout[_axis("yaxis", row)] |= {"range": [-0.05 * top, top], "title": {"text": "of the radius"}}
    return {"data": data, "layout": layout, "height": _height(len(verdicts), 1.3)}


def by_axis(comparison: Comparison, verdict: Verdict) -> dict[str, Any]:
    """A row per axis: the signed difference of one decoder, with what the radius allows as a band."""
    bins = comparison.distances(verdict.preset, AUTOREGRESSIVE)
    share, seconds = shares(bins, verdict.tolerance), comparison.seconds()
    own, plain = (np.array(comparison.values[name]) for name in (verdict.preset, AUTOREGRESSIVE))
    chosen = sorted({*thinned(share), *_marked(verdict, share)})
    data, shapes, notes, beyond = [], [], [], verdict.tolerance.beyond(bins)
    for axis in range(min(len(AXES), own.shape[1])):
        apart = (own - plain)[:, axis] * (1e3 if axis < MOTIONS else 1.0)
        limit = verdict.radius_si[axis]
        place = {"xaxis": "x", "yaxis": _axis("y", axis), "type": "scatter"}
        x, y = _lines(comparison, chosen, apart)
        colour = colours(comparison.presets)[verdict.preset]
        told = f"%{{x:.1f}} s: {AXES[axis]} %{{y:+.2f}} {UNITS[axis]}<extra></extra>"
        data.append({
            **place, "mode": "lines", "x": x, "y": y, "hovertemplate": told, "line": {"width": 1.2, "color": colour},
        })  # fmt: skip
        marked = [at for at in chosen if beyond[at, axis]]
        data.append({
            **place, "mode": "markers", "x": _list(seconds[marked]), "y": _list(apart[marked]), "hoverinfo": "text",
            "marker": {"size": 8, "color": "--bad" if axis < MOTIONS else "--flip",
                       "symbol": "diamond" if axis < MOTIONS else "triangle-down"},
            "text": [f"{seconds[at]:.1f} s: {'; '.join(differences(comparison, verdict, at))}" for at in marked],
            "customdata": [comparison.indices[at] for at in marked],
        })  # fmt: skip
        shapes.append(_band(axis, -limit, limit))
        notes.append(_title(axis, f"{AXES[axis]}, {UNITS[axis]}" if UNITS[axis] else f"{AXES[axis]}, 1 = open"))
    layout = _rows(len(notes), shapes, notes, seconds)
    for axis in range(len(notes)):
        reach = max(1.15 * float(np.abs((own - plain)[:, axis]).max()) * (1e3 if axis < MOTIONS else 1.0),
                    1.25 * verdict.radius_si[axis], 0.1)  # fmt: skip
        layout[_axis("yaxis", axis)] |= {"range": [_number(-reach), _number(reach)], "zeroline": True}
    return {"data": data, "layout": layout, "height": _height(len(notes), 0.9)}


def passes(comparison: Comparison) -> dict[str, Any]:
    """How many actions took how many passes, in per cent; bars side by side."""
    data, most = [], max(max(comparison.passes[preset]) for preset in comparison.presets)
    for preset in comparison.presets:
        counts = np.bincount(comparison.passes[preset], minlength=most + 1)[1:]
        data.append({
            "type": "bar", "name": preset, "x": list(range(1, most + 1)), "y": _list(100 * counts / len(comparison)),
            "marker": {"color": colours(comparison.presets)[preset]}, "hoverinfo": "text", "textposition": "none",
            "text": [f"{preset}: {count} of {len(comparison)} actions, {passes} passes"
                     for passes, count in enumerate(counts, 1)],
        })  # fmt: skip
    layout = _base() | {
        "barmode": "group", "xaxis": _plain_axis("passes per action") | {"dtick": 1},
        "yaxis": _plain_axis("% of the actions"), "showlegend": True, "legend": {"orientation": "h", "y": 1.15},
    }  # fmt: skip
    return {"data": data, "layout": layout, "height": 280}


def accepted(comparison: Comparison) -> dict[str, Any]:
    """Tokens accepted in the first pass over time, a running mean; a row per decoder that drafts."""
    presets = [preset for preset in comparison.presets if preset != AUTOREGRESSIVE] or list(comparison.presets)
    seconds, window = comparison.seconds(), max(1, min(25, len(comparison) // 4))
    chosen, ones = np.arange(0, len(comparison), max(1, -(-len(comparison) // MOST))), np.ones(window)
    data, notes = [], []
    for row, preset in enumerate(presets):
        first = np.array(comparison.first[preset], float)
        smooth = np.convolve(first, ones, mode="same") / np.convolve(np.ones_like(first), ones, mode="same")
        data.append({
            "xaxis": "x", "yaxis": _axis("y", row), "type": "scatter", "mode": "lines", "name": preset,
            "x": _list(seconds[chosen]), "y": _list(smooth[chosen]),
            "line": {"width": 1.4, "color": colours(comparison.presets)[preset]},
        })  # fmt: skip
        notes.append(_title(row, f"{preset}, mean of {window}"))
    layout = _rows(len(presets), [], notes, seconds)
    for row in range(len(presets)):
        layout[_axis("yaxis", row)] |= {"rangemode": "tozero"}
    return {"data": data, "layout": layout, "height": _height(len(presets), 0.9)}


def times(comparison: Comparison) -> dict[str, Any]:
    """Milliseconds per action: the middle half as a box, 1st and 99th percentile as its ends; a row per decoder."""
    data = []
    for preset in reversed(comparison.presets):
        low, first, median, third, high = np.percentile(comparison.milliseconds[preset], [1, 25, 50, 75, 99])
        data.append({
            "type": "box", "orientation": "h", "name": preset, "y": [preset], "q1": [_number(first)],
            "median": [_number(median)], "q3": [_number(third)], "lowerfence": [_number(low)],
            "upperfence": [_number(high)], "marker": {"color": colours(comparison.presets)[preset]},
        })  # fmt: skip
    layout = _base() | {
        "xaxis": _plain_axis("ms per action") | {"rangemode": "tozero"},
        "yaxis": {"automargin": True, "fixedrange": True}, "showlegend": False,
    }  # fmt: skip
    return {"data": data, "layout": layout, "height": 110 + 45 * len(data)}


def motion(comparison: Comparison, commands: Commands) -> dict[str, Any]:
    """The autoregressive actions themselves (the first decoder's without them), and what was recorded."""
    reference = AUTOREGRESSIVE if AUTOREGRESSIVE in comparison.presets else comparison.presets[0]
    values = np.array(comparison.values[reference])
    step = max(1, -(-len(comparison) // MOST))
    chosen = range(0, len(comparison), step)
    recorded = np.full((len(comparison), MOTIONS), np.nan)
    for at in chosen:
        if (told := commands.at(comparison.stamps[at], comparison.period)) is not None:
            recorded[at] = told
    data, notes = [], []
    for axis in range(min(len(AXES), values.shape[1])):
        scale = 1e3 if axis < MOTIONS else 1.0
        lines = [(reference, scale * values[:, axis], {"width": 1.2, "color": colours(comparison.presets)[reference]})]
        if axis < MOTIONS and np.isfinite(recorded).any():
            lines.append(("recorded", scale * recorded[:, axis], {"width": 1.2, "color": "--four", "dash": "dot"}))
        for name, shown, line in lines:
            x, y = _lines(comparison, chosen, shown)
            data.append({
                "xaxis": "x", "yaxis": _axis("y", axis), "type": "scatter", "mode": "lines", "name": name,
                "legendgroup": name, "showlegend": axis == 0, "x": x, "y": y, "line": line,
            })  # fmt: skip
        notes.append(_title(axis, f"{AXES[axis]}, {UNITS[axis]}" if UNITS[axis] else f"{AXES[axis]}, 1 = open"))
    layout = _rows(len(notes), [], notes, comparison.seconds()) | {
        "showlegend": True,
        "legend": {"orientation": "h", "y": 1.06},
    }
    return {"data": data, "layout": layout, "height": _height(len(notes), 0.9)}


def _lines(
    comparison: Comparison, chosen: Sequence[int], values: np.ndarray
) -> tuple[list[float | None], list[float | None]]:
    """What a line shows of ``values`` (N,) at ``chosen``: nothing joins two episodes or crosses what is no number."""
    seconds, episode, x, y = comparison.seconds(), np.cumsum(comparison.fresh), [], []
    for before, at in pairwise([chosen[0], *chosen]):
        if episode[at] != episode[before]:
            x.append(None), y.append(None)
        x.append(_number(seconds[at])), y.append(_number(values[at]) if np.isfinite(values[at]) else None)
    return x, y


def thinned(size: np.ndarray, most: int = MOST) -> list[int]:
    """Positions of the largest of ``size`` (N,) in each of at most ``most`` equal stretches, in order."""
    edges = np.linspace(0, len(size), min(most, len(size)) + 1).astype(int)
    return [int(a + size[a:b].argmax()) for a, b in pairwise(edges)]


def _marked(verdict: Verdict, share: np.ndarray) -> list[int]:
    """Positions beyond the radius; of very many the furthest, and every gripper that does the opposite first."""
    flips = set(verdict.flips)
    furthest = sorted(verdict.beyond, key=lambda at: (at not in flips, -share[at]))
    return sorted(furthest[:MARKS])


def _told(comparison: Comparison, verdict: Verdict, at: int) -> str:
    found = "; ".join(differences(comparison, verdict, at))
    return f"{verdict.preset}, {comparison.seconds_at(at):.1f} s, image {comparison.indices[at]}<br>{found}"


def _axis(letter: str, row: int) -> str:
    return letter if row == 0 else f"{letter}{row + 1}"


def _height(rows: int, share: float) -> int:
    return int(80 + rows * ROW * share)


def _rows(count: int, shapes: list[dict], notes: list[dict], seconds: np.ndarray) -> dict[str, Any]:
    """A layout of ``count`` rows that share the time axis, the first on top. ``seconds`` (N,): all that is shown."""
    layout = _base() | {"shapes": shapes, "annotations": notes, "showlegend": False}
    tall = 1 / count
    for row in range(count):
        low = 1 - (row + 1) * tall
        layout[_axis("yaxis", row)] = _plain_axis("") | {"domain": [low + GAP, low + tall - GAP], "nticks": 5}
    begin, end = float(seconds.min()), float(seconds.max())
    margin = 0.02 * (end - begin) + 0.1
    layout["xaxis"] = _plain_axis("s of the recording") | {
        "anchor": _axis("y", count - 1), "range": [_number(begin - margin), _number(end + margin)],
    }  # fmt: skip
    return layout


def _base() -> dict[str, Any]:
    return {
        "margin": {"l": 55, "r": 12, "t": 12, "b": 45}, "paper_bgcolor": "--paper", "plot_bgcolor": "--paper",
        "font": {"color": "--ink", "size": 12}, "hovermode": "closest", "dragmode": "zoom",
        "hoverlabel": {"bgcolor": "--paper", "font": {"color": "--ink"}, "bordercolor": "--ink"},
    }  # fmt: skip


def _plain_axis(title: str) -> dict[str, Any]:
    return {"title": {"text": title, "standoff": 6}, "gridcolor": "--grid", "zerolinecolor": "--grid",
            "linecolor": "--grid", "zeroline": False}  # fmt: skip


def _band(row: int, low: float, high: float) -> dict[str, Any]:
    return {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "yref": _axis("y", row), "y0": _number(low),
            "y1": _number(high), "fillcolor": "--band", "line": {"width": 0}, "layer": "below"}  # fmt: skip


def _line(row: int, height: float) -> dict[str, Any]:
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": _axis("y", row), "y0": height, "y1": height,
            "line": {"width": 1, "color": "--ink", "dash": "dash"}}  # fmt: skip


def _title(row: int, text: str) -> dict[str, Any]:
    return {"text": text, "xref": "paper", "x": 0, "xanchor": "left", "yref": f"{_axis('y', row)} domain", "y": 1,
            "yanchor": "bottom", "showarrow": False, "font": {"color": "--ink"}}  # fmt: skip


def _list(values: np.ndarray) -> list[float]:
    return [_number(value) for value in values]


def _number(value: float) -> float:
    """Seven digits: milliseconds in a recording of hours."""
    return float(f"{value:.7g}")
