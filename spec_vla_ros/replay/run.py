"""The same recorded images through several decoders, one row per image, to be continued where it was stopped.

Rows are appended to ``actions.jsonl`` as they come. The first line says what they were made of; a run with the same
first line goes on after the last whole row, with the drafters' memory restored, so that it ends as if it had never
stopped.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spec_vla_ros.errors import ImageError, SpecVlaError
from spec_vla_ros.file_digest import digest
from spec_vla_ros.outputs import appending, write_text
from spec_vla_ros.policy_types import PolicyResult
from spec_vla_ros.recordings.blank import blank
from spec_vla_ros.recordings.episodes import Bags, Episodes
from spec_vla_ros.recordings.errors import ReplayError
from spec_vla_ros.recordings.frames import Frames, ReplayFrame
from spec_vla_ros.recordings.reader import Bag

from .options import OUT, Settings

ROWS = "actions.jsonl"
FORMAT = 1
TOLD_EVERY = 2.0  # s between two lines of progress


class Run:
    """One replay into a folder. ``policies``: preset -> policy, sharing one model."""

    def __init__(
        self,
        frames: Frames | Episodes,
        policies: Mapping[str, Any],
        settings: Settings,
        folder: Path | None,
        about: Mapping[str, Any],
    ) -> None:
        """``about``: what else the actions depend on (model and heads, by their files; statistics), as JSON.

        ``folder``: None = one in ``out/replay`` that only runs with equal first lines share.
        """
        self.frames, self.policies, self.settings = frames, policies, settings
        self.header = {
            "format": FORMAT, "bag": fingerprint(frames.bag), "image_topic": frames.image_topic,
            "instruction": frames.instruction, "instruction_topic": frames.instruction_topic, "period": frames.period,
            **asdict(settings), "presets": list(settings.presets), **about,
        }  # fmt: skip
        if folder is None:
            key = hashlib.sha256(json.dumps(self.header, sort_keys=True).encode()).hexdigest()[:8]
            folder = OUT / f"{frames.bag.path.resolve().name}-{key}"
        self.folder = folder
        self.done = 0  # rows that were there
        self.model_seconds = self.seconds = self.warm_up_seconds = 0.0

    @property
    def path(self) -> Path:
        """The rows."""
        return self.folder / ROWS

    def run(self, say: Callable[[str], None]) -> None:
        """Append the rows that are missing.

        Raises :class:`ReplayError` if the folder holds rows that were made of something else.
        """
        tail, ready = self._continue(), False
        began = told = time.monotonic()
        with appending(self.path) as append:
            for frame in self.frames:
                if frame.index < self.done:
                    continue
                if not ready:
                    self._warm_up(frame)
                    self._remember(tail)
                    began, ready = began + self.warm_up_seconds, True
                append(json.dumps(self._row(frame)) + "\n")
                if time.monotonic() - told > TOLD_EVERY:
                    told = time.monotonic()
                    say(self._progress(frame, told - began))
        self.seconds = time.monotonic() - began

    def _warm_up(self, frame: ReplayFrame) -> None:
        """Record and allocate what inferences need, on the first image; no time of any row includes it."""
        began = time.monotonic()
        for preset, policy in self.policies.items():
            with suppress(SpecVlaError):  # the image's own row will say it
                policy.warm_up(frame.instruction)
                policy.infer(frame.rgb(), frame.instruction, self.settings.of(preset))
            policy.reset()
        self.warm_up_seconds = time.monotonic() - began

    def _row(self, frame: ReplayFrame) -> dict[str, Any]:
        row: dict[str, Any] = {
            "index": frame.index, "stamp_ns": frame.stamp_ns, "instruction": frame.instruction, "fresh": frame.fresh,
        }  # fmt: skip
        if frame.episode:
            row["episode"] = frame.episode
        try:
            picture = frame.rgb()
        except ImageError as error:
            return {**row, "error": f"{error.fault}: {error}"}
        if seen := blank(picture):
            row["blank"] = seen
        row["presets"] = {}
        for preset, policy in self.policies.items():
            if frame.fresh:
                policy.reset()
            began = time.perf_counter()
            try:
                row["presets"][preset] = as_json(policy.infer(picture, frame.instruction, self.settings.of(preset)))
            except SpecVlaError as error:  # what would stop the arm is a result, too
                row["presets"][preset] = {"error": f"{error.fault}: {error}"}
                policy.reset()
            self.model_seconds += time.perf_counter() - began
        return row

    def _continue(self) -> list[dict[str, Any]]:
        """Check or write the first line, cut a half row off; returns the last rows, at most two."""
        if not self.path.exists() or not self.path.stat().st_size:
            write_text(self.path, json.dumps(self.header) + "\n")
            return []
        header, tail, size = None, [], 0
        with self.path.open("rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                size += len(line)
                if header is None:
                    header = json.loads(line)
                else:
                    tail = [*tail[-1:], json.loads(line)]
                    self.done += 1
        if header != self.header:
            raise ReplayError(
                f"{self.path} was made of something else ({', '.join(changed(header or {}, self.header))}); "
                "choose another --out"
            )
        with self.path.open("r+b") as stream:
            stream.truncate(size)
        return tail

    def _remember(self, tail: list[dict[str, Any]]) -> None:
        """Restore what the drafters remember of the last rows."""
        for row in tail:
            for preset, policy in self.policies.items():
                entry = row.get("presets", {}).get(preset, {})
                if row["fresh"] or "error" in entry:
                    policy.reset()
                if "tokens" in entry:
                    policy.remember(entry["tokens"])

    def _progress(self, frame: ReplayFrame, seconds: float) -> str:
        new = frame.index + 1 - self.done
        share = (self.frames.used + self.frames.between + self.frames.without_instruction) / max(1, self.frames.images)
        left = seconds * (1 - share) / share if share > 0 else 0.0
        return f"{frame.index + 1} images ({100 * share:.0f} %), {new / seconds:.1f} per second, {left:.0f} s left"


def as_json(result: PolicyResult) -> dict[str, Any]:
    """One action with what it cost."""
    report = result.report
    return {
        "tokens": [int(token) for token in result.tokens],
        "bins": [int(index) for index in result.bins],
        "values": [float(value) for value in result.values],
        "passes": report.verifier_passes,
        "drafted": list(report.drafted_per_pass),
        "accepted": list(report.accepted_per_pass),
        "source": list(report.token_source),
        "drafters": list(report.drafters),
        "drafter_per_pass": list(report.drafter_per_pass),
        "depth": report.draft_depth,
        "width": report.draft_width,
        "emit": report.emit,
        "distance": report.max_accepted_distance,
        "radius": list(report.tolerance.bins),
        "ms": {
            name: round(getattr(report, f"{name}_ms"), 3)
            for name in ("preprocess", "vision", "prefill", "decode", "total")
        },
    }


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a finished or unfinished run, one at a time; the first line is left out."""
    with path.open("rb") as stream:
        next(stream, None)
        for line in stream:
            if line.endswith(b"\n"):
                yield json.loads(line)


