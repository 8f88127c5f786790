"""Plain data to messages."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .cycle import Begun


def stamp_seconds(stamp: Any) -> float:
    """A builtin_interfaces/Time as seconds; differences of nearby stamps keep sub-microsecond precision."""
    return stamp.sec + 1e-9 * stamp.nanosec


def twist_message(message_type: type, twist: np.ndarray, stamp: Any, frame_id: str) -> Any:
    """A geometry_msgs/TwistStamped of a (6,) twist in m/s and rad/s."""
    message = message_type()
    message.header.stamp, message.header.frame_id = stamp, frame_id
    for part, values in ((message.twist.linear, twist[:3]), (message.twist.angular, twist[3:])):
        part.x, part.y, part.z = (float(value) for value in values)
    return message


def action_message(message_type: type, action: Any, commanded: bool, frame_id: str) -> Any:
    """A spec_vla_ros/DeltaAction of a :class:`.cycle.Action`."""
    request, result = action.outcome.request, action.outcome.result
    message = message_type()
    message.header.stamp, message.header.frame_id = request.header.stamp, frame_id
    message.sequence = request.number
    message.delta = np.asarray(result.values[:6], dtype=np.float32)
    message.gripper = float(result.values[6])
    message.step_dt = float(action.step.seconds)
    message.action_scale = float(request.tunables.action_scale)
    message.limit_factor = float(action.limit_factor)
    message.commanded = bool(commanded)
    message.instruction = request.instruction
    message.tokens = [int(token) for token in result.tokens]
    message.bins = [int(index) for index in result.bins]
    message.step = np.asarray(action.step.twist, dtype=np.float32) * np.float32(action.step.seconds)
    message.unseen = np.asarray(action.unseen, dtype=np.float32)
    message.compensation = action.compensation
    return message


def stats_message(message_type: type, action: Any, frame_id: str, begun: Begun, bin_width: tuple[float, ...]) -> Any:
    """A spec_vla_ros/DecodeStats of a :class:`.cycle.Action`; ``bin_width`` may be empty."""
    request, report = action.outcome.request, action.outcome.result.report
    message = message_type()
    message.header.stamp, message.header.frame_id = request.header.stamp, frame_id
    message.sequence = request.number
    message.decoder, message.emit = report.decoder, report.emit
    message.drafters = list(report.drafters)
    message.acceptance_radius = [int(bins) for bins in report.tolerance.bins]
    if len(bin_width) == report.tolerance.action_dim:
        message.acceptance_radius_si = list(report.tolerance.in_units(bin_width))
    message.draft_depth, message.draft_width = int(report.draft_depth), int(report.draft_width)
    message.verifier_passes = int(report.verifier_passes)
    message.drafted_per_pass = [int(count) for count in report.drafted_per_pass]
    message.accepted_per_pass = [int(count) for count in report.accepted_per_pass]
    message.drafter_per_pass = list(report.drafter_per_pass)
    message.token_source = list(report.token_source)
    message.max_accepted_distance = int(report.max_accepted_distance)
    for name in ("preprocess_ms", "vision_ms", "prefill_ms", "decode_ms", "total_ms"):
        setattr(message, name, float(getattr(report, name)))
    message.inference_ms = 1e3 * action.outcome.seconds
    message.image_age_ms = 1e3 * begun.image_age
    message.frames_skipped = int(request.frames_skipped)
    message.pacing = action.pacing
    message.late_ms = math.nan if begun.late is None else 1e3 * begun.late
    message.standstill_share = math.nan if begun.standstill is None else begun.standstill
    return message
