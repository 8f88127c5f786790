"""``spec-vla bench full-size``: its arguments."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

from spec_vla_ros.arguments import COUNT, THREADS, whole
from spec_vla_ros.machine import write_rows
from spec_vla_ros.outputs import require

PRECISIONS = ("bfloat16", "float32", "float8", "int8", "int8_weights", "int4_weights")
USUAL = ("bfloat16", "int8", "int8_weights")
JOBS = whole(0, THREADS)


def add(benches: Any) -> None:
    """Add the command to those of ``spec-vla bench``."""
    text = "the whole 7B model on this machine: loads it, acts, and says what memory that took, per precision"
    about = f"Tries {text}. Writes a checkpoint of random weights, 15 GB, and deletes it at the end."
    full = benches.add_parser("full-size", help=text, description=about)
    full.add_argument("--folder", type=Path, default=Path("out"), help="to write the checkpoint into (%(default)s)")
    full.add_argument(
        "--precisions",
        nargs="+",
        choices=PRECISIONS,
        default=["bfloat16", "int8", "int8_weights"],
        help="(%(default)s)",
    )
    full.add_argument("--layers", type=COUNT, help="decoder layers, instead of those of the 7B model")
    full.add_argument("--device", default="cpu", help="torch device (%(default)s)")
    full.add_argument("--threads", type=JOBS, default=0, help="of torch on the CPU (one per core)")
    full.add_argument("--actions", type=COUNT, default=3, help="per row (%(default)s)")
    full.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from spec_vla_ros.bench.decoding.shapes import SEVEN_B, shortened
    from spec_vla_ros.bench.full_size.bench import measure

    require(arguments.folder, folder=True)
    config = shortened(SEVEN_B, arguments.layers) if arguments.layers else SEVEN_B
    how = arguments.device, arguments.threads, arguments.actions
    rows = measure(arguments.folder, config, arguments.precisions, functools.partial(print, flush=True), *how)
    write_rows(arguments.json, [row | {"layers": config.llama.num_hidden_layers} for row in rows])
    return 0 if rows else 1
