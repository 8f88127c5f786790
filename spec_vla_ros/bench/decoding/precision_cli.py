"""``spec-vla bench precision``: its arguments."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

from spec_vla_ros.arguments import BASE_MODEL, BINS, COUNT, number
from spec_vla_ros.decoding.presets import PRESETS
from spec_vla_ros.installed import TABLETOP
from spec_vla_ros.machine import write_rows
from spec_vla_ros.policy_types import DecodeSettings

USUAL = DecodeSettings()
PRECISIONS = ("bfloat16", "float8", "int8", "int8_weights", "int4_weights", "nvfp4")


def add(benches: Any) -> None:
    """Add the command to those of ``spec-vla bench``."""
    text = "what quantising costs in accuracy: tokens, drift, success, against bfloat16 on the same images"
    about = f"Measures {text}. The arithmetic of the device, computed on the CPU: times of it say nothing."
    precision = benches.add_parser("precision", help=text, description=about)
    precision.add_argument("--model", default=TABLETOP, help="checkpoint folder (%(default)s)")
    precision.add_argument("--heads", type=Path, help="folder of draft heads (drafters/ in the model's folder)")
    precision.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS), help="(all)")
    precision.add_argument("--preset", choices=PRESETS, default="fastest", help="(%(default)s)")
    precision.add_argument("--radius", type=BINS, default=USUAL.acceptance_radius, help="bins (%(default)s)")
    precision.add_argument("--episodes", type=COUNT, default=300, help="per row (%(default)s)")
    precision.add_argument(
        "--outliers", nargs="+", type=number(1, 1e4), metavar="TIMES",
        help="instead: errors of random layers of 7B shapes with channels that much larger than the others (1 = none)",
    )  # fmt: skip
    precision.add_argument("--base-model", default="", help=BASE_MODEL)
    precision.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    import torch

    say = functools.partial(print, flush=True)
    if arguments.outliers:
        from spec_vla_ros.bench.decoding.outliers import measure as measure_layers

        write_rows(arguments.json, measure_layers(arguments.precisions, arguments.outliers, say))
        return 0
    from spec_vla_ros.bench.decoding.precision import measure

    torch.set_num_threads(1)  # small matrices
    settings = DecodeSettings(preset=arguments.preset, acceptance_radius=arguments.radius)
    options = {"heads": arguments.heads, "base_model": arguments.base_model}
    rows = measure(arguments.model, arguments.precisions, settings, arguments.episodes, say, **options)
    write_rows(arguments.json, rows)
    return 0
