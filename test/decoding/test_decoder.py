"""Speculative decoding against greedy decoding, on a random model in the layout of the published checkpoints."""

import itertools
from dataclasses import replace

import pytest
import torch
from speculating import decode_speculative

from spec_vla_ros.decoding import decoder
from spec_vla_ros.decoding.acceptance import far_apart, margins_of
from spec_vla_ros.decoding.decoder import _second_thoughts, decode_autoregressive
from spec_vla_ros.decoding.drafters import make_drafters
from spec_vla_ros.decoding.outcome import Question
from spec_vla_ros.decoding.tree import ROOT, DraftTree, ancestors_of
from spec_vla_ros.decoding.verifier import Verdict, Verifier
from spec_vla_ros.errors import InstructionError, NonActionTokenError, NonFiniteError
from spec_vla_ros.openvla.action_tokens import ActionTokens
from spec_vla_ros.openvla.example import example_config, example_model
from spec_vla_ros.policy_types import DecodeSettings
from spec_vla_ros.tolerance import Tolerance

pytestmark = pytest.mark.usefixtures("one_thread")
A = 7
CONFIG = example_config()
TOKENS = ActionTokens(CONFIG.action_vocab_end, CONFIG.n_action_bins)
GREEDY = DecodeSettings(decoder="autoregressive")
ONE_LOOK = DecodeSettings(second_look=0.0)


@pytest.fixture(scope="module")
def verifier():
    """A verifier over the example model."""
    return make_verifier()


def make_verifier(edit=lambda model: None):
    """Verifier over an example model that ``edit`` may change."""
    model = example_model(CONFIG)
    edit(model)
    model.language_model.fuse()
    return Verifier(model, TOKENS, slots=128)


