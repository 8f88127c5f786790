"""When to look for the next step, and what becomes of what the arm travels meanwhile."""

import math

import numpy as np
import pytest

from spec_vla_ros.motion.pacing import COMPENSATIONS, Lead, Waits, compensated

AHEAD = np.array([0.02, 0, 0, 0, 0, 0.1])


def test_the_estimate_is_what_99_of_100_answers_keep():
    lead = Lead()
    assert lead.seconds == math.inf, "nothing is known: do not wait"
    for _ in range(198):
        lead.add(0.05)
    lead.add(0.09)
    assert lead.seconds == 0.05, "one outlier of 199"
    lead.add(0.3)
    lead.add(0.2)
    assert lead.seconds == 0.09, "the two slowest of 200 are left out"
    for _ in range(200):
        lead.add(0.02)
    assert lead.seconds == 0.02, "what was long ago says nothing"


def test_the_first_answers_count_in_full():
    lead = Lead()
    for seconds in (0.05, 0.2, 0.06):
        lead.add(seconds)
    assert lead.seconds == 0.2


def test_lateness_and_standstill():
    waits = Waits()
    assert (waits.late, waits.standstill) == (None, None)
    assert waits.begin(1.0, 0.2) is None
    assert waits.begin(1.25, 0.2) == pytest.approx(0.05)
    assert waits.begin(1.45, 0.2) == pytest.approx(0.0)
    assert waits.late == pytest.approx((0.025, 0.0495))
    assert waits.standstill == pytest.approx(0.05 / 0.45)


def test_a_wait_for_the_operator_is_no_lateness():
    waits = Waits()
    waits.begin(1.0, 0.2)
    waits.pause()
    assert waits.begin(9.0, 0.2) is None
    assert waits.late is None


def test_a_step_that_was_broken_off_ended_then():
    waits = Waits()
    waits.begin(1.0, 0.2)
    waits.end(1.1)
    assert waits.begin(1.15, 0.2) == pytest.approx(0.05)
    assert waits.standstill == pytest.approx(0.05 / 0.15)


@pytest.mark.parametrize("how", COMPENSATIONS)
def test_where_nothing_was_missed_the_motion_is_carried_out_as_it_was_said(how):
    motion, seconds = compensated(AHEAD, np.zeros(6), how, 0.2, 0.0, 0.05)
    np.testing.assert_allclose(motion, AHEAD)
    assert seconds == pytest.approx(0.2)


def test_what_was_missed_is_taken_off():
    unseen = 0.4 * AHEAD
    motion, seconds = compensated(AHEAD, unseen, "none", 0.2, 0.08, 0.05)
    np.testing.assert_allclose((*motion, seconds), (*AHEAD, 0.2))
    motion, seconds = compensated(AHEAD, unseen, "subtract", 0.2, 0.08, 0.05)
    np.testing.assert_allclose((*motion, seconds), (*0.6 * AHEAD, 0.2))


def test_catching_up_keeps_the_speed_that_the_model_wanted():
    """Who takes off what was missed and spends a whole step on the rest gets slower with every step."""
    motion, seconds = compensated(AHEAD, 0.4 * AHEAD, "catch_up", 0.2, 0.08, 0.05)
    np.testing.assert_allclose(motion, 0.6 * AHEAD)
    assert seconds == pytest.approx(0.12)


@pytest.mark.parametrize("share", [-0.5, 0.0, 0.4, 0.9, 1.0, 1.3, 3.0])
@pytest.mark.parametrize(
    ("gone", "lead"), [(0.02, 0.01), (0.1, 0.05), (0.19, 0.16), (0.4, 0.3), (0.4, 9.0), (-1.0, 0.1)]
)
def test_catching_up_is_never_faster_than_the_model_would_have_moved(share, gone, lead):
    motion, seconds = compensated(AHEAD, share * AHEAD, "catch_up", 0.2, gone, lead)
    assert 0.02 <= seconds <= max(0.4, 0.2 - gone)
    assert seconds >= min(lead, 0.4), "the next answer could not be there"
    assert (np.abs(motion) / seconds <= np.abs(AHEAD) / 0.2 + 1e-9).all()
    assert (motion * (1 - share) * AHEAD >= 0).all(), "towards where the model wanted the arm"
    assert (np.abs(motion) <= np.abs((1 - share) * AHEAD) + 1e-12).all(), "and not beyond it"


@pytest.mark.parametrize("how", ["subtract", "catch_up"])
def test_an_arm_driven_at_20_hz_at_the_speed_of_the_model_keeps_it(how):
    """Its image is older than a whole step: taken off the step alone, nothing would ever be left."""
    motion, seconds = compensated(AHEAD, 1.6 * AHEAD, how, 0.05, 0.08, 0.05)
    assert seconds == pytest.approx(0.05)
    kept = {"subtract": 1 - 1.6 / 4, "catch_up": 1.0}[how]
    np.testing.assert_allclose(motion, kept * AHEAD, err_msg="1.6 of the 4 steps in 0.2 s are done, in 0.08 s")


