"""From finished LIBERO episodes to figures and tables. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spec_vla_ros.decoding.drafters import TRAINED
from spec_vla_ros.decoding.presets import resolve
from spec_vla_ros.figures import histogram, median_p99, wilson_interval

from .episode import LiberoEpisode
from .options import Key, Options

ACTION_DIM = 7  # tokens of an action


def make_rows(options: Options, episodes: dict[Key, LiberoEpisode]) -> list[dict[str, Any]]:
    """The figures of every preset of which there are episodes."""
    rows = []
    for preset in options.presets:
        mine = {key: episodes[key] for key in options.plan() if key in episodes and key[0] == preset}
        if not mine:
            continue
        settings = resolve(options.settings(preset), TRAINED)
        speculative = settings.decoder == "speculative"
        by_task = {task: [e for key, e in mine.items() if key[1] == task] for task in options.tasks}
        rows.append(
            {
                **options.identity(),
                "preset": preset,
                "decoder": settings.decoder,
                "drafters": list(settings.drafters) if speculative else [],
                "acceptance_radius": settings.acceptance_radius if speculative else 0,
                "emit": settings.emit,
                "planned": len(options.tasks) * options.trials,
                **_success(list(mine.values())),
                "tasks": [
                    {"task": task, "instruction": some[0].instruction if some else "", **_success(some)}
                    for task, some in by_task.items()
                ],
                **_figures(list(mine.values())),
            }
        )
    return rows


def _success(episodes: Sequence[LiberoEpisode]) -> dict[str, Any]:
    wins = sum(episode.success for episode in episodes)
    return {
        "episodes": len(episodes),
        "successes": wins,
        "success_rate": wins / len(episodes) if episodes else None,
        "success_interval": wilson_interval(wins, len(episodes)),
    }


def _figures(episodes: Sequence[LiberoEpisode]) -> dict[str, Any]:
    """Over all actions. ``acceptance_length``: tokens that a pass after the first settles, as the paper counts them."""
    passes = [value for episode in episodes for value in episode.passes]
    first = [value for episode in episodes for value in episode.accepted_first]
    accepted = [value for episode in episodes for value in episode.accepted]
    errors = [episode.error for episode in episodes if episode.error]
    won = [len(episode.passes) for episode in episodes if episode.success]
    actions, cycles = len(passes), sum(passes) - len(passes)
    return {
        "actions": actions,
        "actions_of_successes": median_p99(won)["median"],
        "passes_mean": round(sum(passes) / actions, 4) if actions else None,
        "passes_histogram": histogram(passes),
        "one_pass_share": round(sum(value == 1 for value in passes) / actions, 4) if actions else None,
        "acceptance_length": round((ACTION_DIM - 1) * actions / cycles, 3) if cycles else None,
        "tokens_per_pass": round(ACTION_DIM * actions / sum(passes), 3) if actions else None,
        "accepted_first_pass": round(sum(first) / actions, 3) if actions else None,
        "accepted_per_action": round(sum(accepted) / actions, 3) if actions else None,
        "latency_ms": median_p99([value for episode in episodes for value in episode.ms]),
        "errors": {name: errors.count(name) for name in sorted(set(errors))},
    }


def report(rows: Sequence[dict[str, Any]]) -> str:
    """Both tables for people: presets, then tasks."""
    lines = [
        "| preset, radius | success (95 %) | passes, in one | tokens per pass | acceptance length | median, p99 |",
        "|" + "---|" * 6,
    ]
    for row in rows:
        few = "" if row["episodes"] == row["planned"] else f" ({row['planned']} planned)"
        length = "-" if row["acceptance_length"] is None else f"{row['acceptance_length']:.2f}"
        passes, ms = row["passes_mean"], row["latency_ms"]
        cells = ["-", "-", "-"]
        if passes is not None:
            cells = [f"{passes:.2f}, {100 * row['one_pass_share']:.0f} %", f"{row['tokens_per_pass']:.2f}"]
            cells.append(f"{ms['median']:.1f}, {ms['p99']:.1f} ms")
        title = f"`{row['preset']}`, {row['acceptance_radius']}"
        lines.append(f"| {title} | {_rate(row)}{few} | {cells[0]} | {cells[1]} | {length} | {cells[2]} |")
    lines += ["", "| task | " + " | ".join(f"`{row['preset']}`" for row in rows) + " |"]
    lines += ["|" + "---|" * (len(rows) + 1)]
    for place, task in enumerate(rows[0]["tasks"] if rows else []):
        name = next((name for row in rows if (name := row["tasks"][place]["instruction"])), "")
        cells = " | ".join(_rate(row["tasks"][place]) for row in rows)
        lines.append(f"| {task['task']} {name}".rstrip() + f" | {cells} |")
    errors = [f"`{row['preset']}`: {row['errors']}" for row in rows if row["errors"]]
    return "\n".join([*lines, *(["", "episodes ended by a fault: " + "; ".join(errors)] if errors else [])])


def _rate(figures: dict[str, Any]) -> str:
    if not figures["episodes"]:
        return "-"
    low, high = figures["success_interval"]
    return f"{figures['successes']} of {figures['episodes']} ({100 * low:.1f}-{100 * high:.1f} %)"
