"""Publishers, subscriptions, timers and guard conditions of a node."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from cyclonedds.core import InstanceState, ReadCondition, SampleState, ViewState

from spec_vla_ros.foreign_text import sentence

from . import bounds, cdr
from .clock import Clock
from .event_handler import SubscriptionEventCallbacks
from .exceptions import InvalidHandle
from .messages import Message
from .owner import Owner
from .qos import QoSProfile
from .wire import matched, take_cdr, write_cdr

ANY = SampleState.Any | ViewState.Any | InstanceState.Any


class Entity:
    """Common part: owner, callback group, destruction."""

    condition: Any = None

    def __init__(self, node: Owner, callback_group: Any = None) -> None:
        self._node, self.destroyed = node, False
        self.callback_group = callback_group or node.default_callback_group

    def take_ready(self) -> Callable[[], None] | None:
        """A callback to run now, or None."""
        return None

    def destroy(self) -> None:
        """Give up the DDS entities."""
        self.destroyed = True


class Publisher(Entity):
    """Sends messages of one type on one topic."""

    def __init__(self, node: Owner, cls: type[Message], topic: str, qos: QoSProfile) -> None:
        super().__init__(node)
        self.msg_type, self._topic, self.qos_profile = cls, topic, qos
        self._writer = node.context.wire.writer(f"rt{topic}", cls, qos)
        self._warned = 0

    @property
    def topic_name(self) -> str:
        """Full topic name."""
        return self._topic

    topic = topic_name

    def entities(self) -> tuple[list[Any], list[Any]]:
        """Readers and writers for the graph."""
        return [], [self._writer]

    def publish(self, message: Message | bytes) -> None:
        """Send a message, or finished CDR bytes. TypeError for another type, InvalidHandle after destruction."""
        if self.destroyed or not self._node.context.ok():
            raise InvalidHandle("cannot use Publisher: it was destroyed or the context was shut down")
        if isinstance(message, bytes):
            write_cdr(self._writer, message)
            return
        if not isinstance(message, self.msg_type):
            raise TypeError(f"expected {self.msg_type.FULL_NAME}, got {type(message)!r}")
        write_cdr(self._writer, cdr.serialize(message))

    def warn_of_incompatible_peers(self) -> None:
        """One line when a subscription's quality of service asks for more than this publisher offers."""
        writer = self._writer
        count = 0 if writer is None else writer.get_offered_incompatible_qos_status().total_count
        if count > self._warned:
            self._warned = count
            self._node.get_logger().warning(
                f"New subscription discovered on topic '{self._topic}', requesting incompatible QoS. No messages will "
                "be sent to it. Check reliability and durability."
            )

    def get_subscription_count(self) -> int:
        """Matched subscriptions."""
        return len(matched(self._writer.get_matched_subscriptions))

    def wait_for_all_acked(self, timeout: Any = None) -> bool:
        """Wait until every reliable reader has everything. False after ``timeout`` (Duration)."""
        from cyclonedds.util import duration

        limit = duration(infinite=True) if timeout is None else duration(nanoseconds=max(0, timeout.nanoseconds))
        try:
            self._writer.wait_for_acks(limit)
        except Exception:  # noqa: BLE001  the binding raises for a time-out
            return False
        return True

    def assert_liveliness(self) -> None:
        """Liveliness is automatic."""

    def destroy(self) -> None:
        """Nothing more is sent."""
        super().destroy()
        self._writer = None


