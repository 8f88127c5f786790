"""LeRobot data sets as a source of frames: layout 2.x and 3.0, whatever codec their videos are in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InstructionError
from ..file_digest import digest
from ..instruction import clean_instruction
from .frame_source import Shot, SourceError, SourceOptions


class LeRobotSource:
    """One camera of a data set folder. Every episode of it is one, and so is every change of task within one."""

    lanes = 0

    def __init__(self, path: Path, options: SourceOptions) -> None:
        """Everything but the pictures themselves is checked. Raises :class:`SourceError`."""
        try:
            from ..lerobot.meta import DataSet, LeRobotError
            from ..lerobot.pictures import PictureError, Pictures
            from ..lerobot.rows import read_rows
        except ImportError as error:
            raise SourceError(f"{path}: LeRobot data sets need pip install 'spec_vla_ros[train]' ({error})") from error
        self._unusable, self._no_picture, self._pictures = LeRobotError, PictureError, Pictures
        self._path, self.name, self.notes = path, path.name, []
        try:
            self._data = DataSet(path)
            self.camera = self._data.choose_camera(options.camera)
            self._data.require_files([self.camera])
            in_rows = [] if self._data.is_video(self.camera) else [self.camera]
            self._rows = read_rows(self._data, in_rows)
        except LeRobotError as error:
            raise SourceError(str(error)) from error
        self._stride = max(1, round(options.period * self._rows.rate))
        self._given = options.instruction
        used = np.unique(self._rows.task).tolist()
        self._tasks = {index: self._clean(self._data.tasks.get(index, ""), index) for index in used}
        self.instructions = list(dict.fromkeys(self._tasks.values()))
        self.expected = int(np.count_nonzero(self._rows.frame % self._stride == 0))

    def identity(self) -> dict[str, Any]:
        """The data set's own description of itself and what is read of it how."""
        files = [file for file in (self._path / "meta").rglob("*") if file.is_file() and "stats" not in file.name]
        return {
            "kind": "lerobot", "name": self.name, "camera": self.camera, "stride": self._stride,
            "instruction": self._given, "digest": digest(files),
            "decoder": "av" if self._data.is_video(self.camera) else "pillow",  # another one rounds otherwise
        }  # fmt: skip

    def frames(self, wanted: Callable[[int], bool]) -> Iterator[Shot]:
        """See :class:`FrameSource`."""
        self.notes[:] = self._remarks()
        left_out: Counter[str] = Counter()
        first: dict[str, str] = {}
        pictures = self._pictures(self._data, self.camera, self._rows)
        rows, number, part, before, used = self._rows, -1, -1, None, 0
        try:
            for row, cell in enumerate(pictures.cells()):
                if rows.frame[row] % self._stride:
                    continue
                episode, task = int(rows.episode[row]), int(rows.task[row])
                number, part = number + 1, part + ((episode, task) != before)
                before = (episode, task)
                if not wanted(number):
                    continue
                try:
                    image = pictures.picture(row, cell)
                except self._no_picture as error:
                    left_out[error.kind] += 1
                    first.setdefault(error.kind, str(error))
                    if left_out.total() > max(10, self.expected // 2):
                        raise SourceError(self._hopeless(first)) from error
                    continue
                used += 1
                yield Shot(number, part, image, self._tasks[task])
        except self._unusable as error:
            raise SourceError(str(error)) from error
        finally:
            pictures.close()
        self.notes += [
            f"{self.name}: {count} pictures were left out: {kind} (first: {first[kind]})"
            for kind, count in left_out.items()
        ]
        if left_out.total() > used:
            raise SourceError(self._hopeless(first))

    def answered(self, values: np.ndarray, bins: np.ndarray) -> None:
        """A recording goes its own way."""

    def _hopeless(self, first: dict[str, str]) -> str:
        return f"{self._path}: too few pictures of {self.camera} can be used: {'; '.join(first.values())}"

    def _remarks(self) -> list[str]:
        """What the data set says of itself that is not so."""
        rows, data, found = self._rows, self._data, []
        if rows.absent:
            shown = ", ".join(map(str, rows.absent[:5])) + " ..." * (len(rows.absent) > 5)
            found.append(f"{self.name}: no row is of episodes {shown}, which meta/ lists")
        if rows.differs(data.fps):
            found.append(
                f"{self.name}: meta/info.json says {data.fps:g} frames per second, by the median of the timestamps it "
                f"is {rows.rate:.4g}, which was used"
            )
        return found

    def _clean(self, text: str, index: int) -> str:
        try:
            return clean_instruction(text or self._given)
        except InstructionError as error:
            raise SourceError(f"{self._path}: task {index} is no instruction ({error}); see --instruction") from error
