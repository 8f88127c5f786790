"""``spec-vla bench <what>``: measurements on this machine."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from spec_vla_ros import outermost
from spec_vla_ros.arguments import (
    BASE_MODEL,
    BINS,
    COUNT,
    MINUTES,
    POSITIVE,
    SECONDS,
    SEED,
    SHARE,
    SIZE,
    THREADS,
    Parser,
    number,
    whole,
)
from spec_vla_ros.bench.decoding import precision_cli
from spec_vla_ros.bench.decoding.floor import WEIGHT_BYTES
from spec_vla_ros.bench.full_size import cli as full_size
from spec_vla_ros.bench.gpu import cli as gpu
from spec_vla_ros.bench.pace import cli as pace
from spec_vla_ros.bench.wire.two_hosts import ROWS
from spec_vla_ros.decoding.drafters import TRAINING_FREE
from spec_vla_ros.decoding.presets import AUTO, PRESETS
from spec_vla_ros.errors import CommandError, UsageError
from spec_vla_ros.installed import TABLETOP, model_folder
from spec_vla_ros.libero.protocol import STATES, SUITES, TASKS
from spec_vla_ros.machine import write_rows
from spec_vla_ros.motion.pacing import PACINGS
from spec_vla_ros.outputs import require
from spec_vla_ros.policy_types import DecodeSettings

TWO_HOSTS = list(ROWS)
PIXELS, JOBS = whole(1, 8192), whole(0, THREADS)
TRACE_EPISODES = 54  # six of every task
USUAL = DecodeSettings()


def main(argv: Sequence[str]) -> int:
    """Run one bench; ``argv`` begins with the command's name. Returns the exit status."""
    arguments = _parser().parse_args(argv[1:])
    require(arguments.json, getattr(arguments, "plot", None))
    return arguments.run(arguments)


