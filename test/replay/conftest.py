"""Small recordings, written as ``ros2 bag record`` writes them."""

import numpy as np
import pytest
from recordings import PERIOD, START, compressed_message, image_message

rosbag2 = pytest.importorskip("rosbags.rosbag2")
pytest.importorskip("mcap")


@pytest.fixture(scope="session")
def scenes():
    """(N, 112, 112, 3) views of the table top while the expert drives."""
    pytest.importorskip("mujoco")
    from spec_vla_ros.tabletop.arm import TabletopArm
    from spec_vla_ros.tabletop.expert import expert_action
    from spec_vla_ros.tabletop.tasks import TASKS, Layout

    arm = TabletopArm((112, 112))
    arm.reset(Layout.sample(3))
    views = []
    for _ in range(16):
        views.append(arm.render().copy())
        action = expert_action(arm, TASKS[0])
        arm.apply_delta(action[:6], float(action[6]))
    arm.close()
    return np.stack(views)


@pytest.fixture
def make_bag(tmp_path, scenes):
    """Write a bag; returns its folder. ``instruction``: None = none is recorded."""
    from spec_vla_ros.recordings.writer import new_typestore

    def make(name="bag", plugin="MCAP", compressed=False, frames=12, instruction="pick up the red block", extra=()):
        store, folder = new_typestore(), tmp_path / name
        kind = "CompressedImage" if compressed else "Image"
        topic = "/camera/image_raw" + ("/compressed" if compressed else "")
        with rosbag2.Writer(folder, version=9, storage_plugin=getattr(rosbag2.StoragePlugin, plugin)) as writer:
            images = writer.add_connection(topic, f"sensor_msgs/msg/{kind}", typestore=store)
            texts = writer.add_connection("/instruction", "std_msgs/msg/String", typestore=store)
            others = {topic: images, "/instruction": texts}
            for other, type_name, _, _ in extra:
                if other not in others:
                    others[other] = writer.add_connection(other, type_name, typestore=store)
            if instruction is not None:
                said = store.types["std_msgs/msg/String"](data=instruction)
                writer.write(texts, START, store.serialize_cdr(said, "std_msgs/msg/String"))
            for index in range(frames):
                ns = START + 1000 + index * PERIOD
                build = compressed_message if compressed else image_message
                message = build(store, ns, scenes[index % len(scenes)])
                writer.write(images, ns + 5_000_000, store.serialize_cdr(message, f"sensor_msgs/msg/{kind}"))
            for other, type_name, ns, build in extra:
                writer.write(others[other], ns, store.serialize_cdr(build(store), type_name))
        return folder

    return make
