"""``spec-vla train-draft``: heads that draft for a checkpoint, distilled from the checkpoint itself.

Frames come from recordings or from the simulated table top; the labels are the verifier's own greedy tokens, so nobody
has to annotate anything. Everything goes on from the files in the work folder if it is started again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spec_vla_ros.memory import keep_freed_memory
from spec_vla_ros.openvla.fingerprint import fingerprint

from .. import outermost
from ..arguments import BASE_MODEL, BINS, COUNT, MINUTES, PERIOD, SEED, THREADS, Parser, number, whole
from ..decoding.drafters import Drafter
from ..decoding.drafters.eagle import Eagle, eagle_slots
from ..decoding.drafters.vision import Vision
from ..decoding.heads.store import FOLDER, save_head, trained_drafters
from ..decoding.heads.vision_head import VisionHeadConfig
from ..installed import model_folder
from ..motion.data_sets import action_period
from ..openvla.loader import LoadedModel, load_model
from ..openvla.picture import AUTO, IMAGE_RESIZES
from ..outputs import require, write_text
from ..policy_types import DecodeSettings
from .draft_data import Labeller, LabelSettings
from .draft_loop import Loop, LoopSettings
from .draft_parallel import Processes, processes
from .draft_report import Judge, full_report, in_words
from .draft_shards import Manifest, Samples, ShardsError, remove_partial
from .draft_sources import SIM, open_sources
from .frame_source import SourceError, SourceOptions
from .train_eagle_head import EagleRecipe
from .train_vision_head import VisionRecipe, vision_config

NAME = "train-draft"
KINDS = ("vision", "eagle")
REPORT = "report.json"


def parser() -> Parser:
    """All options."""
    result = Parser(
        prog=f"spec-vla {NAME}", description=__doc__.splitlines()[0],
        epilog="Many processes: torchrun --nproc-per-node 4 -m spec_vla_ros.training.train_draft (the same options)",
    )  # fmt: skip
    add = result.add_argument
    add("--kind", nargs="+", choices=KINDS, default=list(KINDS), help="heads to train (%(default)s)")
    add(
        "--data",
        nargs="+",
        default=[],
        help="rosbag2 or LeRobot folders, folders of rosbag2 ones, or sim: the model drives the table top (sim)",
    )
    add("--model", default="", help="the verifier, folder or hub id (the small one of the table top)")
    add("--base-model", default="", help=BASE_MODEL)
    add(
        "--out",
        type=Path,
        help="folder of the heads, for draft_heads of the node (drafters/ in the folder that --model names)",
    )
    add("--work", type=Path, default=Path("out/train-draft"), help="shards and checkpoints (%(default)s)")
    add("--seed", type=SEED, default=0)
    threads, held_out = whole(1, THREADS), number(0.0, 0.99, above=True)
    model = result.add_argument_group("the verifier")
    model.add_argument("--unnorm-key", default="", help="statistics of the checkpoint; needed where it has several")
    model.add_argument("--revision", default="", help="branch, tag or commit of a hub id")
    model.add_argument("--device", type=_device, default="auto", help="torch device, e.g. cuda:1 (%(default)s)")
    model.add_argument("--dtype", default="auto", help="as the node's parameter (%(default)s)")
    model.add_argument("--centre-crop", action="store_true", help="as the node's parameter")
    model.add_argument(
        "--image-resize", choices=(AUTO, *IMAGE_RESIZES), default=AUTO, help="as the node's parameter (%(default)s)"
    )
    model.add_argument("--threads", type=threads, default=1, help="of torch on the CPU, per process (%(default)s)")
    data = result.add_argument_group("data")
    data.add_argument("--period", type=PERIOD, help="s between two frames, 0 = every frame (the data set's step)")
    data.add_argument("--instruction", default="", help="for recordings that hold none")
    data.add_argument("--image-topic", default="", help="of bags; needed where there are several")
    data.add_argument("--instruction-topic", default="", help="of bags (the one that ends in /instruction)")
    data.add_argument("--camera", default="", help="of LeRobot data sets; needed where there are several")
    data.add_argument("--frames", type=COUNT, default=43200, help="of sim (%(default)s)")
    data.add_argument("--shard-frames", type=COUNT, default=1800, help="(%(default)s)")
    data.add_argument("--label-batch", type=COUNT, default=12, help="frames that are labelled at once (%(default)s)")
    data.add_argument(
        "--others", type=whole(0), default=2, help="more instructions that each frame is labelled for (%(default)s)"
    )
    data.add_argument("--shards-only", action="store_true", help="label, do not train")
    loop = result.add_argument_group("training")
    loop.add_argument("--steps", type=COUNT, default=10000, help="per head (%(default)s)")
    loop.add_argument("--minutes", type=MINUTES, help="instead of steps: as many as fit, by the speed of the first")
    loop.add_argument(
        "--batch", type=COUNT, default=64, help="answers per step and process; eagle: a quarter (%(default)s)"
    )
    loop.add_argument("--width", type=whole(4, 65536), help="of the vision head, a multiple of 4 (128; 7B: 1024)")
    loop.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto", help="bfloat16 on CUDA")
    loop.add_argument("--compile", action="store_true", help="torch.compile; needs a C++ compiler on the CPU")
    loop.add_argument(
        "--held-out",
        type=held_out,
        default=0.1,
        help="share of the answers, whole episodes (%(default)s)",
    )
    radius = DecodeSettings.acceptance_radius
    loop.add_argument(
        "--radius", type=BINS, default=radius, help="acceptance radius in bins of all figures (%(default)s)"
    )
    loop.add_argument("--eval-every", type=COUNT, default=1000, help="steps (%(default)s)")
    loop.add_argument("--eval-actions", type=COUNT, default=200, help="(%(default)s)")
    loop.add_argument("--report-actions", type=COUNT, default=1000, help="(%(default)s)")
    loop.add_argument(
        "--patience", type=whole(0), default=5, help="evaluations without a better head; 0 = never stop (%(default)s)"
    )
    loop.add_argument("--checkpoint-every", type=COUNT, default=500, help="steps (%(default)s)")
    return result


def _device(text: str) -> str:
    if text != "auto":
        try:
            torch.device(text)
        except RuntimeError as error:
            raise argparse.ArgumentTypeError(f"{text} is no torch device") from error
    return text


def main(argv: list[str]) -> int:
    """Command line; the command's own name may come first."""
    options = parser()
    arguments = options.parse_args(argv[1:] if argv[:1] == [NAME] else argv)
    if problem := problem_of(arguments):
        options.error(problem)
    require(arguments.work, arguments.out or arguments.work, folder=True)
    torch.set_num_threads(arguments.threads)  # on shared cores one thread is faster than two
    keep_freed_memory()
    try:
        with processes(arguments.device) as group:

            def log(text: str) -> None:
                if group.first:
                    sys.stdout.write(text + "\n")
                    sys.stdout.flush()

            run(arguments, group, log)
    except KeyboardInterrupt as error:
        raise type(error)("the same command goes on from here") from None
    return 0


