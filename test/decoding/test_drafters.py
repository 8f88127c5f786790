"""What each drafter proposes, and in which order drafters are asked."""

import itertools

import pytest

from spec_vla_ros.decoding.drafters import TRAINING_FREE, DraftContext, make_drafters
from spec_vla_ros.decoding.drafters.windows import spaced
from spec_vla_ros.openvla.action_tokens import ActionTokens

TOKENS = ActionTokens(32000, 256)
BEFORE, NEWEST = (31990, 31900, 31872, 31999), (31980, 31890, 31872, 31744)


def context(**changes):
    """Context of a first pass over a 4-dimensional action with two past actions."""
    return DraftContext(
        **{
            "first": 0,
            "count": 3,
            "width": 4,
            "radii": (9,) * 4,
            "tokens": TOKENS,
            "history": (BEFORE, NEWEST),
            **changes,
        }
    )


def test_hold_repeats_the_newest_action():
    (hold,) = make_drafters(["hold"])
    assert hold.propose(context()) == [list(NEWEST[:3])]
    assert hold.propose(context(first=2, count=1)) == [list(NEWEST[2:3])]


def test_velocity_extrapolates_and_holds_the_gripper():
    (velocity,) = make_drafters(["velocity"])
    assert velocity.propose(context(count=4)) == [[31970, 31880, 31872, 31744]]


def test_velocity_stays_within_the_action_tokens():
    (velocity,) = make_drafters(["velocity"])
    history = ((31760, 31990, 31872), (31745, 31999, 31872))
    assert velocity.propose(context(history=history, count=2)) == [[31745, 31999]]


def test_refine_offers_what_the_verifier_said_on_rejected_rows():
    (refine,) = make_drafters(["refine"])
    assert refine.propose(context(first=1, count=2, width=1, rejected=(31801, 31802, 31803))) == [[31801, 31802]]


@pytest.mark.parametrize(("name", "history"), [("velocity", (NEWEST,)), ("refine", (BEFORE, NEWEST))])
def test_without_material_there_is_no_guess(name, history):
    (drafter,) = make_drafters([name])
    assert not drafter.propose(context(history=history))


def test_what_this_action_already_said_is_asked_first():
    assert [drafter.name for drafter in make_drafters(["velocity", "hold", "refine"])] == ["refine", "velocity", "hold"]


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="available: forecast, hold, refine, sweep, velocity"):
        make_drafters(["hold", "oracle"])


def test_every_registered_drafter_knows_its_name():
    assert all(make_drafters([name])[0].name == name for name in TRAINING_FREE)


def test_refine_goes_on_from_the_action_before_where_the_rejected_branch_was_cut():
    """A tree has so many rows and no more; its last branches end early, and so did what was drafted after them."""
    (refine,) = make_drafters(["refine"])
    branches = refine.propose(context(rejected=(31801,), width=99))
    assert branches[0] == [31801, *NEWEST[1:3]]
    assert covered([branch[2] for branch in branches if branch[:2] == branches[0][:2]])


def covered(windows):
    """Whether every bin is within 9 of one of these tokens."""
    bins = sorted(TOKENS.to_bins(windows).tolist())
    return bins[0] <= 9 and bins[-1] >= 254 - 9 and all(b - a <= 19 for a, b in itertools.pairwise(bins))


def test_before_the_first_action_hold_guesses_that_the_arm_stands_still():
    (guess,) = make_drafters(["hold"])[0].propose(context(history=()))
    assert TOKENS.decode(guess).tolist() == [0.0, 0.0, 0.0]


def test_sweep_leaves_no_gap_between_its_windows():
    (sweep,) = make_drafters(["sweep"])
    branches = sweep.propose(context(width=99))
    assert branches[0] == list(NEWEST[:3]), "the held action comes first"
    assert all(branch[1:] == list(NEWEST[1:3]) for branch in branches)
    assert covered([branch[0] for branch in branches]), "windows of 9 bins to either side touch"
    assert sweep.propose(context(width=3)) == branches[:3]
    assert not sweep.propose(context(first=1, emitted=(31990,))), "later the verifier's own choices are better"


@pytest.mark.parametrize("centre", range(0, 255, 7))
def test_no_choice_is_out_of_reach_of_windows_laid_side_by_side(centre):
    """They once ended up to 9 bins before the range does, and the motions that lie there are the full ones."""
    (token,) = TOKENS.to_ids([centre]).tolist()
    windows = spaced(token, 0, context())
    assert windows[0] == token
    assert covered(windows)


def test_refine_moves_one_dimension_at_a_time_and_the_last_one_everywhere():
    (refine,) = make_drafters(["refine"])
    base = (31801, 31802, 31950)
    branches = refine.propose(context(rejected=base, width=99))
    assert branches[0] == list(base)
    assert all(TOKENS.is_action(token) for branch in branches for token in branch)
    ends = [branch[2] for branch in branches if branch[:2] == list(base[:2])]
    assert branches[: len(ends)] == [[*base[:2], end] for end in ends], "where a branch is one row it comes first"
    assert covered(ends), "the windows of the last dimension leave no gap"
    moved = [branch for branch in branches[len(ends) :] if branch[2] == base[2]]
    for branch in moved:
        ((place, token),) = [(i, a) for i, (a, b) in enumerate(zip(branch, base, strict=True)) if a != b]
        assert abs(token - base[place]) in (19, 38)
    assert len(moved) == 2 * 4
    usual = {NEWEST[2], 31999, 31872, 31744}
    for branch in moved:
        tipped = {other[2] for other in branches[len(ends) :] if other[:2] == branch[:2]}
        assert tipped == {base[2]} | usual, "a moved dimension may tip the last one: as before, none, or all the way"
    assert refine.propose(context(rejected=base, width=1)) == [list(base)]


