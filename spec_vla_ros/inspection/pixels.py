"""Whether the images of a topic show anything: a lens cap, a dead sensor, a camera that repeats one picture.

Pixels are looked at until one image shows something, and compared until two differ; with a camera that works that is
over after a few images.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from spec_vla_ros.errors import ImageError
from spec_vla_ros.image_messages import rgb_from_compressed, rgb_from_image
from spec_vla_ros.recordings.blank import blank

from .findings import Report, count_of

ENOUGH = 3  # images that are alike before anything is said


@dataclass
class Pixels:
    """What the images of one topic show. Counts are of the images that were looked at, which all show nothing."""

    black: int = 0
    uniform: int = 0
    undecided: int = 0  # that could not be converted
    shows: bool = False  # an image with a picture in it was seen
    changes: bool = False  # two images differ
    alike: int = 0
    _digest: bytes = b""

    def add(self, message: Any, compressed: bool) -> None:
        """The next usable image."""
        self._compare(message.data)
        if self.shows:
            return
        try:
            self._look((rgb_from_compressed if compressed else rgb_from_image)(message))
        except ImageError:
            self.undecided += 1

    def add_rgb(self, rgb: np.ndarray) -> None:
        """The next image, (H, W, 3) uint8, of a source that decodes by itself."""
        self._compare(rgb.tobytes())
        if not self.shows:
            self._look(rgb)

    def _compare(self, data: Any) -> None:
        if not self.changes:
            digest = hashlib.blake2b(data, digest_size=16).digest()
            self._digest = self._digest or digest
            self.changes = digest != self._digest
            self.alike += not self.changes

    def _look(self, rgb: np.ndarray) -> None:
        seen = blank(rgb)
        self.black += seen == "black"
        self.uniform += seen not in ("", "black")
        self.shows = not seen

    @property
    def nothing(self) -> str:
        """Why there is nothing to see in any image, or an empty string."""
        looked = self.black + self.uniform
        if self.shows or looked < ENOUGH or self.undecided:
            return ""
        if not self.uniform:
            return f"black in all of {count_of(looked, 'image')}"
        return f"of one colour in all of {count_of(looked, 'image')}" + (
            f", {self.black} of them black" * bool(self.black)
        )

    def judge(self, report: Report, topic: str, used: bool) -> None:
        """``used``: it is the camera, so what makes all images useless is an error."""
        if self.nothing:
            (report.error if used else report.warning)(
                f"{topic} shows nothing: it is {self.nothing}",
                "A lens cap, an unplugged sensor, a topic that nobody fills? Look at it, or choose another camera.",
            )
        elif not self.changes and self.alike >= ENOUGH:
            report.warning(
                f"{topic} shows the same picture in all of {count_of(self.alike, 'image')}, to the last bit",
                "The node would stop as soon as the arm moves (IMAGE_FROZEN): a driver that repeats its last buffer?",
            )
