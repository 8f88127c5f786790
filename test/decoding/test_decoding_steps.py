"""What decoding does pass by pass, on a model that is a table: every number of it is known here.

Tokens are written as bins; 100 is the token of bin 100.
"""

import random

import pytest
from speculating import decode_speculative
from tables import ANYTHING, GREEDY, NO_ACTION, PROMPT, SURE, TOKENS, Script, Table, bins_of, decode, ids_of, line

from spec_vla_ros.decoding import decoder
from spec_vla_ros.decoding.acceptance import UNLIMITED
from spec_vla_ros.decoding.costs import PassCosts
from spec_vla_ros.decoding.decoder import decode_autoregressive
from spec_vla_ros.decoding.drafters.base import Observation
from spec_vla_ros.decoding.planner import Planner
from spec_vla_ros.decoding.verifier import TREE_ROWS
from spec_vla_ros.errors import NonActionTokenError
from spec_vla_ros.policy_types import DecodeSettings
from spec_vla_ros.tolerance import Tolerance

# -- one token per pass


def test_greedy_decoding_feeds_every_choice_back():
    table = Table(((), 100), ((100,), 50), ((100, 50), 200))
    decoded = decode_autoregressive(table, PROMPT, 3, GREEDY)
    assert bins_of(decoded.tokens) == (100, 50, 200)
    assert (decoded.first_pass_end, decoded.end) == (1.0, 3.0)


def test_greedy_decoding_reports_that_nothing_was_drafted():
    report = decode_autoregressive(line(1, 2, 3), PROMPT, 3, GREEDY).report
    assert (report.decoder, report.verifier_passes, report.emit) == ("autoregressive", 3, "draft")
    assert (report.accepted_per_pass, report.drafted_per_pass) == ((0, 0, 0), (0, 0, 0))
    assert (report.drafter_per_pass, report.token_source) == (("",) * 3, ("verifier",) * 3)
    assert (report.max_accepted_distance, report.tolerance.bins, report.draft_depth) == (0, (0, 0, 0), 0)


@pytest.mark.parametrize("decoder", [decode_autoregressive, lambda *args: decode_speculative(*args[:3], (), args[3])])
def test_a_choice_that_is_no_action_is_named_with_its_dimension_and_what_would_be_one(decoder):
    with pytest.raises(NonActionTokenError, match=r"dimension 2: .* token 17, .* range 31744\.\.31999"):
        decoder(line(1, 2, None, 4), PROMPT, 4, GREEDY)


# -- drafts


def test_what_a_pass_over_the_prompt_settles_is_reported():
    decoded = decode(line(100, 50, 200, 7), Script([[100, 53, 200]]), draft_width=3)
    report = decoded.report
    assert bins_of(decoded.tokens) == (100, 50, 200, 7)
    assert (decoded.first_pass_end, decoded.end) == (1.0, 1.0)
    assert (report.decoder, report.verifier_passes, report.emit) == ("speculative", 1, "verifier")
    assert (report.accepted_per_pass, report.drafted_per_pass, report.drafter_per_pass) == ((3,), (3,), ("script",))
    assert report.token_source == ("script", "script", "script", "verifier")
    assert (report.max_accepted_distance, report.tolerance.bins) == (3, (9, 9, 9, 0))
    assert (report.draft_depth, report.draft_width) == (6, 3)


def test_the_largest_distance_of_all_passes_is_reported():
    # The second dimension is 5 off, the fourth 2; the third is rejected and costs the second pass.
    decoded = decode(line(100, 50, 200, 7, 8), Script([[100, 55, 100, 7]], [[9]]), dimensions=5)
    assert decoded.report.accepted_per_pass == (2, 1)
    assert decoded.report.max_accepted_distance == 5
    assert (decoded.first_pass_end, decoded.end) == (1.0, 2.0)


def test_where_no_draft_stood_none_was_off():
    report = decode(line(100, 50, 200, 7), Script([[80]], [[80]])).report
    assert (report.accepted_per_pass, report.max_accepted_distance) == ((0, 0, 0, 0), 0)


def test_a_distance_is_one_whichever_side_the_draft_lies():
    assert decode(line(100, 50, 200, 7), Script([[96, 54, 200]])).report.max_accepted_distance == 4


