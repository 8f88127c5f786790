"""The verifier around its passes: what they cost, what is built ahead, who judges, and what does not fit."""

from dataclasses import replace

import pytest
import torch
from from_scratch import FIRST, PATCHES, TOKENS, Arithmetic, Counting

from spec_vla_ros.decoding.outcome import Judgement
from spec_vla_ros.decoding.tree import ROOT, TREE_ROWS, DraftTree
from spec_vla_ros.decoding.verifier import Verifier
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
    verifier, model = Verifier(Counting(), TOKENS, 180, fixed_shapes=True), model_of(100)
    assert verifier.run(rows_of(model), 0).greedy == [model.say(())[0]]
    assert verifier.run(FIRST, 100).greedy == [model.say((FIRST,))[0]]


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
@pytest.mark.parametrize(("rows", "levels"), [(0, 0), (1, 1), (8, 6), (64, 6)])
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


def test_the_first_pass_of_a_size_does_not_count(monkeypatch):
    """It builds, records and allocates."""
    clock = iter([0.0, 100.0, 0.0, 3.0, 0.0, 1.0, 0.0, 2.0, 0.0, 9.0, 0.0, 8.0])
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
    small = Verifier(Counting(), TOKENS, PATCHES + 10 + TREE_ROWS + 2, uniform=True)
    assert small.time_pass(TREE_ROWS) > 0, "behind as much of a prompt as there is room for"


# -- what is built ahead


def test_a_warm_up_builds_every_size_and_leaves_nothing_behind(monkeypatch):
    verifier = Verifier(Counting(), TOKENS, SLOTS, fixed_shapes=True)
    questions = asked(verifier, monkeypatch)
    verifier.warm_up()
    prompts = [(PATCHES + text, size) for text in TEXT for size in (0, 8, 32, 64)]
    assert [(prompt, size) for prompt, _, size, _ in questions if prompt] == prompts
    assert [(start, size) for prompt, start, size, _ in questions if not prompt] == prompts
    assert not verifier.cache.data.any()
    built = len(verifier.shapes.passes)
    for count in (1, 36, 37, 100, 196):
        for wrong in (0, 3, 58):
            model = model_of(count)
            verifier.run(rows_of(model), 0, right(model, wrong), (0,) * 6)
            verifier.run(FIRST, count, right(model, wrong), (0,) * 6)
            verifier.run(FIRST, count + 5, right(model, wrong), (0,) * 6)
    assert len(verifier.shapes.passes) == built, "a shape was built after the warm-up, while an arm would be moving"


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


def test_on_a_cpu_rows_are_what_costs_so_shapes_are_exact():
    assert not Verifier(Counting(), TOKENS, SLOTS).fixed
    assert Verifier(Counting(), TOKENS, SLOTS, uniform=True).fixed
    assert not Verifier(Counting(), TOKENS, SLOTS, fixed_shapes=True).pool.records
