"""Pictures of the images on which decoders disagree most, as files, so that a continued run still has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from spec_vla_ros.outputs import whole

from .compare import distance_of
from .frames import ReplayFrame

SIDE = 240  # px


class Gallery:
    """Keeps the pictures of the ``count`` furthest rows in ``folder``; the file's name says how far."""

    def __init__(self, folder: Path, presets: Sequence[str], count: int) -> None:
        self._folder, self._presets, self._count = folder, presets, count
        # (bins, -index): of equally far ones the earlier stay, as in :func:`.compare.worst`.
        self._kept: list[tuple[int, int]] = sorted(
            (int(path.stem.split("_")[1]), -int(path.stem.split("_")[0])) for path in folder.glob("*_*.jpg")
        )

    def look(self, frame: ReplayFrame, picture: np.ndarray, row: Mapping[str, Any]) -> None:
        """Keep the picture of this row if it is among the furthest."""
        found = distance_of(row, self._presets)
        if found is None or (len(self._kept) == self._count and found[1] <= self._kept[0][0]):
            return
        thumbnail = Image.fromarray(picture)
        thumbnail.thumbnail((SIDE, SIDE))
        with whole(self._path(found[1], frame.index)) as partial:
            thumbnail.save(partial, format="JPEG", quality=85)
        self._kept = sorted([*self._kept, (found[1], -frame.index)])
        if len(self._kept) > self._count:
            bins, index = self._kept.pop(0)
            self._path(bins, -index).unlink(missing_ok=True)

    def pictures(self, furthest: Sequence[tuple[int, str, int]]) -> dict[int, bytes]:
        """JPEG bytes by the index of the row, of those that are there."""
        found = {}
        for index, _, bins in furthest:
            path = self._path(bins, index)
            if path.is_file():
                found[index] = path.read_bytes()
        return found

    def _path(self, bins: int, index: int) -> Path:
        return self._folder / f"{index}_{bins}.jpg"
