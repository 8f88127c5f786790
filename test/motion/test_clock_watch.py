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


def test_resetting_forgets():
    watch = ClockWatch()
    watch.check(0.0, 5 * SECOND, True, 0.5)
    watch.reset()
    assert watch.check(9.0, 1 * SECOND, True, 0.5) is None
