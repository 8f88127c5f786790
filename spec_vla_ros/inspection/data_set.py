"""A LeRobot data set: its description, all of its numbers, the headers of its videos, and some of its pictures."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from spec_vla_ros.errors import InstructionError
from spec_vla_ros.instruction import clean_instruction
from spec_vla_ros.lerobot.meta import DataSet, LeRobotError
from spec_vla_ros.lerobot.pictures import PictureError, Pictures, rate_problem, videos_of
from spec_vla_ros.lerobot.rows import Rows, read_actions, read_rows
from spec_vla_ros.lerobot.video import Video, VideoError
from spec_vla_ros.openvla.action_tokens import ActionStatistics

from .findings import Report, count_of, size_of
from .fits import QUANTILES
from .pixels import Pixels
from .seen import SAID_EVERY, SHOWN, Recording, Sight
from .statistics import AXES, NODE_ACTION_DIM, remarks

EPISODES = 5  # of which pictures are looked at: the first, the middle and the last one
EARLY_ROWS = (0, 15, 31)  # of a file with the pictures in its rows; what comes later would have to be read up to

Progress = Callable[[str], None]


def inspect_data_set(
    path: str, camera: str = "", instruction: str = "", progress: Progress = lambda line: None
) -> tuple[Report, Recording]:
    """The options are those of a training. ``progress`` is told how far it is, about every two seconds."""
    report, recording = Report(path, "LeRobot data set"), Recording(path)
    try:
        data = DataSet(Path(path).expanduser())
        data.require_files()
        rows = read_rows(data)
    except LeRobotError as error:
        report.error(str(error), "Nothing can be trained on it as it is.")
        return report, recording
    _overview(report, data, rows)
    chosen = _chosen(report, data, camera)
    for key in data.cameras:
        sight = _camera(report, data, rows, key, key == chosen, progress)
        if key == chosen:
            recording.camera = sight
    recording.instructions = _instructions(report, data, rows, instruction)
    _actions(report, data, rows, recording)
    return report, recording


def _overview(report: Report, data: DataSet, rows: Rows) -> None:
    section = report.section("data set")
    section.add("layout", f"LeRobot {data.version}", data.version)
    size = sum(file.stat().st_size for file in rows.files)
    section.add("tables", f"{len(rows.files)}, {size_of(size)}", {"count": len(rows.files), "bytes": size})
    if robot := data.info.get("robot_type"):
        section.add("robot", str(robot))
    lengths = np.unique(rows.episode, return_counts=True)[1]
    text = f"{len(lengths)} of {lengths.min()} to {lengths.max()} frames, median {np.median(lengths):g}"
    facts = {"count": len(lengths), "shortest": int(lengths.min()), "longest": int(lengths.max())}
    section.add("episodes", text, facts)
    section.add("frames", str(len(rows)), len(rows))
    stated = f"meta/info.json says {data.fps:g}" if data.fps else "meta/info.json says nothing"
    section.add("rate", f"{rows.rate:.2f} per second by the median interval, {stated}", rows.rate)
    if rows.differs(data.fps):
        report.warning(
            f"{data.path}: the rows come at {rows.rate:.2f} per second, meta/info.json says {data.fps:g}",
            "The median interval counts here; programs that believe fps will take every motion for faster or slower.",
        )
    if rows.absent:
        shown = ", ".join(map(str, rows.absent[:SHOWN])) + " ..." * (len(rows.absent) > SHOWN)
        report.warning(
            f"{data.path}: meta/ lists {count_of(len(rows.absent), 'episode')} without a row: {shown}",
            "A recording that was broken off, or a download that was: fetch it again if the episodes are wanted.",
        )
    if len(lengths) < 2:
        report.warning(
            f"{data.path} is a single episode", "One has to be held out to know what a head is worth: add another."
        )
    said = data.info.get("total_frames")
    if isinstance(said, int) and said != len(rows):
        report.warning(
            f"{data.path}: meta/info.json says {said} frames, there are {len(rows)}",
            "The rows count; is the data set complete?",
        )


def _chosen(report: Report, data: DataSet, wanted: str) -> str:
    """The camera of a training; "" where that is not clear, which is an error."""
    try:
        return data.choose_camera(wanted)
    except LeRobotError as error:
        report.error(str(error), "Say which one with --camera, here and for a training.")
        return ""


def _camera(report: Report, data: DataSet, rows: Rows, key: str, used: bool, progress: Progress) -> Sight | None:
    """A section and its problems; what spoils the camera of a training is an error."""
    say = report.error if used else report.warning
    section = report.section(f"pictures {key}" + " (the camera)" * used)
    try:
        data.require_files([key])
        if data.is_video(key):
            _videos(report, section, data, rows, key, say, progress)
        else:
            section.add("stored", "in the rows")
        sizes, looked, pixels = _look(data, rows, key, say)
    except LeRobotError as error:
        section.add("usable", "no, see below", False)
        say(str(error), "Its pictures cannot be used as they are.")
        return None
    shown = ", ".join(f"{width} x {height}" for width, height in sorted(sizes))
    section.add("size", shown or "none could be decoded", sorted(sizes))
    section.add("looked at", f"{count_of(looked, 'picture')}, {sum(sizes.values())} of them decoded", looked)
    pixels.judge(report, key, used)
    if len(sizes) > 1:
        report.warning(f"{key} changes size: {shown}", "Two cameras in one data set? All are made the same size.")
    return Sight(key, sum(sizes.values()), set(sizes), rows.interval)


def _videos(
    report: Report, section: Any, data: DataSet, rows: Rows, key: str, say: Callable[..., None], progress: Progress
) -> None:
    """Headers of all videos of a camera, and whether each is long enough for its rows."""
    needed = videos_of(data, key, rows)
    codecs: Counter[str] = Counter()
    short, broken, size, told = [], [], 0, time.monotonic()
    for number, (path, frames) in enumerate(needed.items()):
        if time.monotonic() - told > SAID_EVERY:
            told = time.monotonic()
            progress(f"{data.path}: {number} of {len(needed)} videos of {key}")
        try:
            with Video(path) as video:
                codecs[video.codec] += 1
                if why := rate_problem(video, rows, frames):
                    raise LeRobotError(why)
                size += path.stat().st_size
                if 0 < video.count < sum(frames):
                    short.append(f"{path.name} ({video.count} of {sum(frames)} pictures)")
        except VideoError as error:
            broken.append(str(error))
    text = ", ".join(f"{count} in {codec}" for codec, count in codecs.most_common())
    section.add(
        "stored", f"{count_of(len(needed), 'video')}, {size_of(size)}: {text or 'none can be opened'}", dict(codecs)
    )
    for why in broken[:SHOWN]:
        say(why, "Fetch it again; a training would leave its pictures out, and stops where too few are left.")
    if short:
        report.warning(
            f"{key}: {count_of(len(short), 'video')} shorter than the rows: {', '.join(short[:SHOWN])}",
            "Rows beyond the end have no picture and are left out; was the recording broken off?",
        )


def _look(data: DataSet, rows: Rows, key: str, say: Callable[..., None]) -> tuple[Counter, int, Pixels]:
    """(width, height) -> pictures, how many were looked at, and what they show."""
    sizes: Counter[tuple[int, int]] = Counter()
    pixels, failed, looked = Pixels(), Counter(), 0
    pictures, why = Pictures(data, key, rows), ""
    try:
        for row, cell in pictures.some(_sample(data, rows, key)):
            looked += 1
            try:
                rgb = pictures.picture(row, cell)
            except PictureError as error:
                failed[error.kind] += 1
                why = why or str(error)
                continue
            sizes[rgb.shape[1], rgb.shape[0]] += 1
            pixels.add_rgb(rgb)
    finally:
        pictures.close()
    if failed:
        text = ", ".join(f"{kind} ({count})" for kind, count in failed.items())
        say(f"{key}: {failed.total()} of {looked} pictures cannot be used: {text}; the first: {why}", "Fetch it again.")
    return sizes, looked, pixels


def _sample(data: DataSet, rows: Rows, key: str) -> list[int]:
    """Rows whose pictures are looked at, in their order."""
    if data.is_video(key):
        begins = np.flatnonzero(np.diff(rows.episode, prepend=rows.episode[0] - 1))
        ends = np.append(begins[1:], len(rows)) - 1
        chosen = np.unique(np.linspace(0, len(begins) - 1, EPISODES).astype(int))
        found = {int(row) for at in chosen for row in (begins[at], (begins[at] + ends[at]) // 2, ends[at])}
    else:
        begins = np.concatenate([[0], np.cumsum(rows.counts)[:-1]])
        chosen = np.unique(np.linspace(0, len(begins) - 1, EPISODES).astype(int))
        found = {
            int(begins[at]) + min(row, rows.counts[at] - 1) for at in chosen for row in EARLY_ROWS if rows.counts[at]
        }
    return sorted(found)


def _instructions(report: Report, data: DataSet, rows: Rows, given: str) -> list[str]:
    """All that a training would be told."""
    section = report.section("instructions")
    counts: Counter[str] = Counter()
    silent, refused = 0, {}
    for task, count in zip(*np.unique(rows.task, return_counts=True), strict=True):
        text = data.tasks.get(int(task), "") or given
        try:
            counts[clean_instruction(text)] += int(count)
        except InstructionError as error:
            silent += int(count)
            refused[int(task)] = str(error)
    section.add("different", str(len(counts)), len(counts))
    for text, count in counts.most_common(SHOWN):
        section.add(f"{count} frames", repr(text), {"instruction": text, "frames": count})
    if len(counts) > SHOWN:
        section.add("and", f"{len(counts) - SHOWN} more", len(counts) - SHOWN)
    if silent:
        task, why = next(iter(refused.items()))
        report.error(
            f"{data.path}: {count_of(silent, 'frame')} without an instruction: task {task} is none ({why})",
            "Say what the arm was told with --instruction, for a training as well as here.",
        )
    return list(counts)


def _actions(report: Report, data: DataSet, rows: Rows, recording: Recording) -> None:
    """Their size and range; a training of draft heads does not read them, but they tell what the data are of."""
    key = data.action()
    section = report.section("actions, which train-draft does not read")
    if not key:
        section.add("none", "the features name no action", False)
        return
    try:
        values = read_actions(data, rows, key)
    except LeRobotError as error:
        section.add("unreadable", str(error), False)
        return
    recording.values, recording.commands = values, key
    section.add("feature", f"{key}, {count_of(values.shape[1], 'number')}", values.shape[1])
    if values.shape[1] != NODE_ACTION_DIM:
        section.add("other than", f"{NODE_ACTION_DIM} numbers, which the act node can execute", False)
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).any(1).sum())
        report.warning(f"{data.path}: {count_of(bad, 'action')} not finite", "Do not tune a model on it as it is.")
        values = recording.values = values[np.isfinite(values).all(1)]
    if not len(values):
        return
    low, high = np.quantile(values, QUANTILES, axis=0)
    for axis, name in enumerate(_names(data, key, values.shape[1])):
        numbers = {"min": values[:, axis].min(), "1 %": low[axis], "99 %": high[axis], "max": values[:, axis].max()}
        section.table.append(
            {"axis": (name, name), **{label: (f"{number:.4g}", float(number)) for label, number in numbers.items()}}
        )
    if values.shape[1] == NODE_ACTION_DIM:
        for remark in remarks(ActionStatistics(key, low, high, np.ones(NODE_ACTION_DIM, bool))):
            section.add("remark", remark)


def _names(data: DataSet, key: str, count: int) -> list[str]:
    """Of the axes, as the data set calls them, which may be a list or {"motors": a list}."""
    names = data.features[key].get("names")
    if isinstance(names, dict) and len(names) == 1:
        names = next(iter(names.values()))
    if isinstance(names, list) and len(names) == count:
        return [str(name) for name in names]
    return list(AXES) if count == NODE_ACTION_DIM else [str(axis) for axis in range(count)]
