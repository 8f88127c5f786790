"""What drafters learn from: the verifier's own greedy actions on the frames that it meets when it drives.

Several simulated arms run in lockstep, so that one batched pass serves them all. Each frame is answered for the
instruction that drives and for others: a drafter that sees one image under several instructions has to read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..decoding.heads.vision_head import NO_ACTION
from ..openvla.llama import KVCache, rope_tables
from ..openvla.loader import LoadedModel
from ..sim.arm import TabletopArm
from ..sim.tasks import TASKS, Layout
from .tabletop_data import CAMERA_SIZE

OTHERS = 2  # instructions per frame besides the one that drives
ARMS = 12  # in lockstep


@dataclass
class DraftFrames:
    """``patches`` (N, P, H) float16 as projected; ``task`` (M,), ``frame`` (M,) row of ``patches``; ``last`` (M, A)
    bins of the action before, -1 where there is none; ``tokens`` (M, A) the verifier's greedy ids.
    """

    patches: np.ndarray
    task: np.ndarray
    frame: np.ndarray
    last: np.ndarray
    tokens: np.ndarray

    NAMES = ("patches", "task", "frame", "last", "tokens")

    def save(self, path: Path) -> None:
        """Write one npz file, complete or not at all."""
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **{name: getattr(self, name) for name in self.NAMES})
        partial.rename(path)

    @staticmethod
    def load(paths: Sequence[Path]) -> DraftFrames:
        """Read and join several files."""
        parts = []
        offset = 0
        for path in sorted(paths):
            with np.load(path) as file:
                part = {name: file[name] for name in DraftFrames.NAMES}
            part["frame"] = part["frame"] + offset
            offset += len(part["patches"])
            parts.append(part)
        return DraftFrames(*(np.concatenate([part[name] for part in parts]) for name in DraftFrames.NAMES))

    def __len__(self) -> int:
        """Number of labelled (frame, instruction) pairs."""
        return len(self.task)


class BatchedGreedy:
    """Autoregressive decoding of many prompts at once; for labels, not for driving."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded, self.action_dim = loaded, loaded.statistics.action_dim

    @torch.inference_mode()
    def patches(self, images: Sequence[np.ndarray]) -> Tensor:
        """Projected patches (B, P, H) of RGB images."""
        pixels = torch.stack([self.loaded.transform(image) for image in images])
        return self.loaded.model.embed_image(pixels.to(self.loaded.model.device))

    @torch.inference_mode()
    def tokens(self, patches: Tensor, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Greedy action tokens (B, A) of ``patches`` (B, P, H) under ``prompts`` of any length."""
        model, count = self.loaded.model, len(prompts)
        language_model, config = model.language_model, model.config.llama
        longest = max(map(len, prompts))
        ids = torch.zeros(count, longest, dtype=torch.long)
        for row, prompt in zip(ids, prompts, strict=True):
            row[: len(prompt)] = torch.tensor(prompt)
        lengths = torch.tensor([len(prompt) + patches.shape[1] for prompt in prompts])
        rows = model.prompt_embeds(patches, ids.to(patches.device))
        width = rows.shape[1]
        slots = width + self.action_dim - 1
        cache = KVCache(config, slots, patches.device, patches.dtype, batch=count)
        columns = torch.arange(slots)
        usable = (columns < lengths[:, None]) | (columns >= width)  # not the padding of shorter prompts
        causal = columns <= torch.arange(width)[:, None]
        # A padded row sees itself only through the causal part; nobody reads what it says.
        mask = (usable[:, None] | torch.eye(width, slots, dtype=torch.bool)) & causal
        positions = torch.arange(width).expand(count, -1)
        emitted: list[Tensor] = []
        hidden = language_model(rows, positions, mask[:, None, :, :width], cache, 0, self._rope(positions, rows.dtype))
        hidden = hidden[torch.arange(count), lengths - 1]
        while True:
            emitted.append(language_model.logits(hidden).argmax(-1))
            if len(emitted) == self.action_dim:
                return torch.stack(emitted, dim=1).cpu()
            at = len(emitted) - 1
            positions = (lengths + at)[:, None]
            seen = usable[:, : width + at + 1]
            row = language_model.embed(emitted[-1])[:, None]
            rope = self._rope(positions, rows.dtype)
            hidden = language_model(row, positions, seen[:, None, None], cache, width + at, rope)[:, 0]

    def _rope(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return rope_tables(self.loaded.config.llama, positions, dtype)


class _Drive:
    """One arm on its way through random episodes."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.arm = rng, TabletopArm((CAMERA_SIZE, CAMERA_SIZE))
        self.restart()

    def restart(self) -> None:
        rng = self.rng
        self.arm.reset(Layout.sample(rng))
        self.level = float(rng.choice([0.0, 0.0, 0.0, 0.3, 0.7]))  # mostly as it will drive
        self.instruct(int(rng.integers(len(TASKS))))
        self.end = TASKS[self.task].time_limit

    def instruct(self, task: int) -> None:
        self.task, self.last = task, None

    def act(self, values: np.ndarray, bins: np.ndarray) -> None:
        rng, arm = self.rng, self.arm
        action = values.copy()
        action[:3] += self.level * rng.normal(size=3) * 0.015
        action[3:6] += self.level * rng.normal(size=3) * [0.02, 0.02, 0.06]
        arm.apply_delta(action[:6], 1.0 if action[6] > 0.5 else 0.0)
        arm.advance(float(rng.choice([0.0, 0.03, 0.06, 0.1])))
        self.last = bins
        if arm.time > self.end or TASKS[self.task].done(arm):
            if rng.random() < 0.5 and arm.time < self.end:
                self.instruct(int(rng.integers(len(TASKS))))  # the next task in the scene as it is
            else:
                self.restart()


def collect(loaded: LoadedModel, frames: int, seed: int) -> DraftFrames:
    """Drive ``ARMS`` arms until about ``frames`` frames are recorded."""
    rng = np.random.default_rng(seed)
    drives = [_Drive(np.random.default_rng([seed, i])) for i in range(ARMS)]
    greedy, dim = BatchedGreedy(loaded), loaded.statistics.action_dim
    prompts = [loaded.prompt.ids(task.instruction) for task in TASKS]
    parts: dict[str, list[np.ndarray]] = {name: [] for name in DraftFrames.NAMES}
    none = np.full(dim, NO_ACTION)
    for step in range(frames // ARMS):
        patches = greedy.patches([drive.arm.render() for drive in drives])
        tasks = np.stack([_tasks(drive.task, rng) for drive in drives])  # [ARMS, 1 + OTHERS]
        rows = np.repeat(np.arange(ARMS), 1 + OTHERS)
        tokens = greedy.tokens(patches[rows], [prompts[task] for task in tasks.ravel()]).numpy()
        known = loaded.tokens.to_bins(np.clip(tokens, loaded.tokens.first, loaded.tokens.vocab_end - 1))
        last = np.stack([none if drive.last is None else drive.last for drive in drives])[rows]
        forget = rng.random(len(rows)) < 0.5
        forget[:: 1 + OTHERS] = False  # the driving instruction keeps its history; after a change there is none
        parts["patches"].append(patches.to(torch.float16).numpy())
        parts["task"].append(tasks.ravel())
        parts["frame"].append(rows + step * ARMS)
        parts["last"].append(np.where(forget[:, None], NO_ACTION, last))
        parts["tokens"].append(tokens)
        values = loaded.statistics.unnormalise(loaded.tokens.centres[known])
        for i, drive in enumerate(drives):
            drive.act(values[i * (1 + OTHERS)], known[i * (1 + OTHERS)])
    for drive in drives:
        drive.arm.close()
    return DraftFrames(*(np.concatenate(parts[name]) for name in DraftFrames.NAMES))


def _tasks(driving: int, rng: np.random.Generator) -> np.ndarray:
    others = rng.permutation([task for task in range(len(TASKS)) if task != driving])[:OTHERS]
    return np.concatenate([[driving], others])
