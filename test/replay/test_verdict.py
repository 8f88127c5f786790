"""The report's answer: which actions are beyond what acceptance allows, by how much, and what is said about it."""

import math

import numpy as np
import pytest
from comparisons import CENTRE, MADE, OPEN, PLAIN, RADIUS, WIDTH, compared, off

from spec_vla_ros.replay import advice
from spec_vla_ros.replay.moments import moments
from spec_vla_ros.replay.plots import by_axis, motion, overview, plots, thinned
from spec_vla_ros.replay.verdict import Level, differences, judge, shares
from spec_vla_ros.tolerance import Tolerance

STILL = (*WIDTH[:5], 0.0, WIDTH[6])  # a data set that never yaws


def judged(*actions, budget=0, width=WIDTH, **more):
    comparison = compared(*actions, **more)
    (verdict,) = judge(comparison, width, budget)
    return comparison, verdict


def test_the_same_bins_everywhere_are_identical():
    comparison, verdict = judged(CENTRE, CENTRE)
    assert (verdict.level, verdict.identical, verdict.beyond, verdict.flips) == (Level.IDENTICAL, 2, (), ())
    assert (verdict.mm.largest, verdict.mrad.largest) == (0.0, 0.0)
    assert advice.title([verdict]) == "fastest: all 2 actions identical, 2.00 times as fast"
    assert advice.outcome(verdict, comparison) == "All 2 actions are those of autoregressive decoding, bin for bin."


def test_at_the_radius_is_within_it():
    comparison, verdict = judged(CENTRE, off(x=9, z=-9, yaw=9))
    assert (verdict.level, verdict.identical, verdict.beyond) == (Level.WITHIN, 1, ())
    assert advice.title([verdict]) == "fastest: all 2 actions in the radius, 2.00 times as fast"
    assert "All 2 actions lie within what the radius allows; 1 are identical." in advice.outcome(verdict, comparison)


def test_one_bin_more_is_beyond_and_said_with_time_bins_and_millimetres():
    """z: 10 bins of 2 mm, 9 allowed. The furthest is the one that exceeds its own radius most."""
    comparison, verdict = judged(CENTRE, off(z=-10), CENTRE, off(pitch=14, yaw=3))
    assert verdict.level is Level.BEYOND
    assert (verdict.beyond, verdict.furthest, verdict.flips) == ((1, 3), 3, ())
    assert advice.title([verdict]) == "fastest: 2 of 4 actions beyond the radius, 2.00 times as fast"
    assert differences(comparison, verdict, 1) == ["z -20.0 mm, 18.0 allowed (10 bins, 9 allowed)"]
    assert advice.outcome(verdict, comparison) == (
        "2 of 4 actions differ by more than the radius allows; 2 are identical. The furthest, at 0.3 s: pitch +140.0 "
        "mrad, 90.0 allowed (14 bins, 9 allowed)."
    )


def test_distances_are_the_largest_of_three_axes_in_mm_and_in_mrad():
    """Per action 0, 4, 6 and 12 mm: median 5; the last is z, 6 bins of 2 mm."""
    _, verdict = judged(CENTRE, off(x=4, y=2), off(y=6), off(x=5, z=6, roll=-3))
    assert (verdict.mm.median, verdict.mm.largest, verdict.mm.axis, verdict.mm.at) == (5.0, 12.0, "z", 3)
    assert verdict.mm.p99 == pytest.approx(12 - 0.03 * 6)
    assert (verdict.mrad.largest, verdict.mrad.axis, verdict.mrad.unit) == (pytest.approx(30.0), "roll", "mrad")
    assert advice.apart(verdict) == (
        "Of all 4 the difference is 5.0 mm and 0 mrad at the median, 12.0 mm and 30.0 mrad at most."
    )
    assert verdict.radius_si == pytest.approx((9, 9, 18, 90, 90, 180, 0))


def test_a_gripper_that_does_the_opposite_is_beyond_whatever_the_radius():
    for radius in (RADIUS, (255,) * 6 + (0,)):
        comparison, verdict = judged(CENTRE, off(gripper=OPEN), radius=radius)
        assert (verdict.level, verdict.flips, verdict.beyond) == (Level.BEYOND, (1,), (1,))
        assert differences(comparison, verdict, 1) == ["gripper open, autoregressive closed"]


def test_a_gripper_that_is_a_little_off_is_beyond_too():
    comparison, verdict = judged(off(gripper=1))
    assert (verdict.level, verdict.flips) == (Level.BEYOND, ())
    assert differences(comparison, verdict, 0) == ["gripper 1 bin, none allowed"]


def test_each_axis_has_its_own_radius():
    radius = (1, 2, 3, 4, 5, 6, 0)
    assert judged(off(x=1, y=2, z=3, roll=4, pitch=5, yaw=6), radius=radius)[1].level is Level.WITHIN
    comparison, verdict = judged(off(x=2, yaw=6), radius=radius)
    assert differences(comparison, verdict, 0) == ["x +2.0 mm, 1.0 allowed (2 bins, 1 allowed)"]


