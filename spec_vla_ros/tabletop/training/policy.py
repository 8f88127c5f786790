"""Second stage: the projector and the decoder learn to answer every instruction, the towers follow slowly.

One forward pass serves several instructions: image rows come first and are shared, each instruction's suffix and its
action tokens form a branch that sees the shared rows and itself only (the same mask a draft tree uses).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spec_vla_ros.openvla.config import OpenVLAConfig
from spec_vla_ros.openvla.llama import Llama, rope_tables
from spec_vla_ros.openvla.loader import load_model
from spec_vla_ros.openvla.vision import Projector, VisionBackbone
from spec_vla_ros.tabletop.scene import COLORS
from spec_vla_ros.tabletop.tasks import TASKS

from .data import STATE_NAMES, Frames
from .vision import to_pixels

ACTION_DIM = 7
TOWER_RATE = 0.25  # learning rate of the towers relative to the decoder's
SPREAD = 8.0  # bins; width of the one hump that the distribution of a motion is asked to be
AUX_LAYER = 4  # the scene relative to the instruction is read out here, half-way up
_COLUMN = {name: i for i, name in enumerate(STATE_NAMES)}


def action_bins(actions: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Actions (..., 7) -> bin numbers 1..256 as OpenVLA counts them; the gripper is not normalised."""
    scaled = actions.copy()
    scaled[..., :6] = 2 * (actions[..., :6] - low[:6]) / (high[:6] - low[:6] + 1e-8) - 1
    return np.digitize(np.clip(scaled, -1, 1), np.linspace(-1, 1, 256))


@dataclass
class FrameBank:
    """Frames and their labels; grows as files arrive. The towers run on the frames that a step draws."""

    backbone: VisionBackbone
    config: OpenVLAConfig
    low: np.ndarray
    high: np.ndarray
    images: list[np.ndarray] = field(default_factory=list)
    bins: list[np.ndarray] = field(default_factory=list)
    aux: list[np.ndarray] = field(default_factory=list)
    task: list[np.ndarray] = field(default_factory=list)
    weight: list[np.ndarray] = field(default_factory=list)
    seen: set[Path] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Compile the towers once."""
        self._forward = torch.compile(self.backbone)

    def __len__(self) -> int:
        """Number of frames."""
        return sum(map(len, self.images))

    def add(self, path: Path, weight: float = 1.0) -> None:
        """Keep the frames of one file; ``weight``: how often its frames are drawn."""
        frames = Frames.load([path])
        self.images.append(frames.images)
        self.bins.append(action_bins(frames.actions, self.low, self.high))
        self.aux.append(auxiliary_targets(frames.states))
        self.task.append(frames.task)
        self.weight.append(np.full(len(frames), weight))
        self.seen.add(path)

    def labels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Bins (N, 9, 7), auxiliary targets (N, 9, 9), task (N,) and weight (N,) of all frames."""
        return tuple(np.concatenate(x) for x in (self.bins, self.aux, self.task, self.weight))  # type: ignore[return-value]

    def features(self, rows: np.ndarray) -> Tensor:
        """Vision features (len(rows), patches, width) of the frames with these numbers."""
        starts = np.cumsum([0, *map(len, self.images)])
        part = np.searchsorted(starts, rows, side="right") - 1
        images = np.stack([self.images[p][r - starts[p]] for p, r in zip(part, rows, strict=True)])
        with torch.autocast("cpu", torch.bfloat16):
            return self._forward(to_pixels(images, self.config))


def auxiliary_targets(states: np.ndarray) -> np.ndarray:
    """What an instruction's branch should know half-way, (N, 9 tasks, 9): offsets to block and plate, grip, turn."""
    tool, yaw = states[:, :3], states[:, _COLUMN["tool_yaw"]]
    rows = []
    for task in TASKS:
        first = _COLUMN[f"{task.block}_x"]
        block = states[:, first : first + 3]
        turn = np.arctan2(states[:, first + 3], states[:, first + 4]) / 4 - yaw
        turn = (turn + np.pi / 4) % (np.pi / 2) - np.pi / 4
        plate = states[:, _COLUMN["plate_x"] : _COLUMN["plate_y"] + 1]
        held = states[:, _COLUMN[f"held_{task.block}"]]
        other = sum(states[:, _COLUMN[f"held_{c}"]] for c in COLORS if c != task.block)
        parts = [(block - tool) / 0.08, (plate - tool[:, :2]) / 0.08, held[:, None] * 2, other[:, None] * 2]
        rows.append(np.concatenate([*parts, states[:, _COLUMN["opening"], None] * 2, turn[:, None] / 0.3], axis=1))
    return np.stack(rows, axis=1).astype(np.float32)


