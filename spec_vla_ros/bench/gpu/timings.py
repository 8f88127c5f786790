"""How quick is it? Latencies of decoders, times of single passes, and where the time of the wide pass goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from spec_vla_ros.bench.decoding import latency as latencies
from spec_vla_ros.bench.decoding.floor import Device, pass_floor_ms, vision_floor_ms
from spec_vla_ros.bench.decoding.replayed import Trace
from spec_vla_ros.bench.decoding.shapes import random_model, vision_head
from spec_vla_ros.decoding.deferred import Deferred
from spec_vla_ros.decoding.drafters.base import DraftContext, Observation
from spec_vla_ros.decoding.drafters.vision import Vision
from spec_vla_ros.decoding.fixed_shapes import TEXT_SIZES, TREE_LEVELS, TREE_SIZES
from spec_vla_ros.decoding.graphs import Replay
from spec_vla_ros.decoding.presets import PRESETS
from spec_vla_ros.decoding.tree import TREE_ROWS
from spec_vla_ros.decoding.verifier import Verifier, cache_slots
from spec_vla_ros.openvla.config import OpenVLAConfig

TIMED, WARM_UP = 50, 5  # of what is timed by itself
PROFILED = 5  # wide passes
LINES = 20  # kernels that a profile names

Rows = list[dict[str, Any]]


def latency(
    config: OpenVLAConfig, device: torch.device, precision: str, trace: Trace, actions: int, limits: Device | None,
    say: Callable[[str], None], compiled: bool,
) -> Rows:  # fmt: skip
    """``spec-vla bench latency`` for one precision and all presets; ``compiled``: beside compiled passes alone."""
    presets = [preset for preset in PRESETS if not compiled or preset in ("autoregressive", "fastest")]
    return latencies.measure(config, device, [precision], presets, trace, actions, say, limits, compiled)


def passes(
    config: OpenVLAConfig, device: torch.device, precision: str, limits: Device | None, say: Callable[[str], None]
) -> Rows:
    """Towers, passes of every size and the vision head, each alone and until its result is on the host."""
    loaded = random_model(config, device, precision)
    model, patches = loaded.model, config.towers[0].patches
    verifier = Verifier(model, loaded.tokens, cache_slots(loaded), fixed_shapes=True)
    prompt, rows = patches + TEXT_SIZES[0], []

    def add(part: str, count: int | None, ms: float, floor: float | None) -> None:
        row = {"what": part, "precision": precision, "rows": count, "ms": round(ms, 3)}
        if floor is not None:
            row |= {"floor_ms_computed": round(floor, 3), "floor_share": round(floor / ms, 3)}
        row["recorded"] = verifier.pool.records
        rows.append(row)
        say(f"{part}, {count} rows: {ms:.3f} ms")

    with torch.inference_mode():
        pixels = torch.zeros(1, 3 * len(config.towers), config.image_size, config.image_size, device=device)
        see = Replay(lambda: model.embed_image(pixels), verifier.pool, "the vision towers")
        floor = vision_floor_ms(config, limits, precision) if limits else None
        add("towers and projector", patches, _median_ms(see, device), floor)
        for settled, prompt_rows in (("prompt pass", prompt), ("token pass", None)):
            for drafted in TREE_SIZES:
                ms = 1e3 * verifier.time_pass(drafted, prompt_rows=prompt_rows)
                count = drafted + (prompt_rows or 1)
                seen = count if prompt_rows else prompt + count
                floor = pass_floor_ms(config, limits, count, seen, precision) if limits else None
                add(settled, count, ms, floor)
        head = Vision(vision_head(loaded), fixed_shapes=True)
        hidden = torch.zeros(1, prompt, config.llama.hidden_size, device=device, dtype=model.dtype)
        radii = (9,) * TREE_LEVELS + (0,)
        seen = Observation(hidden[:, :patches], hidden[:, patches:], hidden)

        def draft() -> None:
            head.begin(seen)
            head.propose(DraftContext(0, TREE_LEVELS, head.widest, radii, loaded.tokens, deferred=Deferred()))

        add("vision head", None, _median_ms(draft, device), None)
    return rows


def profile(config: OpenVLAConfig, device: torch.device, precision: str) -> Rows:
    """The kernels of the widest pass that take longest, not recorded so that each has a name; shares of their sum."""
    loaded = random_model(config, device, precision)
    verifier = Verifier(loaded.model, loaded.tokens, cache_slots(loaded), fixed_shapes=True, graphs=False)
    prompt = config.towers[0].patches + TEXT_SIZES[0]
    verifier.time_pass(TREE_ROWS, prompt_rows=prompt)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as found:
        for _ in range(PROFILED):
            verifier.time_pass(TREE_ROWS, prompt_rows=prompt)
    spent = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    events = [event for event in found.key_averages() if getattr(event, spent) > 0]
    whole = sum(getattr(event, spent) for event in events)
    events.sort(key=lambda event: -getattr(event, spent))
    return [
        {
            "what": f"wide pass, {precision}", "rows": prompt + TREE_ROWS, "kernel": event.key, "count": event.count,
            "share": round(getattr(event, spent) / whole, 4),
        }
        for event in events[:LINES]
    ]  # fmt: skip


def _median_ms(work: Callable[[], Any], device: torch.device) -> float:
    times = []
    for _ in range(TIMED + WARM_UP):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(1e3 * (time.perf_counter() - began))
        if len(times) > 2 and sum(times) > 2e4:  # a host that needs seconds for each
            break
    return float(torch.tensor(times[min(WARM_UP, len(times) - 1) :]).median())
