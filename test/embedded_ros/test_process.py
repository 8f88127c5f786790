"""The doorway, start and end of a process: which rclpy, what it says, signals, shutdown, exit."""

import importlib
import os
import re
import shutil
import signal

import processes
import pytest

from spec_vla_ros.embedded_ros.doorway import SURFACE

ROOT = processes.ROOT
DOOR = "from spec_vla_ros.embedded_ros.doorway import ensure_rclpy\n"
SPIN = (
    DOOR
    + """
ensure_rclpy()
import rclpy
from rclpy.node import Node
from rclpy.executors import ExternalShutdownException
rclpy.init()
node = Node("spinning")
first = node.create_timer(0.01, lambda: (print("ready", flush=True), first.cancel()))
try:
    rclpy.spin(node)
except KeyboardInterrupt:
    print("interrupt", rclpy.ok())
except ExternalShutdownException:
    print("shutdown", rclpy.ok())
node.destroy_node()
rclpy.try_shutdown()
"""
)


def run(code, *path, **environment):
    return processes.run("-c", DOOR + code, env=processes.environment(*path, **environment))


@pytest.mark.parametrize("module", SURFACE)
def test_everything_declared_can_be_imported(module):
    loaded = importlib.import_module(module)
    for _, names in SURFACE[module]:
        for name in names:
            assert getattr(loaded, name) is not None


def test_the_documentation_names_the_same_surface():
    text = (ROOT / "docs/embedded_ros.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `((?:rclpy|tf2_ros)[\w.]*)` \| (.+) \|$", text, re.MULTILINE))
    documented = {module: set(re.findall(r"`(\w+)`", names)) for module, names in rows.items()}
    assert documented == {module: {n for _, names in entry for n in names} for module, entry in SURFACE.items()}


@pytest.mark.parametrize(
    "statement",
    [
        "import rclpy.waitable",
        "from rclpy import waitable",
        "from rclpy.action import ActionClient",
        "from spec_vla_ros.action import Nothing",
        "from rclpy.qos import QoSPolicyKind",
        "from rclpy.node import HIDDEN_NODE_PREFIX",
        "import tf2_ros.msg",
        "from std_msgs.msg import Nothing",
        "import sensor_msgs.srv",
    ],
)
def test_what_is_missing_says_so(statement):
    with pytest.raises(ImportError) as failure:
        exec(statement)
    assert "embedded runtime" in str(failure.value)
    assert "install ROS 2" in str(failure.value)


def test_what_cannot_be_called_says_so(make_node):
    node = make_node()
    with pytest.raises(NotImplementedError, match="install ROS 2"):
        node.create_rate(10)
    with pytest.raises(TypeError):
        node.create_timer(1.0, print, unknown=True)


def test_a_real_rclpy_goes_first(tmp_path):
    (tmp_path / "rclpy").mkdir()
    (tmp_path / "rclpy" / "__init__.py").write_text("real = True\n")
    code = "print(ensure_rclpy()); import sys, rclpy; print(rclpy.real, 'cyclonedds' in sys.modules)"
    assert run(code, tmp_path).stdout.split() == ["rclpy", "True", "False"]


def test_a_broken_ros_is_not_papered_over():
    done = run("ensure_rclpy()", AMENT_PREFIX_PATH="/opt/ros/nowhere")
    assert done.returncode != 0
    assert "AMENT_PREFIX_PATH is set" in done.stderr


def test_asking_twice_is_harmless_and_the_notice_is_one_line():
    done = run("print(ensure_rclpy(), ensure_rclpy()); import rclpy; rclpy.init(); rclpy.shutdown(); rclpy.init()")
    assert done.stdout.split() == ["embedded", "embedded"]
    assert len(done.stderr.splitlines()) == 1
    assert "subset of rclpy" in done.stderr


def test_shutdown_twice_raises_and_try_shutdown_never():
    code = """
ensure_rclpy(); import rclpy
from rclpy.exceptions import NotInitializedException
from rclpy.node import Node
try: Node("early")
except NotInitializedException: print("early")
rclpy.init(); assert rclpy.ok()
rclpy.shutdown(); assert not rclpy.ok()
try: rclpy.shutdown()
except RuntimeError: print("twice")
rclpy.try_shutdown(); rclpy.try_shutdown()
rclpy.init(); node = Node("again"); rclpy.spin_once(node, timeout_sec=0); print(node.get_name())
"""
    assert run(code).stdout.split() == ["early", "twice", "again"]


