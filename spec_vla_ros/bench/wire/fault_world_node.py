"""Everything around the act node in a fault campaign, as one ROS node: camera, arm, operator, rival, and an ear.

The arm is a point behind the input side of MoveIt Servo. Nothing here decides what is safe; what is heard and done goes
to :class:`.fault_monitor.Monitor` as it happens. It runs in the command line's process and spins only while it waits.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from spec_vla_ros.embedded_ros.doorway import ensure_rclpy

RUNTIME = ensure_rclpy()  # before the first import of rclpy or of a message package

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TransformStamped, TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import Image
from std_msgs.msg import Float64, String
from tf2_msgs.msg import TFMessage

from spec_vla_ros.motion.rotation import rotation_vector
from spec_vla_ros.motion.servo import ServoInput
from spec_vla_ros.msg import DeltaAction

from . import fault_events as events
from . import fault_monitor as judge
from . import fault_settings as settings
from .fault_camera import CLOCK_PERIOD, Camera
from .fault_helpers import Helpers

RIVAL = "rival"  # frame of the rival's commands, by which the ear knows them; our sink refuses them as any other would
ANSWER = 5.0  # s for a service to answer
TRANSFORM_PERIOD = 0.05  # s
POLL = 0.002  # s that a spin waits; only a spin that finds nothing proves that nothing was waiting
IN_FORCE = {"max_linear_speed": "linear", "max_angular_speed": "angular", "image_timeout": "image_timeout"}


class FaultWorld(Node):
    """See the module."""

    def __init__(self, monitor: judge.Monitor, namespace: str, size: tuple[int, int] = (64, 64)) -> None:
        """``namespace``: of every topic and service. ``size``: of the camera's images, height and width in px."""
        super().__init__("fault_world", namespace=namespace)
        self.monitor = monitor
        self.control: dict[str, str] = {}  # newest diagnostics of the act node, with "level" and "message"
        self.complaints: list[str] = []  # what else was wrong with the node's answers
        self.driven_since = 0.0  # steady time at which driving the arm was last asked for
        self.last_moving, self.first_zero = 0.0, 0.0  # steady time: newest velocity that is not zero, first zero after
        self.send_signal: Callable[[int, str], None] = lambda number, whom: None  # to the act node or its child
        self.block_log: Callable[[], None] = lambda: None
        self.read_log: Callable[[], None] = lambda: None
        self.position = np.zeros(6)  # m, rad; where the arm is
        self.servo = ServoInput(settings.FRAME)
        self._advanced = self._idle = time.monotonic()
        self._turns, self._due, self._order = 0, [], itertools.count()
        self._limits, self._asked = {"linear": 0.0, "angular": 0.0, "image_timeout": 0.0}, 0
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._clock_publisher = self.create_publisher(ClockMessage, "clock", 10)
        make = partial(self.create_publisher, Image, "image", qos_profile_sensor_data)
        self.camera = Camera(self, make, Image, monitor.feed, size)
        self._clock_timer = self.steady_timer(CLOCK_PERIOD, self.publish_clock)
        self._transforms = self.create_publisher(TFMessage, "tf", 10)
        self._transform_timer = self.steady_timer(TRANSFORM_PERIOD, self._publish_transform)
        self._has_transforms = True
        self._instructions = self.create_publisher(String, "instruction", 300)
        self._ears: list[Any] = []
        self._others = (
            self.create_subscription(DeltaAction, "act/action", self._on_action, 100),
            self.create_subscription(DiagnosticArray, "diagnostics", self._on_diagnostics, 100),
        )
        self._change_state = self.create_client(ChangeState, "act/change_state")
        self._get_state = self.create_client(GetState, "act/get_state")
        self._set_parameters = self.create_client(SetParameters, "act/set_parameters")  # Humble has no parameter client
        self._rival_context = Context()  # a participant of its own, as another program's
        rclpy.init(args=[], context=self._rival_context, signal_handler_options=SignalHandlerOptions.NO)
        self._rival_node = Node("rival", context=self._rival_context, namespace=namespace)
        self._second_arm: Any = None
        self._rival: Any = None
        self._rival_timer: Any = None
        self._executor_ = SingleThreadedExecutor()
        self._executor_.add_node(self)
        self.helpers = Helpers(namespace, self.spin, self.complain)
        self.join_arm()

    def close(self) -> None:
        """Leave the graph."""
        self.helpers.close()
        self._executor_.shutdown()
        self._rival_node.destroy_node()
        self._rival_context.try_shutdown()
        self.destroy_node()

    # -- time ----------------------------------------------------------------------------------------------------------

    def spin(self, seconds: float, done: Callable[[], bool] = lambda: False) -> bool:
        """Serve for ``seconds`` or until ``done()``; returns whether it was done."""
        end = time.monotonic() + seconds
        while not (finished := done()) and (now := time.monotonic()) < end:
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()
            turns = self._turns
            self._executor_.spin_once(timeout_sec=POLL)
            if self._turns == turns:
                self._idle = now
                self.monitor.feed(events.Idle(now))
        self._advance(time.monotonic())
        return finished

    def drain(self) -> None:
        """Serve until nothing is waiting."""
        began = time.monotonic()
        self.spin(1.0, lambda: self._idle > began)

    def later(self, seconds: float, action: Callable[[], Any], always: bool = False) -> None:
        """Do ``action`` in ``seconds``, while spinning; ``always``: or when everything is repaired before."""
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), action, always))

    def steady_timer(self, period: float, callback: Callable[[], None]) -> Any:
        """A timer that no ROS clock can stop."""
        return self.create_timer(period, callback, clock=self._steady)

    def turned(self) -> None:
        """A callback ran; more may be waiting."""
        self._turns += 1

    def stamp(self, nanoseconds: int) -> Time:
        """As a message."""
        return Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)

    def publish_clock(self) -> None:
        """Tell simulated time, if there is any."""
        self.turned()
        if (now := self.camera.tick()) is not None:
            self._clock_publisher.publish(ClockMessage(clock=self.stamp(now)))

    def _publish_transform(self) -> None:
        self.turned()
        if self._has_transforms:
            message = TransformStamped(child_frame_id=settings.TOOL)
            message.header.frame_id, message.header.stamp = settings.FRAME, self.stamp(self.camera.now_ns())
            place = message.transform.translation
            place.x, place.y, place.z = map(float, self.position[:3])
            message.transform.rotation.w = 1.0
            self._transforms.publish(TFMessage(transforms=[message]))

    def keep_transforms(self) -> None:
        """Tell nobody any more where the tool is."""
        self._has_transforms = False

    # -- the arm -------------------------------------------------------------------------------------------------------

    def join_arm(self) -> None:
        """The arm, and with it our ear, listens (again)."""
        if not self._ears:
            self._ears = [
                self.create_subscription(TwistStamped, "delta_twist_cmds", self._on_twist, 300),
                self.create_subscription(Float64, "gripper_command", self._on_gripper, 100),
            ]

    def leave_arm(self) -> None:
        """Nobody listens on the command topics any more, and nothing on them is heard."""
        self.monitor.feed(events.Deaf(time.monotonic()))
        for ear in self._ears:
            self.destroy_subscription(ear)
        self._ears = []

    def standing(self) -> bool:
        """Whether the arm stands still now."""
        return not self.servo.twist(time.monotonic()).any()

    def _advance(self, now: float) -> None:
        while self._advanced < now:  # in steps, because a command may run out in between
            step = min(now - self._advanced, 0.01)
            self.position += self.servo.twist(self._advanced) * step
            self._advanced += step
        self.camera.position = self.position[:2]

    def _on_twist(self, message: TwistStamped) -> None:
        self.turned()
        now = time.monotonic()
        self._advance(now)
        if message.header.frame_id == RIVAL:
            return
        linear, angular = message.twist.linear, message.twist.angular
        values = (linear.x, linear.y, linear.z, angular.x, angular.y, angular.z)
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        clock, frame = self.camera.clock_since(self._idle), message.header.frame_id
        self.servo.accept(np.array(values), stamp, frame, self.camera.now_ns(), now)
        if any(values):
            self.last_moving, self.first_zero = now, 0.0
        elif not self.first_zero:
            self.first_zero = now
        sent = None if self.camera.simulated else min(now, now - (time.time() - stamp * 1e-9))
        self.monitor.feed(events.Twist(now, self._idle, values, frame, stamp * 1e-9, clock, sent))

    def _on_gripper(self, message: Float64) -> None:
        del message
        self.turned()
        self.monitor.feed(events.Gripper(time.monotonic(), self._idle))

    def _on_action(self, message: DeltaAction) -> None:
        self.turned()
        delta = [float(value) for value in message.delta]
        motion = np.array([*delta[:3], *rotation_vector(*delta[3:])]) * message.action_scale * message.limit_factor
        now = time.monotonic()
        self.monitor.feed(events.Action(now, self._idle, tuple(motion), message.step_dt, message.commanded))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.turned()
        for status in message.status:
            if not status.name.endswith("act: control"):
                continue
            self.control = {pair.key: pair.value for pair in status.values}
            self.control |= {"level": str(status.level[0]), "message": status.message}
            fault, latched = self.control.get("fault", ""), status.level == DiagnosticStatus.ERROR
            if self.control.get("state") == "active" and fault and (latched or fault in settings.HOLDS):
                self.monitor.feed(events.Shown(time.monotonic(), fault, latched))

    # -- the operator --------------------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Publish a good instruction that is part of a fault; it ends a hold, as any good instruction."""
        self.monitor.feed(events.Asked(time.monotonic(), "words"))
        self.babble(text)

    def babble(self, text: str) -> None:
        """Publish an instruction that has to be refused."""
        self._instructions.publish(String(data=text))

    def say_raw(self, data: bytes) -> None:
        """Publish finished CDR bytes as an instruction."""
        self._instructions.publish(data)

    def resume(self, text: str) -> None:
        """Give a good instruction, which ends a hold."""
        self.monitor.feed(events.Asked(time.monotonic(), "instruction"))
        self.babble(text)

    def transition(self, label: str) -> bool | None:
        """Ask for a transition and wait for the answer; None if there is none."""
        self.drain()
        self.driven_since = time.monotonic()
        self.monitor.feed(events.Asked(time.monotonic(), label))
        future = self._ask(self._change_state, ChangeState.Request(transition=Transition(label=label)))
        if not self.spin(ANSWER, future.done):
            self.complain(f"no answer to {label} in {ANSWER:g} s")
            return None
        success = future.result().success
        self.monitor.feed(events.Answered(time.monotonic(), label, success))
        return success

    def state(self, patience: float) -> str:
        """The state of the node; asks until it answers, which also proves that its services hear us. "" if never."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if self._get_state.service_is_ready():
                future = self._ask(self._get_state, GetState.Request())
                if self.spin(0.3, future.done):
                    return future.result().current_state.label
            self.spin(0.02)
        return ""

    def begin(self) -> None:
        """A process starts, with the parameters of the campaign."""
        self.control = {}
        self.monitor.feed(events.Started(time.monotonic()))
        self._bound("linear", settings.MAX_LINEAR)
        self._bound("angular", settings.MAX_ANGULAR)
        self._bound("image_timeout", settings.IMAGE_TIMEOUT)
        self.monitor.feed(events.InForce(time.monotonic(), self._asked))

    def set_parameter(self, name: str, value: Any, good: bool) -> Any:
        """Set one parameter without waiting; complains if the node does not take a good or takes a bad value."""
        bounds = good and name in IN_FORCE
        if bounds:
            self._bound(IN_FORCE[name], value)
        number = self._asked
        self.turned()
        wanted = [Parameter(name, value=value).to_parameter_msg()]
        future = self._set_parameters.call_async(SetParameters.Request(parameters=wanted))

        def check(done: Any) -> None:
            self.turned()
            result = done.result().results[0]
            if bounds and result.successful:
                self.monitor.feed(events.InForce(time.monotonic(), number))
            if result.successful != good:
                self.complain(f"{name} = {value!r} was {'refused' if good else 'accepted'}: {result.reason}")

        future.add_done_callback(check)
        return future

    def set_dry_run(self, active: bool) -> None:
        """Switch the dry run on or off and wait for the answer."""
        self.drain()
        self.driven_since = time.monotonic()
        if not active:
            self.monitor.feed(events.Asked(self.driven_since, "dry run off"))
        answered = self.spin(ANSWER, self.set_parameter("dry_run", active, True).done)
        if not answered:
            self.complain(f"no answer to dry_run = {active} in {ANSWER:g} s")
        elif active:
            self.monitor.feed(events.Answered(time.monotonic(), "dry run on", True))

    def complain(self, text: str) -> None:
        """Remember that the node answered something else than it should."""
        self.complaints.append(text)

    def _bound(self, name: str, value: float) -> None:
        self._limits[name] = value
        self._asked += 1
        self.monitor.feed(events.Limits(time.monotonic(), **self._limits, number=self._asked))

    def _ask(self, client: Any, request: Any) -> Any:
        future = client.call_async(request)
        future.add_done_callback(lambda _: self.turned())
        return future

    # -- the rival -----------------------------------------------------------------------------------------------------

    def rival(self, rng: random.Random) -> None:
        """Somebody else publishes zeros on the command topic, or could."""
        self._rival = self._rival_node.create_publisher(TwistStamped, "delta_twist_cmds", 10)
        if rng.random() < 0.5:
            message = TwistStamped()
            message.header.frame_id = RIVAL
            self._rival_timer = self.steady_timer(0.02, lambda: self._rival.publish(message))

    def second_arm(self) -> None:
        """Another arm begins to listen, in the midst of it."""
        self._second_arm = self._rival_node.create_subscription(
            TwistStamped, "delta_twist_cmds", lambda message: None, 1, raw=True
        )

    def repair(self) -> None:
        """Take back whatever was injected."""
        due, self._due = sorted(self._due), []
        for _, _, action, always in due:
            if always:  # what was suspended goes on now
                action()
        self.camera.repair()
        self.helpers.repair()
        self.read_log()
        self._has_transforms = True
        if self._second_arm is not None:
            self._rival_node.destroy_subscription(self._second_arm)
            self._second_arm = None
        self.join_arm()
        if self._rival_timer is not None:
            self.destroy_timer(self._rival_timer)
            self._rival_timer = None
        if self._rival is not None:
            self._rival_node.destroy_publisher(self._rival)
            self._rival = None


@contextmanager
def session() -> Iterator[None]:
    """An initialised rclpy for one campaign. Ctrl-C stays Python's."""
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        yield
    finally:
        rclpy.try_shutdown()
