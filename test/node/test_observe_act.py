"""The observe-act cycle measured on the wire: how far, how often, and from which image."""

import numpy as np
import pytest


def displacement(messages):
    """(6,) integral of the velocities over their own stamps, each held until the next."""
    from rig import seconds, six

    stamps = np.array([seconds(message.header.stamp) for message in messages])
    twists = np.array([six(message) for message in messages])
    return (twists[:-1] * np.diff(stamps)[:, None]).sum(0)


@pytest.mark.parametrize("delay", [0.0, 0.12, 0.5])
def test_the_streamed_displacement_is_the_action_whatever_the_inference_takes(rig, delay):
    """Repeating a delta, or sending it without division by time, moved arms three times too far."""
    from rig import DRIVING, FORWARD, PERIOD, six

    from spec_vla_ros.policy import ScriptedPolicy

    script = [FORWARD] * 3 + [[0.0] * 6 + [1.0]]
    one = rig(ScriptedPolicy(script, delay=delay), **{**DRIVING, "action_scale": 0.5}).activate()
    one.until(lambda: len(one.actions) >= 4, timeout=20)
    one.until_ticks(2)
    expected = 3 * 0.5 * np.array(FORWARD[:6])
    np.testing.assert_allclose(displacement(one.twists), expected, rtol=0.05)
    nominal = sum(six(message) for message in one.twists) * PERIOD
    np.testing.assert_allclose(nominal, expected, rtol=0.2)  # a tick that a busy machine missed is missing here


def test_one_action_takes_one_step_however_fast_the_policy_is(rig):
    """A policy that answers at once must not act faster than the data set's rate."""
    from rig import DRIVING, seconds

    one = rig(**DRIVING).activate()
    one.until(lambda: len(one.actions) >= 5)
    stamps = np.array([seconds(action.header.stamp) for action in one.actions])
    assert (np.diff(stamps) >= 0.2 - 0.002).all()


def test_an_action_is_computed_from_an_image_captured_after_the_previous_step(rig):
    """Otherwise the policy answers to a scene that its own last action has already changed."""
    from rig import DRIVING, seconds, six

    from spec_vla_ros.policy import ScriptedPolicy

    forward, back = [0.01, 0, 0, 0, 0, 0, 1.0], [-0.01, 0, 0, 0, 0, 0, 1.0]
    one = rig(ScriptedPolicy([forward, back], repeat=True), **DRIVING).activate()
    one.until(lambda: len(one.actions) >= 6)
    moving = [(seconds(message.header.stamp), six(message)[0]) for message in one.twists]
    for action in one.actions:  # directions alternate, and the action's own step has not ended 0.19 s after its image
        captured, direction = seconds(action.header.stamp), action.delta[0]
        after = [speed for stamp, speed in moving if captured <= stamp < captured + 0.19]
        assert not any(speed * direction < 0 for speed in after), "the previous step went on after the image"


def test_a_late_image_of_the_past_is_counted_and_not_used(rig):
    """A camera with 150 ms latency delivers images of the motion after it has ended."""
    from builtin_interfaces.msg import Time
    from rig import DRIVING, image, seconds

    one = rig(**DRIVING)

    def late():
        now = one.probe.get_clock().now().nanoseconds - 150_000_000
        return image(Time(sec=now // 10**9, nanosec=now % 10**9))

    one.camera = late
    one.activate()
    one.until(lambda: len(one.actions) >= 4)
    stamps = np.array([seconds(action.header.stamp) for action in one.actions])
    assert (np.diff(stamps) >= 0.2).all()
    assert all(stats.frames_skipped > 0 for stats in one.stats[1:])
    assert all(stats.image_age_ms >= 150 for stats in one.stats)
    one.until(lambda: int(one.control()["frames before end of step"]) > 0)


def test_an_image_without_a_stamp_counts_by_its_arrival(rig):
    from builtin_interfaces.msg import Time
    from rig import DRIVING, image

    one = rig(**DRIVING)
    one.camera = lambda: image(Time())
    one.activate()
    one.until(lambda: len(one.actions) >= 2)
    assert one.node._cycle.fault is None


def test_action_and_statistics_belong_to_the_same_image(rig):
    from rig import DRIVING, FORWARD, seconds

    one = rig(**{**DRIVING, "max_linear_speed": 0.025}).activate()
    one.until(lambda: len(one.actions) >= 3 and len(one.stats) >= 3)
    for number, (action, stats) in enumerate(zip(one.actions[:3], one.stats[:3], strict=True), start=1):
        assert action.sequence == stats.sequence == number
        assert action.header.stamp == stats.header.stamp
        assert 0 <= seconds(one.now()) - seconds(action.header.stamp) < 5
        np.testing.assert_allclose(action.delta, FORWARD[:6], rtol=1e-6)
        assert (action.gripper, action.step_dt) == (1.0, pytest.approx(0.2))
        assert action.action_scale == 1.0
        assert action.limit_factor == pytest.approx(0.025 * 0.2 / np.linalg.norm(FORWARD[:3]), rel=1e-5)
        assert action.instruction == "pick up the block"
        assert action.commanded
        assert len(action.tokens) == len(action.bins) == 7
        assert stats.decoder == "speculative"
        assert list(stats.acceptance_radius) == [9, 9, 9, 9, 9, 9, 0]
        assert list(stats.drafters) == ["hold", "refine"]
        assert stats.inference_ms >= stats.total_ms >= 0


def test_the_speed_limit_slows_the_whole_vector(rig):
    from rig import DRIVING, FORWARD, six

    one = rig(**{**DRIVING, "max_linear_speed": 0.01}).activate()
    one.until_moving()
    twist = next(six(m) for m in one.twists if six(m).any())
    assert np.linalg.norm(twist[:3]) == pytest.approx(0.01, rel=1e-6)
    np.testing.assert_allclose(twist / np.linalg.norm(twist), np.array(FORWARD[:6]) / np.linalg.norm(FORWARD[:6]))


def test_the_gripper_is_told_on_change_only(rig):
    from rig import DRIVING

    from spec_vla_ros.policy import ScriptedPolicy

    script = [[0.0] * 6 + [value] for value in (1.0, 0.55, 0.45, 1.0, 0.0, 0.5, 0.0, 1.0)]
    one = rig(ScriptedPolicy(script), step_dt=0.05, **DRIVING).activate()
    one.until(lambda: len(one.actions) >= 8)
    one.until(lambda: len(one.grippers) >= 3)
    assert [message.data for message in one.grippers] == [1.0, 0.0, 1.0]


def test_red_stays_red(rig):
    """A model that is fed BGR works badly and never complains."""
    from rig import DRIVING, image

    seen = []

    class Eyes:
        action_dim = 7

        def infer(self, picture, instruction, settings):
            from spec_vla_ros.policy import ScriptedPolicy

            seen.append(picture)
            return ScriptedPolicy([[0.0] * 7]).infer(picture, instruction, settings)

        def reset(self):
            pass

        def describe(self):
            return {}

    one = rig(Eyes(), step_dt=0.05, **DRIVING)
    one.camera = lambda: image(one.now(), "rgb8", colour=(250, 1, 2))
    one.activate()
    one.until(lambda: len(seen) >= 1)
    one.camera = lambda: image(one.now(), "bgr8", colour=(2, 1, 250))
    one.until(lambda: len(seen) >= 4)
    for picture in seen:
        assert picture.shape == (24, 32, 3)
        assert picture.dtype == np.uint8
        assert (picture == [250, 1, 2]).all()
