"""The judge of the fault campaign: every kind of unsafe command is seen, and nothing else is."""

import math

import pytest

from spec_vla_ros.bench.wire import fault_monitor as judge
from spec_vla_ros.bench.wire.fault_events import (
    ACT,
    GROUP,
    SAFETY,
    Action,
    Answered,
    Asked,
    Deaf,
    Ended,
    Gripper,
    Idle,
    Image,
    InForce,
    Injected,
    Limits,
    Shown,
    Signalled,
    Started,
    Twist,
)
from spec_vla_ros.bench.wire.fault_monitor import Monitor

STEP = 0.2  # s
FAST = (0.04, 0.0, 0.0, 0.0, 0.0, 0.0)  # m/s
ZERO = (0.0,) * 6
REFUSED = [Asked(0.15, "activate"), Answered(0.2, "activate", False)]


class Log:
    """Writes a story in order of time, from a node that was activated at 0 s and hears a camera."""

    def __init__(self, active=True, steady=False):
        self.monitor = Monitor("base_link", 0.01, STEP, steady)
        self.now = 0.0
        self.feed(Started(-1.0), Limits(-1.0, 0.04, 0.4, 0.4))
        if active:
            self.feed(Asked(0.0, "activate"), Answered(0.01, "activate", True))
        self.image()

    def feed(self, *events):
        for event in events:
            self.monitor.feed(event)
        return self

    def image(self, age=0.0):
        return self.feed(Image(self.now, self.now - age))

    def twist(self, values=FAST, lag=0.001, frame="base_link", stamp=None, clock=None, sent=None):
        now = self.now
        clock = clock or (100.0 + now - lag, 100.0 + now)
        stamp = 100.0 + now if stamp is None else stamp
        self.feed(Twist(now, now - lag, values, frame, stamp, clock, sent))
        self.now += 0.01
        return self

    def wait(self, seconds, images=True):
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.03)
            if images:
                self.image()
            self.feed(Idle(self.now))
        return self

    def action(self, values=FAST, step_dt=STEP, commanded=True):
        motion = tuple(value * step_dt for value in values)
        return self.feed(Action(self.now, self.now - 0.001, motion, step_dt, commanded))

    def step(self, values=FAST, ticks=20, announced=None):
        """One action: its message, its velocities, zero."""
        if announced is not False:
            self.action(values if announced is None else announced)
        for _ in range(ticks):
            self.image().twist(values)
        return self.twist(ZERO)

    def zeros(self, count=5):
        for _ in range(count):
            self.image().twist(ZERO)
        return self

    def rules(self):
        return [unsafe.rule for unsafe in self.monitor.unsafe]

    def settled(self):
        """Rules that were broken, once there is nothing left to wait for."""
        for _ in range(100):
            self.image().twist(ZERO).feed(Idle(self.now))
        return self.rules()


def test_a_node_that_does_as_it_should_is_not_blamed():
    log = Log()
    for values in (FAST, (0.0, -0.04, 0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0, 0.4, 0.0)):
        log.step(values).zeros()
    assert log.settled() == []
    assert log.monitor.moving_commands == 60
    assert max(log.monitor.overshoot.values()) < 1e-6


@pytest.mark.parametrize(
    ("values", "rules"),
    [
        ((0.041, 0, 0, 0, 0, 0), ["too fast"]),
        ((0.03, 0.03, 0, 0, 0, 0), ["too fast"]),
        ((0, 0, 0, 0.3, 0, 0.3), ["too fast"]),
        ((float("nan"), 0, 0, 0, 0, 0), ["not finite"]),
        ((0, 0, 0, 0, 0, float("-inf")), ["not finite", "too fast"]),
        ((0.04, 0, 0, 0, 0, 0.4), []),
    ],
)
def test_a_velocity_beyond_the_limits(values, rules):
    assert Log().twist(values).rules() == rules


