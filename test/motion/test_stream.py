"""The displacement invariant: what is streamed adds up to the action, whatever the inference does meanwhile."""

import math

import numpy as np
import pytest

from spec_vla_ros.motion.rotation import step_twist
from spec_vla_ros.motion.stream import StepStream

DELTA = np.array([0.02, -0.01, 0.03, 0.0, 0.0, 0.1])


def ideal_ticks(stream, count, start=100.0):
    """Twists of ``count`` ticks exactly one period apart."""
    return np.array([stream.tick(start + i * stream.period) for i in range(count)])


@pytest.mark.parametrize("rate", [10, 30, 50, 62.5, 100, 125, 250, 500])
@pytest.mark.parametrize("step_dt", [0.02, 0.05, 0.0667, 0.1, 0.2, 0.333, 1.0])
def test_sum_of_twist_times_period_is_the_delta(rate, step_dt):
    stream = StepStream(1 / rate)
    stream.start(DELTA / step_dt, step_dt)
    ticks = ideal_ticks(stream, int(step_dt * rate) + 5)
    np.testing.assert_allclose(ticks.sum(0) * stream.period, DELTA, rtol=1e-9)
    assert not ticks[-2:].any()


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.2, 0.86, 5.0])
def test_slow_inference_leaves_a_pause_but_no_displacement(delay):
    """Ten actions, each followed by an inference of ``delay`` seconds, travel ten times one."""
    stream, now, travelled = StepStream(0.01), 7.0, np.zeros(6)
    for _ in range(10):
        stream.start(step_twist(DELTA, 0.5, 0.2), 0.2)
        for _ in range(20 + round(delay / 0.01)):
            travelled += stream.tick(now) * 0.01
            now += 0.01
    np.testing.assert_allclose(travelled, 10 * 0.5 * DELTA, rtol=1e-9)


def test_the_velocity_is_held_for_one_step_and_not_longer():
    stream = StepStream(0.01)
    stream.start(DELTA / 0.2, 0.2)
    ticks = ideal_ticks(stream, 25)
    np.testing.assert_allclose(ticks[:20], np.tile(DELTA / 0.2, (20, 1)))
    assert not ticks[20:].any()


def test_the_last_partial_tick_is_scaled():
    stream = StepStream(0.02)
    stream.start(np.ones(6), 0.05)
    assert [round(t[0], 9) for t in ideal_ticks(stream, 4)] == [1.0, 1.0, 0.5, 0.0]


def test_a_step_shorter_than_a_period_still_travels_its_delta():
    stream = StepStream(0.1)
    stream.start(DELTA / 0.04, 0.04)
    np.testing.assert_allclose(ideal_ticks(stream, 3).sum(0) * 0.1, DELTA)


@pytest.mark.parametrize("seed", range(20))
def test_jitter_and_missed_ticks_do_not_change_the_time_integral(seed):
    """A sink holds the last twist; late or lost ticks must not add to the way.

    Only the interval after the last tick of a step can run over, by its own jitter.
    """
    rng = np.random.default_rng(seed)
    stream = StepStream(0.01)
    stream.start(DELTA / 0.2, 0.2)
    grid = np.arange(40) * 0.01
    times = grid + rng.uniform(0, 0.004, grid.size)
    keep = np.ones(grid.size, dtype=bool)
    keep[rng.integers(1, 17, 4)] = False  # ticks that never came
    times = times[keep]
    twists = np.array([stream.tick(t) for t in times])
    travelled = (twists[:-1] * np.diff(times)[:, None]).sum(0)
    np.testing.assert_allclose(travelled, DELTA, rtol=0.025)


def test_a_stall_ends_the_step_instead_of_prolonging_it():
    stream = StepStream(0.01)
    stream.start(DELTA / 0.2, 0.2)
    stream.tick(0.0)
    assert not stream.tick(0.5).any()
    assert not stream.live


def test_live_covers_the_wait_for_the_first_tick_and_ends_with_the_first_zero():
    stream = StepStream(0.01)
    assert not stream.live
    stream.start(DELTA, 0.02)
    assert stream.live
    seen = []
    for i in range(4):
        stream.tick(i * 0.01)
        seen.append(stream.live)
    assert seen == [True, True, False, False]


def test_the_clock_of_a_step_starts_at_its_first_tick():
    stream = StepStream(0.01)
    stream.start(DELTA / 0.2, 0.2)
    assert ideal_ticks(stream, 30, start=1e6).any(axis=1).sum() == 20


def test_stop_is_zero_at_once_and_for_good():
    stream = StepStream(0.01)
    stream.start(DELTA, 0.2)
    stream.tick(0.0)
    stream.stop()
    assert not stream.live
    assert not ideal_ticks(stream, 5, start=0.01).any()


def test_a_new_step_replaces_the_rest_of_the_old_one():
    stream = StepStream(0.01)
    stream.start(np.ones(6), 0.2)
    stream.tick(0.0)
    stream.start(np.full(6, 2.0), 0.02)
    assert [t[0] for t in ideal_ticks(stream, 3, start=0.01)] == pytest.approx([2.0, 2.0, 0.0])


