"""Services and clients of a node.

A service never waits for a client: a reply that nobody can hear yet is kept for a while and looked at again by the
executor, and one that cannot be written at once is dropped.
"""

from __future__ import annotations

import itertools
import struct
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from cyclonedds.core import DDSException, Policy, ReadCondition

from spec_vla_ros.foreign_text import sentence

from . import bounds, cdr
from .endpoints import ANY, Entity
from .owner import Owner
from .qos import QoSProfile
from .task import Future
from .wire import matched, parse_user_data, take_cdr, write_cdr

_IDENTITY = 20  # bytes of encapsulation and identity in front of every request and reply


def _with_identity(data: bytes, guid: int, seq: int) -> bytes:
    return data[:4] + struct.pack("<Qq", guid, seq) + data[4:]


def _identity(data: bytes) -> tuple[int, int, bytes]:
    guid, seq = struct.unpack_from("<Qq" if data[1] == 1 else ">Qq", data, 4)
    return guid, seq, data[:4] + data[_IDENTITY:]


class _Pending(NamedTuple):
    """A reply whose client does not listen yet; given up at ``end`` (s, steady clock)."""

    client: str
    end: float
    data: bytes


class Service(Entity):
    """Answers requests of at most ``bounds.MAX_REQUEST`` bytes."""

    def __init__(self, node: Owner, srv_type: Any, name: str, callback: Callable[[Any, Any], Any], qos: QoSProfile,
                 callback_group: Any) -> None:  # fmt: skip
        super().__init__(node, callback_group)
        self.srv_type, self.srv_name, self.callback = srv_type, name, callback
        wire, announce = node.context.wire, {"serviceid": uuid.uuid4().hex}
        self._reader = wire.reader(f"rq{name}Request", srv_type.Request, qos, service=True, **announce)
        self._writer = wire.writer(f"rr{name}Reply", srv_type.Response, qos, service=True, **announce)
        self.condition = ReadCondition(self._reader, ANY)
        self._listeners: dict[int, str | None] = {}  # matched reply readers, and whose they are
        self._pending: deque[_Pending] = deque()
        self._next_look = 0.0

    @property
    def service_name(self) -> str:
        """Full service name."""
        return self.srv_name

    def entities(self) -> tuple[list[Any], list[Any]]:
        """Readers and writers for the graph."""
        return [self._reader], [self._writer]

    def seconds_left(self) -> float:
        """Until pending replies are to be looked at again; a long time if there are none."""
        return max(0.0, self._next_look - time.monotonic()) if self._pending else 1e9

    def take_ready(self) -> Callable[[], None] | None:
        """The next request's callback."""
        if self._pending and time.monotonic() >= self._next_look:
            self._look_for_clients()
        if not self.condition.triggered:
            return None
        taken = take_cdr(self._reader)
        if taken is None or len(taken[0]) < _IDENTITY:
            return None
        return lambda: self._answer(*taken)

    def _answer(self, data: bytes, info: Any) -> None:
        guid, seq, body = _identity(data)
        asked = guid, seq, _client_id(self._reader.get_matched_publication_data(info.publication_handle))
        try:
            if reason := bounds.too_large(data, bounds.MAX_REQUEST, "the request"):
                raise ValueError(reason)
            request = cdr.deserialize(body, self.srv_type.Request)
        except ValueError as error:
            response = self.refusal(sentence(error))
            what = "dropped" if response is None else "refused"
            self._complain(f"{what} a request to '{self.srv_name}': {sentence(error)}")
            if response is not None:
                self._reply(asked, response)
        else:
            self._serve(request, asked)

    def _serve(self, request: Any, asked: tuple[int, int, str | None]) -> None:
        self._reply(asked, self.callback(request, self.srv_type.Response()))

    def refusal(self, reason: str) -> Any:
        """The response that says no; None if the type cannot say it."""
        return bounds.refusal(self.srv_type.Response, reason)

    def _reply(self, asked: tuple[int, int, str | None], response: Any) -> None:
        """Answer a request: ``asked`` is its identity, and the client's if it has one."""
        if not isinstance(response, self.srv_type.Response):
            raise TypeError(f"the callback of '{self.srv_name}' returned {type(response)!r}")
        reply = cdr.serialize(response)
        if reason := bounds.too_large(reply, bounds.MAX_REPLY, "the reply"):
            response = self.refusal(reason)
            self._complain(f"a reply of '{self.srv_name}' was not sent: {reason}")
            if response is None:
                return
            reply = cdr.serialize(response)
        guid, seq, client = asked
        self._send(_with_identity(reply, guid, seq), client)

    def _complain(self, text: str) -> None:
        self._node.get_logger().error(text, throttle_duration_sec=bounds.QUIET)

    # Replies

    def _send(self, data: bytes, client: str | None) -> None:
        """Write the reply, or keep it until the requester's reader is known: one that is sent earlier is lost."""
        if self._writer is None:
            return
        if client is None or self._listens(client):
            self._write(data)
        elif len(self._pending) < bounds.MAX_PENDING:
            now = time.monotonic()
            self._pending.append(_Pending(client, now + bounds.REPLY_PATIENCE, data))
            self._next_look = now + bounds.LOOK_FOR_CLIENTS
            self._node.wake()  # another thread of the executor may be waiting for longer than that
        else:
            self._complain(f"a reply of '{self.srv_name}' was dropped: too many clients ask and do not listen")

    def _write(self, data: bytes) -> None:
        writer = self._writer
        if writer is None:
            return
        try:
            write_cdr(writer, data)
        except DDSException:  # it would have had to wait until a reader confirms what it has got
            self._complain(f"a reply of '{self.srv_name}' was dropped: a client does not take what it asked for")

    def _listens(self, client: str) -> bool:
        handles = matched(self._writer.get_matched_subscriptions)
        known = self._listeners
        self._listeners = {
            handle: known[handle] if handle in known else _client_id(self._writer.get_matched_subscription_data(handle))
            for handle in handles
        }
        return client in self._listeners.values()

    def _look_for_clients(self) -> None:
        now = time.monotonic()
        self._next_look = now + bounds.LOOK_FOR_CLIENTS
        for _ in range(len(self._pending)):
            pending = self._pending.popleft()
            if self._listens(pending.client):
                self._write(pending.data)
            elif now < pending.end:
                self._pending.append(pending)
            else:
                self._complain(f"a reply of '{self.srv_name}' was dropped: its client does not listen")

    def destroy(self) -> None:
        """No more answers."""
        super().destroy()
        self.condition = self._reader = self._writer = None
        self._pending.clear()


