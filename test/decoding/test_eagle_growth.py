"""The tree of Spec-VLA: what the head's caches, masks and shapes give is what the rule says, node by node.

The rule is written out below, without a cache and one node at a time. Numbers have 64 bits, so that no choice hangs on
how they are rounded.
"""

import math
from dataclasses import replace

import pytest
import torch
from speculating import decode_speculative
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spec_vla_ros.decoding.deferred import Deferred, Grown, Later
from spec_vla_ros.decoding.drafters import DraftContext, Observation, Refine, eagle_rows
from spec_vla_ros.decoding.drafters.eagle import NODES, Eagle
from spec_vla_ros.decoding.drafters.growth import best_of, laid_out
from spec_vla_ros.decoding.heads.eagle_head import EagleHead
from spec_vla_ros.decoding.planner import Planner
from spec_vla_ros.decoding.timing import Settled
from spec_vla_ros.decoding.tree import ROOT, TREE_ROWS, DraftTree, ancestors_of
from spec_vla_ros.decoding.verifier import Verifier
from spec_vla_ros.openvla.action_tokens import ActionTokens
from spec_vla_ros.openvla.example import example_config, example_model
from spec_vla_ros.openvla.llama import causal_mask, rope_tables
from spec_vla_ros.policy_types import DecodeSettings

pytestmark = pytest.mark.usefixtures("one_thread")
A = 7
CONFIG = example_config()
TOKENS = ActionTokens(CONFIG.action_vocab_end, CONFIG.n_action_bins)
HIDDEN, SLOTS, PROMPT = CONFIG.llama.hidden_size, 320, 14
SURE = 6.0  # times as sure of its choices as random weights are, so that trees get deep


@pytest.fixture(scope="module")
def model():
    made = example_model(CONFIG).double()
    made.language_model.lm_head.weight.data.mul_(SURE)
    made.language_model.fuse()
    return made


def head_of(seed):
    torch.manual_seed(seed)
    return EagleHead(CONFIG.llama).double().eval().requires_grad_(False)


class Random:
    """Settled rows: a prompt and, pass by pass, states of so many rows, which are a few of those that the pass had."""

    def __init__(self, model, seed):
        self.generator = torch.Generator().manual_seed(seed)
        self.prompt = self.rows(PROMPT)
        self.states, self.ids, self.model = self.prompt[:, :0], (), model
        self.observation = Observation(self.prompt[:, :4], self.prompt[:, 4:], self.prompt)

    def rows(self, count):
        return torch.randn(1, count, HIDDEN, generator=self.generator, dtype=torch.float64)

    def settle(self, count):
        """Another pass that has read ``count`` ids more than the one before, the first one those behind the prompt."""
        many, new = self.rows(count + 5), count if self.ids else count - PROMPT
        kept = [0, *(torch.randperm(count + 4, generator=self.generator)[: count - 1] + 1).sort().values.tolist()]
        self.states = torch.cat([self.states, many[:, kept]], dim=1)
        new += not self.ids  # the token that was emitted after them
        self.ids += tuple(torch.randint(TOKENS.first, TOKENS.vocab_end, (new,), generator=self.generator).tolist())
        return Among(many, kept)

    @property
    def embeds(self):
        kept = self.model.language_model.embed(torch.tensor([self.ids]))
        return torch.cat([self.prompt, kept], dim=1)[:, 1:]


class Among(Settled):
    def __init__(self, many, kept):
        super().__init__(many[:, kept])
        object.__setattr__(self, "_all", (many, kept))

    def among(self):
        return self._all


