"""The plan of the rooms in docs/architecture.md is true: which folder imports which, and no two import each other."""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "spec_vla_ros"
ROW = re.compile(r"^\| `([a-z_/]+?)/?` \|[^|]*\|([^|]*)\|$", re.MULTILINE)
FOUNDATION = "(foundation)"  # single files that import no room
ALONE = ("policy", "cli")  # single files that stand above rooms


@cache
def modules():
    """Dotted names without the package's, and their files."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[name.removesuffix("__init__").rstrip(".")] = path
    return found


@cache
def plan():
    """Room: the rooms that it may import, as the table says."""
    text = (ROOT / "docs" / "architecture.md").read_text().partition("\n## The rooms\n")[2].partition("\n## ")[0]
    return {room: frozenset(re.findall(r"`([a-z_/]+?)/?`", may)) for room, may in ROW.findall(text)}


def room_of(name):
    """The deepest room of the plan that holds a module."""
    path = name.replace(".", "/")
    rooms = [room for room in plan() if path == room or path.startswith(f"{room}/")]
    return max(rooms, key=len, default=FOUNDATION)


def imported(name):
    """Modules of the package that ``name`` imports, also inside functions."""
    path = modules()[name]
    here = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        said = node.module.split(".") if node.module else []
        if node.level:
            base = here[: len(here) - node.level + 1] + said
        elif said[:1] == ["spec_vla_ros"]:
            base = said[1:]
        else:
            continue
        for alias in node.names:
            full = ".".join([*base, alias.name])
            target = full if full in modules() else ".".join(base)
            if target and target in modules():
                yield target


@cache
def arrows():
    found = {}
    for name in modules():
        for target in imported(name):
            if room_of(target) not in (room_of(name), FOUNDATION):
                found.setdefault(room_of(name), set()).add(room_of(target))
    return found


def test_every_folder_stands_in_the_plan():
    folders = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")} - {"."}
    assert {folder for folder in folders if room_of(folder.replace("/", ".")) == FOUNDATION} == set()
    assert {room for room in plan() if room not in ALONE} <= folders


def test_rooms_import_what_the_plan_says_and_the_plan_says_no_more():
    assert {room: sorted(arrows().get(room, ())) for room in plan()} == {
        room: sorted(may) for room, may in plan().items()
    }


def test_the_foundation_imports_no_room():
    assert FOUNDATION not in arrows()


def test_no_two_rooms_import_each_other():
    TopologicalSorter(plan()).prepare()  # raises for a circle


def test_no_two_modules_import_each_other():
    TopologicalSorter({name: set(imported(name)) - {name} for name in modules() if name}).prepare()


def test_the_modules_of_commands_are_where_the_command_line_looks_for_them():
    from spec_vla_ros.cli import OTHERS

    assert {module for module, _, _ in OTHERS.values()} <= modules().keys()


def test_what_decides_imports_no_ros():
    """Model, decoding and motion run without a ROS of any kind."""
    free = {"openvla", "decoding", "motion", "recordings", "training", "replay", "inspection", "tabletop/training"}
    for room in free & plan().keys():
        assert not plan()[room] & {"embedded_ros", "ros"}, room
