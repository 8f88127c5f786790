"""Verifiers without a model: what they say, and that they judge as the real one."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from spec_vla_ros.bench.decoding.stub_verifier import RecordedVerifier, TippedVerifier
from spec_vla_ros.decoding.decoder import decode_speculative
from spec_vla_ros.decoding.drafters import Drafter
from spec_vla_ros.decoding.tree import DraftTree
from spec_vla_ros.openvla.action_tokens import ActionTokens
from spec_vla_ros.policy_types import DecodeSettings

TOKENS, PROMPT = ActionTokens(), torch.zeros(1, 5, 1)


def ids(*bins):
    return [31999 - place for place in bins]


class Says(Drafter):
    """Always drafts the same."""

    name = "says"

    def __init__(self, *bins):
        self.tokens = ids(*bins)

    def propose(self, context):
        return [self.tokens[context.first : context.first + context.count]]


def recorded(*bins, episode=0, step=0, stub=None):
    stub = stub or RecordedVerifier(TOKENS)
    stub.expect(ids(*bins), episode, step)
    return stub


def tipped(*bins, share=1.0, step=0, stream=None):
    stream = stream or [[place] * len(bins) for place in (10, 60, 110, 160, 210)]
    return recorded(*bins, step=step, stub=TippedVerifier(TOKENS, np.array([ids(*row) for row in stream]), share))


def decode(stub, draft, dims, radius=9):
    settings = DecodeSettings(acceptance_radius=radius, draft_depth=dims - 1)
    return decode_speculative(stub, PROMPT, settings.tolerance((1.0,) * dims), [Says(*draft)], settings)


def test_drafts_within_the_radius_take_one_pass_and_the_recorded_tokens_are_emitted():
    decoded = decode(recorded(100, 50, 200), (109, 41, 0), 3)
    assert decoded.report.verifier_passes == 1
    assert decoded.tokens == tuple(ids(100, 50, 200))


def test_a_draft_one_bin_beyond_the_radius_takes_another_pass():
    decoded = decode(recorded(100, 50, 200), (110, 50, 0), 3)
    assert decoded.report.accepted_per_pass == (0, 1)
    assert decoded.tokens == tuple(ids(100, 50, 200))


def test_the_budget_of_a_branch_counts():
    tree = DraftTree.of([("a", ids(105, 55))], 64)
    assert recorded(100, 50, 200).run(PROMPT, 0, tree, (9, 9, 0), 9).path == [0]
    assert recorded(100, 50, 200).run(PROMPT, 0, tree, (9, 9, 0), 9, (0, 1, 1)).path == [0, 1]


def test_every_row_gets_the_token_of_its_dimension():
    tree = DraftTree.of([("a", ids(1, 2)), ("b", ids(250, 2))], 64)
    verdict = recorded(100, 50, 200).run(PROMPT, 0, tree, (0, 0))
    assert verdict.greedy == ids(100, 50, 200, 50, 200)
    assert min(verdict.margins) == float("inf")


def test_a_pass_goes_on_where_it_is_told_to():
    stub = recorded(100, 50, 200, 7)
    stub.run(PROMPT, 0, DraftTree.of([("a", ids(100, 50))], 64), (0, 0))
    assert stub.run(ids(200)[0], 7).greedy == ids(7)
    assert stub.run(ids(100)[0], 5).greedy == ids(50), "a second look begins anew after the first token"


def test_states_that_nobody_has_are_refused_in_words():
    with pytest.raises(NotImplementedError, match="states of a model"):
        _ = recorded(100).run(PROMPT, 0).hidden


def test_an_exact_prefix_is_never_tipped():
    for step in range(50):
        verdict = tipped(100, 50, 200, step=step).run(PROMPT, 0, DraftTree.of([("a", ids(100, 50))], 64), (0, 0))
        assert verdict.greedy == ids(100, 50, 200)


def test_an_inexact_prefix_is_tipped_as_often_as_asked():
    tree = DraftTree.of([("a", ids(104))], 64)
    for share, low, high in ((0.0, 0, 0), (0.3, 100, 200), (1.0, 480, 500)):
        said = [tipped(100, 120, 9, share=share, step=step).run(PROMPT, 0, tree, (9,)).greedy for step in range(500)]
        assert all(first == ids(100)[0] for first, _ in said)
        assert low <= sum(second != ids(120)[0] for _, second in said) <= high


def test_tips_grow_with_the_distance_and_sometimes_go_to_another_motion_of_the_stream():
    moved = {}
    for distance in (1, 8, 40):
        tree = DraftTree.of([("a", ids(100 + distance))], 64)
        greedy = [tipped(100, 121, 9, step=step).run(PROMPT, 0, tree, (9,)).greedy[1] for step in range(400)]
        moved[distance] = [abs(31999 - token - 121) for token in greedy]
        modes = [gap for gap in moved[distance] if gap in (111, 61, 11, 39, 89)]
        assert 15 <= len(modes) <= 80
        near = [gap for gap in moved[distance] if gap not in (111, 61, 11, 39, 89)]
        assert max(near) == max(1, distance // 2)
        assert min(near) == 1


def test_a_switch_goes_to_its_other_position_or_stays():
    stream = [[10, 0], [60, 254], [110, 0], [160, 254], [200, 254]]
    tree = DraftTree.of([("a", ids(108))], 64)
    said = {tipped(100, 254, step=s, stream=stream).run(PROMPT, 0, tree, (9,)).greedy[1] for s in range(200)}
    assert said == set(ids(0, 254))


def test_the_same_prefix_of_the_same_action_gets_the_same_answer_and_another_another():
    tree = DraftTree.of([("a", ids(108, 130, 9)), ("b", ids(106, 130, 9))], 64)
    one, again, other = (tipped(100, 121, 30, 9, step=step).run(PROMPT, 0, tree, (9,) * 3).greedy for step in (0, 0, 1))
    assert one == again
    assert one != other
    assert one[1:4] != one[4:]


def test_what_follows_a_tipped_token_is_no_further_off_by_that():
    """The distance of a prefix is that from what was said: a model that has changed its mind goes on with it."""
    stub = tipped(100, 120, 140, 9)
    changed = stub.run(PROMPT, 0, DraftTree.of([("a", ids(101))], 64), (9,)).greedy[1]
    seen = []
    say = stub.said
    stub.said = lambda prefix, distance: seen.append((tuple(prefix), distance)) or say(prefix, distance)
    stub.run(PROMPT, 0, DraftTree.of([("a", [ids(101)[0], changed])], 64), (9, 9))
    assert ((ids(101)[0], changed), 1) in seen


@pytest.mark.parametrize("radius", [0, 9])
def test_strict_decoding_gives_the_recorded_tokens_and_relaxed_does_not(radius):
    equal = []
    for step in range(60):
        stub = tipped(100, 120, 140, 9, step=step)
        equal.append(decode(stub, (104, 124, 144, 9), 4, radius).tokens == tuple(ids(100, 120, 140, 9)))
    assert all(equal) == (radius == 0)
