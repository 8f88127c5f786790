"""``spec-vla bench pace``: its arguments."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

from spec_vla_ros.arguments import BASE_MODEL, COUNT, THREADS, number, whole
from spec_vla_ros.decoding.presets import AUTO, PRESETS
from spec_vla_ros.errors import UsageError
from spec_vla_ros.installed import TABLETOP
from spec_vla_ros.machine import write_rows
from spec_vla_ros.motion.pacing import COMPENSATIONS, PACINGS

from .hardware import RTX_4090

PERIOD = number(0.02, 2.0)


def add(benches: Any) -> None:
    """Add the command to those of ``spec-vla bench``."""
    text = "how long tasks take at the speed of a 7B model on known hardware, blocking and steady"
    pace = benches.add_parser(
        "pace",
        help=text,
        description=f"Measures {text}: on the table top, where a small model decodes and each action is held back "
        "until the time has gone by that a 7B model takes there. Emulated, as every row says.",
    )
    pace.add_argument("--model", default=TABLETOP, help="checkpoint folder (%(default)s)")
    pace.add_argument("--base-model", default="", help=BASE_MODEL)
    pace.add_argument("--heads", type=Path, help="folder of draft heads (drafters/ in the model's folder)")
    presets = ["autoregressive", "spec_vla", "training_free", "fastest"]
    pace.add_argument("--presets", nargs="+", default=presets, choices=(*PRESETS, AUTO), help="(%(default)s)")
    pace.add_argument("--pacings", nargs="+", default=list(PACINGS), choices=PACINGS, help="(both)")
    pace.add_argument(
        "--compensations", nargs="+", default=[COMPENSATIONS[-1]], choices=COMPENSATIONS, help="(%(default)s)"
    )
    pace.add_argument(
        "--latencies", nargs="+", default=[RTX_4090.name], metavar="OF",
        help="RTX 4090 (measured by others), H200 or another data sheet (computed), 60ms (every action), or the JSON "
        "file of bench latency on your own (%(default)s)",
    )  # fmt: skip
    pace.add_argument("--periods", nargs="+", type=PERIOD, default=[0.2], metavar="S", help="of a step (%(default)s)")
    pace.add_argument("--episodes", type=COUNT, default=300, help="per row (%(default)s)")
    pace.add_argument("--workers", type=whole(1, THREADS), default=1, help="processes (%(default)s)")
    pace.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from .pace import Options, measure, rows_of

    todo = rows_of(
        arguments.presets, arguments.pacings, arguments.compensations, arguments.latencies, arguments.periods
    )
    options = Options(arguments.model, arguments.heads, arguments.base_model, arguments.episodes, arguments.workers)
    try:
        rows = measure(todo, options, functools.partial(print, flush=True))
    except ValueError as error:
        raise UsageError(str(error)) from error
    write_rows(arguments.json, rows)
    return 0
