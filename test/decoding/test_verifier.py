"""The verifier around its passes: what they cost, what is built ahead, who judges, and what does not fit."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from from_scratch import FIRST, PATCHES, TOKENS, VOCABULARY, Arithmetic, Counting

from spec_vla_ros.decoding import verifier as verifier_module
from spec_vla_ros.decoding.acceptance import far_apart
from spec_vla_ros.decoding.fixed_shapes import TREE_SIZES
from spec_vla_ros.decoding.outcome import Judgement, Question, bias_of, outcome_of, read_outcome
from spec_vla_ros.decoding.tree import ROOT, TREE_ROWS, DraftTree
from spec_vla_ros.decoding.verifier import Verifier, cache_slots
from spec_vla_ros.errors import InstructionError, NonFiniteError

SLOTS, TEXT = 320, (32, 64, 192)
EVERY_WAY = pytest.mark.parametrize("way", [{"fixed_shapes": False}, {"fixed_shapes": True}, {"uniform": True}])


def model_of(count):
    return Arithmetic((7 * n + 3) % 300 for n in range(count))


def rows_of(model):
    return Counting().embed(torch.tensor([model.prompt]))


def right(model, wrong=0):
    """A branch of six that the model agrees with, and beside it as many others as there is room for."""
    chain = []
    for _ in range(6):
        chain.append(model.say(tuple(chain))[0])
    others = [FIRST + n for n in range(wrong)]
    parents = [*[ROOT] * wrong, ROOT, *range(wrong, wrong + 5)]
    return DraftTree((*others, *chain), tuple(parents), ("test",) * len(parents))


@EVERY_WAY
@pytest.mark.parametrize("wrong", [0, 2, 3, 26, 27, 58])
def test_choices_margins_and_path_are_those_of_the_whole_prefix(way, wrong):
    """At the edges of the sizes that trees are filled up to."""
    model = model_of(36)
    verifier, tree = Verifier(Counting(), TOKENS, SLOTS, **way), right(model, wrong)
    verdict = verifier.run(rows_of(model), 0, tree, (0,) * 6)
    said = [model.say(tuple(tree.tokens[n] for n in tree.path(node))) for node in range(ROOT, len(tree))]
    assert list(zip(verdict.greedy, verdict.margins, strict=True)) == said
    assert verdict.path == list(range(wrong, wrong + 6))
    kept = tuple(tree.tokens[wrong:])
    assert verdict.hidden[0, :, 0].tolist() == model.states(kept), "of the settled rows and the accepted ones"
    after = verifier.run(verdict.after(verdict.path[-1]), 42)
    assert after.greedy == [model.say((*kept, verdict.after(verdict.path[-1])))[0]], "the branch lies without a gap"
    assert after.finished > verdict.finished


@pytest.mark.parametrize("count", [1, PATCHES + 32, PATCHES + 33, PATCHES + 64, PATCHES + 65, PATCHES + 192])
@pytest.mark.parametrize("fixed", [False, True])
def test_prompts_of_every_length_are_read_to_their_end(count, fixed):
    verifier = Verifier(Counting(), TOKENS, SLOTS, fixed_shapes=fixed)
    long, model = model_of(PATCHES + 192), model_of(count)
    verifier.run(rows_of(long), 0, right(long), (0,) * 6)  # leaves rows behind
    assert verifier.run(rows_of(model), 0).greedy == [model.say(())[0]]
    assert verifier.run(FIRST, count).greedy == [model.say((FIRST,))[0]]


def test_a_prompt_larger_than_all_sizes_has_its_own():
    """A cache without room for the larger sizes filled prompts up to more rows than it has."""
    verifier, model = Verifier(Counting(), TOKENS, 180, fixed_shapes=True), model_of(112)
    assert verifier.run(rows_of(model), 0).greedy == [model.say(())[0]]
    assert verifier.run(FIRST, 112).greedy == [model.say((FIRST,))[0]]


@pytest.mark.parametrize(("count", "drafted"), [(36, 0), (20, 3), (36, 8), (33, 40), (250, 40)])
def test_what_fills_up_is_written_where_nobody_looks(count, drafted, monkeypatch):
    """Two rows for one slot are two kernels' threads in a race."""
    verifier, model, slots = Verifier(Counting(), TOKENS, 291, fixed_shapes=True), model_of(count), []
    write = verifier.cache.write

    def listen(layer, at, keys, values, end):
        slots.append(at.tolist())
        return write(layer, at, keys, values, end)

    monkeypatch.setattr(verifier.cache, "write", listen)
    tree = DraftTree((FIRST,) * drafted, (ROOT,) * drafted, ("",) * drafted)
    for settled, start in ((rows_of(model), 0), (FIRST, count - 1)):
        verifier.run(settled, start, tree, (0,))
        real = [slot for slot in slots.pop() if slot != 290]
        assert real == list(range(start, count + drafted))


