"""What the node adds to the inference: from a camera image on the wire to the first velocity of its action.

A camera of the asked size and rate publishes one picture of the simulated table top, again and again; the act node runs
in a process of its own, as on a robot. Both stamps, the image's and the velocity's, come from this machine's clock. The
middleware is set up as the user's environment says: with none, as it is installed.
"""

from __future__ import annotations

import array
import io
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from spec_vla_ros.embedded_ros.doorway import ensure_rclpy

RUNTIME = ensure_rclpy()  # before the first import of rclpy or of a message package

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image

from spec_vla_ros.demo.summary import ActionRecord, TwistRecord, action_record, overheads_ms, twist_record
from spec_vla_ros.figures import histogram, median_p99
from spec_vla_ros.installed import TABLETOP, model_folder
from spec_vla_ros.msg import DecodeStats
from spec_vla_ros.ros.children import Child, DemoError, act_arguments, end_all, own_domain, start

START = 120.0  # s for the node to load its model and become active
PUBLISH_RATE = 100.0  # Hz, of config/sim.yaml
SETTLE = 2.0  # s after the last image until everything has arrived
CAMERAS = ((640, 480), (1280, 720), (1920, 1080))  # px, width and height
DEPTH = 5  # of the camera's publisher, as drivers have it
QUALITY = 80  # of JPEG
RENDERED = (480, 640)  # px at most, height and width, of the simulated picture, which is enlarged beyond


@dataclass(frozen=True)
class Options:
    """``seconds``: of driving; ``width``, ``height``: px; ``rate``: Hz; ``model``: checkpoint folder.

    ``reliable``: the camera publishes so; ``compressed``: JPEG. ``cameras``: a row for each of :data:`CAMERAS`, raw and
    compressed, reliable and best effort, in place of these.
    ``base_model``: as the node's parameter.
    """

    seconds: float = 30.0
    width: int = 640
    height: int = 480
    rate: float = 30.0
    model: str = TABLETOP
    preset: str = "auto"
    reliable: bool = False
    compressed: bool = False
    cameras: bool = False
    base_model: str = ""


class WireBench(Node):
    """The camera, and ears for what the act node says."""

    def __init__(self, options: Options, pixels: bytes) -> None:
        super().__init__("wire_bench")
        self.sent = 0
        self.received: int | None = None
        self.trouble = ""
        self.ready = False  # the act node is active and hears the camera
        self.actions: list[ActionRecord] = []
        self.twists: list[TwistRecord] = []
        kind, topic = (CompressedImage, "image/compressed") if options.compressed else (Image, "image")
        self._message = kind(format="jpeg") if options.compressed else _raw(options)
        self._message.header.frame_id = "camera"
        self._message.data = array.array("B", pixels)
        reliability = ReliabilityPolicy.RELIABLE if options.reliable else ReliabilityPolicy.BEST_EFFORT
        self._images = self.create_publisher(kind, topic, QoSProfile(depth=DEPTH, reliability=reliability))
        self._compressed = options.compressed
        self._ears = (
            self.create_subscription(TwistStamped, "delta_twist_cmds", self._on_twist, 100),
            self.create_subscription(DecodeStats, "act/decode_stats", self._on_stats, 100),
            self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10),
        )
        self._period = 1.0 / options.rate
        self._camera: Any = None

    def start_camera(self) -> None:
        """Images from now on."""
        self._camera = self.create_timer(self._period, self._capture, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def stop_camera(self) -> None:
        """No more images."""
        self._camera.cancel()

    def _capture(self) -> None:
        self._message.header.stamp = self.get_clock().now().to_msg()
        if not self._compressed:
            self._message.data[0] = self.sent % 256  # a living sensor never repeats itself
        self._images.publish(self._message)
        self.sent += 1

    def _on_twist(self, message: TwistStamped) -> None:
        self.twists.append(twist_record(time.time_ns(), message))

    def _on_stats(self, message: DecodeStats) -> None:
        self.actions.append(action_record(time.time_ns(), message))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "act: control":
                values = {pair.key: pair.value for pair in status.values}
                self.ready = values.get("state") == "active" and self._images.get_subscription_count() > 0
                self.received = int(values.get("frames received", 0))
                # Once the camera has stopped, a stale image is what has to be reported.
                over = self._camera is not None and self._camera.is_canceled()
                if status.level == DiagnosticStatus.ERROR and not over:
                    self.trouble = status.message


def measure(options: Options, say: Callable[[str], None]) -> dict[str, Any] | list[dict[str, Any]]:
    """Run the node for ``options.seconds`` and return the figures. Raises :class:`DemoError` where it cannot.

    Of ``options.cameras`` a list of them, in which a node that has stopped is a result (``stopped``: why).
    """
    if not options.cameras:
        return _measure(options, say)
    rows = []
    for (width, height), compressed, reliable in itertools.product(CAMERAS, (False, True), (True, False)):
        row = replace(options, width=width, height=height, compressed=compressed, reliable=reliable)
        try:
            rows.append(_measure(row, say))
        except StoppedNodeError as error:
            rows.append({**asdict(row), "stopped": str(error), "runtime": RUNTIME})
        say(line(rows[-1]))
    return rows


class StoppedNodeError(DemoError):
    """The node has stopped with a fault."""


def _measure(options: Options, say: Callable[[str], None]) -> dict[str, Any]:
    pixels = _picture(options)
    env = own_domain()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "act.log")
        arguments = _arguments(options)
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)  # where that fails, no node is left behind
        children = []
        try:
            act = start(children, "the act node", "spec_vla_ros.node.act_node", arguments, log, env)
            node = WireBench(options, pixels)
            try:
                _drive(node, act, options, say)
            finally:
                node.destroy_node()
        finally:
            end_all(children)
            rclpy.try_shutdown()
    return figures(options, node)


