"""What a policy keeps of earlier episodes, and over starts of the node."""

import logging
import threading

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from spec_vla_ros.decoding.drafters.habits import FEWEST, Habits
from spec_vla_ros.decoding.planner import Planner
from spec_vla_ros.errors import NonFiniteError
from spec_vla_ros.node.parameters import PARAMETERS, Fixed
from spec_vla_ros.node.policy_factory import load_openvla
from spec_vla_ros.node.worker import Worker
from spec_vla_ros.openvla.example import write_example_checkpoint
from spec_vla_ros.openvla.loader import load_model
from spec_vla_ros.policy import OpenVLAPolicy, ScriptedPolicy
from spec_vla_ros.policy_types import DecodeSettings

SETTINGS = DecodeSettings(drafters=("forecast", "refine"), draft_width=64)
TEXT = "pick up the red block"
WAIT = 10  # s


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return write_example_checkpoint(tmp_path_factory.mktemp("habits") / "example")


@pytest.fixture(scope="module")
def loaded(folder):
    return load_model(folder)


def frames(count):
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def node_policy(folder, path, **changes):
    values = {spec.name: spec.default for spec in PARAMETERS} | {"model": str(folder), "device": "cpu", "step_dt": 0.2}
    values |= {"habits_file": str(path), **changes}
    return load_openvla(Fixed(**{name: values[name] for name in Fixed.__dataclass_fields__}))


def drive(policy, count=6):
    policy.reset()
    return [policy.infer(frame, TEXT, SETTINGS) for frame in frames(count)]


def test_an_episode_that_comes_again_takes_fewer_passes(loaded):
    """The same pictures give the same tokens; only whoever remembers them has drafts for them."""
    habits = Habits(7, loaded.tokens.bins)
    policy = OpenVLAPolicy(loaded, planner=Planner.steady(), habits=habits)
    first, _, third = ([result.report.verifier_passes for result in drive(policy)] for _ in range(3))
    assert sum(third) < sum(first)
    assert len(habits.moments) == 18
    forgetful = drive(OpenVLAPolicy(loaded, planner=Planner.steady()))
    assert [r.report.verifier_passes for r in forgetful][:FEWEST] == first[:FEWEST], "nothing is remembered yet"


def test_habits_never_change_an_exact_action(loaded):
    exact = DecodeSettings(drafters=("forecast", "refine"), acceptance_radius=0)
    greedy = [OpenVLAPolicy(loaded).infer(f, TEXT, DecodeSettings(decoder="autoregressive")).tokens for f in frames(4)]
    policy = OpenVLAPolicy(loaded, planner=Planner.steady(), habits=Habits(7, loaded.tokens.bins))
    for _ in range(3):
        policy.reset()
        assert [policy.infer(frame, TEXT, exact).tokens.tolist() for frame in frames(4)] == [t.tolist() for t in greedy]


def test_without_habits_an_action_depends_on_its_episode_only(loaded):
    """What replays, golden files and measurements build: the same episode is decoded the same wherever it stands."""
    policy = OpenVLAPolicy(loaded, planner=Planner.steady())
    first, second = drive(policy), drive(policy)
    for one, other in zip(first, second, strict=True):
        assert one.tokens.tolist() == other.tokens.tolist()
        assert one.report.drafted_per_pass == other.report.drafted_per_pass
        assert one.report.accepted_per_pass == other.report.accepted_per_pass


def test_what_is_remembered_for_a_continued_run_is_learnt_and_what_fails_is_not(loaded, monkeypatch):
    habits = Habits(7, loaded.tokens.bins)
    policy = OpenVLAPolicy(loaded, planner=Planner.steady(), habits=habits)
    tokens = loaded.tokens.to_ids(np.arange(7)).tolist()
    policy.remember(tokens)
    assert habits.moments[:, -1].tolist() == [list(range(7))]
    monkeypatch.setattr(type(loaded.statistics), "unnormalise", lambda self, values: np.full(7, np.nan))
    with pytest.raises(NonFiniteError):
        policy.infer(frames(1)[0], TEXT, SETTINGS)
    assert len(habits.moments) == 1


def test_the_next_start_begins_with_what_was_saved_and_a_grey_picture_is_no_habit(folder, tmp_path):
    path = tmp_path / "deep" / "habits.json"
    policy = node_policy(folder, path)
    assert not path.exists()
    assert len(policy._habits.moments) == 0, "the warm-up leaves nothing"
    drive(policy)
    assert not path.exists(), "nothing is written while the arm may move"
    policy.close()
    again = node_policy(folder, path)
    assert (again._habits.moments == policy._habits.moments).all()
    assert len(again._habits.moments) == 6
    again.reset()
    assert len(again._habits.moments) == 6


def test_without_a_file_nothing_is_written(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    policy = node_policy(folder, "")
    drive(policy, 1)
    assert len(policy._habits.moments) == 1, "they are kept until cleanup"
    policy.close()
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_file_is_said_and_begun_anew(folder, tmp_path, caplog):
    path = tmp_path / "habits.json"
    path.write_text("my notes")
    with caplog.at_level(logging.WARNING):
        policy = node_policy(folder, path)
    assert "habits begin anew, and the file becomes habits.json.refused" in caplog.text
    assert str(path) in caplog.text
    policy.close()
    assert (tmp_path / "habits.json.refused").read_text() == "my notes"
    caplog.clear()
    node_policy(folder, path, step_dt=0.1)
    assert "step_dt 0.2, expected 0.1" in caplog.text


def test_a_file_that_cannot_be_written_is_refused_before_the_arm_moves(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"habits_file: .*habits.json cannot be written"):
        node_policy(folder, tmp_path / "file" / "habits.json")


@pytest.mark.parametrize("failing", [False, True])
def test_the_worker_closes_its_policy_once_and_ends_whatever_that_raises(failing, caplog):
    class Closing(ScriptedPolicy):
        def close(self):
            closed.append(threading.current_thread())
            if failing:
                raise OSError(28, "No space left on device")

    closed = []
    worker = Worker(lambda: Closing([[0.0] * 7]), lambda: None)
    assert worker.wait_loaded(WAIT)
    assert not closed
    assert worker.close(WAIT)
    assert [thread.name for thread in closed] == ["policy"]
    assert ("No space left" in caplog.text) == failing


def test_where_nearly_right_is_not_enough_habits_are_not_asked(loaded, monkeypatch):
    """What followed nearly the same is hardly ever the very token, and costs the rows of what might be."""
    policy = OpenVLAPolicy(loaded, planner=Planner.steady(), habits=Habits(7, loaded.tokens.bins))
    drive(policy)
    asked = []
    monkeypatch.setattr(Habits, "_recall", lambda self, recall=Habits._recall: asked.append(1) or recall(self))
    exact = DecodeSettings(drafters=("forecast", "refine"), acceptance_radius=0, draft_width=64)
    told = len(asked)
    policy._habits.learn = lambda action: None
    policy.infer(frames(1)[0], TEXT, exact)
    assert len(asked) == told
    policy.infer(frames(1)[0], TEXT, SETTINGS)
    assert len(asked) > told
