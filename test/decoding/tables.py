"""A language model that is a table, drafters that say what they are told, and decoding with both.

Tokens are written as bins; 100 is the token of bin 100.
"""

import torch
from speculating import decode_speculative

from spec_vla_ros.decoding.acceptance import UNLIMITED, best_node
from spec_vla_ros.decoding.drafters import Drafter
from spec_vla_ros.decoding.tree import DraftTree
from spec_vla_ros.decoding.verifier import Verdict
from spec_vla_ros.openvla.action_tokens import ActionTokens
from spec_vla_ros.policy_types import DecodeSettings

TOKENS = ActionTokens()
PROMPT = torch.zeros(1, 5, 2)
GREEDY = DecodeSettings(decoder="autoregressive", emit="draft")
NO_ACTION = 17  # an id
SURE = 9.0  # nats
ANYTHING = [([None] * n, 250) for n in range(8)]  # what a model says where the test does not care


def ids_of(bins):
    return tuple(TOKENS.vocab_end - 1 - place for place in bins)


def bins_of(ids):
    return tuple(TOKENS.vocab_end - 1 - token for token in ids)


class Table:
    """Stands in for the verifier. ``choices``: (bins before, choice) or (bins before, choice, margin in nats).

    A bin before is a number, or None for any; of several that fit the first one holds.
    """

    tokens, defers = TOKENS, False

    def __init__(self, *choices):
        self.choices, self.rows, self.runs = choices, [], []

    def say(self, before):
        for pattern, choice, *margin in self.choices:
            fits = all(p is None or p == b for p, b in zip(pattern, before, strict=False))
            if len(pattern) == len(before) and fits:
                return choice, *(margin or [SURE])
        raise AssertionError(f"nobody says what follows {before}")

    def run(self, known, start, tree=DraftTree(), radii=(), budget=UNLIMITED, costs=()):  # noqa: B008 - frozen
        """One pass, with a cache that forgets what lies behind ``start`` and must not have a gap before it."""
        settled = PROMPT.shape[1]
        if isinstance(known, int):
            place = start - settled
            assert 0 <= place <= len(self.rows), "rows without a gap"
            self.rows = [*self.rows[:place], *bins_of([known])]
        else:
            assert (known is PROMPT, start) == (True, 0)
            self.rows = []
        assert len(radii) >= max(tree.depths, default=-1) + 1
        paths = [[], *(tree.path(node) for node in range(len(tree)))]
        said = [self.say((*self.rows, *bins_of(tree.tokens[n] for n in path))) for path in paths]
        greedy = [ids_of([choice])[0] if choice is not None else NO_ACTION for choice, _ in said]
        path = tree.path(best_node(tree, greedy, radii, TOKENS, budget, costs))
        self.rows += bins_of(tree.tokens[n] for n in path)
        self.runs.append((tree, tuple(radii), budget))
        return Verdict(greedy, [margin for _, margin in said], path, lambda: None, float(len(self.runs)))


class Script(Drafter):
    """Says what it is told to say, a list of branches for each pass, and remembers what it was told."""

    name = "script"

    def __init__(self, *passes, name="script"):
        self.passes, self.contexts, self.begun, self.name = list(passes), [], [], name

    def begin(self, observation):
        self.begun.append(observation)

    def propose(self, context):
        self.contexts.append(context)
        branches = self.passes.pop(0) if self.passes else []
        return [[token if token == NO_ACTION else ids_of([token])[0] for token in branch] for branch in branches]


def decode(table, *drafters, dimensions=4, **settings):
    settings = DecodeSettings(**{"second_look": 0.0, "acceptance_radius": 9, **settings})
    return decode_speculative(table, PROMPT, dimensions, drafters, settings)


def line(*choices):
    """A model that says ``choices`` whatever came before them."""
    return Table(*(([None] * n, choice) for n, choice in enumerate(choices)))
