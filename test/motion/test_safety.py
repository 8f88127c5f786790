"""The last word, driven by hand: whatever the node does or no longer does, the wire ends at zero."""

from dataclasses import replace

import numpy as np
import pytest

from spec_vla_ros.motion.intent import Intent, Pose, Report, Step
from spec_vla_ros.motion.safety import SafetyLoop, Wire
from spec_vla_ros.motion.watchdog import Fault, Limits

PERIOD, STEP_DT = 0.01, 0.2
LAST_WORDS, ZERO_FIRST, STALE_STEP = 0.25, 0.2, 0.25  # s, as documented
LIMITS = Limits(image=0.5, first_image=3.0, inference=2.0, heartbeat=0.25, pose=0.4, linear=0.5, angular=2.0)
TWIST = (0.1, -0.2, 0.05, 0.3, 0.0, -0.1)


class Bench:
    """A loop, a node that beats, and a clock that is moved by hand. ``wants``: changes of every intent."""

    def __init__(self, listeners=1, **wants):
        self.loop, self.now, self.listeners = SafetyLoop(PERIOD), 50.0, listeners
        self.wants = {"run": 1, "commanding": True, "limits": LIMITS, **wants}
        self.beating = self.filming = True
        self.captured_at = self.now
        self.sent = []

    def tell(self, **changes):
        self.wants |= changes
        return self.loop.take(Intent(at=self.now, captured_at=self.captured_at, **self.wants), self.now)

    def ticks(self, count):
        """What is said at the next ``count`` ticks; None where nothing is."""
        said = []
        for _ in range(count):
            if self.filming:
                self.captured_at = self.now
            if self.beating:
                self.tell()
            said.append(self.loop.tick(self.now, self.listeners))
            self.now += PERIOD
        self.sent += said
        return said

    def step(self, number=1, twist=TWIST, seconds=STEP_DT, age=0.0):
        return self.tell(step=Step(number, twist, seconds, self.now - age), steps=number)

    @property
    def report(self):
        return self.loop.report(self.now)


def moving(bench=None):
    bench = bench or Bench()
    bench.ticks(3)
    assert bench.step()
    assert is_moving(bench.ticks(5))
    return bench


def is_moving(said):
    return all(twist is not None and twist.shape == (6,) and twist.any() for twist in said)


def is_zero(said):
    return all(twist is not None and twist.shape == (6,) and not twist.any() for twist in said)


def test_before_it_is_told_anything_it_has_nothing_to_report():
    assert SafetyLoop(PERIOD).report(7.0) == Report(at=7.0)


def test_a_report_names_the_intent_that_it_follows():
    """By which a node tells what it was waiting for from what was under way before it asked."""
    bench = moving()
    bench.tell(run=0)
    assert bench.report.heard == bench.now


def test_a_step_is_streamed_for_its_time_between_zeros():
    bench = Bench()
    assert is_zero(bench.ticks(5))
    bench.step()
    ticks = bench.ticks(30)
    np.testing.assert_allclose(np.sum(ticks, 0) * PERIOD, np.array(TWIST) * STEP_DT)
    assert is_zero(ticks[21:])


def test_an_intent_that_repeats_itself_does_not_repeat_the_step():
    bench = moving()
    bench.ticks(30)
    assert not bench.step()
    assert is_zero(bench.ticks(5))
    assert bench.step(2)
    assert is_moving(bench.ticks(5))


def test_a_step_with_a_smaller_number_is_history():
    bench = Bench()
    bench.ticks(1)
    bench.step(5)
    bench.ticks(30)
    assert not bench.step(4)
    assert is_zero(bench.ticks(3))


def test_the_report_says_when_the_step_began_and_when_zero_came():
    bench = Bench()
    bench.ticks(3)
    bench.step()
    assert (bench.report.step, bench.report.accepted, bench.report.moving) == (1, True, True)
    bench.ticks(20)
    assert bench.report.moving
    at = bench.now
    bench.ticks(1)
    assert not bench.report.moving
    assert bench.report.zero_at == at
    bench.ticks(9)
    assert bench.report.zero_at == at


def test_a_heartbeat_in_mid_step_asks_for_no_velocity_out_of_turn():
    bench = moving()
    assert not bench.tell()


