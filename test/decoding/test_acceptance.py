"""The acceptance rule against a plain restatement of it, on random tokens and at the edges."""

import pytest
import torch

from spec_vla_ros.decoding.acceptance import best_node, bin_distance, far_apart, margins_of
from spec_vla_ros.decoding.outcome import Question, outcome_of, read_outcome
from spec_vla_ros.decoding.tree import ROOT, DraftTree
from spec_vla_ros.openvla.action_tokens import ActionTokens

TOKENS = ActionTokens(32000, 256)
APART = far_apart(TOKENS, "cpu")


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
    return 1 + judged(draft, verifier, range(-1, len(draft) - 1), radii)


def judged(draft, verifier, parents, radii, costs=(), **more):
    """The winning node of a tree; ``verifier``: its choice at each node's parent, ``radii`` by depth."""
    tree = DraftTree(tuple(draft), tuple(parents), ("x",) * len(draft))
    choices = [0] * (len(draft) + 1)
    for parent, choice in zip(tree.parents, verifier, strict=True):
        choices[parent + 1] = choice
    return best_node(tree, choices, radii, TOKENS, costs=costs, **more)


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
    assert bin_distance(31744, 31745, TOKENS) == 0
    assert accepted([31744], [31745], [1]) == 1
    assert accepted([31744], [31745], [0]) == 0


def test_distance_counts_bins_not_ids():
    assert accepted([31744], [31746], [1]) == 1
    assert bin_distance(31744, 31746, TOKENS) == 1


def test_each_dimension_has_its_own_radius():
    assert accepted([31800, 31800], [31805, 31805], [5, 4]) == 1


def test_the_longest_branch_wins_whatever_its_place():
    # Two branches from the root: 31800 -> 31801 and 31805 -> 31806 -> 31807, the second two further off.
    draft, verifier = [31800, 31801, 31805, 31806, 31807], [31801, 31840, 31801, 31804, 31808]
    assert judged(draft, verifier, [-1, 0, -1, 2, 3], [9] * 5) == 4
    assert judged(draft, verifier, [-1, 0, -1, 2, 3], [3] * 5) == 0


def test_the_longest_branch_wins_however_far_off_and_among_however_many():
    # Two steps, each as far off as the radius lets them be, against 62 exact first steps.
    draft, verifier = [31990, *[31800] * 62, 31990], [31800] * 64
    assert judged(draft, verifier, [-1] * 63 + [0], [200] * 64) == 63


def test_of_equally_long_branches_the_nearest_wins_and_so_an_exact_one():
    draft, verifier = [31803, 31800, 31799], [31800] * 3
    assert judged(draft, verifier, [-1, -1, -1], [9] * 3) == 1
    assert judged(draft[:1] + draft[2:], verifier[:2], [-1, -1], [9] * 2) == 1
    assert judged([31803, 31797], verifier[:2], [-1, -1], [9] * 2) == 0, "a tie goes to the earlier one"


def test_what_costs_nothing_takes_nothing_from_the_budget():
    draft, verifier = [31800, 31800, 31800], [31804, 31804, 31804]
    chain = [-1, 0, 1]
    assert judged(draft, verifier, chain, [9] * 3, [1, 0, 1], budget=8) == 2
    assert judged(draft, verifier, chain, [9] * 3, [1, 0, 1], budget=7) == 1
    assert judged(draft, verifier, chain, [9] * 3, [0, 0, 0], budget=0) == 2
    assert judged(draft, verifier, chain, [9, 3, 9], [0, 0, 0], budget=0) == 0, "it has its radius all the same"


def test_of_branches_that_cost_nothing_the_nearest_wins():
    """What later tokens are conditioned on is as near to the model's own choice as it can be."""
    assert judged([31803, 31800, 31799], [31800] * 3, [-1] * 3, [9] * 3, [0] * 3, budget=0) == 1


def test_a_budget_cuts_the_branch_where_it_is_spent():
    draft, verifier = [31800, 31800, 31800], [31804, 31804, 31804]
    assert [judged(draft, verifier, [-1, 0, 1], [9] * 3, budget=budget) for budget in (12, 11, 8, 7, 3)] == [
        2,
        1,
        1,
        0,
        -1,
    ]


def test_a_branch_that_is_too_dear_does_not_hide_the_next_one():
    assert judged([31804, 31801], [31800] * 2, [-1, -1], [9], budget=2) == 1
    assert judged([31820, 31801], [31800] * 2, [-1, -1], [9]) == 1, "nor one that is too far off"
    assert judged([31820, 31800, 31801], [31800] * 3, [-1, 0, -1], [9] * 2) == 2, "nor what follows that"


