"""A mission layer: the smallest client of ``~/execute``, made of the services and topics of an action.

It runs on both runtimes; the embedded one has no client's side of actions. ``python mission.py INSTRUCTION`` sends one
goal and says what comes of it; it never cancels.
"""

import sys
import uuid

import numpy as np

if __name__ == "__main__":
    from spec_vla_ros.embedded_ros.doorway import ensure_rclpy

    ensure_rclpy()

from action_msgs.msg import GoalStatusArray
from rclpy.qos import DurabilityPolicy, QoSProfile
from spec_vla_ros.action import ExecuteInstruction
from unique_identifier_msgs.msg import UUID

IMPL = ExecuteInstruction.Impl
SUCCEEDED, CANCELED, ABORTED = 4, 5, 6  # of action_msgs/msg/GoalStatus
Result = ExecuteInstruction.Result


class Sent:
    """A goal that was sent. ``accepted``: None until that is known. ``result``: (status, Result), None before."""

    def __init__(self, mission, key):
        self._mission, self.key = mission, key
        self.accepted = self.result = self.cancelling = None

    @property
    def feedback(self):
        """What came for this goal."""
        return [message.feedback for message in self._mission.feedback if bytes(message.goal_id.uuid) == self.key]

    @property
    def uuid(self):
        return UUID(uuid=np.frombuffer(self.key, np.uint8).copy())

    def on_answer(self, future):
        self.accepted = future.result().accepted
        if self.accepted:
            request = IMPL.GetResultService.Request(goal_id=self.uuid)
            self._mission.results.call_async(request).add_done_callback(self._on_result)

    def _on_result(self, future):
        self.result = (future.result().status, future.result().result)

    def cancel(self):
        """Ask for it; ``cancelling`` says whether the server will."""
        request = IMPL.CancelGoalService.Request()
        request.goal_info.goal_id = self.uuid
        self._mission.cancels.call_async(request).add_done_callback(self._on_cancel)

    def _on_cancel(self, future):
        self.cancelling = bool(future.result().goals_canceling)


class Mission:
    """The client's endpoints of one node."""

    def __init__(self, node, name="/act/execute"):
        self.feedback, self.statuses = [], []
        self.goals, self.cancels, self.results = self.clients = tuple(
            node.create_client(kind, f"{name}/_action/{service}")
            for kind, service in (
                (IMPL.SendGoalService, "send_goal"),
                (IMPL.CancelGoalService, "cancel_goal"),
                (IMPL.GetResultService, "get_result"),
            )
        )
        node.create_subscription(IMPL.FeedbackMessage, f"{name}/_action/feedback", self.feedback.append, 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(GoalStatusArray, f"{name}/_action/status", self.statuses.append, latched)

    def ready(self):
        """Whether the server is there."""
        return all(client.service_is_ready() for client in self.clients)

    def send(self, instruction, time_limit=0.0, at_rest_steps=0, key=None):
        """Send a goal; returns at once."""
        goal = ExecuteInstruction.Goal(instruction=instruction, time_limit=time_limit, at_rest_steps=at_rest_steps)
        sent = Sent(self, key or uuid.uuid4().bytes)
        request = IMPL.SendGoalService.Request(goal_id=sent.uuid, goal=goal)
        self.goals.call_async(request).add_done_callback(sent.on_answer)
        return sent

    def status(self, sent):
        """The newest published status of a goal, 0 if none was."""
        if not self.statuses:
            return 0
        entries = self.statuses[-1].status_list
        return next((e.status for e in entries if bytes(e.goal_info.goal_id.uuid) == sent.key), 0)


def main(instruction):
    import rclpy
    from rclpy.node import Node

    rclpy.init(args=[])
    node = Node("mission")
    mission = Mission(node)
    while not mission.ready():
        rclpy.spin_once(node, timeout_sec=0.1)
    sent = mission.send(instruction)
    said = 0
    while sent.result is None and sent.accepted is not False:
        rclpy.spin_once(node, timeout_sec=0.1)
        for _ in sent.feedback[said:]:
            sys.stdout.write("feedback\n")
            sys.stdout.flush()
        said = len(sent.feedback)
    sys.stdout.write(f"{sent.accepted} {sent.result}\n")


if __name__ == "__main__":
    main(sys.argv[1])
