"""Type hashes, bytes on the wire and the strictness of message classes, against values from a real Jazzy."""

import array
import copy
import struct

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Quaternion, TwistWithCovariance
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image, NavSatStatus
from spec_vla_ros.msg import DecodeStats, DeltaAction, Episode
from std_msgs.msg import Byte, Char, Empty, Float32, Float64, Header, String, UInt8

from spec_vla_ros.embedded_ros.types import registry

# Those of our own action are what rosidl says of it: share/spec_vla_ros/action/ExecuteInstruction.json.
ACTION = "spec_vla_ros/action/ExecuteInstruction"
HASHES = {
    "std_msgs/msg/String": "df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18",
    "sensor_msgs/msg/Image": "d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47",
    "std_msgs/msg/Char": "3ad2d04dd29ba19d04b16659afa3ccaedd691914b02a64e82e252f2fa6a586a9",
    "rmw_dds_common/msg/Gid": "ab6f21cfbb0a6dbb837161e1110c2051a2850ed9f9c53944d7115d9bcebedf71",
    "geometry_msgs/msg/TwistStamped": "5f0fcd4f81d5d06ad9b4c4c63e3ea51b82d6ae4d0558f1d475229b1121db6f64",
    "std_msgs/msg/Empty": "20b625256f32d5dbc0d04fee44f43c41e51c70d3502f84b4a08e7a9c26a96312",
    f"{ACTION}_SendGoal_Request": "16ae0fa0c841653ed43d56f1e4e1d4d5afc900b4ef1b22c8e5c1109bef7205b0",
    f"{ACTION}_GetResult_Response": "f13e69dbe2bb5d3bd64be326d2d01bbe55ce36a17a4f669a61a4c595183f3ced",
    f"{ACTION}_FeedbackMessage": "c33016201a10b85b9aa16ac8d3432dd7274d838f44376d18896407421edded2e",
    "action_msgs/srv/CancelGoal_Request": "3d3c84653c1f96918086887e1dcb236faec88b81a5b14fd4cf4840065bcdf8af",
    "action_msgs/srv/CancelGoal_Response": "35e682cf3f510e83c70a82a4aac888496dedee56773bf9d8e5e0aa81f9e1c960",
    "rcl_interfaces/srv/GetParameters_Request": "135a9e1c3d7cebef792f6687d7ddf99949b21a0bd9a320d863a9110a3f5cf4d6",
}
HEADER = Header(stamp=Time(sec=1, nanosec=2), frame_id="cam")
PIXEL = Image(height=1, width=1, encoding="rgb8", step=3, data=[1, 2, 3])
GOLDEN = [
    (String(data="abc"), "000100000400000061626300"),
    (Empty(), "0001000000"),
    (HEADER, "0001000001000000020000000400000063616d00"),
    (
        PIXEL,
        "000100000000000000000000010000000000000001000000010000000500000072676238000000000300000003000000010203",
    ),
]


@pytest.mark.parametrize("name", HASHES)
def test_type_hashes_are_those_of_ros_2(name):
    assert registry().type_hash(name) == f"RIHS01_{HASHES[name]}"


@pytest.mark.parametrize(("message", "text"), GOLDEN, ids=lambda value: type(value).__name__)
def test_bytes_are_those_of_ros_2(message, text):
    assert serialize_message(message).hex() == text
    assert deserialize_message(bytes.fromhex(text), type(message)) == message


def test_requests_are_bytes_of_ros_2():
    request = registry().service("rcl_interfaces/srv/GetParameters").Request(names=["gain"])
    assert serialize_message(request).hex() == "0001000001000000050000006761696e00"


@pytest.mark.parametrize("cls", [DeltaAction, DecodeStats, Episode, CameraInfo, TwistWithCovariance, Byte, Char])
def test_defaults_survive_the_wire(cls):
    assert deserialize_message(serialize_message(cls()), cls) == cls()


def test_every_kind_of_field_survives_the_wire():
    stats = DecodeStats(
        header=HEADER, sequence=2**64 - 1, drafters=["a", "", "ü"], acceptance_radius=[1, 2**32 - 1],
        acceptance_radius_si=[0.5, float("inf")], max_accepted_distance=7, inference_ms=1.25,
    )  # fmt: skip
    back = deserialize_message(serialize_message(stats), DecodeStats)
    assert back == stats
    assert back.drafters == ["a", "", "ü"]
    assert isinstance(back.acceptance_radius, array.array)
    assert back.acceptance_radius.typecode == "I"
    action = deserialize_message(serialize_message(DeltaAction(delta=[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])), DeltaAction)
    assert isinstance(action.delta, np.ndarray)
    assert action.delta.dtype == np.float32
    assert action.delta.tolist() == [0, 1, 2, 3, 4, 5]