def test_the_sum_that_an_action_may_be_off_counts_too():
    assert judged(off(x=8, y=4), budget=12)[1].level is Level.WITHIN
    comparison, verdict = judged(off(x=8, y=5), budget=12)
    assert verdict.level is Level.BEYOND
    assert differences(comparison, verdict, 0) == ["13 bins in all, 12 allowed"]


def test_a_share_of_the_radius_and_what_stands_for_it_where_the_radius_is_zero():
    bins = np.array([[0, 0, 0, 0, 0, 0, 99], [3, 6, 0, 0, 0, 0, 0], [0, 0, 0, 10, 0, 0, 0], [0, 0, 0, 0, 0, 1, 0]])
    radius = (9, 9, 9, 9, 9, 0, 0)
    assert shares(bins, Tolerance.of_bins(radius, WIDTH)).tolist() == pytest.approx([0, 2 / 3, 10 / 9, 2])
    assert shares(bins, Tolerance.of_bins(radius, STILL))[3] == 0.0


def test_a_dimension_in_which_every_bin_is_the_same_command_is_never_beyond_and_takes_nothing_from_the_sum():
    comparison, verdict = judged(off(yaw=100), off(x=5, yaw=8), width=STILL, budget=6)
    assert (verdict.level, verdict.identical, verdict.beyond) == (Level.WITHIN, 0, ())
    comparison, verdict = judged(off(x=7, yaw=8), width=STILL, budget=6)
    assert differences(comparison, verdict, 0) == ["7 bins in all, 6 allowed"]
    assert "yaw: never moves" in advice.limits(verdict.tolerance, verdict.radius_si)
    assert verdict.as_json(comparison)["radius"] == RADIUS
    assert verdict.as_json(comparison)["budget"] == 6


def test_without_autoregressive_decoding_nothing_is_judged():
    comparison = compared(off(x=20), order=("fastest",))
    assert judge(comparison, WIDTH) == []
    assert advice.title([]) == "Cannot judge"
    assert advice.answer([], ("fastest", "spec_vla")).startswith("Cannot judge: autoregressive decoding")
    assert advice.answer([], (PLAIN,)).startswith("Nothing to judge: only autoregressive")
    assert set(plots(comparison, [], _commands())) == {"accepted", "passes", "times", "motion"}


def test_the_order_of_the_decoders_does_not_matter():
    verdicts = [judged(off(x=10), CENTRE, order=order)[1] for order in ((PLAIN, "fastest"), ("fastest", PLAIN))]
    assert verdicts[0] == verdicts[1]


def test_an_image_that_gave_an_error_is_not_judged_and_shifts_no_index():
    comparison, verdict = judged(None, off(x=10), CENTRE)
    assert (verdict.images, verdict.beyond) == (2, (0,))
    assert verdict.as_json(comparison)["beyond"] == [1]
    assert moments(comparison, [verdict])[0].index == 1
    assert advice.not_judged(comparison) == "1 of 3 images gave an error and are not judged."


def test_passes_and_times_are_of_both():
    _, verdict = judged(CENTRE, CENTRE, ms=25.0)
    assert (verdict.passes, verdict.total_passes) == ((1.0, 7.0), (2, 14))
    assert (verdict.ms_median, verdict.times_as_fast) == ((25.0, 40.0), 1.6)
    assert "takes 1.00 passes of the language model per action in place of 7.00 (85.7 % saved)" in advice.savings(
        verdict
    )


@pytest.mark.parametrize(
    ("ms", "words"),
    [(20, "2.00 times as fast"), (39.5, "no faster"), (41, "no faster"), (60, "slower, 1.50 times as long,")],
)
def test_what_is_said_of_the_speed(ms, words):
    _, verdict = judged(CENTRE, ms=ms)
    assert advice.speed(verdict) == f"{words} where it was measured"
    assert advice.title([verdict]).endswith("2.00 times as fast" if ms == 20 else ", no faster")
    assert ("saved no time" in advice.next_step(verdict, MADE)) == (ms > 38)


def test_the_nearest_decoder_comes_first_then_the_cheapest():
    fine, dear = judged(off(x=1))[1], judged(off(x=1))[1]
    object.__setattr__(dear, "passes", (3.0, 7.0))
    bad, worse = judged(off(x=10), CENTRE)[1], judged(off(x=10), off(x=10))[1]
    same = judged(CENTRE)[1]
    assert advice.in_order([worse, bad, dear, fine, same]) == [same, fine, dear, bad, worse]
    assert advice.best_level([worse, fine]) is Level.WITHIN


@pytest.mark.parametrize(
    ("actions", "more", "words"),
    [
        ([CENTRE] * 200, {}, "Go on to the dry run on the arm"),
        ([CENTRE] * 20, {}, "20 images are few"),
        ([off(x=1)] * 200, {}, "if your task bears them"),
        ([CENTRE] * 199 + [off(x=10)], {}, "Look at the moments below."),
        ([CENTRE] * 199 + [off(gripper=OPEN)], {}, "A gripper that does the opposite"),
        ([CENTRE] * 100 + [off(x=10)] * 20, {}, "belong together"),
        ([CENTRE] * 199 + [off(x=1)], {"radius": (0,) * 7}, "nothing but rounding"),
    ],
)
def test_what_to_do_next(actions, more, words):
    assert words in advice.next_step(judged(*actions, **more)[1], MADE)


