"""Drafters that answer what nobody expects: it costs rows, and never the action, whoever chooses the tree."""

import itertools

import numpy as np
import pytest
import torch
from from_scratch import END, FIRST, TOKENS, VOCABULARY, Arithmetic, Counting

from spec_vla_ros.decoding.costs import PassCosts
from spec_vla_ros.decoding.decoder import decode_autoregressive, decode_speculative
from spec_vla_ros.decoding.drafters import DraftContext, Drafter, branches_of, make_drafters
from spec_vla_ros.decoding.planner import Planner
from spec_vla_ros.decoding.verifier import Verifier
from spec_vla_ros.errors import NonActionTokenError
from spec_vla_ros.policy_types import DecodeSettings
from spec_vla_ros.tolerance import Tolerance

A = 7
PLANNERS = {
    "rows are free": PassCosts.free(),
    "a CPU": PassCosts((0, 64), (1.0, 2.0), (0.1, 1.1)),
    "a GPU": PassCosts((0, 8, 32, 64), (1.0, 1.1, 1.2, 1.3), (0.9, 1.0, 1.1, 1.2), steps=True),
}
WORDS = ("word", None, 1.5, float("nan"), float(FIRST), [FIRST], -1, 2**70, VOCABULARY, True, np.float32(FIRST), b"")


class Odd(Drafter):
    """Says what ``answer`` gives for a right branch of it."""

    name, widest, expected = "odd", 64, (0.5, 0.9)

    def __init__(self, answer, right):
        self.answer, self.right = answer, right

    def propose(self, context):
        return self.answer(self.right[context.first : context.first + context.count], context)


ANSWERS = {
    "nothing": lambda right, context: [],
    "empty branches": lambda right, context: [[], [], []],
    "branches that go on": lambda right, context: [[*right, *right, *right]],
    "branches that end": lambda right, context: [right[:1], right[:2], right],
    "the same again": lambda right, context: [right] * 200,
    "ten thousand": lambda right, context: [[FIRST + i % 256, FIRST + i // 256, *right[2:]] for i in range(10_000)],
    "without end": lambda right, context: itertools.repeat(right),
    "arrays": lambda right, context: np.array([right, right[::-1]]),
    "tensors": lambda right, context: torch.tensor([right]),
    "numbers of other kinds": lambda right, context: [[np.int16(token) for token in right], tuple(right)],
    "words": lambda right, context: [[*right[:cut], word, *right[cut + 1 :]] for word in WORDS for cut in (0, 1)],
    "one at a time": lambda right, context: (branch for branch in [right]),
}


@pytest.fixture(scope="module")
def verifier():
    return Verifier(Counting(), TOKENS, 320, fixed_shapes=False)


@pytest.mark.parametrize("kind", ANSWERS)
def test_whatever_drafters_answer_the_action_is_what_plain_decoding_says(verifier, kind):
    history, passes = [], 0
    planners = [*(Planner(costs) for costs in PLANNERS.values()), None]
    for number, seed in enumerate(itertools.count()):
        model = Arithmetic([seed % VOCABULARY, 3, 5])
        prompt = Counting().embed(torch.tensor([model.prompt]))
        try:
            right = decode_autoregressive(verifier, prompt, A, DecodeSettings()).tokens
        except NonActionTokenError:
            continue
        drafters = [Odd(ANSWERS[kind], list(right)), *make_drafters(["hold"])]
        for planner in planners:
            for width in (0,) if planner is not None else (0, 1, 64):
                decoded = decode_speculative(
                    verifier, prompt, Tolerance.exact(A), drafters, DecodeSettings(draft_width=width), history,
                    planner=planner,
                )  # fmt: skip
                assert decoded.tokens == right
                passes = decoded.report.verifier_passes
        history = [right]
        if number >= 3:
            break
    if kind not in ("nothing", "empty branches", "words", "ten thousand"):
        assert passes == 1, "what is right in it is used"


@pytest.mark.parametrize("word", WORDS)
def test_a_branch_ends_before_what_is_no_id_of_an_action(word):
    told = DraftContext(0, 4, 64, (0,) * A, TOKENS)
    odd = Odd(lambda right, context: [[*right[:2], word, *right[2:]]], [FIRST, FIRST + 1, END - 1, FIRST, FIRST])
    assert branches_of(odd, told) == [[FIRST, FIRST + 1]]


def test_branches_are_whole_numbers_as_long_as_wanted():
    told = DraftContext(0, 3, 64, (0,) * A, TOKENS)
    odd = Odd(lambda right, context: np.array([right * 3], dtype=np.int32), [FIRST, END - 1])
    assert branches_of(odd, told) == [[FIRST, END - 1, FIRST]]
    assert {type(token) for branch in branches_of(odd, told) for token in branch} == {int}
