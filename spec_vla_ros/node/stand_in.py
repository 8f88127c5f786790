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
from .audience import gids_of

PERIOD = 0.02  # s between two zeros
HANDOVER = 0.3  # s beside a successor that is ready, until arms have discovered it
LONGEST = 20.0  # s; a successor that has not come by then does not come


class StandIn:
    """Publishes zeros on ``topic`` until ``succeeded()`` for :data:`HANDOVER` s. The executor's thread owns it."""

    def __init__(self, node: Any, topic: str, frame: str, succeeded: Callable[[], bool]) -> None:
        """``topic``: full name. ``frame``: of the velocities. ``succeeded``: whether a successor says zero."""
        self._node, self._topic, self._frame, self._succeeded = node, topic, frame, succeeded
        self._until = time.monotonic() + LONGEST
        self._former = gids_of(self._node, self._topic)
        self._publisher = node.create_publisher(TwistStamped, topic, 10)
        self._timer = node.create_timer(PERIOD, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._tick()

    @property
    def gids(self) -> set[str]:
        """Identifiers under which the graph shows its publisher."""
        return set() if self._publisher is None else gids_of(self._node, self._topic) - self._former

    def end(self) -> None:
        """Say no more, for good."""
        if self._publisher is not None:
            self._node.destroy_timer(self._timer)
            self._node.destroy_publisher(self._publisher)
            self._publisher = None

    def _tick(self) -> None:
        if self._publisher is None:
            return
        now = time.monotonic()
        if self._succeeded():
            self._until = min(self._until, now + HANDOVER)
        if now > self._until:
            self.end()
            return
        stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(conversions.twist_message(TwistStamped, np.zeros(6), stamp, self._frame))
