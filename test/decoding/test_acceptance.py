"""The acceptance rule against a plain restatement of it, on random tokens and at the edges."""

import pytest
import torch

from spec_vla_ros.decoding.acceptance import accepted_length, bin_distance
from spec_vla_ros.openvla.action_tokens import ActionTokens

TOKENS = ActionTokens(32000, 256)


def restated(draft, verifier, radii):
    """The rule in plain Python: count leading tokens that stand."""
    count = 0
    for d, v, r in zip(draft, verifier, radii, strict=True):
        if not (31744 <= d <= 31999 and 31744 <= v <= 31999):
            break
        if r == 0 and d != v:
            break
        if abs(min(31999 - d, 254) - min(31999 - v, 254)) > r:
            break
        count += 1
    return count


def accepted(draft, verifier, radii):
    """Accepted length as an int."""
    draft, verifier, radii = (torch.tensor(values, dtype=torch.long) for values in (draft, verifier, radii))
    return int(accepted_length(draft, verifier, radii, TOKENS))


def test_equals_its_restatement_on_random_tokens():
    generator = torch.Generator().manual_seed(1)
    for _ in range(2000):
        verifier = torch.randint(31735, 32010, (6,), generator=generator)
        draft = verifier + torch.randint(-12, 13, (6,), generator=generator)
        radii = torch.randint(0, 13, (6,), generator=generator)
        assert accepted(draft.tolist(), verifier.tolist(), radii.tolist()) == restated(
            draft.tolist(), verifier.tolist(), radii.tolist()
        )


def test_radius_zero_is_equality():
    assert accepted([31800, 31801, 31802], [31800, 31801, 31803], [0, 0, 0]) == 2


def test_a_later_match_does_not_count_after_a_miss():
    assert accepted([31800, 31900, 31802], [31800, 31800, 31802], [9, 9, 9]) == 1


@pytest.mark.parametrize("radius", [0, 1, 9, 255])
@pytest.mark.parametrize("other", [-1, 2, 10, 31743, 32000, 32063])
def test_no_radius_reaches_a_token_that_is_no_action(radius, other):
    # Comparing raw ids would let padding (-1) pass for the end token (2), and 31740 for the action 31745.
    for draft, verifier in ((31745, other), (other, 31745), (other, other), (other, other + 1)):
        if not (TOKENS.is_action(draft) and TOKENS.is_action(verifier)):
            assert accepted([draft], [verifier], [radius]) == 0


def test_the_two_topmost_ids_are_the_same_bin_but_not_the_same_token():
    assert int(bin_distance(torch.tensor(31744), torch.tensor(31745), TOKENS)) == 0
    assert accepted([31744], [31745], [1]) == 1
    assert accepted([31744], [31745], [0]) == 0


def test_distance_counts_bins_not_ids():
    assert accepted([31744], [31746], [1]) == 1
    assert int(bin_distance(torch.tensor(31744), torch.tensor(31746), TOKENS)) == 1


def test_each_dimension_has_its_own_radius():
    assert accepted([31800, 31800], [31805, 31805], [5, 4]) == 1


def test_branches_are_judged_side_by_side():
    draft = torch.tensor([[31800, 31801], [31800, 31900]])
    verifier = torch.tensor([[31800, 31801], [31800, 31801]])
    assert accepted_length(draft, verifier, torch.tensor([0, 0]), TOKENS).tolist() == [2, 1]


def test_an_empty_draft_is_accepted_to_length_zero():
    assert accepted([], [], []) == 0