@pytest.mark.parametrize(("emit", "expected"), [("draft", (100, 53, 10, 7)), ("verifier", (100, 50, 10, 7))])
def test_the_draft_conditions_what_follows_whatever_is_emitted(emit, expected):
    table = Table(((), 100), ((100,), 50), ((100, 53), 10), ((100, 50), 200), ((None,) * 3, 7))
    assert bins_of(decode(table, Script([[100, 53]]), emit=emit).tokens) == expected


def test_the_rows_of_a_second_pass_follow_the_accepted_draft():
    """The fourth choice knows the third token as it was emitted, and the second as it was drafted."""
    table = Table(((), 100), ((None,), 50), ((100, 53), 10), ((100, 53, 10), 7), *ANYTHING)
    assert bins_of(decode(table, Script([[100, 53, 80]])).tokens) == (100, 50, 10, 7)


def test_every_drafter_is_named_for_what_was_taken_from_it():
    one, two = Script([[100, 90]], name="one"), Script([[100, 50, 200]], name="two")
    report = decode(line(100, 50, 200, 7), one, two).report
    assert report.token_source == ("one", "two", "two", "verifier")
    assert (report.drafter_per_pass, report.drafted_per_pass) == (("one+two",), (4,))


def test_a_drafter_sees_the_observation_before_anything_is_decoded():
    observation, drafter = Observation(PROMPT, PROMPT, PROMPT), Script()
    decode_speculative(line(1, 2), PROMPT, 2, [drafter], DecodeSettings(), observation=observation)
    assert drafter.begun == [observation]
    decode(line(1, 2), drafter, dimensions=2)
    assert drafter.begun[1] is None, "a caller without anything to show"


def test_a_drafter_is_told_what_is_known_before_each_pass():
    drafter, settings = Script([[100, 53, 80]]), DecodeSettings(draft_depth=3, draft_width=2, second_look=0.0)
    history = (ids_of([1, 2, 3, 4, 5]),)
    decode_speculative(line(100, 50, 200, 7, 8), PROMPT, 5, [drafter], settings, history)
    first, second = drafter.contexts
    assert (first.first, first.count, first.width, first.tokens, first.history) == (0, 3, 2, TOKENS, history)
    assert (first.radii, first.emitted, first.rows, first.states) == ((9, 9, 9, 9, 0), (), (), None)
    assert (second.first, second.count) == (3, 1), "the last dimension is never drafted"
    assert (bins_of(second.emitted), bins_of(second.rows)) == ((100, 50, 200), (100, 53, 200))
    assert second.states.finished == 1.0


def test_a_drafter_reads_the_states_of_the_latest_pass():
    drafter = Script()
    decode(line(100, 50, 200, 7), drafter)
    assert [context.states and context.states.finished for context in drafter.contexts] == [None, 1.0, 2.0]


def test_nobody_is_asked_when_only_the_last_dimension_is_left():
    drafter = Script([[100, 50, 80]])
    decoded = decode(line(100, 50, 200, 7), drafter)
    assert len(drafter.contexts) == 1
    assert decoded.report.drafted_per_pass == (3, 0)


def test_a_branch_ends_before_what_is_no_action_and_where_it_was_not_asked_for_more():
    drafter = Script([[100, NO_ACTION, 200], [90, 80, 70, 60, 50]])
    table = line(100, 50, 200, 7)
    decode(table, drafter)
    tree = table.runs[0][0]
    assert bins_of(tree.tokens) == (100, 90, 80, 70)


def test_a_pass_holds_no_more_drafts_than_the_cache_has_room_for():
    table = line(100, 50, 200, 7)
    decode(table, Script([[a, b] for a in range(10) for b in range(10)]))
    assert len(table.runs[0][0]) == TREE_ROWS


def test_every_dimension_is_judged_by_its_own_radius():
    table = line(100, 50, 200, 7, 8)
    drafter = Script([[100, 53, 200, 7]], [[203]])
    decoded = decode(table, drafter, dimensions=5, radius_per_dimension=(1, 2, 3, 4, 0))
    assert [radii for _, radii, _ in table.runs] == [(1, 2, 3, 4), (3, 4), ()]
    assert decoded.report.accepted_per_pass == (1, 1, 0)
    assert decoded.report.tolerance.bins == (1, 2, 3, 4, 0)


