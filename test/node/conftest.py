"""A node under test, a camera, an operator and an ear on every topic, over real DDS in one process.

Tests wait for events, never for time. "Nothing was sent" is shown by a sentinel: a message published afterwards on the
same topic must arrive first.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytest.importorskip("numpy")


@pytest.fixture
def rig(ros):
    """A factory of :class:`rig.Rig`; everything it made is stopped afterwards."""
    from rig import Rig

    rigs = []

    def make(policy=None, arguments=(), **parameters):
        rigs.append(Rig(policy, parameters, arguments))
        return rigs[-1]

    yield make
    for one in rigs:
        one.close()


@pytest.fixture
def world(ros):
    """A camera and an ear in this process, without a node under test in it."""
    from rig import World

    one = World()
    yield one
    one.close()


@pytest.fixture
def act(world):
    """Starts ``scripts/act`` as a process with the given parameters, in a process group of its own."""
    processes = []

    def start(*more, **parameters):
        arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        processes.append(
            subprocess.Popen(
                [sys.executable, ROOT / "scripts" / "act", "--ros-args", *arguments, *more],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
                start_new_session=True,
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
