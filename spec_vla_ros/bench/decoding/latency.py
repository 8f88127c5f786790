"""What an action costs, stage by stage: decoders side by side at a recorded acceptance, on whatever device there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from spec_vla_ros.decoding.planner import Planner
from spec_vla_ros.decoding.presets import PRESETS
from spec_vla_ros.decoding.verifier import Verifier, cache_slots
from spec_vla_ros.figures import median_p99
from spec_vla_ros.machine import peak_memory
from spec_vla_ros.openvla.config import OpenVLAConfig
from spec_vla_ros.openvla.example import EXAMPLE_INSTRUCTIONS
from spec_vla_ros.openvla.loader import LoadedModel
from spec_vla_ros.policy import OpenVLAPolicy
from spec_vla_ros.policy_types import DecodeReport, DecodeSettings

from .compiled import compile_passes
from .floor import Device, floor_ms
from .reference import TransformersAutoregressive
from .replayed import Action, RecordedLuck, Trace
from .shapes import random_heads, random_model

STAGES = {"preprocess_ms": "preprocessing", "vision_ms": "towers", "prefill_ms": "first pass", "decode_ms": "others"}
EAGER, TRANSFORMERS = "autoregressive, eager", "autoregressive, transformers"
COMPILED = ", compiled"
WARM_UP = 5  # actions of each row that are not counted
BLOCK = 5  # actions of a row in turn: rows share whatever else the machine does


@dataclass
class Contender:
    """One row in the making."""

    name: str
    preset: str
    policy: OpenVLAPolicy | None
    luck: RecordedLuck | None
    actions: list[Action]
    reference: TransformersAutoregressive | None = None
    reports: list[DecodeReport] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)

    def act(self, image: np.ndarray, instruction: str, number: int) -> None:
        """One action, counted after the warm-up."""
        if self.reference is not None:
            _, total = self.reference.infer(image, instruction)
            if number >= WARM_UP:
                self.totals.append(total)
            return
        self.luck.replay(self.actions[number % len(self.actions)] if self.actions else ())
        report = self.policy.infer(image, instruction, DecodeSettings(preset=self.preset)).report
        if number >= WARM_UP:
            self.reports.append(report)
            self.totals.append(report.total_ms)


def measure(
    config: OpenVLAConfig,
    device: torch.device,
    precisions: Sequence[str],
    presets: Sequence[str],
    trace: Trace,
    actions: int,
    say: Callable[[str], None],
    limits: Device | None = None,
    compiled: bool = False,
) -> list[dict[str, Any]]:
    """One row per precision and decoder. ``limits``: of the device, for the share of the floor. ``compiled``: each of
    ``presets`` once more with compiled passes, and neither eager decoder.
    """
    rows = []
    for precision in precisions:
        say(f"building a model with random weights, {precision}")
        loaded = random_model(config, device, precision)
        contenders = _contenders(loaded, presets, trace, compiled, say)
        image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
        instruction = EXAMPLE_INSTRUCTIONS[0]
        for contender in contenders:
            if contender.policy is not None and not contender.name.endswith(COMPILED):  # which needs few shapes
                contender.luck.replay(())
                contender.policy.warm_up(instruction)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        for first in range(0, actions + WARM_UP, BLOCK):
            for contender in contenders:
                for number in range(first, min(first + BLOCK, actions + WARM_UP)):
                    contender.act(image, instruction, number)
        memory = _peak_gib(device)
        mine = [_row(contender, loaded, limits, memory) for contender in contenders]
        _compare(mine)
        for row in mine:
            say(line(row))
        rows += mine
        del loaded, contenders
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return rows


def _contenders(
    loaded: LoadedModel, presets: Sequence[str], trace: Trace, compiled: bool, say: Callable[[str], None]
) -> list[Contender]:
    found, heads = [], random_heads(loaded)
    quantised = loaded.model.precision != str(loaded.model.dtype).removeprefix("torch.")
    if not (compiled or quantised):
        try:
            found.append(Contender(TRANSFORMERS, "", None, None, [], TransformersAutoregressive(loaded)))
        except ImportError:
            say(f"{TRANSFORMERS}: left out, transformers is not installed")
    eager = {"fixed_shapes": False, "graphs": False}
    choices = [(preset, preset, {}) for preset in presets]
    if compiled:
        choices += [(f"{preset}{COMPILED}", preset, {"fixed_shapes": True}) for preset in presets]
    else:
        choices.insert(0, (EAGER, "autoregressive", eager))
    for name, preset, options in choices:
        missing = PRESETS[preset].decoder == "speculative" and preset not in trace.actions
        if missing:
            say(f"{preset}: left out, the trace has no such actions")
            continue
        luck = RecordedLuck(loaded.tokens)
        verifier = Verifier(loaded.model, loaded.tokens, cache_slots(loaded), judge=luck, **options)
        if name.endswith(COMPILED):
            compile_passes(verifier)
        planner = Planner.steady()  # trees as wide as when the trace was recorded
        policy = OpenVLAPolicy(loaded, heads, verifier=verifier, planner=planner)
        found.append(Contender(name, preset, policy, luck, trace.actions.get(preset, [])))
    return found


def _row(contender: Contender, loaded: LoadedModel, limits: Device | None, memory: float | None) -> dict[str, Any]:
    totals, reports = contender.totals, contender.reports
    row: dict[str, Any] = {
        "decoder": contender.name,
        "preset": contender.preset,
        "precision": loaded.model.precision,
        "device": _device_name(loaded.model.device),
        "cuda_graphs": bool(contender.policy is not None and contender.policy.verifier.pool.records),
        "actions": len(totals),
        "acceptance": "replayed" if contender.actions else "none",
        "total_ms": median_p99(totals),
        "mean_ms": round(float(np.mean(totals)), 3),
        "peak_memory_gib": memory,
    }
    if not reports:
        return row
    row["passes_mean"] = round(float(np.mean([r.verifier_passes for r in reports])), 4)
    row["rows_first_pass"] = round(float(np.mean([r.rows_per_pass[0] for r in reports])), 2)
    row["drafted_rows_first_pass"] = round(float(np.mean([r.drafted_per_pass[0] for r in reports])), 2)
    for stage in STAGES:
        row[stage] = median_p99([getattr(r, stage) for r in reports])
    single = [r.total_ms for r in reports if r.verifier_passes == 1]
    row["one_pass_ms"] = median_p99(single) if single else None
    if limits is not None:
        floors = [floor_ms(loaded.config, limits, r.rows_per_pass, loaded.model.precision) for r in reports]
        row["floor_ms_computed"] = round(float(np.mean(floors)), 3)
        row["floor_share"] = round(row["floor_ms_computed"] / row["mean_ms"], 3)
    return row


def _compare(rows: Sequence[dict[str, Any]]) -> None:
    """Ratios of mean times to those of the plain decoders in the same run."""
    for name in (TRANSFORMERS, EAGER, "autoregressive"):
        base = next((row["mean_ms"] for row in rows if row["decoder"] == name), None)
        for row in rows:
            if base:
                row[f"speedup_over_{name.replace(', ', '_')}"] = round(base / row["mean_ms"], 3)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _peak_gib(device: torch.device) -> float | None:
    """Largest memory of the process so far: on the GPU where there is one, else resident."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
    peak = peak_memory()
    return None if peak is None else round(peak / 2**30, 2)


def line(row: dict[str, Any]) -> str:
    """One row for people."""
    total = row["total_ms"]
    text = f"{row['decoder']:<30} {row['precision']:<9} {row['mean_ms']:8.2f} ms mean, {total['median']:8.2f} median, "
    text += f"{total['p99']:8.2f} p99"
    if "passes_mean" in row:
        text += f"  {row['passes_mean']:.2f} passes"
    if "speedup_over_autoregressive" in row:
        text += f"  {row['speedup_over_autoregressive']:.2f}x"
    if "floor_share" in row:
        text += f"  {100 * row['floor_share']:.0f} % of the floor"
    return text
