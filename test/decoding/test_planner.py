"""The automatic tree: what is chosen follows from what rows cost and from what was right so far."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from guessing import ACTION, CPU, EXACT, GPU, TOKENS, A, Right, act, context, decode, ids, learnt

from spec_vla_ros.decoding.costs import PassCosts
from spec_vla_ros.decoding.planner import FOLLOWING, OPENING, REVIEW, REVIEW_DEAR, Planner
from spec_vla_ros.decoding.tree import TREE_ROWS, DraftTree
from spec_vla_ros.tolerance import Tolerance

DEAR_ROWS = PassCosts((0, 64), (10.0, 110.0), (6.0, 106.0))


def test_where_rows_cost_nothing_all_are_used():
    assert learnt(GPU, Right("a", None)) == {"a": 10}, "60 rows; what is left of 64 is filled"
    assert sum(learnt(PassCosts.free(), Right("a", None), Right("b", 0, 1)).values()) >= 2


def test_rows_up_to_the_next_size_are_filled_and_no_more():
    """A pass of 5 rows takes as long as one of 8 where passes are filled up."""
    tiles = PassCosts((0, 8, 64), (10.0, 10.1, 30.0), (8.0, 8.1, 28.0), steps=True)
    planner, drafter = Planner(tiles), Right("a", None)
    for _ in range(60):
        planner.begin(EXACT, A - 1)
        chains, more, rows = planner.chains([drafter], context())
        planner.end(ACTION, TOKENS)
    assert rows == 8
    assert len(chains) == 1
    assert more, "whatever fits into the rows that are left"


def test_where_rows_cost_something_no_more_are_drafted_than_it_takes():
    assert learnt(CPU, Right("a", 0)) == {"a": 1}
    assert learnt(CPU, Right("a", 2)) == {"a": 3}
    assert learnt(CPU, Right("a", 7)) == {"a": 8}


def test_who_is_never_right_is_not_verified_where_rows_cost_something():
    assert learnt(CPU, Right("useless", None), Right("right", 0)) == {"right": 1}
    assert sum(learnt(CPU, Right("useless", None)).values()) <= 1


def test_who_is_right_in_vain_is_not_asked_twice():
    """Two drafters with the same guess: the second one's branches add nothing."""
    assert learnt(CPU, Right("a", 0), Right("b", 0)) in ({"a": 1}, {"b": 1})


def test_two_who_are_right_in_turns_are_both_asked():
    class Sometimes(Right):
        def propose(self, context):
            self.place = 0 if turn[0] % 2 == self.even else None
            return super().propose(context)

    turn, drafters = [0], [Sometimes("a", 0), Sometimes("b", 0)]
    drafters[0].even, drafters[1].even = 0, 1
    planner = Planner(PassCosts((0, 64), (10.0, 12.0), (6.0, 8.0)))
    for _ in range(60 * REVIEW):
        chosen = act(planner, drafters)
        turn[0] += planner._actions % REVIEW == 0  # the world changes between two looks at everything
    assert chosen == {"a": 1, "b": 1}


def test_asking_that_costs_more_than_it_saves_is_left():
    cheap, dear = Right("cheap", None, widest=1), Right("dear", 0, widest=1)
    assert learnt(replace(CPU, drafting={"dear": (0.1, 0.1)}), cheap, dear) == {"dear": 1}
    assert "dear" not in learnt(replace(CPU, drafting={"dear": (50.0, 50.0)}), cheap, dear)


def test_what_is_dear_is_seldom_asked_for_what_is_not_used():
    cheap, dear = Right("cheap", None, widest=4), Right("dear", None, widest=4)
    planner = Planner(replace(CPU, drafting={"dear": (1.0, 1.0)}))
    for _ in range(64 * REVIEW_DEAR):
        act(planner, [cheap, dear], later=False)
    before = len(cheap.asked), len(dear.asked)
    for _ in range(REVIEW_DEAR):
        act(planner, [cheap, dear], later=False)
    assert len(dear.asked) - before[1] == 1
    assert len(cheap.asked) - before[0] >= REVIEW_DEAR // REVIEW


def test_who_would_not_pay_if_always_right_is_asked_once_it_would():
    cheap, dear = Right("cheap", 0, widest=4), Right("dear", 0, widest=4)
    planner = Planner(replace(CPU, drafting={"dear": (1.0, 1.0)}))
    for _ in range(64 * REVIEW_DEAR):
        act(planner, [cheap, dear], later=False)
    asked = len(dear.asked)
    for _ in range(4 * REVIEW_DEAR):
        assert act(planner, [cheap, dear], later=False) == {"cheap": 1}
    assert len(dear.asked) == asked, "whatever it says, it takes longer than what is right already"
    cheap.place = None
    for _ in range(64 * REVIEW_DEAR):
        chosen = act(planner, [cheap, dear], later=False)
    assert chosen == {"dear": 1}