def test_a_limit_that_was_lowered_holds_soon_after_the_node_has_confirmed_it():
    log = Log().feed(Limits(0.0, 0.02, 0.4, 0.4, number=1))
    for _ in range(40):
        log.image().twist()
    assert log.rules() == [], "not confirmed"
    log.feed(InForce(log.now, 1))
    for _ in range(round(judge.LIMITS_LAST / 0.01)):
        log.image().twist()
    assert log.rules() == []
    log.now += 0.01
    assert log.image().twist().rules() == ["too fast"]


def test_a_confirmed_limit_does_not_hide_one_that_was_asked_for_later():
    log = Log().feed(Limits(0.0, 0.02, 0.4, 0.4, number=1), Limits(0.0, 0.04, 0.4, 0.4, number=2), InForce(0.0, 1))
    log.now = 0.3
    assert log.image().twist().rules() == []


def test_a_confirmed_limit_stays_until_a_later_one_is_confirmed():
    log = Log().feed(Limits(0.0, 0.04, 0.4, 0.4, number=1), Limits(0.0, 0.02, 0.4, 0.4, number=2), InForce(0.0, 1))
    log.now = 0.3
    assert log.image().twist().rules() == []


def test_a_velocity_that_was_sent_before_a_limit_was_lowered():
    log = Log().feed(Limits(0.0, 0.02, 0.4, 0.4, number=1), InForce(0.0, 1))
    log.now = 0.3
    assert log.image().twist(lag=0.25).rules() == []
    assert log.image().twist(sent=0.05).rules() == []


def test_a_wrong_frame():
    assert Log().twist(frame="camera").rules() == ["wrong frame"]


@pytest.mark.parametrize(("off", "rules"), [(-0.11, ["wrong stamp"]), (0.11, ["wrong stamp"]), (0.09, []), (-0.09, [])])
def test_a_stamp_of_another_time(off, rules):
    assert Log().twist(stamp=100.0 + off).rules() == rules


def test_a_stamp_may_be_older_where_the_machine_is_kept_busy():
    log = Log().feed(Injected(0.0, "starved", None, late=2.0))
    assert log.twist(stamp=99.6).rules() == []
    assert log.twist(stamp=99.4).twist(stamp=100.2).rules() == ["wrong stamp", "wrong stamp"]
    log = Log().feed(Injected(-3.0, "starved", None, late=2.0))
    assert log.twist(stamp=99.6).rules() == ["wrong stamp"], "that is over"


def test_a_stamp_is_compared_with_all_that_the_clock_showed_while_the_message_may_have_waited():
    log = Log()
    assert log.twist(stamp=40.0, clock=(40.0, 100.0)).rules() == []
    assert log.twist(stamp=39.8, clock=(40.0, 100.0)).rules() == ["wrong stamp"]


def test_blind_driving():
    log = Log()
    log.now = 0.4 + judge.BLIND
    assert log.twist().rules() == []
    assert log.twist().rules() == ["blind"], "10 ms later"


def test_images_that_are_old_on_arrival_do_not_count():
    log = Log()
    log.now = 1.0
    log.image(age=5.0)
    assert log.twist().rules() == ["blind"]


def test_a_message_that_may_have_waited_is_given_the_benefit_of_the_doubt():
    log = Log()
    log.now = 0.6
    assert log.twist(lag=0.2).rules() == []
    assert log.monitor.listener_lag == pytest.approx(0.2)


@pytest.mark.parametrize("latched", [True, False])
def test_motion_after_a_fault_was_shown(latched):
    log = Log().step()
    log.feed(Shown(log.now, "IMAGE_STALE", latched))
    assert log.zeros().rules() == []
    assert log.twist().rules() == ["after a fault"]


def test_a_velocity_that_overtook_the_diagnostics_is_no_motion_after_the_fault():
    log = Log()
    log.feed(Shown(0.1, "IMAGE_STALE", True))
    log.now = 0.105
    assert log.twist(lag=0.001).rules() == []


def test_only_activation_from_inactive_lifts_a_latched_fault():
    log = Log()
    log.feed(Shown(0.1, "IMAGE_STALE", True))
    for what in ("instruction", "activate", "dry run off"):
        log.feed(Asked(0.2, what))
    log.now = 0.3
    assert log.image().action().twist().rules() == ["after a fault"]
    log.twist(ZERO).feed(Asked(0.4, "deactivate"), Answered(0.41, "deactivate", True), Asked(0.42, "activate"))
    log.now = 0.43
    assert log.image().step().settled() == ["after a fault"]


