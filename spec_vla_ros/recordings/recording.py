"""What was on the wire, kept in memory as raw CDR until the run is over. No ROS.

Nothing is decoded while the arm moves: a message costs one append, an image one fast compression. Bag, video, plot and
figures are made from this afterwards.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

LARGE = 20_000  # bytes; above this a message is kept compressed


@dataclass(frozen=True)
class Topic:
    """One recorded topic. ``name``: fully qualified. ``period``: s between two kept messages, 0 = keep all."""

    name: str
    type: str
    best_effort: bool = False
    period: float = 0.0


IMAGE_RATE = 15.0  # Hz; every second camera image is enough for the film and keeps the bag small

TOPICS = (
    Topic("/image", "sensor_msgs/msg/Image", best_effort=True, period=0.9 / IMAGE_RATE),
    Topic("/joint_states", "sensor_msgs/msg/JointState"),
    Topic("/delta_twist_cmds", "geometry_msgs/msg/TwistStamped"),
    Topic("/gripper_command", "std_msgs/msg/Float64"),
    Topic("/instruction", "std_msgs/msg/String"),
    Topic("/episode_request", "spec_vla_ros/msg/Episode"),
    Topic("/episode", "spec_vla_ros/msg/Episode"),
    Topic("/act/action", "spec_vla_ros/msg/DeltaAction"),
    Topic("/act/decode_stats", "spec_vla_ros/msg/DecodeStats"),
    Topic("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray"),
    Topic("/parameter_events", "rcl_interfaces/msg/ParameterEvent"),
    Topic("/rosout", "rcl_interfaces/msg/Log"),
)


@dataclass
class Recording:
    """Messages in order of arrival; ``add`` is called from the executor's thread."""

    topics: tuple[Topic, ...] = TOPICS
    _messages: list[tuple[str, int, bytes, bool]] = field(default_factory=list)
    _kept: dict[str, int] = field(default_factory=dict)

    def add(self, topic: Topic, received_ns: int, raw: bytes) -> bool:
        """Keep ``raw`` (CDR with its header), received at ``received_ns`` of the wall clock; False if thinned out."""
        if topic.period and received_ns - self._kept.get(topic.name, 0) < topic.period * 1e9:
            return False
        self._kept[topic.name] = received_ns
        large = len(raw) > LARGE
        self._messages.append((topic.name, received_ns, zlib.compress(raw, 1) if large else bytes(raw), large))
        return True

    def __len__(self) -> int:
        return len(self._messages)

    def messages(self, *names: str) -> Iterator[tuple[str, int, bytes]]:
        """(topic, ns received, CDR) in order, of the topics ``names`` or of all."""
        for name, received, raw, large in self._messages:
            if not names or name in names:
                yield name, received, zlib.decompress(raw) if large else raw
