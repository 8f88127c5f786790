"""A node under test, a camera, an operator and an ear on every topic, over real DDS in one process.

Tests wait for events, never for time. "Nothing was sent" is shown by a sentinel: a message published afterwards on the
same topic must arrive first.
"""

import contextlib
import subprocess
import sys

import processes
import pytest

pytest.importorskip("numpy")


@pytest.fixture(scope="session")
def forks():
    """Safety processes of nodes in this process are forked where that is known to work; see :mod:`forked`."""
    from forked import safety_processes

    from spec_vla_ros.embedded_ros.doorway import ensure_rclpy

    with safety_processes() if (sys.platform, ensure_rclpy()) == ("linux", "embedded") else contextlib.nullcontext():
        yield


@pytest.fixture
def rig(ros, forks):
    """A factory of :class:`rig.Rig`; everything it made is stopped afterwards."""
    from rig import Rig

    rigs = []

    def make(policy=None, arguments=(), namespace="/", **parameters):
        rigs.append(Rig(policy, parameters, arguments, namespace))
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
    """Starts ``scripts/act`` as a process with the given parameters, in a process group of its own.

    It says everything to ``log``, by default its ``stdout`` here.
    """
    with processes.beside() as begin:

        def start(*more, log=subprocess.PIPE, **parameters):
            arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
            command = (processes.ROOT / "scripts" / "act", "--ros-args", *arguments, *more)
            return begin(*command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

        yield start