def test_what_a_branch_may_be_off_in_all_is_spent_over_the_passes_of_an_action():
    table = line(100, 50, 200, 7, 8)
    drafter = Script([[102, 90]], [[197, 9]])
    decoded = decode(table, drafter, dimensions=5, radius_sum=5)
    assert [budget for _, _, budget in table.runs] == [5, 3, 0]
    assert decoded.report.accepted_per_pass == (1, 1, 0)


def test_what_is_off_where_every_bin_is_the_same_command_takes_nothing_from_the_sum():
    """A data set that never turned: the budget went on turns that no arm makes, and drafts of real motion fell."""
    table, drafter = line(100, 50, 200, 7, 8), Script([[102, 59, 201, 7]], [[7]])
    tolerance = Tolerance((9, 9, 9, 9, 0), (1, 0, 1, 1, 1), 3)
    decoded = decoder.decode_speculative(table, PROMPT, tolerance, [drafter], DecodeSettings(second_look=0.0))
    assert decoded.report.accepted_per_pass == (4,)
    assert decoded.report.max_accepted_distance == 9, "it is off all the same: later tokens are conditioned on it"
    dear = Tolerance((9, 9, 9, 9, 0), (1, 1, 1, 1, 1), 3)
    decoded = decoder.decode_speculative(
        line(100, 50, 200, 7, 8), PROMPT, dear, [Script([[102, 59, 201, 7]])], DecodeSettings(second_look=0.0)
    )
    assert decoded.report.accepted_per_pass[0] == 1


def test_what_is_left_of_the_sum_goes_on_without_what_cost_nothing():
    table, drafter = line(100, 50, 200, 7, 8), Script([[102, 59]], [[201]])
    tolerance = Tolerance((9, 9, 9, 9, 0), (1, 0, 1, 1, 1), 5)
    decoder.decode_speculative(table, PROMPT, tolerance, [drafter], DecodeSettings(second_look=0.0))
    assert [budget for _, _, budget in table.runs] == [5, 3, 3]


def test_without_a_sum_nothing_is_spent_up():
    table = line(100, 50, 200, 7)
    decode(table, Script([[91, 59, 191]]))
    assert table.runs[0][2] == UNLIMITED


@pytest.mark.parametrize("seed", range(40))
def test_strict_decoding_of_any_model_says_what_greedy_decoding_says(seed):
    """A model of which every choice hangs on everything before it, and drafts that are often right."""
    chance = random.Random(seed)

    class Hashed(Table):
        def say(self, before):
            return random.Random(repr(before) + str(seed)).randrange(254), chance.random()

    greedy = bins_of(decode_autoregressive(Hashed(), PROMPT, 6, GREEDY).tokens)

    def branches(first):
        drawn = [[b if chance.random() < 0.7 else chance.randrange(254) for b in greedy[first:]] for _ in range(4)]
        return drawn[: chance.randrange(5)]

    class Near(Script):
        def propose(self, context):
            self.passes = [branches(context.first)]
            return super().propose(context)

    emit = chance.choice(["draft", "verifier"])
    decoded = decode(
        Hashed(), Near(), dimensions=6, acceptance_radius=0, emit=emit, second_look=5.0, draft_depth=chance.randrange(7)
    )
    assert bins_of(decoded.tokens) == greedy
    assert sum(decoded.report.accepted_per_pass) + decoded.report.verifier_passes == 6


# -- what the verifier said on rows that it rejected


def rejected_after(table, *branches):
    """What the drafter of the second pass is told that the verifier would have said, in bins."""
    drafter = Script(list(branches))
    decode(table, drafter, dimensions=5)
    return bins_of(drafter.contexts[1].rejected)


def test_a_rejected_branch_tells_what_would_have_followed():
    table = Table(((), 100), ((100,), 50), ((100, 80), 33), ((100, 80, 60), 44), *ANYTHING)
    assert rejected_after(table, [100, 80, 60]) == (33, 44)


