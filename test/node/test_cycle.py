"""The observe-act cycle driven by hand: no ROS, no clock, no threads."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spec_vla_ros.errors import InstructionError
from spec_vla_ros.motion.safety import SafetyLoop
from spec_vla_ros.motion.watchdog import Fault, Limits
from spec_vla_ros.node.cycle import ACTION_DIM, Cycle, Frame
from spec_vla_ros.node.parameters import Tunables
from spec_vla_ros.node.states import TRANSITIONS, Event, State
from spec_vla_ros.node.worker import Outcome
from spec_vla_ros.policy import ScriptedPolicy
from spec_vla_ros.policy_types import DecodeSettings

ROOT = Path(__file__).parents[2]
LIMITS = Limits(image=0.5, first_image=3.0, inference=2.0, heartbeat=0.25, linear=0.5, angular=2.0)
TUNABLES = Tunables(DecodeSettings(), 1.0, 0.5, 2.0, 0.5, 0.1, False)
IMAGE = np.zeros((4, 4, 3), dtype=np.uint8)
FORWARD = [0.02, 0, 0, 0, 0, 0, 1.0]


class Table:
    """A cycle, its safety loop, a clock that is moved by hand and a policy that answers when it is told to."""

    def __init__(self, *steps, **changes):
        self.cycle, self.loop, self.now = Cycle(0.2), SafetyLoop(0.01), 100.0
        steps = list(steps) or [FORWARD]
        dimensions = {len(step) for step in steps if not isinstance(step, Exception)} or {7}
        self.policy = ScriptedPolicy(steps, *dimensions)
        self.ended = []  # what the cycle answered to each report
        self.tunables = Tunables(**{**TUNABLES.__dict__, **changes})
        self.fingerprint = None  # of the images
        self.cycle.start(self.now)
        self.cycle.instruct("go", self.now)

    def frame(self, captured_at=None):
        self.cycle.observe(Frame(lambda: IMAGE, self.now if captured_at is None else captured_at, None))

    def request(self):
        return self.cycle.next_request(self.now, lambda: self.tunables)

    def answer(self, request):
        try:
            result, error = self.policy.infer(request.image(), request.instruction, request.tunables.decode), None
        except Exception as caught:  # noqa: BLE001
            result, error = None, caught
        action = self.cycle.conclude(Outcome(request, result, error, 0.05, self.fingerprint), self.now)
        self.tell()
        return action

    def tell(self):
        self.loop.take(self.cycle.intent(self.now, LIMITS), self.now)

    def ticks(self, count):
        twists = []
        for _ in range(count):
            self.tell()
            twists.append(self.loop.tick(self.now, 1))
            self.ended.append(self.cycle.hear(self.loop.report(self.now)))
            self.now += 0.01
        return np.array(twists)

    def act(self):
        self.frame()
        action = self.answer(self.request())
        if action is not None and self.loop.report(self.now).accepted:
            self.cycle.decide_gripper(action)
        return action


def test_a_whole_turn():
    table = Table()
    assert table.request() is None, "no image"
    table.frame()
    request = table.request()
    assert (request.number, request.instruction, request.fresh) == (1, "go", True)
    assert table.request() is None, "one at a time"
    action = table.answer(request)
    assert action.limit_factor == 1.0
    twists = table.ticks(22)
    np.testing.assert_allclose(twists.sum(0) * 0.01, FORWARD[:6])
    table.frame()
    assert table.request().fresh is False


def test_images_during_inference_and_motion_are_not_used():
    table = Table()
    table.frame()
    request = table.request()
    table.frame()
    table.answer(request)
    table.ticks(10)
    table.frame()
    table.ticks(11)
    assert table.request() is None
    assert table.cycle.counters.early == 2
    table.frame()
    following = table.request()
    assert following is not None
    assert following.frames_skipped == 2


def test_an_image_captured_before_the_end_but_delivered_after_it_is_not_used():
    table = Table()
    table.act()
    table.ticks(21)
    table.frame(captured_at=table.now - 0.05)
    assert table.request() is None
    table.frame(captured_at=table.now)
    assert table.request() is not None


def test_the_newest_image_wins_and_an_older_one_does_not_replace_it():
    table = Table()
    table.cycle.instruct("", table.now)
    table.frame(table.now + 0.02)
    table.frame(table.now + 0.06)
    table.frame(table.now + 0.04)
    table.cycle.instruct("go", table.now)
    assert table.request().captured_at == pytest.approx(table.now + 0.06)
    assert table.cycle.counters.overwritten == 1


def test_a_new_instruction_during_a_step_breaks_it_off():
    """The step answers another instruction; an operator who says something else does not mean "later"."""
    table = Table()
    table.act()
    table.ticks(5)
    assert table.cycle.instruct("elsewhere", table.now)
    said = table.now
    assert not table.ticks(5).any()
    table.frame(captured_at=said - 0.001)
    assert table.request() is None, "an image of the motion"
    table.frame()
    request = table.request()
    assert (request.instruction, request.fresh) == ("elsewhere", True)


def test_a_new_instruction_before_the_loop_has_heard_of_the_step():
    """The newest intent counts: the loop never sees a step that was taken back at once, and the cycle must go on."""
    table = Table()
    table.frame()
    request = table.request()
    result = table.policy.infer(request.image(), request.instruction, request.tunables.decode)
    assert table.cycle.conclude(Outcome(request, result, None, 0.05), table.now) is not None
    table.cycle.instruct("elsewhere", table.now)
    assert not table.ticks(5).any()
    assert table.cycle.state is State.LOOKING
    assert table.act() is not None
    assert table.ticks(5).any()


def test_a_bad_instruction_during_a_step_stops_it_and_the_scene_is_looked_at_afresh():
    table = Table()
    table.act()
    table.ticks(5)
    table.cycle.instruct("</s>", table.now)
    assert table.cycle.hold.name == "INSTRUCTION_INVALID"
    assert table.cycle.fault is None
    stopped = table.now
    assert not table.ticks(5).any()
    table.cycle.instruct("go on", table.now)
    assert table.cycle.hold is None
    table.frame(captured_at=stopped - 0.01)
    assert table.request() is None
    table.frame()
    assert table.request().fresh


def test_a_blank_instruction_during_a_step_stops_it_without_a_refusal():
    table = Table()
    table.act()
    table.ticks(5)
    assert table.cycle.instruct(" \n", table.now)
    assert table.cycle.hold is None
    assert not table.ticks(5).any()
    table.frame()
    assert table.request() is None
    assert not table.cycle.instruct("", table.now)
    table.cycle.instruct("go on", table.now)
    assert table.request().fresh


def test_the_same_instruction_again_changes_nothing():
    table = Table()
    assert not table.cycle.instruct("go", table.now)
    assert not table.cycle.instruct("go\r\n", table.now)
    assert table.cycle.instruct("</s>", table.now)
    assert not table.cycle.instruct("<s>", table.now)


def test_an_instruction_that_is_refused_while_the_arm_holds_is_said_and_taken_back():
    table = Table()
    table.cycle.instruct("", table.now)
    assert table.cycle.instruct("</s>", table.now)
    assert table.cycle.hold.name == "INSTRUCTION_INVALID"
    assert table.cycle.instruct("", table.now)
    assert table.cycle.hold is None


def test_a_change_of_instruction_while_the_worker_thinks_drops_the_answer():
    table = Table()
    table.frame()
    request = table.request()
    table.cycle.instruct("elsewhere", table.now)
    table.frame()
    assert table.request() is None, "the worker is still busy"
    assert table.answer(request) is None
    assert table.cycle.counters.dropped == 1
    table.frame()
    assert table.request().instruction == "elsewhere"


def test_what_an_outdated_inference_ran_into_is_a_fault_all_the_same():
    """It used to be dropped with the answer, and the next inference ran into it again."""
    table = Table(MemoryError("of the GPU"))
    table.frame()
    request = table.request()
    table.cycle.instruct("elsewhere", table.now)
    assert table.answer(request) is None
    assert table.cycle.fault.name == "OUT_OF_MEMORY"


def test_what_an_inference_of_an_earlier_activation_ran_into_is_over():
    table = Table(MemoryError("of the GPU"), FORWARD)
    table.frame()
    request = table.request()
    table.cycle.stop()
    table.cycle.start(table.now)
    table.cycle.instruct("go", table.now)
    assert table.answer(request) is None
    assert table.cycle.fault is None
    assert table.act() is not None


def test_changing_the_instruction_does_not_hide_a_hanging_worker():
    table = Table()
    table.frame()
    table.request()
    for i in range(25):
        table.now += 0.1
        table.frame()
        table.cycle.instruct(f"instruction {i}", table.now)
        table.ticks(1)
    assert table.cycle.fault.name == "WORKER_HUNG"


def test_images_from_before_the_recording_are_not_looked_at():
    """They would not be in the bag of the episode that they began."""
    table = Table()
    table.frame()
    table.now += 0.02
    assert table.cycle.look_anew(table.now), "nothing was asked yet"
    assert table.request() is None
    table.frame(captured_at=table.now - 0.01)
    assert table.request() is None
    table.frame()
    assert table.request() is not None
    assert not table.cycle.look_anew(table.now), "too late"


def test_a_fault_forgets_image_and_step_and_refuses_requests():
    table = Table()
    table.act()
    table.ticks(3)
    assert table.cycle.trip(Fault("ANY", "a", "b"))
    assert not table.ticks(30).any()
    table.frame()
    assert table.request() is None


def test_an_answer_after_a_fault_is_dropped():
    table = Table()
    table.frame()
    request = table.request()
    table.cycle.trip(Fault("ANY", "a", "b"))
    assert table.answer(request) is None
    assert not table.ticks(5).any()


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ([np.nan] * 7, "NON_FINITE"),
        (KeyError("x"), "WORKER_EXCEPTION"),
        ([0.0] * (ACTION_DIM + 1), "WORKER_EXCEPTION"),
        ([0.0] * (ACTION_DIM - 1), "WORKER_EXCEPTION"),
    ],
)
def test_an_answer_that_is_no_action_is_a_fault(step, fault):
    table = Table(step)
    assert table.act() is None
    assert table.cycle.fault.name == fault
    assert not table.ticks(5).any()


def test_an_answer_of_the_dimensions_that_are_asked_of_a_policy_is_an_action():
    assert Table([0.0] * ACTION_DIM).act() is not None


def test_the_end_of_a_step_is_said_once():
    table = Table()
    table.act()
    table.ticks(30)
    assert table.ended == [False] * 20 + [True] + [False] * 9


def test_a_report_of_the_step_before_does_not_end_the_one_that_the_loop_has_not_heard_of():
    table = Table()
    table.act()
    table.ticks(22)
    table.frame()
    request = table.request()
    report = table.loop.report(table.now)
    result = table.policy.infer(request.image(), request.instruction, request.tunables.decode)
    assert table.cycle.conclude(Outcome(request, result, None, 0.05), table.now) is not None
    assert not table.cycle.hear(report)
    assert table.cycle.state is State.MOVING
    assert table.ticks(20).any(1).all()


def test_an_instruction_refused_by_the_policy_is_no_fault():
    table = Table(InstructionError("too long"), FORWARD)
    assert table.act() is None
    assert (table.cycle.fault, table.cycle.hold.detail) == (None, "too long")
    table.frame()
    assert table.request() is None
    table.cycle.instruct("shorter", table.now)
    assert table.act() is not None


def test_the_dead_man_runs_inside_a_step():
    table = Table()
    table.act()
    table.ticks(10)
    table.now += 0.5
    assert not table.ticks(5).any()
    assert table.cycle.fault.name == "IMAGE_STALE"


def test_starting_again_clears_everything_but_an_unfinished_inference():
    table = Table()
    table.frame()
    request = table.request()
    table.cycle.trip(Fault("ANY", "a", "b"))
    table.cycle.start(table.now)
    assert table.cycle.fault is None
    assert table.cycle.instruction == ""
    table.cycle.instruct("go", table.now)
    table.frame()
    assert table.request() is None
    assert table.answer(request) is None
    table.frame()
    assert table.request().fresh


def test_action_scale_and_speed_limit():
    table = Table([0.1, 0, 0, 0, 0, 0, 1.0], action_scale=0.5, max_linear_speed=0.1)
    action = table.act()
    assert action.limit_factor == pytest.approx(0.4)  # 0.25 m/s wanted
    np.testing.assert_allclose(table.ticks(22).sum(0)[0] * 0.01, 0.02)
    assert table.cycle.limit.hits == 1


def test_settings_are_read_when_the_inference_starts():
    table = Table()
    table.frame()
    request = table.request()
    table.tunables = Tunables(**{**TUNABLES.__dict__, "action_scale": 0.0})
    table.answer(request)
    assert table.ticks(1).any()


# -- the table of transitions ------------------------------------------------------------------------------------------


def test_the_documentation_shows_the_table_of_transitions():
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| `")]
    shown = {row[0].strip(" `"): [cell.strip(" `") for cell in row[1:]] for row in rows}
    events = list(Event)
    for state in State:
        cells = [TRANSITIONS[state][event].value if event in TRANSITIONS[state] else "-" for event in events]
        assert shown[state.value] == cells, state


def test_every_state_can_be_stopped_and_started():
    for state in State:
        assert TRANSITIONS[state][Event.STOP] is State.STOPPED
        assert TRANSITIONS[state][Event.START_FREE] is State.LOOKING
        assert TRANSITIONS[state][Event.START_BUSY] is State.ABANDONED


def test_a_turn_goes_through_its_states():
    table = Table()
    assert table.cycle.state is State.LOOKING
    table.frame()
    request = table.request()
    assert table.cycle.state is State.THINKING
    table.answer(request)
    assert table.cycle.state is State.MOVING
    table.ticks(20)
    assert table.cycle.state is State.MOVING
    table.ticks(1)
    assert table.cycle.state is State.LOOKING
    table.cycle.stop()
    assert table.cycle.state is State.STOPPED


def test_before_it_is_started_it_looks_at_nothing():
    cycle = Cycle(0.2)
    heartbeat = (cycle.step, cycle.fault, cycle.hold, cycle.captured_at, cycle.busy_since)
    assert heartbeat == (None,) * 5
    cycle.observe(Frame(lambda: IMAGE, 1.0, None))
    assert cycle.next_request(1.0, lambda: TUNABLES) is None
    assert (cycle.run, cycle.steps, cycle.state, cycle.instruction) == (0, 0, State.STOPPED, "")


# -- what stops it --------------------------------------------------------------------------------------------------


def flood(table, changes, within):
    for i in range(changes):
        table.cycle.instruct(f"pick up block {i}", table.now + within * i / changes)


def test_more_instructions_than_any_operator_gives():
    table = Table()
    table.act()
    table.ticks(3)
    flood(table, 20, 0.9)
    assert table.cycle.fault.name == "INSTRUCTION_FLOOD"
    assert not table.ticks(5).any()


def test_twenty_instructions_within_a_second_are_not_too_many():
    table = Table()  # has had its first
    flood(table, 19, 0.9)
    assert table.cycle.fault is None
    table.cycle.instruct("and one more", table.now + 0.95)
    assert table.cycle.fault.name == "INSTRUCTION_FLOOD"


def test_the_second_of_a_flood_begins_with_the_first_of_its_instructions():
    table = Table()
    table.now += 0.5
    flood(table, 19, 0.1)
    table.cycle.instruct("a second after the first", table.now + 0.5)
    assert table.cycle.fault is None


def test_as_many_instructions_in_a_longer_time_are_an_operator_in_a_hurry():
    table = Table()
    flood(table, 40, 2.5)
    assert table.cycle.fault is None
    assert table.cycle.instruction == "pick up block 39"


def test_after_a_new_start_the_flood_is_forgotten():
    table = Table()
    flood(table, 19, 0.5)
    table.cycle.start(table.now)
    flood(table, 2, 0.1)
    assert table.cycle.fault is None


def same_image_turns(table, turns, checksum=7):
    """So many actions on an image that never changes; returns the actions."""
    table.fingerprint = checksum
    actions = []
    for _ in range(turns):
        actions.append(table.act())
        table.ticks(22)
    return actions


def test_an_image_that_three_motions_left_unchanged_stops_the_arm():
    table = Table(*[FORWARD] * 9, frozen_image_steps=3)
    actions = same_image_turns(table, 4)
    assert [action is not None for action in actions] == [True, True, True, False]
    assert table.cycle.fault.name == "IMAGE_FROZEN"
    assert "3 motions" in table.cycle.fault.detail
    assert table.cycle.counters.unchanged == 3


def test_one_changed_image_begins_the_count_again():
    table = Table(*[FORWARD] * 9, frozen_image_steps=2)
    same_image_turns(table, 2)
    table.fingerprint = 8
    table.act()
    table.ticks(22)
    assert table.cycle.fault is None
    assert [action is not None for action in same_image_turns(table, 2)] == [True, True]
    assert table.cycle.fault is None


@pytest.mark.parametrize(
    ("delta", "steps", "frozen"),
    [
        ([0.0004, 0, 0, 0, 0, 0, 1.0], 3, False),
        ([0.0004, 0, 0, 0, 0, 0, 1.0], 7, True),  # 3 of them are 1.2 mm, and so are 3 more
        ([0.0006, 0, 0, 0, 0, 0, 1.0], 4, False),
        ([0, 0, 0.02, 0, 0, 0, 1.0], 3, True),
        ([0, 0, 0, 0.004, 0, 0, 1.0], 7, True),
        ([0, 0, 0, 0.004, 0, 0, 1.0], 4, False),
        ([0, 0, 0, 0, 0, 0.006, 1.0], 4, False),
        ([0, 0, 0, 0, 0, 0, 1.0], 9, False),
    ],
)
def test_motions_too_short_to_be_seen_add_up(delta, steps, frozen):
    table = Table(*[delta] * steps, frozen_image_steps=2)
    same_image_turns(table, steps)
    assert (table.cycle.fault is not None) is frozen


@pytest.mark.parametrize("changes", [{"frozen_image_steps": 0}, {"action_scale": 0.0}])
def test_an_unchanged_image_is_right_where_nothing_moves_or_nobody_asks(changes):
    table = Table(*[FORWARD] * 6, **changes)
    assert all(same_image_turns(table, 6))
    assert table.cycle.fault is None


def test_an_image_without_a_checksum_is_not_taken_for_the_one_before():
    table = Table(*[FORWARD] * 6, frozen_image_steps=1)
    assert all(same_image_turns(table, 6, None))
    assert table.cycle.fault is None


@pytest.mark.parametrize("checksum", [7, 0])
def test_in_a_dry_run_the_image_may_stay_as_it_is(checksum):
    table = Table(*[FORWARD] * 6, frozen_image_steps=1)
    for _ in range(6):
        table.frame()
        request = table.request()
        result = table.policy.infer(request.image(), request.instruction, request.tunables.decode)
        assert table.cycle.conclude(Outcome(request, result, None, 0.05, checksum), table.now, commanding=False)
        table.ticks(22)
    assert table.cycle.fault is None


@pytest.mark.parametrize("checksum", [7, 0])
def test_a_new_start_forgets_how_often_the_image_was_the_same(checksum):
    table = Table(*[FORWARD] * 9, frozen_image_steps=2)
    same_image_turns(table, 2, checksum)
    table.cycle.start(table.now)
    table.cycle.instruct("go", table.now)
    assert all(same_image_turns(table, 2, checksum))
    assert table.cycle.fault is None


# -- what a new start forgets, and what it does not --------------------------------------------------------------------


def test_a_new_start_forgets_refusal_gripper_image_and_step():
    table = Table([*FORWARD[:6], 1.0])
    table.act()
    assert table.cycle.gripper.command() == 1.0
    table.cycle.instruct("</s>", table.now)
    table.now += 1.0
    table.frame(table.now - 0.5)
    table.cycle.start(table.now)
    cycle = table.cycle
    assert cycle.hold is cycle.step is cycle.captured_at is cycle.busy_since is None
    assert cycle.steps == 0
    assert cycle.gripper.open is None
    table.cycle.instruct("go", table.now)
    table.frame(table.now - 0.01)
    assert table.request() is None, "captured before the start"
    table.frame(table.now)
    request = table.request()
    assert request.fresh
    assert request.frames_skipped == 1


def test_every_start_is_a_run_of_its_own_and_reports_of_another_are_ignored():
    table = Table()
    first = table.cycle.run
    table.act()
    report = table.loop.report(table.now)
    table.cycle.start(table.now)
    assert table.cycle.run == first + 1
    assert not table.cycle.hear(replace(report, fault=Fault("OLD", "of an earlier run", "none")))
    assert table.cycle.fault is None


def test_a_worker_that_still_has_a_request_of_the_run_before_is_watched_anew():
    table = Table()
    table.frame()
    table.request()
    table.now += 1.5
    table.cycle.start(table.now)
    assert table.cycle.busy_since == table.now
    assert table.cycle.state is State.ABANDONED


def test_the_loops_fault_is_the_cycles_fault():
    table = Table()
    table.act()
    table.ticks(5)
    report = replace(table.loop.report(table.now), fault=Fault("IMAGE_STALE", "a", "b"))
    table.cycle.hear(report)
    assert table.cycle.fault.name == "IMAGE_STALE"
    assert (table.cycle.state, table.cycle.step) == (State.STOPPED, None)


def test_the_first_fault_stays():
    table = Table()
    assert table.cycle.trip(Fault("FIRST", "a", "b"))
    assert not table.cycle.trip(Fault("SECOND", "a", "b"))
    assert table.cycle.fault.name == "FIRST"


def test_counters_tell_what_became_of_images_and_answers():
    table = Table()
    table.frame()
    table.frame()
    request = table.request()
    table.frame()
    table.answer(request)
    counters = table.cycle.counters
    assert (counters.frames, counters.overwritten, counters.early, counters.inferences) == (3, 1, 1, 1)
    table.ticks(22)
    table.frame()
    request = table.request()
    assert request.frames_skipped == 1
    assert table.cycle.busy_since == table.now
    table.cycle.instruct("elsewhere", table.now)
    table.answer(request)
    assert counters.dropped == 1
    assert table.cycle.busy_since is None


def test_every_image_that_was_not_used_counts_as_skipped_also_one_that_came_out_of_order():
    table = Table()
    table.frame(table.now + 0.02)
    table.frame(table.now + 0.06)
    table.frame(table.now + 0.04)
    assert table.request().frames_skipped == 2


def test_an_answer_that_came_too_late_is_dropped_and_one_that_failed_is_a_fault():
    table = Table(MemoryError("of the GPU"), FORWARD)
    for dropped in (0, 1):
        table.frame()
        request = table.request()
        table.cycle.stop()
        assert table.answer(request) is None
        assert (table.cycle.fault is None) is bool(dropped)
        assert table.cycle.counters.dropped == dropped
        table.cycle.start(table.now)
        table.cycle.instruct("go", table.now)


def test_the_newest_image_is_what_counts_for_its_age_whatever_the_order():
    table = Table()
    table.frame(table.now + 0.3)
    table.frame(table.now + 0.1)
    assert table.cycle.captured_at == pytest.approx(table.now + 0.3)


def test_an_image_of_the_very_moment_of_standstill_counts():
    table = Table()
    table.act()
    table.ticks(20)
    at = table.now
    table.ticks(1)
    table.frame(captured_at=at)
    assert table.request() is not None


def test_the_gripper_decides_by_the_thresholds_of_the_action():
    table = Table([0, 0, 0, 0, 0, 0, 0.55], gripper_threshold=0.4, gripper_hysteresis=0.1)
    table.act()
    assert table.cycle.gripper.open is True


def test_steps_are_numbered_and_carry_their_time():
    table = Table(FORWARD, FORWARD)
    first = table.act().step
    table.ticks(22)
    second = table.act().step
    assert (first.number, second.number, second.seconds) == (1, 2, 0.2)
    assert second.made_at == table.now
