"""Whether the images that a camera publishes arrive, and what helps where they do not. No ROS.

A middleware that loses images says nothing about it, and nobody tells a subscriber at which rate a publisher sends. Two
things show it all the same: the driver's ``camera_info``, a small message beside every image, which gets through; and,
without one, the gaps between the stamps of those images that did arrive, which are multiples of the camera's period.
"""

from __future__ import annotations

import itertools
import statistics
from collections import deque

WINDOW = 3.0  # s that are looked back on
FEW = 0.6  # of what was sent; below it something is wrong. Auto exposure seldom halves a rate
ENOUGH = 5  # messages that say something about a rate
MOST = 1000  # messages that are remembered
FRAGMENT = 65_000  # bytes; what does not fit into one packet is lost as a whole with any of its parts

PROFILE = "config/fastdds.xml"
RELIABLY = "let it publish reliably (QoS), or JPEG with image_transport compressed"
CURES = {
    "fastrtps": "raise net.core.rmem_max to 16 MB (where a Fast DDS profile of yours gives the node shared memory: "
    "start the camera's driver with FASTRTPS_DEFAULT_PROFILES_FILE, from Kilted on FASTDDS_DEFAULT_PROFILES_FILE, "
    f"set to {PROFILE} of this package)",
    "cyclonedds": "raise net.core.rmem_max and Cyclone's SocketReceiveBufferSize",
}


class Arrivals:
    """What came of late, on one thread. Times are s on the steady clock."""

    def __init__(self) -> None:
        self._images: deque[tuple[float, float]] = deque(maxlen=MOST)  # arrival; stamp, or arrival where there is none
        self._infos: deque[float] = deque(maxlen=MOST)
        self._announced_at: float | None = None

    def image(self, now: float, stamp: float) -> None:
        """An image has arrived; ``stamp``: s of its header, 0 for a driver that does not stamp."""
        self._images.append((now, stamp or now))

    def info(self, now: float) -> None:
        """A camera_info has arrived."""
        self._infos.append(now)

    def announced(self, now: float, there: bool) -> None:
        """Whether the topic has a publisher; call it now and then. The time before one came does not count."""
        if not there:
            self._announced_at = None
        elif self._announced_at is None:
            self._announced_at = now
            self._images.clear()
            self._infos.clear()

    def loss(self, now: float) -> tuple[str, bool]:
        """What is wrong, such as "2 of some 90 images arrived in 3 s", and whether images get lost for certain.

        Empty if nothing is wrong, or it is too early. A publisher of which nothing comes may have nothing to say.
        """
        if self._announced_at is None or now - self._announced_at < WINDOW:
            return "", False
        stamps = [stamp for at, stamp in self._images if now - at <= WINDOW]
        sent = len([at for at in self._infos if now - at <= WINDOW])
        if sent < ENOUGH:
            sent = round(len(stamps) / share) if (share := _share(stamps)) else len(stamps)
        if not stamps and not sent:
            return "announced, but none arrives", False
        if len(stamps) >= FEW * sent:
            return "", False
        return f"{len(stamps)} of some {sent} images arrived in {WINDOW:.0f} s", True


def _share(stamps: list[float]) -> float | None:
    """Share of the images that arrived, by their stamps (s): short gaps are the camera's period, or some."""
    gaps = [after - before for before, after in itertools.pairwise(stamps) if after > before]
    if len(gaps) < ENOUGH - 1:
        return None
    return min(1.0, statistics.quantiles(gaps, n=5)[0] / statistics.fmean(gaps))


def cure(middleware: str, reliable: bool, size: int, certain: bool = True) -> str:
    """What helps. ``middleware``: identifier of the rmw. ``reliable``: the publisher is. ``size``: bytes or 0.

    ``certain``: whether images are known to get lost.
    """
    own = next((text for name, text in CURES.items() if name in middleware), "look at its QoS and at the network")
    steps = [own] if reliable else [own, RELIABLY]
    about = f" ({size / 1e6:.1f} MB each, {-(-size // FRAGMENT)} fragments)" if size > FRAGMENT else ""
    lost = "Images get lost" if certain else "Nothing is published, or images get lost"
    return f"{lost} on their way{about}: {'; or '.join(steps)}. docs/two_machines.md, 'Large images'."