def test_an_action_of_many_dimensions_may_need_more_rows_behind_its_prompt_than_sizes_have():
    verifier, model = Verifier(Counting(), TOKENS, SLOTS, fixed_shapes=True), model_of(PATCHES + 32)
    verifier.run(rows_of(model), 0)
    for place in range(20):
        verifier.run(FIRST, 36 + place)
    tree = right(Arithmetic((*model.prompt, *[FIRST] * 20)), 58)
    assert verifier.run(FIRST, 36 + 19, tree, (0,) * 6).path == list(range(58, 64))


def test_what_does_not_fit_is_refused():
    verifier, model = Verifier(Counting(), TOKENS, 100), model_of(36)
    verifier.run(rows_of(model), 0, right(model, 57), (0,) * 6)
    with pytest.raises(InstructionError, match="the prompt needs 100 rows, the cache has 99"):
        verifier.run(rows_of(model), 0, right(model, 58), (0,) * 6)
    many = DraftTree((FIRST,) * (TREE_ROWS + 1), (ROOT,) * (TREE_ROWS + 1), ("",) * (TREE_ROWS + 1))
    with pytest.raises(ValueError, match="65 nodes, a pass has at most 64"):
        Verifier(Counting(), TOKENS, SLOTS).run(rows_of(model), 0, many, (0,))


def test_a_prompt_too_long_for_the_one_size_is_refused_and_not_cut():
    verifier = Verifier(Counting(), TOKENS, 36 + TREE_ROWS + 1, uniform=True)
    assert verifier.run(rows_of(model_of(36)), 0).greedy == [model_of(36).say(())[0]]
    with pytest.raises(InstructionError, match="37 rows, passes of one size have 36"):
        verifier.run(rows_of(model_of(37)), 0)


@EVERY_WAY
def test_numbers_that_are_none_are_refused_and_forgotten(way):
    verifier, model = Verifier(Counting(), TOKENS, SLOTS, **way), model_of(36)
    with pytest.raises(NonFiniteError):
        verifier.run(torch.full_like(rows_of(model), torch.nan), 0)
    assert not verifier.cache.data.any()
    assert verifier.run(rows_of(model), 0).greedy == [model.say(())[0]]


def test_what_fills_up_a_prompt_is_a_number_whatever_the_last_one_was():
    """Where the cache is just as large as needed, attention reads its last slot, if only to leave it out."""
    verifier, shorter = Verifier(Counting(), TOKENS, PATCHES + 32 + 71, fixed_shapes=True), model_of(20)
    with pytest.raises(NonFiniteError):
        verifier.run(torch.full_like(rows_of(model_of(36)), torch.nan), 0)
    assert verifier.run(rows_of(shorter), 0).greedy == [shorter.say(())[0]]


def test_one_number_that_is_none_is_enough_but_not_where_nobody_asks():
    apart, one = far_apart(TOKENS, "cpu"), DraftTree((FIRST,), (ROOT,), ("",))
    for number in (torch.inf, -torch.inf, torch.nan):
        logits = torch.zeros(2, VOCABULARY)
        logits[1, 7] = number
        outcome = outcome_of(logits, TOKENS, apart)
        assert read_outcome(outcome, Question(FIRST, 0, one, (9,)), TOKENS) is None
        assert read_outcome(outcome, Question(FIRST, 0), TOKENS) is not None


def test_what_must_not_be_seen_is_infinitely_unlikely():
    seen = torch.tensor([[True, False]])
    assert bias_of(seen, torch.float64).tolist() == [[0.0, -torch.inf]]


def test_rows_that_lie_right_are_not_moved(monkeypatch):
    verifier, model, moved = Verifier(Counting(), TOKENS, SLOTS), model_of(36), []
    monkeypatch.setattr(verifier.cache, "move", lambda *where: moved.append(where))
    verifier.run(rows_of(model), 0, right(model), (0,) * 6)
    verifier.run(FIRST, 42)
    assert moved == []
    for start, rows in ((42, [38, 39, 40, 41, 42, 43]), (39, [38, 39, 40])):
        verifier.run(rows_of(model), 0, right(model, 2), (0,) * 6)
        assert moved == [], "nobody may ever look back on them"
        verifier.run(FIRST, start)
        assert moved.pop() == (rows, 36)
    for start in (0, 36):
        verifier.run(rows_of(model), 0, right(model, 2), (0,) * 6)
        verifier.run(rows_of(model) if start == 0 else FIRST, start)
        assert moved == [], "nothing before the beginning of the next pass has moved"


