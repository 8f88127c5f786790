"""The plan of a fault campaign, and what is right for a pair of faults."""

import pytest

from spec_vla_ros.bench.wire.fault_kinds import KINDS, Kind
from spec_vla_ros.bench.wire.fault_plan import APART, PAIR_SLACK, Planned, plan
from spec_vla_ros.bench.wire.fault_settings import ENDS, GOES_ON

STOPS = Kind("stops", str, ("IMAGE_STALE",), 0.5)
BEARABLE = Kind("bearable", str, (GOES_ON,), else_=("NODE_SILENT",))
SLOWLY = Kind("slowly", str, ("IMAGE_FROZEN",), 2.0, prompt=False)
FATAL = Kind("fatal", str, (ENDS,))


def pair(first, second):
    return Planned(0, first, False, 0, second, 0.1)


def test_the_plan_is_the_same_for_the_same_seed_and_has_every_kind():
    first, again, other = plan(300, 7, pairs=0.25), plan(300, 7, pairs=0.25), plan(300, 8, pairs=0.25)
    assert first == again != other
    assert {planned.kind.name for planned in first} == {kind.name for kind in KINDS}
    assert all(planned.sim_time for planned in first if any(kind.sim_time for kind in planned.kinds))
    assert len({planned.seed for planned in first}) == 300


def test_the_share_of_pairs():
    assert not any(planned.second for planned in plan(300, 7))
    assert all(planned.second for planned in plan(300, 7, pairs=1.0))
    some = [planned for planned in plan(300, 7, pairs=0.25) if planned.second]
    assert 40 < len(some) < 110
    assert all(planned.second is not planned.kind for planned in some)
    assert all(0.0 <= planned.after <= APART for planned in some)
    assert len({planned.second.name for planned in some}) > 20


def test_one_kind_alone_makes_no_pairs():
    assert [planned.kinds for planned in plan(3, 7, (STOPS,), pairs=1.0)] == [(STOPS,)] * 3


@pytest.mark.parametrize(
    ("first", "second", "answers"),
    [
        (STOPS, None, {"IMAGE_STALE"}),
        (STOPS, SLOWLY, {"IMAGE_STALE", "IMAGE_FROZEN"}),
        (STOPS, BEARABLE, {"IMAGE_STALE", "NODE_SILENT"}),
        (BEARABLE, STOPS, {"IMAGE_STALE", "NODE_SILENT"}),
        (BEARABLE, None, {GOES_ON}),
        (BEARABLE, BEARABLE, {GOES_ON, "NODE_SILENT"}),
        (STOPS, FATAL, {ENDS}),
        (FATAL, BEARABLE, {ENDS}),
    ],
)
def test_what_a_pair_may_be_answered_with(first, second, answers):
    assert set(pair(first, second).answers) == answers


def test_deadlines_of_a_pair():
    assert pair(STOPS, None).within(STOPS) == 0.5
    assert pair(STOPS, BEARABLE).within(STOPS) == 0.5 + PAIR_SLACK
    assert pair(STOPS, BEARABLE).within(BEARABLE) is None
    assert pair(SLOWLY, None).within(SLOWLY) == 2.0
    assert pair(SLOWLY, STOPS).within(SLOWLY) is None, "the other one may put it off"


def test_good_instructions_end_the_hold_of_the_other_fault():
    """Whoever says a good word after a bad one is obeyed: nothing has to stand still then."""
    holds, speaks = Kind("bad words", None, ("INSTRUCTION_INVALID",), 0.25), Kind("", None, ("X",), 0.5, speaks=True)
    assert pair(holds, speaks).within(holds) is None
    assert pair(speaks, holds).within(holds) is None
    assert pair(holds, speaks).within(speaks) == 0.5 + PAIR_SLACK
    assert pair(holds, STOPS).within(holds) == 0.25 + PAIR_SLACK


def test_whoever_deactivates_and_activates_may_end_the_other_fault():
    rearms = Kind("transitions", None, (GOES_ON, "inactive"), rearms=True)
    assert set(pair(STOPS, rearms).answers) == {*STOPS.answers, GOES_ON, "inactive"}


def test_whoever_deactivates_and_activates_may_put_the_other_fault_off():
    """An arm was suspended while the node was activated anew; it was back, and its deadline still counted."""
    rearms = Kind("rearms", str, (GOES_ON,), rearms=True)
    assert pair(rearms, STOPS).within(STOPS) is None
    assert pair(STOPS, rearms).within(STOPS) is None


def test_names_of_kinds_are_unique_and_every_latched_fault_has_a_deadline():
    names = [kind.name for kind in KINDS]
    assert len(set(names)) == len(names)
    for kind in KINDS:
        may_move = {GOES_ON, ENDS} & set(kind.answers)
        assert (kind.within is None) == bool(may_move), kind.name


def test_what_needs_the_real_clock_does_not_happen_to_a_node_with_a_simulated_one():
    """Transforms are not asked for there: their absence would be no fault, and the judge would call motion unsafe."""
    for planned in plan(2000, 5, pairs=0.5):
        assert not (planned.sim_time and any(kind.real_time for kind in planned.kinds))


def test_a_plan_of_two_kinds_that_cannot_be_a_pair_ends():
    chosen = tuple(kind for kind in KINDS if kind.name in ("transforms cease", "clock stops"))
    assert not any(planned.second for planned in plan(100, 1, chosen, pairs=1.0) if planned.sim_time)


def test_the_end_of_one_suspension_is_not_the_early_end_of_another():
    """SIGCONT of a short one resumed what a long one had to keep suspended, and the motion was called unsafe."""
    for planned in plan(2000, 5, pairs=0.5):
        assert sum(kind.suspends for kind in planned.kinds) <= 1