def _parser() -> Parser:
    parser = Parser(prog="spec-vla bench", description="Measurements on this machine.")
    benches = parser.add_subparsers(dest="what", metavar="what", required=True)
    text = "what the act node adds to the inference, from the image to the first velocity of its action"
    wire = benches.add_parser("wire", help=text, description=f"Measures {text}; over DDS, without an arm.")
    wire.add_argument("--seconds", type=SECONDS, default=30.0, help="of driving (%(default)s)")
    wire.add_argument("--width", type=PIXELS, default=640, help="px (%(default)s)")
    wire.add_argument("--height", type=PIXELS, default=480, help="px (%(default)s)")
    wire.add_argument("--rate", type=POSITIVE, default=30.0, help="images per second (%(default)s)")
    wire.add_argument("--reliable", action="store_true", help="the camera publishes reliably (best effort)")
    wire.add_argument("--compressed", action="store_true", help="it publishes JPEG (raw)")
    wire.add_argument(
        "--cameras",
        action="store_true",
        help="640 x 480, 1280 x 720 and 1920 x 1080 one after the other, in all four ways",
    )
    wire.add_argument("--model", default=TABLETOP, help="checkpoint folder (%(default)s)")
    wire.add_argument("--preset", choices=(AUTO, *PRESETS), default=AUTO, help="(%(default)s)")
    wire.set_defaults(run=_over_dds("overhead"))
    text = "camera and arm on one host, the act node on another: latency, losses, and a link that goes down"
    about = f"Measures {text}. The hosts are network namespaces of this machine; needs root and iproute2."
    hosts = benches.add_parser("two-hosts", help=text, description=about)
    hosts.add_argument("--rows", nargs="+", metavar="ROW", help=f"of {', '.join(TWO_HOSTS)} (all)", choices=TWO_HOSTS)
    hosts.add_argument("--seconds", type=SECONDS, default=20.0, help="of driving per row (%(default)s)")
    hosts.add_argument("--model", default="", help="checkpoint folder (canned moves, which think for 30 ms)")
    hosts.set_defaults(run=_two_hosts)
    text = "passes, success and drift of presets and radii, in closed loop on the simulated table top"
    passes = benches.add_parser("passes", help=text, description=f"Measures {text}.")
    passes.add_argument("--model", default=TABLETOP, help="checkpoint folder (%(default)s)")
    passes.add_argument("--heads", type=Path, help="folder of draft heads (drafters/ in the model's folder)")
    passes.add_argument("--presets", nargs="+", default=[*PRESETS, AUTO], choices=(*PRESETS, AUTO), help="(all)")
    radii = [0, 5, USUAL.acceptance_radius]
    passes.add_argument("--radii", nargs="+", type=BINS, default=radii, help="bins (%(default)s)")
    passes.add_argument("--radius-sum", type=COUNT, help="bins that an action's accepted distances may add up to")
    passes.add_argument(
        "--second-look", type=SIZE, default=USUAL.second_look, help="nats, as the node's parameter (%(default)s)"
    )
    passes.add_argument("--episodes", type=COUNT, default=300, help="per row (%(default)s)")
    passes.add_argument(
        "--one-shape", action="store_true", help="fill every pass up to one size, so that no rounding differs (slow)"
    )
    passes.add_argument(
        "--free-rows",
        action="store_true",
        help="choose automatic trees as where drafted rows cost nothing, like on a large GPU (what is quickest here)",
    )
    passes.set_defaults(run=_passes)
    text = "what the way from a camera's image to the model's picture changes, and what it costs"
    pictures = benches.add_parser("pictures", help=text, description=f"Measures {text}; on rendered images.")
    pictures.add_argument("--model", default=TABLETOP, help="checkpoint folder (%(default)s)")
    pictures.add_argument(
        "--sizes", nargs="+", type=_pixels, default=[(640, 480), (1280, 720), (1920, 1080)], metavar="640x480"
    )
    pictures.add_argument("--frames", type=COUNT, default=40, help="per size (%(default)s)")
    pictures.set_defaults(run=_pictures)
    text = "what an action costs, stage by stage, at a recorded acceptance, with random weights"
    latency = benches.add_parser("latency", help=text, description=f"Measures {text}.")
    latency.add_argument(
        "--shapes",
        default="auto",
        help="7b, or a checkpoint folder whose sizes are taken; auto = 7b on a GPU, else small",
    )
    latency.add_argument("--layers", type=COUNT, help="decoder layers, instead of those of the shapes")
    latency.add_argument("--threads", type=JOBS, default=1, help="of torch on the CPU (%(default)s)")
    latency.add_argument("--device", default="auto", help="torch device (auto: cuda where there is one)")
    latency.add_argument(
        "--precisions", nargs="+", choices=WEIGHT_BYTES, help="(bfloat16 on a GPU, float32 on the CPU)"
    )
    latency.add_argument("--presets", nargs="+", default=list(PRESETS), choices=PRESETS, help="(all)")
    latency.add_argument("--actions", type=COUNT, default=200, help="per row (%(default)s)")
    latency.add_argument(
        "--trace",
        type=Path,
        metavar="PATH",
        help="recorded acceptance (that of the small model); recorded on the table top if there is no such file",
    )
    latency.add_argument(
        "--bandwidth",
        type=POSITIVE,
        help="TB/s of the device's memory, for the floor (known devices: own)",
    )
    latency.add_argument("--tflops", type=POSITIVE, help="dense arithmetic of the device, likewise")
    latency.set_defaults(run=_latency)
    text = "what each part of an action asks of a GPU at 7B shapes: kernels, bytes, waits of the host"
    launches = benches.add_parser("launches", help=text, description=f"Counts {text}; needs none, measures nothing.")
    launches.add_argument("--layers", type=COUNT, help="decoder layers, instead of those of the 7B model")
    launches.set_defaults(run=_launches)
    text = "passes that recorded actions would take, with the product's drafters and acceptance and without a model"
    streams = benches.add_parser("streams", help=text, description=f"Measures {text}: docs/benchmarks.md.")
    streams.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help=".npz, .csv, .jsonl, a recording, a LeRobot data set"
    )
    streams.add_argument(
        "--presets", nargs="*", default=None, choices=PRESETS, help="(all that draft without a trained head)"
    )
    streams.add_argument(
        "--drafters", nargs="+", action="append", default=[], choices=tuple(TRAINING_FREE), metavar="NAME",
        help=f"a list of {', '.join(TRAINING_FREE)}, as with the preset custom; may be given again",
    )  # fmt: skip
    streams.add_argument(
        "--radii", nargs="+", type=BINS, default=[USUAL.acceptance_radius, 0], help="bins (%(default)s)"
    )
    streams.add_argument("--draft-width", type=COUNT, help="branches of each drafter (the preset's)")
    streams.add_argument("--rate", type=POSITIVE, metavar="HZ", help="of files that do not say theirs")
    streams.add_argument(
        "--at", nargs="+", type=POSITIVE, default=[], metavar="HZ", help="lower rates as well, whole divisors"
    )
    streams.add_argument(
        "--tip", type=SHARE, default=0.5, metavar="SHARE",
        help="of tokens that are changed after an inexact prefix, in rows of their own; 0 = no such rows (%(default)s)",
    )  # fmt: skip
    streams.add_argument("--without-habits", action="store_true", help="draft from each episode alone")
    streams.add_argument(
        "--statistics", metavar="FILE[:KEY]",
        help="dataset_statistics.json, config.json or checkpoint folder that actions are encoded with (their own)",
    )  # fmt: skip
    streams.add_argument("--action-topic", default="", help="of DeltaActions (the only one there is)")
    streams.set_defaults(run=_streams)
    text = "whether the act node grows or its stream pauses in hours of closed loop"
    soak = benches.add_parser("soak", help=text, description=f"Finds out {text}, with the simulated arm.")
    soak.add_argument("--minutes", type=MINUTES, default=60.0, help="(%(default)s)")
    soak.add_argument("--model", default=TABLETOP, help="checkpoint folder (%(default)s)")
    soak.add_argument("--seed", type=SEED, default=1, help="of the layouts (%(default)s)")
    soak.set_defaults(run=_over_dds("soak"))
    text = "how long the arm goes on after the camera's last image"
    dead = benches.add_parser("dead-man", help=text, description=f"Measures {text}, with and without a running /clock.")
    dead.add_argument("--trials", type=COUNT, default=50, help="per kind of clock (%(default)s)")
    dead.add_argument("--image-timeout", type=number(0.05, 5.05), default=0.5, help="s, of the node (%(default)s)")
    dead.add_argument("--seed", type=SEED, default=0, help="of the moments (%(default)s)")
    dead.set_defaults(run=_over_dds("dead_man"))
    text = "whether a faulty world ever makes the act node publish an unsafe command"
    faults = benches.add_parser(
        "faults",
        help=text,
        description=f"Finds out {text}: injects faults at random while it drives a simulated arm over DDS.",
    )
    faults.add_argument("--faults", type=COUNT, default=1000, help="to inject (%(default)s)")
    faults.add_argument("--seed", type=SEED, default=0, help="decides every fault and its moment (%(default)s)")
    faults.add_argument(
        "--seconds-per-fault", type=SECONDS, default=1.0, help="that a stopped node is watched, about (%(default)s)"
    )
    faults.add_argument("--width", type=whole(1, 640), default=64, help="px of the camera, at most 640 (%(default)s)")
    faults.add_argument("--height", type=whole(1, 480), default=64, help="px, at most 480 (%(default)s)")
    faults.add_argument(
        "--pairs",
        type=SHARE,
        default=0.25,
        metavar="SHARE",
        help="of faults with a second one soon after (%(default)s)",
    )
    faults.add_argument("--kinds", nargs="+", default=[], metavar="NAME", help="only these, as the table names them")
    faults.add_argument("--pacing", choices=PACINGS, default=PACINGS[0], help="of the node (%(default)s)")
    faults.set_defaults(run=_faults)
    text = "success on the suites of LIBERO by the protocol of OpenVLA's evaluation"
    libero = benches.add_parser("libero", help=text, description=f"Measures {text}: docs/libero.md.")
    libero.add_argument("--suite", required=True, choices=SUITES, help="ten tasks each")
    libero.add_argument("--model", required=True, help="checkpoint folder or hub id, fine-tuned on the suite")
    libero.add_argument("--revision", default="", help="branch, tag or commit of a hub id")
    libero.add_argument("--preset", "--presets", dest="presets", nargs="+", default=list(PRESETS), choices=PRESETS)
    libero.add_argument("--radius", type=BINS, default=USUAL.acceptance_radius, help="bins (%(default)s)")
    libero.add_argument("--trials", type=whole(1, STATES), default=STATES, metavar=f"1..{STATES}", help="(%(default)s)")
    tasks = whole(0, TASKS - 1)
    libero.add_argument("--tasks", type=tasks, nargs="+", default=list(range(TASKS)), metavar="TASK", help="(all)")
    libero.add_argument("--seed", type=SEED, default=0, help="of where fixtures stand (%(default)s)")
    libero.add_argument("--work", type=Path, help="folder of finished episodes, to go on from (out/libero/<suite>)")
    libero.add_argument("--workers", type=JOBS, default=0, help="processes, each with a model (one per device)")
    libero.add_argument("--devices", default="auto", help="cuda:0,cuda:1 (auto: cuda where there is one)")
    libero.add_argument("--dtype", default="auto", help="as the node's parameter (%(default)s)")
    libero.add_argument("--unnorm-key", default="", help="statistics of the model (those of the suite)")
    libero.add_argument("--heads", type=Path, help="folder of draft heads (drafters/ in the model's folder)")
    libero.add_argument("--assets", type=Path, help="folder of LIBERO's meshes and textures (looked for)")
    libero.set_defaults(run=_libero)
    gpu.add(benches)
    pace.add(benches)
    full_size.add(benches)
    precision_cli.add(benches)
    for bench in (passes, latency):
        bench.add_argument("--plot", type=Path, metavar="PATH", help="draw the figures into this PNG")
    for bench in (wire, hosts, passes, latency, soak, libero, pictures):
        bench.add_argument("--base-model", default="", help=BASE_MODEL)
    for bench in benches.choices.values():
        bench.add_argument("--json", type=Path, metavar="PATH", help="write the figures to this file")
    return parser