@EVERY_WAY
@pytest.mark.parametrize(("costs", "length"), [((), 2), ((1, 1, 1), 2), ((0, 1, 1), 3), ((1, 0, 0), 3)])
def test_a_bin_takes_one_of_the_budget_unless_something_else_is_said(costs, length, way):
    model, chain = model_of(36), []
    for off in (2, 3, 1):
        said = model.say(tuple(chain))[0]
        chain.append(said + off if said + off < 298 else said - off)
    tree = DraftTree(tuple(chain), (ROOT, 0, 1), ("test",) * 3)
    verifier = Verifier(Counting(), TOKENS, SLOTS, **way)
    assert len(verifier.run(rows_of(model), 0, tree, (9,) * 3, 5, costs).path) == length


@EVERY_WAY
def test_a_judge_is_shown_each_pass_and_has_the_last_word(way):
    shown = []

    def judge(tree, found):
        shown.append((tree, found))
        return replace(found, path=found.path[:2], margins=[5.0] * len(found.margins))

    model = model_of(36)
    tree = right(model, 3)
    verifier = Verifier(Counting(), TOKENS, SLOTS, judge=judge, **way)
    verdict = verifier.run(rows_of(model), 0, tree, (0,) * 6)
    assert shown[0][0] is tree
    assert isinstance(shown[0][1], Judgement)
    assert shown[0][1].path == [3, 4, 5, 6, 7, 8]
    assert (verdict.path, set(verdict.margins)) == ([3, 4], {5.0})
    assert verdict.hidden[0, :, 0].tolist() == model.states(tree.tokens[3:5])
    assert verifier.run(FIRST, 38).greedy == [model.say((*tree.tokens[3:5], FIRST))[0]], "the cache follows the judge"


# -- what a pass costs


def asked(verifier, monkeypatch):
    """Every question that is put to the model from now on: settled rows, where they begin, drafted rows, depth."""
    questions, run = [], verifier.shapes.run

    def listen(question):
        tree = question.tree
        prompt = 0 if isinstance(question.settled, int) else question.count
        questions.append((prompt, question.start, len(tree), max(tree.depths, default=-1) + 1))
        return run(question)

    monkeypatch.setattr(verifier.shapes, "run", listen)
    return questions


@EVERY_WAY
@pytest.mark.parametrize(("rows", "levels"), [(0, 0), (1, 1), (6, 6), (64, 6)])
def test_the_time_of_a_pass_is_that_of_passes_of_its_size(way, rows, levels, monkeypatch):
    verifier, model = Verifier(Counting(), TOKENS, SLOTS, **way), model_of(36)
    questions = asked(verifier, monkeypatch)
    assert 0 < verifier.time_pass(rows, prompt_rows=50) < 60
    assert questions == [(50, 0, rows, levels)] * 6
    questions.clear()
    assert 0 < verifier.time_pass(rows) < 60
    assert questions == [(PATCHES + 32, 0, 0, 0), *[(0, PATCHES + 32, rows, levels)] * 6]
    assert not verifier.cache.data.any()
    assert verifier.run(rows_of(model), 0).greedy == [model.say(())[0]]


def test_the_time_of_a_pass_is_the_least_and_the_first_of_a_size_does_not_count(monkeypatch):
    """The first builds, records and allocates; whatever else the machine does only adds to the others."""
    clock = iter([0.0, 0.05, 0.0, 0.3, 0.0, 0.1, 0.0, 0.2, 0.0, 0.45, 0.0, 0.4])
    verifier = Verifier(Counting(), TOKENS, SLOTS)
    monkeypatch.setattr(verifier, "run", lambda *_: None)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert verifier.time_pass(3, prompt_rows=40) == 0.1


def test_a_pass_of_seconds_is_timed_once(monkeypatch):
    """7B on a CPU: ten of each size would take minutes."""
    clock = iter([0.0, 9.0, 0.0, 3.0])
    verifier = Verifier(Counting(), TOKENS, SLOTS)
    monkeypatch.setattr(verifier, "run", lambda *_: None)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert verifier.time_pass(3, prompt_rows=40) == 3.0


def test_a_pass_that_cannot_be_is_not_timed():
    verifier = Verifier(Counting(), TOKENS, SLOTS)
    with pytest.raises(ValueError, match="65 nodes"):
        verifier.time_pass(65)
    with pytest.raises(InstructionError, match="320 rows"):
        verifier.time_pass(0, prompt_rows=320)


def test_in_a_small_cache_a_token_is_timed_behind_as_much_of_a_prompt_as_there_is_room_for(monkeypatch):
    small = Verifier(Counting(), TOKENS, PATCHES + 10 + TREE_ROWS + 2, uniform=True)
    questions = asked(small, monkeypatch)
    small.time_pass(TREE_ROWS)
    assert questions[1:] == [(0, PATCHES + 10, TREE_ROWS, 6)] * 6


