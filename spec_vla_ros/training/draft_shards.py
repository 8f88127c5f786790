"""What drafters learn from, on disk: folders of at most so many frames, and one file that says what they are of.

A shard appears by being renamed, whole or not at all, and depends on no other. ``manifest.json`` names the model, the
data and the settings; shards of anything else are refused instead of mixed. The features of the pictures stay on disk
and are mapped, so memory does not grow with them; labels (some 70 bytes per answer) are read as a whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CommandError
from ..openvla.loader import LoadedModel
from ..openvla.picture import BEFORE_IT_WAS_SAID
from ..outputs import whole, write_text

MANIFEST, FORMAT = "manifest.json", 2


class ShardsError(CommandError):
    """The shards in the work folder are not usable for what was asked."""


@dataclass
class Shard:
    """F frames and M answers to them.

    ``patches`` (F, P, H) float16 as projected; ``number``, ``episode`` (F,) within the source; ``frame`` (M,) row of
    ``patches``; ``task`` (M,) index into the manifest's instructions; ``last`` (M, A) bins of the action before, -1
    where there is none; ``tokens`` (M, A) the verifier's greedy ids; ``driven`` (M,) the frame's own instruction.
    """

    patches: np.ndarray
    number: np.ndarray
    episode: np.ndarray
    frame: np.ndarray
    task: np.ndarray
    last: np.ndarray
    tokens: np.ndarray
    driven: np.ndarray

    NAMES = ("patches", "number", "episode", "frame", "task", "last", "tokens", "driven")

    def save(self, folder: Path) -> None:
        """Write ``folder``, complete or not at all."""
        with whole(folder, folder=True) as partial:
            partial.mkdir()
            for name in self.NAMES:
                with (partial / f"{name}.npy").open("wb") as stream:
                    np.save(stream, getattr(self, name))
                    stream.flush()
                    os.fsync(stream.fileno())  # the rename may reach the disk before the data otherwise

    @staticmethod
    def load(folder: Path) -> Shard:
        """Read the labels, map the patches."""
        return Shard(*(
            np.load(folder / f"{name}.npy", mmap_mode="r" if name == "patches" else None) for name in Shard.NAMES
        ))  # fmt: skip


def shard_folder(work: Path, source: int, index: int) -> Path:
    """Where shard ``index`` of source ``source`` is."""
    return work / "shards" / f"shard_{source:02d}_{index:06d}"


class Manifest:
    """``made_for``: {"model": ..., "data": [...], "settings": {...}}; ``instructions``; ``complete``: {} until all
    shards are there, then how much there is.
    """

    def __init__(self, work: Path) -> None:
        self.path = work / MANIFEST
        self.made_for: dict[str, Any] = {}
        self.instructions: list[str] = []
        self.complete: dict[str, Any] = {}
        if self.path.is_file():
            try:
                stored = json.loads(self.path.read_text())
                known = stored["format"] == FORMAT
                self.made_for, self.instructions = stored["made_for"], stored["instructions"]
                self.complete = stored["complete"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise ShardsError(f"{self.path} cannot be read ({error}); use another --work") from error
            if not known:
                raise ShardsError(f"{self.path} is of another version of this program; use another --work")

    def require(self, made_for: dict[str, Any]) -> None:
        """Take note of what the shards are of, or refuse to mix; parts that are not in ``made_for`` may be anything."""
        made_for = json.loads(json.dumps(made_for))
        if not self.made_for:
            self.made_for = made_for
            return
        for part, value in made_for.items():
            stored = self.made_for.get(part)
            if part == "model":
                stored = {"image_resize": BEFORE_IT_WAS_SAID, **(stored or {})}
            if stored != value:
                raise ShardsError(
                    f"the shards in {self.path.parent} are of {_difference(part, stored, value)}; they are not mixed: "
                    "use another --work, or delete that folder"
                )

    def save(self) -> None:
        """Write the file, complete or not at all."""
        content = {"format": FORMAT, "made_for": self.made_for, "instructions": self.instructions}
        write_text(self.path, json.dumps({**content, "complete": self.complete}, indent=1) + "\n")

    @property
    def key(self) -> str:
        """Short name of what is described here, for checkpoints that belong to it."""
        return hashlib.sha256(json.dumps([self.made_for, self.complete], sort_keys=True).encode()).hexdigest()[:16]


def _difference(part: str, stored: Any, value: Any) -> str:
    """The first thing that differs, in words."""
    if isinstance(stored, list) and isinstance(value, list):
        if len(stored) != len(value):
            return f"other {part} ({len(stored)} sources, now {len(value)})"
        stored, value = next((a, b) for a, b in zip(stored, value, strict=True) if a != b)
    if isinstance(stored, dict) and isinstance(value, dict):
        names = [name for name in {**stored, **value} if stored.get(name) != value.get(name)]
        return f"another {part}: " + ", ".join(f"{n} {stored.get(n)!r}, now {value.get(n)!r}" for n in names)
    return f"another {part}: {stored!r}, now {value!r}"


def remove_partial(work: Path) -> None:
    """Delete what an interrupted run left half-written; nobody may be writing meanwhile."""
    for path in [*(work / "shards").glob("*.partial-*"), *work.glob("*.partial-*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


class Samples:
    """Answers of all shards, and batches of them. ``device``: where batches go.

    ``task``, ``shard``, ``row`` (M,); ``last``, ``tokens``, ``bins`` (M, A); ``driven`` (M,); ``episode`` (M,) numbered
    over all sources.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        loaded: LoadedModel,
        instructions: Sequence[str],
        text_rows: int,
        device: torch.device | str = "cpu",
    ) -> None:
        """``instructions`` in the order of the manifest; ``text_rows``: of a prompt that are read at most."""
        tokens, self.device = loaded.tokens, torch.device(device)
        shards = [Shard.load(folder) for folder in sorted(folders)]
        self._patches = [shard.patches for shard in shards]
        parts: dict[str, list[np.ndarray]] = {name: [] for name in ("shard", "row", "task", "last", "tokens", "driven")}
        episodes = []
        for at, (folder, shard) in enumerate(zip(sorted(folders), shards, strict=True)):
            # A frame on which the model did not answer with an action teaches nothing that could be drafted.
            good = ((shard.tokens >= tokens.first) & (shard.tokens < tokens.vocab_end)).all(1)
            columns = {"shard": np.full(len(shard.task), at), "row": shard.frame}
            for name, values in parts.items():
                values.append(columns.get(name, getattr(shard, name, None))[good])
            source = int(folder.name.split("_")[1])
            episodes.append(shard.episode[shard.frame[good]].astype(np.int64) + (source << 40))
        joined = {name: np.concatenate(values) for name, values in parts.items()}
        self.shard, self.row, self.task = (
            torch.from_numpy(joined[n].astype(np.int32)) for n in ("shard", "row", "task")
        )
        self.last = torch.from_numpy(joined["last"].astype(np.int16))
        self.tokens = torch.from_numpy(joined["tokens"].astype(np.int32))
        self.bins = torch.from_numpy(tokens.to_bins(joined["tokens"]).astype(np.int16))
        self.driven = torch.from_numpy(joined["driven"].astype(bool))
        self.episode = torch.from_numpy(np.unique(np.concatenate(episodes), return_inverse=True)[1])
        self.prompts = [loaded.prompt.ids(text) for text in instructions]
        ids = [prompt[1:][-text_rows:] for prompt in self.prompts]
        longest = max(map(len, ids))
        model = loaded.model
        self.text = torch.zeros(len(ids), longest, model.config.llama.hidden_size, device=self.device)
        self.text_mask = torch.zeros(len(ids), longest, dtype=torch.bool, device=self.device)
        with torch.no_grad():
            for i, part in enumerate(ids):
                self.text[i, : len(part)] = model.language_model.embed(torch.tensor(part, device=model.device)).float()
                self.text_mask[i, : len(part)] = True

    def __len__(self) -> int:
        """Number of answers."""
        return len(self.task)

    def patches(self, rows: Tensor) -> Tensor:
        """(B, P, H) float32 of these answers, on the device."""
        found = [self._patches[s][r] for s, r in zip(self.shard[rows].tolist(), self.row[rows].tolist(), strict=True)]
        return torch.from_numpy(np.stack(found)).to(self.device).float()

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Patches, text, last, bins and text mask of these answers, on the device."""
        task = self.task[rows].long().to(self.device)
        last, bins = (part[rows].long().to(self.device) for part in (self.last, self.bins))
        return self.patches(rows), self.text[task], last, bins, self.text_mask[task]

    def split(self, share: float, seed: int) -> tuple[Tensor, Tensor]:
        """Answers to learn from and answers held out: about ``share`` of them, whole episodes, at least one.

        Raises :class:`ShardsError` where there is only one episode.
        """
        counts = torch.bincount(self.episode)
        if len(counts) < 2:
            raise ShardsError(
                f"the data are {len(counts)} episode(s); one has to be held out and another learnt from: record more"
            )
        order = torch.randperm(len(counts), generator=torch.Generator().manual_seed(seed))
        # The first one in any case, and never the last.
        wanted = (counts[order].cumsum(0) - counts[order] < share * len(self))[: len(counts) - 1]
        held = torch.zeros(len(counts), dtype=torch.bool)
        held[order[:-1][wanted]] = True
        mask = held[self.episode]
        return torch.nonzero(~mask).flatten(), torch.nonzero(mask).flatten()