def by_the_rule(head, model, rows, width, count, published):
    """Branches, the likeliest leaf first."""
    weight = model.language_model.lm_head.weight[TOKENS.first : TOKENS.vocab_end]
    states = {}

    def state(path):
        """After the last node of ``path``, from all rows before it."""
        if path not in states:
            ids = torch.tensor([path], dtype=torch.long)
            embeds = torch.cat([rows.embeds, model.language_model.embed(ids)], dim=1)
            known = torch.cat([rows.states, *(state(path[:depth]) for depth in range(len(path)))], dim=1)
            settled = rows.states.shape[1]
            places = [*range(settled), *(depth + (0 if published else settled) for depth in range(len(path)))]
            tables = rope_tables(CONFIG.llama, torch.tensor(places), torch.float64)
            states[path] = head(embeds, known, tables, causal_mask(len(places), "cpu"))[:, -1:]
        return states[path]

    def children(path):
        log_p = (state(path)[0, 0] @ weight.T).log_softmax(-1)
        best = sorted(range(len(log_p)), key=lambda place: -log_p[place])[:width]
        return [((*path, TOKENS.first + place), log_p[place].item()) for place in best]

    nodes, frontier = {}, {(): 0.0}
    for _ in range(count):
        level = {path: score + more for above, score in frontier.items() for path, more in children(above)}
        nodes.update(level)
        frontier = dict(sorted(level.items(), key=lambda node: -node[1])[:width])
    best = dict(sorted(nodes.items(), key=lambda node: -node[1])[:NODES])
    inner = {path[:-1] for path in best}
    leaves = sorted((path for path in best if path not in inner), key=lambda path: -best[path])
    return [list(path) for path in leaves]


def context(rows, states, width, count, **more):
    return DraftContext(A - 1 - count, count, width, (9,) * A, TOKENS, states=states, rows=rows.ids, **more)


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("width", [1, 8, 11])
@torch.inference_mode()
def test_every_shape_grows_the_tree_of_the_rule(model, width, published):
    deepest, widest = 0, 0
    for seed in range(2):
        head = head_of(seed)
        eagles = [Eagle(head, model, SLOTS, published, fixed_shapes=fixed) for fixed in (False, True)]
        eagles[1].warm_up(width)
        rows = Random(model, seed)
        for eagle in eagles:
            eagle.begin(rows.observation)
        for settled, count in ((PROMPT + seed, 5), (1, 4 - seed), (3, 1)):
            states = rows.settle(settled)
            expected = by_the_rule(head, model, rows, width, count, published)
            exact, fixed = eagles
            assert exact.propose(context(rows, states, width, count)) == expected
            box = Deferred(shapes=True)
            tree = DraftTree.of(
                [("eagle", branch) for branch in fixed.propose(context(rows, states, width, count, deferred=box))],
                TREE_ROWS,
                deferred=box,
            )
            box.open(torch.cat(box.numbers).tolist())
            known, nodes = tree.known
            assert known == DraftTree.of([("eagle", branch) for branch in expected], TREE_ROWS)
            assert len(known) == len(tree) == fixed.most_rows(width, count)
            ((_, grown, _),) = tree.grown
            assert grown.depths[nodes].tolist() == list(known.depths)
            sees = grown.sees[nodes][:, nodes]
            assert ((sees == 0) | (sees == -math.inf)).all()
            assert (sees == 0).tolist() == ancestors_of(known).tolist()
            deepest, widest = max(deepest, *known.depths), max(widest, len(expected))
    assert deepest == 4
    assert widest > width or width == 1


class Recorded:
    """As a CUDA graph: its Python runs once, and later calls repeat the operations on the same memory."""

    def __init__(self, function, pool, name):
        self.function, self.steps = function, []

    def __call__(self):
        if not self.steps:
            with _Recorder(self.steps):
                self.returned = self.function()
            return self.returned
        for func, args, kwargs, found in self.steps:
            for old, new in zip(tree_leaves(found), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)
        return self.returned


class _Recorder(TorchDispatchMode):
    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        self.steps.append((func, args, kwargs or {}, found))
        return found


@pytest.mark.parametrize(("published", "tables"), [(False, True), (True, False)])
@torch.inference_mode()
def test_what_was_recorded_while_warming_up_grows_every_later_tree(model, monkeypatch, published, tables):
    """Whatever changes from pass to pass lies in tensors. ``tables``: as where our own kernel turns rows."""
    monkeypatch.setattr(eagle_rows, "Replay", Recorded)
    head = head_of(4)
    head.layers[0].self_attn.at_once = tables
    eagle = Eagle(head, model, SLOTS, published, fixed_shapes=True)
    eagle.warm_up(8)
    monkeypatch.setattr(eagle_rows, "Replay", None)
    for seed in range(2):
        rows = Random(model, seed)
        eagle.begin(rows.observation)
        for settled, count in ((PROMPT + seed, 5), (1 + seed, 3 - seed), (2, 1)):
            states = rows.settle(settled)
            expected = by_the_rule(head, model, rows, 8, count, published)
            assert eagle.propose(context(rows, states, 8, count)) == expected


