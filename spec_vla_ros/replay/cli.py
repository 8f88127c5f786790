"""``spec-vla replay BAG``: would speculative decoding be safe and fast on these images?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from spec_vla_ros.decoding.presets import PRESETS
from spec_vla_ros.errors import SpecVlaError

from . import golden
from .bag import BagError
from .run import ReplayError
from .session import PRESETS as ALL

EXIT_DIFFERENT = 2


def main(argv: Sequence[str]) -> int:
    """Run the command; ``argv`` begins with its name. 0: done; 1: not possible; 2: off the golden file."""
    parser = _parser()
    arguments = parser.parse_args(argv[1:])
    try:
        return _replay(arguments)
    except (BagError, ReplayError, OSError) as error:
        print(f"spec-vla replay: {error}", file=sys.stderr)
    except SpecVlaError as error:
        print(f"spec-vla replay: {error.fault}: {error} {error.remedy}", file=sys.stderr)
    except ImportError as error:
        print(f"spec-vla replay: {error}. It needs: pip install 'spec_vla_ros[model,replay]'", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"\nspec-vla replay: stopped; the same command goes on from {arguments.out}", file=sys.stderr)
        return 130
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spec-vla replay",
        description="Runs the images of a rosbag2 recording through the policy, once per decoder, and compares: "
        "actions, passes, times, and what was commanded then. Writes report.html, summary.json, a bag with the "
        "actions, and actions.jsonl, from which a stopped run goes on.",
    )
    parser.add_argument("bag", type=Path, help="folder of ros2 bag record, or an .mcap or .db3 file")
    parser.add_argument("--out", type=Path, default=Path("out/replay"), help="folder to write to (%(default)s)")
    parser.add_argument("--model", default="models/tabletop", help="checkpoint folder or hub id (%(default)s)")
    parser.add_argument(
        "--presets", nargs="+", choices=tuple(PRESETS), default=list(ALL), help="the first is compared with"
    )
    parser.add_argument("--image-topic", default="", help="camera, raw or compressed (the only one there is)")
    parser.add_argument("--instruction-topic", default="", help="std_msgs/String (the one that ends in /instruction)")
    parser.add_argument("--instruction", default="", help="in place of the recorded ones")
    parser.add_argument(
        "--command-topic", default="", help="DeltaAction or TwistStamped to compare with (found by type)"
    )
    parser.add_argument("--period", type=float, help="s between two images that are used; 0 = all (the data set's)")
    parser.add_argument("--acceptance-radius", type=int, default=9, help="bins (%(default)s)")
    parser.add_argument("--draft-depth", type=int, default=6, help="tokens (%(default)s)")
    parser.add_argument("--draft-heads", default="", help="folder with draft heads (drafters/ of the model)")
    parser.add_argument("--unnorm-key", default="", help="statistics to use (the only ones)")
    parser.add_argument("--revision", default="", help="of a hub id")
    parser.add_argument("--device", default="auto", help="torch device (%(default)s)")
    parser.add_argument("--dtype", default="auto", help="as the node's parameter (%(default)s)")
    parser.add_argument("--cpu-threads", type=int, default=0, help="of torch; 0 = one per core")
    parser.add_argument("--centre-crop", action="store_true", help="for checkpoints trained with image augmentation")
    group = parser.add_argument_group("golden file", "today's actions as a test of tomorrow's")
    group.add_argument("--save-golden", type=Path, metavar="PATH", help="save the actions of the last preset")
    group.add_argument(
        "--check-golden", type=Path, metavar="PATH", help="compare with saved ones; exit status 2 if off"
    )
    group.add_argument("--tolerance-mm", type=float, default=0.5, help="(%(default)s)")
    group.add_argument("--tolerance-mrad", type=float, default=2.0, help="(%(default)s)")
    group.add_argument("--tolerance-gripper", type=float, default=0.0, help="share of the images (%(default)s)")
    return parser


def _replay(arguments: argparse.Namespace) -> int:
    from .compare import table
    from .session import Options, replay

    expected = golden.load(arguments.check_golden) if arguments.check_golden else None
    values = {name: getattr(arguments, name) for name in Options.__dataclass_fields__ if hasattr(arguments, name)}
    values["presets"] = tuple(dict.fromkeys(arguments.presets))
    if expected is not None:
        values |= {name: expected[name] for name in ("acceptance_radius", "draft_depth")}
        values["presets"] = (expected["preset"],)
    result = replay(Options(**values), lambda line: print(line, flush=True))
    for line in result.left_out:
        print(f"left out: {line}")
    print(table(result.summary))
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
    for line in lines[: golden.SHOWN]:
        print(line)
    print(f"{len(lines)} differences from {arguments.check_golden}" if lines else f"as {arguments.check_golden} says")
    return EXIT_DIFFERENT if lines else 0
