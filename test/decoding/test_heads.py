"""Trained heads: the networks, the drafters around them, and the files they come from. Heads here are random."""

import itertools
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from speculating import decode_speculative

from spec_vla_ros.decoding.costs import PassCosts
from spec_vla_ros.decoding.decoder import decode_autoregressive
from spec_vla_ros.decoding.drafters import DraftContext, Observation, make_drafters
from spec_vla_ros.decoding.drafters.beams import modes, windows_of
from spec_vla_ros.decoding.drafters.eagle import NODES, Eagle, eagle_slots
from spec_vla_ros.decoding.drafters.vision import Vision
from spec_vla_ros.decoding.heads.eagle_head import EagleHead
from spec_vla_ros.decoding.heads.store import load_eagle_head, load_vision_head, save_head, trained_drafters
from spec_vla_ros.decoding.heads.vision_head import Steps, VisionHead, VisionHeadConfig
from spec_vla_ros.decoding.planner import Planner
from spec_vla_ros.decoding.timing import time_drafting
from spec_vla_ros.decoding.tree import DraftTree
from spec_vla_ros.decoding.verifier import Verifier, cache_slots
from spec_vla_ros.errors import CheckpointError
from spec_vla_ros.node.parameters import PARAMETERS
from spec_vla_ros.openvla.action_tokens import ActionTokens
from spec_vla_ros.openvla.example import example_config, example_model
from spec_vla_ros.openvla.image import ImageTransform
from spec_vla_ros.openvla.llama import causal_mask, rope_tables
from spec_vla_ros.openvla.prompt import MAX_PROMPT_IDS
from spec_vla_ros.policy_types import DecodeSettings

A = 7
CONFIG = example_config()
TOKENS = ActionTokens(CONFIG.action_vocab_end, CONFIG.n_action_bins)
HIDDEN, PATCHES = CONFIG.llama.hidden_size, CONFIG.towers[0].patches
SIZES = VisionHeadConfig(HIDDEN, PATCHES, width=32)


@pytest.fixture(scope="module")
def verifier():
    model = example_model(CONFIG)
    model.language_model.fuse()
    return Verifier(model, TOKENS, slots=192)


@pytest.fixture(scope="module")
def heads(verifier):
    torch.manual_seed(5)
    eagle = EagleHead(CONFIG.llama).eval().requires_grad_(False)
    vision = VisionHead(SIZES).eval().requires_grad_(False)
    return {"vision": Vision(vision), "eagle": Eagle(eagle, verifier.model, 192)}


@torch.inference_mode()
def observe(verifier, seed, length=9):
    generator = torch.Generator().manual_seed(seed)
    patches = verifier.model.embed_image(torch.randn(1, 6, 56, 56, generator=generator))
    text = verifier.model.language_model.embed(torch.randint(3, 512, (1, length), generator=generator))
    return Observation(patches, text, torch.cat([text[:, :1], patches, text[:, 1:]], dim=1))


def context(**changes):
    values = {"first": 0, "count": 6, "width": 4, "radii": (9,) * 6 + (0,), "tokens": TOKENS}
    return DraftContext(**{**values, **changes})


@pytest.mark.parametrize("names", [("vision",), ("eagle",), ("refine", "vision", "sweep"), ("eagle", "refine", "hold")])
def test_radius_zero_gives_the_greedy_tokens_whatever_heads_say(verifier, heads, names):
    drafters, history = make_drafters(names, heads), ()
    for seed in range(24):
        seen = observe(verifier, seed)
        greedy = decode_autoregressive(verifier, seen.prompt, A, DecodeSettings(decoder="autoregressive"))
        settings = DecodeSettings(acceptance_radius=0, draft_depth=1 + seed % 6, draft_width=1 + seed % 9)
        decoded = decode_speculative(verifier, seen.prompt, A, drafters, settings, history, seen)
        assert decoded.tokens == greedy.tokens, seed
        history = (*history, greedy.tokens)[-2:]