def test_eight_byte_values_are_aligned_to_eight():
    raw = serialize_message(DeltaAction(header=Header(frame_id="a"), sequence=258))
    # stamp 8, length 4, "a" and NUL 2: 14, so the 64-bit number starts at 16 and not at 14 or 12 (XCDR2: 16 too)
    assert struct.unpack_from("<Q", raw, 4 + 16)[0] == 258


def test_big_endian_messages_are_understood():
    assert deserialize_message(bytes.fromhex("000000000000000461626300"), String).data == "abc"
    data = b"\0\0\0\0" + struct.pack(">ii", 1, 2) + b"\0\0\0\1\0\0\0\0" + bytes(8)
    data += struct.pack(">6f", *range(6))
    assert deserialize_message(b"\0\0\0\0" + struct.pack(">f", 1.5), Float32).data == 1.5


@pytest.mark.parametrize("text", ["", "0001", "00070000", "0001000004000000", "00010000ffffffff61626300"])
def test_broken_messages_are_refused(text):
    with pytest.raises(ValueError, match=r"."):
        deserialize_message(bytes.fromhex(text), String)


def test_a_lying_length_makes_no_huge_list():
    with pytest.raises(ValueError, match=r"."):
        deserialize_message(
            bytes.fromhex("00010000" + "ff" * 4 + "00" * 8), registry().message("tf2_msgs/msg/TFMessage")
        )


@pytest.mark.parametrize(
    ("cls", "value"),
    [
        (Float64, 1), (Float64, np.float32(1)), (Float64, "1"), (Float32, 1e39), (UInt8, 256), (UInt8, -1),
        (UInt8, np.uint8(1)), (UInt8, 1.0), (String, b"abc"), (String, None), (Byte, 1), (Byte, b"ab"), (Char, "a"),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_type_is_refused(cls, value):
    with pytest.raises(AssertionError):
        cls(data=value)


@pytest.mark.parametrize(
    "value", [np.zeros(3, np.uint8), array.array("b", [1]), [256], [1.0], "abc", 5], ids=lambda v: type(v).__name__
)
def test_image_data_takes_what_rosidl_takes(value):
    with pytest.raises(AssertionError):
        Image(data=value)


@pytest.mark.parametrize("value", [b"\1\2", [1, 2], (1, 2), array.array("B", [1, 2])], ids=lambda v: type(v).__name__)
def test_image_data_is_an_array(value):
    assert Image(data=value).data == array.array("B", [1, 2])


def test_an_array_is_taken_without_a_copy():
    pixels = array.array("B", bytes(640 * 480 * 3))
    message = Image()
    message.data = pixels
    assert message.data is pixels


def test_fixed_arrays_have_their_length():
    for wrong in ([0.0] * 5, np.zeros(6, np.float64), np.zeros(7, np.float32), [0] * 6):
        with pytest.raises(AssertionError):
            DeltaAction(delta=wrong)


def test_unknown_names_are_refused():
    with pytest.raises(AssertionError):
        String(text="a")
    with pytest.raises(AttributeError):
        String().text = "a"
    with pytest.raises(TypeError):
        String("abc")
    with pytest.raises(AssertionError):
        Image(header=String())


def test_constants_defaults_and_introspection():
    assert (Episode.IDLE, Episode.RUNNING, Episode().SUCCESS) == (0, 1, 2)
    assert Quaternion().w == 1.0
    assert NavSatStatus().status == -2
    assert Image.get_fields_and_field_types() == {
        "header": "std_msgs/Header", "height": "uint32", "width": "uint32", "encoding": "string",
        "is_bigendian": "uint8", "step": "uint32", "data": "sequence<uint8>",
    }  # fmt: skip
    assert DeltaAction.get_fields_and_field_types()["delta"] == "float[6]"
    assert Empty.get_fields_and_field_types() == {}


def test_messages_compare_by_value_and_can_be_copied():
    assert String(data="a") == String(data="a") != String(data="b")
    assert TwistWithCovariance() == TwistWithCovariance()
    assert repr(String(data="a")).endswith("String(data='a')")
    twin = copy.deepcopy(PIXEL)
    twin.data[0] = 9
    assert PIXEL.data[0] == 1
    assert Image().header is not Image().header
