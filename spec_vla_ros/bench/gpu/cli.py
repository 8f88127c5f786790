"""``spec-vla bench gpu``: its arguments, and what it does with them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from spec_vla_ros.arguments import BASE_MODEL, COUNT, MINUTES, POSITIVE, SECONDS, THREADS, whole
from spec_vla_ros.bench.decoding.floor import WEIGHT_BYTES
from spec_vla_ros.errors import CommandError, UsageError
from spec_vla_ros.outputs import require

# Of the language model's layers: the usual one, then whatever is smaller.
PRECISIONS = ["bfloat16", *(name for name, size in WEIGHT_BYTES.items() if size < 2)]


def add(benches: Any) -> None:
    """Add the command to the subparsers of ``spec-vla bench``."""
    text = "a whole campaign on a GPU: what has to be right, then what has to be quick, with a table of all of it"
    gpu = benches.add_parser(
        "gpu", help=text, description=f"Runs {text}: docs/benchmarks.md. Give the same command again to go on."
    )
    gpu.add_argument("--device", default="auto", help="torch device (auto: cuda where there is one)")
    gpu.add_argument(
        "--shapes", default="auto", help="7b, small or a checkpoint folder (auto: 7b on a GPU, else small)"
    )
    gpu.add_argument("--base-model", default="", help=BASE_MODEL)
    gpu.add_argument("--layers", type=COUNT, help="decoder layers, instead of those of the shapes")
    gpu.add_argument("--threads", type=whole(0, THREADS), default=1, help="of torch on the CPU (%(default)s)")
    gpu.add_argument("--precisions", nargs="+", choices=WEIGHT_BYTES, default=PRECISIONS, help="(%(default)s)")
    gpu.add_argument("--actions", type=COUNT, default=100, help="per row of the latencies (%(default)s)")
    gpu.add_argument("--trace", default="", metavar="PATH", help="recorded acceptance (that of the small model)")
    gpu.add_argument("--bandwidth", type=POSITIVE, help="TB/s of the device (known devices: own)")
    gpu.add_argument("--tflops", type=POSITIVE, help="dense bf16 arithmetic of the device, likewise")
    gpu.add_argument("--parts", nargs="+", default=[], metavar="WORD", help="only parts that have it in their name")
    gpu.add_argument("--minutes", type=MINUTES, help="begin nothing that would not be over by then (all)")
    gpu.add_argument("--limit", type=SECONDS, help="s that a part may take (470)")
    gpu.add_argument("--work", type=Path, default=Path("out/gpu"), help="finished parts, to go on from (%(default)s)")
    gpu.add_argument("--list", action="store_true", help="name the parts and what is known of them, run nothing")
    gpu.add_argument("--table", type=Path, metavar="JSON", help="print that campaign as Markdown, run nothing")
    gpu.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from .campaign import LIMIT, Campaign, load
    from .plan import Options
    from .table import markdown, wrong

    if arguments.table:
        try:
            print(markdown(load(arguments.table)), end="")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CommandError(f"{arguments.table} holds no campaign: {type(error).__name__}: {error}") from error
        return 0
    from spec_vla_ros.openvla.devices import named_device
    from spec_vla_ros.openvla.precisions import had_by

    if bool(arguments.bandwidth) != bool(arguments.tflops):
        raise UsageError("--bandwidth and --tflops belong together")
    device = named_device(arguments.device)
    shapes = arguments.shapes
    if shapes == "auto":
        shapes = "7b" if device.type == "cuda" else "small"
    names = ("layers", "actions", "bandwidth", "tflops", "threads", "trace", "base_model")
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    options = Options(str(device), shapes, **given)
    precisions, why_not = had_by(device, arguments.precisions)
    for why in why_not:
        print(f"left out: {why}")
    if not precisions:
        raise CommandError("none of these precisions can be measured here")
    campaign = Campaign(arguments.work, options, precisions)
    if arguments.list:
        for name in campaign.names:
            part = campaign.part(name)
            print(f"{name}: {part['status'] if part else 'not run'}")
        return 0
    require(arguments.work, folder=True)
    campaign.run(
        lambda line: print(line, flush=True), arguments.parts, arguments.minutes or 0.0, arguments.limit or LIMIT
    )
    whole_file = load(campaign.folder / "campaign.json")
    if arguments.json:
        campaign.save(arguments.json)
    print(markdown(whole_file), end="")
    problems = wrong(whole_file)
    for problem in problems:
        print(problem)
    return int(bool(problems))
