"""Messages with a value in every field, made in the same way on both runtimes.

With a ROS 2 Jazzy sourced, ``python filled.py > data/jazzy.json`` writes what the real rclpy sends for them, and the
type hashes of all installed interfaces. The tests compare the embedded runtime with that file.
"""

import importlib
import itertools
import json
import os
import re
import sys
from pathlib import Path

NAMES = [
    "builtin_interfaces/Duration", "builtin_interfaces/Time", "diagnostic_msgs/DiagnosticArray",
    "geometry_msgs/Pose", "geometry_msgs/PoseWithCovarianceStamped", "geometry_msgs/TransformStamped",
    "geometry_msgs/TwistStamped", "lifecycle_msgs/TransitionEvent", "lifecycle_msgs/TransitionDescription",
    "rcl_interfaces/ListParametersResult", "rcl_interfaces/Log", "rcl_interfaces/Parameter",
    "rcl_interfaces/ParameterDescriptor", "rcl_interfaces/ParameterEvent", "rcl_interfaces/SetParametersResult",
    "rosgraph_msgs/Clock", "sensor_msgs/CameraInfo", "sensor_msgs/CompressedImage", "sensor_msgs/Image",
    "sensor_msgs/Imu", "sensor_msgs/JointState", "sensor_msgs/Joy", "sensor_msgs/LaserScan", "sensor_msgs/NavSatFix",
    "sensor_msgs/PointCloud2", "std_msgs/Bool", "std_msgs/Byte", "std_msgs/ByteMultiArray", "std_msgs/Char",
    "std_msgs/Empty", "std_msgs/Float64", "std_msgs/Header", "std_msgs/Int64MultiArray", "std_msgs/String",
    "std_msgs/UInt8MultiArray", "trajectory_msgs/JointTrajectory",
]  # fmt: skip


def message_class(name):
    package, short = name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), short)


def fill(cls, numbers=None):
    """A message of ``cls`` with counted values; sequences have one to three elements."""
    numbers = numbers or itertools.count(1)
    return cls(**{field: value(text, numbers) for field, text in cls.get_fields_and_field_types().items()})


def value(text, numbers):
    if found := re.fullmatch(r"sequence<(.+?)(?:, (\d+))?>", text):
        count = 1 + next(numbers) % 3
        return [value(found.group(1), numbers) for _ in range(min(count, int(found.group(2) or 3)))]
    if found := re.fullmatch(r"(.+)\[(\d+)\]", text):
        return [value(found.group(1), numbers) for _ in range(int(found.group(2)))]
    if "/" in text:
        return fill(message_class(text), numbers)
    number = next(numbers)
    if text.startswith("string"):
        return "ä" * (number % 4)
    if text == "boolean":
        return bool(number % 2)
    if text == "octet":
        return bytes([number % 256])
    if text in ("float", "double"):
        return number * 0.25
    return number % 100 if text.startswith("uint") else number % 100 - 50


def hashes():
    found = {}
    for prefix in os.environ["AMENT_PREFIX_PATH"].split(os.pathsep):
        for path in sorted(Path(prefix, "share").glob("*/*/*.json")):
            for entry in json.loads(path.read_text()).get("type_hashes", []):
                if "/action/" not in entry["type_name"]:
                    found[entry["type_name"]] = entry["hash_string"].removeprefix("RIHS01_")
    return found


def main():
    from rclpy.serialization import serialize_message

    wire = {name: serialize_message(fill(message_class(name))).hex() for name in NAMES}
    json.dump({"bytes": wire, "hashes": hashes()}, sys.stdout, indent=1, sort_keys=True)


if __name__ == "__main__":
    main()
