"""The expert is a function of the state: it solves every task and goes on from wherever it finds the arm."""

import numpy as np
import pytest

from spec_vla_ros.tabletop.expert import MAX_STEP, MAX_TURN, STEP, expert_action
from spec_vla_ros.tabletop.tasks import TASKS, Layout, Task

EPISODES = [(TASKS[i % len(TASKS)], 900 + i) for i in range(18)]


def solve(arm, task):
    """Let the expert act until the task is done or its time is up; returns whether it is done."""
    while arm.time < task.time_limit:
        action = expert_action(arm, task)
        arm.apply_delta(action[:6], action[6], STEP)
        if task.done(arm):
            return True
    return False


@pytest.mark.parametrize(("task", "seed"), EPISODES, ids=lambda value: getattr(value, "instruction", value))
def test_the_expert_solves_every_task(arm, task, seed):
    arm.reset(Layout.sample(seed))
    assert solve(arm, task)


@pytest.mark.parametrize("kind", ["pick", "put", "touch"])
def test_the_expert_recovers_after_a_push(arm, kind):
    task, rng = Task(kind, "green"), np.random.default_rng(4)
    arm.reset(Layout.sample(31))
    for _ in range(4):
        for _ in range(2):
            action = expert_action(arm, task)
            arm.apply_delta(action[:6], action[6], STEP)
        push = np.concatenate([rng.uniform(-0.03, 0.03, 3), rng.uniform(-0.15, 0.15, 3)])
        arm.apply_delta(push, float(rng.random() < 0.5), STEP)
    arm.time = 0.0  # the pushes do not count against the limit
    assert solve(arm, task)


def test_the_expert_lets_go_of_the_wrong_block(arm):
    arm.reset(Layout.sample(12))
    assert solve(arm, Task("pick", "red"))
    assert expert_action(arm, Task("pick", "blue"))[6] == 1.0
    arm.time = 0.0
    assert solve(arm, Task("pick", "blue"))


def test_labels_stay_within_the_action_range(arm):
    for seed in range(30):
        arm.reset(Layout.sample(seed))
        for task in TASKS:
            action = expert_action(arm, task)
            assert np.linalg.norm(action[:3]) <= MAX_STEP + 1e-9
            assert np.linalg.norm(action[3:6]) <= 1.1 * MAX_TURN  # Euler angles of a limited rotation vector
            assert action[6] in (0.0, 1.0)


def test_few_labels_ask_for_the_largest_turn(arm):
    """Where many do, what is learnt from them is torn between no turn and the largest."""
    turns = []
    for seed in range(20):
        arm.reset(Layout.sample(seed))
        turns += [np.linalg.norm(expert_action(arm, task)[3:6]) for task in TASKS]
    assert np.mean(np.array(turns) > 0.97 * MAX_TURN) < 0.25
