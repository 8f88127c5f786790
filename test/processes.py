"""Programs beside the tests: in an environment in which they find this checkout, and ended with the test."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def environment(*before, **more):
    """Ours, in which Python finds this checkout, and ahead of it what is in the folders ``before``."""
    path = os.pathsep.join(filter(None, [*map(str, before), str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, **more}


def run(*arguments, **options):
    """Python until it ends, with what it said as text. ``options``: of ``subprocess.run``."""
    options = {"env": environment(), "capture_output": True, "text": True, "timeout": 60, **options}
    return subprocess.run([sys.executable, *arguments], check=False, **options)


@contextlib.contextmanager
def beside():
    """Gives a function that starts Python; what it has started is ended afterwards.

    It takes arguments of Python and options of ``subprocess.Popen``.
    """
    with contextlib.ExitStack() as stack:

        def begin(*arguments, **options):
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment()}
            process = stack.enter_context(subprocess.Popen([sys.executable, *arguments], **{**pipes, **options}))
            stack.callback(process.kill)
            return process

        yield begin
