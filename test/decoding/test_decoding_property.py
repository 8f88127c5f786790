"""Decoding of any model with any drafts equals decoding from scratch: random cases, compared in every figure.

``DECODING_CASES``: how many of them (240).
"""

import os
import random
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from from_scratch import (
    END,
    FIRST,
    TOKENS,
    VOCABULARY,
    Arithmetic,
    Counting,
    NoActionError,
    decoded_from_scratch,
    is_action,
)

from spec_vla_ros.decoding import decoder
from spec_vla_ros.decoding.decoder import decode_speculative
from spec_vla_ros.decoding.drafters import Drafter, Refine, make_drafters
from spec_vla_ros.decoding.verifier import Verifier
from spec_vla_ros.errors import NonActionTokenError
from spec_vla_ros.policy_types import DecodeSettings
from spec_vla_ros.tolerance import Tolerance

CASES, BLOCKS = int(os.environ.get("DECODING_CASES", "240")), 12
SLOTS = 320
STILL = END - 1 - 127  # id of no motion
FOREIGN = (0, FIRST - 1, END, VOCABULARY - 1, VOCABULARY, -1, -(2**70), 2**70, np.int64(3), True)


@dataclass
class Heard:
    """What drafters said and were told, pass by pass."""

    proposals: list = field(default_factory=list)
    contexts: list = field(default_factory=list)


class Overheard(Drafter):
    """A drafter that is listened to; the contexts of the first one are kept."""

    def __init__(self, drafter, heard):
        self.drafter, self.heard, self.name = drafter, heard, drafter.name

    def begin(self, observation):
        self.drafter.begin(observation)

    def propose(self, context):
        said = self.drafter.propose(context)
        if not self.heard.contexts or self.heard.contexts[-1][0] is not context:
            states = None if context.states is None else context.states.hidden[0, :, 0].tolist()
            self.heard.contexts.append((context, states))
            self.heard.proposals.append([])
        self.heard.proposals[-1].append((self.name, said))
        return said


class Wild(Drafter):
    """Follows the model from afar: right, a little off, anything, and what is no action, in bundles of any size."""

    def __init__(self, chance, model, name):
        self.chance, self.model, self.name = chance, model, name
        self.spread, self.right = chance.choice([0, 1, 9, 60]), chance.choice([0.3, 0.8, 0.97])

    def propose(self, context):
        chance, bundles = self.chance, []
        for _ in range(chance.choice([0, 1, 1, 2, 5, 20, 100])):
            chain, length = [], chance.choice([context.count, context.count, context.count + 2, 1, 0])
            while len(chain) < length:
                said = self.model.say((*context.rows, *chain))[0]
                token = said + chance.randint(-self.spread, self.spread)
                if chance.random() > self.right:
                    token = chance.choice([said, chance.randrange(FIRST, END), chance.choice(FOREIGN)])
                chain.append(token)
                if not is_action(token):
                    chain += [FIRST + 5] * (length - len(chain))
            bundles.append(tuple(chain))
        return bundles


def some_tolerance(chance, dimensions):
    every = chance.choice([0, 1, 9, 20, 254])
    each = [chance.choice([0, 1, 4, 9, 254]) for _ in range(dimensions)]
    bins = each if chance.random() < 0.4 else [every] * dimensions
    widths = [float(chance.random() < 0.8) for _ in range(dimensions)]
    return Tolerance.of_bins([*bins[:-1], 0], widths, chance.choice([None, None, 0, 3, 10, 60, 120]))


