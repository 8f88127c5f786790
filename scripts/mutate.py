#!/usr/bin/env python3
"""Do the tests notice when the code is wrong? Puts one small fault after the other into safety-critical source files
(``mutations.py`` says which), runs the tests of the file and lists the faults that they let pass, the survivors.

Nothing is written: a fault exists only in the memory of a process that is forked for it, so an interrupted run leaves
nothing behind. What a mutant costs is a fork and those tests that reach its lines, the quickest first; torch and numpy
are loaded before. A test that starts a process of its own tests the unchanged code there.

Exit status: 0, 1 where too many survive, 2 where it could not be found out, 130 after Ctrl-C.

    scripts/mutate.py                                    # every file of TARGETS
    scripts/mutate.py spec_vla_ros/motion/limits.py      # some of them
    scripts/mutate.py FILE --tests test/a.py test/b.py   # with other tests
"""

from __future__ import annotations

import argparse
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

import pytest
from mutations import Mutation, mutations_of

MOTION, DECODING = "spec_vla_ros/motion", "test/decoding"
MOTION_FILES = (
    *("clock_watch", "data_sets", "gripper", "intent", "limits"),
    *("rotation", "safety", "stream", "watchdog", "workspace"),
)
VERIFIER_FILES, PROPERTY = (
    ("verifier", "exact_shapes", "fixed_shapes", "outcome"),
    f"{DECODING}/test_decoding_property.py",
)
DEFERRED = f"{DECODING}/test_deferred.py"
VERIFIER_TESTS = (f"{DECODING}/test_verifier.py", DEFERRED, PROPERTY)
TARGETS = {
    **{f"{MOTION}/{name}.py": ("test/motion",) for name in MOTION_FILES},
    "spec_vla_ros/decoding/acceptance.py": (f"{DECODING}/test_acceptance.py",),
    "spec_vla_ros/decoding/costs.py": (f"{DECODING}/test_costs.py", f"{DECODING}/test_timing.py"),
    "spec_vla_ros/decoding/decoder.py": (f"{DECODING}/test_decoding_steps.py", DEFERRED, PROPERTY),
    "spec_vla_ros/decoding/deferred.py": (DEFERRED,),
    "spec_vla_ros/decoding/planner.py": (
        f"{DECODING}/test_planner.py",
        f"{DECODING}/test_planning_figures.py",
        DEFERRED,
    ),
    "spec_vla_ros/decoding/timing.py": (f"{DECODING}/test_timing.py",),
    "spec_vla_ros/decoding/tree.py": (f"{DECODING}/test_acceptance.py", DEFERRED, PROPERTY),
    **{f"spec_vla_ros/decoding/{name}.py": VERIFIER_TESTS for name in VERIFIER_FILES},
    "spec_vla_ros/node/clients.py": ("test/node/test_clients.py",),
    "spec_vla_ros/node/cycle.py": ("test/node/test_cycle.py", "test/node/test_steady.py"),
    "spec_vla_ros/node/goal.py": ("test/node/test_goal.py",),
    "spec_vla_ros/node/states.py": ("test/node/test_cycle.py",),
}
PRELOADED = ("numpy", "torch")  # imported once for all mutants where the tests need it; may not import a target
EQUIVALENTS = "test/equivalent_mutants.txt"
COLLECTION = 60.0  # s until the first test begins, at most
SLACK = 5.0  # s that a test may take besides three times what it took without a fault


class TroubleError(Exception):
    """Nothing can be said about the tests."""


