"""The process that has the last word: the only publisher of velocities, beside the act node and started by it.

It holds a socket to the act node, a publisher and :class:`~spec_vla_ros.motion.safety.SafetyLoop`, and nothing else: no
service, no parameter server, no subscription but ``/clock`` where time is simulated. What keeps the act node busy, or
kills it, does not keep this loop from its next tick. It ends with the act node, after zero.

Nothing here may wait: the socket and standard error do not block, and what cannot be written is dropped.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

if __name__ == "__main__":  # Ctrl-C reaches the group; the act node sees to this process, and no traceback helps it
    signal.signal(signal.SIGINT, signal.SIG_IGN)

import numpy as np

from spec_vla_ros.embedded_ros.doorway import ensure_rclpy

ensure_rclpy()  # before the first import of rclpy or of a message package

import rclpy
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TwistStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from spec_vla_ros.motion.intent import LARGEST, Intent, IntentError
from spec_vla_ros.motion.safety import SafetyLoop, Wire

from . import conversions
from .audience import gids_of

REPORT = 0.1  # s between two reports where nothing has changed
BURST = 64  # intents taken at a time; the newest counts
EVENTS = 0.1  # s between two looks at what the middleware has to say
OUT_OF_TURN = 20  # of SCHED_FIFO: above everything ordinary, below the drivers and control loops of a robot
MCL = 1 | 2 | 4  # mlockall(2): current, future, on fault


@dataclass(frozen=True)
class Setup:
    """What the act node decides.

    ``topic``: full name. ``frame``: of the velocities. ``rate``: Hz. ``clock``: full name of ``/clock``, which stamps
    follow if ``simulated``. ``zero_first``: s of zeros to begin with, because a predecessor has died while driving.
    """

    name: str
    namespace: str
    topic: str
    frame: str
    rate: float
    clock: str = "/clock"
    simulated: bool = False
    zero_first: float = 0.0


class SafetyNode(Node):
    """The publisher of velocities."""

    def __init__(self, setup: Setup) -> None:
        switches = {"use_sim_time": setup.simulated, "start_type_description_service": False}
        super().__init__(
            setup.name,
            namespace=setup.namespace,
            use_global_arguments=False,
            cli_args=["--ros-args", "-r", f"/clock:={setup.clock}"],
            enable_rosout=False,
            start_parameter_services=False,
            parameter_overrides=[Parameter(name, value=value) for name, value in switches.items()],
        )
        self._frame, self._command_topic, self.simulated = setup.frame, setup.topic, setup.simulated
        self._join()

    def _join(self) -> None:
        self._former = gids_of(self, self._command_topic)
        self._twist = self.create_publisher(TwistStamped, self._command_topic, 10)

    def gid(self) -> str:
        """Identifier of our publisher in the graph; empty while the graph does not show it. Call it until it is known,
        and publish nothing before.

        rclpy tells nobody his own. What is new under our name since we joined is ours, unless somebody of that name was
        discovered in the same moment; then we join once more, and he is there before us.
        """
        new = gids_of(self, self._command_topic) - self._former
        if len(new) > 1:
            self.destroy_publisher(self._twist)
            self._join()
        return next(iter(new)) if len(new) == 1 else ""

    def listeners(self) -> int:
        """Matched subscriptions."""
        return self._twist.get_subscription_count()

    def stamp(self) -> Time:
        """Now by the ROS clock, with which sinks compare; to be taken before a velocity is decided on."""
        return self.get_clock().now().to_msg()

    def send(self, twist: np.ndarray, stamp: Time) -> None:
        """Publish ``twist`` (6,), m/s and rad/s."""
        self._twist.publish(conversions.twist_message(TwistStamped, twist, stamp, self._frame))

    def clockless(self) -> bool:
        """Whether time is simulated and ``/clock`` has yet to say it: no arm could tell how old our velocities are."""
        return self.simulated and self.get_clock().now().nanoseconds == 0

    def simulate(self, active: bool) -> None:
        """Follow ``/clock``, or do not any more."""
        self.simulated = active
        self.set_parameters([Parameter("use_sim_time", value=active)])


class Intervals:
    """Regularity of the last hundred velocities."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._seen: deque[float] = deque(maxlen=100)

    def add(self, now: float) -> None:
        """A velocity was sent at ``now`` (s)."""
        if self._last is not None:
            self._seen.append(1e3 * (now - self._last))
        self._last = now

    def pause(self) -> None:
        """The stream ended on purpose; the gap is no jitter."""
        self._last = None

    def values(self) -> tuple[float, ...]:
        """ms: median, p99, largest; empty before the second velocity."""
        if not self._seen:
            return ()
        seen = np.array(self._seen)
        return tuple(round(float(v), 3) for v in (np.median(seen), np.percentile(seen, 99), seen.max()))


