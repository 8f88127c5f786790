"""What the recordings of these tests are made of."""

from pathlib import Path

import numpy as np

MODEL = Path(__file__).parents[2] / "models" / "tabletop"
START = 1_700_000_000 * 10**9  # ns
PERIOD = 10**8  # ns between two images


def stamp(store, ns):
    return store.types["builtin_interfaces/msg/Time"](sec=ns // 10**9, nanosec=ns % 10**9)


def header(store, ns, frame="camera"):
    return store.types["std_msgs/msg/Header"](stamp=stamp(store, ns), frame_id=frame)


def image_message(store, ns, pixels):
    height, width = pixels.shape[:2]
    return store.types["sensor_msgs/msg/Image"](
        header=header(store, ns), height=height, width=width, encoding="rgb8", is_bigendian=0, step=3 * width,
        data=np.ascontiguousarray(pixels).reshape(-1),
    )  # fmt: skip


def compressed_message(store, ns, pixels):
    import cv2

    data = cv2.imencode(".jpg", pixels[..., ::-1])[1].reshape(-1)
    return store.types["sensor_msgs/msg/CompressedImage"](header=header(store, ns), format="jpeg", data=data)
