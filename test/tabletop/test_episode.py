"""An episode starts on request, ends by the task or the clock in simulated time, and then the arm stays put."""

import numpy as np
import pytest

from spec_vla_ros.episode_state import State
from spec_vla_ros.motion.rotation import step_twist
from spec_vla_ros.tabletop.episode import EpisodeRunner
from spec_vla_ros.tabletop.expert import STEP, expert_action

FORWARD = np.array([0.05, 0.0, 0.0, 0.0, 0.0, 0.0])
STILL = np.zeros(6)


@pytest.fixture
def runner(arm):
    return EpisodeRunner(arm)


def test_an_unknown_instruction_is_refused_with_the_known_ones(runner):
    assert runner.request(1, 5, "pick up the red block") == ""
    refusal = runner.request(2, 6, "make coffee")
    assert "make coffee" in refusal
    assert "touch the blue block" in refusal
    assert (runner.id, runner.seed, runner.state) == (1, 5, State.RUNNING)


@pytest.mark.parametrize("limit", [float("nan"), float("inf"), -1.0])
def test_an_impossible_time_limit_is_refused(runner, limit):
    assert "time_limit" in runner.request(1, 5, "pick up the red block", limit)
    assert runner.state == State.IDLE


def test_the_instruction_is_read_as_people_write_it(runner):
    assert runner.request(1, 5, " Pick up the red block ") == ""


def test_time_runs_out_in_simulated_time(runner):
    runner.request(1, 5, "pick up the red block", 0.5)
    assert not runner.advance(0.49, STILL)
    assert runner.advance(0.02, STILL)
    assert runner.state == State.FAILURE
    assert runner.elapsed == pytest.approx(0.5)
    runner.advance(0.3, STILL)
    assert runner.elapsed == pytest.approx(0.5)


def test_the_default_limit_is_the_tasks(runner):
    runner.request(1, 5, "touch the red block")
    assert runner.time_limit == 7.0


def test_the_expert_succeeds_through_the_runner(runner):
    runner.request(3, 21, "touch the blue block")
    while runner.state == State.RUNNING:
        action = expert_action(runner.arm, runner.task)
        runner.set_gripper(action[6])
        runner.advance(STEP, step_twist(action[:6], 1.0, STEP))
    assert runner.state == State.SUCCESS
    assert 0.4 < runner.elapsed < 7.0


def test_after_the_end_the_arm_ignores_motion_until_the_next_request(runner):
    runner.request(1, 5, "pick up the red block", 0.1)
    runner.advance(0.2, STILL)
    runner.advance(0.5, STILL)
    before = runner.arm.command_position.copy()
    runner.advance(0.5, FORWARD)
    np.testing.assert_array_equal(runner.arm.command_position, before)
    runner.request(2, 5, "pick up the red block")
    before = runner.arm.command_position.copy()
    runner.advance(0.5, FORWARD)
    assert runner.arm.command_position[0] - before[0] == pytest.approx(0.025)


@pytest.mark.parametrize("piece", [0.0007, 0.0033, 0.01, 0.0137])
def test_the_distance_is_the_integral_of_the_velocity_however_time_is_cut(runner, piece):
    runner.request(1, 5, "pick up the red block")
    before = runner.arm.command_position.copy()
    left = 0.2137  # s, no multiple of a tick
    while left > 1e-12:
        step = min(piece, left)
        runner.advance(step, FORWARD)
        left -= step
    runner.advance(0.1, STILL)
    assert runner.arm.command_position[0] - before[0] == pytest.approx(0.2137 * 0.05, rel=1e-6)


def test_a_reset_drops_the_part_of_a_tick_that_was_under_way(runner):
    runner.request(1, 5, "pick up the red block")
    runner.advance(0.009, FORWARD)
    runner.request(2, 5, "pick up the red block")
    before = runner.arm.command_position.copy()
    runner.advance(0.1, STILL)
    np.testing.assert_array_equal(runner.arm.command_position, before)


def test_the_gripper_command_is_a_switch_that_outlives_a_reset(runner):
    """The driver sends it on change only: forgetting it left the gripper open through a whole touch task."""
    runner.request(1, 5, "touch the red block", 0.1)
    runner.set_gripper(0.0)
    runner.advance(0.2, STILL)
    runner.request(2, 6, "touch the red block")
    assert runner.arm.gripper == 0.0
    runner.advance(1.0, STILL)
    assert runner.arm.opening < 0.1


def test_a_gripper_command_that_is_not_finite_is_refused(runner):
    assert not runner.set_gripper(float("nan"))
    assert runner.set_gripper(7.0)
    assert runner.arm.gripper == 1.0


def test_the_clock_never_jumps_back(runner):
    runner.advance(0.5, STILL)
    runner.request(1, 5, "pick up the red block")
    runner.advance(0.25, STILL)
    assert runner.clock == pytest.approx(0.75)
    assert runner.elapsed == pytest.approx(0.25)