def test_a_good_instruction_lifts_a_hold_and_a_late_report_does_not_bring_it_back():
    log = Log()
    log.feed(Shown(0.1, "NO_INSTRUCTION", False), Asked(0.5, "instruction"), Shown(0.501, "NO_INSTRUCTION", False))
    log.now = 0.6
    assert log.image().step().settled() == []
    log.feed(Shown(log.now, "NO_INSTRUCTION", False))
    log.now += 0.1
    assert log.image().twist().rules() == ["after a fault"]


def test_good_words_that_are_a_fault_themselves_lift_a_hold_and_no_deadline():
    log = Log().feed(Injected(0.0, "200 instructions", 0.75), Shown(0.1, "INSTRUCTION_INVALID", False))
    log.feed(Asked(0.2, "words"))
    log.now = 0.4
    assert log.image().step().settled() == []
    log.now = 0.8
    assert log.image().twist().rules() == ["after a fault"]


@pytest.mark.parametrize(("late", "rules"), [(4.0, []), (0.0, ["after a fault"])])
def test_a_hold_that_is_shown_late_because_the_node_could_not_speak(late, rules):
    log = Log().feed(Injected(0.0, "log that nobody reads", None, late), Asked(0.5, "instruction"))
    log.feed(Shown(1.0, "NO_INSTRUCTION", False))
    log.now = 1.1
    assert log.image().action().twist().rules() == rules


def test_an_injected_fault_that_has_no_effect_in_time():
    log = Log()
    log.feed(Injected(0.0, "camera stops", 0.3), Injected(0.0, "camera at 200 Hz", None))
    log.now = 0.25
    assert log.twist().rules() == []
    log.now = 0.32
    log.twist()
    assert [(unsafe.rule, unsafe.kind) for unsafe in log.monitor.unsafe] == [("after a fault", "camera at 200 Hz")]


@pytest.mark.parametrize("command", ["twist", "gripper"])
@pytest.mark.parametrize(
    ("events", "rules"),
    [
        ([], []),
        ([Answered(0.1, "deactivate", True)], ["not active"]),
        ([Answered(0.1, "deactivate", False)], []),
        ([Answered(0.1, "shutdown", True)], ["not active"]),
        ([Answered(0.1, "dry run on", True)], ["dry run"]),
        ([Answered(0.1, "dry run on", True), Asked(0.2, "dry run off")], []),
        (
            [Answered(0.1, "deactivate", True), Asked(0.15, "activate"), Answered(0.2, "activate", False)],
            ["not active"],
        ),
        (REFUSED, []),
        ([Signalled(0.0, "SIGINT")], ["told to stop"]),
        ([Signalled(0.0, "SIGTERM")], ["told to stop"]),
        ([Signalled(0.0, "SIGKILL")], ["told to stop"]),
        ([Signalled(0.0, "SIGTERM", GROUP)], ["told to stop"]),
        ([Signalled(0.0, "SIGTERM", SAFETY)], ["told to stop"]),
        ([Signalled(0.0, "SIGSTOP"), Signalled(0.1, "SIGCONT")], []),
        ([Signalled(0.0, "SIGSTOP", SAFETY), Signalled(0.1, "SIGCONT", SAFETY)], []),
        ([Signalled(0.2, "SIGINT")], []),
        ([Injected(-0.1, "kept busy", None, late=1.0), Signalled(0.0, "SIGINT")], []),
    ],
)
def test_commands_of_a_node_that_may_not_move(events, rules, command):
    log = Log().feed(*events)
    log.now = 0.3
    log.image()
    if command == "twist":
        log.twist()
    else:
        log.feed(Gripper(log.now, log.now - 0.001))
    assert log.rules() == rules


def test_commands_before_activation():
    assert Log(active=False).twist().rules() == ["not active"]
    assert Log(active=False).feed(Asked(-0.1, "activate")).twist().rules() == []