def _over_dds(module: str) -> Callable[[argparse.Namespace], int]:
    """Runs a bench whose module has ``Options``, ``measure`` and ``report``, and whose arguments are the options."""

    def run(arguments: argparse.Namespace) -> int:
        bench = importlib.import_module(f"spec_vla_ros.bench.wire.{module}")
        names = bench.Options.__dataclass_fields__
        result = bench.measure(bench.Options(**{name: getattr(arguments, name) for name in names}), _say)
        _say(bench.report(result))
        several = isinstance(result, list)  # of which a node that has stopped is a finding
        write_rows(arguments.json, result if several else [result])
        return int(not several and bool(result.get("stopped")))

    return run


def _two_hosts(arguments: argparse.Namespace) -> int:
    from spec_vla_ros.bench.wire.netns import missing
    from spec_vla_ros.bench.wire.two_hosts import measure

    if why := missing():
        raise CommandError(why)
    rows = measure(arguments.rows or TWO_HOSTS, arguments.seconds, _say, arguments.model, arguments.base_model)
    write_rows(arguments.json, rows)
    return 0


def _passes(arguments: argparse.Namespace) -> int:
    import torch

    from spec_vla_ros.bench.decoding.passes import measure

    torch.set_num_threads(1)  # small matrices
    grid = []
    for preset in arguments.presets:
        radii = arguments.radii if preset != "autoregressive" else [0]
        more = {"radius_sum": arguments.radius_sum, "second_look": arguments.second_look}
        grid += [DecodeSettings(preset=preset, acceptance_radius=radius, **more) for radius in radii]
    more = {"one_shape": arguments.one_shape, "base_model": arguments.base_model, "free_rows": arguments.free_rows}
    rows = measure(arguments.model, grid, arguments.episodes, _say, arguments.heads, **more)
    write_rows(arguments.json, rows)
    if arguments.plot and rows:
        from spec_vla_ros.bench.decoding.plot import plot_passes

        plot_passes(rows, arguments.plot)
    return 0 if rows else 1