def test_an_arm_that_was_faster_than_the_model_wants_it_now_is_slowed_down_at_20_hz():
    motion, seconds = compensated(AHEAD, 2.5 * AHEAD, "catch_up", 0.05, 0.1, 0.05)
    np.testing.assert_allclose(motion, 1.5 / 2 * AHEAD, err_msg="1.5 of 4 steps are left, in the time of 2")
    assert seconds == pytest.approx(0.05)


@pytest.mark.parametrize("step_dt", [0.02, 0.05, 0.1, 0.19])
@pytest.mark.parametrize("share", [-3.0, 0.0, 0.9, 3.9, 20.0])
@pytest.mark.parametrize(("gone", "lead"), [(0.02, 0.01), (0.1, 0.05), (0.19, 0.16), (0.4, 0.3), (0.4, 9.0)])
@pytest.mark.parametrize("how", ["subtract", "catch_up"])
def test_short_steps_are_no_faster_and_go_no_further_than_the_action(how, step_dt, share, gone, lead):
    motion, seconds = compensated(AHEAD, share * AHEAD, how, step_dt, gone, lead)
    assert min(step_dt, max(lead, 0.2 - gone)) <= seconds <= max(step_dt, min(lead, 2 * step_dt)) + 1e-9
    if how == "catch_up":
        assert (np.abs(motion) <= np.abs(AHEAD) + 1e-12).all()
        assert (np.abs(motion) / seconds <= np.abs(AHEAD) / step_dt + 1e-9).all()
    assert (motion * (0.2 / step_dt - share) * AHEAD >= 0).all(), "towards where the model wanted the arm"


def test_translation_and_rotation_are_slowed_down_by_themselves():
    motion, _ = compensated(AHEAD, np.array([0.04, 0, 0, 0, 0, 0.04]), "catch_up", 0.2, 0.08, 0.05)
    np.testing.assert_allclose(motion, [-0.012, 0, 0, 0, 0, 0.06])


def test_who_is_told_to_stay_does_not_go_back():
    motion, seconds = compensated(np.zeros(6), AHEAD, "catch_up", 0.2, 0.1, 0.05)
    np.testing.assert_array_equal(motion, np.zeros(6))
    assert seconds == pytest.approx(0.1), "look again soon"


@pytest.mark.parametrize("latency", [0.03, 0.06, 0.12, 0.2])
def test_motions_that_take_turns_do_not_build_up(latency):
    """Each is said of an image from before the one before it was carried out."""
    unseen, fastest = np.zeros(6), 0.0
    for number in range(200):
        said = (-1) ** number * np.array([0.002, 0, 0, 0, 0, 0.01])
        motion, seconds = compensated(said, unseen, "catch_up", 0.2, latency + 0.03, latency + 0.01)
        unseen = motion * min(1.0, (latency + 0.03) / seconds)
        fastest = np.maximum(fastest, np.abs(motion[[0, 5]]) / seconds)
    assert (fastest <= np.array([0.002, 0.01]) / 0.2 + 1e-9).all()


def test_a_correction_is_not_what_the_arm_waits_for():
    """On the table top every second step took its full time for a few milliradians that turned back."""
    said, unseen = np.array([0.02, 0, 0, 0, 0, 0.001]), np.array([0.008, 0, 0, 0, 0, 0.006])
    motion, seconds = compensated(said, unseen, "catch_up", 0.2, 0.08, 0.05)
    assert seconds == pytest.approx(0.12)
    np.testing.assert_allclose(motion, [0.012, 0, 0, 0, 0, -0.0006], err_msg="as far as 0.005 rad/s go in 0.12 s")


def test_nobody_waits_for_an_answer_that_never_came():
    _, seconds = compensated(AHEAD, np.zeros(6), "catch_up", 0.2, 0.0, math.inf)
    assert seconds == pytest.approx(0.4)


def test_one_slow_answer_does_not_slow_down_all_that_follow():
    lead = Lead()
    for seconds in [1.5] + [0.06] * 18:
        lead.add(seconds)
    assert lead.seconds == 1.5, "of so few it may be the rule"
    lead.add(0.06)
    assert lead.seconds == 0.06


def test_a_step_that_ended_before_it_moved_says_nothing_of_standstill():
    waits = Waits()
    waits.begin(1.0, 0.2)
    waits.end(1.0)
    waits.begin(2.0, 0.2)
    assert waits.late == (1.0, 1.0)
    assert waits.standstill is None
