"""One replay from the paths to the files: what the command line and the golden test call."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spec_vla_ros.errors import InstructionError
from spec_vla_ros.file_digest import digest
from spec_vla_ros.foreign_text import printable
from spec_vla_ros.installed import model_folder
from spec_vla_ros.machine import machine, versions
from spec_vla_ros.outputs import write_text
from spec_vla_ros.recordings.errors import ReplayError
from spec_vla_ros.recordings.frames import Frames, action_topics
from spec_vla_ros.recordings.reader import Bag

from .advice import answer
from .compare import Comparison, worst
from .moments import PICTURED, moments
from .options import PRESETS, Options
from .run import Run, make_policies, rows
from .verdict import Verdict, judge

__all__ = ["PRESETS", "Options", "Result", "replay"]

WORST = 8  # images on which decoders disagree most, whether or not that was allowed


@dataclass
class Result:
    """What came out. ``summary``: one row per preset. ``left_out``: presets without a head, and why.

    ``answer``: the verdict in a sentence or two.
    """

    header: dict[str, Any]
    summary: list[dict[str, Any]]
    left_out: list[str]
    broken: str
    counts: dict[str, Any]
    path: Path
    files: dict[str, Path]
    answer: str

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows, one at a time."""
        return rows(self.path)


def replay(
    options: Options,
    say: Callable[[str], None] = lambda _: None,
    look: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Result:
    """Run, compare, write. ``look`` sees what the actions will be made of before the first one, and may raise.

    Raises :class:`.errors.ReplayError`, :class:`.errors.BagError` and :class:`spec_vla_ros.errors.SpecVlaError`.
    """
    began = time.monotonic()
    place = Path(options.bag).resolve()
    if options.out and Path(options.out).resolve() == (place.parent if place.is_file() else place):
        raise ReplayError(f"--out {options.out} is where the recording is; results would be mixed with it")
    if options.report:
        from . import output_bag, report  # noqa: F401 - a library that is missing is missed now, not at the end
    bag = Bag(options.bag)
    topic = bag.image_topic(options.image_topic)
    loaded, heads, about = _load(options)
    period = _period(options, loaded.statistics.key)
    frames = Frames(
        bag, topic, options.instruction_topic, options.instruction,
        period=options.period if options.period is not None else period,
        command_topic=options.command_topic or _command_topic(bag, say),
    )  # fmt: skip
    policies, left_out = make_policies(loaded, heads, options.settings())
    if not policies:
        raise ReplayError("none of the presets can be run: " + "; ".join(left_out))
    settings = options.settings(tuple(policies))
    run = Run(frames, policies, settings, options.out, about)
    look(run.header)
    say(
        f"{bag.path}: {frames.images} images on {topic}; {', '.join(policies)}; into {run.folder}; "
        f"{_prompt(loaded, frames)}"
    )
    for remark in bag.remarks:
        say(f"{bag.path}: {remark}")
    run.run(say)
    if bag.broken:
        say(bag.broken)
    comparison = Comparison(settings.presets, period)
    blank = 0
    for row in rows(run.path):
        comparison.add(row)
        blank += "blank" in row
    if not len(comparison):
        counted = comparison.errors or _counts(frames, run)
        why = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in counted.items() if value)
        raise ReplayError(f"no image could be replayed: {why}")
    summary = comparison.summary(frames.commands)
    if blank:
        say(f"{blank} of {frames.used} images are black or of one colour; what decoders say of them means nothing")
    counts = {
        **_counts(frames, run),
        "images_that_show_nothing": blank,
        "errors": comparison.errors,
        "seconds": round(time.monotonic() - began, 1),
    }
    bin_width = loaded.statistics.bin_width(loaded.tokens.n_bins).tolist()
    verdicts = judge(comparison, bin_width, settings.acceptance_sum)
    result = Result(run.header, summary, left_out, bag.broken, counts, run.path, {}, answer(verdicts, settings.presets))
    if options.report:
        _write(result, run, comparison, frames, verdicts, bin_width, say)
    return result