def test_before_any_step_every_tick_is_zero():
    assert not ideal_ticks(StepStream(0.01), 3).any()


def test_the_caller_cannot_change_a_step_afterwards():
    stream, twist = StepStream(0.01), np.ones(6)
    stream.start(twist, 0.2)
    twist[:] = 9
    stream.tick(0.0)[:] = 7
    assert stream.tick(0.01)[0] == 1.0


def test_a_step_that_replaces_another_begins_at_its_own_first_tick():
    stream = StepStream(0.01)
    stream.start(np.ones(6), 0.05)
    stream.tick(0.0)
    stream.start(np.full(6, 2.0), 0.05)
    assert [t[0] for t in ideal_ticks(stream, 6, start=0.04)] == pytest.approx([2.0] * 5 + [0.0])


@pytest.mark.parametrize("period", [0.0, -0.01, math.nan])
def test_a_period_that_is_not_positive_is_refused(period):
    with pytest.raises(ValueError, match="period"):
        StepStream(period)


def test_a_step_that_follows_shares_the_last_tick_in_the_measure_of_their_times():
    """Cut to whole ticks, a step would fall short or be stretched, and a rest of a tick would be a jolt."""
    stream, said = StepStream(0.01), []
    stream.start(np.full(6, 0.1), 0.205)
    for number in range(60):
        now = 5.0 + 0.01 * number
        if number == 20:
            stream.succeed(np.full(6, 0.3), 0.1, now)
        said.append(stream.tick(now)[0])
    assert said[19:22] == pytest.approx([0.1, 0.2, 0.3])
    assert sum(said) * 0.01 == pytest.approx(0.1 * 0.205 + 0.3 * 0.1)
    assert not any(said[32:])


@pytest.mark.parametrize("phase", [-0.0099, -0.003, 0.0, 0.0004, 0.004])
def test_ticks_that_come_early_or_late_leave_no_gap_between_two_steps(phase):
    stream, said = StepStream(0.01), []
    stream.start(np.full(6, 0.1), 0.2)
    for number in range(50):
        now = 5.0 + 0.01 * number + (phase if number >= 20 else 0.0)
        if number >= 20 and len(said) == number and stream.started == 5.0 and stream.left(now) < 1.0:
            stream.succeed(np.full(6, 0.1), 0.2, now)
        said.append(stream.tick(now)[0])
    assert said[:39] == pytest.approx([0.1] * 39)


def test_a_step_shorter_than_a_tick_may_follow():
    stream = StepStream(0.05)
    stream.start(np.full(6, 0.1), 0.1)
    said = [stream.tick(5.0)[0], stream.tick(5.05)[0]]
    stream.succeed(np.full(6, 0.2), 0.02, 5.1)
    said += [stream.tick(5.1 + 0.05 * number)[0] for number in range(3)]
    assert sum(said) * 0.05 == pytest.approx(0.1 * 0.1 + 0.2 * 0.02)


def test_what_is_left_of_a_step():
    stream = StepStream(0.01)
    assert (stream.left(5.0), stream.started) == (0.0, None)
    stream.start(np.full(6, 0.1), 0.2)
    assert stream.left(5.0) == pytest.approx(20)
    stream.tick(5.0)
    assert stream.started == 5.0
    assert stream.left(5.15) == pytest.approx(5)
    assert stream.left(7.0) == 0.0


def test_a_late_first_tick_does_not_make_the_velocities_add_up_to_more_than_the_action():
    """The ones behind it keep their times, so that one more begins before the step's time is over."""
    stream, said = StepStream(0.01), []
    stream.start(np.full(6, 0.1), 0.2)
    for number in range(25):
        said.append(stream.tick(5.003 if number == 0 else 5.0 + 0.01 * number)[0])
    assert sum(said) * 0.01 == pytest.approx(0.1 * 0.2)


@pytest.mark.parametrize("seed", range(50))
def test_whatever_the_ticks_do_no_sum_goes_beyond_the_action(seed):
    """Neither velocity times period nor velocity times the time until the next tick."""
    rng = np.random.default_rng(seed)
    period, step_dt = float(rng.choice([0.002, 0.01, 0.05])), float(rng.uniform(0.02, 0.4))
    stream = StepStream(period)
    times = np.sort(5.0 + period * (np.arange(300) + rng.choice([0.0, 0.3, 3.0]) * rng.random(300)))
    stream.start(np.full(6, 0.1), step_dt)
    said = np.array([stream.tick(now)[0] for now in times])
    assert said.sum() * period <= 0.1 * step_dt * (1 + 1e-9)
    held = float((said[:-1] * np.diff(times)).sum())
    gaps = np.diff(times)[said[:-1] > 0]
    assert held <= 0.1 * (step_dt + max(0.0, gaps.max() - period)) * (1 + 1e-9)
