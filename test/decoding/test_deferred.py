"""Drafts whose ids stay on the device: what is decoded is what it would be had the host known them all along.

The passes have fixed shapes, as on a GPU, and run unrecorded; whether anybody waits is counted in test_launches.py.
"""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from from_scratch import END, FIRST, TOKENS, VOCABULARY, Arithmetic, Counting

from spec_vla_ros.decoding.costs import PassCosts
from spec_vla_ros.decoding.decoder import decode_speculative
from spec_vla_ros.decoding.deferred import Deferred, Later
from spec_vla_ros.decoding.drafters import DraftContext, Drafter, Observation, make_drafters
from spec_vla_ros.decoding.drafters.vision import Vision
from spec_vla_ros.decoding.heads.vision_head import VisionHead, VisionHeadConfig
from spec_vla_ros.decoding.planner import FOLLOWING, OPENING, Planner
from spec_vla_ros.decoding.tree import TREE_ROWS, DraftTree
from spec_vla_ros.decoding.verifier import Verifier
from spec_vla_ros.errors import NonActionTokenError
from spec_vla_ros.openvla.action_tokens import ActionTokens
from spec_vla_ros.openvla.example import example_config, example_model
from spec_vla_ros.policy_types import DecodeSettings
from spec_vla_ros.tolerance import Tolerance

pytestmark = pytest.mark.usefixtures("one_thread")
A, WIDEST = 7, 8
CPU = PassCosts((0, 64), (10.0, 30.0), (1.0, 21.0))


class Near(Drafter):
    """Branches near what the model says, many of which begin alike, and drafted to the end of the action always."""

    name, widest, one_width, expected = "near", WIDEST, True, (0.5, 0.9)

    def __init__(self, model, seed, right=0.7):
        self.model, self.seed, self.right = model, seed, right
        self.contexts, self.branches = [], []

    def propose(self, context):
        chance, branches = random.Random(f"{self.seed} {context.rows}"), []
        for _ in range(WIDEST):
            old = chance.choice([[], *branches])
            branch = old[: chance.randrange(A)][: A - 1 - context.first]
            while len(branch) < A - 1 - context.first:
                said = self.model.say((*context.rows, *branch))[0]
                near = said + chance.choice([0, 0, 0, 1, -2, 3, -4]) if chance.random() < self.right else said + 40
                branch = [*branch, min(max(near, FIRST), END - 1)]
            branches.append(branch)
        self.contexts.append(context)
        self.branches.append([branch[: context.count] for branch in branches[: context.width]])
        if context.deferred is None:
            return self.branches[-1]
        return context.deferred.put(torch.tensor(branches), context.width, context.count)


def model_of(seed):
    chance = random.Random(seed)
    return Arithmetic(chance.randrange(VOCABULARY) for _ in range(chance.choice([5, 20, 37])))


@pytest.fixture(scope="module")
def exact():
    """Passes in which nothing is ever rounded."""
    return Verifier(Counting(), TOKENS, 320, fixed_shapes=True, graphs=False)


@pytest.fixture
def passes(exact, monkeypatch):
    """What each pass has found: choices, margins, and the nodes that stand, of the tree that was joined."""
    found, run = [], exact.run

    def listen(settled, start, tree, *more):
        verdict = run(settled, start, tree, *more)
        found.append((tree.known[0], verdict.greedy, verdict.margins, verdict.path, verdict.hidden[0, :, 0].tolist()))
        return verdict

    monkeypatch.setattr(exact, "run", listen)
    return found


def decoded(verifier, defers, model, drafters, settings, tolerance, planner, history=()):
    """Tokens and report, or what was refused; drafted rows apart."""
    verifier.defers = defers
    prompt = Counting().embed(torch.tensor([model.prompt]))
    try:
        found = decode_speculative(verifier, prompt, tolerance, drafters, settings, history, None, planner)
    except NonActionTokenError as error:
        return str(error), ()
    report = found.report
    return (found.tokens, replace(report, drafted_per_pass=())), report.drafted_per_pass