@torch.inference_mode()
def prompt_of(verifier, seed):
    """Input rows of a random image and a random text of random length."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(1, 6, 56, 56, generator=generator)
    ids = torch.randint(3, 512, (1, int(torch.randint(2, 20, (), generator=generator))), generator=generator)
    return verifier.model.prompt_embeds(verifier.model.embed_image(pixels), ids)


def history_near(tokens, seed, spread=6):
    """Two past actions: the answer itself, disturbed in some dimensions. Good drafts with some mistakes."""
    generator = torch.Generator().manual_seed(seed)
    history = []
    for _ in range(2):
        noise = torch.randint(-spread, spread + 1, (len(tokens),), generator=generator)
        noise *= torch.rand(len(tokens), generator=generator) < 0.3
        history.append(tuple(int(t) for t in (torch.tensor(tokens) + noise).clamp(TOKENS.first, TOKENS.vocab_end - 1)))
    return history


CASES = 120  # observations for each set of drafters
DRAFTER_SETS = [(), ("hold",), ("velocity",), ("refine",), ("hold", "refine"), ("velocity", "hold", "refine")]


@pytest.mark.parametrize("names", DRAFTER_SETS, ids=lambda names: "+".join(names) or "none")
def test_radius_zero_gives_the_greedy_tokens(verifier, names):
    drafters, cases = make_drafters(names), itertools.cycle(itertools.product(range(7), ("verifier", "draft")))
    passes = 0
    for seed in range(CASES):
        prompt = prompt_of(verifier, seed)
        greedy = decode_autoregressive(verifier, prompt, A, GREEDY)
        depth, emit = next(cases)
        settings = DecodeSettings(acceptance_radius=0, draft_depth=depth, emit=emit)
        history = history_near(greedy.tokens, seed)
        decoded = decode_speculative(verifier, prompt, A, drafters, settings, history)
        assert decoded.tokens == greedy.tokens, f"seed {seed}, depth {depth}, emit {emit}"
        assert decoded.report.max_accepted_distance == 0
        passes += decoded.report.verifier_passes
    assert passes <= CASES * A
    if "hold" in names:
        assert passes < CASES * A


def test_a_perfect_draft_finishes_in_the_pass_over_the_prompt(verifier):
    prompt = prompt_of(verifier, 3)
    greedy = decode_autoregressive(verifier, prompt, A, GREEDY)
    settings = DecodeSettings(acceptance_radius=0)
    decoded = decode_speculative(verifier, prompt, A, make_drafters(["hold"]), settings, [greedy.tokens])
    assert decoded.report.verifier_passes == 1
    assert decoded.report.accepted_per_pass == (A - 1,)
    assert decoded.report.token_source == ("hold",) * (A - 1) + ("verifier",)
    assert decoded.tokens == greedy.tokens


def test_greedy_decoding_takes_one_pass_per_token(verifier):
    report = decode_autoregressive(verifier, prompt_of(verifier, 0), A, GREEDY).report
    assert (report.verifier_passes, report.drafted_per_pass) == (A, (0,) * A)


def test_drafts_never_cost_more_passes_than_greedy_decoding(verifier):
    for seed in range(20):
        history = [[TOKENS.first + (seed * 7 + i) % 256 for i in range(A)]]
        decoded = decode_speculative(
            verifier, prompt_of(verifier, seed), A, make_drafters(["hold", "refine"]), ONE_LOOK, history
        )
        assert 1 <= decoded.report.verifier_passes <= A


@pytest.mark.parametrize("emit", ["verifier", "draft"])
@pytest.mark.parametrize("radius", [1, 5, 9, 255])
def test_what_is_emitted_stays_within_the_radius_of_the_verifier(verifier, emit, radius):
    settings = replace(ONE_LOOK, acceptance_radius=radius, emit=emit)
    for seed in range(25):
        prompt = prompt_of(verifier, seed)
        history = history_near(decode_autoregressive(verifier, prompt, A, GREEDY).tokens, seed, spread=12)
        decoded = decode_speculative(verifier, prompt, A, make_drafters(["hold", "refine"]), settings, history)
        report = decoded.report
        assert len(decoded.tokens) == A
        assert all(TOKENS.is_action(token) for token in decoded.tokens)
        assert report.max_accepted_distance <= radius
        assert sum(report.accepted_per_pass) + report.verifier_passes == A
        assert all(a <= d for a, d in zip(report.accepted_per_pass, report.drafted_per_pass, strict=True))
        assert report.token_source[-1] == "verifier"
        if emit == "draft":
            check_draft_emission(verifier, prompt, decoded)


def check_draft_emission(verifier, prompt, decoded):
    """Every emitted token lies within its radius of the greedy choice after the tokens emitted before it."""
    radii = decoded.report.tolerance.bins
    for dimension, (token, source) in enumerate(zip(decoded.tokens, decoded.report.token_source, strict=True)):
        with torch.inference_mode():
            ids = torch.tensor([decoded.tokens[:dimension]], dtype=torch.long)
            rows = torch.cat([prompt, verifier.model.language_model.embed(ids)], dim=1)
            choice = verifier.run(rows, 0).greedy[0]
        gap = abs(int(TOKENS.to_bins(token)) - int(TOKENS.to_bins(choice)))
        assert gap <= (0 if source == "verifier" else radii[dimension])


def test_emitting_the_verifier_equals_its_argmax_after_the_accepted_draft(verifier):
    # The first dimension is conditioned on the prompt alone, so there the verifier's emission is the greedy token.
    settings = replace(ONE_LOOK, acceptance_radius=255)
    for seed in range(10):
        prompt = prompt_of(verifier, seed)
        greedy = decode_autoregressive(verifier, prompt, A, GREEDY)
        history = history_near(greedy.tokens, seed, spread=40)
        decoded = decode_speculative(verifier, prompt, A, make_drafters(["hold"]), settings, history)
        draft = list(history[-1][: A - 1])
        with torch.inference_mode():
            embeds = verifier.model.language_model.embed(torch.tensor([draft]))
            expected = [verifier.run(torch.cat([prompt, embeds[:, :n]], dim=1), 0).greedy[0] for n in range(A)]
        assert decoded.report.verifier_passes == 1
        assert list(decoded.tokens) == expected
        assert decoded.tokens[0] == greedy.tokens[0]


@pytest.mark.parametrize("action_dim", [1, 2, 4, 8, 14])
def test_other_action_sizes_are_never_overrun(verifier, action_dim):
    for seed, depth in itertools.product(range(5), (0, 1, 3, 6, 20)):
        prompt = prompt_of(verifier, seed)
        greedy = decode_autoregressive(verifier, prompt, action_dim, GREEDY)
        settings = DecodeSettings(acceptance_radius=0, draft_depth=depth, draft_width=1)
        history = history_near(greedy.tokens, seed)
        decoded = decode_speculative(verifier, prompt, action_dim, make_drafters(["hold", "refine"]), settings, history)
        assert decoded.tokens == greedy.tokens
        longest = max(0, min(depth, action_dim - 1))
        assert max(decoded.report.accepted_per_pass) <= longest
        assert max(decoded.report.drafted_per_pass) <= 2 * longest, "a branch of each drafter"


def one_word(model):
    """Now and then the model says a word."""
    row, generator = model.language_model.lm_head.weight[7], torch.Generator().manual_seed(1)
    row.copy_(2 * torch.randn(row.shape, generator=generator) / len(row) ** 0.5)


@pytest.mark.parametrize("emit", ["verifier", "draft"])
def test_a_word_after_a_draft_that_is_only_nearly_right_costs_no_action(emit):
    """Relaxed acceptance led the model to a word, and the arm was stopped for it; plain decoding had an answer."""
    verifier, answered, astray = make_verifier(one_word), 0, 0
    settings = DecodeSettings(acceptance_radius=60, draft_width=64, emit=emit, second_look=5.0)
    for seed in range(60):
        prompt, history = prompt_of(verifier, seed), history_near((TOKENS.first + 100,) * A, seed)
        try:
            greedy = decode_autoregressive(verifier, prompt, A, GREEDY)
        except NonActionTokenError:
            continue
        drafters = make_drafters(["refine", "sweep"])
        decoded = decode_speculative(verifier, prompt, A, drafters, settings, history)
        answered += 1
        if settled_tokens(decoded) > A and decoded.tokens == greedy.tokens and "second_look" in words_of(decoded):
            astray += 1
    assert answered > 15
    assert astray


def words_of(decoded):
    return "+".join(decoded.report.drafter_per_pass)


def settled_tokens(decoded):
    """Of all passes, those of tokens that were settled more than once included."""
    return sum(decoded.report.accepted_per_pass) + decoded.report.verifier_passes


def test_words_on_rejected_rows_cost_no_action():
    """Second thoughts with a word in them raised in ``refine``, for one in five of the prompts that have an answer."""
    verifier, answered = make_verifier(one_word), 0
    settings = DecodeSettings(acceptance_radius=0, draft_width=64)
    for seed in range(60):
        prompt, history = prompt_of(verifier, seed), history_near((TOKENS.first + 100,) * A, seed)
        try:
            greedy = decode_autoregressive(verifier, prompt, A, GREEDY)
        except NonActionTokenError:
            continue
        decoded = decode_speculative(verifier, prompt, A, make_drafters(["refine", "sweep"]), settings, history)
        assert decoded.tokens == greedy.tokens
        answered += 1
    assert answered > 15


@pytest.mark.parametrize("token", [2, TOKENS.first - 1, TOKENS.vocab_end])
@pytest.mark.parametrize("decoder", ["autoregressive", "speculative"])
def test_a_token_that_is_no_action_is_refused(token, decoder):
    def always(model):
        # With the final norm constant, the head gives one token a logit that nothing else reaches.
        head = model.language_model.lm_head.weight
        model.language_model.model.norm.weight.zero_()
        model.language_model.model.norm.register_forward_hook(lambda module, args, out: out + 1)
        head.zero_()
        head[token] = 1

    verifier = make_verifier(always)
    prompt = prompt_of(verifier, 0)
    history = [[TOKENS.first + 10] * A]
    decode = {
        "autoregressive": lambda: decode_autoregressive(verifier, prompt, A, GREEDY),
        "speculative": lambda: decode_speculative(
            verifier, prompt, A, make_drafters(["hold"]), DecodeSettings(), history
        ),
    }[decoder]
    with pytest.raises(NonActionTokenError, match=f"token {token}"):
        decode()


def test_ties_go_to_the_lowest_id():
    def tie(model):
        head = model.language_model.lm_head.weight
        head.zero_()
        head[TOKENS.first + 9] = head[TOKENS.first + 4] = head[TOKENS.first + 200] = 1
        model.language_model.model.norm.weight.zero_()
        model.language_model.model.norm.register_forward_hook(lambda module, args, out: out + 1)

    verifier = make_verifier(tie)
    decoded = decode_autoregressive(verifier, prompt_of(verifier, 0), A, GREEDY)
    assert decoded.tokens == (TOKENS.first + 4,) * A


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_logits_are_refused(value):
    def spoil(model):
        model.language_model.lm_head.weight[TOKENS.first + 3, 0] = value

    verifier = make_verifier(spoil)
    with pytest.raises(NonFiniteError):
        decode_speculative(verifier, prompt_of(verifier, 0), A, make_drafters(["hold"]), DecodeSettings(), [])


def test_a_prompt_that_does_not_fit_the_cache_is_refused():
    verifier = Verifier(example_model(CONFIG), TOKENS, slots=16)
    with pytest.raises(InstructionError, match="the cache has 15"):
        decode_autoregressive(verifier, prompt_of(verifier, 0), A, GREEDY)


def test_rows_of_a_rejected_draft_leave_no_trace(verifier):
    prompt = prompt_of(verifier, 5)
    clean = decode_autoregressive(verifier, prompt, A, GREEDY)
    verifier.cache.data.normal_()
    assert decode_autoregressive(verifier, prompt, A, GREEDY).tokens == clean.tokens


# -- passes of fixed shape: the code that a GPU records, run here without a GPU


@pytest.fixture(scope="module")
def padded():
    """The same model behind passes that are filled up to one of few sizes."""
    model = example_model(CONFIG)
    model.language_model.fuse()
    return Verifier(model, TOKENS, slots=320, fixed_shapes=True)


@pytest.mark.parametrize("names", [("hold", "refine"), ("refine", "sweep")], ids="+".join)
def test_filled_up_passes_say_the_same(verifier, padded, names):
    drafters = make_drafters(names)
    for seed in range(30):
        prompt = prompt_of(verifier, seed)
        greedy = decode_autoregressive(verifier, prompt, A, GREEDY)
        assert decode_autoregressive(padded, prompt, A, GREEDY).tokens == greedy.tokens
        history = history_near(greedy.tokens, seed, spread=12)
        settings = DecodeSettings(acceptance_radius=9, draft_width=5, draft_depth=1 + seed % 6)
        exact = decode_speculative(verifier, prompt, A, drafters, settings, history)
        fixed = decode_speculative(padded, prompt, A, drafters, settings, history)
        assert fixed.tokens == exact.tokens
        assert fixed.report == exact.report


def test_filled_up_passes_spend_a_budget_alike_and_nothing_where_every_bin_is_the_same_command(verifier, padded):
    drafters, settings = make_drafters(["hold", "refine"]), DecodeSettings(draft_width=5)
    passes = 0
    for seed in range(30):
        prompt = prompt_of(verifier, seed)
        greedy = decode_autoregressive(verifier, prompt, A, GREEDY)
        history = history_near(greedy.tokens, seed, spread=12)
        costs = tuple(int(dimension not in (seed % 6, (seed + 2) % 6)) for dimension in range(A))
        tolerance = Tolerance((9,) * (A - 1) + (0,), costs, seed % 7)
        asked = (prompt, tolerance, drafters, settings, history)
        exact = decoder.decode_speculative(verifier, *asked)
        fixed = decoder.decode_speculative(padded, *asked)
        assert (fixed.tokens, fixed.report) == (exact.tokens, exact.report)
        dear = decoder.decode_speculative(padded, prompt, replace(tolerance, costs=(1,) * A), *asked[2:])
        passes += dear.report.verifier_passes - fixed.report.verifier_passes
    assert passes > 0, "what costs nothing saves passes"


def test_what_a_bin_costs_is_known_where_the_tree_is_judged_at_the_depth_of_each_row(verifier, padded):
    for one in (verifier, padded):
        prompt = prompt_of(one, 3)
        choice = one.run(prompt, 0).greedy[0]
        near = choice + (5 if choice + 5 < TOKENS.vocab_end else -5)
        after = one.run(prompt, 0, DraftTree((near,), (ROOT,), ("x",)), (9,)).greedy[1]
        tree = DraftTree((near, after + (3 if after + 3 < TOKENS.vocab_end else -3)), (ROOT, 0), ("x", "x"))
        judged = {
            (costs, budget): len(one.run(prompt, 0, tree, (9, 9), budget, costs).path)
            for costs in ((), (1, 1), (0, 1), (1, 0), (0, 0))
            for budget in (0, 3, 5, 8)
        }
        assert [judged[(), budget] for budget in (0, 3, 5, 8)] == [0, 0, 1, 2]
        assert [judged[(1, 1), budget] for budget in (0, 3, 5, 8)] == [0, 0, 1, 2]
        assert [judged[(0, 1), budget] for budget in (0, 3, 5, 8)] == [1, 2, 2, 2]
        assert [judged[(1, 0), budget] for budget in (0, 3, 5, 8)] == [0, 0, 2, 2]
        assert [judged[(0, 0), budget] for budget in (0, 3, 5, 8)] == [2, 2, 2, 2]


def test_filled_up_passes_hold_actions_of_many_dimensions(verifier):
    """Deeper trees and more rows behind the prompt than seven tokens need."""
    padded = Verifier(verifier.model, TOKENS, slots=320, fixed_shapes=True)
    many, drafters = 14, make_drafters(["hold"])
    for seed in range(8):
        prompt = prompt_of(verifier, seed)
        greedy = decode_autoregressive(verifier, prompt, many, GREEDY)
        assert decode_autoregressive(padded, prompt, many, GREEDY).tokens == greedy.tokens
        settings = DecodeSettings(acceptance_radius=3, draft_depth=many - 1)
        history = history_near(greedy.tokens, seed)
        exact = decode_speculative(verifier, prompt, many, drafters, settings, history)
        assert decode_speculative(padded, prompt, many, drafters, settings, history).report == exact.report


def test_a_branch_that_ran_out_of_rows_borrows_from_the_one_beside_it():
    """refine had nothing to go on from there, and the action took a third pass."""
    far, near, cut = (TOKENS.vocab_end - 1 - place for place in (10, 40, 60))
    tree = DraftTree((far, far + 1, near, near + 1, near + 2, cut), (ROOT, 0, ROOT, 2, 3, ROOT))
    greedy = [cut, 901, 902, 903, 904, 905, near]  # after the root, then after each node
    verdict = Verdict(greedy, [0.0] * 7, [5], lambda: None, 0.0)
    assert _second_thoughts(tree, verdict, 5, TOKENS) == (904, 905)
    assert _second_thoughts(tree, verdict, 0, TOKENS) == (902,), "its own branch comes first"


def test_only_few_shapes_are_ever_built(padded):
    padded.warm_up()
    known = len(padded.shapes.passes)
    for seed in range(20):
        prompt = prompt_of(padded, seed)
        history = history_near((TOKENS.first + 100,) * A, seed)
        decode_speculative(padded, prompt, A, make_drafters(["refine", "sweep"]), DecodeSettings(), history)
    assert len(padded.shapes.passes) == known, "a shape was built after the warm-up, while an arm would be moving"
    assert known <= 30


@pytest.mark.parametrize("drafts", [("hold", "refine"), ()], ids=["with drafts", "without"])
def test_a_recorded_pass_never_touches_the_host(padded, drafts):
    """Numbers that are copied to the device, and results that are waited for, cannot be part of a CUDA graph."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Listener(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            used.add(function.overloadpacket.__name__)
            if str(function).startswith("aten.where.Scalar"):  # becomes a tensor on the host first
                used.add("where a number")
            return function(*args, **(kwargs or {}))

    prompt, used = prompt_of(padded, 2), set()
    history = history_near((TOKENS.first + 100,) * A, 2)
    decode_speculative(padded, prompt, A, make_drafters(drafts), DecodeSettings(draft_width=4), history)
    with torch.inference_mode():
        for shape in list(padded.shapes.passes):
            padded.shapes._tell(Question(TOKENS.first, 0), shape)
            with Listener():
                padded.shapes.forward(shape)
    assert "scaled_dot_product_attention" in " ".join(used), "the passes were listened to"
    assert not used & {
        "scalar_tensor",
        "lift_fresh",
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "where a number",
    }