# -- what is built ahead


def test_a_warm_up_builds_every_size_and_leaves_nothing_behind(monkeypatch):
    verifier = Verifier(Counting(), TOKENS, SLOTS, fixed_shapes=True)
    questions = asked(verifier, monkeypatch)
    verifier.warm_up()
    prompts = [(PATCHES + text, size) for text in TEXT for size in TREE_SIZES]
    assert [(prompt, size) for prompt, start, size, _ in questions if prompt and start == 0] == prompts
    assert [(start, size) for prompt, start, size, _ in questions if not prompt] == prompts
    assert not verifier.cache.data.any()
    built = len(verifier.shapes.passes)
    assert {shape.drafted for shape in verifier.shapes.passes} == set(TREE_SIZES)
    ends = {PATCHES + text + 7 + TREE_ROWS for text in TEXT}
    assert {shape.end for shape in verifier.shapes.passes} == {end + -end % 8 for end in ends}
    for count in (1, 36, 37, 100, 196):
        for wrong in (0, 3, 58):
            model = model_of(count)
            verifier.run(rows_of(model), 0, right(model, wrong), (0,) * 6)
            verifier.run(FIRST, count, right(model, wrong), (0,) * 6)
            verifier.run(FIRST, count + 6, right(model, wrong), (0,) * 6)
    assert len(verifier.shapes.passes) == built, "a shape was built after the warm-up, while an arm would be moving"


def test_what_was_recorded_for_a_size_is_kept():
    verifier, model = Verifier(Counting(), TOKENS, SLOTS, fixed_shapes=True), model_of(36)
    kept = []
    for _ in range(2):
        verifier.run(rows_of(model), 0)
        kept += verifier.shapes.passes.values()
    assert len(kept) == 2
    assert kept[0] is kept[1]


def test_sizes_that_the_cache_has_no_room_for_are_not_built(monkeypatch):
    for slots, largest in ((PATCHES + 64 + 70, 32), (PATCHES + 64 + 71, 64)):
        verifier = Verifier(Counting(), TOKENS, slots, fixed_shapes=True)
        questions = asked(verifier, monkeypatch)
        verifier.warm_up()
        assert max(prompt for prompt, *_ in questions) == PATCHES + largest


@pytest.mark.parametrize("way", [{"fixed_shapes": False}, {"uniform": True}])
def test_where_nothing_is_recorded_nothing_is_warmed_up(way, monkeypatch):
    verifier = Verifier(Counting(), TOKENS, SLOTS, **way)
    questions = asked(verifier, monkeypatch)
    verifier.warm_up()
    assert questions == []


@pytest.mark.parametrize(
    ("asked", "fixed", "recorded"),
    [
        ({}, True, True),
        ({"graphs": False}, True, False),
        ({"fixed_shapes": False}, False, False),
        ({"uniform": True}, True, True),
    ],
)
def test_on_cuda_launches_are_what_costs_so_passes_are_recorded(asked, fixed, recorded, monkeypatch):
    """As far as that can be said without CUDA."""
    wanted, kinds = [], []
    monkeypatch.setattr(verifier_module, "KVCache", lambda *_: None)
    monkeypatch.setattr(verifier_module, "Pool", lambda device, records: wanted.append(records))
    monkeypatch.setattr(verifier_module, "ExactShapes", lambda *_: kinds.append("exact"))
    monkeypatch.setattr(verifier_module, "FixedShapes", lambda *_: kinds.append("fixed"))
    model = Counting()
    model.device = SimpleNamespace(type="cuda")
    assert Verifier(model, TOKENS, SLOTS, **asked).fixed == fixed
    assert (kinds, wanted) == (["fixed" if fixed else "exact"], [recorded])


@pytest.mark.parametrize(("patches", "dimensions", "slots"), [(56, 7, 320), (57, 7, 384), (56, 8, 384), (1, 7, 320)])
def test_a_cache_has_room_for_prompt_action_tree_and_one_more(patches, dimensions, slots):
    towers = [SimpleNamespace(patches=patches), SimpleNamespace(patches=2000)]
    loaded = SimpleNamespace(config=SimpleNamespace(towers=towers), statistics=SimpleNamespace(action_dim=dimensions))
    assert cache_slots(loaded) == slots


def test_on_a_cpu_rows_are_what_costs_so_shapes_are_exact():
    assert not Verifier(Counting(), TOKENS, SLOTS).fixed
    assert Verifier(Counting(), TOKENS, SLOTS, uniform=True).fixed
    assert not Verifier(Counting(), TOKENS, SLOTS, fixed_shapes=True).pool.records
