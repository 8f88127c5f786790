"""The protocol of the LIBERO evaluation and the way of an action over topics and back, without a simulator."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mujoco")

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from libero_small import FORWARD, SmallWorld

from spec_vla_ros.episode_state import State
from spec_vla_ros.errors import NonActionTokenError
from spec_vla_ros.libero.episode import run_episode
from spec_vla_ros.libero.protocol import (
    NO_OP,
    SETTLE_STEPS,
    STATES,
    STEP,
    SUITES,
    env_action,
    env_gripper,
    episode_seed,
    model_picture,
)
from spec_vla_ros.libero.wire import ACTION_SCALE, PATIENCE, SILENCE, LiberoEpisodes, StepWindow, controller_input
from spec_vla_ros.motion.data_sets import action_period
from spec_vla_ros.motion.limits import SpeedLimit
from spec_vla_ros.motion.rotation import step_twist
from spec_vla_ros.motion.stream import StepStream
from spec_vla_ros.policy import ScriptedPolicy
from spec_vla_ros.policy_types import DecodeSettings

SPATIAL = SUITES["spatial"]


# -- the protocol


def test_the_suites_and_their_limits():
    assert {suite.key: suite.steps for suite in SUITES.values()} == {
        "libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520,
    }  # fmt: skip
    assert (SETTLE_STEPS, STATES, STEP) == (10, 50, 0.05)
    assert NO_OP == (0, 0, 0, 0, 0, 0, -1), "still, gripper open"
    assert all(action_period(suite.key) == STEP for suite in SUITES.values())


@pytest.mark.parametrize(("model", "environment"), [(0.996, -1), (0.51, -1), (0.49, 1), (0.0, 1), (-0.99, 1)])
def test_the_gripper_is_stretched_made_two_valued_and_turned_round(model, environment):
    stretched = np.sign(2 * (model - 0.0) / (1.0 - 0.0) - 1)
    assert env_gripper(model) == environment == -stretched


def test_an_action_passes_unchanged_but_for_the_gripper():
    values = np.array([0.3, -1.2, 0.0, 0.1, -0.2, 0.05, 0.9])
    np.testing.assert_array_equal(env_action(values), [0.3, -1.2, 0.0, 0.1, -0.2, 0.05, -1.0])
    assert values[6] == 0.9, "the policy's result is left as it was"
    with pytest.raises(ValueError, match="7 numbers"):
        env_action(np.zeros(8))


def test_a_picture_is_turned_by_half_a_turn_and_not_mirrored():
    rendered = np.zeros((256, 256, 3), dtype=np.uint8)
    rendered[:64, :64, 0] = 255  # red above left, as rendered
    rendered[:64, -64:, 1] = 255  # green above right
    picture = model_picture(rendered, 224)
    assert picture.shape == (224, 224, 3)
    assert picture[-20, -20].argmax() == 0, "red is below right"
    assert picture[-20, 20].argmax() == 1, "green is below left"
    assert picture[:100].max() < 10


def test_a_picture_goes_through_a_jpeg_and_an_antialiased_filter():
    rng = np.random.default_rng(0)
    rendered = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    turned = Image.fromarray(np.ascontiguousarray(rendered[::-1, ::-1]))
    plain = np.asarray(turned.resize((64, 64), Image.Resampling.LANCZOS)).astype(int)
    picture = model_picture(rendered, 64).astype(int)
    stored = io.BytesIO()
    turned.save(stored, "JPEG", quality=95, subsampling=2)
    expected = np.asarray(Image.open(stored).resize((64, 64), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(picture - plain).max() > 0, "noise does not survive a JPEG unchanged"
    assert np.abs(picture - expected).max() == 0
    assert picture.std() < 0.5 * rendered.std(), "without antialiasing the noise would stay as strong as it was"


def test_episodes_of_a_task_differ_in_their_seed_and_the_first_has_the_original_one():
    assert [episode_seed(0, trial) for trial in (0, 1, 49)] == [0, 1, 49]
    assert episode_seed(7, 2) == 9


def test_an_episode_asks_for_prepared_pictures_and_counts_what_decoding_cost():
    seen = []

    def step(image, instruction):
        seen.append((image.shape, instruction, int(image[:, :, 0].max(0).argmax())))
        return FORWARD

    world = SmallWorld()
    episode = run_episode(world, ScriptedPolicy([step]), DecodeSettings(), SPATIAL, 0, 2, seed=10, size=224)
    assert episode.success
    assert world.resets == [(0, 2, 12)]
    assert (len(episode.passes), len(episode.ms), len(episode.accepted_first)) == (6, 6, 6)
    assert {shape for shape, _, _ in seen} == {(224, 224, 3)}
    assert {instruction for _, instruction, _ in seen} == {"push the point"}
    columns = [column for _, _, column in seen]
    assert columns == sorted(columns), "to the right in the model's picture is forward in the world"
    np.testing.assert_array_equal(np.unique([action[6] for action in world.actions]), [1.0])


def test_an_episode_ends_at_the_limit_at_a_refusal_or_when_it_is_stopped():
    def play(steps, **more):
        return run_episode(SmallWorld(), ScriptedPolicy(steps), DecodeSettings(), SPATIAL, 1, 0, **more)

    limit = play([FORWARD])
    assert (limit.success, len(limit.passes), limit.error) == (False, 220, "")
    refused = play([FORWARD, NonActionTokenError("token 5")])
    assert (refused.success, len(refused.passes), refused.error) == (False, 1, "NON_ACTION_TOKEN")
    calls = iter([False] * 3 + [True])
    assert play([FORWARD], stopped=lambda: next(calls)) is None


# -- over topics and back


def streamed(values, jitter=0.0, seed=0, step_dt=STEP, window=None, start=100.0):
    """What :class:`StepWindow` makes of one action that the act node's own parts stream at 100 Hz."""
    rng = np.random.default_rng(seed)
    twist, factor = SpeedLimit().apply(step_twist(np.asarray(values, float), ACTION_SCALE, step_dt), 0.5, 0.5)
    assert factor == 1.0, "the speed limits leave every action alone"
    stream, window = StepStream(0.01), window or StepWindow(step_dt)
    stream.start(twist, step_dt)
    motions = []
    for tick in range(round(step_dt / 0.01) + 4):
        now = start + tick * 0.01 + jitter * rng.uniform(-1, 1)
        motion = window.hear(stream.tick(now), now)
        motions += [] if motion is None else [motion]
    return motions


