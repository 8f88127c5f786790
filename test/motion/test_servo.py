"""A velocity command moves the arm only if it is fresh, in the right frame and finite; silence stops the arm."""

import numpy as np
import pytest

from spec_vla_ros.motion.servo import ServoInput

NOW = 1_700_000_000 * 10**9  # ns
TWIST = np.array([0.1, 0.0, -0.05, 0.0, 0.0, 0.3])


def offer(servo, twist=TWIST, age=0.0, frame="base_link", steady=10.0):
    return servo.accept(twist, NOW - round(age * 1e9), frame, NOW, steady)


@pytest.fixture
def servo():
    return ServoInput("base_link")


def test_a_fresh_command_is_in_force(servo):
    assert offer(servo) == ""
    np.testing.assert_array_equal(servo.twist(10.05), TWIST)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"age": 0.11}, "stale"),  # a stamp copied from an image that took 110 ms to think about
        ({"age": -0.06}, "from the future"),
        ({"frame": "tool0"}, "wrong frame"),
        ({"frame": ""}, "wrong frame"),
        ({"twist": np.array([0, 0, np.nan, 0, 0, 0])}, "not finite"),
        ({"twist": np.array([np.inf, 0, 0, 0, 0, 0])}, "not finite"),
        ({"twist": np.zeros(3)}, "not finite"),
    ],
)
def test_a_bad_command_is_dropped_and_counted(servo, changes, reason):
    assert offer(servo, **changes) == reason
    assert servo.dropped == {reason: 1}
    assert not servo.twist(10.0).any()


def test_a_command_without_a_stamp_is_dropped(servo):
    assert servo.accept(TWIST, 0, "base_link", NOW, 10.0) == "no stamp"


@pytest.mark.parametrize("age", [0.09, 0.0, -0.04])
def test_small_clock_differences_are_tolerated(servo, age):
    assert offer(servo, age=age) == ""


def test_a_dropped_command_neither_replaces_nor_prolongs_the_one_in_force(servo):
    offer(servo, steady=10.0)
    offer(servo, twist=-TWIST, age=0.5, steady=10.09)
    np.testing.assert_array_equal(servo.twist(10.09), TWIST)
    assert not servo.twist(10.101).any()


def test_silence_stops_the_arm_once(servo):
    offer(servo, steady=10.0)
    assert servo.twist(10.0999).any()
    assert not servo.twist(10.11).any()
    assert not servo.twist(10.2).any()
    assert servo.stops == 1


def test_silence_after_a_zero_is_no_stop(servo):
    offer(servo, twist=np.zeros(6))
    assert not servo.twist(20.0).any()
    assert servo.stops == 0


def test_commands_are_accepted_again_after_a_stop(servo):
    offer(servo, steady=10.0)
    servo.twist(11.0)
    assert offer(servo, steady=11.0) == ""
    assert servo.twist(11.0).any()


def test_the_command_cannot_be_changed_from_outside(servo):
    twist = TWIST.copy()
    servo.accept(twist, NOW, "base_link", NOW, 10.0)
    twist[:] = 9.0
    servo.twist(10.0)[:] = 9.0
    np.testing.assert_array_equal(servo.twist(10.0), TWIST)
