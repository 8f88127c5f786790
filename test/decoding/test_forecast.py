"""Drafts where the next tokens probably are."""

import numpy as np
import pytest

from spec_vla_ros.decoding.drafters import DraftContext, make_drafters
from spec_vla_ros.decoding.drafters.forecast import branches, forecast, windows
from spec_vla_ros.decoding.tree import TREE_ROWS, DraftTree
from spec_vla_ros.openvla.action_tokens import ActionTokens

TOKENS = ActionTokens(32000, 256)
BINS = TOKENS.bins


def propose(history, action_dim=7, radius=9, width=64, **changes):
    (drafter,) = make_drafters(["forecast"])
    count = changes.pop("count", action_dim - 1)
    ids = tuple(tuple(int(id_) for id_ in TOKENS.to_ids(action)) for action in history)
    return drafter.propose(DraftContext(0, count, width, (radius,) * action_dim, TOKENS, ids, **changes))


def test_a_steady_change_goes_on_and_rest_stays_rest():
    moving = [[20 + 10 * step, 127, 127, 127, 200 - 8 * step, 127, 254] for step in range(8)]
    (first, *_) = propose(moving, radius=3)
    assert np.abs(TOKENS.to_bins(first) - [100, 127, 127, 127, 136, 127]).max() <= 3
    (first, *_) = propose([[60, 10, 127, 90, 200, 127, 254]] * 5, radius=3)
    assert np.abs(TOKENS.to_bins(first) - [60, 10, 127, 90, 200, 127]).max() <= 3
    (first, *_) = propose([], radius=3)
    assert np.abs(TOKENS.to_bins(first) - 127).max() <= 3, "before the first action the arm stood still"


def test_what_has_been_right_in_this_episode_is_believed():
    """Differences that halve: neither going on as before nor standing still is right, going half as far on is."""
    place, step, said = 20.0, 64.0, []
    for _ in range(5):
        said.append([round(place)])
        place, step = place + step, step / 2
    density = forecast(np.array(said), BINS)
    middles, _ = windows(density, np.array([2]), 1)
    assert abs(middles[0, 0] - round(place)) <= 2


def test_it_is_a_distribution_whatever_was_said():
    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 32):
        density = forecast(rng.integers(0, BINS, (count, 6)), BINS)
        assert density.shape == (6, BINS)
        assert np.allclose(density.sum(1), 1.0)
        assert (density > 0).all()


def test_windows_do_not_overlap_and_the_likeliest_comes_first():
    density = np.full((1, BINS), 1e-6)
    density[0, [50, 55, 200]] = 0.3, 0.1, 0.35
    middles, mass = windows(density, np.array([9]), 3)
    assert mass[0, 0] == pytest.approx(0.4, abs=1e-4)
    assert abs(middles[0, 0] - 50) <= 9
    assert abs(middles[0, 0] - 55) <= 9
    assert abs(middles[0, 1] - 200) <= 9
    assert min(abs(middles[0, 2] - middles[0, :2])) > 9


def test_branches_are_worth_their_rows():
    """A second window of the last dimension costs one row, of the first one a row of each dimension."""
    mass = np.array([[0.6, 0.3], [0.9, 0.01], [0.7, 0.2]])
    assert branches(mass, 4) == [(0, 0, 0), (0, 0, 1)]
    assert branches(mass, 7)[:3] == [(0, 0, 0), (0, 0, 1), (1, 0, 0)]
    assert branches(mass, 2) == [], "no room for a whole one"


@pytest.mark.parametrize("action_dim", range(2, 10))
@pytest.mark.parametrize("radius", [0, 9, 254])
def test_the_tree_fits_into_a_pass_and_every_branch_is_whole(action_dim, radius):
    rng = np.random.default_rng(action_dim)
    drafts = propose(rng.integers(0, BINS, (6, action_dim)).tolist(), action_dim, radius)
    assert drafts
    assert all(len(chain) == action_dim - 1 and all(map(TOKENS.is_action, chain)) for chain in drafts)
    assert len({tuple(chain) for chain in drafts}) == len(drafts)
    whole = DraftTree.of([("", chain) for chain in drafts], 1000)
    assert len(whole) <= TREE_ROWS


def test_where_everything_is_accepted_the_likeliest_is_drafted():
    """All windows are worth the same then; the outermost bin would condition what follows on a motion nobody meant."""
    (only,) = propose([[60, 10, 127, 90, 200, 127, 254]] * 5, radius=254)
    assert np.abs(TOKENS.to_bins(only) - [60, 10, 127, 90, 200, 127]).max() <= 1


def test_it_obeys_width_and_depth_and_is_silent_after_the_first_pass():
    history = [[127] * 7, [140] * 7]
    assert propose(history, width=3) == propose(history)[:3]
    assert all(len(chain) == 2 for chain in propose(history, count=2))
    assert not propose(history, emitted=(31990,))


def test_a_saturated_token_can_be_matched_at_radius_0():
    """Two ids share the topmost bin, and saturated data have the lower one, which a plain conversion never says."""
    saturated = TOKENS.first
    (drafter,) = make_drafters(["forecast"])
    for said in (saturated, saturated + 1):
        context = DraftContext(0, 1, 1, (0, 0), TOKENS, ((said, saturated),) * 4)
        assert drafter.propose(context) == [[said]]
    rising = tuple((int(TOKENS.to_ids(BINS - 1 - 10 * (3 - step))), 31999) for step in range(3))
    assert [saturated] in drafter.propose(DraftContext(0, 1, 64, (0, 0), TOKENS, rising))