def problem_of(arguments: argparse.Namespace) -> str:
    """What is wrong with the options, before anything is loaded."""
    if arguments.width is not None and arguments.width % 4:
        return "--width must be a multiple of 4, the heads of its attention"
    if arguments.out is None and not arguments.shards_only:
        if not arguments.model:  # its folder is that of the installation
            return "--out is needed without --model: the heads that came with the table top's model are not replaced"
        if not Path(arguments.model).is_dir():
            return f"--out is needed: {arguments.model} is no folder that heads could be written into"
    return ""


def run(arguments: argparse.Namespace, group: Processes, log: Callable[[str], None]) -> None:
    """Label, train one head after the other, report what they are worth."""
    loaded = load_model(
        arguments.model or model_folder(), group.device, arguments.dtype, arguments.unnorm_key or None,
        arguments.revision or None, base_model=arguments.base_model, centre_crop=arguments.centre_crop,
        image_resize=arguments.image_resize,
    )  # fmt: skip
    loaded.model.requires_grad_(False)
    manifest = make_shards(loaded, arguments, group, log)
    frames, answers = manifest.complete["frames"], manifest.complete["answers"]
    log(f"{frames} frames with {answers} answers in {len(manifest.complete['shards'])} shards, {arguments.work}")
    if arguments.shards_only:
        return
    folders = [arguments.work / "shards" / name for name in manifest.complete["shards"]]
    samples = Samples(folders, loaded, manifest.instructions, VisionHeadConfig.text_rows, group.device)
    for kind in dict.fromkeys(arguments.kind):
        train_head(kind, loaded, samples, manifest, arguments, group, log)


def make_shards(
    loaded: LoadedModel, arguments: argparse.Namespace, group: Processes, log: Callable[[str], None]
) -> Manifest:
    """Label what is not labelled yet; without --data, complete shards are taken as they are."""
    manifest = Manifest(arguments.work)
    model = fingerprint(loaded)
    if manifest.complete and not arguments.data:
        manifest.require({"model": model})
        return manifest
    period = arguments.period if arguments.period is not None else _known_period(loaded, arguments.data)
    options = SourceOptions(
        period, arguments.instruction, arguments.camera, arguments.image_topic, arguments.instruction_topic,
        arguments.frames, arguments.shard_frames, arguments.seed,
    )  # fmt: skip
    opened = [open_sources(text, options, loaded) for text in arguments.data or [SIM]]
    sources = [source for some, _ in opened for source in some]
    for note in (note for _, notes in opened for note in notes):
        log(f"note: {note}")
    settings = LabelSettings(arguments.shard_frames, arguments.others, arguments.seed, arguments.label_batch)
    manifest.require({"model": model, "data": [source.identity() for source in sources], "settings": vars(settings)})
    manifest.instructions = list(dict.fromkeys(text for source in sources for text in source.instructions))
    if manifest.complete:
        return manifest
    if group.first:
        remove_partial(arguments.work)
        manifest.save()
    group.wait()
    for source in sources:
        of = f" of {source.camera}" if source.camera else ""
        log(f"{source.name}: about {source.expected} frames{of}, {len(source.instructions)} instruction(s)")
    Labeller(loaded, manifest.instructions, settings, arguments.work, log, group.rank, group.world).run(sources)
    group.wait()
    shards = sorted(path for path in (arguments.work / "shards").glob("shard_*") if ".partial" not in path.name)
    sizes = [_size(path) for path in shards]
    manifest.complete = {
        "shards": [path.name for path in shards],
        "frames": sum(frames for frames, _ in sizes),
        "answers": sum(answers for _, answers in sizes),
    }
    if not manifest.complete["answers"]:
        raise SourceError(f"there is no usable frame in {', '.join(source.name for source in sources)}")
    if group.first:
        manifest.save()
    return manifest


