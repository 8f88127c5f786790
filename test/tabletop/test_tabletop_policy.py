"""The small policy's training: it goes on from an exported model, and teaches one answer where labels disagree."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spec_vla_ros.openvla.loader import load_model
from spec_vla_ros.openvla.prompt import Prompt
from spec_vla_ros.openvla.tokenizer_small import build_small_tokenizer
from spec_vla_ros.tabletop.tasks import TASKS
from spec_vla_ros.tabletop.training.model import TABLETOP
from spec_vla_ros.tabletop.training.policy import Packing, PolicyTrainer, from_checkpoint, policy_loss

MODEL = Path(__file__).parents[2] / "models" / "tabletop"
FIRST_ID = TABLETOP.action_vocab_end - 256


@pytest.fixture
def trainer():
    prompt = Prompt(build_small_tokenizer(task.instruction for task in TASKS), TABLETOP.action_vocab_end)
    packing = Packing([prompt.ids(task.instruction) for task in TASKS], TABLETOP.towers[0].patches, branches=2)
    generator = torch.Generator().manual_seed(1)
    mean = torch.randn(TABLETOP.vision_width, generator=generator)
    return PolicyTrainer(TABLETOP, packing, mean, mean.abs() + 0.5, seed=0)


def test_training_goes_on_from_an_exported_model(trainer):
    trainer.restore(from_checkpoint(MODEL)["decoder"])
    model = load_model(MODEL, device="cpu").model
    features = torch.randn(1, TABLETOP.towers[0].patches, TABLETOP.vision_width, generator=torch.Generator())
    with torch.no_grad():
        mine = trainer.projector((features - trainer.mean) / trainer.std)
        torch.testing.assert_close(mine, model.projector(features), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(trainer.folded_projector()(features), model.projector(features))
        rows = torch.randn(1, 5, TABLETOP.llama.hidden_size, generator=torch.Generator())
        mask = torch.ones(5, 5, dtype=torch.bool).tril()
        places = torch.arange(5)
        assert torch.equal(trainer.llama(rows, places, mask), model.language_model(rows, places, mask))


def test_training_goes_on_from_its_own_state(trainer):
    before = {name: value.clone() for name, value in trainer.state_dict().items()}
    trainer.restore(before)
    assert all(torch.equal(value, before[name]) for name, value in trainer.state_dict().items())


def test_the_weights_of_another_model_are_refused(trainer):
    state = from_checkpoint(MODEL)["decoder"]
    del state["llama.lm_head.weight"]
    with pytest.raises(ValueError, match=r"lacks.*lm_head"):
        trainer.restore(state)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--resume", "nowhere"], "nowhere does not exist"),
        (["--resume", str(MODEL), "--expert-files", "0"], "no frames in work/data, and --expert-files 0 records none"),
    ],
)
def test_training_that_cannot_begin_says_why(more, said, tmp_path):
    # In a process of its own: training sets for good how memory is given back.
    command = [sys.executable, "-m", "spec_vla_ros.cli", "train-tabletop", "--work", "work", *more]
    environment = os.environ | {"PYTHONPATH": str(MODEL.parents[1])}
    made = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 1
    assert made.stderr.startswith(f"spec-vla train-tabletop: {said}")


def settle(labels, steps=400):
    """The argmax of free logits that are trained on ``labels`` (N, 7) bins in turn, as bins (7,)."""
    labels = torch.tensor(labels)[:, None]
    logits = torch.zeros(1, 1, 7, TABLETOP.llama.vocab_size, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.2)
    for _ in range(steps):
        shown = logits.expand(len(labels), -1, -1, -1)
        scene = torch.zeros(len(labels), 1, 9)
        loss, _ = policy_loss(shown, scene, labels, scene, torch.ones(len(labels), 1), FIRST_ID)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return 256 - (logits[0, 0].argmax(-1) - FIRST_ID)


def test_a_motion_whose_labels_disagree_is_answered_in_between_and_the_gripper_by_the_majority():
    turn, grip = 128 + 100, 256
    bins = settle([[128, 128, 128, 128, 128, 128, 1], [turn] * 6 + [grip], [turn] * 6 + [grip]])
    between = (128 + 2 * turn) / 3
    assert (bins[:6] - between).abs().max() <= 8
    assert bins[6] == grip


def test_labels_that_agree_are_answered_exactly():
    bins = settle([[20, 60, 100, 140, 180, 220, 1]])
    assert (bins - torch.tensor([20, 60, 100, 140, 180, 220, 1])).abs().max() <= 1
