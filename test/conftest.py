"""One ROS domain per test process, on the loopback interface, and whichever rclpy this machine has."""

import itertools
import os
import signal
import subprocess
import time
from pathlib import Path

import processes
import pytest

from spec_vla_ros.ros.children import free_domain, loopback

# Before anything creates a participant, or imports MuJoCo: these are read once per process.
os.environ["ROS_DOMAIN_ID"] = str(free_domain())
for _name in ("ROS_STATIC_PEERS", "ROS_LOCALHOST_ONLY"):
    os.environ.pop(_name, None)
os.environ.update(loopback())
os.environ.setdefault("MUJOCO_GL", "egl")
# A shell starts background jobs with SIGINT ignored, and so would be every process that a test wants to interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

try:
    from spec_vla_ros.embedded_ros.doorway import ensure_rclpy

    RUNTIME = ensure_rclpy()
    WHY_NOT = ""
except ImportError as error:
    RUNTIME = ""
    WHY_NOT = str(error)

_numbers = itertools.count()
# Where processes talk over DDS and seconds count: these tests run one after the other, in one process of several.
ON_THE_WIRE = {
    "conformance", "cross", "embedded_ros", "test_bench_dead_man.py", "test_bench_soak.py", "test_bench_wire.py",
    "test_fault_burdens.py", "test_fault_campaign.py", "test_two_hosts.py", "test_over_dds.py", "test_run.py",
    "test_libero_node.py", "test_children.py", "test_launch_files.py", "test_arm_node.py",
}  # fmt: skip


def pytest_report_header():
    return f"rclpy: {RUNTIME or WHY_NOT}"


def pytest_ignore_collect(collection_path):
    """Without any rclpy, the tests that import it at the top cannot even be collected."""
    if WHY_NOT and collection_path.name in {"conformance", "embedded_ros"}:
        return True
    return None


def pytest_collection_modifyitems(items):
    """With ``-n 2 --dist loadgroup`` a file stays in one process, and so does everything on the wire."""
    here = Path(__file__).parent
    wire = {item.path for item in items if {"ros", "start"} & {*item.fixturenames}}
    wire |= {item.path for item in items if ON_THE_WIRE & {*item.path.relative_to(here).parts}}
    for item in items:
        item.add_marker(pytest.mark.xdist_group("wire" if item.path in wire else str(item.path)))


@pytest.fixture(scope="module")
def one_thread():
    """Small matrices are faster on one thread, above all on shared cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def ros():
    """rclpy, initialised once for a file; tests that shut it down do so in a process of their own."""
    if WHY_NOT:
        pytest.skip(WHY_NOT)
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    # rmw_cyclonedds makes a new participant when the last node has gone, whose graph keeps for good who left meanwhile.
    keeper = rclpy.create_node("keeper") if RUNTIME == "rclpy" else None
    yield rclpy
    if keeper is not None:
        keeper.destroy_node()
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
def publishers_of():
    """How many publishers a subscription of a node has met; on Humble, which does not tell, those in the graph."""

    def count(node, subscription):
        met = getattr(subscription, "get_publisher_count", None)
        return met() if met else node.count_publishers(subscription.topic_name)

    return count


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
    with processes.beside() as begin:
        yield lambda code, *arguments, **more: begin(
            "-c", code, *arguments, env=processes.environment(**more), stdin=subprocess.PIPE
        )
