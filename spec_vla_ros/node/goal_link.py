"""The action ``~/execute``: goals of a mission layer come in, feedback and results go out.

What a goal is and when it ends is decided in :mod:`.goal`; here it meets the action server. The coroutine of a goal
waits for a future, so that it holds up nobody in the executor's thread. Feedback goes out on a publisher beside the
action server's own, because only a publisher says whether what it sent was received (:mod:`.clients`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.duration import Duration
from rclpy.task import Future

from spec_vla_ros.action import ExecuteInstruction
from spec_vla_ros.errors import InstructionError, SpecVlaError
from spec_vla_ros.motion.intent import Report
from spec_vla_ros.motion.watchdog import Fault

from .clients import Clients
from .cycle import Action
from .goal import Goal, Order, Outcome, Phase
from .guarded import log_traceback

NAME = "~/execute"
KEPT = 600  # s that a result is kept for whoever has yet to ask for it
AT_ONCE = Duration(seconds=0)


@dataclass(frozen=True)
class Host:
    """What the goals ask of their node. ``obstacle``: why it takes no goal now, or an empty string. ``instruct``: takes
    an instruction, a blank one to hold. ``state``: what it is doing, for feedback. ``fail``: latches a fault.
    """

    obstacle: Callable[[], str]
    instruct: Callable[[str], None]
    state: Callable[[], str]
    fail: Callable[[Fault], None]


@dataclass(frozen=True)
class _Entry:
    """A goal and what waits for its end."""

    goal: Goal
    handle: Any
    ended: Future


class GoalLink:
    """The goals of one node. The executor's thread owns it."""

    def __init__(self, node: Any, host: Host) -> None:
        self._node, self._host = node, host
        self._entries: dict[bytes, _Entry] = {}  # by goal id; the newest is the last, the others are ending
        self._server = ActionServer(
            node,
            ExecuteInstruction,
            NAME,
            self._execute,
            goal_callback=self._on_goal,
            handle_accepted_callback=self._on_accepted,
            cancel_callback=self._on_cancel,
            result_timeout=KEPT,
        )
        self._message = ExecuteInstruction.Impl.FeedbackMessage
        self._publisher = node.create_publisher(self._message, f"{NAME}/_action/feedback", 10)
        topic, service = self._publisher.topic_name, node.resolve_service_name(f"{NAME}/_action/send_goal")
        self._clients = Clients(topic, service)

    @property
    def goal(self) -> Goal | None:
        """The one under way."""
        return next((entry.goal for entry in self._entries.values() if entry.goal.phase is Phase.RUNNING), None)

    # -- from the action server: what these raise would end the executor ---------------------------------------------

    def _on_goal(self, request: Any) -> GoalResponse:
        try:
            reason = self._host.obstacle() or _useless(request)
        except Exception as error:  # noqa: BLE001
            self._failed(error)
            reason = "internal error"
        if reason:
            self._node.get_logger().error(f"goal rejected: {reason}")
        return GoalResponse.REJECT if reason else GoalResponse.ACCEPT

    def _on_accepted(self, handle: Any) -> None:
        try:
            now, request = time.monotonic(), handle.request
            order = Order.of(request.instruction, request.time_limit, request.at_rest_steps)
            obstacle = self._host.obstacle()  # one that has come since
            if not obstacle:
                self.preempt("another goal")
            entry = self._entries[bytes(handle.goal_id.uuid)] = _Entry(Goal(order, now), handle, Future())
            self._node.get_logger().info(f"goal: {order}")
            handle.execute()
            if obstacle:
                entry.goal.end(Outcome.NOT_ACTIVE, now, obstacle)
                entry.goal.close(now, True)
                self._settle()
                return
            self._clients.begin(now)
            self._tell(entry, now)
            self._host.instruct(order.instruction)
        except Exception as error:  # noqa: BLE001
            self._failed(error)

    def _on_cancel(self, handle: Any) -> CancelResponse:
        try:
            entry = self._entries.get(bytes(handle.goal_id.uuid))
            if entry is None or entry.goal.phase is Phase.ENDED:
                return CancelResponse.REJECT
            self._end(Outcome.CANCELLED, "cancelled by the client")
        except Exception as error:  # noqa: BLE001
            self._failed(error)
        return CancelResponse.ACCEPT

    async def _execute(self, handle: Any) -> Any:
        goal = await self._entries[bytes(handle.goal_id.uuid)].ended
        del self._entries[bytes(handle.goal_id.uuid)]
        ending = goal.ending
        result = ExecuteInstruction.Result(
            outcome=int(ending.outcome),
            fault="" if ending.fault is None else ending.fault.name,
            message=ending.message,
            actions=goal.progress.actions,
            elapsed=goal.elapsed(ending.at),
        )
        getattr(handle, goal.verb)()
        return result

    # -- from the node -----------------------------------------------------------------------------------------------

    def preempt(self, by: str) -> None:
        """``by`` gives a newer instruction; the arm follows that one."""
        if (goal := self.goal) is not None:
            goal.end(Outcome.PREEMPTED, time.monotonic(), f"pre-empted by {by}")
            self._settle()

    def act(self, action: Action, opened: bool | None) -> None:
        """An action was begun. ``opened``: whether it opens the gripper, None while undecided."""
        if (goal := self.goal) is None:
            return
        now, result = time.monotonic(), action.outcome.result
        goal.act(result.values[:6], result.values[6], opened, result.report.verifier_passes, now)
        self._tell(self._newest(), now)
        if goal.phase is Phase.ENDING:
            self._host.instruct("")

    def fail(self, fault: Fault) -> None:
        """``fault`` was latched."""
        self._end(Outcome.FAULT, str(fault), fault)

    def refuse(self, hold: Fault) -> None:
        """The policy cannot use the instruction."""
        self._end(Outcome.REFUSED, str(hold), hold)

    def look(self, report: Report) -> None:
        """Look at the time limit, and whether the arm stands; with every heartbeat and whenever there is a report."""
        running, now = self.goal, time.monotonic()
        for entry in self._entries.values():
            entry.goal.look(now, report)
        if running is not None and running.phase is Phase.ENDING:
            self._host.instruct("")
        self._settle()

    def look_around(self, now: float) -> None:
        """Tell how far the goal is, and look whether somebody hears it; a few times per second."""
        if self.goal is None:
            return
        if gone := self._clients.look(self._node, now, self._publisher.wait_for_all_acked(AT_ONCE)):
            self._end(Outcome.CLIENT_GONE, f"the client is gone: {gone}")
        self._tell(self._newest(), now)

    def close(self, standing: bool) -> None:
        """The node is no longer active; ``standing``: zero is known to be the last word on the wire."""
        for entry in self._entries.values():
            entry.goal.close(time.monotonic(), standing)
        self._settle()

    def destroy(self) -> None:
        """Take no more goals; those under way get no result."""
        self._server.destroy()
        self._node.destroy_publisher(self._publisher)

    def _end(self, outcome: Outcome, message: str, fault: Fault | None = None) -> None:
        if (goal := self.goal) is not None and goal.end(outcome, time.monotonic(), message, fault):
            self._host.instruct("")

    def _settle(self) -> None:
        for entry in self._entries.values():
            goal = entry.goal
            if goal.phase is Phase.ENDED and not entry.ended.done():
                text = f"goal ended, {goal.ending.outcome.name}: {goal.ending.message}"
                self._node.get_logger().info(text)
                entry.ended.set_result(goal)
                if (executor := self._node.executor) is not None:
                    executor.wake()

    def _newest(self) -> _Entry:
        return next(reversed(self._entries.values()))

    def _tell(self, entry: _Entry, now: float) -> None:
        progress = entry.goal.progress
        feedback = ExecuteInstruction.Feedback(
            actions=progress.actions,
            elapsed=entry.goal.elapsed(now),
            verifier_passes=int(progress.passes),
            delta=np.zeros(6, np.float32) if progress.delta is None else progress.delta.astype(np.float32),
            gripper=float(progress.gripper),
            state=self._host.state(),
        )
        self._publisher.publish(self._message(goal_id=entry.handle.goal_id, feedback=feedback))

    def _failed(self, error: Exception) -> None:
        log_traceback(self._node, error)
        self._host.fail(Fault("INTERNAL_ERROR", f"{type(error).__name__}: {error}", SpecVlaError.remedy))


def _useless(request: Any) -> str:
    """Why an order cannot be carried out, or an empty string."""
    try:
        Order.of(request.instruction, request.time_limit, request.at_rest_steps)
    except InstructionError as error:
        return str(error)
    return ""
