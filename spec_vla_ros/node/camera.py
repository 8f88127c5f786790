"""The camera topic: raw or compressed images in, checked frames out.

One subscription of depth 1, best effort, which matches every camera. The newest image only: what counts is the present.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from spec_vla_ros import image_messages
from spec_vla_ros.errors import FutureImageError

from .conversions import stamp_seconds
from .cycle import Frame


class Camera:
    """Subscribes and turns messages into :class:`.cycle.Frame`."""

    def __init__(self, node: Any, transport: str, callback: Callable[[Any], None]) -> None:
        """``transport``: "raw" or "compressed"; the latter subscribes to ``<image>/compressed``, as cameras name it."""
        image_messages.prepare()
        self._clock, self._compressed = node.get_clock(), transport == "compressed"
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        kind, topic = Image, "image"
        if self._compressed:
            kind, topic = CompressedImage, f"{node.resolve_topic_name('image')}/compressed"
        self.subscription = node.create_subscription(kind, topic, callback, newest)

    def frame(self, message: Any, future_tolerance: float) -> Frame:
        """A frame that was captured when its stamp says. Pixels are converted later, off this thread.

        ``future_tolerance``: s that the stamp may lie ahead of the node's clock. Raises :class:`ImageError` for what
        cannot be an image and :class:`FutureImageError` for a stamp of another clock.
        """
        if self._compressed:
            image_messages.check_compressed(message)
            convert = image_messages.rgb_from_compressed
        else:
            image_messages.check_image(message)
            convert = image_messages.rgb_from_image
        return Frame(
            rgb=functools.partial(convert, message),
            captured_at=time.monotonic() - self._age(message.header.stamp, future_tolerance),
            header=message.header,
        )

    def _age(self, stamp: Any, tolerance: float) -> float:
        """Seconds from capture to now; 0 for a driver that does not stamp."""
        if stamp.sec == 0 and stamp.nanosec == 0:
            return 0.0
        age = stamp_seconds(self._clock.now().to_msg()) - stamp_seconds(stamp)
        if age < -tolerance:
            raise FutureImageError(f"an image is stamped {-age:.3f} s ahead of this node's clock")
        return max(age, 0.0)
