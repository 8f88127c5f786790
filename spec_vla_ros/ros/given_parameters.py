"""Parameters that were given to a node and that it does not have.

Neither rclpy nor the embedded runtime tells anybody about them: a limit with a typing error is simply not in force.
What was given stands in the arguments of the process and in the files that they name, so these are read once more.

A section of a file that fits many nodes (``/**``) may hold what is meant for others. There a name is refused if it is
nearly one of ours, and told in the log otherwise; on the command line and in a section of the node's own there are no
others.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from spec_vla_ros.embedded_ros.args import RosArgsError, matches, read_params_file
from spec_vla_ros.foreign_text import sentence, shortened
from spec_vla_ros.installed import share_path

# What the simulated arms of this package have; their own tables need the simulators. A test compares them.
SIMULATORS = frozenset(
    {
        *(
            "image_width",
            "image_height",
            "image_size",
            "image_rate",
            "camera_frame",
            "real_time_factor",
            "publish_clock",
        ),
        *("suite", "seed", "assets"),
    }
)
# What runtimes and libraries declare by themselves, some of it later than a node is made.
RUNTIME = ("use_sim_time", "start_type_description_service")
TOLD = 5  # names of others that are told
RUNTIME_GROUPS = ("qos_overrides.", "diagnostic_updater.")


@dataclass(frozen=True)
class Given:
    """A name that was given. ``own``: to this node and no other; ``where``: file, or the command line."""

    name: str
    own: bool
    where: str


def given_to(full_name: str, arguments: Sequence[str]) -> Iterator[Given]:
    """Every parameter that ``arguments`` (without the program's name) give to the node "/ns/name", as rcl reads them.

    A file that cannot be read is not told here: the runtime has refused it.
    """
    inside = False
    for word, value in zip(arguments, [*arguments, ""][1:], strict=True):
        if word in ("--ros-args", "--"):
            inside = word == "--ros-args"
        elif inside and word in ("-p", "--param"):
            prefix, colon, name = value.partition(":=")[0].rpartition(":")
            if not colon or matches(prefix, full_name):
                yield Given(name, True, "the command line")
        elif inside and word == "--params-file":
            try:
                sections = read_params_file(Path(value))
            except RosArgsError:
                continue
            for pattern, values in sections:
                if matches(pattern, full_name):
                    yield from (Given(name, "*" not in pattern, value) for name in values)


def judge(
    given: Iterable[Given], known: Iterable[str], removed: Mapping[str, str] = MappingProxyType({})
) -> tuple[str, str]:
    """(why the node must not run, what else nobody here reads), each a sentence or empty. ``known``: declared names.

    ``removed``: names that the node used to have, each with what to say of it. One of them is refused wherever it
    stands: who has set it counts on something that does not happen.
    """
    names = {*known, *RUNTIME}
    others = _of_the_act_node() | SIMULATORS
    wrong: dict[str, str] = {}
    gone: dict[str, str] = {}
    foreign: dict[str, None] = {}
    for one in given:
        if one.name in names or one.name.startswith(RUNTIME_GROUPS) or (one.name in others and not one.own):
            continue
        if one.name in removed:
            gone[one.name] = f"{one.name} in {one.where} {removed[one.name]}"
            continue
        near = nearest(one.name, names)
        if one.own or (near and is_slip(one.name, near)):
            wrong[one.name] = f"{shortened(one.name)} in {one.where}" + (f": did you mean {near}?" if near else "")
        else:
            foreign[shortened(one.name)] = None
    refused = list(gone.values())
    if wrong:
        refused.append(
            f"no parameter of this node: {'; '.join(wrong.values())} (what is for another node belongs into its "
            "section of the file)"
        )
    unread = f"not parameters of this node: {', '.join(list(foreign)[:TOLD])}"
    if len(foreign) > TOLD:
        unread += f" and {len(foreign) - TOLD} more"
    return sentence("; ".join(refused)) if refused else "", sentence(unread) if foreign else ""


@functools.cache
def _of_the_act_node() -> frozenset[str]:
    """What ``config/act.yaml`` names: all of its parameters, as a test holds."""
    sections = read_params_file(share_path("config/act.yaml"))
    return frozenset(name for _, values in sections for name in values)


def check(node: Any, arguments: Sequence[str], removed: Mapping[str, str] = MappingProxyType({})) -> str:
    """Why ``node`` must not run with ``arguments``, or an empty string; says in its log what is merely not read."""
    known = node.get_parameters_by_prefix("")
    refused, unread = judge(given_to(node.get_fully_qualified_name(), arguments), known, removed)
    if unread:
        node.get_logger().warning(unread)
    return refused


def nearest(name: str, known: Iterable[str]) -> str:
    """The one of ``known`` that ``name`` resembles most, or an empty string."""
    found = difflib.get_close_matches(name.lower(), sorted(known), n=1, cutoff=0.6)
    return found[0] if found else ""


def is_slip(name: str, meant: str) -> bool:
    """Whether ``name`` is ``meant`` but for one slip of the hand, or two in a long name."""
    return _edits(name.lower().replace("-", "_"), meant) <= (2 if len(meant) >= 8 else 1)


def _edits(left: str, right: str) -> int:
    """Letters to leave out, put in, replace or exchange with their neighbour (optimal string alignment)."""
    if abs(len(left) - len(right)) > 2:
        return 3  # more than anybody asks for; a name may have megabytes
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left):
        older, before, row = before, row, [i + 1]
        for j, b in enumerate(right):
            row.append(min(before[j] + (a != b), before[j + 1] + 1, row[j] + 1))
            if i and j and a == right[j - 1] and left[i - 1] == b:
                row[-1] = min(row[-1], older[j - 1] + 1)
    return row[-1]