@pytest.mark.parametrize("emit", ["verifier", "draft"])
@pytest.mark.parametrize("radius", [0, 3, 9])
@pytest.mark.parametrize(("width", "names"), [(0, ()), (0, ("hold",)), (1, ()), (5, ("refine",)), (8, ())])
def test_what_is_decoded_does_not_hang_on_who_knows_the_ids(exact, passes, width, names, radius, emit):
    deferred, shared, went_on, history = 0, 0, 0, [[FIRST + 9] * A]
    planners = [Planner.steady() for _ in range(2)]
    for depth in range(1, A):
        seed, results, heard = 100 * depth + 10 * radius + width + (emit == "draft"), [], []
        model, budget, look = model_of(seed), (None, 12)[depth % 2], (0.0, 5.0)[depth // 2 % 2]
        tolerance = Tolerance.of_bins([radius] * (A - 1) + [0], [1.0] * A, budget)
        settings = DecodeSettings(draft_depth=depth, draft_width=width, emit=emit, second_look=look)
        for defers in (False, True):
            passes.clear()
            near = Near(model, seed)
            drafters = [*make_drafters(names), near]
            result, rows = decoded(exact, defers, model, drafters, settings, tolerance, planners[defers], history)
            results.append((result, list(passes)))
            heard.append([(context.rejected, context.emitted) for context in near.contexts])
        deferred += sum(context.deferred is not None for context in near.contexts)
        shared += sum(rows) > sum(len(tree) for tree, *_ in passes)
        went_on += sum(bool(context.emitted) for context in near.contexts)
        assert results[0] == results[1], depth
        assert heard[0] == heard[1], depth
    assert deferred > 5
    assert went_on > 3
    assert shared == 0 if width == 1 else shared > 2, "equal beginnings are verified apart, and counted"


def test_of_equal_branches_the_first_stands_and_second_thoughts_are_of_all(exact):
    model = model_of(4)
    say = model.say
    one = [say(())[0]]
    one.append(say(tuple(one))[0])
    far = [*one, *(one[-1] + 50 if one[-1] < 150 else one[-1] - 50,) * 2]
    chains = [[*one, far[2], FIRST], far, [*one, say(tuple(one))[0] - 1, FIRST + 1], [*one, far[2], FIRST]]
    box = Deferred()
    tree = DraftTree.of([("box", chain) for chain in box.put(torch.tensor(chains), 9, 9)], TREE_ROWS, deferred=box)
    assert len(tree) == 16
    verdict = exact.run(Counting().embed(torch.tensor([model.prompt])), 0, tree, (0,) * 6)
    joined, nodes = tree.known
    assert joined == DraftTree.of([("box", chain) for chain in chains], TREE_ROWS)
    assert [joined.tokens[node] for node in verdict.path] == one
    assert [nodes[node] for node in verdict.path] == [0, 1]
    assert [joined.tokens[node] for node in joined.children(1)] == [far[2], chains[2][2]]
    assert verdict.after(joined.children(1)[1]) == say(tuple(chains[2][:3]))[0]


def test_the_rows_of_a_branch_that_stands_are_those_that_the_next_pass_looks_back_on(exact):
    model = model_of(5)
    right = []
    while len(right) < 6:
        right.append(model.say(tuple(right))[0])
    off = [token - 90 if token > 150 else token + 90 for token in right]
    chains, box = [[*right[:2], *off[2:]], off, right], Deferred()
    tree = DraftTree.of([("box", chain) for chain in box.put(torch.tensor(chains), 3, 6)], TREE_ROWS, deferred=box)
    verdict = exact.run(Counting().embed(torch.tensor([model.prompt])), 0, tree, (0,) * 6)
    assert [tree.known[0].tokens[node] for node in verdict.path] == right
    assert verdict.hidden[0, :, 0].tolist() == model.states(right)
    assert exact.run(FIRST, len(model.prompt) + 6).greedy == [model.say((*right, FIRST))[0]]


def test_what_was_drafted_is_not_known_before_the_pass_has_run():
    box = Deferred()
    tree = DraftTree.of([("box", chain) for chain in box.put(torch.tensor([[1, 2]]), 1, 2)], TREE_ROWS, deferred=box)
    with pytest.raises(IndexError):
        _ = tree.known


def test_several_drafters_may_defer_and_what_is_not_wanted_is_left_out():
    box = Deferred()
    first = box.put(torch.tensor([[1, 2, 3], [4, 5, 6]]), 1, 2)
    second = box.put(torch.tensor([[7, 8, 9]]), 5, 5)
    assert (first, second) == ([[Later(0), Later(1)]], [[Later(6), Later(7), Later(8)]])
    box.open(torch.cat(box.parts).float().tolist())
    assert [box.known(chain) for chain in (*first, *second)] == [[1, 2], [7, 8, 9]]


@pytest.mark.parametrize(("width", "defers"), [(10, True), (11, False), (64, False)])
def test_a_width_that_the_operator_chose_is_verified_with_shared_beginnings_where_it_would_not_fit_apart(
    exact, width, defers
):
    model = model_of(1)
    near, tolerance = Near(model, 1), Tolerance.exact(A)
    decoded(exact, True, model, [near], DecodeSettings(draft_width=width), tolerance, None)
    assert (near.contexts[0].deferred is not None) == defers


# -- what a planner learns


@pytest.mark.parametrize("costs", [PassCosts.free(), CPU], ids=["rows are free", "rows cost"])
def test_a_planner_learns_the_same_of_branches_that_it_sees_afterwards_only(exact, costs):
    planners = []
    for defers in (False, True):
        planner = Planner(costs)
        for seed in range(40):
            model = model_of(seed)
            near = Near(model, seed, right=0.9)
            settings, tolerance = (
                DecodeSettings(second_look=0.0),
                Tolerance.of_bins([9] * (A - 1) + [0], [1.0] * A, None),
            )
            decoded(exact, defers, model, [near], settings, tolerance, planner)
        planners.append(planner)
    known, later = ({phase: planner._memory[phase] for phase in (OPENING, FOLLOWING)} for planner in planners)
    seen = later[OPENING].ranks["near"]
    assert len(set(seen[~np.isnan(seen)])) > 1, "right at different places"
    np.testing.assert_array_equal(known[OPENING].ranks["near"], seen)
    assert later[OPENING].rows["near", A - 1][7] == 8 * (A - 1) > known[OPENING].rows["near", A - 1][7]
    if costs is not CPU:
        near = Near(model, 0)
        plans = [planner.plan(OPENING, [near], A - 1, A) for planner in planners]
        assert plans[0].widths == plans[1].widths
        assert plans[0].hit == plans[1].hit


# -- the vision head

CONFIG = example_config()
WORDS = ActionTokens(CONFIG.action_vocab_end, CONFIG.n_action_bins)
SIZES = VisionHeadConfig(CONFIG.llama.hidden_size, CONFIG.towers[0].patches, width=32)


@pytest.fixture(scope="module")
def verifier():
    model = example_model(CONFIG)
    model.language_model.fuse()
    return Verifier(model, WORDS, 320, fixed_shapes=True, graphs=False)


@pytest.fixture(scope="module")
def vision():
    torch.manual_seed(5)
    drafter = Vision(VisionHead(SIZES).eval().requires_grad_(False), fixed_shapes=True)
    drafter.warm_up(WIDEST)
    return drafter


@torch.inference_mode()
def observe(verifier, seed):
    generator = torch.Generator().manual_seed(seed)
    patches = verifier.model.embed_image(torch.randn(1, 6, 56, 56, generator=generator))
    text = verifier.model.language_model.embed(torch.randint(3, 512, (1, 9), generator=generator))
    return Observation(patches, text, torch.cat([text[:, :1], patches, text[:, 1:]], dim=1))


@pytest.mark.parametrize("radius", [0, 3, 9, 60])
@pytest.mark.parametrize("width", [0, 4])
def test_an_action_is_the_same_whether_or_not_anybody_waited_for_the_vision_head(verifier, vision, width, radius):
    drafters = make_drafters(("refine", "vision") if width else ("vision",), {"vision": vision})
    history, accepted = [], 0
    tolerance = Tolerance.of_bins([radius] * (A - 1) + [0], [1.0] * A, None)
    for seed in range(8):
        seen, found = observe(verifier, seed), []
        settings = DecodeSettings(draft_width=width, draft_depth=6 - seed % 3, emit=("verifier", "draft")[seed % 2])
        for defers in (False, True):
            verifier.defers = defers
            more = settings, history, seen, Planner.steady()
            found.append(decode_speculative(verifier, seen.prompt, tolerance, drafters, *more))
        known, later = found
        assert known.tokens == later.tokens
        assert replace(known.report, drafted_per_pass=()) == replace(later.report, drafted_per_pass=())
        assert sum(later.report.drafted_per_pass) > sum(known.report.drafted_per_pass)
        history = [*history, later.tokens]
        accepted += sum(later.report.accepted_per_pass)
    assert accepted > 0 or radius < 9


@pytest.mark.parametrize("said", [(), (WORDS.first,), (WORDS.first + 1, WORDS.first), (WORDS.first, WORDS.first + 1)])
@pytest.mark.parametrize("full", [False, True])
def test_ids_that_stay_on_the_device_are_those_that_the_host_would_have_made(verifier, vision, said, full):
    """The topmost bin has two ids, and which one a model says depends on the dimension."""
    torch.manual_seed(5)
    head = VisionHead(SIZES).eval().requires_grad_(False)
    if full:
        head.out.bias.view(-1, SIZES.bins)[..., -1] = 1000.0
    drafter = Vision(head, fixed_shapes=True)
    drafter.begin(observe(verifier, 3))
    # Dimension 2 has never been said to be full.
    history = [[token, token, WORDS.first + 9, token, *[WORDS.first + 1] * 3] for token in said]
    last = said[-1] if said else WORDS.first
    top = [last, last, WORDS.first, last, *[WORDS.first + bool(said)] * 2]
    for first, count in ((0, 6), (0, 2), (2, 4), (2, 1)):
        radii, emitted = (0,) * A if full else (9,) * A, (WORDS.first + 7,) * first
        asked = DraftContext(first, count, 4, radii, WORDS, history, emitted=emitted)
        later = drafter.propose(replace(asked, deferred=(box := Deferred())))
        assert all(isinstance(token, Later) for branch in later for token in branch)
        box.open(torch.cat(box.parts).float().tolist())
        known = drafter.propose(asked)
        assert [box.known(branch) for branch in later] == known
        assert len(known) == 4
        assert not full or known[0] == top[first : first + count]


def test_a_head_of_more_bins_than_there_are_tokens_defers_nothing(verifier, vision):
    """Its ids may be no action tokens, which somebody has to see."""
    few = ActionTokens(CONFIG.action_vocab_end, 100)
    vision.begin(observe(verifier, 3))
    asked = DraftContext(0, 6, 4, (9,) * A, few, deferred=Deferred())
    assert not any(isinstance(token, Later) for branch in vision.propose(asked) for token in branch)
    assert len(asked.deferred) == 0
