"""Pictures of the moments that the report shows, taken from the recording once it is known which they are."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable
from contextlib import suppress

from PIL import Image

from spec_vla_ros.errors import ImageError
from spec_vla_ros.recordings.frames import ReplayFrame

SIDE = 240  # px


def pictures(frames: Iterable[ReplayFrame], wanted: Collection[int]) -> dict[int, bytes]:
    """JPEG bytes by index of those of ``wanted`` that can be read; reads no further than the last of them.

    ``frames``: from the first one on. Only the wanted ones are converted.
    """
    found, last = {}, max(wanted, default=-1)
    if last < 0:
        return found
    for frame in frames:
        if frame.index in wanted:
            with suppress(ImageError):  # its row says it
                found[frame.index] = _thumbnail(frame)
        if frame.index >= last:
            break
    return found


def _thumbnail(frame: ReplayFrame) -> bytes:
    picture, stream = Image.fromarray(frame.rgb()), io.BytesIO()
    picture.thumbnail((SIDE, SIDE))
    picture.save(stream, format="JPEG", quality=85)
    return stream.getvalue()
