"""Small recordings of moving squares, as bags; lerobot_writer.py makes data set folders of the same pictures."""

import numpy as np
import pytest

from spec_vla_ros.training.draft_sources import open_source
from spec_vla_ros.training.frame_source import SourceOptions

ALL = SourceOptions(period=0.0)
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

    from spec_vla_ros.recordings.writer import new_typestore

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


def everything(number):
    return True


def read(path, options=ALL, wanted=everything):
    source = open_source(str(path), options, None)
    return source, list(source.frames(wanted))


def outline(shots):
    return [(shot.number, shot.episode, shot.instruction) for shot in shots]