def _client_id(endpoint: Any) -> str | None:
    if endpoint is None or Policy.Userdata not in endpoint.qos:
        return None
    return parse_user_data(endpoint.qos[Policy.Userdata].data).get("clientid")


class Client(Entity):
    """Sends requests."""

    def __init__(self, node: Owner, srv_type: Any, name: str, qos: QoSProfile, callback_group: Any) -> None:
        super().__init__(node, callback_group)
        self.srv_type, self.srv_name = srv_type, name
        self._guid, self._sequence = uuid.uuid4().int >> 65, itertools.count(1)
        self._pending: dict[int, Future] = {}
        wire, announce = node.context.wire, {"clientid": uuid.uuid4().hex}
        self._writer = wire.writer(f"rq{name}Request", srv_type.Request, qos, service=True, **announce)
        self._reader = wire.reader(f"rr{name}Reply", srv_type.Response, qos, service=True, **announce)
        self.condition = ReadCondition(self._reader, ANY)

    @property
    def service_name(self) -> str:
        """Full service name."""
        return self.srv_name

    def entities(self) -> tuple[list[Any], list[Any]]:
        """Readers and writers for the graph."""
        return [self._reader], [self._writer]

    def service_is_ready(self) -> bool:
        """Is there a server whose request reader and reply writer are both matched?"""
        readers = [
            self._writer.get_matched_subscription_data(h) for h in matched(self._writer.get_matched_subscriptions)
        ]
        writers = [self._reader.get_matched_publication_data(h) for h in matched(self._reader.get_matched_publications)]
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
        try:
            write_cdr(self._writer, _with_identity(cdr.serialize(request), self._guid, seq))
        except DDSException:  # it would have had to wait; to the caller the server is one that does not answer
            self._node.get_logger().error(
                f"a request to '{self.srv_name}' was not sent: the server does not take it",
                throttle_duration_sec=bounds.QUIET,
            )
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
        if taken is None or len(taken[0]) < _IDENTITY:
            return None
        guid, seq, body = _identity(taken[0])
        if guid != self._guid or seq not in self._pending:
            return None  # all clients of a service share one reply topic
        try:
            if reason := bounds.too_large(body, bounds.MAX_REPLY, "it"):
                raise ValueError(reason)
            response = cdr.deserialize(body, self.srv_type.Response)
        except ValueError as error:  # as if it had not come; the true reply may yet
            self._node.get_logger().error(
                f"dropped a reply of '{self.srv_name}': {sentence(error)}", throttle_duration_sec=bounds.QUIET
            )
            return None
        future = self._pending.pop(seq)
        return lambda: future.set_result(response)

    def destroy(self) -> None:
        """No more replies."""
        super().destroy()
        self.condition = self._reader = self._writer = None


def _server_id(endpoint: Any) -> str | None:
    if Policy.Userdata not in endpoint.qos:
        return None
    return parse_user_data(endpoint.qos[Policy.Userdata].data).get("serviceid")