def test_a_process_that_was_started_anew_has_to_be_activated_anew():
    log = Log().step()
    log.feed(Ended(log.now), Started(log.now + 0.1))
    log.now += 0.2
    assert log.image().twist().rules() == ["not active"]


def test_only_the_child_that_was_told_to_end_has_a_successor():
    for whom, rules in ((SAFETY, []), (ACT, ["told to stop"])):
        log = Log().feed(Signalled(0.0, "SIGTERM", whom), Shown(0.1, "SAFETY_LOOP_GONE", True))
        log.feed(Asked(0.3, "deactivate"), Answered(0.4, "deactivate", True), Asked(0.5, "activate"))
        log.now = 0.6
        assert log.image().twist().rules() == rules


def test_silence_after_motion():
    log = Log().action().twist()
    assert log.wait(judge.SILENCE - 0.05).rules() == []
    assert log.wait(0.2).rules() == ["no zero at the end"]


@pytest.mark.parametrize(("interval", "rules"), [(0.1, []), (0.12, ["gap"])])
@pytest.mark.parametrize("following", [FAST, ZERO])
def test_a_gap_after_a_velocity(interval, rules, following):
    log = Log().action().twist()
    log.now = interval
    assert log.image().twist(following).rules() == rules


def test_there_may_be_a_gap_after_zero():
    log = Log().step()
    log.now += 0.3
    assert log.image().step().settled() == []


def test_a_gap_that_the_stamps_do_not_have_is_the_listeners():
    log = Log().action().twist(sent=0.0)
    log.now = 0.3
    assert log.image().twist(sent=0.01, lag=0.001).rules() == []
    log.now = 0.6
    assert log.image().twist(sent=0.55).rules() == ["gap"]


def test_a_velocity_that_came_late_leaves_no_gap_at_the_arm():
    log = Log()
    log.now = 0.25
    log.image().action().twist(sent=0.0)
    log.now = 0.3
    assert log.image().twist(sent=0.299).rules() == []


def test_a_late_listener_sees_no_gap_that_may_be_its_own():
    log = Log().action().twist()
    log.now = 0.3
    assert log.image().twist(lag=0.25).rules() == []


@pytest.mark.parametrize(
    ("events", "rules"),
    [
        ([Signalled(0.02, "SIGSTOP", SAFETY), Signalled(0.29, "SIGCONT", SAFETY)], []),
        ([Signalled(0.02, "SIGSTOP", GROUP), Signalled(0.29, "SIGCONT", GROUP)], []),
        ([Signalled(0.02, "SIGKILL", SAFETY)], []),
        ([Signalled(0.02, "SIGSTOP", ACT), Signalled(0.29, "SIGCONT", ACT)], ["gap"]),
        ([Signalled(0.02, "SIGTERM", SAFETY)], ["gap"]),
        ([Signalled(0.02, "SIGKILL", ACT)], ["gap"]),
    ],
)
def test_only_a_safety_process_that_cannot_run_is_excused_for_a_gap(events, rules):
    log = Log().action().twist().feed(*events)
    log.now = 0.3
    assert log.image().twist(ZERO).rules() == rules


def test_intervals_are_kept_by_kind_and_by_stamps_where_there_are_any():
    log = Log().feed(Injected(0.0, "a storm", None))
    log.action().twist(sent=0.0).twist(sent=0.03, lag=0.02).twist(ZERO, sent=0.031).twist(ZERO, sent=0.06)
    assert log.monitor.intervals == {"a storm": pytest.approx([0.03, 0.001])}


def test_without_stamps_only_what_was_heard_at_once_counts_as_an_interval():
    log = Log().action().twist().twist(lag=0.02).twist().twist(ZERO)
    assert log.monitor.intervals == {"": pytest.approx([0.01])}


def test_silence_after_zero_is_allowed():
    assert Log().step().wait(3.0).rules() == []


def test_the_end_of_the_process_after_motion():
    assert Log().action().twist().feed(Ended(0.02)).rules() == ["no zero at the end"]
    assert Log().action().twist().twist(ZERO).feed(Ended(0.03)).rules() == []


