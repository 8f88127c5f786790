"""Steady pacing, driven by hand: the cycle and the safety loop on a clock that is moved tick by tick, no ROS."""

from dataclasses import replace

import numpy as np
import pytest

from spec_vla_ros.errors import InstructionError
from spec_vla_ros.motion.intent import Intent, Pose, Report
from spec_vla_ros.motion.safety import SafetyLoop
from spec_vla_ros.motion.watchdog import Limits
from spec_vla_ros.node.cycle import Cycle, Frame
from spec_vla_ros.node.parameters import Tunables
from spec_vla_ros.node.states import State
from spec_vla_ros.node.worker import Outcome
from spec_vla_ros.policy import ScriptedPolicy
from spec_vla_ros.policy_types import DecodeSettings

LIMITS = Limits(image=0.5, first_image=3.0, inference=2.0, heartbeat=0.25, linear=0.5, angular=2.0)
TUNABLES = Tunables(DecodeSettings(), 1.0, 0.5, 2.0, 0.5, 0.1, False, "none")
IMAGE = np.zeros((4, 4, 3), dtype=np.uint8)
FORWARD = np.array([0.02, 0, 0, 0, 0, 0, 1.0])
TICK, STEP = 0.01, 0.2


class Stage:
    """A camera of 50 Hz, a policy that takes ``latency`` s, the node's cycle, its safety loop and 100 Hz of wire."""

    def __init__(self, *script, latency=0.06, steady=True, **changes):
        self.cycle, self.loop, self.now = Cycle(STEP), SafetyLoop(TICK), 100.0
        self.policy = ScriptedPolicy(
            [list(one) if not isinstance(one, Exception) else one for one in script or [FORWARD]]
        )
        self.tunables, self.limits, self.latency = replace(TUNABLES, **changes), LIMITS, latency
        self.request, self.answer_at, self.filming, self.thinking = None, 0.0, True, True
        self.actions, self.gripper, self.said, self.begun = [], [], [], []
        self.box, self.position, self.commanding = None, np.zeros(6), True
        self.cycle.steady = steady
        self.cycle.start(self.now)
        self.cycle.instruct("go", self.now)

    def run(self, seconds):
        """What goes to the arm in that time, (N, 6)."""
        said = [self.tick() for _ in range(round(seconds / TICK))]
        self.said += said
        return np.array(said)

    def tick(self):
        cycle = self.cycle
        if self.filming and round(self.now / TICK) % 2 == 0:
            cycle.observe(Frame(lambda: IMAGE, self.now, None))
        if self.thinking and self.request is not None and self.now >= self.answer_at - 1e-9:
            self.answer()
        if self.request is None and (request := cycle.next_request(self.now + 1e-9, lambda: self.tunables)):
            self.request, self.answer_at = request, self.now + self.latency
        self.tell()
        twist = self.loop.tick(self.now, 1)
        report = Report.from_bytes(self.loop.report(self.now - 5e-6).to_bytes())  # as the process: before its tick
        self.position = self.position + (0.0 if twist is None else twist) * TICK  # it does at once what it is told
        cycle.hear(report)
        if self.actions and report.step >= self.actions[-1].step.number and len(self.begun) < len(self.actions):
            self.begun.append(cycle.note(self.actions[-1]))
            if report.accepted:
                cycle.decide_gripper(self.actions[-1])
            if report.commanded and (command := cycle.gripper.command()) is not None:
                self.gripper.append(command)
        self.now += TICK
        return twist

    def answer(self):
        request, self.request = self.request, None
        try:
            result, error = self.policy.infer(request.image(), request.instruction, request.tunables.decode), None
        except Exception as caught:  # noqa: BLE001
            result, error = None, caught
        if action := self.cycle.conclude(Outcome(request, result, error, self.latency, None), self.now):
            self.actions.append(action)

    def tell(self):
        pose = None if self.box is None else Pose(tuple(self.position[:3].tolist()), None, self.now)
        where = {"box": self.box, "pose": pose, "needs_pose": self.box is not None}
        intent = self.cycle.intent(self.now, self.limits, commanding=self.commanding, **where)
        self.loop.take(Intent.from_bytes(intent.to_bytes()), self.now)

    def until(self, state, limit=2.0):
        latency, self.latency = self.latency, 0.02 if state is State.FOLLOWED else self.latency  # sooner than expected
        try:
            self._until(state, limit)
        finally:
            self.latency = latency

    def until_acted(self, count, limit=5.0):
        for _ in range(round(limit / TICK)):
            if len(self.actions) >= count:
                return
            self.said.append(self.tick())
        raise AssertionError(f"{len(self.actions)} actions instead of {count}")

    def _until(self, state, limit):
        for _ in range(round(limit / TICK)):
            if self.cycle.state is state:
                return
            self.said.append(self.tick())
        raise AssertionError(f"{self.cycle.state} instead of {state}")