def test_trees_equal_the_judgement_of_each_branch_alone():
    generator = torch.Generator().manual_seed(2)
    for _ in range(300):
        count = int(torch.randint(1, 20, (), generator=generator))
        parents = [int(torch.randint(-1, n, (), generator=generator)) if n else ROOT for n in range(count)]
        choices = torch.randint(31735, 32005, (count + 1,), generator=generator).tolist()
        verifier = [choices[parent + 1] for parent in parents]
        draft = [choice + int(torch.randint(-6, 7, (), generator=generator)) for choice in verifier]
        radii = torch.randint(0, 8, (count,), generator=generator).tolist()
        tree = DraftTree(tuple(draft), tuple(parents), ("x",) * count)

        def standing(node, tree=tree, verifier=verifier, radii=radii):
            path = tree.path(node)
            said, near = [verifier[n] for n in path], [radii[tree.depths[n]] for n in path]
            return restated([tree.tokens[n] for n in path], said, near) == len(path), len(path)

        best = judged(draft, verifier, parents, radii)
        lengths = [length for fine, length in map(standing, range(count)) if fine]
        assert len(tree.path(best)) == max(lengths, default=0)
        assert best == ROOT or standing(best)[0]


def test_equal_beginnings_share_nodes_and_rows_are_bounded():
    chains = [("a", [1, 2, 3]), ("b", [1, 2, 4]), ("b", [5])]
    tree = DraftTree.of(chains, rows=10)
    assert (tree.tokens, tree.parents, tree.names) == ((1, 2, 3, 4, 5), (-1, 0, 1, 1, -1), ("a", "a", "a", "b", "b"))
    assert tree.path(3) == [0, 1, 3]
    assert tree.children(1) == [2, 3]
    assert DraftTree.of(chains, rows=4).tokens == (1, 2, 3, 4)


def test_a_chain_that_does_not_fit_is_left_out_whole():
    """A branch cut short was the nearest, and what the model said on it ended too early: a third pass."""
    chains = [("a", [1, 2, 3]), ("b", [1, 2, 4]), ("c", [5, 6, 7]), ("d", [1, 8])]
    tree = DraftTree.of(chains, rows=6, whole=True)
    assert tree.tokens == (1, 2, 3, 4, 8)
    assert tree.names == ("a", "a", "a", "b", "d")
    assert DraftTree.of(chains, rows=6).tokens == (1, 2, 3, 4, 5, 6)
    assert DraftTree.of(chains, rows=8, whole=True).tokens == (1, 2, 3, 4, 5, 6, 7, 8)


def test_an_empty_draft_is_accepted_to_length_zero():
    assert accepted([], [], []) == 0


# -- how sure the verifier is


def logits_of(best, **others):
    """(1, vocabulary) logits: 3 at the action token ``best``, -5 elsewhere; ``others``: by distance from ``best``."""
    logits = torch.full((1, 32064), -5.0)
    logits[0, TOKENS.first + best] = 3.0
    for where, value in others.items():
        logits[0, TOKENS.first + best + int(where.replace("up", "").replace("down", "-"))] = value
    return logits


@pytest.mark.parametrize("side", ["up", "down"])
def test_a_choice_up_to_36_bins_away_is_the_same_motion(side):
    assert margins_of(logits_of(100, **{f"{side}36": 2.5, f"{side}37": 1.0}), TOKENS, APART).item() == 2.0
    assert margins_of(logits_of(100, **{f"{side}36": 2.5}), TOKENS, APART).item() == 8.0


def test_each_choice_has_its_own_margin():
    rows = torch.cat([logits_of(100, up90=1.0), logits_of(0, up40=2.5), logits_of(255, down40=0.0)])
    assert margins_of(rows, TOKENS, APART).tolist() == [2.0, 0.5, 3.0]


def test_words_are_no_alternative_to_a_motion():
    logits = logits_of(100)
    logits[0, [TOKENS.first - 1, TOKENS.vocab_end]] = 9.0
    assert margins_of(logits, TOKENS, APART).item() == 8.0


def test_a_margin_is_a_number_even_where_nothing_else_was_possible():
    """An operator may be shown it. Logits are finite, but there may be too few bins for any to be far."""
    few = ActionTokens(vocab_end=30, n_bins=20)
    logits = torch.zeros(1, 40)
    outcome = outcome_of(logits, few, far_apart(few, "cpu"))
    assert 1e5 < read_outcome(outcome, Question(1, 0), few).margins[0] < 1e9
