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
    prefixes_of,
    whole_prefixes_of,
)

from spec_vla_ros.decoding import decoder
from spec_vla_ros.decoding.costs import PassCosts
from spec_vla_ros.decoding.decoder import _grow, decode_speculative
from spec_vla_ros.decoding.drafters import DraftContext, Drafter, Refine, make_drafters
from spec_vla_ros.decoding.planner import Planner
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
    """What was known before each pass, what drafters said, and what a planner chose of that."""

    contexts: list = field(default_factory=list)
    proposals: list = field(default_factory=list)
    chosen: list = field(default_factory=list)

    def grow(self, drafters, context, planner, *more):
        """In place of the decoder's own."""
        if context.count > 0:
            self.contexts.append((context, None if context.states is None else context.states.hidden[0, :, 0].tolist()))
            self.proposals.append([])
        return _grow(drafters, context, planner, *more)


class Overheard(Drafter):
    """A drafter that is listened to."""

    def __init__(self, drafter, heard):
        self.drafter, self.heard = drafter, heard
        for name in ("name", "from_verifier", "opening_only", "widest", "one_width", "expected"):
            setattr(self, name, getattr(drafter, name))

    def begin(self, observation):
        self.drafter.begin(observation)

    def propose(self, context):
        said = self.drafter.propose(context)
        if self.heard.proposals:
            self.heard.proposals[-1].append((self.name, said))
        return said


class Listening(Planner):
    """A planner that is listened to."""

    heard = None

    def chains(self, drafters, context, *more):
        chosen = super().chains(drafters, context, *more)
        if self.heard is not None:
            self.heard.chosen.append(chosen)
        return chosen


class Wild(Drafter):
    """Follows the model from afar: right, a little off, anything, and what is no action, in bundles of any size."""

    def __init__(self, chance, model, name):
        self.chance, self.model, self.name = chance, model, name
        self.spread, self.right = chance.choice([0, 1, 9, 60]), chance.choice([0.3, 0.8, 0.97])
        self.from_verifier, self.opening_only, self.one_width = (chance.random() < 0.2 for _ in range(3))
        self.widest = chance.choice([1, 8, 64])

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
        draft_width=chance.choice([0, 0, 1, 4, 64]),
        second_look=chance.choice([0.0, 0.1, 0.5, 5.0]),
        emit=chance.choice(["verifier", "verifier", "draft"]),
    )
    names = chance.choice([
        [], ["hold"], ["refine"], ["velocity", "refine"], ["sweep", "refine"], ["hold", "sweep"], ["forecast"],
        ["refine", "hold", "sweep", "forecast", "velocity"],
    ])  # fmt: skip
    history = [
        [chance.randrange(FIRST, END) if chance.random() < 0.9 else chance.choice(FOREIGN) for _ in range(dimensions)]
        for _ in range(chance.randrange(3))
    ]
    return model, names, history, settings, some_tolerance(chance, dimensions)


def some_planner(chance, drafters, settings, tolerance, history):
    """One on any device, that has seen some actions already; none where the width is the operator's."""
    if chance.random() < 0.2:
        return None
    if settings.draft_width:
        return Listening.steady()  # which shall not be asked
    row, first = chance.choice([0.0, 0.001, 0.01, 0.1, 5.0]), chance.choice([1.0, 10.0])
    later = chance.choice([0.1, first])
    rows = chance.choice([(0, 64), (0, 6, 16, 32, 64), (0, 8, 32, 64)])
    asking = {drafter.name: (chance.choice([0.0, 0.01, 1.0]),) * 2 for drafter in drafters}
    costs = PassCosts(
        rows, tuple(first + row * n for n in rows), tuple(later + row * n for n in rows), chance.random() < 0.5, asking
    )
    planner = chance.choice([Listening(costs), Listening(costs, learns=False), Listening.steady()])
    dimensions = tolerance.action_dim
    for _ in range(chance.choice([0, 0, 3, 12])):
        planner.begin(tolerance, settings.draft_depth)
        action = [chance.randrange(FIRST, END) for _ in range(dimensions)]
        for known in range(dimensions):
            count = min(settings.draft_depth, dimensions - 1 - known)
            if count > 0:
                before = action[:known]
                told = DraftContext(known, count, 64, tolerance.bins, TOKENS, history, before, rows=before)
                planner.chains(drafters, told)
            planner.passed(known + 1)
        planner.end(action, TOKENS)
    return planner


def beginning(chain, count):
    """As far as it is wanted and an action."""
    actions = [is_action(token) for token in list(chain)[:count]]
    return list(chain)[: actions.index(False) if False in actions else count]


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
    monkeypatch.setattr(decoder, "_grow", heard.grow)
    monkeypatch.setattr(Verifier, "run", listen)
    for number in range(block, CASES, BLOCKS):
        chance = random.Random(number)
        model, names, history, settings, tolerance = some_case(chance)
        wild = [Wild(chance, model, name) for name in ("one", "two")[: chance.randrange(1, 3)]]
        drafters = [Overheard(drafter, heard) for drafter in [*wild, *make_drafters(names)]]
        prompt = Counting().embed(torch.tensor([model.prompt]))
        planner = some_planner(chance, drafters, settings, tolerance, history)
        heard.__init__()
        budgets.clear()
        if planner is not None:
            planner.heard = heard
        try:
            arguments = (verifiers[number // BLOCKS % 2], prompt, tolerance, drafters, settings, history)
            decoded = decode_speculative(*arguments, planner=planner)
            got = decoded.tokens, vars(decoded.report)
        except NonActionTokenError as error:
            got = str(error)
        used = planner is not None and settings.draft_width == 0
        assert len(heard.chosen) == used * len(heard.contexts), f"case {number}"
        compare(f"case {number}", model, history, settings, tolerance, heard, budgets, got)


def compare(case, model, history, settings, tolerance, heard, budgets, got):
    """The same passes from scratch, with what the drafters said in each."""
    passes, told = [], []

    def propose(count, second):
        told.append(passes[-1])
        proposals = list(heard.proposals[len(told) - 1])
        if second is not None:
            proposals.append(("second_look", [second]))
        if not heard.chosen:
            return prefixes_of(proposals, count)
        planned, more, room = heard.chosen[len(told) - 1]
        for name, said in proposals:
            taken = [chain for whose, chain in (*planned, *more) if whose == name]
            assert taken in ([], [beginning(chain, count) for chain in said][:64]), case
        assert {name for name, _ in (*planned, *more)} <= {name for name, _ in proposals}, case
        return whole_prefixes_of(planned, more, room)

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
        assert context.width == (settings.draft_width or 64), case
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