def train_head(
    kind: str, loaded: LoadedModel, samples: Samples, manifest: Manifest, arguments: argparse.Namespace,
    group: Processes, log: Callable[[str], None],
) -> None:  # fmt: skip
    """Train, keep the best head, write it and its report."""
    learnt, held = samples.split(arguments.held_out, arguments.seed)
    driven = held[samples.driven[held]]  # what the robot would have been asked, with its history
    if not len(driven):
        raise ShardsError("the model answered no held-out frame with an action: is this its camera, its --unnorm-key?")
    log(f"{kind}: learns from {len(learnt)} answers; {len(driven)} of {len(held)} held-out ones are of a frame's own "
        f"instruction; {len(samples.episode.unique())} episodes")  # fmt: skip
    batch = arguments.batch if kind == "vision" else max(1, arguments.batch // 4)
    recipe: Any = (
        VisionRecipe(samples, vision_config(loaded, arguments.width))
        if kind == "vision"
        else EagleRecipe(samples, loaded, learnt)
    )
    judge = Judge(loaded, samples, kind, arguments.radius)
    looked_at = _spread(driven, arguments.eval_actions)

    def evaluate(head: nn.Module) -> tuple[float, str]:
        figures = judge.count(_drafter(kind, head, loaded), looked_at, group)
        passes, share = figures["passes_per_action"], figures["one_pass_share"]
        return passes, f"{passes:.3f} passes per action, {100 * share:.1f} % in one ({figures['actions']} actions)"

    precision = arguments.precision
    if precision == "auto":
        precision = "bfloat16" if group.device.type == "cuda" else "float32"
    settings = LoopSettings(
        0 if arguments.minutes else arguments.steps, arguments.minutes or 0.0, batch, arguments.eval_every,
        arguments.checkpoint_every, arguments.patience, precision, arguments.compile, arguments.seed,
    )  # fmt: skip
    identity = {
        "kind": kind, "data": manifest.key, "width": arguments.width or 0, "radius": arguments.radius,
        "held_out": arguments.held_out, "eval_actions": arguments.eval_actions,
    }  # fmt: skip
    loop = Loop(recipe, learnt, settings, group, arguments.work / kind, identity, evaluate, log)
    best = loop.run()
    out = arguments.out or Path(arguments.model) / FOLDER
    about = {
        "model": manifest.made_for["model"], "data": manifest.made_for["data"], "frames": manifest.complete["frames"],
        "answers_learnt_from": len(learnt), "steps": loop.state.step, "best_step": loop.state.best_step,
        "batch": batch * group.world, "processes": group.world, "precision": precision, "seed": arguments.seed,
    }  # fmt: skip
    if group.first:
        save_head(best, out / kind, about)
    group.wait()
    found, problems = trained_drafters(loaded, out)  # as the node will load it, in half precision
    if kind not in found:
        raise ShardsError(f"the head that was just written does not load: {'; '.join(problems)}")
    report = full_report(judge, found[kind], _spread(driven, arguments.report_actions), group)
    if group.first:
        write_text(out / kind / REPORT, json.dumps({"kind": kind, **report, "training": about}, indent=2) + "\n")
        for line in in_words(kind, report):
            log(line)
        log(f"wrote {out / kind}")
    group.wait()


def _drafter(kind: str, head: nn.Module, loaded: LoadedModel) -> Drafter:
    if kind == "vision":
        return Vision(head)
    return Eagle(head.to(loaded.model.dtype), loaded.model, eagle_slots(loaded))


def _spread(rows: torch.Tensor, count: int) -> torch.Tensor:
    """At most ``count`` of ``rows``, evenly over all of them."""
    return rows[torch.linspace(0, len(rows) - 1, min(count, len(rows))).long()]


def _size(folder: Path) -> tuple[int, int]:
    import numpy as np

    return tuple(len(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in ("number", "task"))


def _known_period(loaded: LoadedModel, data: list[str]) -> float:
    if not [text for text in data if text != SIM]:
        return 0.0
    try:
        return action_period(loaded.statistics.key)
    except ValueError as error:
        raise SourceError(str(error).replace("set step_dt to", "set --period to")) from error


if __name__ == "__main__":
    raise SystemExit(outermost.run(NAME, lambda: main(sys.argv[1:])))
