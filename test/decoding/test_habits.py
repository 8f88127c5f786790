"""What was said before is recalled where the arm moves alike, and weighs nothing where it does not help."""

import time

import numpy as np
import pytest

from spec_vla_ros.decoding.drafters.forecast import forecast, windows
from spec_vla_ros.decoding.drafters.habits import CAPACITY, FEWEST, LOOK_BACK, NEIGHBOURS, Habits
from spec_vla_ros.openvla.action_tokens import ActionTokens

BINS = ActionTokens(32000, 256).bins
RADIUS = 9


def episodes(count, kinds, steps=10, action_dim=7, seed=0):
    """(steps, A) each: one of a few motions that jump about, so that no continuation of a motion foretells it."""
    rng = np.random.default_rng(seed)
    known = rng.integers(0, BINS, (kinds, steps, action_dim))
    return [(known[i % kinds] + rng.integers(-2, 3, known[0].shape)).clip(0, BINS - 1) for i in range(count)]


def hits(played, habits):
    """Of each action whether the likeliest window of every drafted dimension would have accepted it."""
    found = []
    for episode in played:
        if habits is not None:
            habits.begin()
        for step, action in enumerate(episode):
            density = forecast(episode[:step, :-1], BINS, habits)
            middles, _ = windows(density, np.full(len(density), RADIUS), 1)
            found.append(bool((np.abs(middles[:, 0] - action[:-1]) <= RADIUS).all()))
            if habits is not None:
                habits.learn(action)
    return np.array(found)


def told(actions, action_dim):
    habits = Habits(action_dim, BINS)
    for action in actions:
        habits.learn(action)
    return habits


def walks(count, steps=20, seed=0):
    """Smooth motions that never come again."""
    rng = np.random.default_rng(seed)
    return [
        (127 + rng.normal(0, 6, (steps, 7)).cumsum(0).cumsum(0)).clip(0, BINS - 1).round().astype(int)
        for _ in range(count)
    ]


def test_what_followed_in_earlier_episodes_is_recalled():
    played = episodes(12, kinds=3)
    first, later = np.split(hits(played, Habits(7, BINS)).reshape(12, -1), [3])
    assert first.mean() < 0.2, "nothing has come again yet"
    assert later.mean() > 0.6
    assert hits(played, None).mean() < 0.2


def test_the_beginning_of_an_episode_is_recalled_too():
    habits = Habits(7, BINS)
    (first, second) = episodes(2, kinds=1)
    hits([first], habits)
    habits.begin()
    middles, _ = windows(forecast(second[:0, :-1], BINS, habits), np.full(6, RADIUS), 2)
    apart = np.abs(middles - second[0, :-1, None]).min(1)
    assert (apart <= RADIUS).all(), "no motion, or what was said in its place before"


def test_the_same_change_is_recalled_from_beside_where_it_was():
    """A little beside its earlier way the arm does not jump back to it: what was said is off, how it changed is not."""
    jumps = np.random.default_rng(3).integers(30, BINS - 30, (40, 1))
    habits = told([*jumps] * NEIGHBOURS, 1)
    habits.begin()
    right, beside = [], jumps + 12
    for step, bins in enumerate(beside):
        middles, _ = windows(forecast(beside[:step], BINS, habits), np.array([3]), 1)
        right.append(abs(int(middles[0, 0]) - int(bins[0])) <= 3)
        habits.learn(bins)
    assert np.mean(right[20:]) > 0.7


def test_a_trend_is_learnt_that_no_simple_guess_follows():
    """Every change is the one before turned by a third of a circle: neither going on nor turning back is right."""
    angle = 2 * np.pi / 3.7 * np.arange(60)
    waves = [np.stack([127 + size * np.sin(angle + size), 127 + size * np.cos(angle + size)], 1) for size in (90, 55)]
    played = [wave.round().astype(int)[:, [0, 1, 1]] for wave in waves]
    _, second = hits(played, Habits(3, BINS)).reshape(2, -1)
    assert second[LOOK_BACK:].mean() > 0.9
    assert hits(played[1:], None)[LOOK_BACK:].mean() < 0.3


