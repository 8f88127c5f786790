"""What the planner expects, in figures: counted from what was right, and from what passes and drafters take."""

from dataclasses import replace

import pytest

pytest.importorskip("torch")

from guessing import ACTION, CPU, EXACT, GPU, TOKENS, A, Right, act, context, decode, ids

from spec_vla_ros.decoding.costs import PassCosts
from spec_vla_ros.decoding.drafters import DraftContext
from spec_vla_ros.decoding.planner import FOLLOWING, OPENING, Plan, Planner
from spec_vla_ros.tolerance import Tolerance

DEAR_PASSES = PassCosts((0, 64), (10.0, 10.1), (6.0, 6.1))
TILES = PassCosts((0, 8, 64), (10.0, 10.1, 30.0), (8.0, 8.1, 28.0), steps=True)


def planned(planner, drafters, phase=OPENING, count=None, left=None):
    """As of now, whatever was planned before."""
    planner._plans.clear()
    count = (A - 1 if phase == OPENING else A - 2) if count is None else count
    return planner.plan(phase, drafters, count, (A if phase == OPENING else A - 1) if left is None else left)


def one(name="a", place=0, **kind):
    return Right(name, place, widest=1, **kind)


# -- how often a branch is right


def test_before_anything_was_seen_the_assumption_holds():
    """A drafter's first branch and all of them, and between them evenly per doubling."""
    for width, expected in ((1, 0.1), (8, 0.2), (64, 0.3)):
        drafter = Right("a", None)
        drafter.widest, drafter.expected = width, (0.1, expected)
        planner = Planner(PassCosts((0, 64), (10.0, 10.0), (6.0, 6.0)))
        widths = planner.plan(OPENING, [drafter], 1, 2).widths
        assert (widths, planner.plan(OPENING, [drafter], 1, 2).hit) == ({"a": width}, pytest.approx(expected))
    planner = Planner(PassCosts((0, 16, 17, 64), (10.0, 10.0, 30.0, 30.0), (6.0, 6.1, 30.0, 30.0)))
    drafter.expected = (0.1, 0.4)
    assert planner.plan(OPENING, [drafter], 1, 2).hit == pytest.approx(0.1 + 0.3 * 4 / 6), "16 of 64"


def test_the_last_64_looks_count_and_the_assumption_for_8_more():
    planner, drafter = Planner(CPU), one()
    for looks in range(1, 71):
        for _ in range(4):
            act(planner, [drafter], later=False)
        if looks in (1, 2, 20, 64, 70):
            seen = min(looks, 64)
            assert planned(planner, [drafter]).hit == pytest.approx((seen + 0.8) / (seen + 8)), looks
    drafter.place = None
    for wrong in range(1, 65):
        for _ in range(4):
            act(planner, [drafter], later=False)
        if wrong in (1, 2, 33, 63, 64):
            assert planned(planner, [drafter]).hit == pytest.approx((64 - wrong + 0.8) / 72), "the oldest are forgotten"


def test_two_who_are_right_in_turns_are_right_together():
    drafters = [one("a"), one("b")]
    planner = Planner(DEAR_PASSES)
    for look in range(64):
        drafters[0].place, drafters[1].place = (0, None) if look % 2 else (None, 0)
        for _ in range(4):
            act(planner, drafters, later=False)
    plan = planned(planner, drafters)
    assert plan.widths == {"a": 1, "b": 1}
    assert plan.hit == pytest.approx((64 + 8 * (1 - 0.9 * 0.9)) / 72), "guesses fail together, so it is counted"


def test_those_who_were_never_asked_in_the_same_action_count_as_independent():
    """Each has something to say where the other has not."""

    class Shy(Right):
        silent = False

        def propose(self, context):
            return [] if self.silent else super().propose(context)

    drafters = [Shy("a", 0, widest=1), Shy("b", 0, widest=1)]
    planner = Planner(DEAR_PASSES)
    for look in range(40):
        drafters[0].silent, drafters[1].silent = look % 2 == 0, look % 2 == 1
        drafters[0].place, drafters[1].place = (0 if look % 4 == 1 else None), (0 if look % 8 == 2 else None)
        for _ in range(4):
            act(planner, drafters, later=False)
    each = [planned(planner, [drafter]).hit for drafter in drafters]
    assert each == pytest.approx([(10 + 0.8) / 28, (5 + 0.8) / 28])
    plan = planned(planner, drafters)
    assert plan.widths == {"a": 1, "b": 1}
    assert plan.hit == pytest.approx(1 - (1 - each[0]) * (1 - each[1]))


