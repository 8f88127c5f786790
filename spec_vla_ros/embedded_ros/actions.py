"""``rclpy.action``: the server's side of actions.

An action is three services and two topics. Nothing here waits: a request for the result of a goal that goes on is kept,
and answered when the goal ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum, IntEnum
from typing import Any

from spec_vla_ros.foreign_text import sentence

from . import bounds
from .node import Node
from .qos import DurabilityPolicy, QoSProfile, qos_profile_services_default
from .services import Service
from .types import ActionType, registry

_STATUS_PROFILE = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_ERROR_NONE, _ERROR_REJECTED, _ERROR_UNKNOWN, _ERROR_TERMINATED = range(4)  # of action_msgs/srv/CancelGoal


class GoalResponse(Enum):
    """Answers of a goal callback."""

    REJECT = 1
    ACCEPT = 2


class CancelResponse(Enum):
    """Answers of a cancel callback."""

    REJECT = 1
    ACCEPT = 2


class Status(IntEnum):
    """The constants of action_msgs/msg/GoalStatus."""

    UNKNOWN = 0
    ACCEPTED = 1
    EXECUTING = 2
    CANCELING = 3
    SUCCEEDED = 4
    CANCELED = 5
    ABORTED = 6


ACTIVE = (Status.ACCEPTED, Status.EXECUTING, Status.CANCELING)
# From each status, where a goal may go.
ALLOWED = {
    Status.ACCEPTED: (Status.EXECUTING, Status.CANCELING),
    Status.EXECUTING: (Status.CANCELING, Status.SUCCEEDED, Status.ABORTED),
    Status.CANCELING: (Status.SUCCEEDED, Status.CANCELED, Status.ABORTED),
}


class ServerGoalHandle:
    """One accepted goal."""

    def __init__(self, server: ActionServer, info: Any, request: Any) -> None:
        self._server, self.goal_info, self.request = server, info, request
        self._status = Status.ACCEPTED
        self.response: Any = None  # of the result service, once the goal has ended
        self.awaited: list[Callable[[Any], None]] = []  # whom to tell then
        self.ended_at: float | None = None  # s, steady clock

    @property
    def goal_id(self) -> Any:
        """unique_identifier_msgs/msg/UUID, chosen by the client."""
        return self.goal_info.goal_id

    @property
    def status(self) -> int:
        """A constant of action_msgs/msg/GoalStatus."""
        return self._status

    @property
    def is_active(self) -> bool:
        """Has it not ended?"""
        return self._status in ACTIVE

    @property
    def is_cancel_requested(self) -> bool:
        """Was a request to cancel it accepted?"""
        return self._status is Status.CANCELING

    def execute(self, execute_callback: Callable[[Any], Any] | None = None) -> None:
        """Have the executor run the execute callback, which returns the result and may be a coroutine function."""
        if not self.is_cancel_requested:
            self.go(Status.EXECUTING)
        self._server.run(self, execute_callback)

    def publish_feedback(self, feedback: Any) -> None:
        """Tell all clients. TypeError for another type."""
        self._server.publish_feedback(self, feedback)

    def succeed(self) -> None:
        """It ended as it should."""
        self.go(Status.SUCCEEDED)

    def abort(self) -> None:
        """It ended otherwise."""
        self.go(Status.ABORTED)

    def canceled(self) -> None:
        """It ended because the client asked for it."""
        self.go(Status.CANCELED)

    def go(self, status: Status) -> None:
        """Take a status and publish it; RuntimeError where the present one does not allow it."""
        with self._server.lock:
            if status not in ALLOWED.get(self._status, ()):
                raise RuntimeError(f"a goal cannot become {status.name} that is {self._status.name}")
            self._status = status
        self._server.publish_status()


class _GoalService(Service):
    """Says no to what is too large in the words of its type."""

    def refusal(self, reason: str) -> Any:
        """Goals and cancellations can be refused, and the type has no place for the reason; results cannot."""
        del reason
        response = self.srv_type.Response()  # a goal is not accepted unless it says so
        if hasattr(response, "return_code"):
            response.return_code = _ERROR_REJECTED
        return response if hasattr(response, "return_code") or hasattr(response, "accepted") else None


class _ResultService(_GoalService):
    """Calls back with the request and with what takes the response, now or later."""

    def _serve(self, request: Any, asked: tuple[int, int, str | None]) -> None:
        self.callback(request, lambda response: self.destroyed or self._reply(asked, response))


class ActionServer:
    """Takes goals of ``action_type`` under ``action_name``.

    Results are kept for ``result_timeout`` s, and of ``bounds.MAX_GOALS`` ended goals at most. What the
    execute callback raises is logged and aborts the goal, what the accepted callback raises is logged; other exceptions
    leave the executor.
    """

    def __init__(
        self,
        node: Node,
        action_type: type[ActionType],
        action_name: str,
        execute_callback: Callable[[Any], Any],
        *,
        callback_group: Any = None,
        goal_callback: Callable[[Any], GoalResponse] | None = None,
        handle_accepted_callback: Callable[[Any], None] | None = None,
        cancel_callback: Callable[[Any], CancelResponse] | None = None,
        result_timeout: float = 900.0,
    ) -> None:
        self._node, self._type, self._patience = node, action_type, result_timeout
        self._execute_callback = execute_callback
        self._goal_callback = goal_callback or (lambda goal: GoalResponse.ACCEPT)
        self._accepted_callback = handle_accepted_callback or ServerGoalHandle.execute
        self._cancel_callback = cancel_callback or (lambda handle: CancelResponse.REJECT)
        self._info_type = registry().message("action_msgs/msg/GoalInfo")
        self._status_type = registry().message("action_msgs/msg/GoalStatus")
        self.lock = threading.RLock()
        self._handles: dict[bytes, ServerGoalHandle] = {}  # by goal id, in the order in which they were accepted
        impl, self._services = action_type.Impl, []
        self._feedback, self._statuses = (
            node.create_publisher(kind, f"{action_name}/_action/{topic}", profile)
            for kind, topic, profile in (
                (impl.FeedbackMessage, "feedback", QoSProfile(depth=10)),
                (impl.GoalStatusMessage, "status", _STATUS_PROFILE),
            )
        )
        for kind, service, made, callback in (
            (impl.SendGoalService, "send_goal", _GoalService, self._on_goal),
            (impl.CancelGoalService, "cancel_goal", _GoalService, self._on_cancel),
            (impl.GetResultService, "get_result", _ResultService, self._on_result),
        ):
            name = f"{action_name}/_action/{service}"
            more = (callback, qos_profile_services_default, callback_group)
            self._services.append(node._ros_serve(made, kind, name, *more))

    @property
    def action_type(self) -> type[ActionType]:
        """As given."""
        return self._type

    def destroy(self) -> None:
        """No more goals; those that are under way get no result."""
        for service in self._services:
            self._node.destroy_service(service)
        for publisher in (self._feedback, self._statuses):
            self._node.destroy_publisher(publisher)
        self._handles.clear()

    def run(self, handle: ServerGoalHandle, execute_callback: Callable[[Any], Any] | None) -> None:
        """Have the executor run the execute callback, and take what it returns for the result."""
        task = self._node.executor.create_task(execute_callback or self._execute_callback, handle)
        task.add_done_callback(lambda done: self._conclude(handle, done))

    def publish_feedback(self, handle: ServerGoalHandle, feedback: Any) -> None:
        """Publish ``feedback`` on a goal."""
        if not isinstance(feedback, self._type.Feedback):
            raise TypeError(f"expected {self._type.Feedback.FULL_NAME}, got {type(feedback)!r}")
        if not self._feedback.destroyed:
            message = self._type.Impl.FeedbackMessage(goal_id=handle.goal_id, feedback=feedback)
            self._feedback.publish(message)

    def publish_status(self) -> None:
        """Publish the status of all goals that are known."""
        if self._statuses.destroyed or not self._node.context.ok():
            return
        with self.lock:
            entries = [
                self._status_type(goal_info=handle.goal_info, status=int(handle.status))
                for handle in self._handles.values()
            ]
        self._statuses.publish(self._type.Impl.GoalStatusMessage(status_list=entries))

    def _on_goal(self, request: Any, response: Any) -> Any:
        self._expire()
        key = bytes(request.goal_id.uuid)
        response.accepted = key not in self._handles and self._goal_callback(request.goal) is GoalResponse.ACCEPT
        if response.accepted:
            response.stamp = self._node.get_clock().now().to_msg()
            info = self._info_type(goal_id=request.goal_id, stamp=response.stamp)
            with self.lock:
                handle = self._handles[key] = ServerGoalHandle(self, info, request.goal)
            self.publish_status()
            task = self._node.executor.create_task(self._accepted_callback, handle)  # behind the answer
            task.add_done_callback(lambda done: self._look_for_error("accepted", done))
        return response

    def _on_cancel(self, request: Any, response: Any) -> Any:
        info = request.goal_info
        key = bytes(info.goal_id.uuid)
        wanted = self._wanted(key, (info.stamp.sec, info.stamp.nanosec))
        if any(key) and not wanted:
            response.return_code = _ERROR_UNKNOWN
        elif any(key) and not any(handle.is_active for handle in wanted):
            response.return_code = _ERROR_TERMINATED
        for handle in wanted:
            if handle.is_active and self._cancel_callback(handle) is CancelResponse.ACCEPT:
                if handle.status != Status.CANCELING:
                    handle.go(Status.CANCELING)
                response.goals_canceling.append(handle.goal_info)
        if response.return_code == _ERROR_NONE and wanted and not response.goals_canceling:
            response.return_code = _ERROR_REJECTED
        return response

    def _wanted(self, key: bytes, stamp: tuple[int, int]) -> list[ServerGoalHandle]:
        """Goals that a request means: by identifier, accepted until ``stamp`` (s, ns), or with neither all."""
        handles = list(self._handles.values())
        if not any(key) and not any(stamp):
            return handles
        stamps = ((h.goal_info.stamp.sec, h.goal_info.stamp.nanosec) for h in handles)
        named = [bytes(handle.goal_id.uuid) == key for handle in handles]
        return [h for h, is_it, at in zip(handles, named, stamps, strict=True) if is_it or (any(stamp) and at <= stamp)]

    def _on_result(self, request: Any, reply: Callable[[Any], None]) -> None:
        self._expire()
        handle = self._handles.get(bytes(request.goal_id.uuid))
        if handle is None:
            reply(self._type.Impl.GetResultService.Response(status=int(Status.UNKNOWN)))
        elif handle.response is not None:
            reply(handle.response)
        elif len(handle.awaited) < bounds.MAX_AWAITED:
            handle.awaited.append(reply)
        else:
            self._complain("a request for a result was dropped: too many wait for the same goal")

    def _conclude(self, handle: ServerGoalHandle, done: Any) -> None:
        response = self._type.Impl.GetResultService.Response()
        if not self._look_for_error("execute", done):
            if isinstance(done.result(), self._type.Result):
                response.result = done.result()
            else:
                self._complain(f"the execute callback returned {type(done.result())!r}")
        if handle.is_active:
            handle.go(Status.ABORTED)
        response.status = int(handle.status)
        handle.response, handle.ended_at = response, time.monotonic()
        awaited, handle.awaited = handle.awaited, []
        for reply in awaited:
            reply(response)
        self._expire()

    def _expire(self) -> None:
        """Forget goals that ended long ago, and the oldest of too many."""
        now = time.monotonic()
        with self.lock:
            ended = {key: h.ended_at for key, h in self._handles.items() if h.ended_at is not None}
            surplus = sorted(ended, key=ended.__getitem__)[: max(0, len(ended) - bounds.MAX_GOALS)]
            for key in {*surplus, *(key for key, at in ended.items() if now - at > self._patience)}:
                del self._handles[key]

    def _look_for_error(self, which: str, done: Any) -> bool:
        if (error := done.exception()) is None:
            return False
        self._complain(f"the {which} callback raised {type(error).__name__}: {sentence(error)}")
        return True

    def _complain(self, text: str) -> None:
        self._node.get_logger().error(text, throttle_duration_sec=bounds.QUIET)
