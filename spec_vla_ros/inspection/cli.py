"""``spec-vla inspect PATH ...``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spec_vla_ros import outermost
from spec_vla_ros.arguments import BASE_MODEL, PERIOD, Parser
from spec_vla_ros.data_formats import foreign_data
from spec_vla_ros.openvla.picture import AUTO, IMAGE_RESIZES
from spec_vla_ros.outputs import require, write_text

from .findings import ERROR, Report
from .text import lines_of, verdict

EXPECTED = (
    "Expected a checkpoint folder or hub id, a folder of draft heads, a rosbag2 folder, .mcap or .db3 file, or the "
    "folder of a LeRobot data set."
)


def main(argv: Sequence[str]) -> int:
    """``argv`` begins with the command's name. 0: nothing would go wrong; 1: something would be refused."""
    arguments = _parser().parse_args(argv[1:])
    require(arguments.json)
    reports = inspect(arguments)
    for report in reports:
        print("\n".join(lines_of(report)), end="\n\n")
    print(verdict(reports))
    status = int(any(problem.severity == ERROR for report in reports for problem in report.problems))
    if arguments.json is not None:
        _write(arguments.json, reports, status)
    return status


@dataclass
class _Found:
    """What of all paths has to fit together."""

    models: list[Any] = field(default_factory=list)
    heads: list[Any] = field(default_factory=list)
    recordings: list[Any] = field(default_factory=list)


def inspect(arguments: argparse.Namespace) -> list[Report]:
    """One report per path, and one about what fits with what."""
    from .fits import inspect_fits

    found, reports = _Found(), []
    for path in arguments.paths:
        try:
            reports.append(_inspect(path, arguments, found))
        except OSError as error:
            reports.append(Report(path, "unknown"))
            reports[-1].error(f"{path} cannot be read: {outermost.in_words(error)}", "Correct the permissions.")
    fits = inspect_fits(found.models, found.heads, found.recordings, arguments.step_dt)
    return reports if fits is None else [*reports, fits]


def _inspect(path: str, arguments: argparse.Namespace, found: _Found) -> Report:
    from .heads import inspect_heads
    from .model import inspect_model
    from .places import BAG, DATA_SET, HEAD, MODEL, head_folders, kind_of, place_of

    kind = kind_of(path)
    if kind == MODEL:
        report, model = inspect_model(
            path,
            arguments.unnorm_key,
            arguments.step_dt,
            arguments.centre_crop,
            arguments.image_resize,
            arguments.revision,
            arguments.base_model,
        )
        found.models.append(model)
    elif kind == HEAD:
        report = Report(path, "draft heads")
        found.heads += inspect_heads(report, head_folders(place_of(path)), asked_for=True)
    elif kind == BAG:
        from .recording import inspect_bag  # only recordings need rosbags

        report, recording = inspect_bag(
            path, arguments.image_topic, arguments.instruction, arguments.instruction_topic, _say
        )
        found.recordings.append(recording)
    elif kind == DATA_SET:
        from .data_set import inspect_data_set  # only they need PyAV and pyarrow

        report, recording = inspect_data_set(path, arguments.camera, arguments.instruction, _say)
        found.recordings.append(recording)
    else:
        report = Report(path, "unknown")
        why, remedy = _why_unknown(Path(os.path.expanduser(path)))
        report.error(f"{path} {why}", remedy)
    return report


def _why_unknown(path: Path) -> tuple[str, str]:
    """What ``path`` is instead, and what to do about it."""
    if foreign := foreign_data(path):
        what, _, remedy = foreign.partition(": ")
        return f"holds {what}", f"{remedy[0].upper()}{remedy[1:]}."
    if path.exists():
        return "is none of what can be inspected", EXPECTED
    why = f"is a link to {path.readlink()}, which does not exist" if path.is_symlink() else "does not exist"
    return why, EXPECTED


def _parser() -> Parser:
    parser = Parser(
        prog="spec-vla inspect",
        description="Says what is in models, draft heads, recordings and LeRobot data sets, what fits with what, and "
        "what would go wrong. Reads headers of weights, never the weights; a recording once from end to end; of a data "
        "set all numbers and some pictures.",
        epilog="Exit status: 0 = configure, a replay or a training would accept this, 1 = something would be refused.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help=EXPECTED)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the same facts and problems to FILE")
    told = parser.add_argument_group("as the node, a replay or a training would be told")
    told.add_argument("--unnorm-key", metavar="KEY", help="data set whose statistics are used")
    told.add_argument("--base-model", default="", metavar="MODEL", help=BASE_MODEL)
    told.add_argument("--revision", default="", metavar="REV", help="branch, tag or commit of a hub id")
    told.add_argument("--step-dt", type=PERIOD, default=0.0, metavar="S", help="period of an action (the data set's)")
    told.add_argument("--centre-crop", action="store_true", help="for checkpoints trained with image augmentation")
    told.add_argument("--image-resize", choices=(AUTO, *IMAGE_RESIZES), default=AUTO, help="(%(default)s)")
    told.add_argument("--image-topic", default="", metavar="TOPIC", help="the camera of a recording with several")
    told.add_argument("--camera", default="", metavar="KEY", help="the camera of a LeRobot data set with several")
    told.add_argument("--instruction", default="", metavar="TEXT", help="in place of the recorded ones")
    told.add_argument(
        "--instruction-topic", default="", metavar="TOPIC", help="their topic (the one that ends in /instruction)"
    )
    return parser


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _write(path: Path, reports: Sequence[Report], status: int) -> None:
    about = [report.to_json() for report in reports]
    problems = [{"path": one["path"], **problem} for one in about for problem in one["problems"]]
    text = json.dumps(
        {"status": status, "problems": problems, "reports": about}, indent=2, allow_nan=False, default=str
    )
    write_text(path, text + "\n")