def test_who_is_dear_for_all_and_cheap_for_one_may_still_pay():
    cheap, dear = Right("cheap", None, widest=1), Right("dear", 0, widest=64)
    costs = replace(CPU, drafting={"dear": (0.01, 64.0)})
    assert learnt(costs, cheap, dear, actions=64 * REVIEW_DEAR) == {"dear": 1}


def test_everything_is_asked_for_only_now_and_then():
    drafter = Right("a", 0)
    planner = Planner(CPU)
    for _ in range(100):
        act(planner, [drafter], later=False)
    assert drafter.asked[-2 * REVIEW :].count(64) == 2
    assert drafter.asked[-2 * REVIEW :].count(1) == 2 * REVIEW - 2


def test_what_was_right_long_ago_is_forgotten():
    early, late = Right("early", 0, widest=1), Right("late", None, widest=1)
    planner = Planner(CPU)
    for _ in range(100):
        act(planner, [early, late])
    early.place, late.place = None, 0
    for _ in range(100 * REVIEW):
        chosen = act(planner, [early, late])
    assert chosen == {"late": 1}


def test_those_who_build_on_the_verifier_are_not_asked_before_it_has_spoken():
    after, before = Right("after", 0, from_verifier=True), Right("before", None, widest=1)
    planner = Planner(CPU)
    for _ in range(20):
        planner.begin(EXACT, A - 1)
        assert "after" not in [name for name, _ in planner.chains([after, before], context())[0]]
        assert planner.chains([after, before], context(1))[0]
        planner.end(ACTION, TOKENS)
    assert set(planner.plan(FOLLOWING, [after, before], A - 2, A - 1).widths) == {"after"}


def test_a_branch_counts_as_right_within_the_tolerance():
    near = [bins + 3 for bins in (100, 110, 120, 130, 140, 150)]

    class Near(Right):
        def propose(self, context):
            return [ids(near[context.first : context.first + context.count])]

    def hit(tolerance):
        planner = Planner(CPU)
        for _ in range(200):
            act(planner, [Near("near", 0, widest=1)], later=False, tolerance=tolerance)
        return planner.plan(OPENING, [Near("near", 0, widest=1)], A - 1, A).hit

    assert hit(Tolerance((3,) * (A - 1) + (0,), (1,) * A)) > 0.8
    assert hit(Tolerance((2,) * (A - 1) + (0,), (1,) * A)) < 0.2
    assert hit(Tolerance((3,) * (A - 1) + (0,), (1,) * A, 18)) > 0.8
    assert hit(Tolerance((3,) * (A - 1) + (0,), (1,) * A, 17)) < 0.2
    assert hit(Tolerance((3,) * (A - 1) + (0,), (1, 0, 1, 1, 1, 1, 1), 15)) > 0.8, "a dimension of zero width is free"


def test_answers_that_are_no_actions_or_too_short_are_never_right():
    class Odd(Right):
        def propose(self, context):
            return [[], ACTION[:2], [5, *ACTION[1:6]], [40_000] * 6][: context.width]

    planner = Planner(PassCosts.free())
    for _ in range(100):
        act(planner, [Odd("odd", 0, widest=4)], later=False)
    assert planner.plan(OPENING, [Odd("odd", 0, widest=4)], A - 1, A).hit < 0.2


def test_who_has_nothing_to_say_is_not_judged_by_it():
    class Silent(Right):
        def propose(self, context):
            return []

    planner, silent = Planner(CPU), Silent("silent", 0, widest=1)
    before = planner.plan(OPENING, [silent], A - 1, A)
    for _ in range(100):
        assert act(planner, [silent], later=False) == {}
    assert planner.plan(OPENING, [silent], A - 1, A) == before


def test_the_same_actions_and_costs_give_the_same_trees():
    def trees():
        planner, chance = Planner(CPU), np.random.default_rng(1)
        drafters = [Right("a", 0), Right("b", 0)]
        made = []
        for _ in range(200):
            drafters[0].place, drafters[1].place = chance.integers(0, 20, 2).tolist()
            made.append(act(planner, drafters))
        return made

    assert trees() == trees()
    assert len({tuple(sorted(chosen.items())) for chosen in trees()}) > 1


def test_a_planner_that_does_not_learn_depends_on_nothing():
    planner = Planner(CPU, learns=False)
    drafter = Right("a", 40)
    first = act(planner, [drafter])
    assert [act(planner, [drafter]) for _ in range(50)] == [first] * 50


def test_what_was_right_under_another_tolerance_is_forgotten_at_once():
    """The radius is turned in rqt while the arm moves."""
    planner, drafter = Planner(CPU), Right("a", 0, widest=1)
    before = planner.plan(OPENING, [drafter], A - 1, A)
    for _ in range(100):
        act(planner, [drafter])
    assert planner.plan(OPENING, [drafter], A - 1, A).hit > 0.7
    planner.begin(Tolerance((1,) * (A - 1) + (0,), (1,) * A), A - 1)
    assert planner.plan(OPENING, [drafter], A - 1, A) == before
    planner.begin(Tolerance((1,) * (A - 1) + (0,), (1,) * A), 3)
    assert planner.plan(OPENING, [drafter], A - 1, A) == before


