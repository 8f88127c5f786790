"""The plot: what each action cost, over time and as a distribution, one colour per row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .summary import ActionRecord, EpisodeRecord, Setting, within

COLORS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2")


def plot(
    settings: Sequence[Setting], episodes: Sequence[EpisodeRecord], actions: Sequence[ActionRecord], path: Path
) -> None:
    """Write ``path`` (PNG): passes and latency per action over the time since the row began."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    ((passes, share), (latency, spread)) = figure.subplots(2, 2, sharey="row", width_ratios=(4, 1))
    highest = 8
    for row, setting in enumerate(settings):
        mine = [episode for episode in episodes if episode.row == row]
        records = within(actions, mine)
        if not records:
            continue
        color = COLORS[row % len(COLORS)]
        start = mine[0].began_ns
        seconds = [(record.received_ns - start) * 1e-9 for record in records]
        counts = np.array([record.passes for record in records])
        times = np.array([record.inference_ms for record in records])
        highest = max(highest, counts.max() + 1)
        shift = (row - (len(settings) - 1) / 2) * 0.14  # rows beside each other instead of on top of each other
        label = f"{setting.title}: mean {counts.mean():.2f}"
        passes.plot(seconds, counts + shift, ".", color=color, markersize=4, alpha=0.7, label=label)
        values, number = np.unique(counts, return_counts=True)
        share.barh(values + 2 * shift, number / len(counts), height=0.26, color=color)
        label = f"{setting.title}: median {np.median(times):.1f} ms"
        latency.plot(seconds, times, ".", color=color, markersize=4, alpha=0.7, label=label)
        edges = np.linspace(0, max(np.percentile(times, 99.5), 1e-3), 40)
        spread.hist(times, bins=edges, weights=np.full(len(times), 1 / len(times)), orientation="horizontal",
                    color=color, alpha=0.6)  # fmt: skip
    passes.set(ylabel="language model passes per action", ylim=(0.4, highest))
    figure.suptitle("What one action costs", x=0.01, ha="left")
    share.set_xlabel("share of actions")
    latency.set(ylabel="inference, ms", xlabel="s since the row began")
    everything = [record.inference_ms for record in actions]
    if everything:
        latency.set_ylim(0, 1.3 * np.percentile(everything, 99))
    spread.set_xlabel("share of actions")
    for axes in (passes, latency):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(settings), fontsize=8, frameon=False)
    for axes in (passes, share, latency, spread):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png")
