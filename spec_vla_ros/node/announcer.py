"""What every action was and what it cost, for whoever listens: ``~/action`` and ``~/decode_stats``."""

from __future__ import annotations

from typing import Any

from spec_vla_ros.msg import DecodeStats, DeltaAction

from . import conversions
from .cycle import Action, Begun


class Announcer:
    """Both publishers of a configured node. ``frame``: the base's."""

    def __init__(self, node: Any, frame: str) -> None:
        self._node, self._frame = node, frame
        self._actions = node.create_lifecycle_publisher(DeltaAction, "~/action", 10)
        self._stats = node.create_lifecycle_publisher(DecodeStats, "~/decode_stats", 10)

    def tell(self, action: Action, commanded: bool, begun: Begun, bin_width: tuple[float, ...]) -> None:
        """``commanded``: the arm was told. ``bin_width``: m, rad, gripper units per bin; empty if unknown."""
        self._actions.publish(conversions.action_message(DeltaAction, action, commanded, self._frame))
        self._stats.publish(conversions.stats_message(DecodeStats, action, self._frame, begun, bin_width))

    def destroy(self) -> None:
        """Leave the graph."""
        for publisher in (self._actions, self._stats):
            self._node.destroy_publisher(publisher)
