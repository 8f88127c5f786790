"""One replay from the paths to the files: what the command line and the golden test call."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spec_vla_ros.machine import machine, versions

from .bag import Bag
from .compare import Comparison, worst
from .frames import Frames, command_topic
from .run import ReplayError, Run, Settings, make_policies, rows

PRESETS = ("autoregressive", "spec_vla", "training_free", "fastest")
WORST = 8  # images in the report


@dataclass(frozen=True)
class Options:
    """What to replay. ``out``: folder for everything that is written.

    ``period``: s between two images, None = the data set's, 0 = every image. ``presets``: the first one is compared
    with.
    Everything else as in the node's parameters of the same names.
    """

    bag: Path
    out: Path
    model: str
    presets: tuple[str, ...] = PRESETS
    image_topic: str = ""
    instruction_topic: str = ""
    instruction: str = ""
    command_topic: str = ""
    period: float | None = None
    acceptance_radius: int = 9
    draft_depth: int = 6
    draft_heads: str = ""
    unnorm_key: str = ""
    revision: str = ""
    device: str = "auto"
    dtype: str = "auto"
    cpu_threads: int = 0
    centre_crop: bool = False
    report: bool = True


@dataclass
class Result:
    """What came out. ``summary``: one row per preset. ``left_out``: presets without a head, and why."""

    header: dict[str, Any]
    summary: list[dict[str, Any]]
    left_out: list[str]
    broken: str
    counts: dict[str, Any]
    path: Path
    files: dict[str, Path]

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows, one at a time."""
        return rows(self.path)


def replay(options: Options, say: Callable[[str], None] = lambda _: None) -> Result:
    """Run, compare, write. Raises :class:`ReplayError`, :class:`.bag.BagError` and :class:`.errors.SpecVlaError`."""
    began = time.monotonic()
    bag = Bag(options.bag)
    topic = bag.image_topic(options.image_topic)
    loaded, heads = _load(options)
    period = _period(options, loaded.statistics.key)
    frames = Frames(
        bag, topic, options.instruction_topic, options.instruction,
        period=options.period if options.period is not None else period,
        command_topic=options.command_topic or command_topic(bag),
    )  # fmt: skip
    settings = Settings(options.presets, options.acceptance_radius, options.draft_depth)
    policies, left_out = make_policies(loaded, heads, settings)
    if not policies:
        raise ReplayError("none of the presets can be run: " + "; ".join(left_out))
    settings = Settings(tuple(policies), options.acceptance_radius, options.draft_depth)
    about = {
        "model": options.model, "unnorm_key": loaded.statistics.key, "dtype": loaded.model.precision,
        "device": str(loaded.model.device), "centre_crop": options.centre_crop, "draft_heads": options.draft_heads,
    }  # fmt: skip
    run = Run(frames, policies, settings, options.out, about)
    say(f"{bag.path}: {frames.images} images on {topic}; {', '.join(policies)}; into {options.out}")
    gallery = _gallery(options, settings)
    run.run(say, gallery.look if gallery else None)
    if bag.broken:
        say(bag.broken)
    comparison = Comparison(settings.presets, period)
    for row in rows(run.path):
        comparison.add(row)
    if not len(comparison):
        raise ReplayError(f"no image could be replayed: {comparison.errors or _counts(frames, run)}")
    summary = comparison.summary(frames.commands)
    counts = {**_counts(frames, run), "errors": comparison.errors, "seconds": round(time.monotonic() - began, 1)}
    result = Result(run.header, summary, left_out, bag.broken, counts, run.path, {})
    if options.report:
        _write(
            options, result, run, comparison, frames, gallery, [float(w) for w in loaded.statistics.bin_width()], period
        )
    return result


def _load(options: Options) -> tuple[Any, Any]:
    import torch

    from spec_vla_ros.decoding.heads.store import heads_folder, trained_drafters
    from spec_vla_ros.openvla.loader import load_model

    if options.cpu_threads:
        torch.set_num_threads(options.cpu_threads)
    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    loaded = load_model(
        options.model, device=device, dtype=options.dtype, unnorm_key=options.unnorm_key or None,
        revision=options.revision or None, centre_crop=options.centre_crop,
    )  # fmt: skip
    return loaded, trained_drafters(loaded, heads_folder(loaded, options.draft_heads))


def _period(options: Options, unnorm_key: str) -> float:
    """Seconds of one action; raises ``ReplayError`` if nobody knows."""
    from spec_vla_ros.motion.data_sets import action_period

    try:
        return action_period(unnorm_key)
    except ValueError as error:
        if options.period:
            return options.period
        raise ReplayError(str(error).replace("step_dt", "--period")) from error


def _counts(frames: Frames, run: Run) -> dict[str, Any]:
    return {
        "images_used": frames.used,
        "images_between_steps": frames.between,
        "images_without_instruction": frames.without_instruction,
        "images_unreadable": frames.unreadable,
        "instructions_refused": frames.refused,
        "continued_from_row": run.done,
        "model_seconds": round(run.model_seconds, 2),
        "other_share": round(1 - run.model_seconds / run.seconds, 4)
        if run.seconds and run.done < frames.used
        else None,
    }


def _gallery(options: Options, settings: Settings) -> Any:
    if not options.report:
        return None
    from .gallery import Gallery

    return Gallery(options.out / "worst", settings.presets, WORST)


def _write(
    options: Options, result: Result, run: Run, comparison: Comparison, frames: Frames, gallery: Any,
    bin_width: list[float], period: float,
) -> None:  # fmt: skip
    from . import output_bag, report

    out = options.out
    output_bag.write(out / "replay_bag", rows(run.path), comparison.presets, bin_width, period)
    furthest = worst(rows(run.path), comparison.presets, WORST)
    content = {
        "made_of": result.header, "summary": result.summary, "left_out": result.left_out, "broken": result.broken,
        "counts": result.counts, "worst": furthest, "machine": machine(), "versions": versions(),
    }  # fmt: skip
    (out / "summary.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    report.write(out / "report.html", content, comparison, frames.commands, gallery.pictures(furthest))
    result.files = {name: out / name for name in ("summary.json", "report.html", "replay_bag")}
