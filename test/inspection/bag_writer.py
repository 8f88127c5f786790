"""Small recordings with whatever a test wants to be wrong with them."""

from __future__ import annotations

import cv2
import numpy as np
from rosbags import rosbag2

from spec_vla_ros.recordings.writer import new_typestore

START = 1_700_000_000 * 10**9  # ns
CAMERA, INSTRUCTION = "/camera/image_raw", "/instruction"
CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1, "16UC1": 2, "yuv444": 3}


class BagWriter:
    """Messages are added at seconds from the beginning and written at the end."""

    def __init__(self):
        self.store = new_typestore()
        self.messages = []

    def add(self, topic, kind, at, message):
        self.messages.append((topic, kind, START + round(at * 1e9), message))

    def make(self, kind, **fields):
        return self.store.types[kind](**fields)

    def header(self, at):
        """``at``: s from the beginning; None = a stamp of zero."""
        ns = 0 if at is None else START + round(at * 1e9)
        stamp = self.make("builtin_interfaces/msg/Time", sec=ns // 10**9, nanosec=ns % 10**9)
        return self.make("std_msgs/msg/Header", stamp=stamp, frame_id="camera")

    def image(self, at, stamp=0.0, topic=CAMERA, encoding="rgb8", size=(160, 120), drop=0, fill=None):
        """``stamp``: s by which it differs from ``at``, None = zero. ``drop``: bytes that are missing at the end.

        ``fill``: the value of all bytes; None = a picture with contrast, never the same one.
        """
        width, height = size
        step = width * CHANNELS[encoding]
        data = np.full(step * height - drop, fill or 0, dtype=np.uint8)
        if fill is None:
            data += np.arange(len(data), dtype=np.uint8) + np.uint8(len(self.messages) % 256)
        header = self.header(None if stamp is None else at + stamp)
        message = self.make(
            "sensor_msgs/msg/Image", header=header, height=height, width=width, encoding=encoding, is_bigendian=0,
            step=step, data=data,
        )  # fmt: skip
        self.add(topic, "sensor_msgs/msg/Image", at, message)

    def images(self, count=20, rate=10.0, begin=0.0, **more):
        for index in range(count):
            self.image(begin + index / rate, **more)

    def jpeg(self, at, size=(160, 120), topic=CAMERA + "/compressed", keep=1.0, form="jpeg", fill=None):
        """``keep``: share of the bytes that is left. ``fill``: as above."""
        pixels = np.full((size[1], size[0], 3), fill or 0, dtype=np.uint8)
        if fill is None:
            pixels += np.arange(size[0], dtype=np.uint8)[:, None] + np.uint8(len(self.messages) % 256)
        data = cv2.imencode(".jpg", pixels)[1].reshape(-1)
        data = data[: int(keep * len(data))]
        kind = "sensor_msgs/msg/CompressedImage"
        self.add(topic, kind, at, self.make(kind, header=self.header(at), format=form, data=data))

    def say(self, text, at=-0.01, topic=INSTRUCTION):
        self.add(topic, "std_msgs/msg/String", at, self.make("std_msgs/msg/String", data=text))

    def clock(self, at, seconds):
        stamp = self.make("builtin_interfaces/msg/Time", sec=int(seconds), nanosec=0)
        self.add("/clock", "rosgraph_msgs/msg/Clock", at, self.make("rosgraph_msgs/msg/Clock", clock=stamp))

    def action(self, at, bins, delta):
        message = self.make(
            "spec_vla_ros/msg/DeltaAction", header=self.header(at), sequence=1, delta=np.float32(delta), gripper=1.0,
            step_dt=0.2, action_scale=1.0, limit_factor=1.0, commanded=True, instruction="", tokens=np.int32([0] * 7),
            bins=np.int32(bins), step=np.zeros(6, np.float32), unseen=np.zeros(6, np.float32), compensation="none",
        )  # fmt: skip
        self.add("/act/action", "spec_vla_ros/msg/DeltaAction", at, message)

    def twist(self, at, topic="/servo_node/delta_twist_cmds"):
        vector = self.store.types["geometry_msgs/msg/Vector3"](x=0.1, y=0.0, z=0.0)
        motion = self.make("geometry_msgs/msg/Twist", linear=vector, angular=vector)
        kind = "geometry_msgs/msg/TwistStamped"
        self.add(topic, kind, at, self.make(kind, header=self.header(at), twist=motion))

    def write(self, folder, plugin="MCAP"):
        with rosbag2.Writer(folder, version=9, storage_plugin=getattr(rosbag2.StoragePlugin, plugin)) as writer:
            made = {}
            for topic, kind, ns, message in sorted(self.messages, key=lambda entry: entry[2]):
                if topic not in made:
                    made[topic] = writer.add_connection(topic, kind, typestore=self.store)
                writer.write(made[topic], ns, self.store.serialize_cdr(message, kind))
        return folder