class Packing:
    """Rows of one sequence: BOS, patches, the shared start of all prompts, then one branch per instruction."""

    def __init__(self, prompts: list[list[int]], patches: int, branches: int) -> None:
        self.prompts, self.patches, self.branches = prompts, patches, branches
        self.prefix = next(i for i in range(len(prompts[0])) if len({tuple(p[: i + 1]) for p in prompts}) > 1)
        self.longest = max(len(p) for p in prompts) - self.prefix
        self.length = self.longest + ACTION_DIM - 1
        self.shared = patches + self.prefix
        self.rows = self.shared + branches * self.length

    def layout(self, tasks: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Everything that depends on which tasks are packed.

        Returns suffix ids (branches, longest), positions (rows,), mask (rows, rows) and the numbers (branches, 7) of
        the rows whose logits predict the action tokens.
        """
        ids = torch.zeros(self.branches, self.longest, dtype=torch.long)
        positions = torch.zeros(self.rows, dtype=torch.long)
        positions[: self.shared] = torch.arange(self.shared)
        mask = torch.eye(self.rows, dtype=torch.bool)
        mask[: self.shared, : self.shared] = torch.ones(self.shared, self.shared).tril().bool()
        readout = torch.zeros(self.branches, ACTION_DIM, dtype=torch.long)
        for b, task in enumerate(tasks):
            suffix = self.prompts[task][self.prefix :]
            n, start = len(suffix), self.shared + b * self.length
            ids[b, :n] = torch.tensor(suffix)
            # The suffix may be shorter than the longest one: its spare rows see only themselves, nobody sees them.
            used = torch.cat([torch.arange(n), self.longest + torch.arange(ACTION_DIM - 1)]) + start
            positions[used] = self.shared + torch.arange(len(used))
            mask[used, : self.shared] = True
            mask[used[:, None], used[None]] = torch.ones(len(used), len(used)).tril().bool()
            readout[b] = used[n - 1 :]
        return ids, positions, mask, readout


class PolicyTrainer(nn.Module):
    """Projector and decoder with the training-only parts around them."""

    def __init__(self, config: OpenVLAConfig, packing: Packing, mean: Tensor, std: Tensor, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.config, self.packing = config, packing
        self.projector, self.llama = Projector(config), Llama(config.llama)
        self.auxiliary = nn.Linear(config.llama.hidden_size, 9)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=p.shape[1] ** -0.5)
                if "o_proj" in name or "down_proj" in name:
                    p.data /= (2 * config.llama.num_hidden_layers) ** 0.5
        nn.init.normal_(self.llama.model.embed_tokens.weight, std=0.5)
        nn.init.normal_(self.llama.lm_head.weight, std=0.02)

    def forward(
        self,
        features: Tensor,
        prefix: Tensor,
        ids: Tensor,
        actions: Tensor,
        positions: Tensor,
        mask: Tensor,
        readout: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Logits over the vocabulary (B, branches, 7, V) and auxiliary read-outs (B, branches, 9)."""
        b = features.shape[0]
        patches = self.projector((features.float() - self.mean) / self.std)
        start = self.llama.embed(prefix).expand(b, -1, -1)
        suffix = self.llama.embed(ids).expand(b, -1, -1, -1)
        branches = torch.cat([suffix, self.llama.embed(actions)], dim=2).flatten(1, 2)
        x = torch.cat([start[:, :1], patches, start[:, 1:], branches], dim=1)
        rope = rope_tables(self.config.llama, positions, x.dtype)
        for i, layer in enumerate(self.llama.model.layers):
            x = layer(x, rope, mask, None, 0)
            if i + 1 == AUX_LAYER:
                auxiliary = self.auxiliary(x[:, readout[:, 0]])
        x = self.llama.model.norm(x[:, readout.flatten()])
        return self.llama.lm_head(x).unflatten(1, readout.shape), auxiliary

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from :meth:`state_dict`, or from the decoder of :func:`from_checkpoint`, which has no
        standardisation and no read-out of the scene: those stay as they are here, without a change of what the
        projector computes.
        """
        missing, unknown = self.load_state_dict(state, strict=False)
        if unknown or not set(missing) <= {"mean", "std", "auxiliary.weight", "auxiliary.bias"}:
            raise ValueError(f"not the weights of this model: lacks {missing}, has {unknown}")
        if "mean" not in missing:
            return
        with torch.no_grad():
            self.projector.fc1.bias += self.projector.fc1.weight @ self.mean
            self.projector.fc1.weight *= self.std

    def folded_projector(self) -> Projector:
        """The projector with the feature standardisation folded into its first layer, as the checkpoint stores it."""
        folded = Projector(self.config)
        folded.load_state_dict(self.projector.state_dict())
        with torch.no_grad():
            folded.fc1.weight /= self.std
            folded.fc1.bias -= folded.fc1.weight @ self.mean
        return folded


def from_checkpoint(folder: Path) -> dict[str, dict[str, Tensor]]:
    """The parts of an exported model that training continues from, as ``policy.pt`` holds them."""
    model = load_model(folder, device="cpu").model
    decoder = {f"projector.{name}": value for name, value in model.projector.state_dict().items()}
    decoder |= {f"llama.{name}": value for name, value in model.language_model.state_dict().items()}
    return {"decoder": decoder, "towers": model.vision_backbone.state_dict()}


def policy_loss(
    logits: Tensor, auxiliary: Tensor, bins: Tensor, aux: Tensor, weight: Tensor, first_id: int
) -> tuple[Tensor, Tensor]:
    """Error of the expected bin, and soft cross-entropy that gathers a distribution around it.

    ``logits`` (B, K, 7, V); the 256 action ids start at ``first_id``, the highest bin first; ``bins`` (B, K, 7) 1..256.
    Returns the loss and the share of tokens within 9 bins per dimension.

    Of a motion that the model is unsure of, cross-entropy with the label itself would leave one mode per plausible
    label, and the argmax jumps between them: no turn in one image, the largest in the next. Here the labels move the
    mean, and the distribution is asked to be one hump around its own mean, so an unsure model answers in between and
    what it answers changes smoothly with what it sees. The gripper, which has no in-between, learns its labels.
    """
    target = 256 - bins  # place among the action ids
    columns = torch.arange(256, dtype=torch.float32)
    # Normalised over the whole vocabulary: decoding takes the argmax over all of it.
    log_probability = logits.float().log_softmax(-1)[..., first_id : first_id + 256]
    logits = logits.float()[..., first_id : first_id + 256]
    expected = (logits.softmax(-1) * columns).sum(-1)
    centre = torch.cat([expected[..., :6].detach(), target[..., 6:].float()], dim=-1)
    width = torch.tensor([SPREAD] * 6 + [0.25])[:, None]
    soft = torch.softmax(-0.5 * ((columns - centre[..., None]) / width) ** 2, dim=-1)
    entropy = -(soft * log_probability).sum(-1)
    # Quadratic up to 64 bins: its minimum is the mean of the labels, where an absolute error would jump like a mode.
    offset = F.huber_loss(expected / 16, target / 16.0, reduction="none", delta=4.0)
    entropy_share = torch.tensor([0.5] * 6 + [1.0])
    offset_share = torch.tensor([2.0] * 6 + [0.0])
    dims = torch.tensor([1.5, 1.5, 1.5, 0.8, 0.8, 1.0, 1.5])
    scene = F.smooth_l1_loss(auxiliary, aux, reduction="none").mean(-1)
    loss = ((entropy_share * entropy + offset_share * offset) * dims).mean(-1) + 0.7 * scene
    near = ((logits.argmax(-1) - target).abs() <= 9).float()
    return (loss * weight).mean() / weight.mean(), near.detach().mean((0, 1))


def train_policy(
    bank: FrameBank,
    refresh: Callable[[FrameBank], None],
    prompts: list[list[int]],
    minutes: float,
    seed: int,
    log: Callable[[str], None],
    snapshot: Callable[[PolicyTrainer, float], None],
    batch: int = 24,
    branches: int = 4,
    peak_rate: float = 1.5e-3,
    initial: dict[str, Tensor] | None = None,
) -> PolicyTrainer:
    """Train for ``minutes`` of wall-clock time.

    Every two minutes ``refresh`` may add files to the bank, then ``snapshot`` is called.
    """
    config, rng = bank.config, np.random.default_rng(seed)
    refresh(bank)
    bins, aux, task, draw = bank.labels()
    with torch.no_grad():
        sample = torch.cat([bank.features(rng.integers(len(bank), size=batch)).float() for _ in range(40)])
    packing = Packing(prompts, config.towers[0].patches, branches)
    trainer = PolicyTrainer(config, packing, sample.mean((0, 1)), sample.std((0, 1)) + 1e-4, seed)
    if initial is not None:
        trainer.restore(initial)
    decay = [p for p in trainer.parameters() if p.dim() == 2]
    rest = [p for p in trainer.parameters() if p.dim() != 2]
    towers = [p for p in bank.backbone.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": decay, "weight_decay": 0.03, "share": 1.0},
            {"params": rest, "weight_decay": 0.0, "share": 1.0},
            {"params": towers, "weight_decay": 0.0, "share": TOWER_RATE},
        ],
        betas=(0.9, 0.98),
    )
    forward = torch.compile(trainer)
    prefix = torch.tensor(prompts[0][: packing.prefix])
    end, start, step, refreshed = config.action_vocab_end, time.monotonic(), 0, time.monotonic()
    while (progress := (time.monotonic() - start) / 60 / minutes) < 1:
        if time.monotonic() - refreshed > 120:
            refresh(bank)
            bins, aux, task, draw = bank.labels()
            snapshot(trainer, progress)
            refreshed = time.monotonic()
        rate = peak_rate * min(1.0, (step + 1) / 200) * max(0.02, 0.5 * (1 + np.cos(np.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        tasks = rng.permutation(len(TASKS))[:branches]
        candidates = np.flatnonzero(np.isin(task, tasks))
        chance = draw[candidates] / draw[candidates].sum()
        rows = rng.choice(candidates, size=batch, p=chance)
        target = torch.from_numpy(bins[rows][:, tasks])
        # Teacher forcing with errors: the arm will run on the model's own tokens, which are a few bins off, and a
        # verifier reads drafts that are further off; what it says of later dimensions should survive that.
        spread = rng.choice([0, 4, 8, 16], size=target.shape[:2])[..., None]
        noise = torch.from_numpy(rng.normal(size=target.shape) * spread)
        shown = (target[..., :6] + noise[..., :6].round().long()).clamp(1, 256)
        share_lost = rng.choice([0.05, 0.05, 0.3, 1.0], size=target.shape[:2])[..., None]
        lost = torch.from_numpy(rng.random(shown.shape) < share_lost)
        shown = torch.where(lost, torch.randint_like(shown, 1, 257), shown)
        weight = torch.from_numpy(np.where(tasks[None] == task[rows][:, None], 2.0, 1.0).astype(np.float32))
        with torch.autocast("cpu", torch.bfloat16):
            logits, auxiliary = forward(bank.features(rows), prefix, *_inputs(packing, tasks, end - shown))
        loss, near = policy_loss(
            logits, auxiliary.float(), target, torch.from_numpy(aux[rows][:, tasks]), weight, end - 256
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*trainer.parameters(), *towers], 1.0)
        optimizer.step()
        step += 1
        if step % 100 == 0:
            shares = " ".join(f"{v:.2f}" for v in near.tolist())
            log(f"policy {progress:5.1%} step {step} frames {len(bank)} loss {loss.item():.3f} within 9 bins {shares}")
    snapshot(trainer, 1.0)
    return trainer


def _inputs(packing: Packing, tasks: np.ndarray, actions: Tensor) -> tuple[Tensor, ...]:
    ids, positions, mask, readout = packing.layout(tasks)
    return ids, actions, positions, mask, readout