@pytest.mark.parametrize("step_dt", [0.05, 0.1, 0.2])
def test_an_action_arrives_as_it_was(step_dt):
    rng = np.random.default_rng(1)
    for values in [*rng.uniform(-1, 1, (50, 6)), np.ones(6), -np.ones(6), np.full(6, 0.004)]:
        (motion,) = streamed(values, step_dt=step_dt)
        np.testing.assert_allclose(controller_input(motion), values, atol=1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_ticks_that_come_early_or_late_give_one_action_and_no_second_one(seed):
    values = np.random.default_rng(seed).uniform(-1, 1, 6)
    window = StepWindow()
    for number in range(3):  # one after another, as the act node sends them
        motions = streamed(values, jitter=0.002, seed=seed + number, window=window, start=100.0 + number)
        assert len(motions) == 1
        np.testing.assert_allclose(controller_input(motions[0]), values, atol=1e-9)


def test_messages_that_arrive_late_or_in_bursts_change_nothing_because_stamps_count():
    window = StepWindow()
    stamps = [10.0, 10.01, 10.02, 10.03, 10.04, 10.05]
    motions = [window.hear(np.full(6, 0.02 * (stamp < 10.05)), stamp) for stamp in stamps]
    assert [motion is None for motion in motions] == [True] * 5 + [False]
    np.testing.assert_allclose(motions[-1], np.full(6, 0.001))
    assert window.hear(np.ones(6), 10.02) is None, "older than what was heard"
    assert not window.open


def test_a_step_that_is_broken_off_counts_for_as_long_as_it_lasted():
    window = StepWindow(0.2)
    motions = [window.hear(np.full(6, 0.1 * (tick < 10)), 5.0 + 0.01 * tick) for tick in range(20)]
    (motion,) = [motion for motion in motions if motion is not None]
    np.testing.assert_allclose(motion, 0.1 * 0.1)


def test_a_sender_that_never_pauses_gives_one_action_per_step():
    window = StepWindow()
    motions = [window.hear(np.full(6, 0.1), 5.0 + 0.01 * tick) for tick in range(101)]
    motions = [motion for motion in motions if motion is not None]
    assert len(motions) == 20
    np.testing.assert_allclose(np.sum(motions, axis=0), 0.1, atol=1e-9)


def test_a_sender_that_falls_silent_moves_the_world_for_a_tenth_of_a_second_at_most():
    window = StepWindow(1.0)
    assert window.hear(np.full(6, 0.1), 5.0) is None
    assert window.silent(5.0 + PATIENCE - 0.01) is None
    assert window.open, "it may only be late"
    assert window.silent(5.0 + PATIENCE + 0.01) is None, "a tenth of a step is no step"
    assert not window.open
    window = StepWindow(0.2)
    window.hear(np.full(6, 0.1), 5.0)
    np.testing.assert_allclose(window.silent(7.0), np.full(6, 0.1 * SILENCE))
    assert window.silent(8.0) is None


def test_zeros_alone_are_no_action():
    window = StepWindow()
    assert all(window.hear(np.zeros(6), 1.0 + 0.01 * tick) is None for tick in range(50))


def test_too_large_an_input_is_clipped():
    np.testing.assert_allclose(controller_input([0.02, -0.03, 0, 0, 0, 0]), [1, -1, 0, 0, 0, 0])


# -- episodes over topics


def test_the_instruction_is_the_task_and_the_seed_is_the_initial_state():
    episodes = LiberoEpisodes(SmallWorld(), SPATIAL, seed=3)
    assert "push the point" in episodes.request("make coffee", 0.0)
    assert "finite" in episodes.request("push the point", float("nan"))
    assert episodes.request(" Leave the Point alone ", 0.0) == ""
    episodes.begin(7, 52, "leave the point alone")
    assert episodes.world.resets == [(1, 2, 5)]
    assert (episodes.state, episodes.id, episodes.seed, episodes.limit) == (State.RUNNING, 7, 52, 220)
    assert episodes.instruction == "leave the point alone"


def test_an_episode_is_won_by_steps_and_then_the_world_rests():
    episodes = LiberoEpisodes(SmallWorld(), SPATIAL)
    episodes.look()
    _, changed = episodes.act(episodes.action(np.array([1.0, 0, 0, 0, 0, 0])))
    assert not changed, "nothing runs before the first request, but the world obeys"
    episodes.begin(1, 0, "push the point")
    episodes.set_gripper(0.0)
    changes = [episodes.act(episodes.action(np.array([1.0, 0, 0, 0, 0, 0])))[1] for _ in range(4)]
    assert changes == [False, False, False, True]
    assert episodes.state == State.SUCCESS
    assert episodes.elapsed == pytest.approx(0.2)
    assert not episodes.accepts_motion
    episodes.begin(2, 0, "leave the point alone", 0.1)
    changes = [episodes.act(episodes.action(np.zeros(6)))[1] for _ in range(2)]
    assert changes == [False, True]
    assert episodes.state == State.FAILURE
    assert episodes.world.actions[-1][6] == 1.0, "the gripper stays as it was told across a reset"


def test_a_gripper_command_that_is_no_number_is_refused():
    episodes = LiberoEpisodes(SmallWorld(), SPATIAL)
    assert not episodes.set_gripper(float("nan"))
    episodes.begin(1, 0, "push the point")
    episodes.act(episodes.action(np.zeros(6)))
    assert episodes.world.actions[-1][6] == -1.0