def test_one_shape_for_all_passes_makes_strict_decoding_bit_equal():
    model = example_model(CONFIG)
    model.language_model.fuse()
    verifier = Verifier(model, TOKENS, slots=160, uniform=True)
    settings = DecodeSettings(acceptance_radius=0, draft_width=4)
    for seed in range(10):
        prompt = prompt_of(verifier, seed)
        greedy = decode_autoregressive(verifier, prompt, A, GREEDY)
        history = history_near(greedy.tokens, seed)
        decoded = decode_speculative(verifier, prompt, A, make_drafters(["hold", "refine"]), settings, history)
        assert decoded.tokens == greedy.tokens
    assert len(verifier.shapes.passes) == 1


@pytest.mark.parametrize("fixed", [False, True])
def test_a_pass_that_was_not_finite_does_not_spoil_the_next(fixed):
    model = example_model(CONFIG)
    model.language_model.fuse()
    verifier = Verifier(model, TOKENS, slots=320, fixed_shapes=fixed)
    prompt = prompt_of(verifier, 1)
    clean = decode_autoregressive(verifier, prompt, A, GREEDY)
    with pytest.raises(NonFiniteError):
        decode_autoregressive(verifier, torch.full_like(prompt, float("nan")), A, GREEDY)
    assert decode_autoregressive(verifier, prompt[:, :18], A, GREEDY)
    assert decode_autoregressive(verifier, prompt, A, GREEDY).tokens == clean.tokens


