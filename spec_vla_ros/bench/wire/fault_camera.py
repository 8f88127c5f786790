"""The camera of a fault campaign, which can break in many ways, and the ``/clock`` of simulated time beside it.

Pictures are cheap: noise with a bright blob at the tool's position. What is good about a picture and when it was
captured is told to the judge (:mod:`.fault_monitor`), not to the node.
"""

from __future__ import annotations

import array
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from .fault_events import Image as GoodImage

RATE, CLOCK_PERIOD = 30.0, 0.01  # Hz, s
SIMULATED_START = 10**12  # ns; far enough from zero to jump back
REMEMBERED = 0.5  # s of clock readings kept
BLOB, METRE = 4, 600.0  # px, px per m of a picture of 64 px
NOISE = 4096  # different shifts of the noise before one comes again


class Camera:
    """Publishes images at a rate. Its public attributes are its defects; :meth:`repair` takes all of them back."""

    def __init__(
        self,
        node: Any,
        make_publisher: Callable[[], Any],
        image_type: type,
        feed: Callable[[Any], None],
        size: tuple[int, int],
    ) -> None:
        """``make_publisher``: of images, called again after :meth:`vanish`. ``feed``: takes events for the judge.

        ``size``: of a camera without defects, height and width in px; at most 480 and 640.
        """
        self._node, self._make, self._feed = node, make_publisher, feed
        self._usual_size = size
        self._message = image_type(encoding="rgb8")
        self._message.header.frame_id = "camera"
        self._noise = np.random.default_rng(0).integers(0, 24, 480 * 640 * 3 + NOISE, dtype=np.uint8)
        self._frames = 0
        self._kept_at = 0.0
        self.gap = 0.0  # s, the longest between two images since it was set to zero
        self._newest = time.monotonic()
        self._publisher: Any = make_publisher()
        self._timer: Any = None
        self._simulated: int | None = None  # ns, what /clock shows
        self._offset = 0  # ns
        self._readings: deque[tuple[float, float]] = deque()  # steady s, simulated s
        self.position = np.zeros(2)  # m, of the tool
        self.repair()

    # -- defects -------------------------------------------------------------------------------------------------------

    def repair(self) -> None:
        """A camera without defects, at 30 Hz."""
        self.on, self.frozen, self.repeating, self.clock_stands = True, False, False, False
        self.shift = 0.0  # s that stamps are ahead
        self.size = self._usual_size
        self._spoil: Callable[[Any], None] | None = None
        if self._publisher is None:
            self._publisher = self._make()
        self.start(RATE)

    def start(self, rate: float) -> None:
        """Publish at ``rate`` (Hz) from now on."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        self._timer = self._node.steady_timer(1.0 / rate, self._film)

    def vanish(self) -> None:
        """Leave the graph."""
        self._node.destroy_publisher(self._publisher)
        self._publisher = None

    def spoil_with(self, change: Callable[[Any], None]) -> None:
        """Change every message before it is published."""
        self._spoil = change

    def jump(self, seconds: float) -> None:
        """Let simulated time jump."""
        self._offset += round(seconds * 1e9)
        self.tick()

    @property
    def simulated(self) -> bool:
        """Whether stamps follow ``/clock``."""
        return self._simulated is not None

    # -- time ----------------------------------------------------------------------------------------------------------

    def use_simulated_time(self, active: bool) -> None:
        """Stamp with a clock of our own, or with the system's."""
        self._simulated, self._offset = (0 if active else None), 0
        self._readings.clear()
        self.tick()

    def tick(self) -> int | None:
        """Move simulated time on; returns it in ns, None without."""
        if self._simulated is None:
            return None
        now = time.monotonic_ns()
        if not self.clock_stands:
            self._simulated = SIMULATED_START + now + self._offset
        else:  # what was lost stays lost
            self._offset = self._simulated - SIMULATED_START - now
        self._readings.append((now * 1e-9, self._simulated * 1e-9))
        while self._readings[0][0] < now * 1e-9 - REMEMBERED:
            self._readings.popleft()
        return self._simulated

    def now_ns(self) -> int:
        """What the ROS clock shows, in ns."""
        return time.time_ns() if self._simulated is None else self._simulated

    def clock_since(self, since: float) -> tuple[float, float]:
        """Lowest and highest reading of the ROS clock in s from steady time ``since`` until now."""
        if self._simulated is None:
            wall = time.time()
            return wall - (time.monotonic() - since), wall
        readings = [value for at, value in self._readings if at >= since - 0.05] or [self._simulated * 1e-9]
        return min(readings), max(readings)

    # -- pictures ------------------------------------------------------------------------------------------------------

    def _film(self) -> None:
        self._node.turned()
        self._node.publish_clock()
        if not self.on or self._publisher is None:
            return
        now, message = time.monotonic(), self._message
        if not self.repeating:
            message.header.stamp = self._node.stamp(self.now_ns() + round(self.shift * 1e9))
            self._kept_at = now + self.shift
        if not (self.frozen or self.repeating) or (message.height, message.width) != self.size:
            self._draw(message)
        sent, good = message, self.shift <= 0
        if self._spoil is not None:
            sent, good = self._copy(message), False
            self._spoil(sent)
        if good:  # before it leaves, so that the judge has it when the node answers
            self._feed(GoodImage(now, self._kept_at))
            if self._kept_at > self._newest:
                self.gap, self._newest = max(self.gap, self._kept_at - self._newest), self._kept_at
        self._publisher.publish(sent)

    def _draw(self, message: Any) -> None:
        height, width = self.size
        self._frames += 1
        shift = self._frames * 1009 % NOISE
        picture = self._noise[shift : shift + height * width * 3].reshape(height, width, 3).copy()
        scale = METRE * height / 64
        row, column = (int(np.clip(side / 2 + x * scale, 0, side - BLOB))
                       for side, x in zip((height, width), self.position, strict=True))  # fmt: skip
        picture[row : row + BLOB, column : column + BLOB] = 250
        message.height, message.width, message.step = height, width, 3 * width
        data = array.array("B")
        data.frombytes(picture.tobytes())
        message.data = data

    def _copy(self, message: Any) -> Any:
        copy = type(message)(encoding=message.encoding, height=message.height, width=message.width, step=message.step)
        copy.header, copy.data = message.header, message.data
        return copy