@pytest.mark.parametrize(
    "events",
    [
        [Signalled(0.02, "SIGKILL", GROUP), Ended(0.1)],
        [Signalled(0.02, "SIGSTOP", SAFETY)],
        [Signalled(0.02, "SIGSTOP", GROUP)],
        [Deaf(0.02)],
    ],
)
def test_whoever_cannot_say_it_or_is_not_heard_needs_no_zero(events):
    assert Log().action().twist().feed(*events).wait(2.0).rules() == []


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSTOP"])
def test_a_node_that_was_killed_or_suspended_has_a_child_that_says_zero(name):
    assert Log().action().twist().feed(Signalled(0.02, name)).wait(1.0).rules() == ["no zero at the end"]
    assert Log().action().twist().feed(Signalled(0.02, "SIGKILL"), Ended(0.1)).rules() == ["no zero at the end"]


def test_the_successor_of_a_killed_safety_process_says_zero():
    log = Log().action().twist().feed(Signalled(0.02, "SIGKILL", SAFETY))
    assert log.wait(judge.SUCCESSOR - 0.1).rules() == []
    assert log.wait(0.2).rules() == ["no zero at the end"]
    log = Log().action().twist().feed(Signalled(0.02, "SIGKILL", SAFETY)).wait(1.0)
    assert log.twist(ZERO).wait(3.0).rules() == []


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSTOP"])
def test_what_was_on_its_way_when_the_processes_were_stopped_is_no_lack_of_a_zero(name):
    log = Log().action().twist().feed(Signalled(0.015, name, GROUP))
    assert log.twist().wait(2.0).feed(Ended(2.5)).rules() == []


def test_silence_after_a_suspension_is_judged_again():
    log = Log().action().twist().feed(Signalled(0.02, "SIGSTOP", SAFETY), Signalled(0.05, "SIGCONT", SAFETY))
    log.now = 0.06
    assert log.twist().wait(1.0).rules() == ["no zero at the end"]


@pytest.mark.parametrize("whom", [ACT, GROUP])
def test_a_process_that_is_suspended_between_a_velocity_and_its_action_message(whom):
    log = Log().image().twist().twist(ZERO)
    log.feed(Signalled(0.02, "SIGSTOP", whom), Idle(0.6), Signalled(1.5, "SIGCONT", whom))
    log.now = 1.52
    assert log.action().settled() == []


def test_a_motion_of_a_node_that_was_killed_before_it_could_announce_it():
    def story(killed_at):
        log = Log().step(announced=False).feed(Signalled(killed_at, "SIGKILL"))
        log.now = killed_at + 0.01
        return log.zeros().feed(Ended(killed_at + 0.5)).rules()

    assert story(0.21) == []
    assert story(1.0) == ["unannounced"], "it had time enough"


def test_a_node_that_is_kept_from_its_work_may_announce_late():
    log = Log().feed(Injected(0.0, "kept busy", None, late=1.0)).step(announced=False)
    log.now = 0.9
    assert log.image().action().settled() == []


def test_the_one_command_that_a_suspended_process_was_about_to_send():
    log = Log().action().twist().feed(Signalled(0.02, "SIGSTOP", SAFETY), Signalled(1.0, "SIGCONT", SAFETY))
    log.now = 1.01
    assert log.twist(stamp=100.02).rules() == [], "every sink refuses it"
    assert log.twist(stamp=100.02).rules() == ["wrong stamp", "blind"], "a second one is another matter"


@pytest.mark.parametrize("ticks", [20, 19, 1])
def test_a_step_that_is_as_long_as_its_action_or_shorter(ticks):
    assert Log().step(ticks=ticks).settled() == []


def test_a_step_that_is_one_tick_too_long():
    assert Log().step(ticks=21).settled() == ["too far"]


def test_velocities_that_are_in_force_for_too_long():
    """Few enough to add up, but so far apart that the arm goes much further."""
    log = Log().action()
    for _ in range(6):
        log.image().twist()
        log.now += 0.08
    assert log.twist(ZERO).settled() == ["too far"]