def test_ancestors_are_the_nodes_of_the_path():
    generator = torch.Generator().manual_seed(2)
    for _ in range(200):
        count = int(torch.randint(1, 40, (), generator=generator))
        parents = [int(torch.randint(-1, n, (), generator=generator)) if n else -1 for n in range(count)]
        tree = DraftTree((0,) * count, tuple(parents), ("",) * count)
        marked = ancestors_of(tree)
        for node in range(count):
            assert marked[node].nonzero()[0].tolist() == tree.path(node)
            assert tree.depths[node] == len(tree.path(node)) - 1


# -- a second look at actions of which the model was not sure


def decode_near(verifier, seed, **more):
    """Greedy tokens, and relaxed decoding from drafts that are a little off."""
    prompt = prompt_of(verifier, seed)
    greedy = decode_autoregressive(verifier, prompt, A, GREEDY).tokens
    settings = replace(ONE_LOOK, **more)
    drafters = make_drafters(["hold", "refine"])
    return greedy, decode_speculative(verifier, prompt, A, drafters, settings, history_near(greedy, seed, spread=9))


def test_a_second_look_comes_nearer_to_greedy_decoding(verifier):
    apart, passes, looked = {0.0: 0, 50.0: 0}, {0.0: 0, 50.0: 0}, 0
    for seed in range(80):
        for threshold in apart:
            greedy, decoded = decode_near(verifier, seed, second_look=threshold)
            apart[threshold] += sum(a != b for a, b in zip(decoded.tokens, greedy, strict=True))
            passes[threshold] += decoded.report.verifier_passes
            looked += "second_look" in "+".join(decoded.report.drafter_per_pass)
            assert decoded.tokens[0] == greedy[0]
            assert len(decoded.report.token_source) == A
    assert looked > 20
    assert apart[50.0] < 0.8 * apart[0.0]
    assert passes[0.0] < passes[50.0] <= passes[0.0] + 6 * looked


