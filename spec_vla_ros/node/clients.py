"""Whether the mission layer that has sent a goal is still there.

rclpy does not say whose a goal is, and the graph forgets a killed process after 10 s (Cyclone DDS) to 20 s (Fast DDS).
Sooner tells the feedback: its readers are reliable, and one that is dead confirms nothing.
"""

from __future__ import annotations

import re
from typing import Any

from spec_vla_ros.foreign_text import sentence

SILENCE = 1.5  # s without a confirmation of all feedback, sent every 0.2 s, after which a reader counts as dead
SETTLING = 2.0  # s after a goal in which its client is discovered at the latest
DOUBT = 0.5  # s after somebody has left in which it shows that he was dead before the goal came
NAME = 80  # characters of a remote node's name
MOST = 32  # subscriptions that one look asks about; who makes more of them shall not hold up the node
ONE_SHOT = re.compile(r"_ros2cli_\d+")  # sends one goal and leaves when that is over


class Clients:
    """Those who may have sent the goal under way: nodes that hear its feedback and can send goals."""

    def __init__(self, feedback: str, send_goal: str) -> None:
        """Full names of the feedback topic and of the service that takes goals."""
        self._feedback, self._send_goal = feedback, send_goal
        self._known: dict[str, tuple[str, str]] = {}  # (name, namespace) of a client, by its subscription's identifier
        self.begin(0.0)

    def begin(self, now: float) -> None:
        """A goal was accepted at ``now`` (s, steady clock). Who cannot have sent it is not watched."""
        self._others = {gid for gid, (name, _) in self._known.items() if ONE_SHOT.fullmatch(name)}
        self._known, self._met = {}, False
        self._began_at = self._confirmed_at = now
        self._proven = False  # whether all feedback of this goal was confirmed once
        self._left, self._left_at = "", 0.0  # who has left while that had not been so, and when

    def look(self, node: Any, now: float, confirmed: bool) -> str:
        """Why the client counts as gone, or an empty string. A few times per second.

        ``confirmed``: whether all readers have confirmed all feedback that was sent so far.
        """
        before = self._proven
        if confirmed:
            self._proven, self._confirmed_at = True, now
        left = self._look_around(node, now)
        if left and (before or not self._known):
            return f"{left} has left"
        if left:
            self._left, self._left_at = left, now
        if self._left and confirmed:  # he kept the feedback from being confirmed: he was dead before the goal came
            self._left = ""
        if self._left and now - self._left_at > DOUBT:
            return f"{self._left} has left"
        if not self._met and now - self._began_at > SETTLING:
            return "nobody who could have sent the goal hears its feedback"
        if self._proven and now - self._confirmed_at > SILENCE:
            return f"the feedback was not confirmed for {now - self._confirmed_at:.1f} s"
        return ""

    def _look_around(self, node: Any, now: float) -> str:
        """Names of clients that have left since the last look; a node that has another client is still there."""
        infos = {bytes(info.endpoint_gid).hex(): info for info in node.get_subscriptions_info_by_topic(self._feedback)}
        gone = {self._known.pop(gid) for gid in list(self._known) if gid not in infos}
        if now - self._began_at <= SETTLING:
            new = [gid for gid in infos if gid not in self._known and gid not in self._others]
            for gid in new[:MOST]:
                if self._can_send(node, info := infos[gid]):
                    self._known[gid] = (info.node_name, info.node_namespace)
                    self._met = True
        return ", ".join(sorted(sentence(name, NAME) for name, space in gone - set(self._known.values())))

    def _can_send(self, node: Any, info: Any) -> bool:
        try:
            found = node.get_client_names_and_types_by_node(info.node_name, info.node_namespace)
        except Exception:  # noqa: BLE001 - rclpy raises for a node that it does not know yet, or any more
            return False
        return any(name == self._send_goal for name, _ in found)
