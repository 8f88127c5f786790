"""How long an arm goes on after the camera's last image: from the last image to the first zero on the wire.

The real node in a process of its own streams a long canned move; the camera falls silent in the middle of it, at a
random moment, and in half of the runs ``/clock`` stops with it. The operator re-arms the node after every trial.
"""

from __future__ import annotations

import array
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spec_vla_ros.embedded_ros.doorway import ensure_rclpy

RUNTIME = ensure_rclpy()  # before the first import of rclpy or of a message package

import rclpy
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import Image

from spec_vla_ros.demo.summary import twist_record
from spec_vla_ros.figures import median_p99
from spec_vla_ros.ros.children import Child, DemoError, act_arguments, end_all, own_domain, start

STEP = 2.0  # s of one canned move; a trial has to fit into it
PATIENCE = 30.0  # s for the node to do what it is asked
SIZE = (48, 64)  # px
RATE = 30.0  # Hz


@dataclass(frozen=True)
class Options:
    """``trials``: per kind of clock; ``image_timeout``: s, the node's parameter; ``seed``: of the moments."""

    trials: int = 50
    image_timeout: float = 0.5
    seed: int = 0


class World(Node):
    """A camera, a clock, an operator and the ear of the arm."""

    def __init__(self, simulated: bool) -> None:
        super().__init__("dead_man_bench")
        self.filming, self.last_image, self.images = True, 0.0, 0
        self.moving, self.last_change = False, 0.0  # of the newest velocity; when that changed (s, steady)
        self._simulated, self._clock_ns = simulated, 10**12
        self._images = self.create_publisher(Image, "image", qos_profile_sensor_data)
        self._clocks = self.create_publisher(ClockMessage, "/clock", 10)
        self._ear = self.create_subscription(TwistStamped, "delta_twist_cmds", self._on_twist, 100)
        self._lifecycle = self.create_client(ChangeState, "act/change_state")
        self._message = Image(height=SIZE[0], width=SIZE[1], encoding="rgb8", step=3 * SIZE[1])
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timers_ = (
            self.create_timer(1 / RATE, self._film, clock=steady),
            self.create_timer(0.005, self._tick, clock=steady),
        )

    def change_state(self, transition: int) -> Any:
        """Ask for a lifecycle transition; the future of the answer."""
        return self._lifecycle.call_async(ChangeState.Request(transition=Transition(id=transition)))

    def _film(self) -> None:
        if not self.filming:
            return
        self.images += 1
        self._message.header.stamp = self._now()
        self._message.data = array.array("B", bytes([self.images % 251]) * (3 * SIZE[0] * SIZE[1]))
        self.last_image = time.monotonic()
        self._images.publish(self._message)

    def _tick(self) -> None:
        if self._simulated and self.filming:
            self._clock_ns += 5_000_000
            self._clocks.publish(ClockMessage(clock=self._now()))

    def _now(self) -> Time:
        if not self._simulated:
            return self.get_clock().now().to_msg()
        return Time(sec=self._clock_ns // 10**9, nanosec=self._clock_ns % 10**9)

    def _on_twist(self, message: TwistStamped) -> None:
        moving = twist_record(0, message).moving
        if moving != self.moving:
            self.moving, self.last_change = moving, time.monotonic()


def measure(options: Options, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """One row per kind of clock. Raises :class:`DemoError` where the node does not do what it should."""
    return [_measure(options, simulated, say) for simulated in (False, True)]


def _measure(options: Options, simulated: bool, say: Callable[[str], None]) -> dict[str, Any]:
    env = own_domain()
    with tempfile.TemporaryDirectory() as folder:
        values = {
            "policy": "scripted", "script_delay": "0.02", "step_dt": str(STEP), "use_sim_time": str(simulated).lower(),
            "image_timeout": str(options.image_timeout), "instruction": "dead-man", "dry_run": "false",
            "autostart": "true",
        }  # fmt: skip
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        children = []
        try:
            log = Path(folder, "act.log")
            act = start(children, "the act node", "spec_vla_ros.node.act_node", act_arguments(values), log, env)
            world = World(simulated)
            try:
                late = _trials(world, act, options, say)
            finally:
                world.destroy_node()
        finally:
            end_all(children)
            rclpy.try_shutdown()
    return {
        **asdict(options),
        "clock": "stops with the camera" if simulated else "goes on",
        "after_timeout_ms": {**median_p99(late), "max": round(max(late), 3), "samples": len(late)},
        "runtime": RUNTIME,
    }


def _trials(world: World, act: Child, options: Options, say: Callable[[str], None]) -> list[float]:
    executor, rng = SingleThreadedExecutor(), random.Random(options.seed)  # noqa: S311 - moments, not secrets
    executor.add_node(world)

    def wait(done: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
        end = time.monotonic() + patience
        while not done():
            if time.monotonic() > end:
                raise DemoError(f"waited {patience:.0f} s for {what}:\n{act.tail()}")
            executor.spin_once(timeout_sec=0.02)
            act.check()

    late = []
    for number in range(options.trials):
        wait(lambda: world.moving, "motion")
        until = time.monotonic() + rng.uniform(0.05, 0.5)
        wait(lambda until=until: time.monotonic() > until, "the moment")
        world.filming = False
        silent_since = world.last_image
        wait(lambda: not world.moving, "zero", options.image_timeout + STEP)
        late.append(1e3 * (world.last_change - silent_since - options.image_timeout))
        until = time.monotonic() + 0.1
        wait(lambda until=until: time.monotonic() > until, "the moment")
        world.filming = True
        for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
            answer = world.change_state(transition)
            wait(answer.done, "the lifecycle service")
            if not answer.result().success:
                raise DemoError(f"the node refused to be re-armed:\n{act.tail()}")
        if (number + 1) % 10 == 0:
            say(f"{number + 1} of {options.trials}")
    executor.shutdown()
    return late


def report(rows: list[dict[str, Any]]) -> str:
    """The rows for people."""
    lines = [f"from the last image to zero on the wire, beyond image_timeout ({rows[0]['image_timeout']:g} s):"]
    for row in rows:
        late = row["after_timeout_ms"]
        times = f"median {late['median']:.1f} ms, p99 {late['p99']:.1f} ms, at most {late['max']:.1f} ms"
        lines.append(f"/clock {row['clock']:<22} {times} ({late['samples']} trials)")
    return "\n".join(lines)