def test_relaxed_heads_stay_within_the_radius(verifier, heads):
    drafters = make_drafters(("refine", "vision", "eagle"), heads)
    used = set()
    for seed in range(30):
        seen = observe(verifier, seed)
        settings = DecodeSettings(acceptance_radius=40, draft_width=8, second_look=0.0)
        report = decode_speculative(verifier, seen.prompt, A, drafters, settings, (), seen).report
        assert report.max_accepted_distance <= 40
        assert sum(report.accepted_per_pass) + report.verifier_passes == A
        used |= {name for names in report.drafter_per_pass for name in names.split("+")}
    assert {"vision", "eagle", "refine"} <= used


# -- the vision head


def window_of(radius, bins):
    return windows_of(torch.tensor([radius]), bins)[:, 0]


def test_modes_are_as_far_apart_as_acceptance_forgives():
    probability = torch.zeros(1, 255)
    probability[0, [50, 52, 100, 200]] = torch.tensor([0.25, 0.25, 0.3, 0.2])
    bins, mass = modes(probability, *window_of(3, 255), 3)
    assert 49 <= bins[0, 0] <= 53, "two neighbours together beat the single best bin"
    assert [abs(int(bins[0, 1]) - 100) <= 3, abs(int(bins[0, 2]) - 200) <= 3] == [True, True]
    torch.testing.assert_close(mass, torch.tensor([[0.5, 0.3, 0.2]]))


@pytest.mark.parametrize("radius", [0, 1, 9])
def test_mass_is_what_lies_within_the_radius(radius):
    probability = torch.rand(5, 40).softmax(-1)
    bins, mass = modes(probability, *window_of(radius, 40), 1)
    for row, best, got in zip(probability, bins[:, 0].tolist(), mass[:, 0].tolist(), strict=True):
        windows = [row[max(0, b - radius) : b + radius + 1].sum().item() for b in range(40)]
        assert got == pytest.approx(max(windows), abs=1e-6)
        assert windows[best] == pytest.approx(max(windows), abs=1e-6)


