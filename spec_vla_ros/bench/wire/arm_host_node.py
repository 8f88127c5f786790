"""The arm's host of ``spec-vla bench two-hosts``: a camera, the input of an arm, and ears for what the act node says.

Runs in a namespace of its own and writes what it saw to a file. All times are of this machine's clock, in ns.
"""

from __future__ import annotations

import array
import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spec_vla_ros.embedded_ros.doorway import ensure_rclpy

ensure_rclpy()  # before the first import of rclpy or of a message package

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image

from spec_vla_ros.demo.summary import ActionRecord, TwistRecord, action_record, twist_record
from spec_vla_ros.motion.servo import ServoInput
from spec_vla_ros.msg import DecodeStats

from . import netns

START = 120.0  # s for the act node to load its policy, become active and be found
SETTLE = 1.5  # s after the last image until everything has arrived, one diagnostics message included
ANSWER = 10.0  # s for a lifecycle transition
PICTURES = 17  # that follow one another: an image that motion does not change is a fault, and a prime has no rhythm
QUALITY = 80  # of JPEG, as image_transport's default


@dataclass
class Task:
    """What to do. ``seconds``: of driving; ``width``, ``height``: px; ``rate``: Hz; ``result``: where to write.

    ``outage``: s for which the link is down, from a third of the drive on; 0 = never. ``namespace``: of this host.
    """

    namespace: str
    result: str
    seconds: float
    width: int
    height: int
    rate: float
    compressed: bool
    outage: float


@dataclass
class Seen:
    """What the arm's host saw. ``sink``: (time, whether the arm moves) on every change."""

    image_bytes: int = 0
    sent: int = 0
    received: int | None = None  # images that the act node has counted
    began_ns: int = 0  # the camera
    ended_ns: int = 0
    down_ns: int = 0
    up_ns: int = 0
    rearm_ns: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)
    twists: list[TwistRecord] = field(default_factory=list)
    actions: list[ActionRecord] = field(default_factory=list)
    sink: list[tuple[int, bool]] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    stops: int = 0
    trouble: str = ""


class Camera:
    """The camera, a process of its own: on a slow network, publishing an image takes as long as sending it."""

    def __init__(self, task: Task) -> None:
        context = multiprocessing.get_context("spawn")  # it stays in this namespace
        self._runs, self._end = context.Event(), context.Event()
        self._sent, self._heard, self._bytes = (context.Value("L", 0) for _ in range(3))
        arguments = (task, self._runs, self._end, self._sent, self._heard, self._bytes)
        self._process = context.Process(target=camera_main, args=arguments, daemon=True)
        self._process.start()

    @property
    def heard(self) -> bool:
        """Whether anybody subscribes."""
        return bool(self._heard.value)

    @property
    def sent(self) -> int:
        """Images published."""
        return self._sent.value

    @property
    def image_bytes(self) -> int:
        """Of the data of one image."""
        return self._bytes.value

    def start(self) -> None:
        """Images from now on."""
        self._runs.set()

    def stop(self) -> None:
        """No more images."""
        self._runs.clear()

    def close(self) -> None:
        """End the process."""
        self._end.set()
        self._process.join(ANSWER)


def camera_main(task: Task, runs: Any, end: Any, sent: Any, heard: Any, image_bytes: Any) -> None:
    """The process of :class:`Camera`; ``sent``, ``heard``, ``image_bytes``: shared numbers."""
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = Node("camera")
    pictures = _pictures(task)
    image_bytes.value = len(pictures[0].data)
    kind, topic = (CompressedImage, "image/compressed") if task.compressed else (Image, "image")
    images = node.create_publisher(kind, topic, qos_profile_sensor_data)

    def capture() -> None:
        heard.value = images.get_subscription_count()
        if runs.is_set():
            message = pictures[sent.value % PICTURES]
            message.header.stamp = node.get_clock().now().to_msg()
            images.publish(message)
            sent.value += 1

    node.create_timer(1.0 / task.rate, capture, clock=Clock(clock_type=ClockType.STEADY_TIME))
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    parent = multiprocessing.parent_process()
    while not end.is_set() and parent is not None and parent.is_alive():  # a killed parent says nothing
        executor.spin_once(timeout_sec=0.05)
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()