def test_of_rejected_branches_the_one_nearest_to_the_choice_tells():
    table = Table(((), 100), ((100,), 50), ((100, 75), 1), ((100, 28), 2), ((100, 81), 3), *ANYTHING)
    assert rejected_after(table, [100, 75], [100, 28], [100, 81]) == (2,)
    assert rejected_after(table, [100, 81], [100, 75]) == (1,)


def test_further_down_the_first_drafter_tells():
    table = Table(((), 100), ((100, 80), 60), ((100, 80, 61), 1), ((100, 80, 60), 2), ((100,), 50), *ANYTHING)
    assert rejected_after(table, [100, 80, 61], [100, 80, 60]) == (60, 1)


def test_where_nothing_followed_the_accepted_one_the_nearest_beside_it_tells():
    branches = [[108, 11], [93, 12], [106, 13], [100]]
    table = Table(((), 100), ((108, 11), 1), ((93, 12), 2), ((106, 13), 3), *ANYTHING)
    assert rejected_after(table, *branches) == (3,)
    assert rejected_after(table, *branches[:2], branches[3]) == (2,)
    assert rejected_after(table, [106], [93, 12], [100]) == (2,), "one that says nothing is passed over"


def test_its_own_rejected_rows_come_before_those_beside_it():
    table = Table(((), 100), ((100,), 50), ((100, 80), 33), ((103, 12), 44), *ANYTHING)
    assert rejected_after(table, [100, 80], [103, 12]) == (33,)


def test_with_the_first_dimension_rejected_its_branch_tells():
    table = Table(((), 100), ((80,), 1), ((80, 70), 2), *ANYTHING)
    assert rejected_after(table, [80, 70]) == (1, 2)


def test_without_a_rejected_row_there_is_nothing_to_tell():
    assert rejected_after(line(100, 50, 200, 7, 8), [100]) == ()
    assert rejected_after(line(100, 50, 200, 7, 8)) == ()


# -- a second look


def torn(margin=0.1, other=SURE):
    """The third choice tips with the second token, and the model likes both; the fourth is settled."""
    return Table(
        ((), 100, other),
        ((100,), 50),
        ((100, 53), 10, margin),
        ((100, 50), 200, SURE),
        ((100, 50, 10), 7),
        ((100, 50, 200), 8),
        ((100, 53, None), 9),
    )


NEAR = [[100, 53, 10]]


def test_an_unsure_action_is_verified_once_more_with_its_own_tokens():
    table = torn()
    decoded = decode(table, Script(NEAR), second_look=0.5)
    assert bins_of(decoded.tokens) == (100, 50, 200, 8), "what greedy decoding says"
    assert decoded.tokens == decode_autoregressive(torn(), PROMPT, 4, GREEDY).tokens
    report = decoded.report
    assert bins_of(table.runs[1][0].tokens) == (50, 10)
    assert report.drafter_per_pass == ("script", "second_look", "")
    assert (report.accepted_per_pass, report.token_source) == (
        (3, 1, 0),
        ("verifier", "second_look", "verifier", "verifier"),
    )


def test_a_second_look_that_accepts_nothing_is_greedy_decoding():
    class Fickle(Table):
        """Says something else about the second dimension when it is asked again, as a pass of another shape may."""

        def say(self, before):
            return (80, SURE) if self.runs and before == (100,) else super().say(before)

    table = Fickle(((), 100), ((100,), 50, 0.1), ((100, 53), 10), ((100, None), 30))
    decoded = decode(table, Script([[100, 53]]), dimensions=3, second_look=0.5)
    assert bins_of(decoded.tokens) == (100, 80, 30)
    assert decoded.report.max_accepted_distance >= 0


def test_the_drafters_of_the_first_look_are_not_asked_again():
    drafter = Script(NEAR)
    decode(torn(), drafter, second_look=0.5)
    assert len(drafter.contexts) == 1


@pytest.mark.parametrize(
    ("model", "settings", "why"),
    [
        (torn(margin=0.5), {}, "sure enough"),
        (torn(margin=9.0, other=0.1), {}, "the first dimension would come out the same"),
        (torn(), {"emit": "draft"}, "what was emitted is what it was conditioned on"),
        (torn(), {"second_look": 0.0}, "switched off"),
    ],
)
def test_there_is_no_second_look(model, settings, why):
    decoded = decode(model, Script(NEAR), **{"second_look": 0.5, **settings})
    assert decoded.report.verifier_passes == 1, why


