"""Files of recorded actions, as these tests need them."""

import numpy as np

from spec_vla_ros.recordings.writer import new_typestore, whole_bag

ACTION, START = "spec_vla_ros/msg/DeltaAction", 1_700_000_000 * 10**9


def ids(*bins):
    """(N, A) ids of rows of bins."""
    return 31999 - np.array(bins)


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def delta_actions(path, rows, topic="/act/action", topics=1, with_tokens=True, with_bins=True):
    """A bag of DeltaActions. ``rows``: (seconds, instruction, bins) or those and sequence. Each step lasts 0.2 s."""
    store = new_typestore()
    with whole_bag(path) as writer:
        connections = [
            writer.add_connection(topic if i == 0 else f"/other_{i}/action", ACTION, typestore=store)
            for i in range(topics)
        ]
        for number, (seconds, instruction, bins, *sequence) in enumerate(rows):
            stamp = START + round(seconds * 1e9)
            time = store.types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
            message = store.types[ACTION](
                header=store.types["std_msgs/msg/Header"](stamp=time, frame_id="base_link"),
                sequence=sequence[0] if sequence else number + 1,
                delta=np.resize(np.array([*bins, 0], np.float32), 6) / 1000,
                gripper=float(bins[-1:] == [254]),
                step_dt=0.2,
                action_scale=1.0,
                limit_factor=1.0,
                commanded=True,
                instruction=instruction,
                tokens=(31999 - np.array(bins, np.int32)) if with_tokens else np.zeros(0, np.int32),
                bins=np.array(bins, np.int32) if with_bins else np.zeros(0, np.int32),
                step=np.zeros(6, np.float32),
                unseen=np.zeros(6, np.float32),
                compensation="none",
            )
            for connection in connections:
                writer.write(connection, stamp, store.serialize_cdr(message, ACTION))
    return path


def said_only(path):
    """A bag in which nobody acts."""
    store, kind = new_typestore(), "std_msgs/msg/String"
    with whole_bag(path) as writer:
        connection = writer.add_connection("/instruction", kind, typestore=store)
        writer.write(connection, START, store.serialize_cdr(store.types[kind](data="wave"), kind))
    return path