def test_steps_follow_each_other_without_a_pause():
    stage = Stage(*[FORWARD, 2 * FORWARD] * 20, latency=0.06)
    stage.run(0.5)
    moving = stage.run(2.0)
    assert moving.any(1).all(), "never a zero"
    assert {round(float(v), 6) for v in moving[:, 0]} == {0.1, 0.2}
    assert stage.begun[-1].late == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("steady", [False, True])
@pytest.mark.parametrize("latency", [0.01, 0.06, 0.16, 0.5])
@pytest.mark.parametrize("compensation", ["none", "subtract", "catch_up"])
def test_what_is_streamed_is_what_was_commanded(steady, latency, compensation):
    script = [FORWARD, 0.3 * FORWARD, -0.5 * FORWARD, np.array([0, 0.01, 0, 0.1, 0, -0.2, 1.0])]
    stage = Stage(*script, steady=steady, latency=latency, compensation=compensation)
    stage.run(4.0)
    stage.thinking = False
    stage.run(1.0)
    assert not stage.said[-1].any()
    told = sum(np.array(action.step.twist) * action.step.seconds for action in stage.actions)
    np.testing.assert_allclose(np.sum(stage.said, axis=0) * TICK, told, atol=1e-9)
    assert len(stage.actions) >= 5


def test_an_answer_that_comes_late_finds_zero_on_the_wire():
    stage = Stage(latency=0.05)
    stage.run(1.0)
    stage.latency = 0.3
    stage.run(0.05)
    stage.until(State.THINKING)
    assert not stage.said[-1].any()
    stage.until(State.MOVING)
    stage.run(0.02)
    assert stage.begun[-1].late == pytest.approx(stage.latency - 0.06, abs=0.031)
    assert stage.said[-1].any()


def test_the_image_is_as_young_as_the_end_of_the_step_allows():
    """It is looked at when the answer is expected to be there in time, not when the step begins."""
    stage = Stage(latency=0.06)
    stage.run(3.0)
    ages = [begun.image_age for begun in stage.begun[3:]]
    assert max(ages) <= 0.06 + 0.01 + 0.02 + 1e-6, "the inference, the handover and a frame"


def test_the_next_step_has_what_the_image_had_not_seen_taken_off():
    stage = Stage(latency=0.06, compensation="subtract")
    stage.run(3.0)
    for before, after, begun in zip(stage.actions[3:], stage.actions[4:], stage.begun[4:], strict=False):
        unseen = before.step.twist[0] * begun.image_age
        assert after.unseen[0] == pytest.approx(unseen, rel=1e-6)
        assert after.step.twist[0] * after.step.seconds == pytest.approx(FORWARD[0] - unseen)


@pytest.mark.parametrize("compensation", ["subtract", "catch_up"])
def test_what_a_wall_held_back_is_not_taken_off_the_way_back(compensation):
    """The arm is told to go on through the wall, and then to go back: none of that way has been travelled."""
    stage = Stage(*[FORWARD] * 6, *[-0.25 * FORWARD] * 30, latency=0.06, compensation=compensation)
    stage.box = ((-1.0, -1.0, -1.0), (0.02, 1.0, 1.0))
    stage.until_acted(6)
    stage.run(0.02)
    assert stage.position[0] == pytest.approx(0.02, abs=1e-3), "held at the wall"
    stage.until_acted(7)
    back = stage.actions[-1]
    assert abs(back.unseen[0]) < 3e-3, "0.01 m would be what it was told"
    np.testing.assert_allclose(back.step.twist[0] * back.step.seconds, -0.005, atol=2e-3)


