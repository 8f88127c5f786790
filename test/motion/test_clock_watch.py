"""The ROS clock beside the steady clock."""

import pytest

from spec_vla_ros.motion.clock_watch import ClockWatch

SECOND = 10**9


def watched(*looks, simulated=True, limit=0.5):
    """The names of what a watch says to (steady s, ROS s) one after the other."""
    watch = ClockWatch()
    faults = [watch.check(now, int(ros * SECOND), simulated, limit) for now, ros in looks]
    return [fault and fault.name for fault in faults]


def test_a_clock_that_runs_at_any_speed_is_fine():
    assert watched((0, 5), (0.1, 5.01), (0.2, 15.0), (0.3, 15.001)) == [None] * 4


def test_a_slow_simulation_that_runs_for_long_is_fine():
    """What counts is when the clock last moved, not for how long it has been watched."""
    assert watched(*((0.1 * i, 5 + 0.01 * i) for i in range(30))) == [None] * 30


def test_a_simulated_clock_that_ran_and_then_stands_still():
    assert watched((0, 5), (1, 6), (1.4, 6), (1.51, 6)) == [None, None, None, "CLOCK_STOPPED"]


def test_the_clock_may_stand_still_for_the_whole_limit():
    assert watched((0, 5), (0.5, 5), (0.5625, 5)) == [None, None, "CLOCK_STOPPED"]


@pytest.mark.parametrize("ros", [0, 5])
def test_a_clock_gets_its_time_from_the_first_look_on(ros):
    """The machine may have been up for days, and nobody may have published /clock yet."""
    assert watched((1e5, ros), (1e5 + 0.4, ros), (1e5 + 0.6, ros)) == [None, None, "CLOCK_STOPPED"]


def test_a_simulated_clock_that_stands_still():
    assert watched((0, 5), (0.4, 5), (0.51, 5)) == [None, None, "CLOCK_STOPPED"]
    assert watched((0, 0), (0.6, 0)) == [None, "CLOCK_STOPPED"], "nobody has ever published it"


def test_a_system_clock_is_not_suspected_of_standing_still():
    assert watched((0, 5), (9, 5), simulated=False) == [None, None]


@pytest.mark.parametrize("simulated", [True, False])
def test_a_clock_that_goes_back(simulated):
    assert watched((0, 5), (0.1, 4.9), simulated=simulated) == [None, "CLOCK_JUMPED"]


def test_a_correction_of_milliseconds_is_no_jump():
    assert watched((0, 5), (0.1, 4.97), (0.2, 5.1)) == [None] * 3
    assert watched((0, 5), (0.1, 4.95)) == [None] * 2, "50 ms are still a correction"
    assert watched((0, 5), (0.1, 4.949)) == [None, "CLOCK_JUMPED"]


def test_resetting_forgets():
    watch = ClockWatch()
    watch.check(0.0, 5 * SECOND, True, 0.5)
    watch.reset()
    assert watch.check(9.0, 1 * SECOND, True, 0.5) is None
    watch.reset()
    assert watch.check(20.0, 0, True, 0.5) is None, "a simulation that was started anew"