def test_a_sink_may_keep_the_last_velocity_for_its_timeout():
    log = Log().action()
    for _ in range(20):
        log.image().twist()
    log.now += 0.08
    assert log.image().twist(ZERO).settled() == []
    assert max(log.monitor.overshoot.values()) == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize(("lag", "rules"), [(0.15, []), (0.001, ["too far"])])
def test_a_zero_that_waited_for_a_late_listener_is_no_distance(lag, rules):
    """A busy machine brought the judge its messages late; an arm that listens would have stood in time."""
    log = Log().action()
    for tick in range(20):
        log.image().twist()
        log.now += 0.07 * (tick == 10)
    log.now += 0.085
    assert [rule for rule in log.image().twist(ZERO, lag=lag).settled() if rule != "gap"] == rules


def test_a_first_velocity_that_was_read_late_makes_no_motion_longer():
    log = Log().action()
    log.now += 0.15
    log.image().twist(lag=0.15)
    for _ in range(19):
        log.image().twist()
    log.now += 0.08
    assert log.image().twist(ZERO).settled() == []


def test_a_motion_that_nobody_announced():
    assert Log().step(announced=False).settled() == ["unannounced"]
    assert Log().step(announced=(0.0, 0.0, 0.04, 0.0, 0.0, 0.0)).settled() == ["unannounced"], "another direction"
    log = Log().action()
    log.now = 0.5
    assert log.image().step(announced=False).settled() == ["unannounced"], "its action was over long ago"
    assert Log().step().step(announced=False).settled() == ["unannounced"], "an action moves once"


def paused(log, before, pause, after, values=FAST):
    """One announced step, at zero in its midst."""
    log.action()
    for count, velocity in ((before, FAST), (pause, ZERO), (after, values)):
        for _ in range(count):
            log.image().twist(velocity)
    return log.twist(ZERO).settled()


def test_a_step_that_pauses_because_a_limit_was_zero_is_one_motion():
    limits = Limits(0.0, 0.0, 0.4, 0.4, number=1)
    assert paused(Log().feed(limits), 5, 5, 10) == []
    assert paused(Log(), 5, 5, 10) == ["unannounced"], "no limit was zero"
    assert paused(Log().feed(limits), 5, 16, 10) == ["unannounced"], "the step was over"
    assert paused(Log().feed(limits), 5, 5, 5, (0.0, 0.04, 0.0, 0.0, 0.0, 0.0)) == ["unannounced"], "another one"
    assert paused(Log().feed(limits), 15, 1, 10) == ["too far"]


def test_a_step_that_pauses_and_does_not_go_on_is_judged_too():
    log = Log().feed(Limits(0.0, 0.0, 0.4, 0.4, number=1))
    assert log.step(announced=False, ticks=3).settled() == ["unannounced"]


def test_a_motion_of_a_dry_run():
    log = Log().action(commanded=False)
    log.now = 0.12
    assert log.step(announced=False, ticks=8).settled() == ["uncommanded"]


@pytest.mark.parametrize(("suspended", "rules"), [(True, []), (False, ["too far"])])
def test_a_sink_that_gives_up_by_itself_is_granted_a_tick_of_its_own(suspended, rules):
    """Nobody sends while the safety process stands, and the sink counts its timeout from its own ticks."""
    log = Log().action()
    for tick in range(20):
        log.image().twist()
        if tick == 10:
            if suspended:
                log.feed(Signalled(log.now, "SIGSTOP", SAFETY), Signalled(log.now + 0.09, "SIGCONT", SAFETY))
            log.now += 0.09
    log.now += 0.015
    assert [rule for rule in log.image().twist(ZERO).settled() if rule != "gap"] == rules


@pytest.mark.parametrize(("since", "rules"), [(0.01, []), (0.1, ["unannounced"])])
def test_a_step_that_began_when_the_safety_process_was_killed_may_be_announced_by_nobody(since, rules):
    """It tells the node after the first velocity has gone."""
    log = Log()
    log.now = 1.0
    log.image()
    for _ in range(round(since / 0.01)):
        log.image().twist()
    log.feed(Signalled(log.now, "SIGKILL", SAFETY))
    log.now += 0.05
    assert log.image().twist(ZERO).settled() == rules