def _streams(arguments: argparse.Namespace) -> int:
    import torch

    from spec_vla_ros.bench.decoding.stream_files import read_stream
    from spec_vla_ros.bench.decoding.stream_tokens import at_rate, encoded, read_statistics
    from spec_vla_ros.bench.decoding.streams import cases, measure, need_heads

    torch.set_num_threads(1)  # small matrices
    statistics = read_statistics(arguments.statistics) if arguments.statistics else None
    presets = arguments.presets
    if presets is None:
        presets = [name for name, preset in PRESETS.items() if preset.drafters and not need_heads([name])]
    for preset in need_heads(presets):
        _say(f"{preset} drafts with a trained head, which needs its model; left out")
    todo = cases(presets, arguments.drafters, arguments.radii, arguments.draft_width)
    streams = []
    for path in arguments.files:
        stream = encoded(read_stream(path, arguments.action_topic), statistics, arguments.rate)
        streams += [stream, *(at_rate(stream, hz) for hz in arguments.at)]
    rows = measure(streams, todo, arguments.tip, _say, not arguments.without_habits)
    write_rows(arguments.json, rows)
    return 0 if rows else 1


def _pictures(arguments: argparse.Namespace) -> int:
    import torch

    from spec_vla_ros.bench.decoding.pictures import measure

    torch.set_num_threads(1)
    write_rows(
        arguments.json,
        measure(model_folder(arguments.model), arguments.sizes, arguments.frames, _say, arguments.base_model),
    )
    return 0