def test_there_is_no_second_look_at_an_exact_prefix():
    assert decode(torn(), Script([[100, 50]]), second_look=50.0).report.verifier_passes == 2


def test_one_bin_off_is_not_exact():
    table = Table(((), 100), ((100,), 50), ((100, 51), 10, 0.1), ((100, 50), 200))
    assert bins_of(decode(table, Script([[100, 51]]), dimensions=3, second_look=0.5).tokens) == (100, 50, 200)


def test_an_accepted_choice_can_be_the_unsure_one():
    """The model was torn about the second dimension itself; the third is the only one that comes out otherwise."""
    table = Table(((), 100), ((100,), 50, 0.1), ((100, 53), 10), ((100, 50), 200))
    assert bins_of(decode(table, Script([[100, 53]]), dimensions=3, second_look=0.5).tokens) == (100, 50, 200)


def test_a_second_look_waits_for_the_whole_action():
    table, drafter = Table(((), 100), ((100,), 50), ((100, 53), 10, 0.1), ((100, 50), 200), *ANYTHING), Script()
    drafter.passes = [[[100, 53]]]
    report = decode(table, drafter, dimensions=5, second_look=0.5).report
    assert [context.first for context in drafter.contexts] == [0, 3], "asked until the action is complete"
    assert report.drafter_per_pass[:4] == ("script", "", "", "second_look")
    assert bins_of(table.runs[3][0].tokens) == (50, 10, 250)


def test_an_action_of_one_dimension_has_nothing_to_look_at_twice():
    assert bins_of(decode(line(100), Script([]), dimensions=1, second_look=50.0).tokens) == (100,)


def test_the_last_choice_can_be_unsure_as_well():
    table = Table(((), 100), ((100,), 50), ((100, 53), 10, 0.1), ((100, 50), 200))
    assert bins_of(decode(table, Script([[100, 53]]), dimensions=3, second_look=0.5).tokens) == (100, 50, 200)


def test_nobody_looks_a_third_time():
    """The second look is off by a little and unsure, too."""
    table = Table(
        ((), 100), ((100,), 50), ((100, 53), 10, 0.1), ((100, 50), 12, 0.1), ((100, 53, 10), 7), ((100, 50, None), 8)
    )
    decoded = decode(table, Script(NEAR), second_look=0.5)
    assert bins_of(decoded.tokens) == (100, 50, 12, 8)
    assert decoded.report.verifier_passes == 2


def test_a_second_look_may_be_off_by_as_much_as_the_first():
    table = torn()
    decode(table, Script(NEAR), second_look=0.5, radius_sum=3)
    assert [budget for _, _, budget in table.runs][:2] == [3, 3]


def test_a_second_look_goes_on_from_what_it_rejected():
    """Two passes of refinement instead of one for each dimension that tipped."""
    table = Table(
        ((), 100), ((100,), 50), ((100, 53), 10, 0.1), ((100, 53, None), 20), ((100, 53, None, None), 30),
        ((100, 50), 200), ((100, 50, 10), 120), ((100, 50, 10, None), 130),
        ((100, 50, 200), 120), ((100, 50, 200, 120), 130), *ANYTHING,
    )  # fmt: skip
    decoded = decode(table, Script([[100, 53, 10, 20]]), dimensions=5, second_look=0.5)
    assert bins_of(decoded.tokens) == (100, 50, 200, 120, 130)
    assert decoded.report.drafter_per_pass[:3] == ("script", "second_look", "refine+second_look")
    assert decoded.report.token_source == ("verifier", "second_look", "verifier", "refine", "verifier")
    assert decoded.report.verifier_passes == 3


# -- a word after a prefix that is only nearly the model's own


def astray(word_at):
    """The model says 100, 60, 70, 7, but after 103 other things, and the choice number ``word_at`` is a word then."""
    off = [((103,), 50), ((103, None), 20), ((103, None, None), 30)]
    off[word_at - 1] = (off[word_at - 1][0], None)
    return Table(((), 100), *off, ((100,), 60), ((100, 60), 70), ((100, 60, 70), 7), ((100, None), 80), *ANYTHING)