def test_a_useless_memory_costs_nothing():
    """Noise was remembered, the arm moves smoothly: guesses that are wrong lose their weight within a few actions."""
    noise, smooth = np.random.default_rng(1).integers(0, BINS, (500, LOOK_BACK + 1, 7)), walks(6)
    without, with_noise = hits(smooth, None), hits(smooth, Habits.of(noise, BINS))
    assert without.mean() > 0.1, "the comparison says something"
    assert with_noise.mean() >= without.mean() - 0.02


def test_without_a_memory_everything_is_as_it_was():
    said = np.random.default_rng(0).integers(0, BINS, (6, 6))
    assert (forecast(said, BINS, Habits(7, BINS)) == forecast(said, BINS)).all()


@pytest.mark.parametrize("action_dim", [1, 2, 9])
def test_guesses_are_distributions_of_any_width(action_dim):
    rng, habits = np.random.default_rng(0), Habits(action_dim, BINS)
    for count in range(FEWEST + NEIGHBOURS):
        guesses, evidence = habits.ahead()
        assert (len(guesses) > 0) == (count >= FEWEST)
        assert guesses.shape[1:] == (action_dim, BINS)
        assert evidence.shape == guesses.shape[:2]
        assert np.allclose(guesses.sum(2), 1)
        density = forecast(np.zeros((0, max(action_dim - 1, 1)), dtype=int), BINS, habits)
        assert np.allclose(density.sum(1), 1)
        habits.learn(rng.integers(0, BINS, action_dim))


def test_the_memory_is_bounded_and_the_oldest_makes_room():
    habits = Habits.of(np.full((CAPACITY + 1, LOOK_BACK + 1, 7), 10), BINS)
    assert len(habits.moments) == CAPACITY
    for bins in (50, 60, 70):
        habits.learn(np.full(7, bins))
    assert len(habits.moments) == CAPACITY
    assert habits.moments[-3:, -1, 0].tolist() == [50, 60, 70], "the newest last"
    assert (habits.moments[:-3, -1] == 10).all()


def test_a_full_memory_is_asked_within_two_milliseconds():
    habits = Habits.of(np.random.default_rng(0).integers(0, BINS, (CAPACITY, LOOK_BACK + 1, 7)), BINS)
    taken = []
    for _ in range(20):
        habits.begin()
        began = time.perf_counter()
        habits.ahead()
        taken.append(time.perf_counter() - began)
    assert min(taken) < 2e-3


def test_what_was_said_and_how_it_changed_are_told_apart():
    """From 20 the arm went to 40. A little above 20 it goes to 40, or as far up."""
    habits = told([*[[20]] * LOOK_BACK, [40]] * NEIGHBOURS, 1)
    habits.begin()
    for _ in range(LOOK_BACK):
        habits.learn([26])
    said = [guess[0, 30:55].argmax() + 30 for guess in habits.ahead()[0][-4:]]
    assert said == [40, 46, 40, 46], "by all dimensions and by this one"


def test_the_same_actions_give_the_same_guesses():
    played = episodes(4, kinds=2)
    one, other = Habits(7, BINS), Habits(7, BINS)
    assert (hits(played, one) == hits(played, other)).all()
    assert (one.ahead()[0] == other.ahead()[0]).all()
    assert (one.ahead()[1] == other.ahead()[1]).all()


def test_what_was_remembered_gives_the_guesses_that_it_gave():
    habits = Habits(7, BINS)
    hits(episodes(4, kinds=2), habits)
    again = Habits.of(habits.moments, BINS)
    habits.begin()
    assert (again.moments == habits.moments).all()
    assert (again.ahead()[0] == habits.ahead()[0]).all()


def test_another_episode_forgets_what_guesses_were_worth_and_where_the_arm_was():
    habits = Habits(7, BINS)
    hits(episodes(2, kinds=1), habits)
    assert (habits.ahead()[1] != 0).any()
    habits.begin()
    fresh = Habits.of(habits.moments, BINS)
    assert (habits.ahead()[1] == 0).all()
    assert (habits.ahead()[0] == fresh.ahead()[0]).all()