def header(path: Path) -> dict[str, Any]:
    """The first line."""
    with path.open("rb") as stream:
        return json.loads(stream.readline())


def fingerprint(bag: Bag | Bags) -> dict[str, Any]:
    """What tells one recording from another without reading all of it: names, sizes, and both ends of each file."""
    return {"name": bag.path.name, "sha256_of_ends": digest(bag.files)}


def make_policies(loaded: Any, heads: Any, settings: Settings) -> tuple[dict[str, Any], list[str]]:
    """(preset -> policy, presets that were left out and why). The policies share model and cache."""
    from spec_vla_ros.decoding.planner import Planner
    from spec_vla_ros.decoding.presets import resolve
    from spec_vla_ros.policy import OpenVLAPolicy

    trained, problems = heads
    policies: dict[str, Any] = {}
    left_out, verifier = [], None
    for preset in settings.presets:
        if resolve(settings.of(preset), trained).preset != preset:
            left_out.append(f"{preset}: its head is missing ({'; '.join(problems) or 'none is installed'})")
            continue
        policies[preset] = OpenVLAPolicy(loaded, trained, problems, verifier, Planner.steady())
        verifier = policies[preset].verifier
    return policies, left_out


def changed(old: Mapping[str, Any], new: Mapping[str, Any], within: str = "") -> list[str]:
    """What differs, as "name: old / new", with the names of parts of parts joined by points."""
    lines = []
    for key in sorted({*old, *new}):
        before, now = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            lines += changed(before, now, f"{within}{key}.")
        elif before != now:
            lines.append(f"{within}{key}: {before} / {now}")
    return lines
