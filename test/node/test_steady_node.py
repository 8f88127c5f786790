"""Steady pacing on the wire: the real node and its safety process, a camera of 30 Hz, a policy that takes its time."""

import numpy as np
import pytest


def steady(rig, script=None, delay=0.05, **changes):
    from rig import DRIVING, FORWARD

    from spec_vla_ros.policy import ScriptedPolicy

    policy = ScriptedPolicy(script or [FORWARD], delay=delay)
    return rig(policy, **{**DRIVING, "pacing": "steady", **changes}).activate()


def test_the_arm_does_not_stop_between_steps_and_travels_what_it_is_told(rig):
    from rig import six
    from test_observe_act import displacement

    there, back = [0.01, 0, 0, 0, 0, 0.02, 1.0], [0, -0.02, 0, 0.1, 0, 0, 1.0]
    one = steady(rig, [*[there, there, back, there] * 3, [0.0] * 6 + [1.0]], compensation="none")
    one.until(lambda: len(one.actions) >= 14, timeout=20)
    one.until_ticks(3)
    moving = np.array([six(message).any() for message in one.twists])
    first, last = np.flatnonzero(moving)[[0, -1]]
    assert np.mean(~moving[first:last]) < 0.05, "a pause of a busy machine aside"
    told = sum(np.array(action.step, dtype=float) for action in one.actions)
    np.testing.assert_allclose(told[:3], [9 * 0.01, -3 * 0.02, 0], atol=1e-6)
    np.testing.assert_allclose(displacement(one.twists), told, atol=0.004)


def test_what_the_image_had_not_seen_is_taken_off_and_said(rig):
    from rig import seconds

    one = steady(rig, compensation="subtract")
    one.until(lambda: len(one.actions) >= 8, timeout=20)
    for before, action, stats in zip(one.actions[2:], one.actions[3:], one.stats[3:], strict=False):
        assert action.compensation == "subtract"
        speed = float(before.step[0]) / before.step_dt
        assert float(action.unseen[0]) == pytest.approx(speed * 1e-3 * stats.image_age_ms, abs=0.03 * speed)
        assert float(action.step[0]) == pytest.approx(float(action.delta[0] - action.unseen[0]), abs=1e-6)
        assert seconds(stats.header.stamp) == seconds(action.header.stamp)


def test_pacing_is_told(rig):
    one = steady(rig)
    one.until(lambda: len(one.stats) >= 8, timeout=20)
    assert {stats.pacing for stats in one.stats} == {"steady"}
    assert np.isnan(one.stats[0].late_ms)
    assert np.median([stats.late_ms for stats in one.stats[3:]]) < 15
    assert one.stats[-1].standstill_share < 0.3
    assert all(50 <= stats.image_age_ms < 200 for stats in one.stats[2:])
    one.until(lambda: "standstill share" in one.control())
    assert one.control()["pacing"] == "steady"
    assert float(one.control()["standstill before steps_ms median"]) < 15


def test_pacing_changes_while_the_arm_moves(rig):
    one = steady(rig)
    one.until(lambda: len(one.actions) >= 4, timeout=20)
    assert one.set(pacing="blocking")
    count = len(one.stats)
    one.until(lambda: len(one.stats) >= count + 4, timeout=20)
    assert one.stats[-1].pacing == "blocking"
    assert one.stats[-1].late_ms > 40, "an image, and the inference"
    assert one.set(pacing="steady", compensation="none")
    count = len(one.stats)
    one.until(lambda: len(one.stats) >= count + 4, timeout=20)
    assert (one.stats[-1].pacing, one.actions[-1].compensation) == ("steady", "none")
    one.until(lambda: "overshoots" in one.control()["message"])
    assert (one.control()["level"], one.control()["remedy"][:31]) == (1, "Set compensation to catch_up, o")
    assert one.set(compensation="catch_up")
    one.until(lambda: one.control()["level"] == 0)
    assert not one.set(pacing="quick")


@pytest.mark.parametrize("what", ["camera", "nan", "deactivate", "instruction"])
def test_whatever_ends_the_motion_zero_is_last(rig, what):
    from rig import FORWARD, six

    script = [FORWARD] * 6 + ([[float("nan")] * 6 + [1.0]] if what == "nan" else [FORWARD])
    one = steady(rig, script, image_timeout=0.5)
    one.until(lambda: len(one.actions) >= 4, timeout=20)
    if what == "camera":
        one.camera = lambda: None
        one.until_fault("IMAGE_STALE")
    elif what == "nan":
        one.until_fault("NON_FINITE")
    elif what == "deactivate":
        one.node.trigger_deactivate()
    else:
        one.say("")
        one.until(lambda: "NO_INSTRUCTION" in one.control().get("fault", ""))
    one.until_still()
    still = len(one.twists)
    assert not any(six(message).any() for message in one.heard_before_sentinel()[still:])
