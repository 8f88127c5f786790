"""Videos, picture by picture, through PyAV: its wheel decodes AV1, which LeRobot writes and OpenCV's often cannot.

Pictures are counted and not computed from a rate: the times of all of them are read first, which needs no decoding, so
that rates that are almost 30, pauses and concatenated files do not lead to the neighbour of the picture that is meant.
"""

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
    """One file. ``codec``: FFmpeg's name. ``size``: (width, height) in px. ``rate``: pictures per second; ``count``:
    pictures. As the header says; 0 = it does not.
    """

    def __init__(self, path: Path) -> None:
        """Raises :class:`VideoError`."""
        self.path, self._last, self._frames, self._times = path, None, None, None
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
        self.count = int(stream.frames or 0)

    def number_at(self, seconds: float) -> int:
        """Number of the picture that begins at ``seconds``, to half an interval. Raises :class:`VideoError`."""
        times = self._read_times()
        half = np.median(np.diff(times)) / 2 if len(times) > 1 else 0
        return int(np.searchsorted(times, seconds / float(self._stream.time_base) - half))

    def picture(self, number: int) -> np.ndarray | None:
        """Picture ``number``, from 0, as (H, W, 3) uint8 RGB; None where there are not so many. Going forwards is
        cheap. Raises :class:`VideoError` for what cannot be decoded.
        """
        times = self._read_times()
        if number >= len(times):
            return None
        wanted = int(times[number])
        try:
            if self._last is None or not 0 <= (wanted - self._last.pts) * self._stream.time_base <= AHEAD:
                self._file.seek(wanted, stream=self._stream)
                self._frames, self._last = self._file.decode(self._stream), None
            while self._last is None or self._last.pts < wanted:
                self._last = next(frame for frame in self._frames if frame.pts is not None)
            if self._last.pts == wanted:
                return self._last.to_ndarray(format="rgb24")
            why = "it was left out"
        except BROKEN as error:
            why = _why(error)
        except StopIteration:
            why = "the video ends before it"
        self._last = None
        raise VideoError(f"{self.path} ({self.codec}): picture {number} cannot be decoded: {why}")

    def _read_times(self) -> np.ndarray:
        """When each picture is shown, in ticks of the stream's time base, in this order."""
        if self._times is None:
            try:
                packets = [packet for packet in self._file.demux(self._stream) if packet.pts is not None]
            except BROKEN as error:
                raise VideoError(f"{self.path} ({self.codec}) cannot be read: {_why(error)}") from error
            shown = [packet.pts for packet in packets if not getattr(packet, "is_discard", False)]
            self._times = np.sort(np.array(shown, np.int64))
        return self._times

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
