"""Publishers, subscriptions, services, clients, timers and guard conditions of a node."""

from __future__ import annotations

import itertools
import struct
import threading
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cyclonedds.core import InstanceState, Policy, ReadCondition, SampleState, ViewState

from . import cdr
from .clock import Clock
from .exceptions import InvalidHandle
from .messages import Message
from .qos import QoSProfile
from .task import Future
from .wire import parse_user_data, take_cdr, write_cdr

if TYPE_CHECKING:
    from .node import Node

_ANY = SampleState.Any | ViewState.Any | InstanceState.Any
_REPLY_PATIENCE = 0.1  # s that a reply waits until the client's reader has been discovered


class Entity:
    """Common part: owner, callback group, destruction."""

    condition: Any = None

    def __init__(self, node: Node, callback_group: Any = None) -> None:
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

    def __init__(self, node: Node, cls: type[Message], topic: str, qos: QoSProfile) -> None:
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
        return len(self._writer.get_matched_subscriptions())

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
        self, node: Node, cls: type[Message], topic: str, callback: Callable[[Any], None], qos: QoSProfile,
        callback_group: Any, raw: bool,
    ) -> None:  # fmt: skip
        super().__init__(node, callback_group)
        self.msg_type, self._topic, self.qos_profile, self.callback, self.raw = cls, topic, qos, callback, raw
        self._reader = node.context.wire.reader(f"rt{topic}", cls, qos)
        self.condition = ReadCondition(self._reader, _ANY)
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
        return len(self._reader.get_matched_publications())

    def warn_of_incompatible_peers(self) -> None:
        """One line when a publisher's quality of service does not match; otherwise the topic is just silent."""
        reader = self._reader  # another thread may destroy the subscription meanwhile
        count = 0 if reader is None else reader.get_requested_incompatible_qos_status().total_count
        if count > self._warned:
            self._warned = count
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
        if self.raw:
            return lambda: self.callback(data)
        try:
            message = cdr.deserialize(data, self.msg_type)
        except ValueError as error:
            self._node.get_logger().error(f"dropped a message on '{self._topic}': {error}")
            return None
        return lambda: self.callback(message)

    def destroy(self) -> None:
        """Nothing more is received."""
        super().destroy()
        self.condition = None
        self._reader = None


def _with_identity(data: bytes, guid: int, seq: int) -> bytes:
    return data[:4] + struct.pack("<Qq", guid, seq) + data[4:]


def _identity(data: bytes) -> tuple[int, int, bytes]:
    guid, seq = struct.unpack_from("<Qq" if data[1] == 1 else ">Qq", data, 4)
    return guid, seq, data[:4] + data[20:]


class Service(Entity):
    """Answers requests."""

    def __init__(self, node: Node, srv_type: Any, name: str, callback: Callable[[Any, Any], Any], qos: QoSProfile,
                 callback_group: Any) -> None:  # fmt: skip
        super().__init__(node, callback_group)
        self.srv_type, self.srv_name, self.callback = srv_type, name, callback
        wire, announce = node.context.wire, {"serviceid": uuid.uuid4().hex}
        self._reader = wire.reader(f"rq{name}Request", srv_type.Request, qos, service=True, **announce)
        self._writer = wire.writer(f"rr{name}Reply", srv_type.Response, qos, service=True, **announce)
        self.condition = ReadCondition(self._reader, _ANY)

    @property
    def service_name(self) -> str:
        """Full service name."""
        return self.srv_name

    def entities(self) -> tuple[list[Any], list[Any]]:
        """Readers and writers for the graph."""
        return [self._reader], [self._writer]

    def take_ready(self) -> Callable[[], None] | None:
        """The next request's callback."""
        if not self.condition.triggered:
            return None
        taken = take_cdr(self._reader)
        if taken is None or len(taken[0]) < 20:
            return None
        return lambda: self._answer(*taken)

    def _answer(self, data: bytes, info: Any) -> None:
        guid, seq, body = _identity(data)
        try:
            request = cdr.deserialize(body, self.srv_type.Request)
        except ValueError as error:
            self._node.get_logger().error(f"dropped a request to '{self.srv_name}': {error}")
            return
        response = self.callback(request, self.srv_type.Response())
        if not isinstance(response, self.srv_type.Response):
            raise TypeError(f"the callback of '{self.srv_name}' returned {type(response)!r}")
        if self._client_listens(info):
            write_cdr(self._writer, _with_identity(cdr.serialize(response), guid, seq))

    def _client_listens(self, info: Any) -> bool:
        """Wait until the requester's reply reader is known; a reply sent earlier would be lost."""
        origin = self._reader.get_matched_publication_data(info.publication_handle)
        client = _client_id(origin)
        if client is None:
            return True
        end = time.monotonic() + _REPLY_PATIENCE
        while True:
            for handle in self._writer.get_matched_subscriptions():
                if _client_id(self._writer.get_matched_subscription_data(handle)) == client:
                    return True
            if time.monotonic() > end:
                return False
            time.sleep(0.01)

    def destroy(self) -> None:
        """No more answers."""
        super().destroy()
        self.condition = self._reader = self._writer = None


