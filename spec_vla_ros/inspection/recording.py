"""A rosbag2 recording, read once from end to end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from spec_vla_ros.errors import InstructionError
from spec_vla_ros.instruction import clean_instruction
from spec_vla_ros.recordings.frames import TWIST, action_topics
from spec_vla_ros.recordings.layout import PACKED, storage_suffix
from spec_vla_ros.recordings.reader import ACTION, IMAGES, Bag, BagError, Recorded, words

from .camera import BACK, Camera, Event
from .findings import Report, count_of, size_of
from .seen import SAID_EVERY, SHOWN, Recording

CLOCK = "rosgraph_msgs/msg/Clock"
SIMULATED = 10**18  # ns; a clock that shows less (2001) counts from the start of a simulation
DISTINCT = 200  # instructions that are tried as prompts


@dataclass
class _Heard:
    """Everything that is gathered in the one pass."""

    cameras: dict[str, Camera]
    instruction_topic: str
    camera_topic: str = ""  # whose images are counted where there is no instruction; empty = all
    start_ns: int = 0
    read: int = 0
    last_ns: int = 0
    said: list[tuple[float, str]] = field(default_factory=list)
    distinct: dict[str, None] = field(default_factory=dict)  # a set that keeps its order
    changes: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    before: int = 0  # images before the first instruction
    actions: list[Any] = field(default_factory=list)
    clock_back: Event = field(default_factory=Event)
    _clock_ns: int | None = None
    _instruction: str = ""

    def add(self, recorded: Recorded) -> None:
        """The next message."""
        if recorded.after_loss:
            self._instruction = ""  # what was said in between is not known
        if not self.read:
            self.start_ns = recorded.log_ns
            for camera in self.cameras.values():
                camera.start_ns = self.start_ns
        self.read, self.last_ns = self.read + 1, recorded.log_ns
        at, message = 1e-9 * (recorded.log_ns - self.start_ns), recorded.message
        if recorded.topic == self.instruction_topic:  # maybe of the node's own actions
            self._hear(words(recorded), at)
        if recorded.topic in self.cameras:
            self.before += not self._instruction and self.camera_topic in ("", recorded.topic)
            self.cameras[recorded.topic].add(message, recorded.log_ns)
        elif recorded.type == ACTION:
            if len(self.actions) < SHOWN and any(message.bins):
                self.actions.append(message)
        elif recorded.type == CLOCK:
            now = message.clock.sec * 10**9 + message.clock.nanosec
            if self._clock_ns is not None and now < self._clock_ns - BACK * 1e9:
                self.clock_back.add(at, 1e-9 * (self._clock_ns - now))
            self._clock_ns = now

    def _hear(self, text: str, at: float) -> None:
        try:
            text = clean_instruction(text) if text.strip() else ""
        except InstructionError as error:
            if len(self.refused) < SHOWN:
                self.refused[str(error)] = f"{at:.1f}"
            return
        if text != self._instruction:
            self.changes += bool(text)
            if text and len(self.said) < SHOWN:
                self.said.append((at, text))
            if text and len(self.distinct) < DISTINCT:
                self.distinct[text] = None
        self._instruction = text


def inspect_bag(
    path: str,
    image_topic: str = "",
    instruction: str = "",
    instruction_topic: str = "",
    progress: Callable[[str], None] = lambda line: None,
) -> tuple[Report, Recording]:
    """The options are those of a replay. ``progress`` is told how far a long recording is, about every two seconds."""
    report, recording = Report(path, "recording"), Recording(path)
    try:
        bag = Bag(Path(os.path.expanduser(path)))
    except BagError as error:
        report.error(str(error), "Nothing of it can be read; is it the right file, and was it closed?")
        return report, recording
    topic = _camera_topic(bag, image_topic, report)
    where, unclear = "", bag.silent()
    try:
        where = bag.instruction_topic(instruction_topic)
    except BagError as error:
        unclear = error
    heard = _read(bag, where, topic, progress)
    if not heard.cameras:
        report.error(f"{path} holds no images; its topics are {', '.join(sorted(bag.topics))}", "Record the camera.")
    _overview(report, bag, heard)
    for name, camera in heard.cameras.items():
        camera.describe(report)
        camera.judge(report, used=name == topic)
    pictures = [name for name, camera in heard.cameras.items() if not camera.is_depth]
    if not topic and image_topic == "" and len(heard.cameras) > 1:
        hint = f"--image-topic {pictures[0]}" if len(pictures) == 1 else "--image-topic"
        report.error(
            f"{path} has {len(heard.cameras)} image topics: {', '.join(heard.cameras)}",
            f"Say which one is the camera: {hint}"
            + ("; the others hold depth images." if len(pictures) == 1 else ", here and for a replay."),
        )
        topic = pictures[0] if len(pictures) == 1 else ""
    recording.camera = heard.cameras.get(topic)
    _instructions(report, heard, instruction, unclear)
    recording.instructions = [instruction] if instruction else list(heard.distinct)
    _commands(report, bag, recording)
    recording.actions = heard.actions
    if heard.clock_back.count:
        report.warning(
            f"/clock went back {count_of(heard.clock_back.count, 'time')}, first at {heard.clock_back.first:.1f} s",
            "The node would stop there (CLOCK_JUMPED): a simulation that was reset, or a bag in a loop.",
        )
    for remark in bag.remarks:
        report.warning(f"{path}: {remark}", "Nothing is lost by that; ros2 bag reindex makes a new metadata.yaml.")
    if bag.broken:
        end = 1e-9 * (heard.last_ns - heard.start_ns)
        report.warning(
            f"{bag.broken}; the last message that was read is {end:.1f} s after the first",
            "A replay uses the same. ros2 bag reindex makes a new index; what was never written is lost.",
        )
    return report, recording


def _camera_topic(bag: Bag, wanted: str, report: Report) -> str:
    """The camera, or "" where that is not clear; only a wrong wish is told here, the rest once images were seen."""
    try:
        return bag.image_topic(wanted)
    except BagError as error:
        if wanted:
            report.error(str(error), "Choose one of these with --image-topic.")
        return ""


def _read(bag: Bag, instruction_topic: str, camera_topic: str, progress: Callable[[str], None]) -> _Heard:
    """The pass."""
    images = sorted(name for name, kind in bag.topics.items() if kind in IMAGES)
    cameras = {name: Camera(name, bag.topics[name].endswith("CompressedImage")) for name in images}
    heard = _Heard(cameras, instruction_topic, camera_topic)
    wanted = set(images) | {name for name, kind in bag.topics.items() if kind in (ACTION, CLOCK)}
    wanted |= {instruction_topic} - {""}
    total = sum(bag.counts.get(name, 0) for name in wanted)
    began = told = time.monotonic()
    for recorded in bag.messages(wanted, whole=True):
        heard.add(recorded)
        now = time.monotonic()
        if now - told > SAID_EVERY:
            told = now
            left = (now - began) * max(0, total - heard.read) / heard.read
            progress(f"{bag.path}: {heard.read} of {total} messages, {left:.0f} s left")
    return heard


def _overview(report: Report, bag: Bag, heard: _Heard) -> None:
    section = report.section("recording")
    size = sum(file.stat().st_size for file in bag.files)
    kinds = {"MCAP" if storage_suffix(file) == ".mcap" else "SQLite" for file in bag.files}
    if any(file.suffix == PACKED for file in bag.files):
        kinds = {f"{kind} in zstd" for kind in kinds}
    section.add(
        "files",
        f"{len(bag.files)}, {', '.join(sorted(kinds))}, {size_of(size)}",
        {"names": [file.name for file in bag.files], "bytes": size},
    )
    seconds, begin = 1e-9 * bag.duration_ns, _begin(bag.start_ns)
    section.add("time", f"{seconds:.1f} s from {begin}", {"seconds": seconds, "begin": begin})
    section.add("whole", "no, see below" if bag.broken else "yes", not bag.broken)
    for name, kind in sorted(bag.topics.items()):
        count = bag.counts.get(name, 0)
        rate = count / seconds if seconds else 0.0
        section.table.append(
            {
                "topic": (name, name), "type": (kind, kind), "messages": (str(count), count),
                "mean per second": (f"{rate:.1f}", round(rate, 3)),
            }
        )  # fmt: skip


def _begin(ns: int | None) -> str:
    """Simulated time begins with zero, and nobody recorded anything in 1970."""
    if ns is None:
        return "no message"
    if ns < SIMULATED:
        return f"{1e-9 * ns:.1f} s of simulated time"
    return f"{datetime.fromtimestamp(ns // 10**9, tz=timezone.utc):%F %T} UTC"


def _instructions(report: Report, heard: _Heard, given: str, unclear: BagError) -> None:
    """``unclear``: what is wrong if there is no topic."""
    section = report.section("instructions")
    found = heard.instruction_topic
    section.add("topic", found or "none", found)
    for at, text in heard.said:
        section.add(f"at {at:.1f} s", repr(text), text)
    if heard.changes > len(heard.said):
        section.add("and", f"{heard.changes - len(heard.said)} more", heard.changes - len(heard.said))
    if given:
        report.attempt(clean_instruction, given)
        section.add("given", repr(given), given)
        return
    if not found:
        report.error(str(unclear), "The options are the same for a replay as here.")
    elif not heard.said:
        report.error(
            f"{found} holds no instruction that could be used",
            "Say what the arm was told with --instruction, for a replay as well as here.",
        )
    elif heard.before:
        report.warning(
            f"{count_of(heard.before, 'image')} without an instruction in force",
            "The node holds there and a replay leaves them out; --instruction replaces all recorded ones.",
        )
    for reason, at in heard.refused.items():
        report.warning(f"{found} at {at} s: {reason} (INSTRUCTION_INVALID)", "The node would hold until a good one.")


def _commands(report: Report, bag: Bag, recording: Recording) -> None:
    """What the arm was told; as a replay chooses it."""
    section = report.section("recorded commands")
    found = action_topics(bag)
    named = found if len(found) > 1 else [name for name, kind in sorted(bag.topics.items()) if kind == TWIST]
    recording.commands = found[0] if len(found) == 1 else ""
    if not recording.commands:
        section.add("none", "a replay has nothing to compare its actions with", False)
        for name in named:
            section.add("unless named", f"--command-topic {name} ({bag.topics[name]})", name)
        return
    kind = bag.topics[recording.commands]
    section.add("topic", f"{recording.commands} ({kind})", recording.commands)
