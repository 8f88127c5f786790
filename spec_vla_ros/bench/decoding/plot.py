"""Plots of the benches, one PNG each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from spec_vla_ros.outputs import whole

from .latency import STAGES

COLORS = ("#9ecae9", "#4c78a8", "#f58518", "#54a24b")


def _figure(height: float) -> Figure:
    figure = Figure(figsize=(10, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plot_latency(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Median time of each stage, stacked; a mark at the 99th percentile of the whole action."""
    figure = _figure(1.5 + 0.5 * len(rows))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        left = 0.0
        for stage, color in zip(STAGES, COLORS, strict=True):
            width = row[stage]["median"] if stage in row else 0.0
            axes.barh(place, width, left=left, color=color)
            left += width
        if not left:  # a decoder that does not tell its stages
            axes.barh(place, row["total_ms"]["median"], color="#bab0ac")
        axes.plot(row["total_ms"]["p99"], place, "k|", markersize=12)
    handles = [axes.barh(0, 0, color=color) for color in COLORS]
    axes.legend(handles, list(STAGES.values()), loc="lower right", frameon=False, fontsize=8)
    axes.set_yticks(range(len(rows)), [f"{row['decoder']}\n{row['precision']}" for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="ms per action: medians of the stages; mark: p99 of the action", xlim=(0, None))
    _finish(figure, axes, path)


def plot_passes(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Share of actions by their number of passes, one bar per row."""
    figure = _figure(1.5 + 0.45 * len(rows))
    axes = figure.subplots()
    most = max((int(count) for row in rows for count in row["passes_histogram"]), default=1)
    for place, row in enumerate(rows):
        left = 0.0
        for count in range(1, most + 1):
            share = row["passes_histogram"].get(str(count), 0) / row["actions"]
            shade = 0.25 + 0.65 * (count - 1) / max(most - 1, 1)
            axes.barh(place, share, left=left, color=(1 - shade, 1 - 0.7 * shade, 1 - 0.3 * shade), edgecolor="white")
            if share > 0.04:
                axes.text(left + share / 2, place, str(count), ha="center", va="center", fontsize=8)
            left += share
    names = [f"{row['preset']}, r = {row['acceptance_radius']}\n{100 * row['success_rate']:.0f} %" for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="share of actions by passes of the language model", xlim=(0, 1))
    _finish(figure, axes, path)


def _finish(figure: Figure, axes: Any, path: Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    with whole(path) as partial:
        figure.savefig(partial, format="png")
