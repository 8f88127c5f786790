"""A gripper must not chatter at the threshold, must not be told twice, and may count the other way round."""

import math

import pytest

from spec_vla_ros.errors import NonFiniteError
from spec_vla_ros.motion.gripper import GripperSwitch


def commands(values, invert=False, **band):
    """The commands sent for a series of gripper values; None where nothing was sent."""
    switch, sent = GripperSwitch(), []
    for value in values:
        switch.decide(value, **band)
        sent.append(switch.command(invert))
    return sent


def test_one_is_open_and_zero_is_closed():
    assert commands([0.996, 0.0]) == [1.0, 0.0]


def test_inversion_swaps_the_command_only():
    assert commands([0.996, 0.0], invert=True) == [0.0, 1.0]


def test_a_command_is_sent_on_change_only():
    assert commands([1, 1, 0.9, 0, 0, 0.1, 1]) == [1.0, None, None, 0.0, None, None, 1.0]


def test_hovering_at_the_threshold_does_not_chatter():
    hover = [0.49, 0.51, 0.45, 0.55, 0.59, 0.41, 0.6, 0.4]
    assert commands([1, *hover]) == [1.0] + [None] * len(hover)
    assert commands([0, *hover]) == [0.0] + [None] * len(hover)


def test_an_undecided_start_sends_nothing():
    assert commands([0.5, 0.55, 0.45]) == [None, None, None]


def test_without_hysteresis_the_threshold_alone_decides():
    assert commands([0.51, 0.49, 0.5], hysteresis=0.0) == [1.0, 0.0, None]


def test_another_threshold():
    assert commands([0.75, 0.95, 0.65], threshold=0.8) == [None, 1.0, 0.0]


def test_flipping_the_inversion_is_a_change():
    switch = GripperSwitch()
    switch.decide(1.0)
    assert [switch.command(False), switch.command(True), switch.command(True)] == [1.0, 0.0, None]


@pytest.mark.parametrize("value", [1.0, 0.0], ids=["open", "closed"])
def test_after_a_reset_the_same_command_is_sent_again(value):
    """While inactive somebody else may have moved the gripper."""
    switch = GripperSwitch()
    switch.decide(value)
    assert switch.command() == value
    switch.reset()
    assert switch.command() is None
    switch.decide(value)
    assert switch.command() == value


def test_a_decision_that_was_not_sent_is_still_due():
    """In a dry run decisions are taken and nothing is sent; the first command afterwards must not be swallowed."""
    switch = GripperSwitch()
    assert switch.decide(1.0) is True
    assert switch.decide(1.0) is True
    assert switch.command() == 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_is_refused_and_changes_nothing(bad):
    switch = GripperSwitch()
    switch.decide(1.0)
    with pytest.raises(NonFiniteError):
        switch.decide(bad)
    assert switch.open is True