@pytest.mark.parametrize("fixed", [False, True])
@torch.inference_mode()
def test_where_there_are_fewer_bins_than_branches_all_are_drafted(fixed):
    """Recording ahead asked for eight of six: the model could not be loaded."""
    config = replace(CONFIG, n_action_bins=6)
    made = example_model(config).double()
    eagle = Eagle(head_of(1), made, SLOTS, fixed_shapes=fixed)
    eagle.warm_up(8)
    rows = Random(made, 1)
    states = rows.settle(PROMPT)
    eagle.begin(rows.observation)
    tokens = ActionTokens(config.action_vocab_end, config.n_action_bins)
    branches = eagle.propose(replace(context(rows, states, 8, 2), tokens=tokens))
    every = range(tokens.first, tokens.vocab_end)
    assert sorted(branches) == [[one, two] for one in every for two in every]
    assert eagle.most_rows(8, 2) == 6 + 36


@torch.inference_mode()
def test_a_shape_that_is_wanted_on_the_host_is_read(model):
    """Where a planner chooses among branches, or where not all would fit."""
    eagle, rows = Eagle(head_of(1), model, SLOTS, fixed_shapes=True), Random(model, 1)
    states, proposed = rows.settle(PROMPT), []
    for deferred in (None, Deferred(), Deferred(shapes=True)):
        eagle.begin(rows.observation)
        proposed.append(eagle.propose(context(rows, states, 8, 5, deferred=deferred)))
    assert proposed[0] == proposed[1] == by_the_rule(eagle.head, model, rows, 8, 5, False)
    assert all(isinstance(token, Later) for branch in proposed[2] for token in branch)


@torch.inference_mode()
def test_what_is_no_number_stays_in_its_action(model):
    """The cache has rows in sight of nobody, and one of them that is no number would spoil all others."""
    eagle, rows = Eagle(head_of(2), model, SLOTS, fixed_shapes=True), Random(model, 2)
    states = rows.settle(PROMPT)
    expected = by_the_rule(eagle.head, model, rows, 8, 5, False)
    eagle.begin(rows.observation)
    broken = Among(states.hidden * math.nan, list(range(PROMPT)))
    branches = eagle.propose(context(rows, broken, 8, 5))
    assert all(TOKENS.is_action(token) for branch in branches for token in branch)
    assert sum(map(len, branches)) > 0
    eagle.begin(rows.observation)
    assert eagle.propose(context(rows, states, 8, 5)) == expected


@pytest.mark.parametrize("fixed", [False, True])
@torch.inference_mode()
def test_a_node_after_which_nothing_is_a_number_is_a_leaf(model, fixed):
    """Its children count as the least likely of all, not as likelier than it is."""
    head, rows, width = head_of(5), Random(model, 5), 8
    states, eagle = rows.settle(PROMPT), Eagle(head, model, SLOTS, fixed_shapes=fixed)
    (first, *_), *_ = by_the_rule(head, model, rows, 1, 1, False)

    def spoil(module, args, out):
        if out.shape[1] == width:  # a level, of which the likeliest is first
            out[:, 0] = math.nan

    head.register_forward_hook(spoil)
    eagle.begin(rows.observation)
    branches = eagle.propose(context(rows, states, width, 4))
    nodes = {tuple(branch[: depth + 1]) for branch in branches for depth in range(len(branch))}
    assert len(nodes) == NODES
    assert [first] in branches
    assert len([branch for branch in branches if branch[0] == first]) == 1


@pytest.mark.parametrize("emit", ["draft", "verifier"])
@pytest.mark.parametrize("names", [("eagle",), ("refine", "eagle")])
@torch.inference_mode()
def test_an_action_is_the_same_whoever_knows_the_tree(model, names, emit):
    """Tokens, passes, and, where nobody shares its beginnings, rows."""
    passes, deeper = set(), 0
    fixed = Verifier(model, TOKENS, SLOTS, fixed_shapes=True, graphs=False)
    exact = Verifier(model, TOKENS, SLOTS)
    for seed in range(4):
        head, rows = head_of(seed), Random(model, seed)
        eagles = [Eagle(head, model, SLOTS, fixed_shapes=shapes) for shapes in (False, True)]
        width = 8 if len(names) == 1 else 3
        settings = DecodeSettings(draft_width=width, draft_depth=6 - seed % 3, emit=emit, acceptance_radius=60)
        found = []
        for verifier, eagle, defers in ((exact, eagles[0], False), (fixed, eagles[1], False), (fixed, eagles[1], True)):
            verifier.defers = defers
            drafters = [{"eagle": eagle, "refine": Refine()}[name] for name in names]
            result = decode_speculative(verifier, rows.prompt, A, drafters, settings, (), rows.observation)
            report = replace(result.report, rows_per_pass=())
            found.append((result.tokens, report if len(names) == 1 else replace(report, drafted_per_pass=())))
        assert found[0] == found[1] == found[2]
        passes.add(report.verifier_passes)
        deeper += max(report.accepted_per_pass) > 1
    assert min(passes) < A
    assert deeper > 0


