"""When an episode begins and ends, and how: one per executed instruction, none lost and none twice."""

import numpy as np
import pytest

from spec_vla_ros.episode_record import Outcome
from spec_vla_ros.motion.intent import Report
from spec_vla_ros.motion.watchdog import Fault
from spec_vla_ros.node import goal
from spec_vla_ros.node.episodes import Episodes, View

FAULT = Fault("IMAGE_STALE", "an old image", "Look.")


class Log:
    """``said``: what happened, in order."""

    def __init__(self):
        self.said = []
        self.episodes = Episodes(
            lambda episode, now: self.said.append(("begin", episode.number, episode.instruction)),
            lambda episode, end, now: self.said.append(("end", episode.number, end.outcome.name, end.succeeded)),
        )
        self.now = 0.0

    def look(self, *arguments, **fields):
        self.now += 0.1
        self.episodes.look(View(*arguments, **fields), self.now)

    @property
    def last(self):
        return self.said[-1]


@pytest.fixture
def log():
    return Log()


def order(text="go", seconds=0.0, rest=0):
    return goal.Goal(goal.Order.of(text, seconds, rest), 0.0)


def test_an_instruction_is_one_episode_until_another_comes(log):
    log.look(1)
    assert log.said == []
    for _ in range(3):
        log.look(1, "go")
    assert log.said == [("begin", 1, "go")]
    log.look(1, "stop")
    assert log.said[1:] == [("end", 1, "PREEMPTED", False), ("begin", 2, "stop")]


@pytest.mark.parametrize(
    ("view", "outcome"),
    [
        (View(1), "HELD"),
        (View(None), "NOT_ACTIVE"),
        (View(1, "go", fault=FAULT), "FAULT"),
        (View(1, "", hold=FAULT), "REFUSED"),
    ],
)
def test_an_episode_ends_once_and_says_how(log, view, outcome):
    log.look(1, "go")
    for _ in range(3):
        log.episodes.look(view, 1.0)
    assert log.said[1:] == [("end", 1, outcome, False)]


def test_another_activation_is_another_episode(log):
    log.look(1, "go")
    log.look(2, "go")
    assert [entry[:2] for entry in log.said] == [("begin", 1), ("end", 1), ("begin", 2)]
    assert log.said[1][2] == "NOT_ACTIVE"


def test_a_goal_that_says_what_stands_is_an_episode_of_its_own(log):
    log.look(1, "go")
    log.look(1, "go", goal=order())
    log.look(1, "go", goal=order())
    assert [entry[:2] for entry in log.said] == [("begin", 1), ("end", 1), ("begin", 2), ("end", 2), ("begin", 3)]


def test_a_goal_is_recorded_until_the_arm_stands(log):
    one = order(seconds=1.0)
    log.look(1, "go", goal=one)
    one.look(2.0, Report(at=2.0))
    assert one.phase is goal.Phase.ENDING
    log.look(1, "")
    assert log.last[0] == "begin", "zero is not on the wire yet"
    one.look(2.1, Report(at=2.1, heard=2.05, moving=False))
    log.look(1, "")
    assert log.last == ("end", 1, "TIME_LIMIT", True)


def test_what_begins_before_the_arm_stands_ends_it(log):
    one = order(seconds=1.0)
    log.look(1, "go", goal=one)
    one.look(2.0, Report(at=2.0))
    log.look(1, "on")
    assert log.said[1:] == [("end", 1, "TIME_LIMIT", True), ("begin", 2, "on")]


def test_success_is_what_the_goal_says(log):
    one = order(rest=1)
    log.look(1, "go", goal=one)
    one.act(np.zeros(6), 1.0, None, 1, 0.5)
    log.episodes.act()
    assert log.episodes.current.actions == 1
    log.look(None)
    assert log.last == ("end", 1, "SUCCEEDED_AT_REST", True)


def test_a_goal_that_only_ran_out_of_time_has_not_succeeded(log):
    one = order(seconds=1.0, rest=5)
    log.look(1, "go", goal=one)
    one.look(2.0, Report(at=2.0))
    log.look(None)
    assert log.last == ("end", 1, Outcome.TIME_LIMIT.name, False)