@pytest.mark.parametrize("box", [None, ((-1.0, -1.0, -1.0), (0.035, 1.0, 1.0))])
def test_what_counts_as_travelled_is_what_the_arm_travelled(box):
    stage = Stage(*[FORWARD, 0.4 * FORWARD, -0.7 * FORWARD] * 20, latency=0.06, compensation="catch_up")
    stage.box = box
    where = {}
    for _ in range(300):
        where[round(stage.now, 2)] = stage.position.copy()
        stage.said.append(stage.tick())
    since, until = 100.5, 102.7
    travelled = stage.cycle._travel.between(since, until)
    np.testing.assert_allclose(travelled, where[until] - where[since], atol=1e-3)


@pytest.mark.parametrize(
    ("steady", "compensation", "latency", "told"),
    [
        (True, "none", 0.06, True),
        (True, "none", 0.01, False),
        (True, "catch_up", 0.06, False),
        (False, "none", 0.16, False),
    ],
)
def test_an_arm_that_overshoots_is_noticed(steady, compensation, latency, told):
    stage = Stage(steady=steady, compensation=compensation, latency=latency)
    stage.run(2.0)
    assert stage.cycle.overshoots == told
    stage.cycle.start(stage.now)
    assert not stage.cycle.overshoots


def test_short_steps_correct_each_other_before_anything_overshoots():
    stage = Stage(compensation="none", latency=0.06)
    stage.cycle.step_dt = 0.05
    stage.run(2.0)
    assert not stage.cycle.overshoots


@pytest.mark.parametrize("latency", [0.04, 0.06, 0.12])
def test_a_tremble_neither_slows_the_arm_down_nor_builds_up(latency):
    def trembling(sign):
        return np.array([0.02, sign * 0.0005, 0, 0, 0, sign * 0.002, 1.0])

    stage = Stage(*[trembling(1), trembling(-1)] * 40, latency=latency, compensation="catch_up")
    stage.until_acted(20)
    seconds = [action.step.seconds for action in stage.actions[5:]]
    assert np.median(seconds) < 0.15, "what is left of 0.02 m, not of 0.002 rad"
    fastest = np.abs(stage.said).max(0)
    assert fastest[0] <= 0.1001, "the speed of the model"
    assert fastest[5] <= 0.0101


def test_blocking_pacing_takes_nothing_off():
    stage = Stage(steady=False, compensation="catch_up")
    stage.run(2.0)
    assert all(action.step.twist[0] == pytest.approx(0.1) and action.compensation == "none" for action in stage.actions)
    assert all(not action.unseen.any() for action in stage.actions)


def test_a_new_instruction_breaks_off_the_step_and_the_one_that_was_to_follow():
    for state in (State.MOVING, State.AHEAD, State.FOLLOWED):
        stage = Stage(latency=0.06)
        stage.run(1.0)
        stage.until(state)
        count = len(stage.actions)
        stage.cycle.instruct("something else", stage.now)
        assert not stage.tick().any(), state
        stage.run(0.3)
        assert [a.outcome.request.instruction for a in stage.actions[count:]][:1] == ["something else"], state
        assert stage.said[-1].any(), state


def test_a_hold_stops_at_once_and_takes_no_answer():
    for state in (State.MOVING, State.AHEAD, State.FOLLOWED):
        stage = Stage(latency=0.06)
        stage.run(1.0)
        stage.until(state)
        stage.cycle.instruct("", stage.now)
        assert not stage.run(1.0).any(), state
        assert stage.cycle.state is State.LOOKING, state


@pytest.mark.parametrize("state", [State.MOVING, State.AHEAD, State.FOLLOWED])
def test_a_camera_that_dies_stops_the_arm_in_every_state(state):
    stage = Stage(latency=0.06)
    stage.run(1.0)
    stage.until(state)
    stage.filming = False
    died = stage.now
    stage.run(1.0)
    assert stage.cycle.fault.name == "IMAGE_STALE"
    assert not np.any(stage.said[-round((stage.now - died - LIMITS.image - 0.03) / TICK) :])


