"""A language model of which every number is known, and decoding with it written down once more without cache and tree.

The model: a prefix of ids has a state, a sum of whole numbers in which every id counts by its position; the state
decides all logits, multiples of 1/32. Nothing is ever rounded, so whatever computes the same says the same, to the bit.
``Arithmetic`` computes it here from the whole prefix, ``Counting`` row by row on a cache, as the verifier asks.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from types import SimpleNamespace

import numpy as np
import torch

from spec_vla_ros.openvla.action_tokens import ActionTokens
from spec_vla_ros.openvla.config import LlamaConfig

TOKENS = ActionTokens(vocab_end=300, n_bins=256)
VOCABULARY, FIRST, END, BINS = 320, 44, 300, 255
TRUNK, PRIME, ODD = 1_000_003, 1009, 67  # of one state in so many the choice is no action
PATCHES = 4
NEIGHBOURS = 36  # bins around a choice that are the same motion
ROWS = 64  # drafted rows of a pass
UNLIMITED = 1 << 30  # a budget that nothing exhausts
NOWHERE = ()  # the prefix of drafts that is empty


def code(token):
    return token * 7919 % 1009 + 1


def weight(place):
    return place * place + 3 * place + 7


def bin_of(token):
    return min(END - 1 - token, BINS - 1)


def is_action(token):
    return FIRST <= token < END


class Arithmetic:
    """What the model says after ``prompt`` and any ids that follow."""

    def __init__(self, prompt):
        self.prompt = tuple(prompt)
        self.say = lru_cache(maxsize=None)(self._say)

    def state(self, ids):
        return sum(code(token) * weight(place) for place, token in enumerate((*self.prompt, *ids)))

    def states(self, ids):
        """After every row of the prompt and of ``ids``."""
        return list(accumulate(code(token) * weight(place) for place, token in enumerate((*self.prompt, *ids))))

    def _say(self, ids):
        """The choice after ``ids`` and its margin in nats."""
        state, every = self.state(ids), np.arange(VOCABULARY, dtype=np.int64)
        logits = state % TRUNK * (every * every * 17 + every * 101 + 13) % PRIME / 32
        action = (every >= FIRST) & (every < END)
        logits[~action] -= 40
        if state % ODD == 0:
            logits[state // ODD % FIRST if state % 2 else END + state % 20] += 90
        choice = int(np.flatnonzero(logits == logits.max())[0])
        best = int(np.flatnonzero(action & (logits == logits[action].max()))[0])
        other = action & (np.abs(every - best) > NEIGHBOURS)
        return choice, float(logits[best] - logits[other].max())


class Counting:
    """The same as a model with a cache; as much of :class:`OpenVLA` as a verifier needs."""

    def __init__(self):
        llama = LlamaConfig(
            hidden_size=2, intermediate_size=2, num_hidden_layers=1, num_attention_heads=1, vocab_size=VOCABULARY
        )
        self.config = SimpleNamespace(
            llama=llama, towers=[SimpleNamespace(patches=PATCHES), SimpleNamespace(patches=99)]
        )
        self.device, self.dtype, self.language_model = torch.device("cpu"), torch.float64, self

    wants_tables = False

    def embed(self, ids):
        assert ((ids >= 0) & (ids < VOCABULARY)).all()
        codes = ids * 7919 % 1009 + 1
        return torch.stack([codes, codes], dim=-1).double()

    def __call__(self, rows, places, mask, cache, at, rope, end):
        values = rows * weight(places)[:, None]
        _, values = cache.write(0, at, torch.zeros_like(values)[None], values[None], end)
        mask = torch.zeros(rows.shape[1], end) if mask is None else mask  # added to scores, as in OpenVLA
        assert mask.shape == (rows.shape[1], end)
        seen = mask == 0
        assert (seen | (mask == -torch.inf)).all()
        return (seen.double() @ values[0, 0])[None]

    def logits(self, hidden):
        state, every = hidden[..., 0].long()[:, None], torch.arange(VOCABULARY)
        logits = state % TRUNK * (every * every * 17 + every * 101 + 13) % PRIME / 32
        logits -= 40.0 * ((every < FIRST) | (every >= END))
        odd = torch.where(state % 2 == 1, state // ODD % FIRST, END + state % 20)
        logits += 90.0 * ((every == odd) & (state % ODD == 0))
        return torch.where(hidden[..., :1].isfinite(), logits, torch.nan).float()


class NoActionError(Exception):
    """Dimension and id of a choice that is no action."""


def prefixes_of(proposals, count):
    """The prefixes that a pass verifies and whose they are, in order: distinct beginnings of what was proposed."""
    names = {}
    for name, chains in proposals:
        for chain in chains:
            prefix = NOWHERE
            for token in list(chain)[:count]:
                if not is_action(token):
                    break
                prefix = (*prefix, int(token))
                if prefix not in names:
                    if len(names) == ROWS:
                        break
                    names[prefix] = name
    return names


def whole_prefixes_of(planned, more, room):
    """The same where a branch that does not fit is left out: those that are planned in as many rows as there are, and
    ``more`` of them in ``room``.
    """
    names = {}
    for rows, branches in ((ROWS, planned), (room, more)):
        for name, chain in branches:
            new = [tuple(chain[: end + 1]) for end in range(len(chain))]
            if len({*names, *new}) <= rows:
                names |= {prefix: name for prefix in new if prefix not in names}
    return names


def standing(say, kept, names, radii, costs, budget):
    """The prefix that wins."""
    best, rank = NOWHERE, (0, 0)
    for prefix in names:
        off, spent, good = 0, 0, True
        for depth, token in enumerate(prefix):
            choice, radius = say((*kept, *prefix[:depth]))[0], radii[depth]
            if not is_action(choice) or (radius == 0 and token != choice):
                good = False
                break
            gap = abs(bin_of(token) - bin_of(choice))
            off, spent, good = off + gap, spent + gap * costs[depth], good and gap <= radius
        if good and spent <= budget and (len(prefix), -off) > rank:
            best, rank = prefix, (len(prefix), -off)
    return best


def second_thoughts(say, kept, names, accepted):
    """What was said on the rows of the nearest rejected branch, and where nothing followed, of the one beside it."""

    def after(prefix):
        return [other for other in names if len(other) == len(prefix) + 1 and other[:-1] == prefix]

    branches = after(accepted)
    if accepted and not branches:
        beside = sorted(after(accepted[:-1]), key=lambda other: abs(other[-1] - accepted[-1]))
        branches = next((found for other in beside if (found := after(other))), [])
    said, choice = [], say((*kept, *accepted))[0]
    while branches:
        at = branches[0] if said else min(branches, key=lambda other: abs(other[-1] - choice))
        said.append(say((*kept, *at))[0])
        branches = after(at)
    return said


def decoded_from_scratch(model, settings, tolerance, propose, note):
    """Tokens and figures of the report. ``propose``: the prefixes that a pass verifies, and whose; it is told how many
    dimensions are wanted, and the tokens that are looked at a second time. ``note``: is told what is known before it.
    """
    say = model.say
    dimensions, costs = tolerance.action_dim, tolerance.costs
    limit = budget = UNLIMITED if tolerance.budget is None else tolerance.budget
    emitted, kept, chosen, sources, rejected, margins = [], [], [], [], [], []
    bins = tolerance.bins
    accepted_per_pass, drafted_per_pass, names_per_pass, far, second = [], [], [], 0, None
    states = None
    while len(emitted) < dimensions:
        first = len(emitted)
        count = min(settings.draft_depth, dimensions - 1 - first)
        told = {"first": first, "count": count, "emitted": tuple(emitted), "rows": tuple(kept), "radii": bins}
        note(**told, rejected=rejected, budget=budget, states=states)
        names = propose(count, None if second is None else second[first:]) if count > 0 else {}
        prefix = standing(say, kept, names, bins[first:], costs[first:], budget)
        before = tuple(kept)
        settled = len(model.prompt) + len(before) - 1 if before else 0
        states = model.states((*before, *prefix))[settled:]
        for depth, token in enumerate(prefix):
            choice, margin = say((*before, *prefix[:depth]))
            gap, cost = abs(bin_of(token) - bin_of(choice)), costs[len(emitted)]
            emitted.append(token if settings.emit == "draft" else choice)
            kept.append(token)
            chosen.append(choice)
            sources.append(names[prefix[: depth + 1]])
            margins.append(margin)
            far, budget = max(far, gap), budget - gap * cost
        choice, margin = say((*before, *prefix))
        accepted_per_pass.append(len(prefix))
        drafted_per_pass.append(len(names))
        names_per_pass.append("+".join(dict.fromkeys(names.values())))
        if not is_action(choice):
            if kept == chosen:
                raise NoActionError(len(emitted), choice)
            second, bins, budget = tuple(chosen), (0,) * dimensions, UNLIMITED
            emitted, kept, chosen = chosen[:1], chosen[:1], chosen[:1]
            sources, margins, rejected = ["verifier"], margins[:1], []
            continue
        rejected = second_thoughts(say, before, names, prefix)
        emitted.append(choice)
        kept.append(choice)
        chosen.append(choice)
        sources.append("verifier")
        margins.append(margin)
        unsure = len(margins) > 1 and min(margins[1:]) < settings.second_look
        if len(emitted) == dimensions and second is None and far > 0 and settings.emit == "verifier" and unsure:
            second, budget, chosen = tuple(emitted), limit, chosen[:1]
            emitted, kept, sources, margins, rejected = emitted[:1], emitted[:1], ["verifier"], margins[:1], []
    return tuple(emitted), {
        "verifier_passes": len(accepted_per_pass),
        "accepted_per_pass": tuple(accepted_per_pass),
        "drafted_per_pass": tuple(drafted_per_pass),
        "drafter_per_pass": tuple(names_per_pass),
        "token_source": tuple(sources),
        "max_accepted_distance": far,
    }