def test_steps_are_counted_from_one():
    bench = Bench()
    assert not bench.step(0)
    assert is_zero(bench.ticks(3))
    bench.step(1)
    bench.ticks(30)
    bench.tell(run=2, step=None, steps=0)
    assert not bench.step(0)
    assert is_zero(bench.ticks(3))


@pytest.mark.parametrize("wants", [{"commanding": False}, {"run": 0}, {"run": 0, "commanding": False}])
def test_nothing_is_said_unless_the_node_is_active_and_commands(wants):
    bench = Bench(**wants)
    bench.step()
    assert bench.ticks(30) == [None] * 30
    assert not bench.report.on_wire


def test_a_node_that_is_not_active_begins_no_step_and_is_not_watched():
    bench = Bench(run=0)
    bench.step()
    assert (bench.report.step, bench.report.accepted, bench.report.moving) == (1, False, False)
    bench.beating = bench.filming = False
    bench.ticks(400)
    assert bench.report.fault is None


def test_a_dry_run_takes_its_time_and_says_nothing():
    """The next image is taken when the step would have ended, as if the arm had moved."""
    bench = Bench(commanding=False)
    bench.ticks(1)
    bench.step()
    assert bench.ticks(20) == [None] * 20
    assert bench.report.moving
    bench.ticks(1)
    assert not bench.report.moving


def test_a_step_that_began_in_a_dry_run_does_not_end_on_the_arm():
    bench = Bench(commanding=False)
    bench.ticks(1)
    bench.step()
    bench.ticks(5)
    bench.tell(commanding=True)
    assert is_zero(bench.ticks(20))


@pytest.mark.parametrize("change", [{"commanding": False}, {"run": 0}])
def test_the_end_of_commanding_is_zero_for_as_long_as_an_arm_waits(change):
    """One zero may get lost; an arm that waits 0.1 s for the next velocity has to hear several."""
    bench = moving()
    bench.tell(**change, step=None)
    said = bench.ticks(round(LAST_WORDS / PERIOD) + 5)
    words = [twist for twist in said if twist is not None]
    assert is_zero(words)
    assert len(words) * PERIOD == pytest.approx(LAST_WORDS, abs=2 * PERIOD)
    assert said[-1] is None
    assert bench.loop.wire is Wire.SILENT


def test_the_last_words_are_over_on_time():
    bench = moving()
    bench.now = 64.0
    bench.tell(run=0, step=None)
    for at, said in ((64.24, True), (64.25, False)):
        assert (bench.loop.tick(at, 1) is not None) is said


def test_the_end_of_commanding_ends_the_step():
    bench = moving()
    bench.tell(commanding=False)
    at = bench.now
    bench.ticks(1)
    assert not bench.report.moving
    assert bench.report.zero_at == at


def test_a_dry_run_that_follows_at_once_is_not_heard_in_the_last_words():
    bench = moving()
    bench.tell(commanding=False)
    assert bench.step(2)
    assert is_zero(bench.ticks(10))
    assert bench.report.moving, "in thought"


def test_activation_while_the_last_words_are_said_begins_at_zero():
    bench = moving()
    bench.tell(run=0)
    bench.ticks(3)
    bench.tell(run=2, step=None, steps=0)
    assert is_zero(bench.ticks(60))
    assert bench.step()
    assert is_moving(bench.ticks(5))


@pytest.mark.parametrize("step", [None, Step(0, TWIST, STEP_DT, 50.0)])
def test_a_new_run_does_not_go_on_with_the_step_of_the_former(step):
    bench = moving()
    bench.tell(run=2, step=step, steps=0)
    report = bench.report
    assert (report.run, report.step, report.accepted, report.moving) == (2, 0, False, False)
    assert is_zero(bench.ticks(5))


def test_a_node_that_falls_silent_in_mid_step():
    bench = moving(Bench())
    bench.beating = False
    bench.step(2, seconds=5.0)
    assert is_moving(bench.ticks(25))
    bench.ticks(1)
    assert is_zero(bench.ticks(5))
    assert bench.report.fault.name == "NODE_SILENT"
    bench.beating = True
    assert is_zero(bench.ticks(30)), "latched"
    bench.tell(run=2, step=None, steps=0)
    bench.ticks(1)
    bench.step(1)
    assert is_moving(bench.ticks(5))


