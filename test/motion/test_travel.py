"""What the arm was told to travel between two moments."""

import numpy as np
import pytest

from spec_vla_ros.motion.rotation import composed, displacement, remainder, rotation_vector
from spec_vla_ros.motion.travel import Travel

AHEAD, TURN = np.array([0.1, 0, 0, 0, 0, 0]), np.array([0, 0, 0, 0, 0, 1.0])


def matrix(vector):
    """Rodrigues' formula, written down independently of the package's quaternions."""
    angle = np.linalg.norm(vector)
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def test_the_part_of_a_step_that_an_image_had_not_seen():
    travel = Travel()
    travel.begin(10.0, AHEAD, 0.2)
    np.testing.assert_allclose(travel.between(10.15, 10.2), [0.005, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(travel.between(9.0, 10.05), [0.005, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(travel.between(9.0, 11.0), [0.02, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(travel.between(10.2, 11.0), np.zeros(6))
    np.testing.assert_array_equal(travel.between(10.1, 10.1), np.zeros(6))


def test_a_step_that_was_broken_off_counts_as_far_as_it_went():
    travel = Travel()
    travel.begin(10.0, AHEAD, 0.2)
    travel.end(10.05)
    np.testing.assert_allclose(travel.between(9.0, 11.0), [0.005, 0, 0, 0, 0, 0])
    travel.end(12.0)
    np.testing.assert_allclose(travel.between(9.0, 11.0), [0.005, 0, 0, 0, 0, 0])


def test_what_limits_and_box_hold_back_was_not_travelled():
    travel = Travel()
    travel.hold_back(9.9, np.zeros(6))
    travel.begin(10.0, AHEAD, 0.2)
    for tick in range(5, 16):
        travel.hold_back(10.0 + 0.01 * tick, np.array([0.0006 * (tick - 5), 0, 0, 0, 0, 0]))
    np.testing.assert_allclose(travel.between(9.0, 11.0), [0.02 - 0.006, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(travel.between(10.0701, 11.0), [0.01299 - 0.0048, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(travel.length(10.0701, 11.0), [0.01299 - 0.0048, 0])
    np.testing.assert_allclose(travel.between(10.1501, 11.0), [0.00499, 0, 0, 0, 0, 0], err_msg="free again")
    np.testing.assert_allclose(travel.between(9.0, 10.02), [0.002, 0, 0, 0, 0, 0])


def test_reports_that_get_lost_do_not_change_what_was_held_back():
    travel = Travel()
    travel.begin(10.0, AHEAD, 0.2)
    travel.hold_back(10.0, np.zeros(6))
    travel.hold_back(10.19, np.array([0.015, 0, 0, 0, 0, 0]))
    np.testing.assert_allclose(travel.between(9.0, 10.2), [0.005, 0, 0, 0, 0, 0])


def test_a_rotation_that_is_held_back():
    travel = Travel()
    travel.begin(10.0, TURN, 1.0)
    travel.hold_back(9.0, np.zeros(6))
    travel.hold_back(10.9, 0.75 * TURN)
    np.testing.assert_allclose(travel.between(9.5, 11.5), 0.25 * TURN)


def test_several_steps_lie_between_an_image_and_a_late_answer():
    travel = Travel()
    for number in range(4):
        travel.begin(10.0 + 0.05 * number, AHEAD if number % 2 else -2 * AHEAD, 0.05)
    np.testing.assert_allclose(travel.between(10.025, 10.2)[0], -0.2 * 0.075 + 0.1 * 0.1)
    np.testing.assert_allclose(travel.length(10.025, 10.2), [0.2 * 0.075 + 0.1 * 0.1, 0])


def test_rotations_are_composed_in_their_order():
    travel = Travel()
    travel.begin(0.0, np.array([0, 0, 0, 1.0, 0, 0]), 1.0)
    travel.begin(1.0, np.array([0, 0, 0, 0, 0.8, 0]), 1.0)
    expected = matrix(np.array([0, 0.8, 0])) @ matrix(np.array([1.0, 0, 0]))
    np.testing.assert_allclose(matrix(travel.between(0.0, 2.0)[3:]), expected, atol=1e-12)
    np.testing.assert_allclose(travel.length(0.0, 2.0), [0, 1.8])


@pytest.mark.parametrize("seed", range(20))
def test_what_is_left_of_a_motion_after_a_part_of_it(seed):
    whole, part = np.random.default_rng(seed).normal(0, 0.8, (2, 6))
    left = remainder(whole, part)
    np.testing.assert_allclose(matrix(left[3:]) @ matrix(part[3:]), matrix(whole[3:]), atol=1e-9)
    again = composed(part, left)
    np.testing.assert_allclose(again[:3], whole[:3])
    np.testing.assert_allclose(matrix(again[3:]), matrix(whole[3:]), atol=1e-9)


def test_a_displacement_is_the_motion_of_the_action_and_no_velocity():
    delta = np.array([0.01, 0, -0.02, 0.1, -0.2, 0.3])
    np.testing.assert_allclose(displacement(delta, 1.0)[3:], rotation_vector(0.1, -0.2, 0.3))
    np.testing.assert_allclose(displacement(delta, 0.5), 0.5 * displacement(delta, 1.0))
