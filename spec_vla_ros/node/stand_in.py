"""Zero from the act node itself, between the death of a safety process that drove and the first words of its successor.

A successor has to start an interpreter and to be discovered: a second on an idle machine, longer on a busy one. This
node runs already, so zero is on the wire as soon as an arm has matched one more publisher.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import TwistStamped
from rclpy.clock import Clock, ClockType

from . import conversions

PERIOD = 0.02  # s between two zeros
LONGEST = 20.0  # s; a successor that has not come by then does not come


class StandIn:
    """Publishes zeros on ``topic`` until ``relieved()``, then leaves it. The executor's thread owns it."""

    def __init__(self, node: Any, topic: str, frame: str, relieved: Callable[[], bool]) -> None:
        """``topic``: full name. ``frame``: of the velocities."""
        self._node, self._topic, self._frame, self._relieved = node, topic, frame, relieved
        self._until = time.monotonic() + LONGEST
        self._former = self._namesakes()
        self._publisher = node.create_publisher(TwistStamped, topic, 10)
        self._timer = node.create_timer(PERIOD, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._tick()

    @property
    def gids(self) -> set[str]:
        """Identifiers under which the graph shows its publisher."""
        return set() if self._publisher is None else self._namesakes() - self._former

    def end(self) -> None:
        """Say no more, for good."""
        if self._publisher is not None:
            self._node.destroy_timer(self._timer)
            self._node.destroy_publisher(self._publisher)
            self._publisher = None

    def _tick(self) -> None:
        if self._publisher is None:
            return
        if self._relieved() or time.monotonic() > self._until:
            self.end()
            return
        stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(conversions.twist_message(TwistStamped, np.zeros(6), stamp, self._frame))

    def _namesakes(self) -> set[str]:
        own = (self._node.get_name(), self._node.get_namespace())
        infos = self._node.get_publishers_info_by_topic(self._topic)
        return {bytes(info.endpoint_gid).hex() for info in infos if (info.node_name, info.node_namespace) == own}