def test_a_camera_that_stops_in_mid_step():
    bench = moving()
    bench.filming = False
    bench.step(2, seconds=5.0)
    assert is_moving(bench.ticks(49))
    bench.ticks(3)
    assert is_zero(bench.ticks(5))
    assert bench.report.fault.name == "IMAGE_STALE"


def test_a_worker_that_hangs_while_a_step_is_streamed():
    bench = moving()
    bench.tell(busy_since=bench.now - 2.1)
    assert is_zero(bench.ticks(5))
    assert bench.report.fault.name == "WORKER_HUNG"


def test_a_fault_of_the_node_stops_at_once_and_stays():
    bench = moving()
    fault = Fault("SECOND_PUBLISHER", "two", "one")
    assert bench.tell(fault=fault), "zero is due now"
    assert is_zero(bench.ticks(3))
    assert bench.report.fault == fault
    bench.tell(fault=None)
    assert not bench.step(2)
    assert is_zero(bench.ticks(3))
    assert not bench.report.accepted


def test_what_is_taken_back_ends_at_the_next_tick():
    bench = moving()
    assert bench.tell(step=None)
    assert is_zero(bench.ticks(5))
    assert not bench.tell(step=None), "there is nothing to end"


def test_the_report_of_a_step_that_was_taken_back_stands():
    bench = moving()
    bench.tell(step=None)
    at = bench.now
    bench.ticks(5)
    assert (bench.report.step, bench.report.accepted, bench.report.moving) == (1, True, False)
    assert bench.report.zero_at == at


def test_a_step_that_was_taken_back_unseen_counts_as_over():
    bench = Bench()
    bench.ticks(3)
    bench.tell(step=None, steps=1)
    assert (bench.report.step, bench.report.accepted, bench.report.moving) == (1, False, False)
    assert bench.report.zero_at == bench.now


@pytest.mark.parametrize(("age", "begins"), [(STALE_STEP, True), (STALE_STEP + 0.001, False)])
def test_a_step_that_waited_for_a_suspended_process_is_refused(age, begins):
    bench = Bench()
    assert bench.step(age=age) is begins
    assert bench.report.accepted is begins
    assert is_moving(bench.ticks(3)) is begins


def test_a_step_that_is_refused_ends_the_one_before_it():
    bench = moving()
    assert bench.step(2, age=1.0), "zero is due now"
    assert not bench.report.accepted
    assert is_zero(bench.ticks(3))


def test_a_lower_speed_limit_acts_at_the_next_tick_and_keeps_the_direction():
    bench = moving()
    bench.tell(limits=replace(LIMITS, linear=0.05))
    (twist,) = bench.ticks(1)
    assert np.linalg.norm(twist[:3]) == pytest.approx(0.05)
    np.testing.assert_allclose(twist / np.linalg.norm(twist), np.array(TWIST) / np.linalg.norm(TWIST))
    bench.tell(limits=replace(LIMITS, angular=0.0))
    assert is_zero(bench.ticks(1))


def test_velocities_that_are_not_finite_never_reach_the_wire():
    bench = Bench()
    bench.ticks(1)
    bench.step(twist=(np.nan,) * 6)
    assert is_zero(bench.ticks(3))
    assert bench.report.fault.name == "NON_FINITE"


# -- the tool's place ------------------------------------------------------------------------------------------------


BOX = ((0.0, -1.0, 0.0), (1.0, 1.0, 1.0))


def placed(bench, position=(0.5, 0.0, 0.5), rotation=None, age=0.0):
    bench.tell(box=BOX, needs_pose=True, pose=Pose(position, rotation, bench.now - age))
    return bench


def test_the_box_holds_at_every_tick():
    bench = placed(moving())
    assert is_moving(bench.ticks(1))
    placed(bench, (1.0, 0.0, 0.5))
    (twist,) = bench.ticks(1)
    assert twist[0] == 0.0
    np.testing.assert_allclose(twist[1:], TWIST[1:])
    assert bench.report.at_wall == 1


