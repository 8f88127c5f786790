"""The subset of tf2_ros on the embedded runtime: the newest transforms, composed."""

import numpy as np
import pytest

tf2 = pytest.importorskip("spec_vla_ros.embedded_ros.tf2")


class Now:
    """rclpy.time.Time(): the newest."""

    nanoseconds = 0


def transform(parent, child, translation=(0, 0, 0), rotation=(0, 0, 0, 1), sec=5):
    from spec_vla_ros.embedded_ros.types import registry

    message = registry().message("geometry_msgs/msg/TransformStamped")(child_frame_id=child)
    message.header.frame_id, message.header.stamp.sec = parent, sec
    move, turn = message.transform.translation, message.transform.rotation
    move.x, move.y, move.z = (float(value) for value in translation)
    turn.x, turn.y, turn.z, turn.w = (float(value) for value in rotation)
    return message


QUARTER = (0, 0, np.sqrt(0.5), np.sqrt(0.5))  # about z, x becomes y


@pytest.fixture
def buffer():
    """map -> base (static, 1 m ahead), base -> arm (a quarter turn), arm -> tool (0.5 m along the arm)."""
    made = tf2.Buffer()
    made.set_transform_static(transform("map", "base", (1, 0, 0), sec=0), "test")
    made.set_transform(transform("base", "arm", (0, 0, 1), QUARTER, sec=7), "test")
    made.set_transform(transform("arm", "tool", (0.5, 0, 0), sec=9), "test")
    return made


def found(buffer, target, source):
    message = buffer.lookup_transform(target, source, Now())
    move, turn = message.transform.translation, message.transform.rotation
    return np.array([move.x, move.y, move.z]), np.array([turn.x, turn.y, turn.z, turn.w]), message


def test_up_the_tree_down_the_tree_and_across(buffer):
    position, rotation, message = found(buffer, "map", "tool")
    np.testing.assert_allclose(position, [1, 0.5, 1], atol=1e-12)
    np.testing.assert_allclose(rotation, QUARTER, atol=1e-12)
    assert (message.header.frame_id, message.child_frame_id) == ("map", "tool")
    position, rotation, _ = found(buffer, "tool", "map")
    np.testing.assert_allclose(position, [-0.5, 1, -1], atol=1e-12)
    np.testing.assert_allclose(rotation[3], QUARTER[3], atol=1e-12)
    buffer.set_transform(transform("base", "camera", (0, 2, 0), sec=8), "test")
    position, _, _ = found(buffer, "camera", "tool")
    np.testing.assert_allclose(position, [0, -1.5, 1], atol=1e-12)


def test_the_stamp_is_that_of_the_oldest_moving_part(buffer):
    assert found(buffer, "map", "tool")[2].header.stamp.sec == 7
    assert found(buffer, "map", "base")[2].header.stamp.sec == 0, "all static"


def test_an_older_transform_does_not_replace_a_newer_one(buffer):
    buffer.set_transform(transform("arm", "tool", (9, 0, 0), sec=3), "test")
    np.testing.assert_allclose(found(buffer, "arm", "tool")[0], [0.5, 0, 0], atol=1e-12)


def test_what_is_no_rotation_is_ignored(buffer):
    buffer.set_transform(transform("arm", "tool", (9, 0, 0), (0, 0, 0, 0), sec=99), "test")
    buffer.set_transform(transform("arm", "tool", (np.nan, 0, 0), sec=99), "test")
    np.testing.assert_allclose(found(buffer, "arm", "tool")[0], [0.5, 0, 0], atol=1e-12)


def test_what_cannot_be_answered_has_the_names_of_tf2(buffer):
    with pytest.raises(tf2.LookupException, match="nowhere"):
        found(buffer, "map", "nowhere")
    buffer.set_transform(transform("other", "island"), "test")
    with pytest.raises(tf2.ConnectivityException):
        found(buffer, "map", "island")
    assert buffer.can_transform("map", "tool", Now())
    assert not buffer.can_transform("map", "island", Now())
    buffer.set_transform(transform("a", "b"), "test")
    buffer.set_transform(transform("b", "a"), "test")
    with pytest.raises(tf2.ConnectivityException, match="circle"):
        found(buffer, "a", "b")


def test_the_past_is_refused_rather_than_answered_wrongly(buffer):
    class Then:
        nanoseconds = 6 * 10**9

    with pytest.raises(NotImplementedError, match="newest"):
        buffer.lookup_transform("map", "tool", Then())
