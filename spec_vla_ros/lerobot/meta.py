"""What ``meta/`` of a LeRobot data set says: layout 2.x (a file per episode) and 3.0 (many episodes per file).

``meta/info.json`` names the layout, the features and the templates of all file names. Tasks and episodes are lines of
JSON in 2.x and parquet tables in 3.0, where each episode also says in which files it lies, and from which second of its
videos on. What the format is, is said by the library that writes it: huggingface/lerobot, ``src/lerobot/datasets``.
"""

from __future__ import annotations

import json
import os
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spec_vla_ros.lfs_pointer import lfs_pointer

INFO = "meta/info.json"
POINTER_BYTES = 1024  # a Git LFS pointer is shorter; larger files need not be opened to be told from one
FETCH = "fetch them (hf download --repo-type dataset, git lfs pull), or take these episodes out (lerobot-edit-dataset)"


class LeRobotError(Exception):
    """The data set cannot be read; the message says what would have to be different."""


class DataSet:
    """``version``: "2.1". ``features``: by key. ``cameras``: keys of pictures, ``depth``: of depth images, which are
    none. ``fps``: rows per second as info.json says, 0 = it does not. ``tasks``: {index: text}, empty where there is no
    such file. ``episodes``: {index: what is written about it}.
    """

    def __init__(self, path: Path) -> None:
        """Raises :class:`LeRobotError`."""
        self.path = path
        self.info = read_json(path / INFO)
        self.version = str(self.info.get("codebase_version", "")).lstrip("v")
        if self.version.split(".")[0] not in ("2", "3"):
            raise LeRobotError(
                f"{path}: LeRobot layout {self.version or 'unknown'} cannot be read; 2.x and 3.0 can (the scripts "
                "convert_dataset_* of LeRobot turn older layouts into newer ones)"
            )
        self.three = self.version.startswith("3")
        try:
            self.features: dict[str, dict[str, Any]] = dict(self.info.get("features") or {})
            self.fps = float(self.info.get("fps") or 0)
            self._chunk = max(1, int(self.info.get("chunks_size") or 1000))
            pictures = [key for key, about in self.features.items() if about.get("dtype") in ("video", "image")]
            self.depth = [key for key in pictures if _is_depth(self.features[key])]
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise LeRobotError(f"{path / INFO} has a value that cannot be: {error}") from error
        self.cameras = [key for key in pictures if key not in self.depth]
        self.tasks = self._read_tasks()
        self.episodes = self._read_episodes()

    def choose_camera(self, wanted: str = "") -> str:
        """``wanted``, or the only one there is. Raises :class:`LeRobotError` that lists them."""
        if wanted in self.cameras:
            return wanted
        if wanted or len(self.cameras) != 1:
            text = f"{wanted} is no camera" if wanted else "which camera? (--camera)"
            if wanted in self.depth:
                text = f"{wanted} holds depth images, which are not pictures"
            raise LeRobotError(f"{self.path}: {text}; cameras: {', '.join(self.cameras) or 'none'}")
        return self.cameras[0]

    def is_video(self, camera: str) -> bool:
        """Whether the pictures of ``camera`` are in videos and not in the rows."""
        return self.features[camera]["dtype"] == "video"

    def action(self) -> str:
        """Key of the actions; empty if there are none."""
        return next((key for key in ("action", "actions") if key in self.features), "")

    # -- files -------------------------------------------------------------------------------------------------------

    def data_file(self, episode: int) -> Path:
        """Where the rows of ``episode`` are. Raises :class:`LeRobotError`."""
        return self._fill("data_path", episode, "data/")

    def video_file(self, camera: str, episode: int) -> Path:
        """Where the pictures of ``episode`` are. Raises :class:`LeRobotError`."""
        return self._fill("video_path", episode, f"videos/{camera}/", camera)

    def video_start(self, camera: str, episode: int) -> float:
        """Seconds of its video before ``episode``. Raises :class:`LeRobotError`."""
        if not self.three:
            return 0.0
        name = f"videos/{camera}/from_timestamp"
        try:
            return float(self.episodes[episode][name])
        except (KeyError, TypeError, ValueError):
            raise LeRobotError(f"{self.path}: meta/episodes does not say {name} of episode {episode}") from None

    def files(self, cameras: Iterable[str] = ()) -> dict[Path, list[int]]:
        """Every file that the rows and the videos of ``cameras`` are in, and its episodes. Raises
        :class:`LeRobotError` where that is not known, as with a template that cannot be filled in.
        """
        found: dict[Path, list[int]] = {}
        videos = [camera for camera in cameras if self.is_video(camera)]
        for episode in sorted(self.episodes):
            found.setdefault(self.data_file(episode), []).append(episode)
            for camera in videos:
                found.setdefault(self.video_file(camera, episode), []).append(episode)
                self.video_start(camera, episode)
        return found

    def require_files(self, cameras: Iterable[str] = ()) -> None:
        """Raises :class:`LeRobotError` where one of :meth:`files` is not there, or is a Git LFS pointer."""
        files, missing = self.files(cameras), []
        for path in files:
            try:
                size = path.stat().st_size
            except OSError:
                missing.append(path)
                continue
            if size <= POINTER_BYTES and (pointer := lfs_pointer(path)):
                raise LeRobotError(pointer)
        if missing:
            episodes = sorted({episode for path in missing for episode in files[path]})
            raise LeRobotError(
                f"{self.path}: {len(missing)} of {len(files)} files are missing, the first is "
                f"{os.path.relpath(missing[0], self.path)}; of episodes {', '.join(map(str, episodes[:5]))}"
                f"{' ...' * (len(episodes) > 5)}: {FETCH}"
            )

    def _fill(self, name: str, episode: int, where: str, camera: str = "") -> Path:
        """The path that template ``name`` of info.json means. ``where``: of the columns about its file."""
        template = self.info.get(name)
        if not isinstance(template, str) or not template:
            raise LeRobotError(f"{self.path / INFO} has no {name}, which is needed to find {camera or 'the rows'}")
        about = self.episodes[episode]
        fields = {"episode_chunk": episode // self._chunk, "episode_index": episode, "video_key": camera}
        for number in ("chunk_index", "file_index"):
            if isinstance(about.get(where + number), int):
                fields[number] = about[where + number]
        if not camera:
            del fields["video_key"]
        try:
            used = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
            if unknown := [field for field in used if field not in fields]:
                raise LeRobotError(
                    f"{self.path / INFO}: {name} is {template!r}, but {', '.join(unknown)} is not known of episode "
                    f"{episode}; known: {', '.join(fields)}"
                )
            return self.path / template.format(**fields)
        except (ValueError, IndexError, KeyError) as error:
            raise LeRobotError(f"{self.path / INFO}: {name} is {template!r}, which is no template: {error}") from error

    # -- tables ------------------------------------------------------------------------------------------------------

    def _read_tasks(self) -> dict[int, str]:
        path = self.path / "meta" / ("tasks.parquet" if self.three else "tasks.jsonl")
        if not path.exists():
            return {}
        rows = _table(path) if self.three else _lines(path)
        # In 3.0 the text is the table's index, whose column is "task" or what the library that wrote it names an index.
        texts = [name for name in (rows[0] if rows else {}) if name != "task_index"]
        name = "task" if "task" in texts else texts[0] if len(texts) == 1 else ""
        try:
            return {int(row["task_index"]): str(row[name] or "") for row in rows}
        except (KeyError, TypeError, ValueError, OverflowError):
            raise LeRobotError(f"{path} has the columns {texts}, expected task and task_index") from None

    def _read_episodes(self) -> dict[int, dict[str, Any]]:
        if not self.three:
            where = self.path / "meta" / "episodes.jsonl"
            rows = _lines(where)
        else:
            where = self.path / "meta" / "episodes"
            rows = [row for file in sorted(where.glob("*/*.parquet")) for row in _table(file, _about_files)]
        if not rows:
            raise LeRobotError(f"{where} lists no episodes")
        try:
            return {int(row["episode_index"]): row for row in rows}
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise LeRobotError(f"{where} does not number the episodes: {error}") from error


def _about_files(column: str) -> bool:
    """Whether it is one of the columns that are needed; most of them hold statistics."""
    return column in ("episode_index", "length", "tasks") or column.startswith(("data/", "videos/"))


def _is_depth(feature: dict[str, Any]) -> bool:
    """Older versions say it of the video, newer ones of the feature."""
    about = {**(feature.get("video_info") or {}), **(feature.get("info") or {})}
    return bool(about.get("is_depth_map") or about.get("video.is_depth_map"))


def read_json(path: Path) -> dict[str, Any]:
    """An object of JSON. Raises :class:`LeRobotError`."""
    try:
        _not_a_pointer(path)
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LeRobotError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise LeRobotError(f"{path} cannot be read: expected an object, found a {type(found).__name__}")
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        _not_a_pointer(path)
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise LeRobotError(f"{path} cannot be read: {error}") from error


def _table(path: Path, wanted: Any = None) -> list[dict[str, Any]]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        _not_a_pointer(path)
        with ParquetFile(path) as file:
            names = [name for name in file.schema_arrow.names if wanted is None or wanted(name)]
            return file.read(columns=names).to_pylist()
    except (OSError, KeyError, ArrowException) as error:
        raise LeRobotError(f"{path} cannot be read: {error}") from error


def _not_a_pointer(path: Path) -> None:
    """Data sets are often cloned without their large files."""
    if pointer := lfs_pointer(path):
        raise LeRobotError(pointer)