def test_the_node_hears_what_the_box_and_limits_hold_back():
    bench = placed(moving(), (1.0, 0.0, 0.5), rotation=(0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)))
    bench.ticks(4)
    at_wall = np.array([4 * PERIOD * TWIST[0], 0, 0, 0, 0, 0])
    placed(bench, (0.5, 0.0, 0.5))
    bench.ticks(1)
    np.testing.assert_allclose(bench.report.held_back, at_wall, err_msg="in base axes, of the ticks that are over")
    bench.ticks(2)
    np.testing.assert_allclose(bench.report.held_back, at_wall)
    bench.tell(limits=replace(LIMITS, linear=0.5 * float(np.linalg.norm(TWIST[:3]))), needs_pose=False)
    (twist,) = bench.ticks(1)
    bench.tell(step=None)
    bench.ticks(1)
    np.testing.assert_allclose(np.array(bench.report.held_back) - at_wall, PERIOD * (np.array(TWIST) - twist))
    bench.tell(run=2)
    bench.ticks(1)
    assert bench.report.held_back == (0.0,) * 6


def test_a_dry_run_holds_nothing_back():
    bench = Bench(commanding=False)
    bench.ticks(3)
    placed(bench, (1.0, 0.0, 0.5))
    bench.step()
    bench.ticks(5)
    assert bench.report.held_back == (0.0,) * 6


def test_velocities_are_turned_into_the_command_frame():
    bench = placed(moving(), rotation=(0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)))  # a quarter turn about z
    (twist,) = bench.ticks(1)
    np.testing.assert_allclose(twist[:3], [-TWIST[1], TWIST[0], TWIST[2]], atol=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        {"pose": None},
        {"pose": Pose(None, None, 50.0)},
        {"pose": Pose((0.5, 0.0, 0.5), (np.nan, 0.0, 0.0, 1.0), 50.0)},
        {"pose": Pose((np.nan, 0.0, 0.5), None, 50.0)},
    ],
)
def test_an_unknown_place_stops_the_arm(change):
    bench = placed(moving())
    bench.tell(**change)
    at = bench.now
    assert is_zero(bench.ticks(1))
    assert (bench.report.fault.name, bench.report.moving, bench.report.zero_at) == ("POSE_UNKNOWN", False, at)
    assert is_zero(bench.ticks(3))


def test_a_place_that_gets_old_stops_the_arm():
    bench = moving()
    bench.step(2, seconds=5.0)
    placed(bench, age=0.39)
    assert is_moving(bench.ticks(1))
    bench.ticks(1)
    assert is_zero(bench.ticks(3))
    assert bench.report.fault.name == "POSE_UNKNOWN"


def test_a_place_may_be_as_old_as_the_limit():
    bench = placed(Bench(limits=replace(LIMITS, pose=0.5)), age=0.5)
    bench.step()
    assert is_moving(bench.ticks(1))
    assert is_zero(bench.ticks(1))


def test_a_place_whose_age_nobody_has_limited_is_too_old():
    bench = placed(Bench(limits=replace(LIMITS, pose=Limits().pose)), age=0.01)
    bench.step()
    assert is_zero(bench.ticks(1))


def test_a_place_that_never_changes_does_not_get_old():
    bench = moving()
    bench.tell(needs_pose=True, pose=Pose((0.5, 0.0, 0.5), None, None))
    assert is_moving(bench.ticks(10))


def test_nobody_needs_to_know_the_place_of_an_arm_that_stands():
    bench = Bench(needs_pose=True)
    assert is_zero(bench.ticks(10))
    assert bench.report.fault is None


# -- who listens -----------------------------------------------------------------------------------------------------


def test_whoever_begins_to_listen_in_mid_step_hears_zero_first():
    bench = moving()
    bench.listeners = 2
    said = bench.ticks(round(ZERO_FIRST / PERIOD))
    assert is_zero(said)
    assert bench.report.newcomers == 1
    assert not bench.report.moving
    bench.ticks(1)
    assert bench.step(2)
    assert is_moving(bench.ticks(5))


def test_no_step_begins_while_a_newcomer_hears_its_zeros():
    bench = moving()
    bench.listeners = 2
    bench.ticks(5)
    assert not bench.step(2)
    assert not bench.report.accepted
    assert is_zero(bench.ticks(30))


def test_the_zeros_for_a_newcomer_are_over_on_time():
    bench = moving()
    bench.now, bench.listeners = 64.0, 2
    bench.ticks(1)
    bench.now = 64.0 + ZERO_FIRST - 0.001
    assert not bench.step(2)
    bench.now = 64.0 + ZERO_FIRST
    assert bench.step(3)