# -- full motions: two ids share the topmost bin, and a model says only one of them

SATURATED = int(TOKENS.encode(1.0))


def drafted_at_the_top(name, history, **changes):
    """Ids that a drafter gives for the topmost bin, by dimension."""
    (drafter,) = make_drafters([name])
    told = context(history=history, radii=(0,) * 4, width=999, **changes)
    columns = zip(*drafter.propose(told), strict=True)
    return [{token for token in column if TOKENS.to_bins(token) == 254} for column in columns]


@pytest.mark.parametrize("said", [SATURATED, SATURATED + 1])
@pytest.mark.parametrize("name", ["hold", "velocity", "sweep", "forecast"])
def test_a_saturated_stream_is_drafted_with_the_id_that_the_model_said(name, said):
    """At radius 0 the other id of the bin cost a pass, and at any other the rows behind it stood on what no training
    has seen.
    """
    history = ((said, 31900, said, said),) * 3
    assert drafted_at_the_top(name, history) == [{said}, set(), {said}]


@pytest.mark.parametrize("said", [SATURATED, SATURATED + 1])
def test_the_id_said_last_counts(said):
    other = 2 * SATURATED + 1 - said
    slower = (31850, 31900, 31850, 31850)
    history = ((other,) * 4, (said,) * 4, slower)
    assert drafted_at_the_top("sweep", history)[0] == {said}
    assert drafted_at_the_top("refine", history, rejected=slower[:3])[2] == {said}


def test_before_a_full_motion_was_said_it_has_the_id_of_data():
    rising = ((31800, 31900, 31900, 31872), (31770, 31900, 31900, 31872))
    assert drafted_at_the_top("velocity", rising)[0] == {SATURATED}
    assert drafted_at_the_top("sweep", rising)[0] == {SATURATED}
    assert drafted_at_the_top("sweep", ())[0] == {SATURATED}
    assert drafted_at_the_top("refine", rising, rejected=(31801, 31802, 31803)) == [set(), set(), {SATURATED}]


@pytest.mark.parametrize("said", [SATURATED, SATURATED + 1])
def test_what_the_verifier_said_of_this_action_keeps_its_id(said):
    (refine,) = make_drafters(["refine"])
    assert refine.propose(context(rejected=(said,) * 3, radii=(0,) * 4, width=1)) == [[said] * 3]


# -- ids that are no actions: a model may say any word after a prefix that makes no sense

FOREIGN = (5, -1, 0, TOKENS.first - 1, TOKENS.vocab_end, 2**70, -(2**70))


@pytest.mark.parametrize("name", TRAINING_FREE)
@pytest.mark.parametrize("foreign", FOREIGN)
def test_no_id_makes_a_drafter_raise_or_draft_what_is_no_action(name, foreign):
    """``refine`` raised over what the model had said on rows that it rejected itself, and the arm stopped."""
    (drafter,) = make_drafters([name])
    for place, width in itertools.product(range(4), (1, 64)):
        history = [list(action) for action in (BEFORE, NEWEST)]
        history[place % 2][place] = foreign
        rejected = [31801, 31990, 31802]
        rejected[place % 3] = foreign
        branches = drafter.propose(context(history=history, rejected=rejected, width=width))
        assert branches
        assert all(TOKENS.is_action(token) for branch in branches for token in branch)


def test_a_word_among_second_thoughts_is_replaced_by_the_action_before():
    (refine,) = make_drafters(["refine"])
    rejected = (5, 31990)
    assert refine.propose(context(rejected=rejected, width=1)) == [[NEWEST[0], 31990, NEWEST[2]]]
    assert refine.propose(context(first=1, count=2, rejected=rejected, width=1)) == [[NEWEST[1], 31990]]
    assert refine.propose(context(rejected=rejected, width=1, history=())) == [[31872, 31990, 31872]], "no motion"
    assert refine.propose(context(rejected=(31990, 5), width=1)) == [[31990, *NEWEST[1:3]]]


def test_a_word_in_an_earlier_action_is_no_motion():
    (hold,) = make_drafters(["hold"])
    assert hold.propose(context(history=(BEFORE, (31980, 5, 31872, 31744)))) == [[31980, 31872, 31872]]


def test_what_drafters_are_told_is_left_alone_where_all_of_it_is_actions():
    history, rejected = [BEFORE, NEWEST], (TOKENS.first, TOKENS.vocab_end - 1)
    told = context(history=history, rejected=rejected)
    assert list(told.history) == history
    assert context(history=told.history).history is told.history, "it is looked through once"
    assert told.rejected is rejected


@pytest.mark.parametrize("radius", [0, 1, 254])
@pytest.mark.parametrize("name", TRAINING_FREE)
@pytest.mark.parametrize("dimensions", [2, 9])
def test_drafters_hold_at_the_ends_of_what_can_be_set(name, radius, dimensions):
    (drafter,) = make_drafters([name])
    for token, width, count in itertools.product((TOKENS.first, TOKENS.vocab_end - 1), (1, 64), (1, dimensions - 1)):
        branches = drafter.propose(
            context(
                count=count, width=width, radii=(radius,) * dimensions, history=[[token] * dimensions] * 2,
                rejected=[token] * count,
            )
        )  # fmt: skip
        assert 1 <= len(branches) <= width
        assert all(len(branch) == count and all(map(TOKENS.is_action, branch)) for branch in branches)
