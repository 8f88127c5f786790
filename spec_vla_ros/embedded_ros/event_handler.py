"""``rclpy.event_handler``: what happens where the quality of service of two sides does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class SubscriptionEventCallbacks:
    """``incompatible_qos``: called with the middleware's status (``total_count``) in place of a warning.

    Without ``use_default_callbacks`` there is no warning either.
    """

    incompatible_qos: Callable[[Any], None] | None = None
    use_default_callbacks: bool = True
