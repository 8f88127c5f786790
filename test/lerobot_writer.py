"""Data set folders in the layouts of LeRobot, with videos of the codecs that it writes.

The names of files, columns and fields are those of the library (huggingface/lerobot, ``src/lerobot/datasets``).
"""

import contextlib
import io
import json
import os
from fractions import Fraction

import numpy as np
import pytest


def pictures(*lengths):
    """Of episodes of these lengths, at most 12; no two are less than 10 grey levels apart on average."""
    return [[_picture(episode, frame) for frame in range(length)] for episode, length in enumerate(lengths)]


def _picture(episode, frame):
    image = np.full((96, 96, 3), (20 + 18 * frame, 60 + 40 * episode, 200 - 15 * frame), np.uint8)
    image[8 + 4 * frame : 32 + 4 * frame, 16:40] = (220, 40, 30)
    return image


def film(path, images, fps=10, codec="libx264", rate=None, options=None, first=0, pause=(0, 0)):
    """A video of ``images``; "libsvtav1" is what LeRobot writes, "libx264" what everything reads. ``rate``: not fps.
    ``first``: pictures' time before the first one; ``pause``: (before which picture, how many pictures' time).
    """
    os.environ.setdefault("SVT_LOG", "1")  # errors only; read by the encoder
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    quick = {"libsvtav1": {"preset": "8", "crf": "5", "g": "2"}, "libx264": {"preset": "ultrafast", "crf": "12"}}
    with _as_before(), av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate or fps, options=options or quick.get(codec, {}))
        height, width = images[0].shape[:2]
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, pixels in enumerate(images):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = first + number + pause[1] * (number >= pause[0])
            frame.time_base = Fraction(1, rate or fps)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


@contextlib.contextmanager
def _as_before():
    """SVT-AV1 puts a process of root into the real-time class, where nothing else on the machine gets its turn."""
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameter)


def png(pixels):
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_table(path, rows):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows), path)


def write_lerobot(
    folder, episodes, layout="v2.1", video=True, fps=10, camera="observation.images.front", codec="libx264",
    actions=None, without=(), times=None, more_cameras=(), split=1000,
):  # fmt: skip
    """``episodes``: (task, images). Layout "v3.0" joins all of them in one data file and one video. ``actions``: (N, A)
    of all rows; ``without``: columns that are left out; ``times``: s, of the rows of every episode. ``split``: episodes
    per chunk of 2.x and per data file of 3.0, whose videos hold twice as many.
    """
    three = layout.startswith("v3")
    cameras = [camera, *more_cameras]
    tasks = list(dict.fromkeys(task for task, _ in episodes))
    about = {
        "dtype": "video" if video else "image",
        "shape": [*episodes[0][1][0].shape],
        "info": {"video.codec": "av1"},
    }
    info = {
        "codebase_version": layout, "fps": fps, "chunks_size": split, "total_episodes": len(episodes),
        "total_frames": sum(len(images) for _, images in episodes),
        "features": {**dict.fromkeys(cameras, about), "action": {"dtype": "float32", "shape": [7]}},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet" if three
        else "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4" if three
        else "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }  # fmt: skip
    rows, listed, films, played = {}, [], {}, 0
    for index, (task, images) in enumerate(episodes):
        own = [
            {"episode_index": index, "frame_index": i, "task_index": tasks.index(task),
             "timestamp": times[i] if times else i / fps, "action": [0.0] * 7}
            | ({} if video else {name: {"bytes": png(pixels), "path": f"frame-{i:06d}.png"} for name in cameras})
            for i, pixels in enumerate(images)
        ]  # fmt: skip
        if actions is not None:
            for i, row in enumerate(own):
                row["action"] = [float(value) for value in actions[played + i]]
        own = [{name: value for name, value in row.items() if name not in without} for row in own]
        rows.setdefault(index // split, []).extend(own)
        shown = films.setdefault(index // (2 * split), [])
        entry = {"episode_index": index, "tasks": [task], "length": len(images)}
        if three:
            entry |= {"data/chunk_index": 0, "data/file_index": index // split}
            for name in cameras:
                entry |= {f"videos/{name}/chunk_index": 0, f"videos/{name}/file_index": index // (2 * split)}
                entry |= {f"videos/{name}/from_timestamp": len(shown) / fps}
                entry |= {f"videos/{name}/to_timestamp": (len(shown) + len(images)) / fps}
        else:
            write_table(folder / f"data/chunk-{index // split:03d}/episode_{index:06d}.parquet", own)
            for name in cameras if video else ():
                film(folder / f"videos/chunk-{index // split:03d}/{name}/episode_{index:06d}.mp4", images, fps, codec)
        listed.append(entry)
        shown += images
        played += len(images)
    meta = folder / "meta"
    meta.mkdir(parents=True, exist_ok=True)
    (meta / "info.json").write_text(json.dumps(info))
    lines = [{"task_index": index, "task": task} for index, task in enumerate(tasks)]
    if three:
        for number, part in rows.items():
            write_table(folder / f"data/chunk-000/file-{number:03d}.parquet", part)
        for name in cameras if video else ():
            for number, images in films.items():
                film(folder / f"videos/{name}/chunk-000/file-{number:03d}.mp4", images, fps, codec)
        indexed = [{"task_index": line["task_index"], "__index_level_0__": line["task"]} for line in lines]
        write_table(meta / "tasks.parquet", indexed)
        write_table(meta / "episodes/chunk-000/file-000.parquet", listed)
    else:
        for name, entries in (("tasks", lines), ("episodes", listed)):
            (meta / f"{name}.jsonl").write_text("\n".join(map(json.dumps, entries)) + "\n")
    return folder
