"""LeRobot data sets as a source of frames: layout 2.x (a file per episode) and 3.0 (many episodes per file).

``meta/info.json`` names the layout and where the files are; ``data/`` holds a row per frame with the numbers of its
episode, frame and task; pictures are in these rows or in videos beside them. Layout 3.0 says per episode in which video
it lies and from which second on (``meta/episodes/``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InstructionError
from ..file_digest import digest
from ..instruction import clean_instruction
from ..replay.layout import is_pointer, pointer_text
from .draft_sources import Shot, SourceError, SourceOptions

ROWS = 32  # of a parquet file in memory at once; each may hold a picture
COLUMNS = ("episode_index", "frame_index", "task_index")


class LeRobotSource:
    """One camera of a data set folder. Every episode of it is one, and so is every change of task within one."""

    lanes = 0

    def __init__(self, path: Path, options: SourceOptions) -> None:
        """Raises :class:`SourceError`."""
        try:
            import cv2  # noqa: F401 - said here and not in the middle
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise SourceError(f"{path}: LeRobot data sets need pip install 'spec_vla_ros[train]' ({error})") from error
        self._path, self.name, self.notes = path, path.name, []
        self._info = _json(path / "meta" / "info.json")
        version = str(self._info.get("codebase_version", "")).lstrip("v")
        if version.split(".")[0] not in ("2", "3") or "features" not in self._info:
            raise SourceError(f"{path}: LeRobot layout {version or 'unknown'} cannot be read; 2.x and 3.0 can")
        self._three = version.startswith("3")
        self._camera = self._choose_camera(options.camera)
        self._video = self._info["features"][self._camera]["dtype"] == "video"
        self._fps = float(self._info["fps"])
        self._stride = max(1, round(options.period * self._fps))
        self._given = options.instruction
        self._tasks = {index: self._clean(text, index) for index, text in self._read_tasks().items()}
        self.instructions = list(dict.fromkeys(self._tasks.values()))
        self._episodes = self._read_episodes()
        self.expected = -(-int(self._info.get("total_frames", 0)) // self._stride)

    def identity(self) -> dict[str, Any]:
        """The data set's own description of itself and what is read of it how."""
        files = [file for file in (self._path / "meta").rglob("*") if file.is_file() and "stats" not in file.name]
        return {
            "kind": "lerobot", "name": self.name, "camera": self._camera, "stride": self._stride,
            "instruction": self._given, "digest": digest(files),
        }  # fmt: skip

    def frames(self, wanted: Callable[[int], bool]) -> Iterator[Shot]:
        """See :class:`FrameSource`."""
        self.notes.clear()
        number, part, before, undecodable = -1, -1, None, 0
        video = _Video()
        for row in self._rows():
            episode, frame, task = (int(row[name]) for name in COLUMNS)
            if frame % self._stride:
                continue
            number, part = number + 1, part + ((episode, task) != before)
            before = (episode, task)
            if not wanted(number):
                continue
            if task not in self._tasks:
                raise SourceError(f"{self._path}: episode {episode} is about task {task}, which meta/ does not list")
            image = video.frame(*self._place(episode, frame)) if self._video else self._picture(row[self._camera])
            if image is None:
                undecodable += 1
                if undecodable > max(10, number // 2):
                    raise SourceError(f"{self._path}: the pictures of {self._camera} cannot be decoded{self._codec()}")
                continue
            yield Shot(number, part, image, self._tasks[task])
        video.close()
        if undecodable:
            self.notes.append(f"{self.name}: {undecodable} pictures could not be decoded and were left out")
        if number >= 0 and undecodable > number:
            raise SourceError(f"{self._path}: no picture of {self._camera} can be decoded{self._codec()}")

    def answered(self, values: np.ndarray, bins: np.ndarray) -> None:
        """A recording goes its own way."""

    # -- what meta/ says ---------------------------------------------------------------------------------------------

    def _choose_camera(self, wanted: str) -> str:
        features = self._info["features"]
        cameras = [key for key, feature in features.items() if feature.get("dtype") in ("video", "image")]
        cameras = [key for key in cameras if not (features[key].get("info") or {}).get("video.is_depth_map")]
        if wanted in cameras:
            return wanted
        if wanted or len(cameras) != 1:
            text = f"{wanted} is no camera" if wanted else "which camera? (--camera)"
            raise SourceError(f"{self._path}: {text}; cameras: {', '.join(cameras) or 'none'}")
        return cameras[0]

    def _read_tasks(self) -> dict[int, str]:
        if not self._three:
            return {row["task_index"]: row["task"] for row in _lines(self._path / "meta" / "tasks.jsonl")}
        rows = _table(self._path / "meta" / "tasks.parquet")
        # The text is the table's index, whose column is named "task" or, by the library that writes it, anything.
        texts = [name for name in (rows[0] if rows else {}) if name != "task_index"]
        if len(texts) != 1 and "task" not in texts:
            raise SourceError(f"{self._path}: meta/tasks.parquet has the columns {texts}, expected task and task_index")
        name = "task" if "task" in texts else texts[0]
        return {int(row["task_index"]): row[name] for row in rows}

    def _clean(self, text: str, index: int) -> str:
        try:
            return clean_instruction(text or self._given)
        except InstructionError as error:
            raise SourceError(f"{self._path}: task {index} is no instruction ({error}); see --instruction") from error

    def _read_episodes(self) -> dict[int, dict[str, Any]]:
        if not self._three:
            rows = _lines(self._path / "meta" / "episodes.jsonl")
        else:
            files = sorted((self._path / "meta" / "episodes").glob("*/*.parquet"))
            names = ["episode_index", "data/chunk_index", "data/file_index"]
            if self._video:
                at = f"videos/{self._camera}/"
                names += [at + "chunk_index", at + "file_index", at + "from_timestamp"]
            rows = [row for file in files for row in _table(file, names)]
        if not rows:
            raise SourceError(f"{self._path}: meta/ lists no episodes")
        return {int(row["episode_index"]): row for row in rows}

    # -- files -------------------------------------------------------------------------------------------------------

    def _rows(self) -> Iterator[dict[str, Any]]:
        """Rows of all data files in their order, some at a time."""
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        names = [*COLUMNS, *([] if self._video else [self._camera])]
        for path in dict.fromkeys(self._data_file(index) for index in sorted(self._episodes)):
            try:
                _not_a_pointer(path)
                with ParquetFile(path) as file:
                    for batch in file.iter_batches(ROWS, columns=names):
                        yield from batch.to_pylist()
            except (OSError, KeyError, ArrowException) as error:
                raise SourceError(f"{path} cannot be read: {error}") from error

    def _data_file(self, episode: int) -> Path:
        return self._path / self._info["data_path"].format(**self._numbers(episode, "data/"))

    def _numbers(self, episode: int, where: str) -> dict[str, Any]:
        """What the templates of file names are filled in with."""
        row = self._episodes.get(episode, {})
        return {
            "episode_chunk": episode // int(self._info.get("chunks_size", 1000)),
            "episode_index": episode,
            "total_episodes": int(self._info.get("total_episodes", 0)),
            "video_key": self._camera,
            "chunk_index": row.get(where + "chunk_index", 0),
            "file_index": row.get(where + "file_index", 0),
        }

    def _place(self, episode: int, frame: int) -> tuple[Path, int]:
        """The video, and the frame's place in it."""
        where = f"videos/{self._camera}/"
        path = self._path / self._info["video_path"].format(**self._numbers(episode, where))
        start = self._episodes.get(episode, {}).get(where + "from_timestamp", 0.0)
        return path, frame + round(start * self._fps)

    def _picture(self, cell: Any) -> np.ndarray | None:
        """A cell of an image column: the file's bytes, or its path where it is stored beside."""
        import cv2

        cell = cell if isinstance(cell, dict) else {"bytes": cell}
        data = cell.get("bytes")
        if data is None and cell.get("path"):
            path = self._path / cell["path"]
            _not_a_pointer(path)
            data = path.read_bytes() if path.is_file() else None
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
        return None if picture is None else np.ascontiguousarray(picture[..., ::-1])

    def _codec(self) -> str:
        codec = (self._info["features"][self._camera].get("info") or {}).get("video.codec")
        return f"; their codec is {codec}: this OpenCV may lack it, h264 always works" if codec else ""


class _Video:
    """Reads forwards; going back opens the file again. Frames in between are passed over without being converted."""

    def __init__(self) -> None:
        self._path, self._file, self._next = None, None, 0

    def frame(self, path: Path, index: int) -> np.ndarray | None:
        """Frame ``index`` of ``path`` as RGB, None where there is none."""
        import cv2

        if path != self._path:
            _not_a_pointer(path)
        if path != self._path or index < self._next:
            self.close()
            self._path, self._file, self._next = path, cv2.VideoCapture(str(path)), 0
        while self._next < index:
            self._next += 1
            if not self._file.grab():
                return None
        self._next += 1
        good, picture = self._file.read()
        return np.ascontiguousarray(picture[..., ::-1]) if good else None

    def close(self) -> None:
        """Release the file."""
        if self._file is not None:
            self._file.release()
        self._path = self._file = None


def _not_a_pointer(path: Path) -> None:
    """Data sets are often cloned without their large files."""
    if path.is_file() and is_pointer(path):
        raise SourceError(pointer_text(path))


def _json(path: Path) -> dict[str, Any]:
    try:
        _not_a_pointer(path)
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        _not_a_pointer(path)
        return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error


def _table(path: Path, columns: list[str] | None = None) -> list[dict[str, Any]]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        _not_a_pointer(path)
        with ParquetFile(path) as file:
            return file.read(columns=columns).to_pylist()
    except (OSError, KeyError, ArrowException) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
