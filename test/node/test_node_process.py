"""The node as a process of its own: signals, the command line, and what is imported when.

With default signal handlers the context is gone before the node can send its last zero, and a motion command stays last
on the wire; a second Ctrl-C (a terminal and ros2 launch send one each) used to interrupt the cleanup.
"""

import signal
import time
from importlib.util import find_spec

import processes
import pytest

from spec_vla_ros.embedded_ros.doorway import ensure_rclpy

DRIVE = {"policy": "scripted", "autostart": "true", "dry_run": "false", "instruction": "go", "script_delay": "0.0"}


def any_motion(world, twists=None):
    from rig import six

    return any(six(message).any() for message in (world.twists if twists is None else twists))


def finish(process, world, timeout=10):
    """Exit code and output, while the world keeps turning."""
    world.until(lambda: process.poll() is not None, timeout, "the end of the process")
    return process.returncode, process.stdout.read()


@pytest.mark.parametrize("signals", [["SIGTERM"], ["SIGINT", "SIGINT"], ["SIGINT", "SIGTERM"]])
def test_zero_is_last_and_the_exit_is_clean(world, act, signals):
    from rig import six

    process = act(**DRIVE)
    world.until(lambda: world.twists and six(world.twists[-1]).any(), 30, "motion")
    for name in signals:
        process.send_signal(getattr(signal, name))
    code, output = finish(process, world)
    assert code == 0, output
    assert "Traceback" not in output
    heard = world.heard_before_sentinel()
    assert any(six(message).any() for message in heard)
    assert not six(heard[-1]).any()
    world.until(lambda: world.probe.count_publishers("/delta_twist_cmds") == 0)


def test_signals_that_go_on_to_the_very_end(world, act):
    """ros2 launch sends one more than the terminal, whenever it likes; the interpreter's own end was killed by it."""
    process = act(**DRIVE)
    world.until(lambda: any_motion(world), 30, "motion")

    def interrupted():
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        return process.poll() is not None

    world.until(interrupted, 10, "the end of the process")
    assert process.returncode == 0, process.stdout.read()
    heard = world.heard_before_sentinel()
    assert not any_motion(world, heard[-1:])


def test_a_hanging_inference_does_not_keep_the_process_alive(world, act):
    process = act(**{**DRIVE, "script_delay": "10.0"})
    world.until(lambda: len(world.twists) > 20, 30, "the stream")
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code, output = finish(process, world)
    assert code == 0, output
    assert time.monotonic() - began < 4, "ros2 launch kills after five seconds"


SLOW = """
import atexit, sys, threading
class Slow:
    def __del__(self):
        threading.Event().wait()  # what torch's memory and libraries take, and more
sys.slow = Slow()
atexit.register(lambda: print("logs are written", flush=True))
from spec_vla_ros.embedded_ros.doorway import ensure_rclpy
ensure_rclpy()
from spec_vla_ros.ros import process
{more}
process.leave({status})
"""


@pytest.mark.parametrize("status", [0, 3])
def test_a_process_does_not_wait_for_its_interpreter_to_be_taken_apart(start, status):
    """With a model it lived up to five seconds beyond its last zero, and launch reached for SIGTERM."""
    one = start(SLOW.format(status=status, more=""))
    said, trouble = one.communicate(timeout=30)
    assert one.returncode == status, trouble
    assert said == "logs are written\n", "what is registered for the end of a process happens"


def test_nothing_is_taken_away_from_an_inference_that_goes_on(start):
    more = "threading.Thread(target=threading.Event().wait).start()"
    one = start(SLOW.format(status=0, more=more))
    said, trouble = one.communicate(timeout=30)
    assert (one.returncode, said) == (0, ""), trouble


def test_a_transition_that_does_not_exist_here_leaves_the_node_driving(world, act):
    """Lifecycle managers send numbers; rclpy raises for one that does not fit, out of the executor."""
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    process = act(**DRIVE)
    world.until(lambda: any_motion(world), 30, "motion")
    client = world.probe.create_client(ChangeState, "/act/change_state")
    world.until(client.service_is_ready)
    client.call_async(ChangeState.Request(transition=Transition(id=Transition.TRANSITION_ACTIVATE)))
    world.until_ticks(50)
    world.until_moving()
    process.send_signal(signal.SIGINT)
    code, output = finish(process, world)
    assert code == 0, output
    assert "Traceback" not in output
    assert not any_motion(world, world.heard_before_sentinel()[-1:])


def test_a_signal_before_anything_is_configured(world, act):
    process = act(policy="scripted")
    world.until(lambda: world.diagnostics, 30, "a sign of life")
    process.send_signal(signal.SIGINT)
    code, output = finish(process, world)
    assert code == 0, output
    assert world.heard_before_sentinel() == []


WITH_TORCH = pytest.mark.skipif(find_spec("torch") is None, reason="a model needs torch")
LOADS = {"a load that waits": "threading.Event().wait()", "a load that computes": "[None for _ in iter(int, 1)]"}


