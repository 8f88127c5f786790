"""The command line: ``spec-vla <command>``. Every command imports what it needs when it runs."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from spec_vla_ros import outermost
from spec_vla_ros.arguments import BASE_MODEL, COUNT, Parser, whole
from spec_vla_ros.installed import TABLETOP

STATUSES = (
    "Exit status: 0 done, 1 not possible (one line says why), 2 a wrong command line, 130 Ctrl-C, 143 SIGTERM, 141 "
    "nobody reads the output any more. Only a defect of this package shows a traceback."
)

# Commands that parse their own arguments: (module with main(argv), extras that it needs, what it does). The name is
# passed on.
OTHERS = {
    "train-tabletop": ("tabletop.training.train", "model,sim", "train the small model of the simulated table top"),
    "eval-tabletop": ("tabletop.training.train", "model,sim", "run a checkpoint in the simulator, without ROS"),
    "record-tabletop": ("tabletop.training.bag", "model,sim,replay", "record a bag of the simulated table top"),
    "train-draft": ("training.train_draft", "model,sim,train", "train draft heads on a checkpoint's own actions"),
    "replay": ("replay.cli", "model,replay", "run a recorded bag through the policy and compare decoders"),
    "inspect": ("inspection.cli", "bags,model,train", "what is in a model, head or recording, and what would go wrong"),
    "bench": ("bench.cli", "demo,embedded,model", "measure on this machine"),
}
FULL, SHORT = 20, 4  # episodes per decoder
FILMED_FULL, FILMED_SHORT = 4, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (:mod:`.outermost`)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    name = next(iter(argv), "")
    words = argv[:2] if name == "bench" and not "".join(argv[1:2]).startswith("-") else argv[:1]
    extras = OTHERS[name][1] if name in OTHERS else "demo,embedded,model"
    return outermost.run(" ".join(["spec-vla", *words]), lambda: _command(argv), extras)


def _command(argv: list[str]) -> int:
    if argv and argv[0] in OTHERS:
        return importlib.import_module(f"spec_vla_ros.{OTHERS[argv[0]][0]}").main(argv) or 0
    arguments = _parser().parse_args(argv)
    return arguments.run(arguments)


def _parser() -> Parser:
    parser = Parser(prog="spec-vla", description="OpenVLA with speculative decoding, on ROS 2.", epilog=STATUSES)
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
    demo.add_argument("--base-model", default="", help=BASE_MODEL)
    demo.add_argument("--episodes", type=COUNT, help=f"per decoder (default: {FULL})")
    demo.add_argument("--seed", type=whole(0, 999), default=0, metavar="0..999", help="which layouts")
    demo.add_argument(
        "--policy", choices=("openvla", "scripted"), default="openvla", help="scripted: canned moves, needs no model"
    )
    demo.set_defaults(run=_demo)
    for name, (_, _, text) in OTHERS.items():
        commands.add_parser(name, help=text, add_help=False)
    return parser


def _demo(arguments: argparse.Namespace) -> int:
    from spec_vla_ros.demo.run import Options, run

    options = Options(
        out=arguments.out,
        model=arguments.model,
        base_model=arguments.base_model,
        episodes=arguments.episodes or (SHORT if arguments.short else FULL),
        filmed=FILMED_SHORT if arguments.short else FILMED_FULL,
        seed=arguments.seed,
        policy=arguments.policy,
    )
    try:
        run(options, say=lambda line: print(line, flush=True))
    except KeyboardInterrupt as error:
        raise type(error)("both nodes have ended") from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