@pytest.mark.parametrize("layers", [1, 3])
@torch.inference_mode()
def test_drafting_step_by_step_equals_the_pass_of_training(verifier, layers):
    torch.manual_seed(layers)
    head, seen = VisionHead(replace(SIZES, decoder_layers=layers)).eval(), observe(verifier, 1)
    steps = Steps(head)
    text, last = seen.text[:, 1:], torch.full((1, A), -1)
    bins = torch.randint(0, 255, (1, A))
    together = head(seen.patches, text, last, bins, None).log_softmax(-1)
    memory, _ = head.encode(seen.patches, text, last)
    chains = torch.cat([torch.full((1, 1), SIZES.bins), bins], dim=1)
    for dimension in range(A):
        log_p = steps(memory, chains[:, : dimension + 1]).log_softmax(-1)
        torch.testing.assert_close(log_p, together[:, dimension], atol=1e-5, rtol=1e-4)
    others = torch.cat([chains, chains.flip(1).clamp(max=254)])[:, :A]
    others[:, 0] = SIZES.bins
    torch.testing.assert_close(steps(memory, others)[:1].log_softmax(-1), together[:, A - 1], atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_absent_text_rows_change_nothing(verifier, heads):
    head, seen = heads["vision"].head, observe(verifier, 2)
    text, last, bins = seen.text[:, 1:6], torch.full((1, A), 3), torch.randint(0, 255, (1, A))
    padded = torch.cat([text, torch.randn(1, 4, HIDDEN)], dim=1)
    mask = torch.arange(9)[None] < 5
    for given in (mask, torch.zeros(1, 9).masked_fill_(~mask, -torch.inf)):
        torch.testing.assert_close(
            head(seen.patches, padded, last, bins, given),
            head(seen.patches, text, last, bins, None),
            atol=1e-5,
            rtol=1e-4,
        )


def test_vision_drafts_for_its_image_alone_and_goes_on_from_what_was_emitted(verifier, heads):
    vision, (one, other) = heads["vision"], (observe(verifier, seed) for seed in (3, 4))
    vision.begin(None)
    assert vision.propose(context()) == []
    vision.begin(one)
    branches = vision.propose(context())
    assert len(branches) == 4
    assert all(len(branch) == 6 for branch in branches)
    assert len({tuple(branch) for branch in branches}) == 4
    vision.begin(other)
    assert vision.propose(context()) != branches
    vision.begin(one)
    assert vision.propose(context()) == branches
    (best,) = vision.propose(context(width=1))
    (rest,) = vision.propose(context(first=2, count=4, width=1, emitted=tuple(best[:2])))
    assert rest == best[2:], "its own beginning leads to its own end"


@pytest.mark.parametrize("said", [TOKENS.first, TOKENS.first + 1])
def test_a_full_motion_is_drafted_with_the_id_that_the_model_says(verifier, said):
    """A head learns bins, and the topmost one has two ids."""
    head = VisionHead(SIZES).eval().requires_grad_(False)
    head.out.bias.view(-1, SIZES.bins)[..., -1] = 1000.0
    (drafter,) = make_drafters(["vision"], {"vision": Vision(head)})
    drafter.begin(observe(verifier, 1))
    exact = {"radii": (0,) * A, "width": 1}
    assert drafter.propose(context(**exact)) == [[TOKENS.first] * 6], "as data have it"
    assert drafter.propose(context(**exact, history=((said,) * A,))) == [[said] * 6]


def test_fixed_shapes_draft_what_exact_ones_do(verifier, heads):
    """What a GPU records runs here unrecorded, one drafter for all actions, as buffers are."""
    exact, fixed = heads["vision"], Vision(heads["vision"].head, fixed_shapes=True)
    fixed.warm_up(4)
    assert fixed.propose(context()) == [], "what it warmed up on is no image"
    fixed.begin(observe(verifier, 5))
    assert fixed.propose(context(width=3)) == fixed.propose(context(width=4))[:3], "nothing is recorded for three"
    ids = TOKENS.to_ids([[7, 250, 3, 90, 128, 60, 254], [1, 2, 3, 4, 5, 6, 7]])
    for seed, length in enumerate((9, 3, SIZES.text_rows + 20)):
        seen = observe(verifier, seed, length)
        for history in ((), tuple(map(tuple, ids.tolist()))):
            for radius in (9, 0):
                for first in (0, 2):
                    where = {"first": first, "count": 6 - first, "emitted": tuple(ids[1, :first].tolist())}
                    asked = context(**where, history=history, radii=(radius,) * 6 + (0,))
                    proposals = []
                    for drafter in (exact, fixed):
                        drafter.begin(seen)
                        proposals.append(drafter.propose(asked))
                    assert proposals[0] == proposals[1]
                    shorter = fixed.propose(replace(asked, count=2))
                    assert shorter == [branch[:2] for branch in proposals[1]]


# -- the head of Spec-VLA


@torch.inference_mode()
def test_the_tree_grows_from_the_verifiers_states(verifier, heads):
    """First level against a computation without any cache, over several passes."""
    eagle, model, seen = heads["eagle"], verifier.model, observe(verifier, 6)
    eagle.begin(seen)
    assert eagle.propose(context()) == [], "before the first pass there are no states"
    first = verifier.run(seen.prompt, 0)
    rows = [first.greedy[0]]
    embeds, states = seen.prompt, first.hidden
    settled = first
    for count in (5, 3):
        chains = eagle.propose(context(first=A - 1 - count, count=count, width=4, states=settled, rows=tuple(rows)))
        tree = DraftTree.of([("eagle", chain) for chain in chains], 64)
        assert len(tree) <= NODES
        assert max(len(chain) for chain in chains) <= count
        everything = torch.cat([seen.prompt, model.language_model.embed(torch.tensor([rows]))], dim=1)
        known = states if embeds is seen.prompt else torch.cat([first.hidden, states], dim=1)
        places = torch.arange(known.shape[1])
        tables = rope_tables(CONFIG.llama, places, known.dtype)
        out = eagle.head(everything[:, 1:], known, tables, causal_mask(len(places), "cpu"))
        logits = model.language_model.logits(out[0, -1])[TOKENS.first : TOKENS.vocab_end]
        expected = {int(i) + TOKENS.first for i in logits.topk(4).indices}
        assert {tree.tokens[node] for node in tree.children(-1)} <= expected
        assert int(logits.argmax()) + TOKENS.first in {tree.tokens[node] for node in tree.children(-1)}
        verdict = verifier.run(rows[-1], len(seen.prompt[0]))
        embeds, states, settled = None, verdict.hidden, verdict
        rows.append(verdict.greedy[0])


# -- at the ends of what the node's parameters allow


def ends(name):
    """Of the range that a parameter of the node has."""
    return next(spec.range for spec in PARAMETERS if spec.name == name)


def corner(radius, width, depth):
    return DecodeSettings(acceptance_radius=radius, draft_width=width, draft_depth=depth, second_look=0.0)


@pytest.mark.parametrize("dimensions", [1, 2, 7, 8, 9])
@pytest.mark.parametrize("name", ["vision", "eagle"])
def test_heads_hold_at_the_ends_of_the_parameters(verifier, name, dimensions):
    """A tree of 64 branches six levels deep overflowed the cache of the eagle head, and the arm stopped."""
    torch.manual_seed(6)
    loaded = SimpleNamespace(config=CONFIG, statistics=SimpleNamespace(action_dim=dimensions))
    larger = Verifier(verifier.model, TOKENS, cache_slots(loaded))
    if name == "eagle":
        drafter = Eagle(EagleHead(CONFIG.llama).requires_grad_(False), verifier.model, eagle_slots(loaded))
    else:
        drafter = Vision(VisionHead(replace(SIZES, action_dim=dimensions)).requires_grad_(False))
    for length, radius in ((1, 0), (MAX_PROMPT_IDS, 254)):
        seen = observe(verifier, 3, length)
        greedy = decode_autoregressive(larger, seen.prompt, dimensions, DecodeSettings(decoder="autoregressive"))
        for width, depth in itertools.product(ends("draft_width"), ends("draft_depth")):
            settings = corner(radius, int(width), int(depth))
            decoded = decode_speculative(larger, seen.prompt, dimensions, [drafter], settings, (), seen)
            assert radius or decoded.tokens == greedy.tokens
            drafted = dimensions > (2 if name == "eagle" else 1) and depth > 0
            assert any(decoded.report.drafted_per_pass) == drafted


def test_the_widest_tree_is_as_deep_as_it_may_be(verifier):
    torch.manual_seed(6)
    loaded = SimpleNamespace(config=CONFIG, statistics=SimpleNamespace(action_dim=9))
    head, seen = EagleHead(CONFIG.llama).requires_grad_(False), observe(verifier, 3, 160)
    width, depth = int(ends("draft_width")[1]), int(ends("draft_depth")[1])
    larger = Verifier(verifier.model, TOKENS, cache_slots(loaded))
    verdict = larger.run(seen.prompt, 0)
    levels = []
    for slots in (eagle_slots(loaded), cache_slots(loaded)):
        eagle = Eagle(head, verifier.model, slots)
        counted = []
        eagle.head.register_forward_hook(lambda module, args, out, counted=counted: counted.append(out.shape[1]))
        eagle.begin(seen)
        asked = context(first=1, count=depth, width=width, states=verdict, rows=(verdict.greedy[0],), radii=(9,) * 9)
        branches = eagle.propose(asked)
        assert len(DraftTree.of([("eagle", branch) for branch in branches], 64)) == NODES
        levels.append(len(counted))
    assert levels[0] == depth, "what the verifier settled, and every level but the last"
    assert levels[1] < depth, "a cache that is too small makes the tree flatter and nothing worse"


@torch.inference_mode()
def test_a_head_that_was_not_asked_in_the_pass_before_has_nothing_to_say(verifier, heads):
    """The planner may leave it out of a pass: states of fewer rows than were settled stopped the inference."""
    eagle, seen = heads["eagle"], observe(verifier, 6)
    first = verifier.run(seen.prompt, 0)
    rows = [first.greedy[0]]
    second = verifier.run(rows[0], seen.prompt.shape[1])
    rows.append(second.greedy[0])
    third = verifier.run(rows[1], seen.prompt.shape[1] + 1)
    eagle.begin(seen)
    assert eagle.propose(context(first=2, count=4, states=second, rows=rows)) == []
    assert eagle.propose(context(first=3, count=3, states=third, rows=[*rows, third.greedy[0]])) == []
    eagle.begin(seen)
    first = verifier.run(seen.prompt, 0)
    assert eagle.propose(context(first=1, count=5, states=first, rows=rows[:1])), "a new action is a new beginning"
    verifier.run(rows[0], seen.prompt.shape[1])
    third = verifier.run(rows[1], seen.prompt.shape[1] + 1)
    assert eagle.propose(context(first=3, count=3, states=third, rows=[*rows, third.greedy[0]])) == []


@pytest.mark.parametrize("foreign", [5, -1, TOKENS.vocab_end, 2**70])
def test_an_earlier_action_with_a_word_in_it_does_not_stop_heads(verifier, heads, foreign):
    seen = observe(verifier, 3)
    verdict = verifier.run(seen.prompt, 0)
    for drafter in heads.values():
        drafter.begin(seen)
        asked = context(
            first=1, count=5, history=[[TOKENS.first + 9] * 3 + [foreign] * 4], emitted=(TOKENS.first,),
            rejected=(foreign,) * 3, states=verdict, rows=(TOKENS.first,),
        )  # fmt: skip
        assert all(TOKENS.is_action(token) for branch in drafter.propose(asked) for token in branch)


@pytest.mark.parametrize("radius", [0, 9, 254, 1000])
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("bins", [1, 2, 255])
def test_modes_are_bins_however_wide_the_windows_and_few_the_bins(radius, count, bins):
    found, mass = modes(torch.rand(3, bins).softmax(-1), *window_of(radius, bins), count)
    assert found.shape == mass.shape == (3, count)
    assert ((found >= 0) & (found < bins)).all()
    assert (mass >= 0).all()


@pytest.mark.parametrize("name", ["vision", "eagle"])
def test_what_a_head_takes_is_timed_while_it_drafts(verifier, heads, name, monkeypatch):
    """``eagle`` was never asked to: it had no states to draft from, and counted as free."""
    head, drafted = heads[name], []
    propose = head.propose
    monkeypatch.setattr(
        head, "propose", lambda context: drafted.append((context.width, propose(context))) or drafted[-1][1]
    )
    one, all_ = time_drafting(head, TOKENS, observe(verifier, 4), A)
    assert min(one, all_) > 0
    assert all(len(branches) >= width for width, branches in drafted)
    assert all(branches and all(branches) for _, branches in drafted)
    assert max(len(branch) for _, branches in drafted for branch in branches) == (5 if name == "eagle" else 6)


def test_the_automatic_tree_may_leave_heads_out_of_any_pass(verifier, heads):
    """Where asking the eagle head paid in the third pass only, the inference ended with an exception."""
    drafters, spent = make_drafters(("eagle", "refine", "vision", "hold"), heads), set()
    for number, cost in enumerate((0.0, 0.05, 0.4, 5.0)):
        planner = Planner(PassCosts((0, 64), (1.0, 3.0), (1.0, 3.0), drafting={"eagle": (cost, cost)}))
        for seed in range(12):
            seen = observe(verifier, seed)
            greedy = decode_autoregressive(verifier, seen.prompt, A, DecodeSettings(decoder="autoregressive"))
            settings = DecodeSettings(acceptance_radius=0, draft_depth=(6, 2, 6, 3)[number])
            history = [greedy.tokens] if seed % 2 else ()
            decoded = decode_speculative(verifier, seen.prompt, A, drafters, settings, history, seen, planner)
            assert decoded.tokens == greedy.tokens
            spent |= {(number, "eagle" in names) for names in decoded.report.drafter_per_pass}
    assert (0, True) in spent
    assert (3, True) not in spent, "what is dear and seldom right is left"


# -- files


def published(tmp_path, config=CONFIG.llama, prefix=""):
    """A head as Spec-VLA publishes it: with a copy of the verifier's embeddings, in half precision."""
    state = {prefix + name: tensor.half() for name, tensor in EagleHead(config).state_dict().items()}
    state[prefix + "embed_tokens.weight"] = torch.zeros(config.vocab_size, config.hidden_size).half()
    return state


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("bias", [True, False])
def test_published_heads_are_read(tmp_path, prefix, bias):
    state = published(tmp_path, prefix=prefix)
    if not bias:
        del state[prefix + "fc.bias"]
    torch.save(state, tmp_path / "pytorch_model.bin")
    head = load_eagle_head(tmp_path, CONFIG.llama)
    torch.testing.assert_close(head.fc.weight, state[prefix + "fc.weight"].float())
    assert bias or not head.fc.bias.any()


def test_heads_come_back_from_their_files(tmp_path, heads):
    for name, loaded in (
        ("vision", lambda folder: load_vision_head(folder, HIDDEN, PATCHES, A)),
        ("eagle", lambda folder: load_eagle_head(folder, CONFIG.llama)),
    ):
        save_head(heads[name].head, tmp_path / name, {"made": "by a test"})
        again = loaded(tmp_path / name).state_dict()
        for key, tensor in heads[name].head.state_dict().items():
            torch.testing.assert_close(again[key], tensor.half().float())


@pytest.mark.parametrize("name", ["vision", "eagle"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "keys", "shape", "config"])
def test_a_head_that_does_not_fit_is_named(tmp_path, heads, name, damage):
    folder = tmp_path / name
    save_head(heads[name].head, folder, {})
    weights = folder / "model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "empty":
        weights.unlink()
    elif damage == "keys":
        save_file({"something": torch.zeros(2)}, weights)
    elif damage == "shape":
        state = {key: torch.zeros(3, 3) for key in heads[name].head.state_dict()}
        save_file(state, weights)
    elif name == "vision":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "hidden": 4096}))
    else:
        pytest.skip("published heads need no config")
    with pytest.raises(CheckpointError, match=str(folder)):
        load_vision_head(folder, HIDDEN, PATCHES, A) if name == "vision" else load_eagle_head(folder, CONFIG.llama)