def test_who_was_never_asked_counts_as_assumed_beside_those_who_were():
    drafters = [one("a"), one("new")]
    planner = Planner(DEAR_PASSES)
    for look in range(20):
        drafters[0].place = 0 if look % 2 else None
        for _ in range(4):
            act(planner, drafters[:1], later=False)
    plan = planned(planner, drafters)
    assert plan.widths == {"a": 1, "new": 1}
    assert plan.hit == pytest.approx(1 - (1 - 10.8 / 28) * 0.9)


def test_of_several_passes_of_an_action_the_first_counts():
    """Those of a phase: what is left gets shorter, and guessing it easier."""
    planner, drafter = Planner(CPU), one()
    for _ in range(20):
        planner.begin(EXACT, A - 1)
        for first, place in ((1, 0), (3, None), (4, None)):
            drafter.place = place
            planner.chains([drafter], context(first))
        planner.end(ACTION, TOKENS)
    assert planned(planner, [drafter], FOLLOWING).hit == pytest.approx((5 + 0.8) / 13)


def test_at_radius_0_the_other_id_of_the_topmost_bin_is_not_right():
    """What follows is conditioned on the id, and strict decoding promises what plain decoding would have said."""
    top = [TOKENS.first, *ACTION[1:]]
    for said, radius, share in ((TOKENS.first, 0, 5.8), (TOKENS.first + 1, 0, 0.8), (TOKENS.first + 1, 1, 5.8),
                                (TOKENS.first + 3, 1, 0.8), (TOKENS.first + 2, 1, 5.8)):  # fmt: skip
        drafter = one()
        drafter.propose = lambda context, said=said: [[said, *ACTION[1 : A - 1]]]
        planner, tolerance = Planner(CPU), Tolerance((radius,) * (A - 1) + (0,), (1,) * A)
        for _ in range(20):
            planner.begin(tolerance, A - 1)
            planner.chains([drafter], context())
            planner.end(top, TOKENS)
        assert planned(planner, [drafter]).hit == pytest.approx(share / 13), (said, radius)


# -- what it takes


def test_without_drafts_every_token_is_a_pass_of_its_own():
    planner = Planner(CPU)
    assert planned(planner, []) == Plan({}, 0, 0.0, 16.0, 0)
    assert planned(planner, [], FOLLOWING) == Plan({}, 0, 0.0, 6.0, 0)
    assert planned(planner, [one()], OPENING, 0, A) == Plan({}, 0, 0.0, 16.0, 0), "drafts of no length"
    assert planned(planner, [one()], OPENING, 0, 1) == Plan({}, 0, 0.0, 10.0, 0)


@pytest.mark.parametrize("asking", [0.0, 0.05])
def test_a_plan_takes_asking_and_its_pass_and_what_follows_a_miss(asking):
    planner, drafter = Planner(replace(CPU, drafting={"a": (asking, asking)})), one()
    for _ in range(80):
        act(planner, [drafter], later=False)
    following = planned(planner, [drafter], FOLLOWING)
    seconds = asking + 1 + 5 * 2 / 64 + 0.9 * 1.0
    assert following == Plan({"a": 1}, 5, pytest.approx(0.1), pytest.approx(seconds), 5)
    hit = 20.8 / 28
    expected = asking + 10 + 6 * 2 / 64 + (1 - hit) * seconds
    assert planned(planner, [drafter]) == Plan({"a": 1}, 6, pytest.approx(hit), pytest.approx(expected), 6)


def test_passes_that_followed_a_miss_lately_count_and_one_for_8_more():
    planner, drafter = Planner(CPU), one()
    for passes in (7, 7, 4, 2, 1):
        planner.begin(EXACT, A - 1)
        for number in range(passes):
            if number < min(passes, A - 1):
                planner.chains([drafter], context(number))
            planner.passed(number + 1 if number + 1 < passes else A)
        planner.end(ACTION, TOKENS)
    further = (5 + 5 + 2 + 8) / (3 + 8)
    assert planned(planner, [drafter], FOLLOWING).seconds == pytest.approx(1 + 5 * 2 / 64 + (1 - 1.8 / 9) * further)
    planner.begin(Tolerance((1,) * (A - 1) + (0,), (1,) * A), A - 1)
    assert planned(planner, [drafter], FOLLOWING).seconds == pytest.approx(1 + 5 * 2 / 64 + 0.9), "under others nothing"


