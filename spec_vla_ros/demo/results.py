"""From the recording to the files of a run: summary, bag, plot and film."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spec_vla_ros.recordings.recording import IMAGE_RATE, Recording
from spec_vla_ros.recordings.writer import decode, write_bag

from ..machine import machine, versions
from ..outputs import whole, write_text, writing
from .figures import plot
from .film import Clip, write_film
from .summary import (
    ActionRecord,
    EpisodeRecord,
    Setting,
    TwistRecord,
    action_record,
    summarize_row,
    table,
    twist_record,
    within,
)

MEANING = {
    "passes": "forward passes of the language model per action, the prefill included",
    "latency_ms": "inference as the act node measured it: image conversion, vision, all passes",
    "image_to_twist_overhead_ms": "image stamp to the stamp of the first velocity of its action, less the inference",
    "success_interval": "Wilson, 95 %",
    "commands_per_second": "while episodes ran; actions are 0.2 s of motion each, the rest is looking and thinking",
}


def action_records(recording: Recording) -> list[ActionRecord]:
    """Every action of the run."""
    return [action_record(ns, message) for ns, message in decode(recording, "/act/decode_stats")]


def twist_records(recording: Recording) -> list[TwistRecord]:
    """Every velocity command of the run."""
    return [twist_record(ns, message) for ns, message in decode(recording, "/delta_twist_cmds")]


def write_results(
    out: Path,
    recording: Recording,
    settings: Sequence[Setting],
    episodes: Sequence[EpisodeRecord],
    about: dict[str, Any],
    filmed: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Write everything into ``out`` and return the summary. ``filmed``: episodes of each row in the film."""
    actions, twists = action_records(recording), twist_records(recording)
    rows = [
        summarize_row(setting, [e for e in episodes if e.row == row], actions, twists)
        for row, setting in enumerate(settings)
    ]
    summary = {"machine": machine(), "versions": versions(), "rows": rows, **about, "meaning": MEANING}
    write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")
    say("")
    say(table(rows))
    say("")
    size = write_bag(recording, out / "bag")
    say(f"bag    {out / 'bag'} ({size / 1e6:.0f} MB; camera images thinned to {IMAGE_RATE:.0f} Hz, the rest complete)")
    with whole(out / "plot.png") as partial:
        plot(settings, episodes, actions, partial)
    say(f"plot   {out / 'plot.png'}")
    with writing(out):
        film = write_film(scenes(recording, settings, episodes, actions, filmed), out)
    if film is not None:
        say(f"film   {film}, picture {out / 'frame.png'}")
    say(f"data   {out / 'summary.json'}")
    return summary


def scenes(
    recording: Recording,
    settings: Sequence[Setting],
    episodes: Sequence[EpisodeRecord],
    actions: Sequence[ActionRecord],
    count: int,
) -> list[list[Clip]]:
    """The first ``count`` episodes that every row has, one clip per row."""
    indices = [
        e.index for e in episodes if e.row == 0 and all(_find(episodes, r, e.index) for r in range(len(settings)))
    ]
    wanted = [_find(episodes, row, index) for index in indices[:count] for row in range(len(settings))]
    images: dict[EpisodeRecord, list[tuple[int, np.ndarray]]] = {episode: [] for episode in wanted if episode}
    for ns, message in _images(recording, list(images)):
        for episode, pictures in images.items():
            if episode.began_ns - 100_000_000 <= ns <= episode.ended_ns + 50_000_000:
                pictures.append((ns, message))
    means = []
    for row in range(len(settings)):
        mine = within(actions, [e for e in episodes if e.row == row])
        means.append(float(np.mean([a.passes for a in mine])) if mine else 0.0)
    return [
        [
            Clip(setting, episode, images[episode], within(actions, [episode]), means[row])
            for row, setting in enumerate(settings)
            if (episode := _find(episodes, row, index)) is not None
        ]
        for index in indices[:count]
    ]


def _images(recording: Recording, episodes: Sequence[EpisodeRecord]):
    """Decoded camera images near ``episodes`` only; decoding all would take long and much memory."""
    from spec_vla_ros.recordings.writer import typestore

    for _, ns, raw in recording.messages("/image"):
        if any(e.began_ns - 100_000_000 <= ns <= e.ended_ns + 50_000_000 for e in episodes):
            message = typestore().deserialize_cdr(raw, "sensor_msgs/msg/Image")
            yield ns, np.asarray(message.data).reshape(message.height, message.width, 3)


def _find(episodes: Sequence[EpisodeRecord], row: int, index: int) -> EpisodeRecord | None:
    return next((e for e in episodes if e.row == row and e.index == index), None)
