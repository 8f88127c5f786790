"""The box and the axes."""

import numpy as np
import pytest

from spec_vla_ros.motion.workspace import HORIZON, Workspace, turned

LOW, HIGH = np.array([0.2, -0.3, 0.0]), np.array([0.6, 0.3, 0.4])
INSIDE = np.array([0.4, 0.0, 0.2])
OUT = np.array([1.0, -1.0, 0.5, 0.1, 0.2, 0.3])


def test_far_from_every_wall_nothing_changes():
    box = Workspace()
    slow = OUT * 0.1
    np.testing.assert_array_equal(box.clip(slow, INSIDE, LOW, HIGH), slow)
    assert box.hits == 0


@pytest.mark.parametrize("period", [0.01, HORIZON])
def test_whatever_is_commanded_the_tool_stays_inside(period):
    """Integrated at any period up to the horizon, as the sink does."""
    rng, box = np.random.default_rng(0), Workspace()
    position = INSIDE.copy()
    for _ in range(2000):
        twist = np.concatenate([rng.uniform(-2, 2, 3), np.zeros(3)])
        position = position + period * box.clip(twist, position, LOW, HIGH)[:3]
        assert (position >= LOW - 1e-9).all()
        assert (position <= HIGH + 1e-9).all()
    assert box.hits > 100


def test_at_a_wall_the_tool_slides_along_it():
    clipped = Workspace().clip(OUT, np.array([0.6, 0.0, 0.2]), LOW, HIGH)
    assert clipped[0] == 0.0
    np.testing.assert_allclose(clipped[1:3], OUT[1:3])
    np.testing.assert_allclose(clipped[3:], OUT[3:])


def test_before_a_wall_the_tool_slows_to_what_a_tenth_of_a_second_may_carry():
    """That long a servo goes on without a command."""
    clipped = Workspace().clip(OUT, np.array([0.58, -0.27, 0.2]), LOW, HIGH)
    np.testing.assert_allclose(clipped[:3], [0.2, -0.3, 0.5])


def test_from_outside_the_way_back_is_free_and_the_way_on_is_not():
    box, outside = Workspace(), np.array([0.7, 0.0, -0.1])
    np.testing.assert_allclose(box.clip(np.array([-0.1, 0, 0.1, 0, 0, 0]), outside, LOW, HIGH)[:3], [-0.1, 0, 0.1])
    np.testing.assert_allclose(box.clip(np.array([0.1, 0, -0.1, 0, 0, 0]), outside, LOW, HIGH)[:3], [0, 0, 0])


def test_a_wall_is_counted_once_while_the_tool_is_at_it():
    box, wall = Workspace(), np.array([0.6, 0.0, 0.2])
    for _ in range(10):
        box.clip(np.array([0.1, 0, 0, 0, 0, 0]), wall, LOW, HIGH)
    box.clip(np.zeros(6), wall, LOW, HIGH)
    box.clip(np.array([0.1, 0, 0, 0, 0, 0]), wall, LOW, HIGH)
    assert box.hits == 2


def test_a_twist_in_the_axes_of_a_tool_that_points_down():
    """Half a turn about x: y and z change sign, of the rotation as well."""
    np.testing.assert_allclose(
        turned(np.arange(1.0, 7.0), np.array([1.0, 0, 0, 0])), [1, -2, -3, 4, -5, -6], atol=1e-12
    )


def test_a_quarter_turn_about_z():
    """Base axes seen from a frame that is turned by -90 degrees: x becomes y."""
    quarter = np.array([0, 0, np.sqrt(0.5), np.sqrt(0.5)])
    np.testing.assert_allclose(turned(np.array([1.0, 0, 0, 0, 1.0, 0]), quarter), [0, 1, 0, -1, 0, 0], atol=1e-12)


def test_any_turn_is_that_of_its_rotation_matrix():
    angle, axis = 0.7, np.array([2.0, -1.0, 2.0]) / 3
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    got = turned(OUT, np.array([*axis * np.sin(angle / 2), np.cos(angle / 2)]))
    np.testing.assert_allclose(got, [*(matrix @ OUT[:3]), *(matrix @ OUT[3:])], atol=1e-12)