class Process:
    """The loop in its process: one thread, one socket, one publisher."""

    def __init__(self, link: socket.socket, setup: Setup, priority: str) -> None:
        self._link, self._parent, self._priority = link, os.getppid(), priority
        self._period = 1.0 / setup.rate
        self.loop = SafetyLoop(self._period)
        self._node = SafetyNode(setup)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._intervals = Intervals()
        self._gid, self._listeners = "", 0
        self._told: Any = None  # what the last report said
        self._report_at = self._events_at = 0.0
        self._zero_until = time.monotonic() + setup.zero_first
        self._signalled = False
        self._alone = False  # whether the act node is gone

    def on_signal(self, *_: Any) -> None:
        """Only a note, which the loop looks at before its next tick."""
        self._signalled = True

    def run(self) -> None:
        """Until the act node lets us go or is gone, and zero has been said for long enough."""
        due = time.monotonic()
        while self.loop.wire is not Wire.OVER:
            wait = due - time.monotonic()
            if wait > 0 and not self._signalled and self._readable(wait):
                if self._listen():
                    due = time.monotonic()  # the first velocity leaves now, and the following ones a period apart
                else:
                    continue
            now = time.monotonic()
            if self._signalled or self._orphaned():
                self._signalled = False
                self.loop.leave(now)
            if now >= due:
                self._tick()
                due = max(due + self._period, now)
            self._tell(now)
            self._look_at_events(now)
        self._tell(time.monotonic(), last=True)

    def despair(self) -> None:
        """Zero, whatever went wrong in here; the act node starts a successor, which says some more."""
        if self.loop.wire in (Wire.DRIVING, Wire.LAST_WORDS):
            self._node.send(np.zeros(6), self._node.stamp())

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._node.destroy_node()

    def _readable(self, wait: float) -> bool:
        if self._alone:
            time.sleep(wait)
            return False
        return bool(select.select([self._link], [], [], wait)[0])

    def _listen(self) -> bool:
        """Take the newest intent; returns whether a velocity is due now."""
        newest = None
        for _ in range(BURST):
            try:
                data = self._link.recv(LARGEST + 1)
            except ConnectionError:
                data = b""
            except OSError:  # nothing there, or no memory for it just now: the heartbeat decides
                break
            if not data:
                self._alone = True
                break
            try:
                newest = Intent.from_bytes(data)
            except IntentError as error:  # what cannot be read cannot be obeyed: the heartbeat stops with it
                with contextlib.suppress(OSError):  # nobody reads it
                    sys.stderr.write(f"ignored: {error}\n")
        if newest is None:
            return self._alone  # zero is due now
        if newest.simulated != self._node.simulated:
            self._node.simulate(newest.simulated)
        return self.loop.take(newest, time.monotonic())

    def _orphaned(self) -> bool:
        return self._alone or os.getppid() != self._parent

    def _tick(self) -> None:
        # Stamped before it is decided: a process that is suspended anywhere behind this line sends, on its return, a
        # velocity that sinks refuse by its age.
        stamp, now = self._node.stamp(), time.monotonic()
        if self._node.clockless():
            self.loop.hold(now)
        self._listeners = self._node.listeners()
        twist = self.loop.tick(now, self._listeners)
        if twist is None and now < self._zero_until:
            twist = np.zeros(6)
        if twist is None:
            self._intervals.pause()
            return
        self._node.send(twist, stamp)
        self._intervals.add(now)

    def _tell(self, now: float, last: bool = False) -> None:
        report = self.loop.report(now)
        if not self._gid:
            self._gid = self._node.gid() if now - self._report_at >= REPORT or not self._told else ""
        report = replace(report, ready=bool(self._gid), gid=self._gid, priority=self._priority)
        if report.run == 0:
            report = replace(report, listeners=self._listeners)
        news = replace(report, at=0.0, heard=0.0)
        if not last and news == self._told and now - self._report_at < REPORT:
            return
        self._told, self._report_at = news, now
        try:
            self._link.send(replace(report, intervals=self._intervals.values()).to_bytes())
        except OSError:
            self._told = None  # the node does not read, or is gone; it is told again

    def _look_at_events(self, now: float) -> None:
        """``/clock`` where time is simulated, and complaints of the middleware about mismatched quality of service."""
        if self._node.simulated or now - self._events_at > EVENTS:
            self._events_at = now
            self._executor.spin_once(timeout_sec=0.0)


def stand_out() -> str:
    """Ask the system for precedence and resident memory, and say what it gave. A tick must not wait for a batch job."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(OUT_OF_TURN))
        got = f"SCHED_FIFO {OUT_OF_TURN}"
    except (OSError, AttributeError):
        try:
            got = f"nice {os.nice(-15)}"
        except OSError:
            got = "normal"
    try:
        if ctypes.CDLL(None, use_errno=True).mlockall(MCL) == 0:
            got += ", memory locked"
    except (OSError, AttributeError):
        return got
    return got


def main(args: list[str] | None = None) -> int:
    """``--fd``: of the socket, ``--setup``: the fields of :class:`Setup` as JSON, then arguments of ROS."""
    parser = argparse.ArgumentParser(description="The safety loop; the act node starts it.")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--setup", type=json.loads, required=True)
    known, ros = parser.parse_known_args(args)
    signalled = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: signalled.append(True))
    link = socket.socket(fileno=known.fd)
    link.setblocking(False)
    os.set_blocking(2, False)  # a pipe of our own, which the act node reads: see SafetyLink
    priority = stand_out()
    rclpy.init(args=ros, signal_handler_options=SignalHandlerOptions.NO)
    process = Process(link, Setup(**known.setup), priority)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, process.on_signal)
    if signalled:
        process.on_signal()
    gc.collect()
    gc.freeze()
    try:
        process.run()
    except BaseException:
        process.despair()
        raise
    finally:
        process.close()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