class Hook(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Imports the module at ``path`` from ``code`` instead of its source; bytecode is neither read nor written."""

    def __init__(self, name: str, path: str, code: CodeType) -> None:
        super().__init__(name, path)
        self._code = code

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """Of this module; all others are found as ever."""
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        """What is run in place of the source."""
        return self._code


class Coverage:
    """A pytest plugin that notes which lines of ``file`` each test runs, and how long each takes.

    Lines that run outside a test's own call (imports, fixtures that several tests share) are noted for no test, "".
    """

    def __init__(self, file: str) -> None:
        self.file, self._test = file, ""
        self.lines: dict[str, set[int]] = defaultdict(set)
        self.seconds: dict[str, float] = defaultdict(float)

    def trace(self, frame: object, event: str, argument: object) -> Callable | None:
        """For ``sys.settrace``: listens in frames of ``file`` only."""
        if frame.f_code.co_filename != self.file:
            return None
        if event == "line":
            self.lines[self._test].add(frame.f_lineno)
        return self.trace

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        """From here on it is the test itself."""
        self._test = item.nodeid

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """After setup, call and teardown each."""
        self._test = ""
        self.seconds[report.nodeid] += report.duration


class Chosen:
    """A pytest plugin that runs ``tests`` only, in their order, and ends the process where one takes too long."""

    def __init__(self, tests: dict[str, float], slack: float) -> None:
        self._place, self._seconds, self._slack = {test: i for i, test in enumerate(tests)}, tests, slack

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave and sort."""
        known = [item for item in items if item.nodeid in self._place]
        items[:] = sorted(known, key=lambda item: self._place[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Wind up the alarm."""
        signal.setitimer(signal.ITIMER_REAL, self._slack + 3 * self._seconds[nodeid])


@dataclass(frozen=True)
class Baseline:
    """The tests without a fault: which of them run which line, and the seconds that each of them takes."""

    lines: dict[str, list[int]]
    seconds: dict[str, float]

    def tests_of(self, mutation: Mutation) -> dict[str, float]:
        """Those that may notice, with their seconds: quick ones first, but file by file, for shared fixtures."""
        reach = set(range(mutation.lines[0], mutation.lines[1] + 1))
        chosen = [test for test, lines in self.lines.items() if test and not reach.isdisjoint(lines)]
        if not reach.isdisjoint(self.lines.get("", ())):
            chosen = list(self.seconds)
        files = defaultdict(float)
        for test in chosen:
            files[test.split("::")[0]] += self.seconds[test]
        order = sorted(chosen, key=lambda test: (files[test.split("::")[0]], test.split("::")[0], self.seconds[test]))
        return {test: self.seconds[test] for test in order}


def in_fork(task: Callable[[], object]) -> object:
    """The answer of ``task``, run without output in a forked process of its own; None where a signal ended that.

    An alarm ends it in time, also where nobody is left to wait for it.
    """
    with tempfile.TemporaryFile("w+") as answer:
        child = os.fork()
        if child == 0:
            try:
                os.setpgid(0, 0)  # Ctrl-C is for the parent
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_REAL, COLLECTION)
                nowhere = os.open(os.devnull, os.O_RDWR)
                for stream in (0, 1, 2):
                    os.dup2(nowhere, stream)
                json.dump(task(), answer)
                answer.flush()
            finally:
                os._exit(0)
        try:
            status = os.waitpid(child, 0)[1]
        except BaseException:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise
        if os.WIFSIGNALED(status):
            return None
        answer.seek(0)
        said = answer.read()
        if not said:
            raise TroubleError("the process of a mutant ended without an answer")
        return json.loads(said)


def run_pytest(tests: list[str], *plugins: object) -> int:
    return int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests], plugins=list(plugins)))


def measure(path: Path, tests: list[str]) -> Baseline:
    """Run ``tests`` on the code as it is, and import here what they need. Raises :class:`TroubleError` if they fail."""

    def task() -> list:
        signal.setitimer(signal.ITIMER_REAL, 0)
        coverage = Coverage(str(path))
        sys.settrace(coverage.trace)
        code = run_pytest(tests, coverage)
        sys.settrace(None)
        needed = [name for name in PRELOADED if name in sys.modules]
        return [code, {test: sorted(lines) for test, lines in coverage.lines.items()}, coverage.seconds, needed]

    code, lines, seconds, needed = in_fork(task) or (None, {}, {}, [])
    if code != 0:
        raise TroubleError(f"{' '.join(tests)}: pytest ends with {code} before anything is changed")
    for name in needed:
        importlib.import_module(name)
    gc.freeze()  # pytest collects garbage at its end; what is loaded here is none
    return Baseline(lines, seconds)


def is_noticed(mutation: Mutation, source: str, path: Path, tests: dict[str, float], slack: float) -> bool:
    """Whether one of ``tests`` fails, hangs or crashes, or the module cannot be imported."""
    if not tests:
        return False
    module = ".".join(Path(mutation.file).with_suffix("").parts)
    if module in sys.modules:
        raise TroubleError(f"{module} has been imported, a forked process would not import the mutant")
    hook = Hook(module, str(path), compile(mutation.apply(source), str(path), "exec"))

    def task() -> int:
        sys.meta_path.insert(0, hook)
        return run_pytest(list(dict.fromkeys(test.split("::")[0] for test in tests)), Chosen(tests, slack))

    code = in_fork(task)
    if code not in (None, pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED):
        raise TroubleError(f"{mutation}: pytest ends with {code}")
    return code != pytest.ExitCode.OK


def read_equivalents(path: Path) -> dict[str, str]:
    """Mutants that no test can tell from the original, each with its reason: the comment above, up to a blank line."""
    found, reason = {}, ""
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.startswith("#"):
            reason += line[1:]
        elif not line.strip():
            reason = ""
        elif not reason:
            raise TroubleError(f"{path}: no reason is given for {line}")
        else:
            found[line.strip()] = reason.strip()
    return found


def mutate(file: str, tests: list[str], listed: dict[str, str], options: argparse.Namespace) -> tuple[int, int, int]:
    """Try every mutant of ``file``: how many there are, how many survived, how many are listed as equivalent."""
    path = options.root / file
    source = path.read_text()
    mutations = mutations_of(source, file)
    baseline = measure(path, tests)
    survived = equivalent = 0
    for mutation in mutations:
        chosen = baseline.tests_of(mutation)
        if mutation.key in listed:
            equivalent += 1
            if options.check_listed and is_noticed(mutation, source, path, chosen, options.slack):
                print(f"listed as equivalent, but noticed: {mutation}", flush=True)
        elif not is_noticed(mutation, source, path, chosen, options.slack):
            survived += 1
            print(f"{mutation}{'' if chosen else '  (no test comes here)'}", flush=True)
    keys = {mutation.key for mutation in mutations}
    for key in listed:
        if key.startswith(f"{file}: ") and key not in keys:
            print(f"listed as equivalent, but no longer there: {key}")
    return len(mutations), survived, equivalent


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="files to mutate (default: all of TARGETS)")
    parser.add_argument("--tests", nargs="+", help="what pytest runs (default: as in TARGETS)")
    parser.add_argument("--limit", type=float, default=0.1, help="share of a file that may survive (default: 0.1)")
    parser.add_argument(
        "--slack", type=float, default=SLACK, help="s that a test may take longer (default: %(default)s)"
    )
    parser.add_argument("--check-listed", action="store_true", help="try the mutants listed as equivalent as well")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="folder of the package")
    options = parser.parse_args(arguments)
    options.root = options.root.resolve()
    return options


def main(arguments: list[str] | None = None) -> int:
    options = options_of(arguments)
    os.chdir(options.root)
    sys.path.insert(0, str(options.root))
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # those of other packages take half a second per mutant
    pytest.main(["--version"])  # loads its own ones
    listed, rows = read_equivalents(options.root / EQUIVALENTS), []
    for file in options.files or TARGETS:
        tests, start = options.tests or TARGETS.get(file), time.monotonic()
        if not tests:
            raise TroubleError(f"{file} is not among the TARGETS: say with --tests what tests it")
        count, survived, equivalent = mutate(file, list(tests), listed, options)
        rows.append((file, count, count - survived - equivalent, survived, equivalent, time.monotonic() - start))
    print(f"\n{'file':42}{'mutants':>8}{'killed':>8}{'survived':>10}{'equivalent':>12}{'s':>6}")
    for file, *counts, seconds in rows:
        print("{:42}{:8}{:8}{:10}{:12}".format(file, *counts) + f"{seconds:6.0f}")
    bad = [file for file, count, _, survived, equivalent, _ in rows if survived > options.limit * (count - equivalent)]
    if bad:
        print(f"more than {options.limit:.0%} survive in {', '.join(bad)}")
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except TroubleError as trouble:
        print(trouble, file=sys.stderr)
        sys.exit(2)