def _pixels(text: str) -> tuple[int, int]:
    """(width, height) of "640x480"."""
    width, _, height = text.partition("x")
    return PIXELS(width), PIXELS(height)


def _latency(arguments: argparse.Namespace) -> int:
    import torch

    from spec_vla_ros.bench.decoding.floor import Device
    from spec_vla_ros.bench.decoding.latency import measure
    from spec_vla_ros.bench.decoding.replayed import Trace, record
    from spec_vla_ros.bench.decoding.shapes import config_of
    from spec_vla_ros.openvla.devices import named_device, use_threads

    use_threads(arguments.threads)
    device = named_device(arguments.device)
    on_gpu = device.type == "cuda"
    shapes = ("7b" if on_gpu else TABLETOP) if arguments.shapes == "auto" else arguments.shapes
    config = config_of(shapes, arguments.base_model, arguments.layers or 0)
    path = arguments.trace or model_folder() / "trace.json"
    if os.path.exists(path):
        trace = Trace.load(path)
    else:
        require(path)
        drafting = [preset for preset in arguments.presets if PRESETS[preset].decoder == "speculative"]
        trace = record(model_folder(), drafting, TRACE_EPISODES, _say)
        trace.save(path)
    limits = Device.of(device, arguments.bandwidth, arguments.tflops)
    _say(f"acceptance: {trace.about}")
    precisions = arguments.precisions or ["bfloat16" if on_gpu else "float32"]
    try:
        rows = measure(config, device, precisions, arguments.presets, trace, arguments.actions, _say, limits)
    except torch.OutOfMemoryError as error:
        raise CommandError(f"{outermost.in_words(error)} (fewer --layers or --precisions int8 need less)") from error
    for row in rows:
        row |= {
            "shapes": shapes, "layers": config.llama.num_hidden_layers, "threads": torch.get_num_threads(),
            "acceptance_from": trace.about,
        }  # fmt: skip
    write_rows(arguments.json, rows)
    if arguments.plot:
        from spec_vla_ros.bench.decoding.plot import plot_latency

        plot_latency(rows, arguments.plot)
    return 0


def _launches(arguments: argparse.Namespace) -> int:
    from spec_vla_ros.bench.decoding.launches import measure
    from spec_vla_ros.bench.decoding.shapes import SEVEN_B, shortened

    write_rows(arguments.json, measure(shortened(SEVEN_B, arguments.layers) if arguments.layers else SEVEN_B, _say))
    return 0


def _faults(arguments: argparse.Namespace) -> int:
    from spec_vla_ros.bench.wire.fault_kinds import KINDS
    from spec_vla_ros.bench.wire.faults import Options, measure, report, safe

    if unknown := set(arguments.kinds) - {kind.name for kind in KINDS}:
        names = ", ".join(kind.name for kind in KINDS)
        raise UsageError(f"no kind {', '.join(sorted(unknown))}; there are: {names}")
    names = ("faults", "seed", "seconds_per_fault", "width", "height", "kinds", "pairs", "pacing")
    rows = measure(Options(**{name: getattr(arguments, name) for name in names}), _say)
    _say(report(rows))
    write_rows(arguments.json, rows)
    return 0 if safe(rows) else 1


def _libero(arguments: argparse.Namespace) -> int:
    from spec_vla_ros.libero.bench import measure
    from spec_vla_ros.libero.options import Options
    from spec_vla_ros.libero.report import report
    from spec_vla_ros.libero.world import packages

    devices = tuple(arguments.devices.split(","))
    given = {name: getattr(arguments, name) for name in Options.__dataclass_fields__}
    given |= {
        "devices": devices,
        "workers": arguments.workers or len(devices),
        "work": arguments.work or Path("out/libero") / arguments.suite,
        "presets": tuple(dict.fromkeys(arguments.presets)),
        "tasks": tuple(sorted(set(arguments.tasks))),
    }
    require(given["work"], folder=True)
    rows = measure(Options(**given), _say)
    if not rows:
        return 1
    _say(report(rows))
    write_rows(arguments.json, [row | {"packages": packages()} for row in rows])
    return 0


def _say(line: str) -> None:
    print(line, flush=True)
