"""The dead-man, driven by hand: every cause by name, latched, and silent while all is well."""

import math
from dataclasses import replace

import pytest

from spec_vla_ros.errors import InstructionError, NonActionTokenError, SpecVlaError
from spec_vla_ros.motion.watchdog import Fault, Limits, Signs, Watchdog

LIMITS = Limits(image=0.5, first_image=3.0, inference=2.0, heartbeat=0.25)


def seen(captured_at=None, busy_since=None, heard_at=math.inf):
    """Signs of life; the node itself was heard just now unless a test is about that."""
    return Signs(captured_at, busy_since, heard_at)


def armed(at=0.0):
    dog = Watchdog()
    dog.arm(at)
    return dog


def test_fresh_images_keep_it_quiet():
    dog = armed()
    for i in range(100):
        assert dog.check(i / 30 + 0.02, seen(i / 30, heard_at=i / 30), LIMITS) is None


def test_a_camera_that_never_starts():
    dog = armed(10.0)
    assert dog.check(13.0, seen(), LIMITS) is None
    assert dog.check(13.01, seen(), LIMITS).name == "NO_IMAGE"


def test_a_camera_that_stops():
    dog = armed()
    assert dog.check(1.5, seen(1.0), LIMITS) is None
    assert dog.check(1.51, seen(1.0), LIMITS).name == "IMAGE_STALE"


def test_the_first_image_ends_the_grace_of_the_start():
    """A camera that delivers one image and dies is not granted the long wait for the first image."""
    assert armed().check(0.7, seen(0.1), LIMITS).name == "IMAGE_STALE"


def test_an_image_with_an_old_stamp_is_stale_on_arrival():
    assert armed().check(10.0, seen(9.0), LIMITS).name == "IMAGE_STALE"


def test_an_image_that_queued_since_before_arming_leaves_time_for_a_fresh_one():
    """The executor was busy activating; the oldest image comes first and is no reason to stop."""
    dog = armed(10.0)
    assert dog.check(10.01, seen(9.4), LIMITS) is None
    assert dog.check(10.05, seen(10.02), LIMITS) is None
    assert dog.check(10.5, seen(10.02), LIMITS) is None
    assert armed(10.0).check(10.51, seen(9.4), LIMITS).name == "IMAGE_STALE"


def test_a_worker_that_hangs():
    dog = armed()
    assert dog.check(3.0, seen(3.0, 1.0), LIMITS) is None
    assert dog.check(3.1, seen(3.1, 1.0), LIMITS).name == "WORKER_HUNG"


def test_a_worker_that_hangs_before_the_first_image_of_a_run():
    """It still has the request of the run before."""
    assert armed().check(2.5, seen(None, 0.0), LIMITS).name == "WORKER_HUNG"


def test_a_worker_that_answers_in_time():
    assert armed().check(9.0, seen(9.0, None), LIMITS) is None


def test_a_node_that_falls_silent_stops_the_arm_whatever_else_is_well():
    dog = armed()
    assert dog.check(1.25, seen(1.25, heard_at=1.0), LIMITS) is None
    fault = dog.check(1.26, seen(1.26, heard_at=1.0), LIMITS)
    assert fault.name == "NODE_SILENT"
    assert "0.26 s" in fault.detail
    assert "0.25 s" in fault.detail


def test_a_fault_is_latched_when_the_cause_goes_away():
    dog = armed()
    fault = dog.check(1.0, seen(0.0), LIMITS)
    assert dog.check(1.1, seen(1.1), LIMITS) is fault


def test_the_first_fault_stays_because_it_is_the_cause():
    dog = armed()
    assert dog.trip(Fault("FIRST", "a", "b"))
    assert not dog.trip(Fault("SECOND", "a", "b"))
    assert dog.check(100.0, seen(0.0), LIMITS).name == "FIRST"


def test_only_arming_clears_a_fault_and_the_wait_for_the_first_image_starts_again():
    dog = armed()
    dog.check(50.0, seen(0.0, 0.0), LIMITS)
    dog.arm(60.0)
    assert dog.fault is None
    assert dog.check(62.9, seen(), LIMITS) is None


def test_limits_may_change_while_running():
    dog = armed()
    assert dog.check(0.4, seen(0.0), LIMITS) is None
    assert dog.check(0.4, seen(0.0), replace(LIMITS, image=0.3)).name == "IMAGE_STALE"


@pytest.mark.parametrize(
    ("signs", "name"),
    [
        (seen(9.99, heard_at=9.99), "NODE_SILENT"),
        (seen(None), "NO_IMAGE"),
        (seen(9.99), "IMAGE_STALE"),
        (seen(10.0, 9.99), "WORKER_HUNG"),
    ],
)
def test_a_limit_that_nobody_has_set_leaves_no_time(signs, name):
    assert armed(9.99).check(10.0, signs, Limits()).name == name


def test_before_it_is_armed_nothing_is_waited_for():
    assert Watchdog().check(0.1, seen(), LIMITS).name == "NO_IMAGE"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA Out of Memory. Tried to allocate 2 GiB")])
def test_memory_that_ran_out_is_named_whoever_ran_out_of_it(error):
    fault = Fault.of(error)
    assert fault.name == "OUT_OF_MEMORY"
    assert fault.detail == f"{type(error).__name__}: {error}"
    assert "int8" in fault.remedy


def test_an_exception_that_quotes_a_megabyte_still_says_what_to_do():
    said = str(Fault.of(ValueError("x" * 1_000_000)))
    assert len(said) < 2000
    assert said.endswith("restart the process.")
    assert str(Fault("NAME", "x" * 1001, "do")) == f"NAME: {'x' * 1000}... -- do"
    endless = str(Fault("NAME", "x" * 1_000_000, "y" * 1_000_000))
    assert len(endless) < 2010


def test_named_errors_become_their_fault_with_their_remedy():
    fault = Fault.of(NonActionTokenError("token 5 at position 2"))
    assert fault == Fault("NON_ACTION_TOKEN", "token 5 at position 2", NonActionTokenError.remedy)
    assert Fault.of(InstructionError("x")).name == "INSTRUCTION_INVALID"
    assert Fault.of(SpecVlaError("x")).name == "INTERNAL_ERROR"


def test_foreign_errors_are_named_with_their_type():
    fault = Fault.of(RuntimeError("the tower has fallen"))
    assert fault.name == "WORKER_EXCEPTION"
    assert "RuntimeError: the tower has fallen" in fault.detail


def test_every_fault_says_what_happened_and_what_to_do():
    signs = [seen(), seen(0.0), seen(9.0, 0.0), seen(9.0, heard_at=0.0)]
    cases = [armed().check(9.0, one, LIMITS) for one in signs]
    assert [fault.name for fault in cases] == ["NO_IMAGE", "IMAGE_STALE", "WORKER_HUNG", "NODE_SILENT"]
    for fault in cases:
        assert fault.remedy.endswith(".")
        assert str(fault) == f"{fault.name}: {fault.detail} -- {fault.remedy}"
