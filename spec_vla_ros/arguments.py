"""Arguments of commands: a parser whose errors are one line, and numbers that are what they should be.

``type=int`` takes -3 threads and ``type=float`` takes nan, and both do something with them.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any, NoReturn

from spec_vla_ros.foreign_text import printable, shortened

BASE_MODEL = "of a LoRA adapter: folder, hub id or hub id@revision (the one that the adapter names)"
MANY = 10**9  # more than anybody means
LONG = 366 * 24 * 3600.0  # s
THREADS = 256  # as the node's parameter


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, instead of all options first."""

    def error(self, message: str) -> NoReturn:
        """End the process with status 2."""
        self.exit(2, f"{self.prog}: {printable(message)} ({self.prog} --help tells more)\n")


def gone(why: str) -> dict[str, Any]:
    """Keywords of ``add_argument`` for an option that is no longer there: who gives it is told ``why``."""

    class Gone(argparse.Action):
        def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
            parser.error(f"{self.option_strings[0]} {why}")

    return {"action": Gone, "nargs": "?", "default": argparse.SUPPRESS, "help": argparse.SUPPRESS}


def whole(low: int, high: int = MANY) -> Callable[[str], int]:
    """Type of a whole number from ``low`` to ``high``."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected a whole number from {low} to {high}, got {shortened(text)}")
        return value

    return convert


def number(low: float, high: float = float(MANY), *, above: bool = False) -> Callable[[str], float]:
    """Type of a finite number from ``low`` to ``high``; ``above``: ``low`` itself is too little."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (low < value if above else low <= value) or not value <= high:  # nan is neither
            limits = f"above {low:g} and at most {high:g}" if above else f"from {low:g} to {high:g}"
            raise argparse.ArgumentTypeError(f"expected a number {limits}, got {shortened(text)}")
        return value

    return convert


COUNT = whole(1)  # of things, at least one
SEED = whole(0, 2**31 - 1)
BINS = whole(0, 65536)  # distances on the grid of actions
SECONDS = number(0.0, LONG, above=True)
MINUTES = number(0.0, LONG / 60, above=True)
PERIOD = number(0.0, LONG)  # s, 0 has a meaning of its own
SIZE = number(0.0)
POSITIVE = number(0.0, above=True)
SHARE = number(0.0, 1.0)