@pytest.fixture
def model_of_it(tmp_path, verifier):
    """As much of a loaded model as heads are looked up for; its images go the default way."""

    class Loaded:
        model, config, tokens = verifier.model, CONFIG, TOKENS
        statistics = type("Statistics", (), {"action_dim": A})
        files, folder, transform = None, tmp_path / "model", ImageTransform(CONFIG)

    return Loaded


@pytest.mark.parametrize(
    ("made_for", "said"),
    [
        ({"centre_crop": False, "image_resize": "evaluation"}, ""),
        ({"centre_crop": False}, "(image_resize 'processor', this is 'evaluation')"),
        ({"centre_crop": True, "image_resize": "evaluation"}, "(centre_crop True, this is False)"),
        ({"name": "elsewhere"}, ""),
        (None, ""),
        ("a sentence", ""),
    ],
)
def test_a_head_that_learnt_from_other_pictures_is_used_and_said(tmp_path, model_of_it, heads, caplog, made_for, said):
    """It drafts, is accepted less often, and nothing told; one that does not say it is not judged."""
    save_head(heads["vision"].head, tmp_path / "vision", {} if made_for is None else {"model": made_for})
    save_head(heads["eagle"].head, tmp_path / "eagle", {"model": made_for})
    found, problems = trained_drafters(model_of_it, tmp_path)
    assert (set(found), problems) == ({"vision", "eagle"}, [])
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == (2 if said else 0)
    assert all(said in line and "fewer of its drafts" in line for line in warnings)


def test_a_bad_head_is_a_line_and_the_good_one_is_used(tmp_path, model_of_it, heads):

    save_head(heads["vision"].head, tmp_path / "vision", {})
    (tmp_path / "eagle").mkdir()
    found, problems = trained_drafters(model_of_it, tmp_path)
    assert list(found) == ["vision"]
    (line,) = problems
    assert "eagle" in line
    assert trained_drafters(model_of_it, tmp_path / "model" / "drafters") == ({}, []), (
        "a model without heads is no problem"
    )
    found, (line,) = trained_drafters(model_of_it, tmp_path / "nowhere")
    assert found == {}
    assert "nowhere has no draft heads" in line, "asked for"


def test_a_vision_head_for_another_number_of_bins_is_refused():
    from pathlib import Path

    folder = Path(__file__).parents[2] / "models" / "tabletop" / "drafters" / "vision"
    assert load_vision_head(folder, 128, 64, 7, bins=255)
    with pytest.raises(CheckpointError, match="bins"):
        load_vision_head(folder, 128, 64, 7, bins=127)