@torch.inference_mode()
def test_the_automatic_tree_knows_what_it_chooses_from(model):
    head, rows = head_of(3), Random(model, 3)
    verifier = Verifier(model, TOKENS, SLOTS, fixed_shapes=True, graphs=False)
    eagle, asked = Eagle(head, model, SLOTS, fixed_shapes=True), []
    propose = eagle.propose
    eagle.propose = lambda context: asked.append((context.deferred, propose(context))) or asked[-1][1]
    settings = DecodeSettings(draft_width=0)
    decode_speculative(verifier, rows.prompt, A, [eagle], settings, (), rows.observation, planner=Planner.steady())
    assert any(branches for _, branches in asked)
    assert all(deferred is not None and not deferred.grown for deferred, _ in asked)


# -- trees whose shape comes later


def grown_of(ids, parents, scores):
    """Of nodes that are all kept: ``parents`` count from 0, -1 is none."""
    above, scores = torch.tensor([parent + 1 for parent in parents]), torch.tensor(scores)
    nowhere = torch.zeros(len(ids), dtype=torch.long)
    return Grown(torch.tensor(ids), above, scores, nowhere, torch.zeros(len(ids), len(ids)))


def test_a_tree_that_grew_is_joined_with_what_others_say():
    box = Deferred(shapes=True)
    grown = grown_of([5, 6, 7, 8, 9], [ROOT, ROOT, 0, 1, 0], [-1.0, -1.5, -3.0, -2.0, -2.5])
    chains = [("first", [5, 7, 4]), *(("grown", branch) for branch in box.put_grown(grown))]
    chains += [("last", branch) for branch in box.put(torch.tensor([[6, 8, 3]]), 1, 3)]
    tree = DraftTree.of(chains, TREE_ROWS, deferred=box)
    box.open(torch.cat(box.numbers).tolist())
    known, nodes = tree.known
    order = [[5, 7, 4], [6, 8], [5, 9], [5, 7], [6, 8, 3]]
    owners = ["first", *["grown"] * 3, "last"]
    assert known == DraftTree.of(zip(owners, order, strict=True), TREE_ROWS)
    assert [box.known(tree.tokens)[node] for node in nodes] == list(known.tokens)
    assert all(list(path) == sorted(path) for path in ([nodes[n] for n in known.path(m)] for m in range(len(known))))


def test_where_there_is_no_room_the_likeliest_nodes_stay():
    box = Deferred(shapes=True)
    grown = grown_of([5, 6, 7, 8], [ROOT, ROOT, 0, 1], [-1.0, -1.5, -2.0, -3.0])
    chains = [("first", [1, 2, 3]), *(("grown", branch) for branch in box.put_grown(grown))]
    for rows, kept in ((6, [[6], [5, 7]]), (4, [[5]]), (3, [])):
        tree = DraftTree.of(chains, rows, deferred=box)
        box.open(torch.cat(box.numbers).tolist())
        assert len(tree) == rows
        assert tree.known[0] == DraftTree.of([chains[0], *(("grown", branch) for branch in kept)], rows)


def test_equally_likely_nodes_stay_in_the_order_in_which_they_grew():
    width, count = 2, 3
    ids, parents = torch.arange(10), torch.tensor([-1, -1, 0, 0, 1, 1, 2, 2, 4, 4])
    best = best_of(ids, parents, torch.zeros(10), 7)
    assert best.ids.tolist() == list(range(7))
    assert best.parents.tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert laid_out(best, width, count, torch.float32).depths.tolist() == [0, 0, 1, 1, 1, 1, 2]
