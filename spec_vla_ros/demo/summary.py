"""From recorded actions and episodes to the figures of the summary. Pure functions; times in ns, results in ms."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spec_vla_ros.figures import histogram, median_p99, wilson_interval

from ..decoding.presets import CUSTOM, PRESETS


@dataclass(frozen=True)
class Setting:
    """One row of the table: how the act node decodes."""

    decoder: str
    drafters: tuple[str, ...] = ()
    acceptance_radius: int = 0
    draft_depth: int = 0
    emit: str = "verifier"
    draft_width: int = 1
    preset: str = CUSTOM

    @staticmethod
    def of(preset: str) -> Setting:
        """What ``preset`` decides, with the usual acceptance radius (bins) and draft depth."""
        decided = PRESETS[preset]
        radius, depth = decided.acceptance_radius, decided.draft_depth
        if decided.decoder == "autoregressive":
            return Setting("autoregressive", preset=preset)
        return Setting(decided.decoder, decided.drafters, radius, depth, decided.emit, decided.draft_width, preset)

    @property
    def title(self) -> str:
        """A short name for people."""
        if self.decoder == "autoregressive":
            return self.decoder
        if self.preset != CUSTOM:
            return f"{self.preset} (radius {self.acceptance_radius})"
        return f"{self.decoder} ({' + '.join(self.drafters)}, radius {self.acceptance_radius})"


@dataclass(frozen=True)
class EpisodeRecord:
    """One finished episode. ``began_ns``, ``ended_ns``: wall clock. ``elapsed``: s of simulated time."""

    row: int
    index: int
    seed: int
    instruction: str
    success: bool
    elapsed: float
    began_ns: int
    ended_ns: int


@dataclass(frozen=True)
class ActionRecord:
    """One action. ``image_ns``: stamp of its image; ``received_ns``: when its statistics arrived here."""

    received_ns: int
    image_ns: int
    passes: int
    inference_ms: float
    token_source: tuple[str, ...]
    decoder: str = ""


@dataclass(frozen=True)
class TwistRecord:
    """One velocity command. ``stamp_ns``: its header. ``moving``: not zero."""

    received_ns: int
    stamp_ns: int
    moving: bool


def action_record(received_ns: int, message: Any) -> ActionRecord:
    """From a spec_vla_ros/DecodeStats of whichever library decoded it."""
    return ActionRecord(
        received_ns,
        _nanoseconds(message.header.stamp),
        int(message.verifier_passes),
        float(message.inference_ms),
        tuple(message.token_source),
        message.decoder,
    )


def twist_record(received_ns: int, message: Any) -> TwistRecord:
    """From a geometry_msgs/TwistStamped."""
    linear, angular = message.twist.linear, message.twist.angular
    moving = any((linear.x, linear.y, linear.z, angular.x, angular.y, angular.z))
    return TwistRecord(received_ns, _nanoseconds(message.header.stamp), moving)


def _nanoseconds(stamp: Any) -> int:
    return stamp.sec * 10**9 + stamp.nanosec


def overheads_ms(actions: Sequence[ActionRecord], twists: Sequence[TwistRecord]) -> list[float]:
    """Per action: from the image's stamp to the stamp of the first velocity it caused, less the inference itself.

    What remains is transport, waiting and conversion. Both stamps are made by nodes on this machine. Actions that did
    not move the arm are left out.
    """
    moving = [twist.stamp_ns for twist in twists if twist.moving]
    result = []
    for action in actions:
        ready = action.image_ns + round(action.inference_ms * 1e6)
        i = bisect.bisect_left(moving, ready)
        if i < len(moving) and moving[i] - ready < 150e6:  # ns; later ones belong to the next action
            result.append((moving[i] - ready) * 1e-6)
    return result


def within(records: Sequence[Any], episodes: Sequence[EpisodeRecord]) -> list[Any]:
    """The ``records`` that were received while one of ``episodes`` ran. Both in order of time."""
    times = [record.received_ns for record in records]
    return [
        record
        for e in episodes
        for record in records[bisect.bisect_left(times, e.began_ns) : bisect.bisect_right(times, e.ended_ns)]
    ]


def summarize_row(
    setting: Setting,
    episodes: Sequence[EpisodeRecord],
    actions: Sequence[ActionRecord],
    twists: Sequence[TwistRecord],
) -> dict[str, Any]:
    """One row of ``summary.json``; ``actions`` and ``twists`` may hold more than these ``episodes``."""
    actions, twists = within(actions, episodes), within(twists, episodes)
    wins = sum(episode.success for episode in episodes)
    seconds = sum(episode.ended_ns - episode.began_ns for episode in episodes) * 1e-9
    passes = [action.passes for action in actions]
    return {
        "preset": setting.preset,
        "decoder": setting.decoder,
        "drafters": list(setting.drafters),
        "acceptance_radius": setting.acceptance_radius,
        "draft_depth": setting.draft_depth,
        "draft_width": setting.draft_width,
        "emit": setting.emit,
        "episodes": len(episodes),
        "success_rate": wins / len(episodes) if episodes else 0.0,
        "success_interval": [round(end, 4) for end in wilson_interval(wins, len(episodes))],
        "actions": len(actions),
        "passes_mean": round(float(np.mean(passes)), 4) if passes else None,
        "passes_histogram": histogram(passes),
        "latency_ms": median_p99([action.inference_ms for action in actions]),
        "image_to_twist_overhead_ms": median_p99(overheads_ms(actions, twists)),
        "commands_per_second": {
            "twist": round(len(twists) / seconds, 2) if seconds else 0.0,
            "actions": round(len(actions) / seconds, 3) if seconds else 0.0,
        },
        "episode_seconds": round(seconds, 2),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows for people."""
    head = (
        "preset", "radius", "depth", "drafters", "success (95 %)", "passes", "histogram", "latency ms med / p99",
        "per second: actions, twists",
    )  # fmt: skip
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([text[0], "  ".join("-" * width for width in widths), *text[1:]])


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    speculative = row["decoder"] != "autoregressive"
    wins = round(row["success_rate"] * row["episodes"])
    low, high = row["success_interval"]
    latency = row["latency_ms"]
    numbers = "-" if latency["median"] is None else f"{latency['median']:.1f} / {latency['p99']:.1f}"
    rates = row["commands_per_second"]
    return (
        row["preset"] if row["preset"] != CUSTOM else row["decoder"],
        str(row["acceptance_radius"]) if speculative else "-",
        str(row["draft_depth"]) if speculative else "-",
        "+".join(row["drafters"]) or "-",
        f"{wins}/{row['episodes']} ({100 * low:.0f}-{100 * high:.0f} %)",
        "-" if row["passes_mean"] is None else f"{row['passes_mean']:.2f}",
        " ".join(f"{passes}:{count}" for passes, count in row["passes_histogram"].items()) or "-",
        numbers,
        f"{rates['actions']:.2f}, {rates['twist']:.0f}",
    )