@pytest.mark.parametrize("branch", [[103, 50, 20], [103, 50, NO_ACTION], [103, NO_ACTION, 20]])
@pytest.mark.parametrize("word_at", [1, 2, 3])
@pytest.mark.parametrize("emit", ["draft", "verifier"])
def test_what_is_decoded_exactly_after_a_word_begins_with_the_models_own_token_and_not_with_the_drafted_one(
    emit, word_at, branch
):
    """The first drafted token was within the radius: it must not stay in front of what follows another one."""
    table, drafter = astray(word_at), Script([branch])
    decoded = decode(table, drafter, emit=emit, second_look=0.5)
    assert bins_of(decoded.tokens) == (100, 60, 70, 7)
    assert decoded.tokens == decode_autoregressive(astray(word_at), PROMPT, 4, GREEDY).tokens
    report = decoded.report
    restart = next(place for place, (_, radii, _) in enumerate(table.runs) if radii and not any(radii))
    assert report.verifier_passes == len(table.runs) > restart > 0
    assert len(drafter.contexts) <= restart, "nobody but second thoughts drafts from there on"
    assert (report.token_source[0], report.token_source[-1]) == ("verifier", "verifier")
    assert report.max_accepted_distance == 3, "of the draft that stood before it"


@pytest.mark.parametrize("emit", ["draft", "verifier"])
def test_a_word_in_exact_decoding_as_well_is_refused(emit):
    """And not decoded exactly once more, without end."""
    table = Table(((), 100), ((103,), None), ((100,), 60), ((100, 60), None))
    with pytest.raises(NonActionTokenError, match="dimension 2: the model chose token 17"):
        decode(table, Script([[103]]), emit=emit)
    assert len(table.runs) == 3


# -- the automatic tree


class Listening(Planner):
    """Keeps what it is told."""

    def __init__(self):
        super().__init__(PassCosts.free())
        self.told = []

    def begin(self, tolerance, depth):
        self.told.append(("begin", tolerance.bins, depth))
        super().begin(tolerance, depth)

    def chains(self, drafters, context, learn=True):
        self.told.append(("chains", context.first, learn))
        return super().chains(drafters, context, learn)

    def passed(self, known):
        self.told.append(("passed", known))
        super().passed(known)

    def end(self, action, tokens):
        self.told.append(("end", bins_of(action), tokens))
        super().end(action, tokens)


def test_a_planner_is_told_how_an_action_went_without_what_a_second_look_does():
    planner, settings = Listening(), DecodeSettings(acceptance_radius=9, second_look=0.5, draft_depth=5)
    decoded = decode_speculative(torn(), PROMPT, 4, [Script(NEAR)], settings, planner=planner)
    assert planner.told == [
        ("begin", (9, 9, 9, 0), 5),
        *(("chains", 0, True), ("passed", 4), ("chains", 1, False)),
        ("end", bins_of(decoded.tokens), TOKENS),
    ]
    planner.told.clear()
    decode_speculative(line(100, 50, 200, 7), PROMPT, 4, [Script([[100, 90]], [[90]])], settings, planner=planner)
    assert [told[1:] for told in planner.told if told[0] == "passed"] == [(2,), (3,), (4,)]
    assert planner.told[0] == ("begin", (9, 9, 9, 0), 5)


def test_a_width_of_the_operators_is_not_planned():
    planner, drafter = Listening(), Script([[100, 50, 200]])
    settings = DecodeSettings(acceptance_radius=9, draft_width=3)
    report = decode_speculative(line(100, 50, 200, 7), PROMPT, 4, [drafter], settings, planner=planner).report
    assert (planner.told, drafter.contexts[0].width, report.drafted_per_pass) == ([], 3, (3,))


def test_without_a_planner_drafters_are_asked_for_all_that_they_have():
    drafter = Script([[100, 50, 200]])
    drafter.widest = 17
    decode(line(100, 50, 200, 7), drafter, draft_width=0)
    assert drafter.contexts[0].width == 17
