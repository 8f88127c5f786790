"""Who listens to the velocities: arms, which matter, and tools, which come and go as they like."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from spec_vla_ros.foreign_text import sentence

SETTLING = 2.0  # s that discovery takes at most on a network that works
NAME = 80  # characters of a remote node's name
# Whole names: an arm's driver that is called rqt_arm_driver is no rqt. Hidden ones are ros2's own command line.
TOOLS = re.compile(
    r"_ros2cli_(\w+_)?\d+|_ros2cli_daemon_\w+|rosbag2_(recorder|transport)\w*|rqt_gui_(py|cpp)_node_\d+|rviz2?|foxglove_bridge|"
    r"plotjuggler(_\w+)?"
)
# What only a robot publishes; whoever does is an arm whatever its name.
ROBOT = ("sensor_msgs/msg/JointState", "tf2_msgs/msg/TFMessage", "moveit_msgs/msg/ServoStatus")
UNKNOWN = "_NODE_NAME_UNKNOWN_"  # the graph knows the subscription already, and its node not yet


def gids_of(node: Any, topic: str) -> set[str]:
    """Identifiers of the publishers on ``topic`` that go by the name of ``node``, its own ones among them.

    rclpy tells nobody his own: what is new under the name since somebody joined is his.
    """
    own = (node.get_name(), node.get_namespace())
    infos = node.get_publishers_info_by_topic(topic)
    return {bytes(info.endpoint_gid).hex() for info in infos if (info.node_name, info.node_namespace) == own}


def is_tool(name: str, published: list[str]) -> bool:
    """Whether a node of this name, that publishes messages of these types, listens without being an arm."""
    return bool(TOOLS.fullmatch(name)) and not any(kind in ROBOT for kind in published)


@dataclass
class Audience:
    """Subscriptions on the velocity topic, from look to look."""

    topic: str
    arms: dict[str, str] = field(default_factory=dict)  # by identifier: the name of the node
    met_at: float | None = None  # steady time at which the first arm was seen
    names: dict[str, str] = field(default_factory=dict)  # by identifier, of all that were known once

    def look(self, node: Any, now: float) -> tuple[list[str], list[str]]:
        """Names of arms that came while another was there, and of those that have left, since the last look.

        Who is discovered within :data:`SETTLING` s of the first arm was there with it. An arm that has left but is
        there under the same name was restarted, and what left is its ghost.
        """
        infos = {bytes(info.endpoint_gid).hex(): info for info in node.get_subscriptions_info_by_topic(self.topic)}
        arms = {}
        # A node that leaves loses its name before its subscription: a tool must not turn into an arm that is gone.
        known_now = {gid: info.node_name for gid, info in infos.items() if info.node_name != UNKNOWN}
        self.names = {gid: name for gid, name in self.names.items() if gid in infos} | known_now
        for gid, info in infos.items():
            name = self.names.get(gid, UNKNOWN)
            if self.arms.get(gid, UNKNOWN) != UNKNOWN:
                arms[gid] = self.arms[gid]
            elif not is_tool(name, _published(node, info)):
                arms[gid] = sentence(name, NAME)
        known = {gid: name for gid, name in arms.items() if name != UNKNOWN}
        came = [name for gid, name in known.items() if self.arms.get(gid, UNKNOWN) == UNKNOWN]
        left = [name for gid, name in self.arms.items() if gid not in infos and name not in known.values()]
        if self.met_at is None and known:
            self.met_at = now
        self.arms = arms
        settled = self.met_at is not None and now - self.met_at > SETTLING
        return sorted(came) if settled else [], sorted(left)


def _published(node: Any, info: Any) -> list[str]:
    try:
        found = node.get_publisher_names_and_types_by_node(info.node_name, info.node_namespace)
    except Exception:  # noqa: BLE001 - rclpy raises for a node that it does not know yet, or any more
        return []
    return [kind for _, kinds in found for kind in kinds]