def test_what_is_reported_covers_both_looks(verifier, monkeypatch):
    """Passes and acceptances of both looks stood beside the distances of the second alone."""
    seen, run, looked, wider = [], verifier.run, 0, 0

    def listen(*arguments):
        seen.append((arguments[2] if len(arguments) > 2 else None, run(*arguments)))
        return seen[-1][1]

    def bin_of(token):
        return int(TOKENS.to_bins(token))

    monkeypatch.setattr(verifier, "run", listen)
    for seed in range(60):
        prompt = prompt_of(verifier, seed)
        greedy = decode_autoregressive(verifier, prompt, A, GREEDY).tokens
        history, settings = history_near(greedy, seed, spread=9), replace(ONE_LOOK, second_look=50.0)
        seen.clear()
        decoded = decode_speculative(verifier, prompt, A, make_drafters(["hold", "refine"]), settings, history)
        report, distances = decoded.report, []
        for tree, verdict in seen:
            befores = [ROOT, *verdict.path][: len(verdict.path)]
            pairs = [
                (tree.tokens[node], verdict.after(before)) for node, before in zip(verdict.path, befores, strict=True)
            ]
            distances.append(max((abs(bin_of(draft) - bin_of(choice)) for draft, choice in pairs), default=0))
        assert report.max_accepted_distance == max(distances)
        assert report.verifier_passes == len(seen)
        assert report.accepted_per_pass == tuple(len(verdict.path) for _, verdict in seen)
        assert report.drafted_per_pass == tuple(len(tree) for tree, _ in seen)
        assert report.accepted_tokens <= A - 1, "of one action, although two looks have accepted more"
        marks = ["second_look" in names.split("+") for names in report.drafter_per_pass]
        if any(marks):
            first = marks.index(True)
            assert report.accepted_tokens == sum(report.accepted_per_pass[first:])
            assert sum(report.accepted_per_pass[:first]) + first == A, "before the mark there is a whole action"
            looked, wider = looked + 1, wider + (max(distances[:first]) > max(distances[first:]))
    assert looked > 20
    assert wider > 5


