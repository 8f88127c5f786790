"""Everything that moves the arm, and a look at who else does.

The velocities themselves are published by the safety loop (:mod:`.safety_link`), a process of its own; here is what
decides whether it may. Two sources of velocity would fight over the arm, a servo that expects other input would ignore
ours, and an arm that has left and comes back must not find a motion waiting for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import JointState

from spec_vla_ros.errors import PoseError, StoppedError
from spec_vla_ros.motion.intent import Intent, Report
from spec_vla_ros.motion.safety import LAST_WORDS
from spec_vla_ros.motion.watchdog import Fault, Limits, silent

from .audience import Audience
from .cycle import Cycle
from .fast_dds import unsure
from .gripper_link import gripper_link
from .middleware import surroundings
from .parameters import Fixed, read_box, read_limits
from .safety_link import START, SafetyLink
from .safety_node import Setup
from .servo_link import ServoLink
from .stand_in import StandIn
from .states import UNDER_WAY
from .tool_pose import ToolPose

AGAIN = 5.0  # s that activation waits for a safety loop that is starting
ANSWER = 0.5  # s for the safety loop to follow
SUCCESSOR = 1.0  # s of zeros from the successor of a safety loop that died: it has to be discovered first
GONE = "Check the arm's driver or MoveIt Servo and the network; then deactivate and activate."


class ArmLink:
    """Velocities and gripper commands of one configured node. The executor's thread owns it.

    Commanding begins with :meth:`engage` and ends with :meth:`stop`; in a dry run it never begins.
    """

    def __init__(self, node: Any, fixed: Fixed, mine: set[str], on_news: Callable[[], None]) -> None:
        """``mine``: identifiers of the node's publishers of velocities, those of dead processes included; grows.

        ``on_news`` is called by another thread when the safety loop has something to say. Returns before that is
        ready: :meth:`wait_ready`. Raises ``ValueError`` for what a parameter asks for and this machine does not have.
        """
        self._node, self._on_news = node, on_news
        self.topic = node.resolve_topic_name("delta_twist_cmds")  # full name
        self._setup = Setup(
            name=f"{node.get_name()}_safety",
            namespace=node.get_namespace(),
            topic=self.topic,
            frame=fixed.command_frame or fixed.base_frame,
            rate=fixed.publish_rate,
            clock=node.resolve_topic_name("/clock"),
            simulated=node.get_parameter("use_sim_time").value,
        )
        self.tool_pose = ToolPose(node, fixed) if ToolPose.needed(fixed) else None
        self.servo = ServoLink(node, fixed.servo_node) if fixed.servo_node else None
        self._boxed = bool(fixed.tool_frame)
        self._gripper = gripper_link(node, fixed)
        self._joints = node.create_subscription(
            JointState, "joint_states", self._on_joints, qos_profile_sensor_data, raw=True
        )
        self.commanding = False  # whether the arm shall hear us
        self.ready = False  # whether it takes what it hears
        self._audience = Audience(self.topic)
        self._engaged_at = 0.0
        self._joints_at: float | None = None
        self._mine = mine
        self._stopped_at = 0.0  # when the end of commanding was last asked for
        self._told_at: float | None = None  # when the safety loop last heard of us since activation
        self._stand_in: StandIn | None = None
        if why := unsure(*surroundings()):
            node.get_logger().warning(
                "node and velocities may pause for 0.3 s whenever a process starts on this machine, and the arm stop: "
                f"{why}, so Fast DDS may use shared memory for them; docs/two_machines.md"
            )
        self.safety = SafetyLink(self._setup, on_news)

    @property
    def report(self) -> Report:
        """The newest of the safety loop."""
        return self.safety.report

    @property
    def rivals(self) -> int:
        """Other publishers of velocities on the same topic."""
        self._mine.add(self.report.gid)
        if self._stand_in is not None:
            self._mine |= self._stand_in.gids
        infos = self._node.get_publishers_info_by_topic(self.topic)
        return sum(bytes(info.endpoint_gid).hex() not in self._mine for info in infos)

    @property
    def listeners(self) -> int:
        """Subscriptions that receive the velocities."""
        return self.report.listeners

    def wait_ready(self, stopped: Callable[[], bool]) -> None:
        """Wait for the safety loop; RuntimeError if it does not come, StoppedError once ``stopped()``."""
        ready = self.safety.wait(lambda report: report.ready or stopped(), START)
        if stopped():
            raise StoppedError("asked to end while the safety process starts")
        if not ready:
            raise RuntimeError(f"the safety process did not start: {self.safety.last_line()}")

    def wait_activatable(self, dry_run: bool) -> Fault | None:
        """What speaks against activation; a successor of a safety loop that died may still be on its way."""
        self.safety.wait(lambda report: report.ready, AGAIN)
        self._end_stand_in()
        return self.safety.trouble(time.monotonic()) or (None if dry_run else self.rival_fault())

    def engage(self, now: float, patience: float) -> Fault | None:
        """Begin commanding, or go on; a fault if somebody else commands or the arm does not become ready.

        Call it before every :meth:`tell` while the arm is to be commanded. ``now``: s, steady clock. ``patience``: s
        until an arm must be ready; zeros are sent meanwhile.
        """
        if not self.commanding:
            self.commanding, self.ready, self._engaged_at, self._joints_at = True, False, now, None
            self._audience = Audience(self.topic)
            self._gripper.begin()
            self._audience.look(self._node, now)
            if self.servo is not None:
                self.servo.switch()
            if fault := self.rival_fault():
                return fault
        if self.ready:
            return self._silent(now)
        missing = self._waiting_for()
        self.ready = missing is None
        return missing if now - self._engaged_at > patience else None

    def disengage(self) -> None:
        """The dry run begins, or the end: the arm hears no more than the last zeros."""
        self.commanding = self.ready = False

    def stalled(self, now: float, limits: Limits) -> Fault | None:
        """A fault if this node has been kept from its heartbeat; ask before the ages of others are judged.

        Whoever stood still finds everybody else's last word old.
        """
        told_at = self._told_at
        return None if told_at is None or now - told_at <= limits.heartbeat else silent(now - told_at, limits)

    def tell(self, cycle: Cycle, simulated: bool) -> None:
        """Tell the safety loop what is wanted now; this is the heartbeat."""
        limits, pose = read_limits(self._node), None
        if self.tool_pose is not None:
            try:
                pose = self.tool_pose.pose()
            except PoseError as error:
                if cycle.state in UNDER_WAY:
                    cycle.trip(self.stalled(time.monotonic(), limits) or Fault.of(error))
        box = read_box(self._node) if self._boxed else None
        self._told_at = time.monotonic()
        pose_too = {"box": box, "pose": pose, "needs_pose": self.tool_pose is not None}
        intent = cycle.intent(self._told_at, limits, self.commanding, simulated=simulated, **pose_too)
        self.safety.send(intent)

    def wait_stopped(self) -> bool:
        """End commanding: returns once the safety loop has said the first zero, and whether it has."""
        self.disengage()
        self._told_at = None
        self._stopped_at = time.monotonic()
        return self.safety.wait_taken(Intent(at=self._stopped_at), ANSWER)

    def wait_silent(self) -> bool:
        """After :meth:`wait_stopped`: returns once the safety loop has said the last zero, and whether it has."""
        return self.safety.wait(
            lambda report: report.heard >= self._stopped_at and not report.on_wire, LAST_WORDS + ANSWER
        )

    def command_gripper(self, command: float) -> Fault | None:
        """Send a gripper command, 1.0 or 0.0; a fault if nobody can take it, or if this node has stood still: what is
        said on its return, of a step from before, comes after the safety loop has given it up.
        """
        return self.stalled(time.monotonic(), read_limits(self._node)) or self._gripper.command(command)

    def rival_fault(self) -> Fault | None:
        """A fault if somebody else publishes velocities."""
        if not (rivals := self.rivals):
            return None
        return Fault(
            "SECOND_PUBLISHER",
            f"{rivals} other publishers of velocities on {self.topic}; two sources would fight over the arm",
            "Stop every other publisher of velocity commands; then deactivate and activate. A killed process counts "
            "until the graph forgets it, up to 20 s.",
        )

    def look_around(self) -> Fault | None:
        """What is wrong around the arm while the node commands it, or None. A few times per second."""
        if fault := self.rival_fault() or self._gripper.trouble():
            return fault
        came, left = self._audience.look(self._node, time.monotonic())
        if left:
            return Fault("ARM_GONE", f"{', '.join(left)} no longer listens on {self.topic}", GONE)
        if came:
            detail = f"{', '.join(came)} has begun to listen on {self.topic} while another arm was driven"
            return Fault("ARM_CHANGED", detail, "Find out what was started; then deactivate and activate.")
        return None

    def renew(self) -> None:
        """Put a successor in the place of a safety loop that has ended; it begins with zeros if there was motion.

        Until it does, this node says them.
        """
        driving = self.commanding or self.report.on_wire  # its last report may be from before it began
        if driving:
            self._end_stand_in()
            self._stand_in = StandIn(self._node, self.topic, self._setup.frame, self._has_successor)
        self._mine.add(self.report.gid)
        died = self.safety
        if died.report.ready:  # one that never came would not come again either
            setup = Setup(**{**self._setup.__dict__, "zero_first": SUCCESSOR if driving else 0.0})
            self.safety = SafetyLink(setup, self._on_news)
        died.wait_closed(0.0)

    def destroy(self) -> None:
        """Leave the graph, after the last words of the safety loop."""
        self.safety.wait_closed(LAST_WORDS)
        self._end_stand_in()
        self._node.destroy_subscription(self._joints)
        for part in (self._gripper, self.servo, self.tool_pose):
            if part is not None:
                part.destroy()

    def _has_successor(self) -> bool:
        return self.report.ready and not self.safety.gone  # not what the dead one has said

    def _end_stand_in(self) -> None:
        if self._stand_in is not None:
            self._mine |= self._stand_in.gids
            self._stand_in.end()
            self._stand_in = None

    def _on_joints(self, data: Any) -> None:
        del data
        self._joints_at = time.monotonic()

    def _silent(self, now: float) -> Fault | None:
        """A fault if what showed that the arm lives has ceased. Graphs forget a killed process after 10 to 20 s."""
        limit = self._node.get_parameter("arm_timeout").value
        signs = {"joint_states": self._joints_at}
        if self.servo is not None:
            signs["MoveIt Servo's status"] = self.servo.heard_at
        for what, heard_at in signs.items():
            if limit and heard_at is not None and now - heard_at > limit:
                detail = f"nothing on {what} for {now - heard_at:.2f} s, arm_timeout is {limit:.2f} s"
                return Fault("ARM_GONE", detail, GONE)
        return None

    def _waiting_for(self) -> Fault | None:
        missing = (part.waiting_for() for part in (self.tool_pose, self.servo) if part is not None)
        return next((fault for fault in missing if fault is not None), None)
