"""The arm goes where it is told: distances add up, rotations compose, the same seed is the same scene."""

import numpy as np
import pytest

from spec_vla_ros.tabletop.arm import (
    TabletopArm,
    euler_to_rotation,
    rotation_from_vector,
    rotation_to_euler,
    vector_from_rotation,
)
from spec_vla_ros.tabletop.tasks import TASKS, Layout

LEVEL = Layout(
    blocks={"red": (0.32, 0.15, 0.0), "green": (0.50, 0.15, 0.0), "blue": (0.50, -0.15, 0.0)},
    plate=(0.32, -0.15),
    tool_position=(0.40, 0.0, 0.20),
    tool_rotation=(0.0, 0.0, 0.0),
)
STEP = np.array([0.006, -0.004, 0.003, 0.0, 0.0, 0.0])


def settle(arm, seconds=0.6):
    arm.set_twist(np.zeros(6))
    arm.advance(seconds)


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (480, 640)])
def test_the_camera_may_have_more_pixels_than_the_scene_says(width, height):
    """MuJoCo refused every picture beyond 640 x 480, so that no large camera could be rehearsed."""
    arm = TabletopArm((height, width))
    try:
        assert arm.render().shape == (height, width, 3)
    finally:
        arm.close()


def test_ten_equal_steps_travel_ten_times_one(arm):
    arm.reset(LEVEL)
    settle(arm)
    start = arm.tool_position
    arm.apply_delta(STEP, 1.0)
    settle(arm)
    one = arm.tool_position - start
    for _ in range(9):
        arm.apply_delta(STEP, 1.0)
    settle(arm)
    ten = arm.tool_position - start
    np.testing.assert_allclose(ten, 10 * one, atol=1.5e-3)
    np.testing.assert_allclose(ten, 10 * STEP[:3], atol=1.5e-3)


@pytest.mark.parametrize("axis", range(3))
def test_the_commanded_displacement_is_executed(arm, axis):
    arm.reset(LEVEL)
    settle(arm)
    start, delta = arm.tool_position, np.zeros(6)
    delta[axis] = 0.03
    arm.apply_delta(delta, 1.0)
    settle(arm)
    np.testing.assert_allclose(arm.tool_position - start, delta[:3], atol=1e-3)


def test_rotations_are_composed_not_added(arm):
    arm.reset(LEVEL)
    settle(arm)
    # Yaw first: roll, pitch, yaw in this order would be the Euler angles of the sum.
    steps = [np.array([0, 0, 0, 0, 0, 0.3]), np.array([0, 0, 0, 0, 0.15, 0]), np.array([0, 0, 0, 0.15, 0, 0])]
    expected = arm.tool_rotation
    for step in steps:
        arm.apply_delta(step, 1.0)
        expected = euler_to_rotation(step[3:]) @ expected
    settle(arm)
    error = vector_from_rotation(expected @ arm.tool_rotation.T)
    added = vector_from_rotation(euler_to_rotation(np.sum(steps, axis=0)[3:]) @ arm.tool_rotation.T)
    assert np.linalg.norm(error) < 0.01
    assert np.linalg.norm(added) > 0.02


def test_rotating_leaves_the_tool_where_it_is(arm):
    arm.reset(LEVEL)
    settle(arm)
    start = arm.tool_position
    arm.apply_delta(np.array([0, 0, 0, 0.2, -0.1, 0.2]), 1.0)
    settle(arm)
    np.testing.assert_allclose(arm.tool_position, start, atol=1.5e-3)


def test_conversions_of_rotations_are_inverse():
    for euler in np.random.default_rng(3).uniform(-1.2, 1.2, (20, 3)):
        matrix = euler_to_rotation(euler)
        np.testing.assert_allclose(rotation_to_euler(matrix), euler, atol=1e-9)
        np.testing.assert_allclose(rotation_from_vector(vector_from_rotation(matrix)), matrix, atol=1e-9)


def test_the_same_seed_is_the_same_scene_and_another_is_not():
    assert Layout.sample(7) == Layout.sample(7)
    assert Layout.sample(7) != Layout.sample(8)


def test_a_reset_forgets_what_happened(arm):
    arm.reset(Layout.sample(5))
    before, picture = arm.joint_state()[1], arm.render().copy()
    arm.apply_delta(np.array([0.02, 0.02, -0.05, 0, 0, 0.2]), 0.0)
    assert not np.allclose(arm.joint_state()[1], before, atol=1e-3)
    arm.reset(Layout.sample(5))
    np.testing.assert_allclose(arm.joint_state()[1], before, atol=1e-9)
    assert arm.time == 0.0
    np.testing.assert_array_equal(arm.render(), picture)


def test_the_camera_sees_colours(arm):
    arm.reset(LEVEL)
    image = arm.render()
    assert image.shape == (64, 64, 3)
    assert image.dtype == np.uint8
    red, green, blue = image.reshape(-1, 3).astype(int).T
    assert np.sum(red > 2 * green) > 5
    assert np.sum(blue > 2 * green) > 5


def test_no_task_is_done_at_the_start(arm):
    for seed in range(6):
        arm.reset(Layout.sample(seed))
        assert not any(task.done(arm) for task in TASKS)