def test_nobody_looks_twice_at_what_is_exact_or_sure(verifier):
    for seed in range(30):
        greedy, decoded = decode_near(verifier, seed)
        assert decode_near(verifier, seed, second_look=0.0)[1].report == decoded.report
        if decoded.report.max_accepted_distance == 0:
            assert decode_near(verifier, seed, second_look=50.0)[1].report == decoded.report
    prompt = prompt_of(verifier, 1)
    strict = DecodeSettings(acceptance_radius=0, second_look=50.0)
    greedy = decode_autoregressive(verifier, prompt, A, GREEDY).tokens
    decoded = decode_speculative(verifier, prompt, A, make_drafters(["hold"]), strict, history_near(greedy, 1))
    assert decoded.tokens == greedy
    assert "second_look" not in decoded.report.token_source


def test_the_papers_rule_has_no_second_look(verifier):
    for seed in range(20):
        _, decoded = decode_near(verifier, seed, emit="draft", second_look=50.0)
        assert "second_look" not in decoded.report.token_source


def test_margins_are_the_lead_over_another_motion():
    logits = torch.full((3, CONFIG.llama.vocab_size), -5.0)
    first = TOKENS.first
    logits[0, first + 100], logits[0, first + 110], logits[0, first + 200] = 3.0, 2.9, 1.0
    logits[1, first + 10], logits[1, first + 250] = 2.0, 2.0
    logits[2, first + 10], logits[2, 0] = 1.0, 9.0  # a word is no alternative motion
    assert margins_of(logits, TOKENS, far_apart(TOKENS, "cpu")).tolist() == [2.0, 0.0, 6.0]