def test_the_report_counts_who_listens_while_driving():
    bench = Bench(listeners=3)
    assert bench.report.listeners == 0, "nobody has counted yet"
    bench.ticks(1)
    assert bench.report.listeners == 3


def test_whoever_comes_in_a_dry_run_breaks_nothing_off():
    bench = Bench(commanding=False)
    bench.ticks(1)
    bench.step()
    bench.ticks(3)
    bench.listeners = 2
    bench.ticks(3)
    assert bench.report.moving
    assert bench.report.newcomers == 0


def test_whoever_came_between_two_activations_is_no_newcomer():
    bench = moving()
    bench.tell(run=0, step=None)
    bench.ticks(60)
    bench.listeners = 2
    bench.tell(run=2, steps=0)
    bench.ticks(1)
    assert bench.step()
    assert is_moving(bench.ticks(3))
    assert bench.report.newcomers == 0


def test_the_first_arm_that_comes_hears_zero_first():
    bench = moving(Bench(listeners=0))
    bench.listeners = 1
    assert is_zero(bench.ticks(5))


def test_somebody_who_leaves_breaks_nothing_off():
    bench = moving(Bench(listeners=2))
    bench.listeners = 1
    assert is_moving(bench.ticks(5))
    assert bench.report.newcomers == 0


def test_who_listened_before_commanding_began_is_no_newcomer():
    bench = Bench(listeners=3, commanding=False)
    bench.ticks(3)
    bench.tell(commanding=True)
    assert is_zero(bench.ticks(1))
    assert bench.step()
    assert is_moving(bench.ticks(3))


# -- the end ---------------------------------------------------------------------------------------------------------


def gone(bench):
    bench.beating = False
    bench.loop.leave(bench.now)


def told_to_leave(bench):
    bench.tell(leave=True)


@pytest.mark.parametrize("end", [gone, told_to_leave])
def test_the_end_of_the_node_is_zeros_and_then_the_end_of_the_loop(end):
    bench = moving()
    end(bench)
    said = bench.ticks(round(LAST_WORDS / PERIOD) + 3)
    assert is_zero(said[:-3])
    assert said[-1] is None
    assert bench.loop.wire is Wire.OVER


@pytest.mark.parametrize("end", [gone, told_to_leave])
def test_an_end_on_purpose_is_no_fault(end):
    """Whoever is gone is not missed while the last words are said."""
    bench = moving(Bench(limits=replace(LIMITS, heartbeat=0.1)))
    end(bench)
    bench.beating = False
    bench.ticks(20)
    assert bench.report.fault is None


@pytest.mark.parametrize("end", [gone, told_to_leave])
def test_a_loop_that_was_silent_ends_without_a_word(end):
    bench = Bench(run=0)
    bench.ticks(1)
    end(bench)
    assert bench.ticks(3) == [None] * 3
    assert bench.loop.wire is Wire.OVER


def test_after_a_signal_no_intent_starts_anything_any_more():
    """Ctrl-C reaches this process first; the node still beats."""
    bench = moving()
    bench.loop.leave(bench.now)
    assert not bench.step(2)
    assert not bench.report.accepted
    assert is_zero(bench.ticks(10))
    bench.tell(run=5, step=None, steps=0)
    bench.step(1)
    said = bench.ticks(60)
    assert not any(twist is not None and twist.any() for twist in said)
    assert bench.loop.wire is Wire.OVER


def test_a_second_signal_does_not_prolong_the_last_words():
    bench = moving()
    bench.loop.leave(bench.now)
    bench.ticks(20)
    bench.loop.leave(bench.now)
    assert bench.ticks(10)[-1] is None


def following(bench, number=2, twist=TWIST, seconds=STEP_DT, age=0.0, **changes):
    """The step under way, and what shall begin where it ends."""
    return bench.tell(following=Step(number, twist, seconds, bench.now - age), steps=number, **changes)


OTHER = (-0.05, 0.1, 0.0, 0.0, 0.2, 0.0)


