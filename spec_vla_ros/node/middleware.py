"""Which middleware this is, and what everybody on a topic can keep."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from rclpy.qos import ReliabilityPolicy

from spec_vla_ros.installed import share_path

from . import fast_dds


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


def surroundings() -> tuple[str, Mapping[str, str], Path, Callable[[str], Path]]:
    """What :mod:`.fast_dds` wants to know."""
    return middleware(), os.environ, Path.cwd(), share_path


def settle() -> None:
    """Set up the middleware for this process, before rclpy is initialised, and for all that it starts."""
    os.environ.update(fast_dds.variables(*surroundings()))