def some_case(chance):
    """Model, drafters' names, history, settings and tolerance."""
    dimensions = chance.choice([1, 2, 3, 4, 5, 6, 7, 7, 7, 8, 9])
    model = Arithmetic(chance.randrange(VOCABULARY) for _ in range(chance.choice([1, 5, 20, 36, 37, 60])))
    settings = DecodeSettings(
        draft_depth=chance.choice([0, 1, 3, 6, 6, 6, 20]),
        draft_width=chance.choice([1, 4, 64]),
        second_look=chance.choice([0.0, 0.1, 0.5, 5.0]),
        emit=chance.choice(["verifier", "verifier", "draft"]),
    )
    names = chance.choice([[], ["hold"], ["refine"], ["velocity", "refine"], ["sweep", "refine"], ["hold", "sweep"]])
    history = [
        [chance.randrange(FIRST, END) if chance.random() < 0.9 else chance.choice(FOREIGN) for _ in range(dimensions)]
        for _ in range(chance.randrange(3))
    ]
    return model, names, history, settings, some_tolerance(chance, dimensions)


def cleaned(rejected, history, first):
    """Second thoughts as drafters are told them."""
    held = history[-1][first:] if history else []
    held = [token if is_action(token) else STILL for token in [*held, *[STILL] * 9]]
    return [token if is_action(token) else other for token, other in zip(rejected, held, strict=False)]


@pytest.fixture(scope="module")
def verifiers():
    return [Verifier(Counting(), TOKENS, SLOTS, fixed_shapes=fixed) for fixed in (False, True)]


@pytest.mark.parametrize("block", range(BLOCKS))
def test_any_decoding_equals_the_one_from_scratch(verifiers, block, monkeypatch):
    heard, budgets, run = Heard(), [], Verifier.run

    def listen(self, settled, start, tree, radii, budget, costs):
        budgets.append(budget)
        return run(self, settled, start, tree, radii, budget, costs)

    monkeypatch.setattr(decoder, "Refine", lambda: Overheard(Refine(), heard))
    monkeypatch.setattr(Verifier, "run", listen)
    for number in range(block, CASES, BLOCKS):
        chance = random.Random(number)
        model, names, history, settings, tolerance = some_case(chance)
        heard.__init__()
        budgets.clear()
        wild = [Wild(chance, model, name) for name in ("one", "two")[: chance.randrange(1, 3)]]
        drafters = [Overheard(drafter, heard) for drafter in [*wild, *make_drafters(names)]]
        prompt = Counting().embed(torch.tensor([model.prompt]))
        try:
            arguments = (verifiers[number // BLOCKS % 2], prompt, tolerance, drafters, settings, history)
            decoded = decode_speculative(*arguments)
            got = decoded.tokens, vars(decoded.report)
        except NonActionTokenError as error:
            got = str(error)
        compare(f"case {number}", model, history, settings, tolerance, heard, budgets, got)


def compare(case, model, history, settings, tolerance, heard, budgets, got):
    """The same passes from scratch, with what the drafters said in each."""
    passes, told = [], []

    def propose():
        told.append(passes[-1])
        return heard.proposals[len(told) - 1]

    def note(**known):
        passes.append(known)

    try:
        expected = decoded_from_scratch(model, settings, tolerance, propose, note)
    except NoActionError as error:
        expected = error.args
    assert len(passes) == len(budgets), case
    if tolerance.budget is not None:
        assert [known["budget"] for known in passes] == budgets, case
    assert len(told) == len(heard.contexts), case
    for (context, states), known in zip(heard.contexts, told, strict=True):
        for name in ("first", "count", "radii"):
            assert getattr(context, name) == known[name], (case, name)
        assert context.width == settings.draft_width, case
        assert (context.emitted, context.rows, states) == (known["emitted"], known["rows"], known["states"]), case
        assert list(context.rejected) == cleaned(known["rejected"], history, known["first"]), case
        assert [[int(t) for t in action] for action in context.history] == [
            [int(t) if is_action(t) else STILL for t in action] for action in history
        ], case
    if isinstance(got, str):
        assert f"dimension {expected[0]}: the model chose token {expected[1]}," in got, case
        return
    assert got[0] == expected[0], case
    assert {name: got[1][name] for name in expected[1]} == expected[1], case
    assert (got[1]["tolerance"], got[1]["draft_depth"]) == (tolerance, settings.draft_depth), case
    assert (got[1]["emit"], got[1]["draft_width"]) == (settings.emit, settings.draft_width), case
