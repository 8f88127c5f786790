"""Everything that must stop the arm, one test per cause: its name, the zero, and that only a person clears it."""

import array
import threading
import time


def assert_stopped(one):
    """The stream goes on and is zero."""
    from rig import six

    one.until_still()
    assert not any(six(message).any() for message in one.until_ticks(30))


def policy(*steps, **more):
    from spec_vla_ros.policy import ScriptedPolicy

    return ScriptedPolicy(list(steps), **more)


def test_a_camera_that_stops_stops_the_arm(rig):
    from rig import DRIVING, image

    one = rig(image_timeout=0.3, **DRIVING).activate()
    one.until_moving()
    one.camera = lambda: None
    control = one.until_fault("IMAGE_STALE")
    assert control["level"] == 2
    assert control["remedy"] in control["message"]
    assert_stopped(one)
    inferences = one.policy.inferences
    one.camera = lambda: image(one.now())  # the camera is back, the fault stays
    assert_stopped(one)
    assert one.policy.inferences == inferences
    one.rearm()
    one.until(lambda: "fault" not in one.control())


def test_the_dead_man_acts_within_its_time(rig):
    """Measured from the last image: image_timeout, a tick, and what a busy machine adds."""
    import time

    from rig import DRIVING, six

    one = rig(policy([0.05, 0, 0, 0, 0, 0, 1.0]), image_timeout=0.2, step_dt=2.0, **DRIVING).activate()
    one.until_moving()
    one.camera = lambda: None
    gone = time.monotonic()
    one.until(lambda: not six(one.twists[-1]).any())
    assert 0.1 < time.monotonic() - gone < 0.5


def test_no_camera(rig):
    from rig import DRIVING

    one = rig(first_image_timeout=0.3, **DRIVING)
    one.camera = lambda: None
    one.activate()
    one.until_fault("NO_IMAGE")
    assert_stopped(one)


def test_a_stamp_from_long_ago(rig):
    """A frozen driver repeats its last image, or two clocks disagree: both are blind driving."""
    from builtin_interfaces.msg import Time
    from rig import DRIVING, image

    one = rig(**DRIVING)
    stamp = one.now()
    one.camera = lambda: image(Time(sec=stamp.sec - 10, nanosec=stamp.nanosec))
    one.activate()
    one.until_fault("IMAGE_STALE")
    assert_stopped(one)
    assert one.policy.inferences == 0


def test_an_image_that_cannot_be_read(rig):
    """What cannot be read, field by field, is tested with image_messages."""
    from rig import DRIVING, image

    one = rig(**DRIVING).activate()
    for fields, text in (
        ({"encoding": "h264"}, "h264"),
        ({"data": array.array("B", bytes(100))}, "truncated"),
        ({"height": 2**31}, "accepted"),
    ):
        one.until_moving()
        inferences = []

        def broken(fields=fields, inferences=inferences):
            inferences.append(one.policy.inferences)
            message = image(one.now())
            for name, value in fields.items():
                setattr(message, name, value)
            return message

        one.camera = broken
        assert text in one.until_fault("IMAGE_INVALID")["detail"]
        assert_stopped(one)
        assert one.policy.inferences <= inferences[0] + 1
        one.camera = lambda: image(one.now())
        good = time.monotonic() + 0.15  # what was on its way is over
        one.until(lambda good=good: time.monotonic() > good)
        one.rearm()


