"""Which middleware this is, and what everybody on a topic can keep."""

from __future__ import annotations

from collections.abc import Iterable

from rclpy.qos import ReliabilityPolicy


def weakest(offered: Iterable[ReliabilityPolicy]) -> ReliabilityPolicy:
    """What everybody of ``offered`` can keep: reliable if all are, else best effort, which hears everybody."""
    policies = set(offered)
    return ReliabilityPolicy.RELIABLE if policies == {ReliabilityPolicy.RELIABLE} else ReliabilityPolicy.BEST_EFFORT


def middleware() -> str:
    """Identifier of the rmw; the embedded runtime has none and speaks as Cyclone does."""
    try:
        from rclpy.utilities import get_rmw_implementation_identifier
    except ImportError:
        return "rmw_cyclonedds_cpp"
    return get_rmw_implementation_identifier()
