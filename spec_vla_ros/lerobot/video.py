"""Videos, picture by picture, through PyAV: its wheel decodes AV1, which LeRobot writes and OpenCV's often cannot."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import av
import numpy as np

AHEAD = 2.0  # s; what lies further ahead is sought from the nearest key frame instead of being decoded up to
BROKEN = (av.FFmpegError, ValueError, OSError)  # what PyAV raises on a file that is damaged or no video


class VideoError(Exception):
    """The video cannot be opened or decoded."""


class Video:
    """One file. ``codec``: FFmpeg's name. ``size``: (width, height) in px. ``rate``: pictures per second. ``count``:
    pictures; ``seconds``: how long it is. As the header says; 0 = it does not.
    """

    def __init__(self, path: Path) -> None:
        """Raises :class:`VideoError`."""
        self.path, self._last, self._frames = path, None, None
        try:
            self._file = av.open(str(path))
        except BROKEN as error:
            raise VideoError(f"{path} cannot be opened: {_why(error)}") from error
        if not self._file.streams.video:
            self._file.close()
            raise VideoError(f"{path} holds no video")
        stream = self._stream = self._file.streams.video[0]
        context = stream.codec_context
        if context is None:
            self._file.close()
            raise VideoError(
                f"{path} is of a codec that this PyAV cannot decode; its wheel from PyPI decodes AV1 and h264"
            )
        self.codec, self.size = getattr(context.codec, "canonical_name", context.name), (context.width, context.height)
        self.rate = float(stream.average_rate or stream.guessed_rate or 0)
        self._begin = float((stream.start_time or 0) * stream.time_base)
        self.count = int(stream.frames or 0)
        self.seconds = float((stream.duration or 0) * stream.time_base)

    def picture(self, seconds: float) -> np.ndarray | None:
        """The picture at ``seconds`` from the beginning as (H, W, 3) uint8 RGB, None where there is none.

        Going forwards is cheap. Raises :class:`VideoError` for what cannot be decoded.
        """
        half = 0.5 / self.rate if self.rate else 0.02
        try:
            if self._last is None or not -half <= seconds - self._time() <= AHEAD:
                at = max(0.0, seconds - half) + self._begin
                self._file.seek(int(at / self._stream.time_base), stream=self._stream)
                self._frames, self._last = self._file.decode(self._stream), None
            while self._last is None or self._time() < seconds - half:
                following = next(self._frames, None)
                if following is None:
                    return None
                self._last = following if following.pts is not None else self._last
            return self._last.to_ndarray(format="rgb24") if self._time() <= seconds + half else None
        except BROKEN as error:
            self._last = None
            raise VideoError(
                f"{self.path} ({self.codec}) cannot be decoded at {seconds:.2f} s: {_why(error)}"
            ) from error

    def _time(self) -> float:
        """Of the picture that was decoded last, from the beginning."""
        return float(self._last.pts * self._stream.time_base) - self._begin

    def close(self) -> None:
        """Release the file."""
        self._last = self._frames = None
        self._file.close()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
