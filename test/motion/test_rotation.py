"""Pins two classic mistakes: Euler deltas used as a rotation vector, and deltas sent without division by time."""

import math

import numpy as np
import pytest

from spec_vla_ros.errors import NonFiniteError
from spec_vla_ros.motion.rotation import rotation_vector, step_twist


def matrix_of(roll, pitch, yaw):
    """Rz Ry Rx, written out independently of the code under test."""
    cr, sr, cp, sp, cy, sy = (f(a) for a in (roll, pitch, yaw) for f in (math.cos, math.sin))
    rx = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    ry = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    rz = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return rz @ ry @ rx


def exponential(vector):
    """Rodrigues' formula."""
    angle = np.linalg.norm(vector)
    if angle == 0:
        return np.eye(3)
    x, y, z = vector / angle
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * k + (1 - math.cos(angle)) * k @ k


@pytest.mark.parametrize("scale", [0, 1e-14, 1e-9, 1e-4, 0.1, 0.5, 1.0, 2.0, 3.1])
def test_the_exponential_of_the_rotation_vector_is_the_euler_rotation(scale):
    rng = np.random.default_rng(1)
    for rpy in rng.uniform(-1, 1, (50, 3)) * scale:
        vector = rotation_vector(*rpy)
        assert np.linalg.norm(vector) <= math.pi + 1e-12
        np.testing.assert_allclose(exponential(vector), matrix_of(*rpy), atol=1e-12)


@pytest.mark.parametrize("scale", [1e-6, 1e-11, 1e-12, 1e-13, 1e-20])
def test_the_smallest_rotations_keep_their_size(scale):
    rpy = np.array([3.0, -2.0, 1.0]) * scale
    np.testing.assert_allclose(rotation_vector(*rpy), rpy, rtol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("angle", [math.pi, -math.pi, math.pi - 1e-9, 3 * math.pi / 2])
def test_half_turns_and_more_take_the_short_way(axis, angle):
    rpy = np.zeros(3)
    rpy[axis] = angle
    vector = rotation_vector(*rpy)
    assert np.linalg.norm(vector) <= math.pi + 1e-12
    np.testing.assert_allclose(exponential(vector), matrix_of(*rpy), atol=1e-7)


def test_a_full_scale_bridge_action_differs_from_the_raw_euler_triple():
    rpy = np.array([0.0819, 0.0779, 0.2038])
    error = np.linalg.norm(rotation_vector(*rpy) - rpy)
    assert 0.008 < error < 0.02


def test_a_twist_is_the_action_divided_by_time():
    twist = step_twist(np.array([0.02, -0.01, 0.004, 0, 0, 0.1]), action_scale=1.0, step_dt=0.2)
    np.testing.assert_allclose(twist, [0.1, -0.05, 0.02, 0, 0, 0.5], atol=1e-15)


def test_half_an_action_turns_about_the_same_axis():
    delta = np.array([0.01, 0.02, 0.03, 0.3, -0.2, 0.5])
    full, half = step_twist(delta, 1.0, 0.2), step_twist(delta, 0.5, 0.2)
    np.testing.assert_allclose(half, full / 2, atol=1e-15)


def test_applying_the_twist_at_a_steep_pitch_composes_instead_of_adding_angles():
    """Adding Euler angles per component is about 90 mrad off at a pitch of 1.2."""
    start = matrix_of(0.0, 1.2, 0.0)
    delta = np.array([0, 0, 0, 0.08, 0, 0.2])
    reached = exponential(step_twist(delta, 1.0, 0.2)[3:] * 0.2) @ start
    np.testing.assert_allclose(reached, matrix_of(0.08, 0, 0.2) @ start, atol=1e-12)
    wrong = matrix_of(0.08, 1.2, 0.2)
    assert np.linalg.norm(reached - wrong) > 0.05


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", range(6))
def test_a_non_finite_action_is_refused(bad, where):
    delta = np.zeros(6)
    delta[where] = bad
    with pytest.raises(NonFiniteError):
        step_twist(delta, 1.0, 0.2)


def test_a_seventh_value_is_refused():
    with pytest.raises(ValueError, match="6 dimensions"):
        step_twist(np.zeros(7), 1.0, 0.2)


@pytest.mark.parametrize("form", [list, np.float32], ids=["list", "float32"])
def test_an_action_in_another_form_is_the_same_motion_in_double_precision(form):
    delta = np.array([0.5, -0.25, 0.125, 0.0, 0.0, 0.75])
    twist = step_twist(form(delta), 1.0, 0.2)
    assert twist.dtype == np.float64
    np.testing.assert_array_equal(twist, step_twist(delta, 1.0, 0.2))