class Subscription(Entity):
    """Calls back with every message of one topic."""

    def __init__(
        self, node: Owner, cls: type[Message], topic: str, callback: Callable[[Any], None], qos: QoSProfile,
        callback_group: Any, raw: bool, events: SubscriptionEventCallbacks,
    ) -> None:  # fmt: skip
        super().__init__(node, callback_group)
        self.msg_type, self._topic, self.qos_profile, self.callback, self.raw = cls, topic, qos, callback, raw
        self._events = events
        self._reader = node.context.wire.reader(f"rt{topic}", cls, qos)
        self.condition = ReadCondition(self._reader, ANY)
        self._warned = 0

    @property
    def topic_name(self) -> str:
        """Full topic name."""
        return self._topic

    topic = topic_name

    def entities(self) -> tuple[list[Any], list[Any]]:
        """Readers and writers for the graph."""
        return [self._reader], []

    def get_publisher_count(self) -> int:
        """Matched publishers."""
        return len(matched(self._reader.get_matched_publications))

    def warn_of_incompatible_peers(self) -> None:
        """One line when a publisher's quality of service does not match; otherwise the topic is just silent."""
        reader = self._reader  # another thread may destroy the subscription meanwhile
        status = None if reader is None else reader.get_requested_incompatible_qos_status()
        if status is None or status.total_count <= self._warned:
            return
        self._warned = status.total_count
        if self._events.incompatible_qos is not None:
            self._events.incompatible_qos(status)
        elif self._events.use_default_callbacks:
            self._node.get_logger().warning(
                f"New publisher discovered on topic '{self._topic}', offering incompatible QoS. No messages will be "
                "received from it. Check reliability and durability."
            )

    def take_ready(self) -> Callable[[], None] | None:
        """The next message's callback."""
        if not self.condition.triggered:
            return None
        taken = take_cdr(self._reader)
        if taken is None:
            return None
        data = taken[0]
        try:
            if reason := bounds.too_large(data, bounds.MAX_MESSAGE, "it"):
                raise ValueError(reason)
            if self.raw:
                return lambda: self.callback(data)
            message = cdr.deserialize(data, self.msg_type)
        except ValueError as error:
            self._node.get_logger().error(
                f"dropped a message on '{self._topic}': {sentence(error)}", throttle_duration_sec=bounds.QUIET
            )
            return None
        return lambda: self.callback(message)

    def destroy(self) -> None:
        """Nothing more is received."""
        super().destroy()
        self.condition = None
        self._reader = None


class Timer(Entity):
    """Calls back at a fixed period of its clock; missed periods are skipped, the phase is kept."""

    def __init__(self, node: Owner, period: float, callback: Callable[[], None], clock: Clock, group: Any,
                 autostart: bool = True) -> None:  # fmt: skip
        super().__init__(node, group)
        self.callback, self.clock, self._period = callback, clock, max(0, int(period * 1e9))
        self._canceled = not autostart
        self._due = self._now() + self._period

    def _now(self) -> int:
        # Simulated time only moves with /clock; otherwise timers run on monotonic time, so that setting the system
        # clock cannot stop or flood them.
        return self.clock.simulated if self.clock.simulated is not None else time.monotonic_ns()

    @property
    def timer_period_ns(self) -> int:
        """Period in nanoseconds; setting it takes effect with the next call or :meth:`reset`."""
        return self._period

    @timer_period_ns.setter
    def timer_period_ns(self, value: int) -> None:
        self._period = max(0, int(value))

    def seconds_left(self) -> float:
        """Until the next call; a long time for simulated clocks and cancelled timers."""
        if self._canceled or self.clock.simulated is not None:
            return 0.02 if not self._canceled else 1e9
        return (self._due - self._now()) / 1e9

    def time_until_next_call(self) -> int | None:
        """Nanoseconds until the next call, None if cancelled."""
        return None if self._canceled else self._due - self._now()

    def is_ready(self) -> bool:
        """Is the next call due?"""
        return not self._canceled and self._now() >= self._due

    def is_canceled(self) -> bool:
        """Cancelled?"""
        return self._canceled

    def cancel(self) -> None:
        """Stop calling."""
        self._canceled = True

    def reset(self) -> None:
        """Start (again) with a full period."""
        self._canceled = False
        self._due = self._now() + self._period
        self._node.wake()

    def clock_jumped(self) -> None:
        """The clock changed between system and simulated time."""
        self._due = self._now() + self._period

    def take_ready(self) -> Callable[[], None] | None:
        """The callback, once per period."""
        if not self.is_ready():
            return None
        now = self._now()
        self._due += self._period
        if self._period and self._due <= now:
            self._due += ((now - self._due) // self._period + 1) * self._period
        return self._call

    def _call(self) -> None:
        if not self._canceled:  # a callback that ran before may have cancelled it
            self.callback()

    def destroy(self) -> None:
        """Stop for good."""
        super().destroy()
        self._canceled = True


class GuardCondition(Entity):
    """Wakes the executor from any thread and has it call back."""

    def __init__(self, node: Owner, callback: Callable[[], None], group: Any) -> None:
        super().__init__(node, group)
        self.callback, self._triggered = callback, threading.Event()

    def trigger(self) -> None:
        """Have the callback run soon."""
        self._triggered.set()
        self._node.wake()

    def take_ready(self) -> Callable[[], None] | None:
        """The callback, once per trigger (several triggers may fall together)."""
        if not self._triggered.is_set():
            return None
        self._triggered.clear()
        return self.callback