SIDEWAYS = (0.0, 0.03, 0.0, 0.0, 0.0, 0.2)


def steady(*steps, announced=None):
    """Steps without a zero between them, then zero; ``announced``: in the place of what they do."""
    log = Log(steady=True)
    for number, values in enumerate(steps):
        said = values if announced is None else announced[number]
        if said is not None:
            log.action(said)
        for _ in range(20):
            log.image().twist(values)
    return log.twist(ZERO)


def test_steps_that_follow_each_other_are_judged_by_the_way_of_all_of_them():
    assert steady(FAST, FAST, SIDEWAYS, FAST).settled() == []
    assert steady(FAST).settled() == []
    shorter = tuple(0.9 * value for value in FAST)
    assert set(steady(FAST, FAST, announced=[FAST, None]).settled()) == {"too far"}
    assert set(steady(FAST, FAST, announced=[shorter, shorter]).settled()) == {"too far"}
    assert steady(FAST, FAST, announced=[None, None]).settled() == ["unannounced"]


def test_a_step_that_is_carried_out_twice_is_not_lost_among_others():
    """In a minute of steady motion one step more is less than any tolerance of the whole."""
    others = [SIDEWAYS, FAST] * 60
    assert steady(*others).settled() == []
    twice = [*others[:60], SIDEWAYS, FAST, FAST, SIDEWAYS, *others[63:]]
    assert steady(*twice, announced=[*others[:60], SIDEWAYS, FAST, None, SIDEWAYS, *others[63:]]).settled() == [
        "too far"
    ]


def test_a_tick_that_two_steps_share_has_no_direction_of_its_own():
    log = Log(steady=True)
    mixed = tuple(0.4 * a + 0.6 * b for a, b in zip(FAST, SIDEWAYS, strict=True))
    for values, other in [(FAST, mixed), (SIDEWAYS, mixed)] * 10:
        log.action(values)
        for _ in range(19):
            log.image().twist(values)
        log.image().twist(other)
    assert log.twist(ZERO).settled() == []


@pytest.mark.parametrize("degrees", [2.0, 4.0, 10.0])
def test_steps_of_nearly_the_same_direction_may_share_a_tick(degrees):
    log = Log(steady=True)
    share = math.tan(math.radians(degrees))
    turned = tuple(a + share * b for a, b in zip(FAST, SIDEWAYS, strict=True))
    turned = tuple(value * math.hypot(*FAST) / math.hypot(*turned) for value in turned)
    lasts, steps = 0.194, [(FAST, turned)[number % 2] for number in range(12)]
    for tick in range(int(len(steps) * lasts / 0.01)):
        begin, end = 0.01 * tick, 0.01 * (tick + 1)
        shares = [max(0.0, min(end, (n + 1) * lasts) - max(begin, n * lasts)) / 0.01 for n in range(len(steps))]
        if tick == 0 or int(begin / lasts) != int((begin - 0.01) / lasts):
            log.action(steps[int(begin / lasts)], lasts)
        log.image().twist(tuple(sum(s * step[i] for s, step in zip(shares, steps, strict=True)) for i in range(6)))
    assert log.twist(ZERO).settled() == []


def test_a_way_back_does_not_make_up_for_a_way_too_far():
    back = tuple(-value for value in FAST)
    assert "too far" in steady(FAST, back, announced=[FAST, None]).settled()


def test_a_steady_motion_of_a_dry_run():
    log = Log(steady=True)
    log.action(FAST, commanded=False)
    for _ in range(20):
        log.image().twist()
    assert log.twist(ZERO).settled() == ["uncommanded"]


def test_a_velocity_that_stays_in_force_after_steady_steps_is_too_far():
    log = Log(steady=True)
    for _ in range(2):
        log.action()
        for _ in range(20):
            log.image().twist()
    for _ in range(12):
        log.image().twist()
    assert "too far" in log.twist(ZERO).settled()
