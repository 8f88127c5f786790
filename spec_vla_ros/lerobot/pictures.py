"""The picture that belongs to a row, from a video or from the row itself.

A video holds one picture per row of an episode. Where neither its rate nor the number of its pictures agrees with that,
which picture belongs to which row is not known, and any answer would be a wrong one that nobody sees.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pyarrow import ArrowException
from pyarrow.parquet import ParquetFile

from spec_vla_ros.lfs_pointer import lfs_pointer

from .meta import DataSet, LeRobotError
from .rows import Rows, require_columns
from .video import Video, VideoError

ROWS = 32  # of a parquet file in memory at once; each may hold a picture
SAME_RATE = 0.1  # of the rate; clocks of recordings drift, an encoder writes what it was told


class PictureError(Exception):
    """One row has no picture. ``kind``: the same text for all of a kind."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Pictures:
    """Of one camera, best asked for in the order of the rows."""

    def __init__(self, data: DataSet, camera: str, rows: Rows) -> None:
        self._data, self._camera, self._rows = data, camera, rows
        self._video: Video | None = None
        self._of_videos = videos_of(data, camera, rows) if data.is_video(camera) else {}

    def cells(self) -> Iterator[Any]:
        """What the rows hold of the camera, in their order: a picture not yet decoded, None where it is in a video."""
        if self._data.is_video(self._camera):
            yield from (None for _ in range(len(self._rows)))
            return
        for path in self._rows.files:
            yield from self._cells(path)

    def some(self, wanted: list[int]) -> Iterator[tuple[int, Any]]:
        """Rows of ``wanted``, which is in order, each with its cell; files without any of them are not opened."""
        if self._data.is_video(self._camera):
            yield from ((row, None) for row in wanted)
            return
        begin = 0
        for path, count in zip(self._rows.files, self._rows.counts, strict=True):
            inside = {row - begin for row in wanted if begin <= row < begin + count}
            if inside:
                for place, cell in enumerate(itertools.islice(self._cells(path), max(inside) + 1)):
                    if place in inside:
                        yield begin + place, cell
            begin += count

    def _cells(self, path: Path) -> Iterator[Any]:
        try:
            with ParquetFile(path) as file:
                require_columns(path, file, [self._camera])
                for batch in file.iter_batches(ROWS, columns=[self._camera]):
                    yield from batch.column(0)
        except (OSError, KeyError, ArrowException) as error:
            raise LeRobotError(f"{path} cannot be read: {error}") from error

    def picture(self, row: int, cell: Any) -> np.ndarray:
        """(H, W, 3) uint8 RGB of ``row``, whose :meth:`cells` is ``cell``. Raises :class:`PictureError` where this one
        has none, :class:`LeRobotError` where no other will have one either.
        """
        episode, frame = int(self._rows.episode[row]), int(self._rows.frame[row])
        if not self._data.is_video(self._camera):
            return self._of_cell(cell.as_py(), episode, frame)
        path = self._data.video_file(self._camera, episode)
        try:
            video = self.video(path)
            number = frame
            if self._data.three:
                number += video.number_at(self._data.video_start(self._camera, episode))
            picture = video.picture(number)
        except VideoError as error:
            raise PictureError("the video cannot be decoded", str(error)) from error
        if picture is None:
            raise PictureError("the video has no picture for the row", f"{path} ends before picture {number}")
        return picture

    def video(self, path: Path) -> Video:
        """``path``, open. Raises :class:`VideoError`, :class:`LeRobotError`."""
        if self._video is None or self._video.path != path:
            self.close()
            video = Video(path)
            if why := rate_problem(video, self._rows, self._of_videos[path]):
                video.close()
                raise LeRobotError(why)
            self._video = video
        return self._video

    def close(self) -> None:
        """Release the video."""
        if self._video is not None:
            self._video.close()
        self._video = None

    def _of_cell(self, cell: Any, episode: int, frame: int) -> np.ndarray:
        """The file's bytes, or its path where it is stored beside."""
        cell = cell if isinstance(cell, dict) else {"bytes": cell}
        data, where = cell.get("bytes"), f"frame {frame} of episode {episode}"
        if data is None and cell.get("path"):
            path = self._data.path / str(cell["path"])
            if not path.is_file():
                raise PictureError("the file of the picture is missing", f"{path} is missing")
            if pointer := lfs_pointer(path):
                raise LeRobotError(pointer)
            data, where = path.read_bytes(), str(path)
        if not data or not isinstance(data, bytes):
            raise PictureError("the row holds no picture", f"{where} has none")
        try:
            with Image.open(io.BytesIO(data)) as picture:
                return np.ascontiguousarray(picture.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise PictureError("the picture cannot be decoded", f"{where}: {error}") from error


def videos_of(data: DataSet, camera: str, rows: Rows) -> dict[Path, list[int]]:
    """Of each video, how many pictures each of its episodes has."""
    episodes, place = np.unique(rows.episode, return_inverse=True)
    last = np.zeros(len(episodes), np.int64)
    np.maximum.at(last, place, rows.frame)
    found: dict[Path, list[int]] = {}
    for episode, frame in zip(episodes.tolist(), last.tolist(), strict=True):
        found.setdefault(data.video_file(camera, episode), []).append(frame + 1)
    return found


def rate_problem(video: Video, rows: Rows, of_video: list[int]) -> str:
    """Why it is not known which picture of ``video`` belongs to which row; empty if it is. ``of_video``: see
    :func:`videos_of`.
    """
    if video.count == sum(of_video) or abs(video.rate * rows.interval - 1) <= SAME_RATE:
        return ""
    return (
        f"{video.path} has {video.count} pictures at {video.rate:.2f} per second, the rows come at {rows.rate:.2f}: "
        "which picture belongs to which row is not known; write the data set anew with one picture per row"
    )
