"""The command line: ``spec-vla <command>``. Every command imports what it needs when it runs."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from spec_vla_ros.installed import TABLETOP

# Commands that parse their own arguments: (module with main(argv), what it does). The name is passed on.
OTHERS = {
    "train-tabletop": ("spec_vla_ros.training.tabletop", "train the small model of the simulated table top"),
    "eval-tabletop": ("spec_vla_ros.training.tabletop", "run a checkpoint in the simulator, without ROS"),
    "record-tabletop": ("spec_vla_ros.training.tabletop_bag", "record a bag of the simulated table top"),
    "train-draft": ("spec_vla_ros.training.train_draft", "train draft heads on a checkpoint's own actions"),
    "replay": ("spec_vla_ros.replay.cli", "run a recorded bag through the policy and compare decoders"),
    "inspect": ("spec_vla_ros.inspection.cli", "what is in a model, head or recording, and what would go wrong"),
    "bench": ("spec_vla_ros.bench.cli", "measure on this machine"),
}
FULL, SHORT = 20, 4  # episodes per decoder
FILMED_FULL, FILMED_SHORT = 4, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] in OTHERS:
        return importlib.import_module(OTHERS[argv[0]][0]).main(argv) or 0
    arguments = _parser().parse_args(argv)
    return arguments.run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spec-vla", description="OpenVLA with speculative decoding, on ROS 2.")
    commands = parser.add_subparsers(metavar="command", required=True)
    demo = commands.add_parser(
        "demo",
        help="drive the simulated arm through the real node over DDS, measure and film it",
        description="Starts the simulated arm and the act node, runs the same episodes with each decoder, and writes "
        "summary.json, demo.mp4, plot.png and an MCAP bag.",
    )
    demo.add_argument("--short", action="store_true", help=f"{SHORT} episodes per decoder, within two minutes")
    demo.add_argument("--out", type=Path, default=Path("out/demo"), help="output folder (default: %(default)s)")
    demo.add_argument("--model", default=TABLETOP, help="checkpoint folder or hub id (default: %(default)s)")
    demo.add_argument("--episodes", type=_positive, help=f"per decoder (default: {FULL})")
    demo.add_argument("--seed", type=int, default=0, choices=range(1000), metavar="0..999", help="which layouts")
    demo.add_argument(
        "--policy", choices=("openvla", "scripted"), default="openvla", help="scripted: canned moves, needs no model"
    )
    demo.set_defaults(run=_demo)
    for name, (_, text) in OTHERS.items():
        commands.add_parser(name, help=text, add_help=False)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"at least 1, got {value}")
    return value


def _demo(arguments: argparse.Namespace) -> int:
    from spec_vla_ros.demo.processes import DemoError
    from spec_vla_ros.demo.run import Options, run

    options = Options(
        out=arguments.out,
        model=arguments.model,
        episodes=arguments.episodes or (SHORT if arguments.short else FULL),
        filmed=FILMED_SHORT if arguments.short else FILMED_FULL,
        seed=arguments.seed,
        policy=arguments.policy,
    )
    try:
        run(options, say=lambda line: print(line, flush=True))
    except DemoError as error:
        print(f"spec-vla demo: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(
            f"spec-vla demo: {error}. The demo needs: pip install 'spec_vla_ros[demo,embedded,model]'", file=sys.stderr
        )
        return 1
    except OSError as error:  # a full disk, most likely
        print(f"spec-vla demo: {error}; both nodes have ended", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; both nodes have ended", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
