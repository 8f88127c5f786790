"""Quality of service in rclpy's terms, and its translation to DDS (what rmw_cyclonedds_cpp sets)."""

from __future__ import annotations

import warnings
from enum import Enum, IntEnum
from typing import Any

from cyclonedds.core import Policy, Qos
from cyclonedds.util import duration

from .clock import Duration


class ReliabilityPolicy(IntEnum):
    """Delivery guarantee."""

    SYSTEM_DEFAULT = 0
    RELIABLE = 1
    BEST_EFFORT = 2
    UNKNOWN = 3
    BEST_AVAILABLE = 4


class DurabilityPolicy(IntEnum):
    """Do late joiners get old samples?"""

    SYSTEM_DEFAULT = 0
    TRANSIENT_LOCAL = 1
    VOLATILE = 2
    UNKNOWN = 3
    BEST_AVAILABLE = 4


class HistoryPolicy(IntEnum):
    """How many samples are kept."""

    SYSTEM_DEFAULT = 0
    KEEP_LAST = 1
    KEEP_ALL = 2
    UNKNOWN = 3


class LivelinessPolicy(IntEnum):
    """Only automatic liveliness exists here."""

    SYSTEM_DEFAULT = 0
    AUTOMATIC = 1


QoSReliabilityPolicy, QoSDurabilityPolicy, QoSHistoryPolicy = ReliabilityPolicy, DurabilityPolicy, HistoryPolicy
QoSLivelinessPolicy = LivelinessPolicy


class QoSProfile:
    """Keyword arguments as in rclpy; anything this runtime cannot honour is refused."""

    def __init__(self, **kwargs: Any) -> None:
        known = {"history", "depth", "reliability", "durability", "lifespan", "deadline", "liveliness",
                 "liveliness_lease_duration", "avoid_ros_namespace_conventions"}  # fmt: skip
        if unknown := kwargs.keys() - known:
            raise AssertionError(f"Invalid arguments passed to constructor: {', '.join(sorted(unknown))}")
        if "history" not in kwargs and "depth" not in kwargs:
            raise TypeError("History and/or depth settings are required")
        self.history = HistoryPolicy(kwargs.get("history", HistoryPolicy.KEEP_LAST))
        if self.history == HistoryPolicy.KEEP_LAST and "depth" not in kwargs:
            raise TypeError("History set to KEEP_LAST without a depth setting.")
        self.depth = int(kwargs.get("depth", 0))
        if self.depth < 0:
            raise ValueError(f"depth must not be negative: {self.depth}")
        if self.history == HistoryPolicy.KEEP_LAST and self.depth == 0:
            warnings.warn("A zero depth with KEEP_LAST doesn't make sense; 1 is used", stacklevel=2)
        self.reliability = ReliabilityPolicy(kwargs.get("reliability", ReliabilityPolicy.RELIABLE))
        self.durability = DurabilityPolicy(kwargs.get("durability", DurabilityPolicy.VOLATILE))
        self.lifespan: Duration = kwargs.get("lifespan", Duration())
        self.deadline: Duration = kwargs.get("deadline", Duration())
        self.liveliness = LivelinessPolicy(kwargs.get("liveliness", LivelinessPolicy.AUTOMATIC))
        if self.reliability.value > ReliabilityPolicy.BEST_EFFORT or self.durability.value > DurabilityPolicy.VOLATILE:
            raise NotImplementedError("the embedded runtime has no BEST_AVAILABLE or UNKNOWN policy; install ROS 2")
        if kwargs.get("liveliness_lease_duration", Duration()).nanoseconds:
            raise NotImplementedError("the embedded runtime has no liveliness lease; install ROS 2")
        if kwargs.get("avoid_ros_namespace_conventions"):
            raise NotImplementedError("the embedded runtime keeps the ROS topic prefixes; install ROS 2")

    def __repr__(self) -> str:
        return (
            f"QoSProfile(history={self.history.name}, depth={self.depth}, reliability={self.reliability.name}, "
            f"durability={self.durability.name})"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QoSProfile) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def to_dds(self, user_data: str, writer: bool) -> Qos:
        """DDS policies of an endpoint; ``user_data`` is what discovery announces beside it."""
        reliable = self.reliability != ReliabilityPolicy.BEST_EFFORT
        latched = self.durability == DurabilityPolicy.TRANSIENT_LOCAL
        keep_all = self.history == HistoryPolicy.KEEP_ALL
        history = Policy.History.KeepAll if keep_all else Policy.History.KeepLast(max(1, self.depth))
        policies: list[Any] = [
            # Cyclone 11 would offer XCDR2 as well; ROS 2 speaks XCDR1.
            Policy.DataRepresentation(use_cdrv0_representation=True, use_xcdrv2_representation=False),
            Policy.Reliability.Reliable(duration(infinite=True)) if reliable else Policy.Reliability.BestEffort,
            Policy.Durability.TransientLocal if latched else Policy.Durability.Volatile,
            history,
            Policy.Userdata(user_data.encode()),
        ]
        if writer:
            policies.append(Policy.WriterDataLifecycle(autodispose=False))
            if latched:
                policies.append(Policy.DurabilityService(0, history, -1, -1, -1))
            if self.lifespan.nanoseconds:
                policies.append(Policy.Lifespan(self.lifespan.nanoseconds))
        if self.deadline.nanoseconds:
            policies.append(Policy.Deadline(self.deadline.nanoseconds))
        return Qos(*policies)

    @staticmethod
    def from_dds(qos: Qos) -> QoSProfile:
        """What an endpoint of the domain announces of itself: reliability and durability. The history stays unknown."""
        reliable = Policy.Reliability in qos and isinstance(qos[Policy.Reliability], Policy.Reliability.Reliable)
        volatile = Policy.Durability not in qos or qos[Policy.Durability] == Policy.Durability.Volatile
        return QoSProfile(
            history=HistoryPolicy.UNKNOWN,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.VOLATILE if volatile else DurabilityPolicy.TRANSIENT_LOCAL,
        )


def as_profile(qos: QoSProfile | int) -> QoSProfile:
    """An int is a depth, as in rclpy."""
    if isinstance(qos, QoSProfile):
        return qos
    if isinstance(qos, bool) or not isinstance(qos, int):
        raise TypeError(f"Expected QoSProfile or int, but received {type(qos)!r}")
    return QoSProfile(depth=qos)


_BEST_EFFORT = ReliabilityPolicy.BEST_EFFORT
qos_profile_system_default = QoSProfile(depth=10)
qos_profile_default = QoSProfile(depth=10)
qos_profile_sensor_data = QoSProfile(depth=5, reliability=_BEST_EFFORT)
qos_profile_services_default = QoSProfile(depth=10)
qos_profile_parameters = QoSProfile(depth=1000)
qos_profile_parameter_events = QoSProfile(depth=1000)
clock_profile = QoSProfile(depth=1, reliability=_BEST_EFFORT)
rosout_profile = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL, lifespan=Duration(seconds=10))
graph_writer_profile = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
graph_reader_profile = QoSProfile(history=HistoryPolicy.KEEP_ALL, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class QoSPresetProfiles(Enum):
    """Presets by name; ``.value`` is the profile, as in rclpy."""

    SENSOR_DATA = qos_profile_sensor_data
    SYSTEM_DEFAULT = qos_profile_system_default
    SERVICES_DEFAULT = qos_profile_services_default
    PARAMETERS = qos_profile_parameters
    PARAMETER_EVENTS = qos_profile_parameter_events
