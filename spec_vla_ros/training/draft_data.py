"""Labels for drafters: the verifier's own greedy answers to every frame of the sources, written as shards.

A frame is answered for its own instruction and for some others of the data: a drafter that sees one image under
several instructions has to read them. "Last action" is the verifier's own previous answer in that episode, as it is on
the robot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..decoding.heads.vision_head import NO_ACTION
from ..openvla.llama import KVCache, rope_tables
from ..openvla.loader import LoadedModel
from .draft_shards import Shard, shard_folder
from .frame_source import FrameSource, Shot

TELL = 15.0  # s between two lines about the progress


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
        """Greedy action tokens (B, A), on the host, of ``patches`` (B, P, H) under ``prompts`` of any length."""
        model, count, device = self.loaded.model, len(prompts), patches.device
        language_model, config = model.language_model, model.config.llama
        longest = max(map(len, prompts))
        ids = torch.zeros(count, longest, dtype=torch.long)
        for row, prompt in zip(ids, prompts, strict=True):
            row[: len(prompt)] = torch.tensor(prompt)
        lengths = torch.tensor([len(prompt) + patches.shape[1] for prompt in prompts], device=device)
        rows = model.prompt_embeds(patches, ids.to(device))
        width = rows.shape[1]
        slots = width + self.action_dim - 1
        cache = KVCache(config, slots, device, patches.dtype, batch=count)
        columns = torch.arange(slots, device=device)
        usable = (columns < lengths[:, None]) | (columns >= width)  # not the padding of shorter prompts
        causal = columns <= torch.arange(width, device=device)[:, None]
        # A padded row sees itself only through the causal part; nobody reads what it says.
        mask = (usable[:, None] | torch.eye(width, slots, dtype=torch.bool, device=device)) & causal
        positions = torch.arange(width, device=device).expand(count, -1)
        emitted: list[Tensor] = []
        hidden = language_model(rows, positions, mask[:, None, :, :width], cache, 0, self._rope(positions, rows.dtype))
        hidden = hidden[torch.arange(count, device=device), lengths - 1]
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


@dataclass(frozen=True)
class LabelSettings:
    """``shard_frames``: per shard. ``others``: instructions per frame besides its own. ``batch``: frames at once."""

    shard_frames: int
    others: int
    seed: int
    batch: int = 12


class Labeller:
    """Turns sources into shards. Process ``rank`` of ``world`` makes every ``world``-th shard."""

    def __init__(
        self,
        loaded: LoadedModel,
        instructions: Sequence[str],
        settings: LabelSettings,
        work: Path,
        log: Callable[[str], None],
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._loaded, self._settings, self._work, self._log = loaded, settings, work, log
        self._rank, self._world = rank, world
        self._greedy = BatchedGreedy(loaded)
        self._task_of = {text: index for index, text in enumerate(instructions)}
        self._prompts = [loaded.prompt.ids(text) for text in instructions]
        self._began, self._told, self._made, self._there, self._expected = time.monotonic(), 0.0, 0, 0, 0

    def run(self, sources: Sequence[FrameSource]) -> None:
        """Make every shard that is not there yet."""
        self._expected = sum(source.expected for source in sources)
        for at, source in enumerate(sources):
            self._source(at, source)
            for note in source.notes if self._rank == 0 else ():
                self._log(f"note: {note}")

    def _source(self, at: int, source: FrameSource) -> None:
        size = self._settings.shard_frames
        mine: dict[int, bool] = {}

        def to_do(index: int) -> bool:
            if index not in mine:
                exists = shard_folder(self._work, at, index).exists()
                mine[index] = index % self._world == self._rank and not exists
                self._there += size * exists
            return mine[index]

        def wanted(number: int) -> bool:
            # The frame before a shard is asked for as well: its answer is the last action of the first one in it.
            return to_do(number // size) or (number % size == size - 1 and to_do(number // size + 1))

        shard, before = None, None
        for shot in source.frames(wanted):
            index = shot.number // size
            if shard is not None and shard.index != index:
                self._finish(at, source, shard)
                shard = None
            if to_do(index):
                if shard is None:
                    follows = before is not None and before.number == index * size - 1 and not source.lanes
                    shard = _Unfinished(self, at, source, index, before if follows else None)
                shard.add(shot)
                if shot.number % size == size - 1:
                    self._finish(at, source, shard)
                    shard = None
            before = shot
        if shard is not None:
            self._finish(at, source, shard)

    def _finish(self, at: int, source: FrameSource, shard: _Unfinished) -> None:
        folder = shard_folder(self._work, at, shard.index)
        shard.close().save(folder)
        self.tell(0, f"{folder.name} of {source.name} is done; ", True)

    def answer(self, at: int, shots: Sequence[Shot], last: dict[int, np.ndarray]) -> tuple[dict, np.ndarray]:
        """Labels of ``shots`` as arrays of :class:`Shard`, and the bins (N, A) of each shot's own answer.

        ``last``: bins of the newest answer by episode; brought up to date.
        """
        loaded, dim = self._loaded, self._greedy.action_dim
        patches = self._greedy.patches([shot.image for shot in shots])
        tasks, forget = [], []
        for shot in shots:
            rng = np.random.default_rng([self._settings.seed, at, shot.number])
            own = self._task_of[shot.instruction]
            others = rng.permutation([task for task in range(len(self._prompts)) if task != own])
            tasks.append(np.concatenate([[own], others[: self._settings.others]]).astype(np.int64))
            # Its own instruction keeps the history; after a change of instruction there often is none.
            forget.append(np.concatenate([[False], rng.random(len(tasks[-1]) - 1) < 0.5]))
        rows = np.repeat(np.arange(len(shots)), [len(part) for part in tasks])
        task = np.concatenate(tasks)
        tokens = self._greedy.tokens(
            patches[torch.from_numpy(rows).to(patches.device)], [self._prompts[t] for t in task]
        )
        tokens = tokens.numpy()
        own = np.concatenate([[0], np.cumsum([len(part) for part in tasks])[:-1]])
        bins = loaded.tokens.to_bins(np.clip(tokens[own], loaded.tokens.first, loaded.tokens.vocab_end - 1))
        history = np.full((len(shots), dim), NO_ACTION)
        for i, shot in enumerate(shots):
            history[i] = last.get(shot.episode, history[i])
            last[shot.episode] = bins[i]
        for episode in set(last) - {shot.episode for shot in shots}:
            del last[episode]  # over; memory stays what it is
        labels = {
            "patches": patches.to(torch.float16).cpu().numpy(),
            "number": np.array([shot.number for shot in shots]),
            "episode": np.array([shot.episode for shot in shots]),
            "frame": rows,
            "task": task,
            "last": np.where(np.concatenate(forget)[:, None], NO_ACTION, history[rows]),
            "tokens": tokens,
            "driven": np.isin(np.arange(len(rows)), own),
        }
        return labels, bins

    @property
    def batch(self) -> int:
        """Frames that are answered at once, unless the source waits for answers."""
        return self._settings.batch

    def actions(self, bins: np.ndarray) -> np.ndarray:
        """(N, A) in m, rad and opening."""
        return self._loaded.statistics.unnormalise(self._loaded.tokens.centres[bins])

    def empty(self) -> dict[str, np.ndarray]:
        """Labels of no frame at all."""
        config, dim = self._loaded.config, self._greedy.action_dim
        shapes = {
            "patches": (0, config.towers[0].patches, config.llama.hidden_size),
            "last": (0, dim),
            "tokens": (0, dim),
        }
        types = {"patches": np.float16, "driven": bool}
        return {name: np.zeros(shapes.get(name, 0), types.get(name, np.int64)) for name in Shard.NAMES}

    def tell(self, frames: int, what: str = "", always: bool = False) -> None:
        """Count ``frames`` and say now and then how far it is."""
        self._made += frames
        now = time.monotonic()
        if self._rank != 0 or not (always or now - self._told > TELL):
            return
        self._told = now
        left = max(0, self._expected - self._there - self._made * self._world)
        rate = self._made * self._world / max(1e-3, now - self._began)
        self._log(
            f"labels: {what}{min(self._expected, self._there + self._made * self._world)} of about {self._expected} "
            f"frames, {rate:.1f} per s, {duration(left / rate) if rate else '?'} left"
        )


class _Unfinished:
    """A shard that is being made."""

    def __init__(self, labeller: Labeller, at: int, source: FrameSource, index: int, before: Shot | None) -> None:
        self.index, self._labeller, self._at, self._source = index, labeller, at, source
        self._parts = [labeller.empty()]
        self._frames, self._shots, self._last = 0, [], {}
        if before is not None:  # its answer, not its labels
            labeller.answer(at, [before], self._last)

    def add(self, shot: Shot) -> None:
        """One more frame."""
        self._shots.append(shot)
        if len(self._shots) == (self._source.lanes or self._labeller.batch):
            self._answer()

    def close(self) -> Shard:
        """All of it."""
        self._answer()
        return Shard(*(np.concatenate([part[name] for part in self._parts]) for name in Shard.NAMES))

    def _answer(self) -> None:
        if not self._shots:
            return
        labels, bins = self._labeller.answer(self._at, self._shots, self._last)
        self._source.answered(self._labeller.actions(bins), bins)
        labels["frame"] = labels["frame"] + self._frames
        self._frames += len(self._shots)
        self._parts.append(labels)
        self._labeller.tell(len(self._shots))
        self._shots = []


def duration(seconds: float) -> str:
    """Roughly, for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