def _load(options: Options) -> tuple[Any, Any, dict[str, Any]]:
    """Model, heads with their problems, and what of both and of this machine decides the actions, as JSON."""
    from spec_vla_ros.decoding.heads.store import heads_folder, trained_drafters
    from spec_vla_ros.openvla.devices import use_threads
    from spec_vla_ros.openvla.fingerprint import fingerprint
    from spec_vla_ros.openvla.loader import load_model

    use_threads(options.cpu_threads)
    model = options.model or str(model_folder())
    loaded = load_model(
        model, device=options.device, dtype=options.dtype, unnorm_key=options.unnorm_key or None,
        revision=options.revision or None, base_model=options.base_model, centre_crop=options.centre_crop,
        image_resize=options.image_resize,
    )  # fmt: skip
    folder = heads_folder(loaded, options.draft_heads)
    heads = trained_drafters(loaded, folder)
    files, statistics = fingerprint(loaded), loaded.statistics
    numbers = [values.tolist() for values in (statistics.q01, statistics.q99, statistics.mask)]
    about = {
        "model": model, "revision": options.revision, "model_digest": files["digest"], "prompt": files["prompt"],
        "base_digest": files.get("base", ""), "unnorm_key": statistics.key,
        "statistics_digest": hashlib.sha256(json.dumps(numbers).encode()).hexdigest()[:16],
        "centre_crop": options.centre_crop, "image_resize": files["image_resize"], "draft_heads": options.draft_heads,
        "heads_digest": {name: digest(_head_files(folder / name)) for name in sorted(heads[0])},
        "dtype": loaded.model.arithmetic, "device": str(loaded.model.device), "cpu_threads": options.cpu_threads,
        "versions": versions(),
    }  # fmt: skip
    return loaded, heads, about


def _head_files(folder: Path) -> list[Path]:
    """What a head is made of; not the report beside it."""
    return [path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin") or path.name == "config.json"]


def _command_topic(bag: Bag, say: Callable[[str], None]) -> str:
    found = action_topics(bag)
    if len(found) > 1:
        say(f"{bag.path}: compared with none of {', '.join(found)}; --command-topic names one")
    return found[0] if len(found) == 1 else ""


def _period(options: Options, unnorm_key: str) -> float:
    """Seconds of one action; raises ``ReplayError`` if nobody knows."""
    from spec_vla_ros.motion.data_sets import action_period

    try:
        return action_period(unnorm_key)
    except ValueError as error:
        if options.period:
            return options.period
        raise ReplayError(str(error).replace("step_dt", "--period")) from error


def _prompt(loaded: Any, frames: Frames) -> str:
    """What the model will read, that nobody has to guess what became of the words."""
    try:
        text = loaded.prompt.text(frames.first_instruction())
    except InstructionError as error:
        return f"no prompt to begin with: {error}"
    return f"{'' if frames.instruction else 'first '}prompt: {printable(text)}"


def _counts(frames: Frames, run: Run) -> dict[str, Any]:
    return {
        "images_used": frames.used,
        "images_between_steps": frames.between,
        "images_without_instruction": frames.without_instruction,
        "images_unreadable": frames.unreadable,
        "instructions_refused": frames.refused,
        "actions_not_commanded": frames.commands.not_commanded,
        "continued_from_row": run.done,
        "warm_up_seconds": round(run.warm_up_seconds, 2),
        "model_seconds": round(run.model_seconds, 2),
        "other_share": round(1 - run.model_seconds / run.seconds, 4)
        if run.seconds and run.done < frames.used
        else None,
    }


def _write(
    result: Result, run: Run, comparison: Comparison, frames: Frames, verdicts: list[Verdict],
    bin_width: list[float], say: Callable[[str], None],
) -> None:  # fmt: skip
    from . import output_bag
    from .gallery import pictures
    from .report import NO_PLOTS, Report, plotly_js

    out = run.folder
    output_bag.write(out / "replay_bag", rows(run.path), comparison.presets, bin_width, comparison.period)
    furthest, found = worst(rows(run.path), comparison.presets, WORST), moments(comparison, verdicts)
    content = {
        "made_of": result.header, "summary": result.summary, "left_out": result.left_out, "broken": result.broken,
        "counts": result.counts, "worst": furthest, "machine": _machine(result.header["device"]),
        "versions": versions(), "answer": result.answer,
        "verdicts": [verdict.as_json(comparison) for verdict in verdicts],
    }  # fmt: skip
    write_text(out / "summary.json", json.dumps(content, indent=1) + "\n")
    wanted = {index for index, _, _ in furthest} | {moment.index for moment in found[:PICTURED]}
    library = plotly_js()
    if library is None:
        say(NO_PLOTS)
    report = Report(content, comparison, frames.commands, verdicts, found, pictures(frames.again(), wanted))
    write_text(out / "report.html", report.page(library))
    result.files = {name: out / name for name in ("summary.json", "report.html", "replay_bag")}


def _machine(device: str) -> dict[str, Any]:
    """What the times depend on; ``device``: of torch."""
    found = machine()
    if device.startswith("cuda"):
        import torch

        found["accelerator"] = torch.cuda.get_device_name(device)
    return found
