"""Recordings of several files, as rosbag2 leaves them: whole, compressed, after a crash, and put together by hand."""

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import yaml
from backports import zstd
from recordings import PERIOD, START, image_message
from rosbags import rosbag2

from spec_vla_ros.recordings.writer import new_typestore

REAL = Path(__file__).parents[3] / "shared" / "real" / "bags"
IMAGE, STRING = "sensor_msgs/msg/Image", "std_msgs/msg/String"
CAMERA, SAID = "/camera/image_raw", "/instruction"
SUFFIX = {"MCAP": ".mcap", "SQLITE3": ".db3"}
PER_SPLIT = 5  # images; each split begins with an instruction of its own


def write_splits(folder, count=3, plugin="SQLITE3", name="bag_{}", metadata=True, message_zstd=False):
    """Image i shows its number in every pixel; split n says "go n". Returns the files in the order of recording."""
    folder.mkdir(parents=True)
    files = []
    for split in range(count):
        own = folder.parent / "own"  # the writer does not cope with every name of a folder
        with rosbag2.Writer(own, version=9, storage_plugin=getattr(rosbag2.StoragePlugin, plugin)) as writer:
            store = new_typestore()
            images = writer.add_connection(CAMERA, IMAGE, typestore=store)
            texts = writer.add_connection(SAID, STRING, typestore=store)
            for index in range(split * PER_SPLIT, (split + 1) * PER_SPLIT):
                ns = START + index * PERIOD
                if index == split * PER_SPLIT:
                    said = store.types[STRING](data=f"go {split}")
                    _write(writer, texts, ns - 1000, store.serialize_cdr(said, STRING), message_zstd)
                pixels = np.full((16, 16, 3), index, np.uint8)
                _write(writer, images, ns, store.serialize_cdr(image_message(store, ns, pixels), IMAGE), message_zstd)
        file = folder / (name.format(split) + SUFFIX[plugin])
        shutil.move(own / f"own{SUFFIX[plugin]}", file)
        shutil.rmtree(own)
        files.append(file)
    if metadata:
        write_metadata(folder, files, plugin, message_zstd)
    return files


def _write(writer, connection, ns, raw, packed):
    writer.write(connection, ns, zstd.compress(bytes(raw)) if packed else raw)


def write_metadata(folder, files, plugin="SQLITE3", message_zstd=False, storage=None, each=PER_SPLIT + 1):
    """``each``: messages of a file."""
    packed = any(file.suffix == ".zstd" for file in files)
    about = {
        "version": 9, "storage_identifier": plugin.lower() if storage is None else storage, "ros_distro": "jazzy",
        "relative_file_paths": [file.name for file in files], "custom_data": None,
        "duration": {"nanoseconds": 10**9}, "starting_time": {"nanoseconds_since_epoch": START},
        "message_count": each * len(files),
        "compression_format": "zstd" if packed or message_zstd else "",
        "compression_mode": "FILE" if packed else "MESSAGE" if message_zstd else "",
        "files": [{
            "path": file.name, "message_count": each, "duration": {"nanoseconds": 10**9},
            "starting_time": {"nanoseconds_since_epoch": START},
        } for file in files],
        "topics_with_message_count": [
            {"message_count": count * len(files), "topic_metadata": {
                "name": topic, "type": kind, "serialization_format": "cdr", "offered_qos_profiles": [],
                "type_description_hash": "",
            }}
            for topic, kind, count in ((CAMERA, IMAGE, each - 1), (SAID, STRING, 1))
        ],
    }  # fmt: skip
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": about}))


def pack(file):
    """As rosbag2 compresses a finished file; returns the new one."""
    packed = file.with_name(file.name + ".zstd")
    packed.write_bytes(zstd.compress(file.read_bytes()))
    file.unlink()
    return packed


def leave_log(file, after):
    """As a recorder in WAL mode that was killed leaves it: messages later than ``after`` (ns) are in the log alone."""
    with sqlite3.connect(file) as database:
        late = database.execute("SELECT * FROM messages WHERE timestamp > ?", (after,)).fetchall()
        database.execute("DELETE FROM messages WHERE timestamp > ?", (after,))
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA wal_autocheckpoint = 0")
    with database:
        database.executemany("INSERT INTO messages VALUES (?, ?, ?, ?)", late)
    copies = [shutil.copy(path, f"{path}.copy") for path in (file, file.with_name(file.name + "-wal"))]
    database.close()
    for copy in copies:
        shutil.move(copy, copy.removesuffix(".copy"))
    return len(late)


def heard(bag, **options):
    """(number in the picture, instruction in force) of every image that is used."""
    from spec_vla_ros.recordings.frames import Frames

    return [(int(f.rgb()[0, 0, 0]), f.instruction) for f in Frames(bag, CAMERA, period=0.0, **options)]


def all_of(*splits):
    return [(n, f"go {split}") for split in splits for n in range(split * PER_SPLIT, (split + 1) * PER_SPLIT)]


def change(file, query, *values):
    """Change a db3."""
    with sqlite3.connect(file) as database:
        database.execute(query, values)
    database.close()