@pytest.mark.parametrize(("number", "said"), [(signal.SIGINT, "interrupt False"), (signal.SIGTERM, "shutdown False")])
def test_signals_end_spin_and_the_process(start, number, said):
    process = start(SPIN)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert out.strip() == said
    assert process.returncode == 0, err
    assert "Traceback" not in err


def test_own_signal_handlers_are_left_alone():
    code = """
ensure_rclpy(); import rclpy, signal
from rclpy.signals import SignalHandlerOptions
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
rclpy.shutdown()
rclpy.init(); assert signal.getsignal(signal.SIGINT) is not before[0]
rclpy.shutdown(); assert signal.getsignal(signal.SIGINT) is before[0]
print("same")
"""
    done = run(code)
    assert done.stdout.strip() == "same", done.stderr


def test_arguments_of_the_process_reach_the_node():
    code = """
ensure_rclpy(); import rclpy
from rclpy.node import Node
rclpy.init(args=["x", "--ros-args", "-r", "__ns:=/w", "-r", "in:=out", "-p", "gain:=2.5", "--", "y"])
node = Node("n"); node.declare_parameter("gain", 1.0)
print(node.get_fully_qualified_name(), node.resolve_topic_name("in"), node.get_parameter("gain").value)
"""
    assert run(code).stdout.split() == ["/w/n", "/w/out", "2.5"]


def test_a_logger_has_levels_and_reaches_rosout(make_node, spin_until, capfd):
    from rcl_interfaces.msg import Log
    from rclpy.logging import LoggingSeverity
    from rclpy.qos import DurabilityPolicy, QoSProfile

    node, records = make_node("speaker", namespace="/ns"), []
    latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_subscription(Log, "/rosout", records.append, latched)
    for _ in range(3):
        node.get_logger().info("only once", once=True)
        node.get_logger().info("rarely", throttle_duration_sec=100.0)
        node.get_logger().debug("too quiet")
    node.get_logger().set_level(LoggingSeverity.ERROR)
    node.get_logger().warning("too quiet now")
    node.get_logger().error("loud")
    spin_until(lambda: any(record.msg == "loud" for record in records), node)
    mine = [(record.level, record.msg) for record in records if record.name == "ns.speaker"]
    assert mine == [(20, "only once"), (20, "rarely"), (40, "loud")]
    assert records[-1].function == "test_a_logger_has_levels_and_reaches_rosout"
    assert re.search(r"^\[ERROR\] \[\d+\.\d{9}\] \[ns\.speaker\]: loud$", capfd.readouterr().err, re.MULTILINE)


def test_clocks_and_times():
    from rclpy.clock import Clock, ClockType
    from rclpy.duration import Duration
    from rclpy.time import Time

    a, b = Time(seconds=2, nanoseconds=5), Time(seconds=1)
    assert a - b == Duration(seconds=1, nanoseconds=5)
    assert b + Duration(seconds=1, nanoseconds=5) == a > b
    assert Time.from_msg(a.to_msg(), clock_type=ClockType.SYSTEM_TIME) == a
    assert (a.to_msg().sec, a.to_msg().nanosec) == (2, 5)
    assert Duration(seconds=-0.5).to_msg().nanosec == 500_000_000
    steady = Clock(clock_type=ClockType.STEADY_TIME)
    assert steady.now() <= steady.now()
    with pytest.raises(TypeError):
        steady.now() - Clock().now()
    with pytest.raises(ValueError, match="negative"):
        Time(nanoseconds=-1)


def test_an_installed_package_brings_its_messages(tmp_path):
    """A wheel keeps ``msg`` inside the module; a folder ``msg`` beside it belongs to somebody else."""
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("__init__.py", "embedded_ros"):
        source, target = ROOT / "spec_vla_ros" / name, tmp_path / "spec_vla_ros" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=ignore)
        else:
            target.parent.mkdir()
            shutil.copy(source, target)
    shutil.copytree(ROOT / "msg", tmp_path / "spec_vla_ros" / "share" / "msg")
    (tmp_path / "msg").mkdir()
    code = DOOR + "ensure_rclpy(); from spec_vla_ros.msg import Episode; print(Episode(id=3).id)"
    done = processes.run("-c", code, env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path)
    assert done.stdout.strip() == "3", done.stderr
