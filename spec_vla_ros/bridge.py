"""cv_bridge where a ROS 2 installation has it, for the encodings that it converts as we do.

Our own conversion (:mod:`.image_messages`) needs nothing but numpy and refuses what is wrong with a message before this
sees it. The cv_bridge of PyPI is one of ROS 1 that loses data without an error, and is never used.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import numpy as np

CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}  # bytes per pixel
_log = logging.getLogger(__name__)


@functools.cache
def cv_bridge() -> Any:
    """A CvBridge, or None where there is none that can be used."""
    try:
        import cv_bridge as module
        from cv_bridge.boost import cv_bridge_boost  # noqa: F401 - what the one of PyPI lacks
    except Exception as error:  # noqa: BLE001 - built for another numpy or OpenCV, it fails in many ways
        _log.debug("images are converted without cv_bridge: %s", error)
        return None
    return module.CvBridge()


def rgb_by_bridge(message: Any) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB of a checked sensor_msgs/Image, or None where cv_bridge is not for it."""
    bridge = cv_bridge()
    if bridge is None or message.step != message.width * CHANNELS.get(message.encoding, -1):
        return None  # cv_bridge shears padded rows unless the padding is a whole number of pixels
    try:
        return np.ascontiguousarray(bridge.imgmsg_to_cv2(message, desired_encoding="rgb8"))
    except Exception as error:  # noqa: BLE001 - our own conversion is as good
        _log.debug("cv_bridge refused %s: %s", message.encoding, error)
        return None
