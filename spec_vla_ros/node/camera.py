"""The camera topic: raw or compressed images in, checked frames out.

One subscription, as reliable as everybody who publishes there: a best-effort one hears every camera, but an image of
many packets that loses one is lost as a whole, and of some middlewares' default settings hardly any arrives. So it is
best effort until only reliable publishers are seen, and again once another one is. The newest image counts; what comes
late is told by its stamp.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from spec_vla_ros import image_messages
from spec_vla_ros.errors import FutureImageError

from .arrivals import Arrivals, cure
from .conversions import stamp_seconds
from .cycle import Frame
from .instructions import without_warning
from .middleware import middleware, weakest

LOOK = 0.5  # s between two looks at who publishes
# Images of which parts are sent again are put together side by side. With a depth of 1 Fast DDS gives each up for the
# next one, and of 1280 x 720 two images of three are lost. Nobody waits for us: publishers keep their last ones only.
DEPTH = {ReliabilityPolicy.BEST_EFFORT: 1, ReliabilityPolicy.RELIABLE: 5}
QUIET = 30.0  # s between two lines of log about lost images


class Camera:
    """Subscribes and turns messages into :class:`.cycle.Frame`. The executor's thread owns it."""

    def __init__(self, node: Any, transport: str, callback: Callable[[Any], None], clock: Clock) -> None:
        """``transport``: "raw" or "compressed"; the latter subscribes to ``<image>/compressed``, as cameras name it.

        ``clock``: steady; by it the node looks at who publishes. ``camera_info`` is expected beside ``image``.
        """
        image_messages.prepare()
        self._node, self._clock, self._compressed = node, node.get_clock(), transport == "compressed"
        self._callback, self._arrivals, self._size = callback, Arrivals(), 0
        image = node.resolve_topic_name("image")
        self.topic = f"{image}/compressed" if self._compressed else image  # full name
        self.reliability = ReliabilityPolicy.BEST_EFFORT
        self.subscription = self._subscribe()
        # Of the same depth and as little reliable as images may be: what this process misses, it misses of both.
        beside = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        info = f"{image.rpartition('/')[0]}/camera_info"
        self._infos = node.create_subscription(CameraInfo, info, self._on_info, beside, raw=True)
        self._timer = node.create_timer(LOOK, self.look, clock=clock)

    def look(self) -> None:
        """See who publishes, and subscribe anew if that asks for another reliability.

        The old subscription goes first: two of them would deliver out of order. What is published until the new one is
        matched is lost, some tens of ms of images.
        """
        infos = self._node.get_publishers_info_by_topic(self.topic)
        self._arrivals.announced(time.monotonic(), bool(infos))
        if infos and (offered := weakest(info.qos_profile.reliability for info in infos)) != self.reliability:
            self._node.destroy_subscription(self.subscription)
            self.reliability = offered
            self.subscription = self._subscribe()
            self._node.get_logger().info(f"{self.topic} is published {_name(offered)}, and subscribed likewise")
        lost, certain = self.lost()
        if certain:
            self._node.get_logger().warning(f"{self.topic}: {lost}", throttle_duration_sec=QUIET)

    def lost(self) -> tuple[str, bool]:
        """How many images do not arrive and what helps, empty if they do; and whether they get lost for certain."""
        loss, certain = self._arrivals.loss(time.monotonic())
        if not loss:
            return "", False
        reliable = self.reliability == ReliabilityPolicy.RELIABLE
        return f"{loss} ({_name(self.reliability)}). {cure(middleware(), reliable, self._size, certain)}", certain

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

    def _subscribe(self) -> Any:
        profile = QoSProfile(depth=DEPTH[self.reliability], reliability=self.reliability)
        kind, topic = (CompressedImage, self.topic) if self._compressed else (Image, "image")
        return self._node.create_subscription(kind, topic, self._on_image, profile, **without_warning())

    def _on_image(self, message: Any) -> None:
        self._arrivals.image(time.monotonic(), stamp_seconds(message.header.stamp))
        self._size = len(message.data)
        self._callback(message)

    def _on_info(self, data: Any) -> None:
        del data
        self._arrivals.info(time.monotonic())

    def _age(self, stamp: Any, tolerance: float) -> float:
        """Seconds from capture to now; 0 for a driver that does not stamp."""
        if stamp.sec == 0 and stamp.nanosec == 0:
            return 0.0
        age = stamp_seconds(self._clock.now().to_msg()) - stamp_seconds(stamp)
        if age < -tolerance:
            raise FutureImageError(f"an image is stamped {-age:.3f} s ahead of this node's clock")
        return max(age, 0.0)


def _name(reliability: ReliabilityPolicy) -> str:
    return reliability.name.lower().replace("_", " ")