def test_every_bound_that_was_given_is_to_be_lowered():
    """The tightest of them holds, which of them that is depends on the axis."""
    _, verdict = judged(*[CENTRE] * 199, off(x=10))
    assert "(--acceptance-radius 4; 0 is strict)" in advice.next_step(verdict, MADE)
    metric = MADE | {"acceptance_mm": 2.0, "acceptance_mrad": 5.0}
    said = "(--acceptance-radius 4 --acceptance-mm 1 --acceptance-mrad 2.5; 0 is strict)"
    assert said in advice.next_step(verdict, metric)


def test_what_was_allowed_is_said_in_both_units():
    tolerance = Tolerance.of_bins((9, 9, 9, 9, 9, 0, 0), WIDTH, 20)
    text = advice.limits(tolerance, (9.0, 9.0, 18.0, 90.0, 90.0, 0.0, 0.0))
    assert text == (
        "x y: 9.0 mm (9 bins), z: 18.0 mm (9 bins), roll pitch: 90.0 mrad (9 bins), yaw: exact, gripper: exact; all "
        "together 20 bins"
    )


def test_a_share_is_never_rounded_to_all_or_none():
    assert [advice.share(n, 10_000) for n in (0, 1, 9_999, 10_000)] == ["0.0 %", "0.1 %", "99.9 %", "100.0 %"]


def test_times_beside_other_programs_are_said_to_be_too_long():
    machine = {"cores": 2, "load_average": [2.4, 1, 1]}
    assert advice.load_warning(machine) == ""
    assert "load was 6.7 on 2 cores" in advice.load_warning(machine | {"load_average": [6.7, 1, 1]})


# -- moments and plots


def _commands():
    from spec_vla_ros.recordings.frames import Commands

    return Commands()


def test_grippers_come_first_by_time_then_the_furthest():
    actions = [CENTRE, off(x=12), off(gripper=OPEN), off(yaw=20), off(gripper=OPEN, x=30)]
    comparison, verdict = judged(*actions)
    found = moments(comparison, [verdict])
    assert [(moment.index, moment.flip) for moment in found] == [(2, True), (4, True), (3, False), (1, False)]
    assert found[0].seconds == pytest.approx(0.2)
    assert found[1].lines[0] == (
        "fastest", "gripper open, autoregressive closed; x +30.0 mm, 9.0 allowed (30 bins, 9 allowed)"
    )  # fmt: skip


def test_a_long_recording_is_thinned_without_losing_its_peaks():
    size = np.zeros(10_000)
    size[[7, 4321, 9999]] = 1.0
    chosen = thinned(size, 100)
    assert len(chosen) == 100
    assert {7, 4321, 9999} <= set(chosen)
    assert thinned(np.zeros(3)) == [0, 1, 2]


def test_every_action_beyond_the_radius_is_marked_on_the_time_axis():
    actions = [CENTRE] * 4000
    actions[5], actions[6], actions[3999] = off(x=10), off(x=11), off(gripper=OPEN)
    comparison, verdict = judged(*actions)
    traces = {trace["name"]: trace for trace in overview(comparison, [verdict])["data"]}
    assert traces["beyond"]["customdata"] == [5, 6]
    assert traces["beyond"]["x"] == pytest.approx([0.5, 0.6])
    assert traces["beyond"]["y"] == pytest.approx([10 / 9, 11 / 9], rel=1e-6)
    assert traces["gripper"]["customdata"] == [3999]
    rows = by_axis(comparison, verdict)["data"]
    assert rows[1]["customdata"] == [5, 6]
    assert rows[1]["y"] == pytest.approx([10.0, 11.0])
    assert rows[-1]["customdata"] == [3999]


def test_no_line_joins_two_episodes_or_crosses_what_was_not_recorded():
    comparison = compared(off(x=1), off(x=2), off(x=3))
    comparison.fresh[2] = True
    (verdict,) = judge(comparison, WIDTH)
    line = by_axis(comparison, verdict)["data"][0]
    assert line["y"] == pytest.approx([1.0, 2.0, None, 3.0])
    assert line["x"] == pytest.approx([0.0, 0.1, None, 0.2])
    commands = _commands()
    commands.actions = {comparison.stamps[at]: np.full(7, 0.004) for at in (0, 2)}
    own, told = motion(comparison, commands)["data"][:2]
    assert (own["name"], told["name"]) == (PLAIN, "recorded")
    assert own["y"] == pytest.approx([0.0, 0.0, None, 0.0])
    assert told["y"] == pytest.approx([4.0, None, None, 4.0])


def test_no_number_of_a_plot_is_infinite_or_missing():
    comparison, verdict = judged(off(x=3), off(gripper=OPEN))

    def numbers(value):
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list | tuple):
            return [number for item in value for number in numbers(item)]
        return [value] if isinstance(value, float) else []

    assert all(map(math.isfinite, numbers(plots(comparison, [verdict], _commands()))))