def _client_id(endpoint: Any) -> str | None:
    if endpoint is None or Policy.Userdata not in endpoint.qos:
        return None
    return parse_user_data(endpoint.qos[Policy.Userdata].data).get("clientid")


class Client(Entity):
    """Sends requests."""

    def __init__(self, node: Node, srv_type: Any, name: str, qos: QoSProfile, callback_group: Any) -> None:
        super().__init__(node, callback_group)
        self.srv_type, self.srv_name = srv_type, name
        self._guid, self._sequence = uuid.uuid4().int >> 65, itertools.count(1)
        self._pending: dict[int, Future] = {}
        wire, announce = node.context.wire, {"clientid": uuid.uuid4().hex}
        self._writer = wire.writer(f"rq{name}Request", srv_type.Request, qos, service=True, **announce)
        self._reader = wire.reader(f"rr{name}Reply", srv_type.Response, qos, service=True, **announce)
        self.condition = ReadCondition(self._reader, _ANY)

    @property
    def service_name(self) -> str:
        """Full service name."""
        return self.srv_name

    def entities(self) -> tuple[list[Any], list[Any]]:
        """Readers and writers for the graph."""
        return [self._reader], [self._writer]

    def service_is_ready(self) -> bool:
        """Is there a server whose request reader and reply writer are both matched?"""
        readers = [self._writer.get_matched_subscription_data(h) for h in self._writer.get_matched_subscriptions()]
        writers = [self._reader.get_matched_publication_data(h) for h in self._reader.get_matched_publications()]
        ids = [{_server_id(e) for e in side if e is not None} for side in (readers, writers)]
        if ids[0] == {None} or ids[1] == {None}:
            return bool(ids[0] and ids[1])
        return bool((ids[0] & ids[1]) - {None})

    def wait_for_service(self, timeout_sec: float | None = None) -> bool:
        """Wait for a server; False when the time is up."""
        end = None if timeout_sec is None else time.monotonic() + timeout_sec
        while self._node.context.ok():
            if self.service_is_ready():
                return True
            if end is not None and time.monotonic() >= end:
                return False
            time.sleep(0.02)
        return False

    def call_async(self, request: Any) -> Future:
        """Send ``request``; the future gets the response while somebody spins."""
        if not isinstance(request, self.srv_type.Request):
            raise TypeError(f"expected {self.srv_type.Request.FULL_NAME}, got {type(request)!r}")
        seq, future = next(self._sequence), Future(executor=self._node.executor)
        self._pending[seq] = future
        write_cdr(self._writer, _with_identity(cdr.serialize(request), self._guid, seq))
        return future

    def call(self, request: Any, timeout_sec: float | None = None) -> Any:
        """Send and wait; somebody else must spin. None after ``timeout_sec``."""
        done, future = threading.Event(), self.call_async(request)
        future.add_done_callback(lambda _: done.set())
        return future.result() if done.wait(timeout_sec) else None

    def remove_pending_request(self, future: Future) -> None:
        """Forget a request."""
        self._pending = {seq: f for seq, f in self._pending.items() if f is not future}

    def take_ready(self) -> Callable[[], None] | None:
        """The next reply."""
        if not self.condition.triggered:
            return None
        taken = take_cdr(self._reader)
        if taken is None or len(taken[0]) < 20:
            return None
        guid, seq, body = _identity(taken[0])
        future = self._pending.pop(seq, None) if guid == self._guid else None
        if future is None:
            return None  # all clients of a service share one reply topic
        return lambda: future.set_result(cdr.deserialize(body, self.srv_type.Response))

    def destroy(self) -> None:
        """No more replies."""
        super().destroy()
        self.condition = self._reader = self._writer = None


def _server_id(endpoint: Any) -> str | None:
    if Policy.Userdata not in endpoint.qos:
        return None
    return parse_user_data(endpoint.qos[Policy.Userdata].data).get("serviceid")


class Timer(Entity):
    """Calls back at a fixed period of its clock; missed periods are skipped, the phase is kept."""

    def __init__(self, node: Node, period: float, callback: Callable[[], None], clock: Clock, group: Any,
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
        """Period in nanoseconds."""
        return self._period

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

    def __init__(self, node: Node, callback: Callable[[], None], group: Any) -> None:
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