def test_who_does_not_learn_does_not_count_passes_either():
    planner, drafter = Planner(CPU, learns=False), one()
    before = planned(planner, [drafter], FOLLOWING)
    for _ in range(20):
        planner.begin(EXACT, A - 1)
        for known in range(1, A + 1):
            planner.chains([drafter], context(min(known - 1, 5)))
            planner.passed(known)
        planner.end(ACTION, TOKENS)
    assert planned(planner, [drafter], FOLLOWING) == before


def test_the_steady_planner_takes_rows_for_free_and_does_not_learn():
    planner, drafter = Planner.steady(), Right("a", 3, widest=4)
    before = planned(planner, [drafter])
    assert (before.widths, before.room) == ({"a": 4}, 64)
    for _ in range(20):
        act(planner, [drafter])
    assert planned(planner, [drafter]) == before


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64])
def test_no_more_branches_are_verified_than_the_right_one_needs(width):
    """Where its place is one of the usual numbers of branches, and where it is not, hardly more."""
    planner, drafter = Planner(PassCosts((0, 64), (10.0, 10.6), (9.0, 9.6))), Right("a", width - 1)
    drafter.expected = (0.1, 0.1)
    for _ in range(40 * 4):
        planner.begin(Tolerance.exact(2), 1)
        planner.chains([drafter], DraftContext(0, 1, 64, (0, 0), TOKENS))
        planner.end(ACTION[:2], TOKENS)
    assert planned(planner, [drafter], OPENING, 1, 2).widths == {"a": width}


def test_branches_that_save_most_per_row_come_first_where_rows_run_out():
    """Rows are free, but there are 64 of them: a drafter that is seldom right does not take them all."""
    many, sure = Right("many", None), one("sure")
    planner = Planner(GPU)
    for look in range(64):
        many.place = 40 if look % 8 == 0 else None
        for _ in range(4):
            act(planner, [many, sure], later=False)
    plan = planned(planner, [many, sure])
    assert next(iter(plan.widths)) == "sure"
    assert plan.rows <= 64


def test_branches_that_no_pass_has_room_for_are_not_counted_on():
    """The right one was always the 16th, of five rows each: every pass spent 64 rows, and it was in none."""
    planner, drafter = Planner(DEAR_PASSES), Right("a", 15)
    for _ in range(40 * 4):
        decode(planner, drafter, A - 1)
    for phase, count in ((OPENING, 6), (FOLLOWING, 5)):
        plan = planned(planner, [drafter], phase)
        assert plan.rows <= 64
        assert plan.widths.get("a", 0) * count <= 64
        assert plan.hit < 0.1


def test_the_same_branch_several_times_hides_nothing_behind_it():
    planner, drafter = Planner(CPU), Right("a", 3, widest=4)
    drafter.propose = lambda context: [*[ids([90] * context.count)] * 3, ACTION[context.first : A - 1]][: context.width]
    for _ in range(80):
        act(planner, [drafter], later=False)
    assert planned(planner, [drafter]).widths == {"a": 4}
    assert planned(planner, [drafter]).rows == 12


# -- whom to ask, and for what


def rows_of(planner, drafter):
    return planned(planner, [drafter]).rows


def test_rows_that_branches_share_are_counted_at_first_and_every_64_actions():
    """Ten branches that differ in the last of six tokens make 15 rows and not 60."""
    planner, drafter, shared = Planner(PassCosts((0, 64), (10.0, 10.1), (9.0, 9.1))), Right("a", None, widest=10), [5]

    def propose(context):
        return [[*ids([90] * shared[0]), *ids([10 + place] * (context.count - shared[0]))] for place in range(10)]

    drafter.propose = propose
    counted = []
    for _ in range(130):
        act(planner, [drafter], later=False)
        counted.append(rows_of(planner, drafter))
        shared[0] = 4
    assert set(counted[:64]) == {5 + 10}
    assert set(counted[64:]) == {4 + 2 * 10}


