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


def test_endless_names_of_frames_do_not_grow_the_buffer(buffer, monkeypatch):
    """A detector names a frame per object; those that a node asks for are known by then, and go on being heard."""
    monkeypatch.setattr(tf2, "_MAX_FRAMES", 10)
    for number in range(1000):
        buffer.set_transform(transform("map", f"object\n{number}"), "test")
    assert len(buffer._edges) == 10
    assert sum(buffer._children.values()) == 10
    buffer.set_transform(transform("arm", "tool", (0.7, 0, 0), sec=10), "test")
    assert found(buffer, "arm", "tool")[0] == pytest.approx([0.7, 0, 0])
    buffer.set_transform(transform("map", "x" * 1000), "test")
    buffer.set_transform(transform("x" * 1000, "tool", sec=11), "test")
    assert found(buffer, "map", "tool")


def test_a_frame_that_changes_its_parent_leaves_none_behind(buffer):
    """Or a root that is gone would count as known, and names of parents would add up."""
    for number in range(1000):
        buffer.set_transform(transform(f"parent_{number}", "wanderer", sec=number + 1), "test")
    assert len(buffer._children) == 4
    with pytest.raises(tf2.LookupException):
        buffer.lookup_transform("map", "parent_1", Now())
    assert buffer.can_transform("parent_999", "wanderer", Now())


def test_a_tower_of_frames_is_not_climbed(buffer):
    """Somebody may hang the tool's tree on it, and every lookup would be as long."""
    for number in range(tf2._MAX_LEVELS + 1):
        buffer.set_transform(transform(f"level_{number + 1}", f"level_{number}"), "test")
    with pytest.raises(tf2.ConnectivityException, match="more than"):
        buffer.lookup_transform(f"level_{tf2._MAX_LEVELS + 1}", "level_0", Now())
    assert buffer.can_transform("level_5", "level_0", Now()) is False
    assert buffer.can_transform("map", "tool", Now())
