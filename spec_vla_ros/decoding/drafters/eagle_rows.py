"""The head of Spec-VLA on its cache: rows that the verifier has settled, and the tree that grows behind them.

As the verifier's passes, either with as many rows as there are, or in few shapes that a GPU can replay. Both give the
same tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spec_vla_ros.decoding.deferred import Grown
from spec_vla_ros.decoding.fixed_shapes import TEXT_SIZES, TREE_LEVELS
from spec_vla_ros.decoding.graphs import Pool, Replay
from spec_vla_ros.decoding.heads.eagle_head import EagleHead
from spec_vla_ros.decoding.outcome import bias_of
from spec_vla_ros.openvla.llama import ALIGNED, Rotations, causal_mask, rope_tables
from spec_vla_ros.openvla.model import OpenVLA

from .base import HasHidden
from .growth import Best, best_of, grow, guesses, laid_out

NODES = 49  # of the published tree, its root not counted
SETTLED = 8  # rows that a pass settles, filled up: an accepted branch and the token before it


class ExactRows:
    """Every computation has its own shape. ``room``: rows that the cache of ``slots`` rows has.

    ``published_positions``: levels stand where they do in the public implementation, at 0 and after.
    """

    pool = None

    def __init__(self, head: EagleHead, model: OpenVLA, slots: int, published_positions: bool) -> None:
        self.room, self._head, self._model, self._published = slots, head, model, published_positions
        self.cache = head.make_cache(slots, model.device, model.dtype)
        self._numbers = torch.arange(slots, device=model.device)
        self._rope = rope_tables(model.config.llama, self._numbers, model.dtype)
        self._mask = causal_mask(slots, model.device)
        self._state, self._rows = None, 0  # the estimate (1, 1, H) after the last of so many settled rows

    def begin(self) -> None:
        """A new prompt. Nobody looks at rows that were not written since."""

    def warm_up(self, width: int) -> None:
        """Nothing is worth being done before it is needed."""

    def catch_up(self, prompt: Tensor, ids: Sequence[int], states: HasHidden, start: int) -> None:
        """Feed the rows from ``start`` on whose ``states`` the verifier has left: of ``prompt`` (1, P, H), of which
        none or all have been fed, and of ``ids`` behind it. A row joins a state and what comes after it.
        """
        kept = self._model.language_model.embed(torch.tensor([list(ids)], device=prompt.device))
        embeds, known = torch.cat([prompt, kept], dim=1)[:, start + 1 :], states.hidden
        self._rows = end = start + known.shape[1]
        mask = self._mask[start:end, :end]
        self._state = self._head(embeds, known, self._tables(start, end), mask, self.cache, start)[:, -1:]

    def grow(self, width: int, count: int) -> Best:
        """The tree behind the settled rows: the best :data:`NODES` of ``count`` levels, as :func:`.growth.grow`."""
        slots = self._numbers[self._rows :]
        found = grow(guesses(self._model, width), self._step, self._state, slots, width, count)
        return best_of(*found, NODES)

    def _step(self, level: int, ids: Tensor, states: Tensor, above: Tensor) -> Tensor:
        width, rows, place = len(ids), self._rows, level - 1 + (0 if self._published else self._rows)
        mask = torch.zeros(width, rows + level * width, dtype=torch.bool, device=ids.device)
        mask[:, :rows] = True
        mask.scatter_(1, above, True)
        embeds, start = self._model.language_model.embed(ids)[None], rows + (level - 1) * width
        return self._head(embeds, states, self._tables(place, place + 1), mask, self.cache, start)

    def _tables(self, start: int, end: int) -> tuple[Tensor, Tensor]:
        return self._rope[0][..., start:end, :], self._rope[1][..., start:end, :]


class FixedRows:
    """The same in few shapes, recorded on CUDA; it fills up with rows that go to the cache's last slot, where nobody
    looks. Whatever changes from pass to pass travels to the device in one copy, and nobody waits for it.
    """

    def __init__(self, head: EagleHead, model: OpenVLA, slots: int, published_positions: bool) -> None:
        self.room, self._head, self._model, self._published = slots - 1, head, model, published_positions
        device, dtype, llama = model.device, model.dtype, model.config.llama
        self.pool = Pool(device)
        self.cache = head.make_cache(slots, device, dtype)
        self._slots, self._numbers = slots, torch.arange(-(-slots // ALIGNED) * ALIGNED, device=device)
        self._rope = Rotations(llama, self._numbers[:slots], dtype, head.wants_tables)
        # Row n of it: what a row sees that may look at the first n slots.
        self._sight = bias_of(self._numbers < self._numbers[:slots, None], dtype)
        patches = model.config.towers[0].patches
        self._prompts = [size for text in TEXT_SIZES if (size := patches + text + SETTLED) < slots]
        # What recordings read: rows of a prompt, states of the verifier, the estimate after the last settled row, and
        # integers that say what it is about.
        self._embeds, self._states, self._state = (
            torch.zeros(1, rows, llama.hidden_size, device=device, dtype=dtype) for rows in (slots, slots, 1)
        )
        self._control = torch.zeros(2 + 5 * slots, dtype=torch.long, device=device)
        self._host = torch.zeros(2 + 5 * slots, dtype=torch.long, pin_memory=device.type == "cuda")
        self._recorded: dict[tuple, Replay] = {}

    def begin(self) -> None:
        """A new prompt. What is no number spoils even rows that may not see it: the later trees of its action, where
        nobody clears a part of the cache, and none of the next one.
        """
        self.cache.clear()

    def warm_up(self, width: int) -> None:
        """Record every shape that trees of ``width`` children take."""
        self._control.fill_(1)
        for size in self._prompts:
            self._settle(size, True)
        self._settle(SETTLED, False)
        for count in range(1, TREE_LEVELS + 1):
            self.grow(width, count)
        self.cache.clear()

    def catch_up(self, prompt: Tensor, ids: Sequence[int], states: HasHidden, start: int) -> None:
        """As of :class:`ExactRows`."""
        hidden, among = states.among()
        size = next((size for size in (self._prompts if start == 0 else [SETTLED]) if size >= len(among)), len(among))
        ids = ids if start == 0 else ids[-len(among) :]
        self._tell(among, ids, start, size)
        _, _, take, known, *_ = self._fields(self._control, size)
        torch.index_select(hidden[0], 0, take, out=self._states[0, :size])
        if start == 0:
            first = prompt.shape[1] - 1
            self._embeds[:, :first] = prompt[:, 1:]
            self._embeds[:, first : first + len(ids)] = self._model.language_model.embed(known[: len(ids)])
        self._settle(size, start == 0)

    def grow(self, width: int, count: int) -> Grown:
        """As of :class:`ExactRows`; valid until the next call of anything here."""
        name = f"a tree of {count} levels, {width} wide, of the eagle head"
        return self._replay(partial(self._grow, width, count), name)

    def _tell(self, among: Sequence[int], ids: Sequence[int], start: int, size: int) -> None:
        """Write what is settled into the integers that recordings read. Rows that only fill up repeat the first one."""
        rows, last, take, known, places, slots, sight = (part.numpy() for part in self._fields(self._host, size))
        count = len(among)
        rows[:], last[:] = start + count, count - 1
        take[:count], take[count:] = among, among[0]
        known[: len(ids)], known[len(ids) :] = ids, 0
        places[:count], places[count:] = np.arange(start, start + count), start
        slots[:count], slots[count:] = places[:count], self._slots - 1
        sight[:] = places + 1
        length = 2 + 5 * size
        self._control[:length].copy_(self._host[:length], non_blocking=True)

    @staticmethod
    def _fields(control: Tensor, size: int) -> tuple[Tensor, ...]:
        """Number of settled rows; which of ``size`` rows is the last of them; for each of these rows which of the
        verifier's states it takes, an id, its position, its slot and how many slots it sees.
        """
        return control[: 2 + 5 * size].split((1, 1, *[size] * 5))

    def _replay(self, function: partial, name: str) -> Any:
        """What ``function`` gives, recorded under its own name and arguments."""
        key = (function.func.__name__, *function.args)
        if key not in self._recorded:
            self._recorded[key] = Replay(function, self.pool, name)
        return self._recorded[key]()

    def _settle(self, size: int, opening: bool) -> None:
        self._replay(partial(self._catch_up, size, opening), f"{size} settled rows of the eagle head")

    def _catch_up(self, size: int, opening: bool) -> None:
        """Reads its buffers only. ``opening``: the rows are those of a prompt."""
        _, last, _, ids, places, slots, sight = self._fields(self._control, size)
        embeds = self._embeds[:, :size] if opening else self._model.language_model.embed(ids)[None]
        mask, rope = self._sight.index_select(0, sight)[:, : self._slots], self._rope.of(places)
        out = self._head(embeds, self._states[:, :size], rope, mask, self.cache, slots, self._slots)
        torch.index_select(out, 1, last, out=self._state)

    def _grow(self, width: int, count: int) -> Grown:
        """Reads its buffers only."""
        slots = self._numbers[: width * (count - 1)] + self._control[:1]
        found = grow(guesses(self._model, width), self._step, self._state, slots, width, count)
        return laid_out(best_of(*found, NODES), width, count, self._model.dtype)

    def _step(self, level: int, ids: Tensor, states: Tensor, above: Tensor) -> Tensor:
        rows = self._control[:1].expand(len(ids))
        places = self._numbers[level - 1 : level].expand(len(ids)) if self._published else rows + (level - 1)
        mask = self._sight.index_select(0, rows).scatter_(1, above, 0.0)[:, : self._slots]
        embeds, rope = self._model.language_model.embed(ids)[None], self._rope.of(places)
        return self._head(embeds, states, rope, mask, self.cache, above[:, -1], self._slots)