def test_rows_are_counted_in_the_first_action_that_has_such_a_pass():
    planner, drafter = Planner(CPU), Right("a", None, widest=4)
    drafter.propose = lambda context: [[*ids([90] * (context.count - 1)), *ids([place])] for place in range(4)]
    for _ in range(4):
        act(planner, [drafter], later=False)
    act(planner, [drafter])
    assert planner._memory[FOLLOWING].rows["a", 5][:4].tolist() == [5, 6, 7, 8]


def test_cheap_drafters_are_asked_for_everything_every_4th_action_and_dear_ones_every_16th():
    """What is dear: more than a fiftieth of a pass over the prompt for all that they have."""
    for asking, every in (((0.0, 0.0), 4), ((0.0, 0.2), 4), ((0.0, 0.21), 16), ((0.3, 0.3), 16)):
        planner = Planner(PassCosts((0, 8, 64), (10.0, 15.0, 40.0), (8.0, 12.0, 40.0), drafting={"a": asking}))
        drafter = Right("a", 0, widest=4)
        for _ in range(200):
            act(planner, [drafter], later=False)
        drafter.asked.clear()
        for _ in range(64):
            act(planner, [drafter], later=False)
        assert drafter.asked == [1 if action % every else 4 for action in range(200, 264)], asking


def test_a_plan_is_made_anew_behind_each_look_at_first_and_every_32nd_action_later(monkeypatch):
    planner, drafter, made = Planner(CPU), one(), []
    best = Planner._best
    monkeypatch.setattr(Planner, "_best", lambda self, *told: made.append(self._actions) or best(self, *told))
    for _ in range(140):
        act(planner, [drafter], later=False)
    assert sorted(set(made)) == [0, 1, 5, 9, 13, 17, 21, 25, 29, 33, 65, 97, 129]
    assert len(made) == 2 * 13, "of both kinds of passes"


def test_who_takes_the_same_for_any_width_is_asked_for_all_and_counts_as_that():
    drafter = Right("a", 0, widest=8)
    drafter.one_width = True
    planner = Planner(replace(CPU, drafting={"a": (0.1, 0.3)}))
    for _ in range(50):
        assert act(planner, [drafter], later=False).get("a", 0) >= 1
    assert set(drafter.asked) == {8}
    plan = planned(planner, [drafter])
    assert plan.widths == {"a": 1}
    following = planned(planner, [drafter], FOLLOWING).seconds
    assert plan.seconds == pytest.approx(0.3 + 10 + 6 * 2 / 64 + (1 - plan.hit) * following)


def test_rows_that_are_free_are_filled_with_what_comes_next_of_those_who_are_verified():
    planner, drafters = Planner(TILES), [Right("a", 0), Right("b", None)]
    for _ in range(60):
        act(planner, drafters, later=False)
    planner.begin(EXACT, A - 1)
    chains, more, room = planner.chains(drafters, context())
    assert (len(chains), room, {name for name, _ in more}) == (1, 8, {"a"})
    asked = Right("a", 0).propose(context())
    assert [chain for _, chain in [*chains, *more]] == asked


def test_nobody_dear_is_asked_for_more_only_to_fill_rows():
    drafter = Right("a", 0)
    planner = Planner(replace(TILES, drafting={"a": (0.3, 0.3)}))
    for _ in range(64):
        act(planner, [drafter], later=False)
    drafter.asked.clear()
    planner.begin(EXACT, A - 1)  # looked at in full
    planner.begin(EXACT, A - 1)
    _, more, room = planner.chains([drafter], context())
    assert (drafter.asked, more, room) == ([1], [], 8)


def test_the_words_are_these():
    planner, drafters = Planner(CPU), [Right("a", 1, widest=2), one("b", None), one("c", 0, from_verifier=True)]
    for _ in range(256):
        act(planner, drafters)
    planner._plans.clear()
    assert planner.words(drafters, A - 1, A) == (
        "first pass 2 branches of a (92 %), 10472.7 ms expected in all; later passes 1 branch of c (90 %); "
        "alone: 2 branches of a (92 %) 10472.7 ms, 1 branch of b (1 %) 11429.8 ms"
    )
    assert planner.words(drafters[:2], 3, A).startswith("first pass 2 branches of a (92 %), 11"), "and a later pass"
    assert Planner(CPU).words([], A - 1, A) == (
        "first pass without drafts (0 %), 16000.0 ms expected in all; later passes without drafts (0 %); alone: "
    )
