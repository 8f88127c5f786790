"""Small recordings of moving squares: as bags, and as data set folders in the layouts of LeRobot."""

import json

import numpy as np
import pytest

START = 1_700_000_000 * 10**9  # ns
SIZE = 96  # px


def picture(episode, frame):
    """Smooth enough for lossy codecs, and telling: the square's place says which frame it is."""
    image = np.full((SIZE, SIZE, 3), (60 + 25 * episode, 90, 120), np.uint8)
    image[8 + 4 * frame : 32 + 4 * frame, 16 + 8 * episode : 40 + 8 * episode] = (220, 40 * episode, 30)
    return image


def pictures(*lengths):
    return [[picture(episode, frame) for frame in range(length)] for episode, length in enumerate(lengths)]


def write_bag(folder, episodes, period=0.2, gap=2.0, compressed=False, spoilt=(), plugin="MCAP"):
    """``episodes``: (instruction or None = as before, images); ``spoilt``: numbers of frames that cannot be decoded."""
    rosbag2 = pytest.importorskip("rosbags.rosbag2")
    pytest.importorskip("mcap")
    import cv2

    from spec_vla_ros.demo.bag import new_typestore

    store = new_typestore()
    types, kind = store.types, "sensor_msgs/msg/" + ("CompressedImage" if compressed else "Image")

    def image_message(ns, pixels, good):
        stamp = types["builtin_interfaces/msg/Time"](sec=ns // 10**9, nanosec=ns % 10**9)
        header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera")
        if compressed:
            data = cv2.imencode(".jpg", pixels[..., ::-1])[1].reshape(-1)
            if not good:
                data[2:-2] = 0
            return types[kind](header=header, format="jpeg", data=data)
        return types[kind](
            header=header, height=SIZE, width=SIZE, encoding="rgb8" if good else "32FC1", is_bigendian=0,
            step=3 * SIZE, data=np.ascontiguousarray(pixels).reshape(-1),
        )  # fmt: skip

    with rosbag2.Writer(folder, version=9, storage_plugin=getattr(rosbag2.StoragePlugin, plugin)) as writer:
        images = writer.add_connection("/camera/image_raw" + "/compressed" * compressed, kind, typestore=store)
        texts = writer.add_connection("/instruction", "std_msgs/msg/String", typestore=store)
        ns, number = START, 0
        for instruction, frames in episodes:
            if instruction is not None:
                said = store.serialize_cdr(types["std_msgs/msg/String"](data=instruction), "std_msgs/msg/String")
                writer.write(texts, ns, said)
            for pixels in frames:
                message = image_message(ns + 1000, pixels, number not in spoilt)
                writer.write(images, ns + 5_000_000, store.serialize_cdr(message, kind))
                ns, number = ns + int(period * 1e9), number + 1
            ns += int(gap * 1e9)
    return folder


def write_lerobot(folder, episodes, layout="v2.1", video=True, fps=10, camera="observation.images.front"):
    """``episodes``: (task, images). Layout "v3.0" joins all of them in one data file and one video."""
    pa, cv2 = pytest.importorskip("pyarrow"), pytest.importorskip("cv2")
    from pyarrow import parquet

    three = layout.startswith("v3")
    tasks = list(dict.fromkeys(task for task, _ in episodes))
    info = {
        "codebase_version": layout, "fps": fps, "chunks_size": 1000, "total_episodes": len(episodes),
        "total_frames": sum(len(images) for _, images in episodes),
        "features": {camera: {"dtype": "video" if video else "image", "shape": [SIZE, SIZE, 3]},
                     "action": {"dtype": "float32", "shape": [7]}},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet" if three
        else "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4" if three
        else "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }  # fmt: skip

    def store(path, rows):
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.Table.from_pylist(rows), path)

    def film(path, images):
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, (SIZE, SIZE))
        for pixels in images:
            writer.write(np.ascontiguousarray(pixels[..., ::-1]))
        writer.release()

    rows, about, played = [], [], 0
    for index, (task, images) in enumerate(episodes):
        own = [
            {"episode_index": index, "frame_index": i, "task_index": tasks.index(task), "timestamp": i / fps}
            | ({} if video else {camera: {"bytes": cv2.imencode(".png", pixels[..., ::-1])[1].tobytes(), "path": None}})
            for i, pixels in enumerate(images)
        ]
        rows += own
        entry = {"episode_index": index, "tasks": [task], "length": len(images)}
        if three:
            entry |= {"data/chunk_index": 0, "data/file_index": 0, f"videos/{camera}/from_timestamp": played / fps}
            entry |= {f"videos/{camera}/chunk_index": 0, f"videos/{camera}/file_index": 0}
        else:
            store(folder / f"data/chunk-000/episode_{index:06d}.parquet", own)
            if video:
                film(folder / f"videos/chunk-000/{camera}/episode_{index:06d}.mp4", images)
        about.append(entry)
        played += len(images)
    meta = folder / "meta"
    meta.mkdir(parents=True, exist_ok=True)
    (meta / "info.json").write_text(json.dumps(info))
    listed = [{"task_index": index, "task": task} for index, task in enumerate(tasks)]
    if three:
        store(folder / "data/chunk-000/file-000.parquet", rows)
        film(
            folder / f"videos/{camera}/chunk-000/file-000.mp4", [pixels for _, images in episodes for pixels in images]
        )
        store(meta / "tasks.parquet", [{"task_index": t["task_index"], "__index_level_0__": t["task"]} for t in listed])
        store(meta / "episodes/chunk-000/file-000.parquet", about)
    else:
        for name, lines in (("tasks", listed), ("episodes", about)):
            (meta / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder
