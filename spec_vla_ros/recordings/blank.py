"""Whether a picture shows anything: a lens cap, an unplugged sensor and a topic that nobody fills do not."""

from __future__ import annotations

import numpy as np

CONTRAST = 8  # of 255 between the first and the last percentile of a channel; a uniform image has noise
BLACK = 20  # of 255 for the last percentile; 16 is black in video, and a covered sensor has noise
LOOKED_AT = 40_000  # pixels of an image, about


def blank(rgb: np.ndarray) -> str:
    """Of an image (H, W, 3) uint8 that shows nothing: "black" or "of one colour"; else an empty string."""
    step = max(1, int((rgb.shape[0] * rgb.shape[1] / LOOKED_AT) ** 0.5))
    low, high = np.percentile(rgb[::step, ::step].reshape(-1, 3), [1, 99], axis=0)
    if high.max() <= BLACK:
        return "black"
    return "of one colour" if (high - low).max() <= CONTRAST else ""