def test_an_action_that_is_none(rig):
    from rig import DRIVING, FORWARD

    from spec_vla_ros.errors import NonActionTokenError, NonFiniteError

    steps = (
        ([float("nan"), 0, 0, 0, 0, 0, 1], "NON_FINITE"),
        (NonActionTokenError("token 5 at position 2"), "NON_ACTION_TOKEN"),
        ([0, 0, 0, 0, float("inf"), 0, 1], "NON_FINITE"),
        (RuntimeError("the tower has fallen"), "WORKER_EXCEPTION"),
        (NonFiniteError("token 5 at position 2"), "NON_FINITE"),
        (RuntimeError("CUDA out of memory"), "OUT_OF_MEMORY"),
        ([0, 0, 0, 0, 0, 0, float("nan")], "NON_FINITE"),
        (MemoryError("no memory"), "OUT_OF_MEMORY"),
    )  # neighbours differ, so that none is taken for the one before
    one = rig(policy(*(part for step, _ in steps for part in (FORWARD, step)), FORWARD), **DRIVING).activate()
    for count, (_, fault) in enumerate(steps, 1):
        one.until_fault(fault)
        assert_stopped(one)
        assert one.policy.inferences == 2 * count
        one.rearm()  # the process and the worker have survived


def test_a_worker_that_hangs(rig):
    """The executor must stay alive to send zero; the answer that comes at last must not move the arm."""
    from rig import DRIVING, FORWARD

    release = threading.Event()
    hanging = policy(FORWARD, delay=1.0, sleep=lambda _: release.wait(20))
    one = rig(hanging, inference_timeout=0.3, **DRIVING).activate()
    one.until_fault("WORKER_HUNG")
    assert_stopped(one)
    release.set()
    one.until(lambda: int(one.control()["outcomes dropped"]) == 1)
    assert_stopped(one)
    one.rearm()


def test_a_worker_that_still_hangs_faults_again_after_rearming(rig):
    from rig import DRIVING, FORWARD

    release = threading.Event()
    one = rig(policy(FORWARD, delay=1.0, sleep=lambda _: release.wait(20)), inference_timeout=0.3, **DRIVING)
    one.activate()
    one.until_fault("WORKER_HUNG")
    one.node.trigger_deactivate()
    one.node.trigger_activate()
    one.until(lambda: "fault" not in one.control())
    one.until_fault("WORKER_HUNG")
    release.set()


def test_an_answer_that_comes_after_deactivation_moves_nothing(rig):
    from rig import DRIVING, FORWARD

    started, release = threading.Event(), threading.Event()

    def think(_):
        started.set()
        release.wait(20)

    one = rig(policy(FORWARD, [0.0] * 7, delay=1.0, sleep=think), **DRIVING).activate()
    one.until(started.is_set)
    one.node.trigger_deactivate()
    one.node.trigger_activate()
    release.set()
    one.until(lambda: one.actions)
    assert one.actions[0].delta.tolist() == [0.0] * 6, "the first answer belongs to the earlier activation"


def test_a_defect_in_a_callback_is_a_fault_and_not_the_end(rig, monkeypatch):
    """An exception that left a timer callback once ended spin(), with the last velocity standing at the sink."""
    from rig import DRIVING

    one = rig(**DRIVING).activate()
    one.until_moving()
    monkeypatch.setattr("spec_vla_ros.node.parameters.read_tunables", lambda node: 1 / 0)
    control = one.until_fault("INTERNAL_ERROR")
    assert "ZeroDivisionError" in control["detail"]
    assert_stopped(one)


def test_what_a_callback_of_the_runtime_raises_stops_the_arm_unless_it_is_about_a_transition(rig):
    from rig import DRIVING

    one = rig(**DRIVING).activate()
    one.until_moving()
    one.node.on_stray(RuntimeError("No transition matching 3 found for current state active"))
    one.until_moving()
    one.node.on_stray(RuntimeError("something else"))
    assert "something else" in one.until_fault("INTERNAL_ERROR")["detail"]
    assert_stopped(one)


def test_zero_is_last_when_an_active_node_with_a_fault_is_deactivated(rig):
    from rig import DRIVING, FORWARD, six

    one = rig(policy(FORWARD, RuntimeError("x")), **DRIVING).activate()
    one.until_fault("WORKER_EXCEPTION")
    one.node.trigger_deactivate()
    assert not six(one.heard_before_sentinel()[-1]).any()