def test_a_policy_that_hangs_lets_the_step_end_at_zero_and_trips():
    stage = Stage(latency=0.06)
    stage.run(1.0)
    stage.until(State.AHEAD)
    stage.thinking = False
    moved = stage.run(0.3)
    assert not moved[-5:].any()
    stage.run(2.0)
    assert stage.cycle.fault.name == "WORKER_HUNG"


@pytest.mark.parametrize("state", [State.MOVING, State.AHEAD, State.FOLLOWED])
def test_deactivation_ends_in_zero_and_the_answer_that_is_on_its_way_is_not_used(state):
    stage = Stage(latency=0.06)
    stage.run(1.0)
    stage.until(state)
    stage.cycle.stop()
    assert not stage.run(0.5).any()


def test_an_answer_that_fails_stops_the_step_that_runs():
    stage = Stage(*[FORWARD] * 4, RuntimeError("CUDA error"), latency=0.06)
    stage.run(3.0)
    assert stage.cycle.fault.name == "WORKER_EXCEPTION"
    assert not stage.said[-1].any()


def test_an_instruction_that_the_policy_refuses_holds_the_arm():
    stage = Stage(*[FORWARD] * 4, InstructionError("too long"), latency=0.06)
    stage.run(1.2)
    assert stage.cycle.hold is not None
    assert stage.cycle.fault is None
    assert not stage.said[-1].any()


def test_limits_are_kept_and_count_when_they_change():
    stage = Stage(2 * FORWARD, latency=0.06, max_linear_speed=0.15)
    stage.run(1.0)
    assert stage.said[-1][0] == pytest.approx(0.15)
    stage.limits = replace(LIMITS, linear=0.05)
    assert stage.run(0.5)[:, 0].max() == pytest.approx(0.05)


def test_who_begins_to_listen_hears_zero_and_the_step_that_was_to_follow_is_off():
    stage = Stage(latency=0.06)
    stage.run(1.0)
    stage.until(State.FOLLOWED)
    stage.loop.hold(stage.now)
    assert not stage.run(0.19).any()
    assert stage.run(0.5).any(), "a new image is answered"


def test_the_gripper_moves_with_the_step_that_says_so_and_not_before():
    closed = FORWARD.copy()
    closed[6] = 0.0
    stage = Stage(*[FORWARD] * 4, *[closed] * 100, latency=0.16)
    for _ in range(500):
        stage.run(TICK)
        if len(stage.gripper) == 2:
            break
    assert stage.gripper == [1.0, 0.0]
    said = [action.outcome.result.values[6] for action in stage.actions[: len(stage.begun)]]
    assert said[-1] == 0.0
    assert said[-2] == 1.0


def test_a_gripper_that_hovers_about_its_threshold_does_not_chatter():
    script = [np.array([0.02, 0, 0, 0, 0, 0, value]) for value in (0.9, 0.45, 0.55, 0.45, 0.55)]
    stage = Stage(*script, latency=0.06)
    stage.run(4.0)
    assert stage.gripper == [1.0]


def test_a_camera_that_repeats_itself_is_found_out():
    stage = Stage(latency=0.06)
    conclude = stage.cycle.conclude
    stage.cycle.conclude = lambda outcome, now: conclude(replace(outcome, fingerprint=7), now)
    stage.run(3.0)
    assert stage.cycle.fault.name == "IMAGE_FROZEN"


def test_a_camera_that_shows_the_motion_is_not_accused():
    stage, number = Stage(latency=0.06), iter(range(1000))
    conclude = stage.cycle.conclude
    stage.cycle.conclude = lambda outcome, now: conclude(replace(outcome, fingerprint=next(number)), now)
    stage.run(3.0)
    assert stage.cycle.fault is None


