"""``spec-vla bench <what>``."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

BENCHES = {"wire": ("spec_vla_ros.bench.wire", "what the node adds to the inference, image to first velocity")}


def main(argv: Sequence[str]) -> int:
    """Run one bench; ``argv`` begins with the command's name. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="spec-vla bench", description="Measurements on this machine.")
    commands = parser.add_subparsers(metavar="what", required=True, dest="what")
    for name, (_, text) in BENCHES.items():
        commands.add_parser(name, help=text, add_help=False)
    what = parser.parse_args(argv[1:2]).what
    return importlib.import_module(BENCHES[what][0]).main(argv[2:])
