"""What an action of a 7B model takes on known hardware, to be emulated with the real passes of a small one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spec_vla_ros.bench.decoding.floor import Device, floor_ms
from spec_vla_ros.policy_types import DecodeReport

PROMPT = 288  # rows: 256 of the image, and a usual instruction
ROWS = 64  # of a tree that fills what takes no longer
HEAD_STEPS = 6  # of the vision head's beam, one for each dimension of motion; each is counted as a pass of a drafter
DRAFTER_WEIGHTS = 4 * 4096**2 + 3 * 4096 * 11008  # one layer of the language model
NOT_DRAFTED = {"", "second_look"}


@dataclass(frozen=True)
class Hardware:
    """Times in ms of one 7B model. ``plain``: towers and prompt. ``first``: the same with drafted rows. ``token``: a
    later pass over one row, ``verify``: over drafted ones. ``draft``: one pass of a trained drafter. ``overhead``: of
    each action.

    ``kind``: "published", "computed", "own" or "fixed"; ``source``: in words. ``measured``: by preset (ms of an action
    that takes one pass, ms of each further pass), in the place of all these.
    """

    name: str
    kind: str
    source: str
    plain: float = 0.0
    first: float = 0.0
    token: float = 0.0
    verify: float = 0.0
    draft: float = 0.0
    overhead: float = 0.0
    measured: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def seconds(self, report: DecodeReport, preset: str) -> float:
        """What the action behind ``report``, decoded by ``preset``, would take; ``ValueError`` if that is unknown."""
        if self.measured:
            if preset not in self.measured:
                raise ValueError(f"{self.source} has no row of {preset}; there are: {', '.join(self.measured)}")
            once, further = self.measured[preset]
            return 1e-3 * (once + (report.verifier_passes - 1) * further)
        drafters = [set(names.split("+")) - NOT_DRAFTED for names in report.drafter_per_pass]
        total = self.overhead + (self.first if drafters[0] else self.plain)
        total += sum(self.verify if names else self.token for names in drafters[1:])
        passes = HEAD_STEPS * ("vision" in drafters[0])
        passes += report.draft_depth * sum("eagle" in names for names in drafters)
        return 1e-3 * (total + passes * self.draft)


# Stages of the published 7B checkpoint in bf16 without graphs: guanghaichen/SpecVLA-DFLASH, 2026.
RTX_4090 = Hardware(
    "RTX 4090", "published", "stages of a 7B model measured by others (SpecVLA-DFLASH), eager bf16",
    plain=55.3, first=54.9, token=17.9, verify=18.8, draft=1.9,
)  # fmt: skip


def fixed(ms: float) -> Hardware:
    """Every action takes ``ms``, whatever was decoded."""
    return Hardware(f"{ms:g} ms", "fixed", "every action takes as long", overhead=ms)


def known(name: str) -> Hardware:
    """By name, by ms, or from the JSON file of ``spec-vla bench latency``; ``ValueError`` for others."""
    if name == RTX_4090.name:
        return RTX_4090
    if name.endswith(".json"):
        return own(Path(name))
    if re.fullmatch(r"\d+(\.\d+)?ms", name):
        return fixed(float(name.removesuffix("ms")))
    return computed(name)


def computed(name: str) -> Hardware:
    """The least that a device of :mod:`..decoding.floor` can take, by its data sheet, without drafters' work."""
    from spec_vla_ros.bench.decoding.shapes import SEVEN_B  # with torch

    device = Device.named(name)
    if device is None:
        known_are = f"{RTX_4090.name}, H200, H100, A100, Orin, a time such as 60ms"
        raise ValueError(f"nothing is known of {name!r}; known are {known_are}")

    def ms(*rows: int) -> float:
        return floor_ms(SEVEN_B, device, rows, "bfloat16")

    return Hardware(
        name, "computed", "data sheet: bandwidth and arithmetic, the least possible, bf16",
        plain=ms(PROMPT), first=ms(PROMPT + ROWS), token=ms(PROMPT, 1) - ms(PROMPT),
        verify=ms(PROMPT, ROWS) - ms(PROMPT), draft=1e3 * device.seconds(2.0 * DRAFTER_WEIGHTS, 0.0),
    )  # fmt: skip


def own(path: Path) -> Hardware:
    """From the rows of ``bench latency --json``, of the first precision in the file."""
    try:
        rows: Sequence[Mapping[str, Any]] = json.loads(path.read_text())["rows"]
        precision, device = rows[0]["precision"], rows[0]["device"]
        measured = {row["preset"]: _of(row) for row in rows if row["precision"] == precision and row["preset"]}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path} is no JSON of bench latency: {error}") from error
    return Hardware(device, "own", f"{path.name}, {device}, {precision}", measured=measured)


def _of(row: Mapping[str, Any]) -> tuple[float, float]:
    passes, mean, once = row["passes_mean"], row["mean_ms"], row["one_pass_ms"]
    if once is None or passes <= 1:
        return (mean, 0.0) if passes <= 1 else (mean / passes, mean / passes)
    return once["median"], max(0.0, (mean - once["median"]) / (passes - 1))