@pytest.mark.parametrize("first", [False, True])
def test_pacing_may_change_while_the_arm_moves(first):
    stage = Stage(latency=0.06, steady=first)
    stage.run(1.0)
    for state in (
        (State.MOVING, State.AHEAD, State.FOLLOWED) if first else (State.MOVING, State.LOOKING, State.THINKING)
    ):
        stage.until(state)
        stage.cycle.steady = not first
        stage.run(1.0)
        paused = not np.all(np.any(stage.said[-60:], axis=1))
        assert paused is first, state
        stage.cycle.steady = first
        stage.run(1.0)
        assert stage.cycle.fault is None


def test_after_a_new_start_no_image_of_before_is_used():
    stage = Stage(latency=0.06)
    stage.run(1.0)
    stage.cycle.stop()
    stage.run(0.3)
    stage.request = None
    stage.filming = False
    stage.cycle.observe(Frame(lambda: IMAGE, stage.now - 0.005, None))
    stage.cycle.start(stage.now)
    stage.cycle.instruct("go", stage.now)
    stage.cycle.observe(Frame(lambda: IMAGE, stage.now - 0.005, None))
    assert stage.cycle.next_request(stage.now, lambda: TUNABLES) is None


def test_standstill_is_what_the_wire_shows():
    stage = Stage(latency=0.06, steady=False)
    stage.run(4.0)
    still = 1 - np.mean(np.any(stage.said[50:], axis=1))
    assert stage.cycle.waits.standstill == pytest.approx(still, abs=0.03)
    steady = Stage(latency=0.06)
    steady.run(4.0)
    assert steady.cycle.waits.standstill == pytest.approx(0.0, abs=0.03)


def test_an_image_of_the_motion_is_compensated_whatever_the_pacing_is_by_then():
    stage = Stage(latency=0.1, compensation="subtract")
    stage.run(2.0)
    stage.until(State.AHEAD)
    count = len(stage.actions)
    stage.cycle.steady = False
    stage.until_acted(count + 1)
    action = stage.actions[-1]
    assert (action.pacing, action.compensation) == ("steady", "subtract")
    assert action.step.twist[0] * action.step.seconds == pytest.approx(FORWARD[0] - action.unseen[0])
    assert action.unseen[0] > 0.005


def test_a_step_that_was_taken_back_does_not_move_the_gripper_later():
    def closed(value):
        return np.array([0.02, 0, 0, 0, 0, 0, value])

    stage = Stage(*[closed(1.0)] * 5, closed(0.0), *[closed(0.5)] * 100, latency=0.06)
    stage.until_acted(5)
    stage.latency = 0.02
    stage.until_acted(6)
    assert stage.cycle.state is State.FOLLOWED, "decided, and not begun"
    stage.cycle.instruct("something else", stage.now)
    stage.run(2.0)
    assert stage.gripper == [1.0]


def test_a_step_whose_begin_was_heard_of_after_its_end_has_moved_the_arm():
    stage = Stage(latency=0.3, steady=False)
    stage.until(State.MOVING)
    hear, stage.cycle.hear = stage.cycle.hear, lambda report: False  # the executor is busy
    moved = stage.run(0.08)[:, 0].sum() * TICK
    stage.cycle.instruct("something else", stage.now)
    stage.cycle.hear = hear
    moved += stage.run(0.05)[:, 0].sum() * TICK
    assert moved > 0.005
    assert stage.cycle._travel.between(0.0, stage.now)[0] == pytest.approx(moved, abs=0.1 * TICK * 1.5)


def test_a_dry_run_moves_nothing():
    stage = Stage(latency=0.06)
    stage.run(1.0)
    stage.until(State.FOLLOWED)
    before = stage.now
    stage.commanding = False
    for _ in range(100):
        stage.tick()
    assert stage.cycle._travel.between(before + 0.21, stage.now)[0] == 0.0


def test_a_refusal_does_not_shorten_the_wait():
    stage = Stage(latency=0.06)
    stage.run(1.0)
    stage.until(State.MOVING)
    stage.loop.hold(stage.now)
    count = len(stage.begun)
    stage.run(1.0)
    assert max(begun.late or 0.0 for begun in stage.begun[count:]) >= 0.19, "from the last step that moved"
