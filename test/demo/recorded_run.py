"""A small run as it would have been recorded: two rows, two episodes each, with images, statistics and velocities."""

from dataclasses import dataclass, field

import numpy as np

from spec_vla_ros.demo.summary import EpisodeRecord, Setting
from spec_vla_ros.recordings.recording import TOPICS, Recording
from spec_vla_ros.recordings.writer import typestore

START = 1_800_000_000 * 10**9  # ns
MS = 10**6  # ns
SETTINGS = (Setting("autoregressive"), Setting("speculative", ("hold", "refine"), 9, 6))


@dataclass
class Run:
    """What the runner would hand over."""

    recording: Recording = field(default_factory=Recording)
    episodes: list[EpisodeRecord] = field(default_factory=list)

    def put(self, name, ns, message):
        topic = next(topic for topic in TOPICS if topic.name == name)
        self.recording.add(topic, ns, bytes(typestore().serialize_cdr(message, topic.type)))


def message(kind, **fields):
    """A message with the given fields and zeros elsewhere."""
    types = typestore().types
    return types[kind](**fields)


def header(ns, frame="base_link"):
    stamp = message("builtin_interfaces/msg/Time", sec=ns // 10**9, nanosec=ns % 10**9)
    return message("std_msgs/msg/Header", stamp=stamp, frame_id=frame)


def image(ns, size=96):
    pixels = np.full((size, size, 3), (ns // (100 * MS)) % 200, dtype=np.uint8)
    return message(
        "sensor_msgs/msg/Image", header=header(ns, "camera"), height=size, width=size, encoding="rgb8", is_bigendian=0,
        step=3 * size, data=pixels.ravel(),
    )  # fmt: skip


def twist(ns, x):
    def vector(x):
        return message("geometry_msgs/msg/Vector3", x=x, y=0.0, z=0.0)

    velocity = message("geometry_msgs/msg/Twist", linear=vector(x), angular=vector(0.0))
    return message("geometry_msgs/msg/TwistStamped", header=header(ns), twist=velocity)


def stats(ns, setting, passes, inference_ms):
    speculative = setting.decoder == "speculative"
    source = ["verifier", "hold", "hold", "refine", "verifier", "hold", "hold"] if speculative else ["verifier"] * 7
    return message(
        "spec_vla_ros/msg/DecodeStats", header=header(ns), sequence=1, decoder=setting.decoder,
        drafters=list(setting.drafters), acceptance_radius=np.full(7, 9, dtype=np.uint32), draft_width=1,
        acceptance_radius_si=np.zeros(0, dtype=np.float32), draft_depth=6, emit="verifier", verifier_passes=passes,
        drafted_per_pass=np.zeros(passes, dtype=np.uint32), accepted_per_pass=np.zeros(passes, dtype=np.uint32),
        drafter_per_pass=[""] * passes, token_source=source, max_accepted_distance=3, preprocess_ms=0.1, vision_ms=2.0,
        prefill_ms=3.0, decode_ms=4.0, total_ms=inference_ms - 0.5, inference_ms=inference_ms, image_age_ms=30.0,
        frames_skipped=2, pacing="blocking", late_ms=100.0, standstill_share=0.3,
    )  # fmt: skip


def record():
    """The run."""
    run, now = Run(), START
    for row, setting in enumerate(SETTINGS):
        for index in range(2):
            began = now
            for step in range(3):
                at = began + step * 300 * MS
                passes = 7 if row == 0 else 2 + step % 2
                inference = 20.0 + row + step
                ready = at + round((inference + 4.0) * MS)  # 4 ms of overhead
                run.put("/delta_twist_cmds", at + 1 * MS, twist(at + 1 * MS, 0.0))
                run.put("/delta_twist_cmds", ready, twist(ready, 0.05))
                run.put("/act/decode_stats", ready + MS, stats(at, setting, passes, inference))
                for k in range(9):
                    run.put("/image", at + k * 33 * MS, image(at + k * 33 * MS))
            now = began + 900 * MS
            run.episodes.append(
                EpisodeRecord(row, index, 10 + index, "touch the red block", index == 0, 0.9, began, now)
            )
            now += 500 * MS
    return run
