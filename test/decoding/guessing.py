"""Drafters whose right branch is where a test wants it, and actions decoded with a planner and without a model."""

from spec_vla_ros.decoding.costs import PassCosts
from spec_vla_ros.decoding.drafters import DraftContext, Drafter
from spec_vla_ros.decoding.planner import Planner
from spec_vla_ros.openvla.action_tokens import ActionTokens
from spec_vla_ros.tolerance import Tolerance

TOKENS = ActionTokens()
A = 7
EXACT = Tolerance.exact(A)
# Rows as on a CPU: each costs something, a pass alone not much more. And as on a GPU: filled up to 64 anyway.
CPU = PassCosts((0, 64), (10.0, 12.0), (1.0, 3.0))
GPU = PassCosts((0, 64), (10.0, 10.1), (8.0, 8.1), steps=True)


def ids(bins):
    return TOKENS.to_ids(bins).tolist()


ACTION = ids([100, 110, 120, 130, 140, 150, 200])


class Right(Drafter):
    """Has the right branch at ``place``, or never; counts what it is asked for."""

    expected = (0.1, 0.3)

    def __init__(self, name, place, widest=64, from_verifier=False):
        self.name, self.place, self.widest, self.from_verifier = name, place, widest, from_verifier
        self.asked = []

    def propose(self, context):
        self.asked.append(context.width)
        end = context.first + context.count
        branches = [ids([(5 + place) % 255] * context.count) for place in range(context.width)]
        if self.place is not None and self.place < context.width:
            branches[self.place] = ACTION[context.first : end]
        return branches


def context(first=0, radii=(0,) * A):
    return DraftContext(first, A - 1 - first, 64, radii, TOKENS, emitted=tuple(ACTION[:first]))


def act(planner, drafters, later=True, tolerance=EXACT):
    """One action of two passes; returns the branches of the first by name."""
    planner.begin(tolerance, A - 1)
    chosen = [name for name, _ in planner.chains(drafters, context())[0]]
    if later:
        planner.chains(drafters, context(1))
    planner.end(ACTION, TOKENS)
    return {name: chosen.count(name) for name in chosen}


def learnt(costs, *drafters, actions=120, **more):
    planner = Planner(costs)
    for _ in range(actions):
        chosen = act(planner, drafters, **more)
    return chosen


def decode(planner, drafter, depth):
    """One action with drafts of at most ``depth``: branches that each pass verified."""
    planner.begin(EXACT, depth)
    verified, known = [], 0
    while known < A:
        count, chains = min(depth, A - 1 - known), []
        if count:
            told = DraftContext(known, count, 64, (0,) * A, TOKENS, emitted=tuple(ACTION[:known]))
            chains, _, _ = planner.chains([drafter], told)
        verified.append(len(chains))
        known += count + 1 if ACTION[known : known + count] in [chain for _, chain in chains] else 1
        planner.passed(known)
    planner.end(ACTION, TOKENS)
    return verified