@WITH_TORCH
@pytest.mark.parametrize(("load", "name"), list(zip(LOADS.values(), ["SIGTERM", "SIGINT"], strict=True)), ids=LOADS)
def test_a_signal_in_the_middle_of_a_load_is_one_calm_line(world, start, load, name):
    """It ended with a traceback, after two seconds of waiting for a load that nobody wants any more."""
    process = start(
        "import sys, threading\n"
        "from spec_vla_ros.node import act_node\n"
        "from spec_vla_ros.openvla import loader\n"
        f"loader.load_model = lambda *_, **__: (print('now', flush=True), {load})\n"
        "sys.exit(act_node.main(sys.argv))",
        "--ros-args", "-p", "policy:=openvla", "-p", "model:=models/tabletop", "-p", "autostart:=true",
    )  # fmt: skip
    assert process.stdout.readline() == "now\n"
    began = time.monotonic()
    process.send_signal(getattr(signal, name))
    _, said = process.communicate(timeout=10)
    assert time.monotonic() - began < 1.8, "two seconds were spent on waiting for the load"
    assert process.returncode == 0, said
    assert "Traceback" not in said
    after = [line for line in said.split("loading policy")[1].splitlines()[1:] if "still loading" not in line]
    assert ["STOPPED" in line for line in after] == [True, False], said
    assert after[1].endswith("finalized")


@WITH_TORCH
def test_a_signal_while_the_real_model_is_read(world, act):
    process = act(model="models/tabletop", autostart="true")
    texts = []
    world.until(
        lambda: (
            texts.extend(s.message for m in world.diagnostics for s in m.status)
            or "configuring: loading the policy" in texts
        ),
        30,
        "the beginning of the load",
    )
    process.send_signal(signal.SIGTERM)
    code, output = finish(process, world)
    assert code == 0, output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("parameter", "value"), [("acceptance_radius", "21"), ("action_scale", "1"), ("max_linear_speed", ".nan")]
)
def test_a_parameter_that_cannot_be_is_one_line_and_an_exit_code(world, act, parameter, value):
    code, output = finish(act(**{parameter: value}), world, 30)
    assert code == 1
    assert parameter in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("name", "value", "arguments"),
    [
        ("ROS_DOMAIN_ID", "233", []),
        ("ROS_STATIC_PEERS", "no.such.host.invalid", []),
        ("CYCLONEDDS_URI", "file:///no/such/settings.xml", []),
        ("no/such/file.yaml", None, ["--ros-args", "--params-file", "no/such/file.yaml"]),
        ("--no-such-thing", None, ["--ros-args", "--no-such-thing", "1"]),
        ("two words", None, ["--ros-args", "-r", "__node:=two words"]),
    ],
)
def test_an_environment_or_arguments_in_which_no_node_can_be_are_one_line(start, name, value, arguments):
    """They were tracebacks, and a peer without an address was "Aborted (core dumped)"."""
    if ensure_rclpy() != "embedded":
        pytest.skip("rclpy has its own words")
    code = (
        "import sys; from spec_vla_ros.outermost import main_of; sys.exit(main_of('spec_vla_ros.node.act_node', 'act'))"
    )
    process = start(code, *arguments, **({name: value} if value else {}))
    said, errors = process.communicate()
    assert process.returncode == 1, errors
    assert said == ""
    lines = [line for line in errors.splitlines() if not line.startswith("[INFO]")]
    assert len(lines) == 1, errors
    assert lines[0].startswith("[FATAL]")
    assert name in lines[0]


def test_the_shipped_configuration_is_accepted(world, act):
    """And the dry run it starts with sends nothing."""
    process = act(
        "--params-file", processes.ROOT / "config" / "act.yaml", "-p", "policy:=scripted", "-p", "autostart:=true",
        "-p", "instruction:=go",
    )  # fmt: skip
    world.until(lambda: len(world.actions) >= 2, 30, "actions")
    process.send_signal(signal.SIGINT)
    code, output = finish(process, world)
    assert code == 0, output
    assert world.heard_before_sentinel() == []


def test_the_node_starts_without_torch(ros):
    """Torch takes seconds to import and is not needed to say what is wrong with the configuration."""
    code = "import sys, spec_vla_ros.node.act_node; sys.exit('torch' in sys.modules)"
    done = processes.run("-c", code)
    assert done.returncode == 0, done.stderr


def test_a_full_disk_under_the_log_stops_nobody(world, act):
    """Standard error on a full disk: what cannot be logged is lost, the stream and the last zero are not."""
    with open("/dev/full", "w", encoding="utf-8") as full:
        process = act(**DRIVE, log=full)
    world.until(lambda: any_motion(world), 30, "motion")
    world.say("rehearsed instruction that is logged")
    world.until_moving()
    process.send_signal(signal.SIGTERM)
    world.until(lambda: process.poll() is not None, 10, "the end of the process")
    heard = world.heard_before_sentinel()
    assert not any_motion(world, heard[-1:])


def test_what_converts_images_is_imported_before_anything_moves(ros):
    """Imported at the first image, cv_bridge and OpenCV stopped the stream for a quarter of a second."""
    pytest.importorskip("cv2")
    code = (
        "import sys; from spec_vla_ros.node.act_node import ActNode; import rclpy; rclpy.init(); ActNode()\n"
        "import os; os._exit('cv2' not in sys.modules)"
    )
    done = processes.run("-c", code)
    assert done.returncode == 0, done.stderr