def test_a_second_look_teaches_nothing():
    planner, drafter = Planner(CPU), Right("a", 0, widest=1)
    before = planner.plan(OPENING, [drafter], A - 1, A)
    for _ in range(50):
        planner.begin(EXACT, A - 1)
        planner.chains([drafter], context(), learn=False)
        planner.end(ACTION, TOKENS)
    assert planner.plan(OPENING, [drafter], A - 1, A) == before


def test_what_is_planned_fits_whatever_the_passes_before_were_like():
    """Rows were counted in a pass of one dimension, and then a branch of five had no room: no drafts at all."""
    planner, drafter = Planner(CPU), Right("refine", 0, from_verifier=True)
    for first in (5, 1, 4, 2, 5, 1):
        planner.begin(EXACT, A - 1)
        chains, _, _ = planner.chains([drafter], context(first))
        assert len(DraftTree.of(chains, TREE_ROWS, whole=True)) >= A - 1 - first
        planner.end(ACTION, TOKENS)


def test_whoever_has_nothing_to_say_in_later_passes_does_not_hide_how_others_fare_there():
    class Early(Right):
        opening_only = True

        def propose(self, context):
            return [] if context.emitted else super().propose(context)

    refine = Right("refine", 0, from_verifier=True)
    alone, beside = Planner(CPU), Planner(CPU)
    drafters = [refine, Early("early", None)]
    for _ in range(60):
        act(alone, [refine])
        act(beside, drafters)
    assert beside.plan(FOLLOWING, drafters, A - 2, A - 1) == alone.plan(FOLLOWING, [refine], A - 2, A - 1)


def test_passes_that_follow_a_miss_are_counted():
    planner, never = Planner(CPU), Right("never", None, widest=1)
    before = planner.plan(FOLLOWING, [never], A - 2, A - 1).seconds
    for _ in range(100):
        planner.begin(EXACT, A - 1)
        for known in range(1, A + 1):
            if known == 2:
                planner.chains([never], context(1))
            planner.passed(known)
        planner.end(ACTION, TOKENS)
        planner.plan(OPENING, [never], A - 1, A)
    planner._plans.clear()
    assert planner.plan(FOLLOWING, [never], A - 2, A - 1).seconds > before + 3 * CPU.later[0]


def test_drafts_that_end_before_the_action_does_were_taken_for_all_of_it():
    """With ``draft_depth`` 3 a pass was thought to leave nothing to do, or three passes of seven: useless branches were
    verified in every action, and four dear ones where a plain pass for each token is cheaper.
    """
    for depth, place in ((3, None), (1, None), (3, 3), (1, 3)):
        planner, drafter = Planner(DEAR_ROWS), Right("a", place)
        verified = [decode(planner, drafter, depth) for _ in range(100)][-1]
        assert verified == [0] * A, (depth, place)
        assert planner.plan(OPENING, [drafter], depth, A).seconds == 10.0 + (A - 1) * 6.0


def test_what_is_expected_of_drafts_that_end_before_the_action_does_covers_all_of_its_passes():
    for depth, branches in ((1, [1, 1, 1, 0]), (2, [1, 1, 0]), (3, [1, 1]), (6, [1])):
        planner, drafter, passes = Planner(CPU), Right("a", 0, widest=1), len(branches)
        for _ in range(64 * REVIEW):
            verified = decode(planner, drafter, depth)
        assert verified == branches
        plan = planner.plan(OPENING, [drafter], depth, A)
        assert plan.hit > 0.85, "judged as far as it goes"
        assert 10 + (passes - 1) < plan.seconds < 10 + (passes - 1) + 0.3 * passes + 1


def test_only_passes_for_what_the_second_one_drafted_follow_its_miss():
    """Three more for the three dimensions that it drafted, not six for all that was left."""
    planner, never = Planner(CPU), Right("never", None, widest=1)
    for _ in range(100):
        decode(planner, never, 3)
    assert planner._further() == pytest.approx((64 * 3 + 8) / 72)


def test_a_plan_never_has_more_rows_than_a_pass():
    drafters = [Right(name, None) for name in "abc"]
    for costs in (GPU, PassCosts.free(), CPU):
        planner = Planner(costs)
        for _ in range(50):
            act(planner, drafters)
        assert planner.plan(OPENING, drafters, A - 1, A).rows <= 64


def test_the_words_say_what_is_chosen_and_what_else_there_was():
    planner, drafters = Planner(CPU), [Right("good", 0, widest=1), Right("bad", None, widest=1)]
    for _ in range(200):
        act(planner, drafters)
    said = planner.words(drafters, A - 1, A)
    assert said.startswith("first pass 1 branch of good (8")
    assert "1 branch of bad" in said.split("alone:")[1] or "without drafts" in said.split("alone:")[1]
