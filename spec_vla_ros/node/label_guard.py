"""Keeps foreign labels away from the lifecycle services.

The C library under rclpy writes the label of a transition that it does not know into the log as it came, newlines and
megabytes included.
"""

from __future__ import annotations

from typing import Any

from lifecycle_msgs.srv import ChangeState

from spec_vla_ros.foreign_text import shortened

LABELS = {"configure", "activate", "deactivate", "cleanup", "shutdown"}
QUIET = 1.0  # s between two lines of log about unknown labels


def guard_labels(node: Any) -> None:
    """Have ``node`` refuse a transition whose label is none of :data:`LABELS` before anybody else sees it."""
    for service in node.services:
        if service.srv_type is ChangeState:
            service.callback = _guarded(node, service.callback)


def _guarded(node: Any, inner: Any) -> Any:
    def change_state(request: Any, response: Any) -> Any:
        label = request.transition.label
        if label and label not in LABELS:
            text = f"there is no transition {shortened(label)}"
            node.get_logger().warning(text, throttle_duration_sec=QUIET)
            response.success = False
            return response
        return inner(request, response)

    return change_state
