"""The mutation run on a toy package: what it changes, what it finds, and that it leaves nothing behind."""

import ast
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"

SOURCE = '''"""A module."""

LIMIT = 3


def clip(value: int, low: int = 0) -> int:
    """A value between low and LIMIT."""
    if value < low:
        return low
    return min(value, LIMIT)


def untested(value):
    return value
'''
TESTS = """
import toy.box


def test_above():
    while toy.box.LIMIT > 3:
        "the test hangs"
    assert toy.box.clip(4) == 3


def test_below():
    assert toy.box.clip(-1) == 0
"""


def load(name):
    specification = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


mutations = load("mutations")


def mutants_of(source):
    """The lines with a fault that ``source`` can be given."""
    return [mutation.mutant for mutation in mutations.mutations_of(source, "x.py")]


@pytest.fixture
def toy(tmp_path):
    """A package with one module and its tests."""
    for name, text in {"toy/__init__.py": "", "toy/box.py": SOURCE, "test/test_box.py": TESTS}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def command(toy, *options):
    script = [sys.executable, SCRIPTS / "mutate.py", "--root", toy, "--slack", "0.5", "toy/box.py"]
    return [*map(str, script), "--tests", "test/test_box.py", *options]


def mutate(toy, *options):
    return subprocess.run(command(toy, *options), capture_output=True, text=True, timeout=120)


def listed(toy, *lines):
    (toy / "test/equivalent_mutants.txt").write_text("\n".join(lines) + "\n")


# -- what is changed


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", ["x = a <= b", "x = a >= b"]),
        ("x = a is None", ["x = a is not None"]),
        ("x = a and b", ["x = a or b", "x = b", "x = a"]),
        ("x = not a", ["x = a"]),
        ("x = a + b", ["x = a - b"]),
        ("x += a", ["x -= a"]),
        ("x = 2", ["x = 3", "x = 1"]),
        ("x = 0.5", ["x = 1.0", "x = 0.25"]),
        ("x = True", ["x = False"]),
        ("x = None", ["x = 0"]),
        ("x = 'NAME'", ["x = 'NAME_'"]),
        ("x = min(a, b)", ["x = max(a, b)"]),
        ("x = a.clamp(max=b)", ["x = a.clamp(min=b)"]),
        ("x = abs(a)", ["x = a"]),
        ("x = a.abs()", ["x = a"]),
        ("x = a if b else c", ["x = a", "x = c"]),
        ("if a:\n    import b\nelif c:  # why\n    import d", ["if True:", "if False:", "elif True:", "elif False:"]),
        ("def f():\n    return a", ["return None"]),
        ("def f():\n    return True", ["return False"]),
        ("def f():\n    a()", ["pass"]),
        ("def f():\n    a = b", ["pass"]),
        ("def f():\n    raise a", ["pass"]),
    ],
)
def test_the_faults_that_are_made(source, expected):
    assert mutants_of(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""Text."""',
        "def f(a: Literal[1]) -> Literal[2]:\n    '''Text'''",
        "@dataclass(frozen=True)\nclass A:\n    a: int",
        "from a import b",
        "x = 'a text for people'",
        "x = f'{1 + 1}'",
    ],
)
def test_what_no_program_depends_on_is_left_alone(source):
    assert mutants_of(source) == []


def test_a_mutant_differs_in_one_place():
    for mutation in mutations.mutations_of(SOURCE, "x.py"):
        before, after = ast.unparse(ast.parse(SOURCE)).splitlines(), ast.unparse(mutation.apply(SOURCE)).splitlines()
        assert len(before) == len(after)
        assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


# -- what is found


def test_survivors_are_said_and_counted_and_too_many_are_an_error(toy):
    run = mutate(toy)
    assert run.returncode == 1, run.stderr
    *survivors, total = [line for line in run.stdout.splitlines() if line.startswith("toy/box.py")]
    assert survivors == [
        "toy/box.py:8: if value < low: -> if value <= low:",
        "toy/box.py:14: return value -> return None  (no test comes here)",
    ], "and a test that hangs has noticed its mutant"
    count = len(mutations.mutations_of(SOURCE, "toy/box.py"))
    assert total.split()[:-1] == ["toy/box.py", *map(str, (count, count - 2, 2, 0))]
    assert "more than 10% survive in toy/box.py" in run.stdout
    assert (toy / "toy/box.py").read_text() == SOURCE


def test_a_listed_mutant_is_equivalent_wherever_its_line_stands(toy):
    listed(
        toy,
        "# The bound itself is what both branches return.",
        "toy/box.py: if value < low: -> if value <= low:",
        "toy/box.py: if value < low: -> if value >= low:",
        "toy/box.py: if value > low: -> if value >= low:",
    )
    (toy / "toy/box.py").write_text(SOURCE.replace("LIMIT = 3", "\n\nLIMIT = 3"))
    run = mutate(toy, "--check-listed", "--limit", "0.15")
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1].split()[3:5] == ["1", "2"], "survived and equivalent"
    said = [line for line in run.stdout.splitlines() if line.startswith("listed")]
    assert said == [
        "listed as equivalent, but noticed: toy/box.py:10: if value < low: -> if value >= low:",
        "listed as equivalent, but no longer there: toy/box.py: if value > low: -> if value >= low:",
    ]


# -- what is refused


def test_a_reason_is_asked_for(toy):
    listed(toy, "toy/box.py: if value < low: -> if value <= low:")
    run = mutate(toy)
    assert run.returncode == 2
    assert "no reason is given" in run.stderr


def test_tests_that_fail_anyway_say_nothing(toy):
    (toy / "toy/box.py").write_text(SOURCE.replace("LIMIT = 3", "LIMIT = 2"))
    run = mutate(toy)
    assert run.returncode == 2
    assert "before anything is changed" in run.stderr


def test_an_interrupted_run_leaves_nothing_behind(toy):
    """The first mutant makes its test wait for ever; the run is interrupted meanwhile."""
    sign = toy / "waiting"
    waits = f"""
import os, pathlib, time, toy.box
if toy.box.LIMIT != 3:
    pathlib.Path({str(sign)!r}).write_text(str(os.getpid()))
    time.sleep(600)
"""
    (toy / "test/test_box.py").write_text(waits + TESTS)
    run = subprocess.Popen(command(toy), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not (sign.exists() and sign.read_text()):
        assert time.monotonic() < end, "no mutant was tried"
        assert run.poll() is None
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    assert run.wait(60) == 130
    assert (toy / "toy/box.py").read_text() == SOURCE
    with pytest.raises(ProcessLookupError):
        os.kill(int(sign.read_text()), 0)