class ArmHost(Node):
    """The arm, and ears for what the act node says."""

    def __init__(self, task: Task) -> None:
        super().__init__("arm_host")
        self.seen, self.ready = Seen(), False
        self.servo = ServoInput("base_link")
        self.camera = Camera(task)
        self._ears = (
            self.create_subscription(TwistStamped, "delta_twist_cmds", self._on_twist, 10),
            self.create_subscription(DecodeStats, "act/decode_stats", self._on_stats, 100),
            self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10),
        )
        self.lifecycle = self.create_client(ChangeState, "act/change_state")
        self.create_timer(0.01, self._move, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def start_camera(self) -> None:
        """Images from now on."""
        self.seen.began_ns = time.time_ns()
        self.camera.start()

    def stop_camera(self) -> None:
        """No more images."""
        self.camera.stop()
        self.seen.ended_ns = time.time_ns()

    @property
    def moving(self) -> bool:
        """Whether the arm moves."""
        return bool(self.seen.sink) and self.seen.sink[-1][1]

    def close(self) -> Seen:
        """What was seen."""
        self.seen.refused, self.seen.stops = dict(self.servo.dropped), self.servo.stops
        self.seen.sent, self.seen.image_bytes = self.camera.sent, self.camera.image_bytes
        self.camera.close()
        self.destroy_node()
        return self.seen

    def _move(self) -> None:
        """The arm's own 100 Hz: what is in force now; zero when no command has come for 0.1 s."""
        moves = bool(np.any(self.servo.twist(time.monotonic())))
        if moves != self.moving:
            self.seen.sink.append((time.time_ns(), moves))

    def _on_twist(self, message: TwistStamped) -> None:
        record = twist_record(time.time_ns(), message)
        self.seen.twists.append(record)
        linear, angular = message.twist.linear, message.twist.angular
        twist = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
        self.servo.accept(twist, record.stamp_ns, message.header.frame_id, record.received_ns, time.monotonic())
        self._move()

    def _on_stats(self, message: DecodeStats) -> None:
        self.seen.actions.append(action_record(time.time_ns(), message))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "act: control":
                values = {pair.key: pair.value for pair in status.values}
                self.ready = values.get("state") == "active" and self.camera.heard
                self.seen.received = int(values.get("frames received", 0))
                # Once the camera has stopped, a stale image is what has to be reported.
                if status.level == DiagnosticStatus.ERROR and not self.seen.ended_ns:
                    self.seen.faults.append((time.time_ns(), status.message))


def _pictures(task: Task) -> list[Any]:
    """Messages of a scene as noisy as a camera's: a few shapes and shades, moving by a pixel, and fresh noise."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[: task.height, : task.width]
    scene = 110 + 60 * np.sin(x / 37.0)[..., None] * np.cos(y / 23.0)[..., None] * np.array([1.0, 0.7, 0.4])
    scene[(x // 40 + y // 60) % 5 == 0] += 40
    messages = []
    for i in range(PICTURES):
        noise = random.normal(0.0, 4.0, scene.shape)  # grey levels, an ordinary sensor indoors
        rgb = np.clip(np.roll(scene, i, axis=1) + noise, 0, 255).astype(np.uint8)
        if task.compressed:
            import cv2

            done, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            if not done:
                raise RuntimeError("OpenCV could not compress the picture")
            message: Any = CompressedImage(format="rgb8; jpeg compressed bgr8")
        else:
            data = rgb
            message = Image(height=task.height, width=task.width, encoding="rgb8", step=3 * task.width)
        message.header.frame_id = "camera"
        message.data = array.array("B", data.tobytes())
        messages.append(message)
    return messages


class Drive:
    """One run from the first contact to the last message."""

    def __init__(self, node: ArmHost, task: Task) -> None:
        self.node, self.task = node, task
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)

    def run(self) -> None:
        """Fill ``node.seen``."""
        node, task = self.node, self.task
        self._spin(START, lambda: node.ready)
        if not node.ready:
            node.seen.trouble = f"the act node was not active, or not found, after {START:.0f} s"
            return
        node.start_camera()
        if task.outage:
            self._pull_the_cable()
        else:
            self._spin(task.seconds)
        node.stop_camera()
        self._spin(SETTLE)
        self._executor.shutdown()

    def _pull_the_cable(self) -> None:
        """A third of the time driving, the outage, a third of watching, and a third after somebody has armed again."""
        node, third = self.node, self.task.seconds / 3.0
        self._spin(third)
        begun = sum(moves for _, moves in node.seen.sink)
        # At the beginning of a motion: near its end the arm would stop because it was told to.
        self._spin(third, lambda: sum(moves for _, moves in node.seen.sink) > begun)
        node.seen.down_ns = time.time_ns()
        netns.take_down(self.task.namespace)
        self._spin(self.task.outage)
        netns.bring_up(self.task.namespace)
        node.seen.up_ns = time.time_ns()
        self._spin(third)
        node.seen.rearm_ns = time.time_ns()
        for number in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
            request = ChangeState.Request()
            request.transition.id = number
            answer = node.lifecycle.call_async(request)
            self._spin(ANSWER, answer.done)
            if not answer.done() or not answer.result().success:
                node.seen.trouble = "the act node could not be armed again after the outage"
                return
        self._spin(third)

    def _spin(self, seconds: float, done: Callable[[], bool] = lambda: False) -> None:
        end = time.monotonic() + seconds
        while not done() and (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(0.05, left))


def main() -> int:
    """``task``: a :class:`Task` as JSON."""
    task = Task(**json.loads(sys.argv[1]))
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = ArmHost(task)
    try:
        Drive(node, task).run()
    finally:
        seen = node.close()
        rclpy.try_shutdown()
    Path(task.result).write_text(json.dumps(asdict(seen)))
    return 0