def test_a_step_begins_where_the_one_before_it_ends():
    bench = moving()
    following(bench, twist=OTHER)
    said = np.array(bench.ticks(45))
    np.testing.assert_allclose(said[:15], np.tile(TWIST, (15, 1)))
    np.testing.assert_allclose(said[15:35], np.tile(OTHER, (20, 1)))
    assert not said[35:].any()
    assert (bench.report.step, bench.report.accepted, bench.report.moving) == (2, True, False)


def test_when_a_step_began_is_reported():
    bench = moving()
    assert bench.report.began_at == pytest.approx(bench.now - 5 * PERIOD)
    following(bench)
    bench.ticks(16)
    assert bench.report.began_at == pytest.approx(bench.now - PERIOD)
    bench.tell(step=None, following=None, steps=3)
    assert bench.report.began_at == 0.0, "of a step that never began"


def test_what_should_follow_a_step_that_is_over_begins_at_once():
    bench = moving()
    bench.ticks(20)
    assert following(bench, twist=OTHER), "a velocity is due now"
    np.testing.assert_allclose(bench.ticks(1)[0], OTHER)


def test_a_stale_intent_does_not_bring_back_a_step_that_has_been_followed():
    bench = moving()
    following(bench, twist=OTHER)
    bench.ticks(17)
    bench.tell()  # the node has not heard of it yet
    np.testing.assert_allclose(bench.ticks(1)[0], OTHER)
    assert bench.report.step == 2


def test_what_was_to_follow_may_be_taken_back():
    bench = moving()
    following(bench, twist=OTHER)
    bench.ticks(3)
    bench.tell(following=None)
    said = bench.ticks(30)
    assert is_moving(said[:12])
    assert is_zero(said[12:])
    assert bench.report.step == 1


@pytest.mark.parametrize("what", ["step", "fault", "leave", "run", "hold"])
def test_nothing_follows_what_was_stopped(what):
    bench = moving()
    following(bench, twist=OTHER)
    bench.ticks(3)
    if what == "step":
        bench.tell(step=None, following=None)
    elif what == "fault":
        bench.tell(fault=Fault("X", "y", "z"))
    elif what == "leave":
        bench.loop.leave(bench.now)
        bench.beating = False
    elif what == "run":
        bench.tell(run=0)
    else:
        bench.loop.hold(bench.now)
    assert not np.any([twist for twist in bench.ticks(20) if twist is not None])


def test_nothing_follows_once_the_node_is_silent():
    bench = moving()
    following(bench, twist=OTHER)
    bench.beating = False
    said = bench.ticks(60)
    assert is_zero(said[26:])
    assert bench.report.fault.name == "NODE_SILENT"


def test_what_follows_was_decided_lately():
    """The time for which it waits for the end of the other one aside."""
    bench = moving()
    following(bench, twist=OTHER, age=STALE_STEP - 0.01)
    assert is_moving(bench.ticks(20))
    bench = moving()
    following(bench, twist=OTHER, age=STALE_STEP + 0.01)
    assert is_zero(bench.ticks(20)[15:])
    assert (bench.report.step, bench.report.accepted, bench.report.moving) == (2, False, False)


def test_a_loop_that_stood_still_begins_nothing_on_its_return():
    bench = moving()
    following(bench, twist=OTHER)
    bench.now += 2.0
    bench.captured_at = bench.now
    bench.tell()
    assert is_zero(bench.ticks(5))


def test_a_listener_that_comes_hears_zero_and_nothing_follows():
    bench = moving()
    following(bench, twist=OTHER)
    bench.ticks(3)
    bench.listeners = 2
    assert is_zero(bench.ticks(25))
    assert bench.report.newcomers == 1


def test_what_was_decided_in_a_dry_run_does_not_begin_with_its_end():
    """The first word to an arm is zero, whatever was to follow."""
    bench = Bench(commanding=False)
    bench.ticks(3)
    bench.step()
    bench.ticks(5)
    following(bench, twist=OTHER)
    bench.ticks(2)
    bench.tell(commanding=True)
    assert is_zero(bench.ticks(30))
    assert (bench.report.step, bench.report.accepted, bench.report.commanded) == (2, False, False)
    assert bench.report.began_at == 0.0


def test_a_refused_step_never_began():
    bench = moving()
    following(bench, twist=OTHER, age=STALE_STEP + 0.01)
    bench.ticks(20)
    assert (bench.report.accepted, bench.report.began_at) == (False, 0.0)
