"""Every test process has a ROS domain of its own on the loopback interface, and never an installed ROS 2."""

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytest.importorskip("cyclonedds")
pytest.importorskip("rosbags")

# Before anything creates a participant: the settings are read once per process.
DOMAIN = 10 + os.getpid() % 80
os.environ["ROS_DOMAIN_ID"] = str(DOMAIN)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
for _name in ("CYCLONEDDS_URI", "ROS_STATIC_PEERS", "ROS_LOCALHOST_ONLY"):
    os.environ.pop(_name, None)

from spec_vla_ros.embedded_ros.doorway import ensure_rclpy  # noqa: E402

if not os.environ.get("AMENT_PREFIX_PATH"):
    ensure_rclpy()

sys.path.insert(0, str(Path(__file__).parent))  # for filled.py
_numbers = itertools.count()


def pytest_collection_modifyitems(items):
    """The embedded runtime never runs beside a real one."""
    if os.environ.get("AMENT_PREFIX_PATH"):
        for item in items:
            if Path(str(item.fspath)).parent == Path(__file__).parent:
                item.add_marker(pytest.mark.skip(reason="a ROS 2 environment is sourced"))


@pytest.fixture(scope="module")
def ros():
    """rclpy, initialised once for a file; tests that shut it down do so in a process of their own."""
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    yield rclpy
    rclpy.try_shutdown()


@pytest.fixture
def make_node(ros):
    """Nodes with names of their own, destroyed after the test."""
    from rclpy.node import Node

    nodes = []

    def make(name=None, **kwargs):
        nodes.append(Node(name or f"node_{next(_numbers)}", **kwargs))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()


@pytest.fixture
def executor(ros):
    from rclpy.executors import SingleThreadedExecutor

    made = SingleThreadedExecutor()
    yield made
    made.shutdown()


@pytest.fixture
def spin_until(executor):
    """Spin until ``condition()`` holds; fails after ``limit`` seconds."""

    def wait(condition, *nodes, limit=10.0):
        for node in nodes:
            executor.add_node(node)
        end = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < end, "nothing happened in time"
            executor.spin_once(timeout_sec=0.05)

    return wait


@pytest.fixture
def start():
    """Start a Python program beside the test; it finds the package and the same domain, and is ended afterwards."""
    running = []

    def begin(code, *arguments, **environment):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()
