"""The dead-man, driven by hand: every cause by name, latched, and silent while all is well."""

import pytest

from spec_vla_ros.errors import InstructionError, NonActionTokenError, SpecVlaError
from spec_vla_ros.motion.watchdog import Fault, Limits, Watchdog

LIMITS = Limits(image=0.5, first_image=3.0, inference=2.0)


def armed(at=0.0):
    dog = Watchdog()
    dog.arm(at)
    return dog


def test_fresh_images_keep_it_quiet():
    dog = armed()
    for i in range(100):
        dog.image_captured(i / 30)
        assert dog.check(i / 30 + 0.02, LIMITS) is None


def test_a_camera_that_never_starts():
    dog = armed(10.0)
    assert dog.check(13.0, LIMITS) is None
    assert dog.check(13.01, LIMITS).name == "NO_IMAGE"


def test_a_camera_that_stops():
    dog = armed()
    dog.image_captured(1.0)
    assert dog.check(1.5, LIMITS) is None
    assert dog.check(1.51, LIMITS).name == "IMAGE_STALE"


def test_the_first_image_ends_the_grace_of_the_start():
    """A camera that delivers one image and dies is not granted the long wait for the first image."""
    dog = armed()
    dog.image_captured(0.1)
    assert dog.check(0.7, LIMITS).name == "IMAGE_STALE"


def test_an_image_with_an_old_stamp_is_stale_on_arrival():
    dog = armed()
    dog.image_captured(9.0)
    assert dog.check(10.0, LIMITS).name == "IMAGE_STALE"


def test_an_image_that_queued_since_before_arming_leaves_time_for_a_fresh_one():
    """The executor was busy activating; the oldest image comes first and is no reason to stop."""
    dog = armed(10.0)
    dog.image_captured(9.4)
    assert dog.check(10.01, LIMITS) is None
    dog.image_captured(10.02)
    assert dog.check(10.05, LIMITS) is None
    other = armed(10.0)
    other.image_captured(9.4)
    assert other.check(10.51, LIMITS).name == "IMAGE_STALE"


def test_an_older_image_does_not_hide_a_newer_one():
    dog = armed()
    dog.image_captured(1.0)
    dog.image_captured(0.2)
    assert dog.image_age(1.2) == pytest.approx(0.2)


def test_a_worker_that_hangs():
    dog = armed()
    dog.inference_started(1.0)
    dog.image_captured(3.0)
    assert dog.check(3.0, LIMITS) is None
    dog.image_captured(3.1)
    assert dog.check(3.1, LIMITS).name == "WORKER_HUNG"


def test_a_worker_that_answers_in_time():
    dog = armed()
    dog.inference_started(1.0)
    dog.inference_finished()
    dog.image_captured(9.0)
    assert dog.check(9.0, LIMITS) is None


def test_a_fault_is_latched_when_the_cause_goes_away():
    dog = armed()
    dog.image_captured(0.0)
    fault = dog.check(1.0, LIMITS)
    dog.image_captured(1.1)
    assert dog.check(1.1, LIMITS) is fault


def test_the_first_fault_stays_because_it_is_the_cause():
    dog = armed()
    assert dog.trip(Fault("FIRST", "a", "b"))
    assert not dog.trip(Fault("SECOND", "a", "b"))
    assert dog.check(100.0, LIMITS).name == "FIRST"


def test_only_arming_clears_a_fault_and_ages_start_again():
    dog = armed()
    dog.image_captured(0.0)
    dog.inference_started(0.0)
    dog.check(50.0, LIMITS)
    dog.arm(60.0)
    assert dog.fault is None
    assert dog.image_age(60.0) is None
    assert dog.check(62.9, LIMITS) is None


def test_limits_may_change_while_running():
    dog = armed()
    dog.image_captured(0.0)
    assert dog.check(0.4, LIMITS) is None
    assert dog.check(0.4, Limits(image=0.3, first_image=3.0, inference=2.0)).name == "IMAGE_STALE"


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
    cases = []
    dog = armed()
    cases.append(dog.check(9.0, LIMITS))
    dog.arm(0.0)
    dog.image_captured(0.0)
    cases.append(dog.check(9.0, LIMITS))
    dog.arm(0.0)
    dog.image_captured(9.0)
    dog.inference_started(0.0)
    cases.append(dog.check(9.0, LIMITS))
    assert [fault.name for fault in cases] == ["NO_IMAGE", "IMAGE_STALE", "WORKER_HUNG"]
    for fault in cases:
        assert fault.remedy.endswith(".")
        assert str(fault) == f"{fault.name}: {fault.detail} -- {fault.remedy}"
