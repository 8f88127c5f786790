"""``spec-vla replay BAG``: would speculative decoding be safe and fast on these images?"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from spec_vla_ros.arguments import BASE_MODEL, BINS, PERIOD, SHARE, SIZE, THREADS, Parser, gone, whole
from spec_vla_ros.decoding.presets import PRESETS
from spec_vla_ros.openvla.picture import AUTO, IMAGE_RESIZES
from spec_vla_ros.outputs import require
from spec_vla_ros.recordings.errors import ReplayError
from spec_vla_ros.tolerance import NO_GRIPPER_RADIUS

from .options import OUT, Options
from .options import PRESETS as ALL

EXIT_DIFFERENT = 2


def main(argv: Sequence[str]) -> int:
    """Run the command; ``argv`` begins with its name. 0: done; 2: off the golden file."""
    arguments = _parser().parse_args(argv[1:])
    require(arguments.out or OUT, folder=True)
    require(arguments.save_golden)
    try:
        return _replay(arguments)
    except KeyboardInterrupt as error:
        raise type(error)("" if arguments.check_golden else "the same command goes on from here") from None


def _parser() -> Parser:
    parser = Parser(
        prog="spec-vla replay",
        description="Runs the images of a rosbag2 recording through the policy, once per decoder, and compares: "
        "actions, passes, times, and what was commanded then. Writes report.html, summary.json, a bag with the "
        "actions, and actions.jsonl, from which a stopped run goes on.",
    )
    parser.add_argument(
        "bag",
        type=Path,
        help="folder of ros2 bag record, an .mcap or .db3 file (or .zstd of one), or a folder of such folders, as the "
        "node's record_to makes it",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder to write to (out/replay/BAG-KEY, where KEY stands for model, heads and options: the same command "
        "goes on there, another one has another folder)",
    )
    parser.add_argument("--model", default="", help="checkpoint folder or hub id (the small one of the table top)")
    parser.add_argument("--base-model", default="", help=BASE_MODEL)
    parser.add_argument(
        "--presets", nargs="+", choices=tuple(PRESETS), default=list(ALL), help="the first is compared with"
    )
    parser.add_argument("--image-topic", default="", help="camera, raw or compressed (the only one there is)")
    parser.add_argument("--instruction-topic", default="", help="std_msgs/String (the one that ends in /instruction)")
    parser.add_argument("--instruction", default="", help="in place of the recorded ones")
    parser.add_argument(
        "--command-topic",
        default="",
        help="DeltaAction to compare with (the only one there is), or TwistStamped",
    )
    parser.add_argument("--period", type=PERIOD, help="s between two images that are used; 0 = all (the data set's)")
    decoding = parser.add_argument_group("decoding", "as the node's parameters of the same names")
    add = decoding.add_argument
    usual = Options.__dataclass_fields__
    for name, kind, unit, about in (
        ("acceptance_radius", BINS, "BINS", "(%(default)s)"),
        ("acceptance_mm", SIZE, "MM", "tightens the radius in x, y, z (0 = no such bound)"),
        ("acceptance_mrad", SIZE, "MRAD", "the same in roll, pitch, yaw"),
        ("acceptance_sum", BINS, "BINS", "of a whole action (0 = no limit)"),
        ("second_look", SIZE, "NATS", "(%(default)s; 0 = never)"),
        ("draft_depth", BINS, "TOKENS", "(%(default)s)"),
    ):
        add(f"--{name.replace('_', '-')}", type=kind, default=usual[name].default, metavar=unit, help=about)
    add("--gripper-radius", **gone(NO_GRIPPER_RADIUS))
    parser.add_argument("--draft-heads", default="", help="folder with draft heads (drafters/ of the model)")
    parser.add_argument("--unnorm-key", default="", help="statistics to use (the only ones)")
    parser.add_argument("--revision", default="", help="of a hub id")
    parser.add_argument("--device", default="auto", help="torch device (%(default)s)")
    parser.add_argument("--dtype", default="auto", help="as the node's parameter (%(default)s)")
    parser.add_argument("--cpu-threads", type=whole(0, THREADS), default=0, help="of torch; 0 = one per core")
    parser.add_argument("--centre-crop", action="store_true", help="for checkpoints trained with image augmentation")
    parser.add_argument(
        "--image-resize", choices=(AUTO, *IMAGE_RESIZES), default=AUTO, help="as the node's parameter (%(default)s)"
    )
    group = parser.add_argument_group("golden file", "today's actions as a test of tomorrow's")
    group.add_argument("--save-golden", type=Path, metavar="PATH", help="save the actions of the last preset")
    group.add_argument(
        "--check-golden", type=Path, metavar="PATH", help="compare with saved ones; exit status 2 if off"
    )
    group.add_argument("--tolerance-mm", type=SIZE, default=0.5, help="(%(default)s)")
    group.add_argument("--tolerance-mrad", type=SIZE, default=2.0, help="(%(default)s)")
    group.add_argument("--tolerance-gripper", type=SHARE, default=0.0, help="share of the images (%(default)s)")
    return parser


def _replay(arguments: argparse.Namespace) -> int:
    from . import golden, told
    from .compare import table
    from .session import replay

    expected = golden.load(arguments.check_golden) if arguments.check_golden else None
    values = {name: getattr(arguments, name) for name in Options.__dataclass_fields__ if hasattr(arguments, name)}
    values["presets"] = tuple(dict.fromkeys(arguments.presets))
    with _fresh(arguments) if expected else contextlib.nullcontext(arguments.out) as out:
        values["out"] = out
        if expected is None:
            result = replay(Options(**values), _say)
        else:
            values |= {"report": arguments.out is not None, **golden.options(expected)}
            try:
                result = replay(Options(**values), _say, lambda header: golden.require(expected, header))
            except golden.MismatchError as error:
                print(f"{arguments.bag} cannot be compared with {arguments.check_golden}\n{error}")
                return EXIT_DIFFERENT
        for line in result.left_out:
            print(f"left out: {line}")
        print(table(result.summary))
        for line in told.words(result.episodes):
            print(line)
        if result.successful and len(result.episodes) > 1:
            print(f"of the episodes that succeeded:\n{table(result.successful)}")
        print(result.answer)
        if result.files:
            print(", ".join(f"{name}: {path}" for name, path in result.files.items()))
        if arguments.save_golden:
            preset = result.summary[-1]["preset"]
            golden.save(arguments.save_golden, golden.golden(result.header, result.rows(), preset))
            print(f"{arguments.save_golden}: the actions of {preset}")
        if expected is None:
            return 0
        tolerance = golden.Tolerance(arguments.tolerance_mm, arguments.tolerance_mrad, arguments.tolerance_gripper)
        found = golden.golden(result.header, result.rows(), expected["preset"])
    lines = golden.differences(expected, found, tolerance)
    for line in (*lines[: golden.SHOWN], *golden.notes(expected, found)):
        print(line)
    print(f"{len(lines)} differences from {arguments.check_golden}" if lines else f"as {arguments.check_golden} says")
    return EXIT_DIFFERENT if lines else 0


@contextlib.contextmanager
def _fresh(arguments: argparse.Namespace) -> Iterator[Path]:
    """A folder without rows: a check that took rows of an earlier run for today's would pass whatever has changed."""
    from .run import ROWS

    if arguments.out is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    if (arguments.out / ROWS).exists():
        raise ReplayError(
            f"--check-golden compares fresh actions, and {arguments.out} holds those of an earlier run: leave --out "
            "away, or choose an empty folder"
        )
    yield arguments.out


def _say(line: str) -> None:
    print(line, flush=True)
