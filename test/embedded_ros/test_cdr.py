"""Bytes to messages: what is large and honest passes, what would cost more than it is worth does not."""

import array
import struct

import pytest
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from spec_vla_ros.embedded_ros import bounds, cdr

LITTLE = b"\x00\x01\x00\x00"


def test_an_image_of_64_megabytes_passes():
    image = Image(height=4096, width=4096, step=4096 * 4)
    image.data = array.array("B", bytes(2**26))
    data = cdr.serialize(image)
    assert len(data) < bounds.MAX_MESSAGE
    assert len(cdr.deserialize(data, Image).data) == 2**26


@pytest.mark.parametrize(
    ("kind", "count"),
    [(JointState, cdr.MAX_OBJECTS + 1), (TFMessage, cdr.MAX_OBJECTS + 1), (TFMessage, 2**32 - 1), (JointState, 2**31)],
)
def test_a_message_of_many_parts_is_refused_before_they_are_made(kind, count):
    """Each costs a microsecond or more, and a length alone must not reserve memory."""
    header = b"" if kind is TFMessage else struct.pack("<iII", 0, 0, 1) + b"\0\0\0\0"
    room = bytes(5 * cdr.MAX_OBJECTS) if kind is JointState else bytes(90 * cdr.MAX_OBJECTS)
    with pytest.raises(ValueError, match=r"sequence of|more strings"):
        cdr.deserialize(LITTLE + header + struct.pack("<I", count) + room, kind)


def test_the_budget_is_that_of_the_whole_message():
    half = ["x"] * (cdr.MAX_OBJECTS // 2 + 1)
    value = ParameterValue(type=9, string_array_value=half)
    one = SetParameters.Request(parameters=[Parameter(name="a", value=value)])
    assert len(cdr.deserialize(cdr.serialize(one), SetParameters.Request).parameters) == 1
    two = SetParameters.Request(parameters=[Parameter(name="a", value=value)] * 2)
    with pytest.raises(ValueError, match="more strings"):
        cdr.deserialize(cdr.serialize(two), SetParameters.Request)


def test_a_text_has_a_length(monkeypatch):
    monkeypatch.setattr(cdr, "MAX_STRING", 100)
    assert cdr.deserialize(cdr.serialize(String(data="x" * 99)), String).data == "x" * 99
    with pytest.raises(ValueError, match="at most 100"):
        cdr.deserialize(cdr.serialize(String(data="x" * 100)), String)