def _drive(node: WireBench, act: Child, options: Options, say: Callable[[str], None]) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def spin(seconds: float, done: Callable[[], bool] = lambda: False) -> None:
        end = time.monotonic() + seconds
        while not done() and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.05)
            act.check()
            if node.trouble:
                raise StoppedNodeError(f"the act node stopped: {node.trouble}")

    spin(START, lambda: node.ready)
    if not node.ready:
        raise DemoError(f"the act node was not active after {START:.0f} s:\n{act.tail()}")
    say(f"the act node is active; {options.seconds:g} s of {options.width} x {options.height} at {options.rate:g} Hz")
    node.start_camera()
    spin(options.seconds)
    node.stop_camera()
    spin(SETTLE)
    executor.shutdown()


def figures(options: Options, node: WireBench) -> dict[str, Any]:
    """The row of the report."""
    overheads = overheads_ms(node.actions, node.twists)
    passes = [action.passes for action in node.actions]
    return {
        **asdict(options),
        "frames_sent": node.sent,
        "frames_received": node.received,
        "actions": len(node.actions),
        "passes_histogram": histogram(passes),
        "inference_ms": median_p99([action.inference_ms for action in node.actions]),
        "image_to_twist_overhead_ms": {**median_p99(overheads), "samples": len(overheads)},
        "publish_late_ms": late_ms(node.twists, 1e3 / PUBLISH_RATE),
        "runtime": RUNTIME,
    }


def late_ms(twists: Sequence[TwistRecord], period: float) -> dict[str, Any]:
    """By how much an interval between two velocities exceeds ``period`` (ms): by their stamps and as they arrived.

    Shorter ones count as 0: the first velocity of an action leaves at once, and the next one a period after it.
    """
    rows = {
        "sent": np.diff([twist.stamp_ns for twist in twists]) * 1e-6,
        "received": np.diff([twist.received_ns for twist in twists]) * 1e-6,
    }
    return {
        name: {
            **median_p99(late := np.maximum(intervals - period, 0.0).tolist()),
            "max": round(max(late, default=0.0), 3),
            "samples": len(late),
        }
        for name, intervals in rows.items()
    }


def line(row: dict[str, Any]) -> str:
    """One camera of several."""
    kind = f"{'JPEG' if row['compressed'] else 'raw'}, {'reliable' if row['reliable'] else 'best effort'}"
    if "stopped" in row:
        found = row["stopped"]
    else:
        overhead = row["image_to_twist_overhead_ms"]
        found = f"{row['frames_received']} of {row['frames_sent']} images arrived, {row['actions']} actions"
        if overhead["samples"]:
            found += f", image to velocity less inference {overhead['median']:.1f} ms, p99 {overhead['p99']:.1f} ms"
    return f"{row['width']} x {row['height']} {kind}: {found}"


def report(row: dict[str, Any] | list[dict[str, Any]]) -> str:
    """The row for people; several have been told one by one."""
    if isinstance(row, list):
        return f"{sum('stopped' not in one for one in row)} of {len(row)} cameras kept the node going"
    inference, overhead = row["inference_ms"], row["image_to_twist_overhead_ms"]
    if not overhead["samples"]:
        return f"no action moved the arm; {row['frames_received']} of {row['frames_sent']} images arrived"
    return (
        f"{row['frames_received']} of {row['frames_sent']} images arrived, {row['actions']} actions\n"
        f"image to velocity, less the inference: median {overhead['median']:.1f} ms, p99 {overhead['p99']:.1f} ms "
        f"({overhead['samples']} samples)\n"
        f"inference: median {inference['median']:.1f} ms, p99 {inference['p99']:.1f} ms\n"
        f"velocities at {PUBLISH_RATE:g} Hz, later than {1e3 / PUBLISH_RATE:g} ms after the one before, by: "
        + ", ".join(
            f"{name} p99 {late['p99']:.1f} ms, max {late['max']:.1f} ms"
            for name, late in row["publish_late_ms"].items()
        )
    )


def _raw(options: Options) -> Image:
    return Image(height=options.height, width=options.width, encoding="rgb8", step=3 * options.width)


def _picture(options: Options) -> bytes:
    """One frame of the simulated table top: rgb8, or a JPEG of it."""
    from PIL import Image as Picture

    from spec_vla_ros.tabletop.arm import TabletopArm
    from spec_vla_ros.tabletop.tasks import Layout

    height, width = min(options.height, RENDERED[0]), min(options.width, RENDERED[1])
    arm = TabletopArm((height, width))
    arm.reset(Layout.sample(0))
    picture = Picture.fromarray(arm.render()).resize((options.width, options.height))
    arm.close()
    if not options.compressed:
        return picture.tobytes()
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def _arguments(options: Options) -> list[str]:
    """Of the act node."""
    transport = "compressed" if options.compressed else "raw"
    values = {"model": str(model_folder(options.model)), "preset": options.preset, "image_transport": transport}
    values |= {"base_model": options.base_model} if options.base_model else {}
    return act_arguments(values | {"instruction": "pick up the red block"})
