"""The act node: image and instruction in, velocities and gripper commands out, as a managed node.

This file connects :class:`.cycle.Cycle` to topics, timers and lifecycle states; it holds no maths. It is written for
rclpy and runs unchanged on the embedded subset where ROS 2 is not installed.

Rules that every path through this file keeps:

1. Nothing is published to the arm unless the node is active and ``dry_run`` is false.
2. Zero is the last message on the command topic: on deactivate, shutdown, fault, SIGINT and SIGTERM. The safety loop
   (:mod:`.safety_node`) sees to that in a process of its own, whatever becomes of this one.
3. A fault is latched; only deactivate and activate clear it.
4. Control runs on the steady clock. The ROS clock makes stamps, nothing else.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from spec_vla_ros.embedded_ros.doorway import ensure_rclpy

ensure_rclpy()  # before the first import of rclpy or of a message package

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from spec_vla_ros.embedded_ros.parameter_services import ParameterServices
from spec_vla_ros.errors import SpecVlaError, StoppedError
from spec_vla_ros.foreign_text import sentence
from spec_vla_ros.motion.clock_watch import ClockWatch
from spec_vla_ros.motion.intent import Report
from spec_vla_ros.motion.watchdog import Fault
from spec_vla_ros.policy_types import Policy
from spec_vla_ros.ros import process

from . import diagnostics, loading, parameters
from .alarm import Alarm
from .announcer import Announcer
from .arm_link import ArmLink
from .camera import Camera
from .cycle import Action, Cycle
from .goal_link import GoalLink, Host
from .guarded import guarded, log_traceback
from .instructions import InstructionParameter, Instructions, tell
from .label_guard import guard_labels
from .middleware import settle
from .policy_factory import make_policy
from .recording import Records
from .reporter import Part, Reporter
from .worker import Worker

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
DISCOVERY = 0.5  # s after the node's birth before an empty graph means that nobody else commands the arm
LAST_WORDS = 1.0  # s that an inference gets to end once everything else has ended
LOOK_AROUND = 0.2  # s between two looks at who else is on the command topic
HEARTBEAT = 0.02  # s between two intents for the safety loop


class ActNode(LifecycleNode):
    """See the module. ``policy_factory`` and ``stop`` (set when the process has to end) are for main and tests."""

    def __init__(
        self,
        policy_factory: Callable[[parameters.Fixed], Policy] = make_policy,
        stop: threading.Event | None = None,
        **node_arguments: Any,
    ) -> None:
        super().__init__("act", start_parameter_services=False, **node_arguments)
        self._born = time.monotonic()
        self._policy_factory, self._stop = policy_factory, stop or threading.Event()
        self._state, self._reported = "unconfigured", None
        self._cycle: Cycle | None = None
        self._worker: Worker | None = None
        self._window = diagnostics.DecodeWindow()
        self._announced: Action | None = None  # an action that the safety loop has yet to take up
        self._newcomers, self._own_publishers = 0, set()
        parameters.declare(self)
        ParameterServices(self, parameters.REMOVED)  # instead of rclpy's, which know no bounds
        guard_labels(self)
        self._instruction_set = InstructionParameter(self)
        if hasattr(self, "add_post_set_parameters_callback"):  # not on Humble, where the next heartbeat tells
            self.add_post_set_parameters_callback(self._on_parameters_set)

        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._ticking: tuple[Any, ...] = ()
        self._arm, self._announcer, self._clock_watch = None, None, ClockWatch()
        self._answered = self.create_guard_condition(self._on_answer)
        self._heard = self.create_guard_condition(self._on_news)
        self._rates = diagnostics.Rates()
        self._alarm = Alarm(self, self._steady, self._infer_if_due)
        self._records = Records(self, lambda: self._cycle, lambda: self._goals.goal, self._infer_if_due)
        self._reporter = Reporter(self, self._parts, self._records.names, self._steady, self._report)
        self._camera = Camera(self, self.get_parameter("image_transport").value, self._on_image, self._steady)
        self._instructions = Instructions(self, self._on_instruction)
        self._goals = GoalLink(self, Host(self._obstacle, self._instruct, lambda: self._cycle.state.value, self._fail))
        self._autostart_timer = None
        if self.get_parameter("autostart").value:
            self._autostart_timer = self.create_timer(0.01, self._autostart, clock=self._steady)

    # -- lifecycle ---------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and warm up the policy, create the publishers."""
        try:
            fixed = parameters.read_fixed(self)
            if unused := parameters.ignored(self):
                self.get_logger().warning(unused)
            self._records.open(fixed, self._camera.topic)
            # Its process starts while the model is loaded.
            self._arm = ArmLink(self, fixed, self._own_publishers, partial(self._wake, self._heard))
            self._load(fixed)
            self._records.describe(self._worker.description, self._worker.identity, self._stop.is_set)
            step_dt = loading.step_dt(fixed, self._worker.description)
            self._arm.wait_ready(self._stop.is_set)
        except Exception as error:  # noqa: BLE001 - each wrong configuration has its own line and fails configure
            fault = loading.fault_of(error)
            self._release()
            if not isinstance(error, SpecVlaError | ValueError):
                log_traceback(self, error)
            return self._refuse("configure failed", fault, "OK" if isinstance(error, StoppedError) else "ERROR")
        self._cycle = Cycle(step_dt)
        self._window = diagnostics.DecodeWindow()
        self._announcer = Announcer(self, fixed.base_frame)
        return self._enter("inactive", super().on_configure(state))

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start streaming, unless somebody else commands the arm."""
        time.sleep(max(0.0, self._born + DISCOVERY - time.monotonic()))
        if fault := self._arm.wait_activatable(self._dry_run()):
            return self._refuse("activate refused", fault)
        result = super().on_activate(state)
        self._cycle.start(time.monotonic())
        self._clock_watch.reset()
        self._reported = self._announced = None
        self._instruction_set.forget()
        if initial := self.get_parameter("instruction").value:
            self._cycle.instruct(initial, time.monotonic())
            tell(self._cycle, self.get_logger())
        self._records.look()
        due = ((HEARTBEAT, self._beat), (LOOK_AROUND, self._look_around))
        self._ticking = tuple(self.create_timer(period, call, clock=self._steady) for period, call in due)
        return self._enter("active", result)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, and return when the last zero has gone."""
        self._halt()
        return self._enter("inactive", super().on_deactivate(state))

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and remove the publishers."""
        self._release()
        return self._enter("unconfigured", super().on_cleanup(state))

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """From any state; shutdown from active does not pass through deactivate."""
        self._halt()
        result = super().on_shutdown(state)
        self._release(wait=0.0)
        return self._enter("finalized", result)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """An exception in a transition: the same way out, back to unconfigured."""
        try:
            self._halt()
        finally:
            self._release()
            self._state = "finalized"  # where an exception in here ends
        self._enter("unconfigured", SUCCESS)
        return SUCCESS

    def stop_for_good(self) -> None:
        """Zero, shutdown and destruction, however far the node has come. For the end of the process."""
        worker = self._worker
        if self._state != "finalized":
            self.trigger_shutdown()  # destroy_node() alone never runs on_shutdown
        self._goals.destroy()
        self.destroy_node()
        if worker is not None:
            worker.close(LAST_WORDS)

    def on_stray(self, error: Exception) -> None:
        """An exception that no callback of ours raised, in the executor's thread.

        rclpy raises one for a transition that does not exist in this state and is asked for by its number; nothing has
        happened then. Everything else stops the arm.
        """
        if "transition" in str(error).lower():
            self.get_logger().warning(sentence(error))
        else:
            log_traceback(self, error)
            self._fail(Fault("INTERNAL_ERROR", f"{type(error).__name__}: {error}", SpecVlaError.remedy))

    @guarded
    def _autostart(self) -> None:
        self.destroy_timer(self._autostart_timer)
        if self._state == "unconfigured" and self.trigger_configure() == SUCCESS and not self._stop.is_set():
            self.trigger_activate()

    def _refuse(self, what: str, fault: Fault, level: str = "ERROR") -> TransitionCallbackReturn:
        (self.get_logger().error if level == "ERROR" else self.get_logger().info)(f"{what}: {fault}")
        self._reporter.line(level, f"{what}: {fault}", {"fault": fault.name, "remedy": fault.remedy})
        return FAILURE

    def _enter(self, state: str, result: TransitionCallbackReturn) -> TransitionCallbackReturn:
        self._state = state
        dry = state == "active" and self._dry_run()
        self.get_logger().info(f"{state}{', dry run: nothing is sent to the arm' if dry else ''}")
        self._report()
        return result

    def _load(self, fixed: parameters.Fixed) -> None:
        """Wait for the worker to load the policy, saying so; gives up when the process has to end."""
        loading.announce(fixed, self.get_logger())
        self._reporter.line("OK", "configuring: loading the policy", {"policy": fixed.policy, "model": fixed.model})
        self._worker = Worker(partial(self._policy_factory, fixed), partial(self._wake, self._answered))
        loading.wait_loaded(self._worker, self._stop, self.get_logger())

    def _halt(self) -> None:
        """Stop the heartbeat, then the arm, in this order: a late heartbeat must not set it going again."""
        self._alarm.cancel()
        for timer in self._ticking:
            timer.cancel()
            self.destroy_timer(timer)
        self._ticking = ()
        try:
            if self._cycle is not None:
                self._cycle.stop()
        finally:  # whatever else goes wrong
            if self._arm is not None:
                self._arm.wait_stopped()
                self._announce(self._arm.report)
                silent = self._arm.wait_silent()
                if not silent and not self._stop.is_set():
                    self.get_logger().error("the safety process has not confirmed the last zero")
                self._goals.close(silent)
                self._records.look(active=False)

    def _release(self, wait: float = 2.0) -> None:
        """Drop the publishers and the policy. ``wait``: s that the worker gets to free the GPU."""
        for part in (self._announcer, self._arm):
            if part is not None:
                part.destroy()
        self._records.close()
        self._arm = self._announcer = self._cycle = None
        worker, self._worker = self._worker, None
        if worker is not None and not worker.close(wait) and wait:
            self.get_logger().warning("the worker is still busy; its memory is freed when it answers")

    # -- inputs ------------------------------------------------------------------------------------------------------

    @guarded
    def _on_image(self, message: Any) -> None:
        if self._state != "active":
            return
        try:
            frame = self._camera.frame(message, self.get_parameter("future_tolerance").value)
        except SpecVlaError as error:
            self._fail(Fault.of(error))
            return
        self._cycle.observe(frame)
        self._infer_if_due()

    @guarded
    def _on_instruction(self, message: Any) -> None:
        if self._state == "active":
            self._goals.preempt("the topic instruction")
            self._instruct(message.data)

    def _obstacle(self) -> str:
        """Why no goal can be taken now, or an empty string."""
        if self._state != "active":
            return f"the node is {self._state}, not active"
        return "" if self._cycle.fault is None else f"stopped: {self._cycle.fault}"

    def _instruct(self, text: str) -> None:
        if not self._cycle.instruct(text, time.monotonic()) or self._cycle.fault is not None:
            self._report_new_fault()
            self._records.look()  # a goal may repeat what stands
            return
        self._arm.tell(self._cycle, self._simulated())  # the old step ends now
        tell(self._cycle, self.get_logger())
        self._records.look()
        self._report()
        self._infer_if_due()

    # -- the cycle ---------------------------------------------------------------------------------------------------

    @guarded
    def _beat(self) -> None:
        """Tell the safety loop what is wanted, 50 times per second and whenever that changes."""
        if self._state != "active":
            return
        now = time.monotonic()
        if (text := self._instruction_set.take()) is not None:
            self._goals.preempt("the parameter instruction")
            self._instruct(text)
        self._cycle.steady = self.get_parameter("pacing").value == "steady"
        limits = parameters.read_limits(self)
        if fault := self._arm.stalled(now, limits) or self._arm.safety.trouble(now):
            self._cycle.trip(fault)
        if fault := self._clock_watch.check(now, self.get_clock().now().nanoseconds, self._simulated(), limits.image):
            self._cycle.trip(fault)
        if self._dry_run():
            self._arm.disengage()
        elif fault := self._arm.engage(now, limits.first_image):
            self._cycle.trip(fault)
        self._arm.tell(self._cycle, self._simulated())
        self._report_new_fault()
        self._goals.look(self._arm.report)
        self._records.look()
        self._infer_if_due()

    def _on_parameters_set(self, changes: list[Any]) -> None:
        """A limit must not wait for the next heartbeat, nor the confirmation of a dry run come before it."""
        del changes
        if self._ticking:
            self._beat()

    @guarded
    def _on_news(self) -> None:
        """The safety loop has said something, or is gone."""
        if self._arm is None:
            return
        for line in self._arm.safety.lines():
            self.get_logger().error(f"safety process: {line}")
        if self._arm.safety.gone and not self._stop.is_set() and self._state in ("inactive", "active"):
            self._fail(self._arm.safety.trouble(time.monotonic()))
            self._arm.renew()
        if self._state != "active":
            return
        report = self._arm.report
        due = self._cycle.hear(report)
        if report.run == self._cycle.run:
            self._announce(report)
        if report.newcomers != self._newcomers:
            self._newcomers = report.newcomers
            self._look_around()
        self._report_new_fault()
        self._goals.look(report)
        if due:
            self._infer_if_due()

    @guarded
    def _look_around(self) -> None:
        """The graph, a few times per second."""
        if self._state == "active" and self._arm.commanding and (fault := self._arm.look_around()):
            self._fail(fault)
        self._goals.look_around(time.monotonic())

    @guarded
    def _infer_if_due(self) -> None:
        if self._state != "active" or not (self._arm.ready or self._dry_run()):
            return  # an action that the arm ignores would be lost
        now = time.monotonic()
        if wait := self._records.wait(now):
            self._alarm.set(wait)
        elif (request := self._cycle.next_request(now, partial(parameters.read_tunables, self))) is not None:
            self._worker.submit(request)
        elif (look_at := self._cycle.look_at) is not None and look_at > now:
            self._alarm.set(look_at - now)

    def _wake(self, condition: Any) -> None:
        """Called by the worker's thread, and by that which listens to the safety loop."""
        if self._state != "finalized":
            condition.trigger()

    @guarded
    def _on_answer(self) -> None:
        """The worker has an outcome: act at once, tell about it afterwards."""
        outcome = None if self._worker is None else self._worker.take()
        if outcome is None:
            return
        self._announced = self._cycle.conclude(outcome, time.monotonic(), commanding=not self._dry_run())
        if self._announced is not None:
            self._beat()
            return
        if outcome.error is not None:
            log_traceback(self, outcome.error)
        self._report_new_fault()
        if self._cycle.hold is not None:
            tell(self._cycle, self.get_logger())
            self._report()
            self._goals.refuse(self._cycle.hold)
        self._infer_if_due()

    def _announce(self, report: Report) -> None:
        """Once the safety loop has looked at the step of an action: what the action was, and now the gripper."""
        action = self._announced
        if action is None or report.step < action.step.number:
            return
        self._announced = None
        if report.accepted:
            self._cycle.decide_gripper(action)
        # Not where there is a reason to stop: the gripper would move alone.
        if report.commanded and self._arm.commanding and self._cycle.fault is None:
            command = self._cycle.gripper.command(action.outcome.request.tunables.gripper_invert)
            if command is not None and (fault := self._arm.command_gripper(command)):
                self._fail(fault)
        self._announcer.tell(action, report.commanded, self._cycle.note(action), self._worker.bin_width)
        self._window.add(action.outcome)
        if report.accepted:
            self._goals.act(action, self._cycle.gripper.open)
            self._records.act()

    def _dry_run(self) -> bool:
        return self.get_parameter("dry_run").value

    def _simulated(self) -> bool:
        return self.get_parameter("use_sim_time").value

    # -- faults and diagnostics ----------------------------------------------------------------------------------------

    def _fail(self, fault: Fault) -> None:
        """Latch ``fault`` and have zero sent now rather than with the next heartbeat."""
        if self._state != "active" or self._cycle is None:
            self.get_logger().error(str(fault))
            return
        self._cycle.trip(fault)
        self._arm.tell(self._cycle, self._simulated())
        self._report_new_fault()

    def _report_new_fault(self) -> None:
        fault = self._cycle.fault
        if fault is not None and fault is not self._reported:
            self._reported = fault
            self.get_logger().error(f"stopped: {fault}")
            self._report()
            self._goals.fail(fault)

    @guarded
    def _report(self) -> None:
        self._reporter.report()

    def _parts(self) -> dict[str, Part]:
        """What there is to say at this moment."""
        about = (self._state, self._cycle, self._dry_run(), self._arm, time.monotonic(), self._camera.lost())
        parts = diagnostics.parts(about, self._rates, self._worker, self._window)
        return {name: Part(*part) for name, part in parts.items()} | self._records.parts()


def main(args: list[str] | None = None) -> NoReturn:
    """Run the node until SIGINT or SIGTERM; zero is the last command either way. The process ends with it."""
    sys.setswitchinterval(0.001)  # s; with 5 ms the worker's Python code holds up heartbeats and answers
    settle()
    how = (ActNode.stop_for_good, args, ActNode.on_stray, parameters.REMOVED)
    process.leave(process.run("act", lambda stop: ActNode(stop=stop), *how))
