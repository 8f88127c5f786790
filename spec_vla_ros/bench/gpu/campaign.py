"""Runs the parts of a campaign, each in a process of its own, and keeps what came out.

A part that raises, dies or takes too long is recorded as such, and the next one runs: a card that is lent for half an
hour shall not be lost to one kernel. What is finished is not run again by the same code on the same machine with the
same options; anything else has a folder of its own, so that figures of two machines never stand in one table.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from spec_vla_ros.foreign_text import printable
from spec_vla_ros.outermost import undisturbed
from spec_vla_ros.outputs import write_text

from .plan import SAMPLED, Options, identity, key_of, nvidia_smi, parts

DONE, FAILED, LATE = "done", "failed", "timed out"
LIMIT = 470.0  # s that a part may take
LEAST = 60.0  # s that have to be left for a part to be begun
SAMPLE = 10.0  # s between two looks at the card's clocks; each is a process on the host
POLL = 0.2  # s
ERROR_LINES, ERROR_LENGTH = 3, 600  # of what a part that failed said last
FILE = "campaign.json"


class Campaign:
    """One identity's parts in ``work``/<its key>."""

    def __init__(self, work: Path, options: Options, precisions: Sequence[str]) -> None:
        self.options, self.names = options, parts(precisions)
        self.identity = identity(options)
        self.folder = work / key_of(self.identity)

    def run(
        self, say: Callable[[str], None], only: Sequence[str] = (), minutes: float = 0.0, limit: float = LIMIT
    ) -> list[dict[str, Any]]:
        """Run what is missing, what has failed before after what was never tried, and return all parts in order.

        ``only``: parts whose names contain one of these. ``minutes``: begin no part that would not be over by then
        (0 = all); one that this cuts short is not recorded and will be run again. ``limit``: s per part.
        """
        ends = time.monotonic() + 60 * minutes if minutes else float("inf")
        chosen = [name for name in self.names if not only or any(word in name for word in only)]
        before = {name: self.part(name) for name in chosen}
        todo = [name for name in chosen if before[name] is None]
        todo += [name for name in chosen if before[name] is not None and before[name]["status"] != DONE]
        if done := len(chosen) - len(todo):
            say(f"{done} of {len(chosen)} parts are finished; {self.folder}")
        for place, name in enumerate(todo):
            left = ends - time.monotonic()
            if left < min(LEAST, limit):
                say(f"no time is left for {len(todo) - place} parts: run the same command again")
                break
            say(f"{name} ({place + 1} of {len(todo)})")
            part = self._run(name, min(left, limit))
            if part["status"] == LATE and left < limit:
                say(f"{name}: not over when the time was; it will be run again")
                break
            write_text(self.folder / _file(name), json.dumps(part, indent=1) + "\n")
            self.save(self.folder / FILE)
            say(f"{name}: {part['status']} after {part['seconds']:.0f} s" + (part["error"] and f": {part['error']}"))
        self.save(self.folder / FILE)
        return self.parts()

    def part(self, name: str) -> dict[str, Any] | None:
        """What is kept of a part; None where it was not run, or its file cannot be read."""
        try:
            found = json.loads((self.folder / _file(name)).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        whole = isinstance(found, dict) and {"part", "status", "rows", "error", "seconds"} <= set(found)
        return found if whole and found["part"] == name else None

    def parts(self) -> list[dict[str, Any]]:
        """All that are kept, in order."""
        return [part for name in self.names if (part := self.part(name)) is not None]

    def save(self, path: Path) -> None:
        """Write all that is known into one file."""
        whole = {"key": self.folder.name, **self.identity, "planned": self.names, "parts": self.parts()}
        write_text(path, json.dumps(whole, indent=1) + "\n")

    def _run(self, name: str, limit: float) -> dict[str, Any]:
        out, log = self.folder / f"{_file(name)}.out", self.folder / f"{Path(_file(name)).stem}.log"
        self.folder.mkdir(parents=True, exist_ok=True)
        out.unlink(missing_ok=True)
        command = [
            sys.executable,
            "-m",
            "spec_vla_ros.bench.gpu.part",
            name,
            json.dumps(asdict(self.options)),
            str(out),
        ]
        began, status, samples = time.monotonic(), FAILED, []
        child = None
        try:
            with log.open("wb") as stream, undisturbed():
                child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    command, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
                )
            samples, over = self._watch(child, began + limit)
        finally:
            if child is not None:
                _end(child)
        rows, error = [], ""
        if over:
            status, error = LATE, f"not over after {limit:.0f} s"
        elif child.returncode == 0:
            try:
                rows, status = json.loads(out.read_text(encoding="utf-8")), DONE
            except (OSError, ValueError) as why:
                error = f"no rows: {why}"
        else:
            error = _last_words(log) or f"status {child.returncode}"
        out.unlink(missing_ok=True)
        seconds = round(time.monotonic() - began, 1)
        return {"part": name, "status": status, "error": error, "seconds": seconds, "card": samples, "rows": rows}

    def _watch(self, child: subprocess.Popen, ends: float) -> tuple[list[dict[str, str]], bool]:
        """What the card said meanwhile, and whether the time was over first."""
        samples, due = [], time.monotonic()
        card = torch.device(self.options.device)
        while child.poll() is None:
            now = time.monotonic()
            if now > ends:
                return samples, True
            if card.type == "cuda" and now >= due:
                samples.append(nvidia_smi(SAMPLED, card.index or 0))
                due = now + SAMPLE
            time.sleep(POLL)
        return samples, False


def load(path: Path) -> dict[str, Any]:
    """A file that :meth:`Campaign.save` wrote. Raises ``OSError``, and ``ValueError`` for anything else."""
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or not {"key", "options", "parts", "machine"} <= set(found):
        raise ValueError("not a campaign")
    return found


def _file(name: str) -> str:
    return name.replace(" ", "_") + ".json"


def _end(child: subprocess.Popen) -> None:
    """The part and whatever it has started (compilers) are over."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return printable(" | ".join(lines[-ERROR_LINES:]))[-ERROR_LENGTH:]
