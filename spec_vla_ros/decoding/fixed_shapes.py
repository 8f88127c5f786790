"""A pass that has one of few sizes, filled up with rows that nobody reads, so that a GPU can replay a recording of it.

A recording always reads the same memory and has no branches: whatever changes from pass to pass, the number of real
rows included, is worked out on the host and travels to the device in one copy, because there every step of it would be
a launch. Rows behind the real ones go to the cache's last slot, which no real row sees, and their outcomes are cut off
on the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from spec_vla_ros.errors import InstructionError
from spec_vla_ros.openvla.action_tokens import ActionTokens
from spec_vla_ros.openvla.llama import ALIGNED, KVCache, Rotations
from spec_vla_ros.openvla.model import OpenVLA
from spec_vla_ros.openvla.prompt import MAX_PROMPT_IDS

from .acceptance import far_apart
from .deferred import Later
from .graphs import Pool, Replay
from .outcome import Answer, Question, bias_of, outcome_of
from .tree import TREE_ROWS, ancestors_of

TREE_LEVELS = 6  # of a tree; actions of more than seven dimensions may want deeper ones
TEXT_SIZES = (32, 64, MAX_PROMPT_IDS)  # prompt ids, filled up to one of these
TREE_SIZES = (0, 8, 32, 48, TREE_ROWS)  # 48: eight whole branches of seven tokens, 4 % of arithmetic below 64
NUMBER = 8  # bytes of an integer of the control vector


@dataclass(frozen=True)
class Shape:
    """Size of a pass: ``settled`` and ``drafted`` rows, cache slots before ``end`` in sight. ``from_rows``: settled
    rows lie in the buffer for them; else there is one, whose token travels with the pass.
    """

    settled: int
    drafted: int
    end: int
    from_rows: bool

    @property
    def rows(self) -> int:
        """Of the pass."""
        return self.settled + self.drafted

    @property
    def words(self) -> str:
        """For people."""
        return f"a pass of {self.settled} + {self.drafted} rows"

    @property
    def fields(self) -> tuple[int, ...]:
        """Lengths of the integers of the control vector: ids that are embedded, and where each of them lies where some
        are deferred; then of all rows their positions, slots and how many slots they see, rows whose choice is asked
        for, and the slots of the tree.
        """
        ids = self.drafted + (not self.from_rows)
        return ids, ids, self.rows, self.rows, self.rows, self.drafted + 1, self.drafted


class Sizes(Protocol):
    """Decides how large a pass is."""

    def of(self, question: Question) -> Shape:
        """The shape that ``question`` is filled up to."""

    def ahead(self) -> Iterator[tuple[int, int]]:
        """(prompt rows, drafted rows) of what shall be recorded before an arm moves."""


class FewSizes:
    """Prompts of ``TEXT_SIZES`` ids and trees of ``TREE_SIZES`` rows; a prompt that fits none has its own size."""

    def __init__(self, patches: int, slots: int) -> None:
        self._slots = slots
        behind = TREE_ROWS + TREE_LEVELS  # the rest of an action of seven tokens and the largest tree
        self._prompts = [patches + text for text in TEXT_SIZES if patches + text + behind < slots]
        self._prompt = 0  # size of the prompt that is in the cache: what follows looks back on it

    def of(self, question: Question) -> Shape:
        """Smallest shape that holds it."""
        prompt, drafted = not isinstance(question.settled, int), len(question.tree)
        if prompt:
            self._prompt = next((size for size in self._prompts if size >= question.count), question.count)
        size = next(size for size in TREE_SIZES if size >= drafted)
        end = max(self._prompt + TREE_LEVELS + 1 + TREE_ROWS, question.edge + size)
        end = -(-end // ALIGNED) * ALIGNED
        return Shape(self._prompt if prompt else 1, size, min(end, self._slots), prompt)

    def ahead(self) -> Iterator[tuple[int, int]]:
        """All of them."""
        return ((prompt, drafted) for prompt in self._prompts for drafted in TREE_SIZES)


class OneSize:
    """The largest size for every pass, single tokens too, so that all kernels see one shape."""

    def __init__(self, slots: int) -> None:
        self._slots = slots

    def of(self, question: Question) -> Shape:
        """The one there is. Raises :class:`InstructionError` for a prompt that is larger."""
        settled = self._slots - 1 - TREE_ROWS
        if question.count > settled:
            raise InstructionError(f"the prompt has {question.count} rows, passes of one size have {settled}")
        return Shape(settled, TREE_ROWS, self._slots, True)

    def ahead(self) -> Iterator[tuple[int, int]]:
        """Nothing: this is for comparing decoders, not for driving an arm."""
        return iter(())


class FixedShapes:
    """Runs passes of ``model`` on ``cache`` at ``sizes``; ``pool`` decides whether they are recorded."""

    def __init__(self, model: OpenVLA, tokens: ActionTokens, cache: KVCache, sizes: Sizes, pool: Pool) -> None:
        self._model, self._tokens, self._cache, self._sizes, self._pool = model, tokens, cache, sizes, pool
        slots, device, dtype = cache.slots, model.device, model.dtype
        positions = torch.arange(slots, device=device)
        self._positions, self._apart = positions, far_apart(tokens, device)
        self._rope = Rotations(model.config.llama, positions, dtype, model.language_model.wants_tables)
        # Row n of it: what a row sees that may look at the first n slots.
        self._sight = bias_of(positions < positions[:, None], dtype)
        # What every recording reads: rows of a prompt, and bytes that say what the pass is about.
        self._rows = torch.zeros(1, slots, model.config.llama.hidden_size, device=device, dtype=dtype)
        largest = Shape(slots, TREE_ROWS, slots, False)
        length = NUMBER * sum(largest.fields) + TREE_ROWS**2 * dtype.itemsize
        self._control = torch.zeros(length, dtype=torch.uint8, device=device)
        self._host = torch.zeros(length, dtype=torch.uint8, pin_memory=device.type == "cuda")
        self.passes: dict[Shape, Replay] = {}

    def sizes(self) -> Iterator[tuple[int, int]]:
        """(prompt rows, drafted rows) of the passes that a warm-up has to run; a single token comes after each."""
        return self._sizes.ahead()

    def run(self, question: Question) -> Answer:
        """The pass: put down what it is about, then replay what was recorded for its shape."""
        shape = self._sizes.of(question)
        if shape.from_rows:
            self._show(question, shape)
        self._tell(question, shape)
        if shape not in self.passes:
            self.passes[shape] = Replay(partial(self.forward, shape), self._pool, shape.words)
        outcome, hidden = self.passes[shape]()
        if question.tree.deferred is not None and len(question.tree.deferred):
            outcome = torch.cat([outcome, *question.tree.deferred.numbers])  # whoever asked for them wants all of them
        return Answer(outcome, hidden, shape.settled)

    def _show(self, question: Question, shape: Shape) -> None:
        """Copy the settled rows to where the pass reads them."""
        rows = question.settled
        if isinstance(rows, int):
            rows = self._model.language_model.embed(self._positions.new_tensor([[rows]]))
        self._rows[:, : question.count] = rows
        self._rows[:, question.count : shape.settled].zero_()

    def _tell(self, question: Question, shape: Shape) -> None:
        """Write what this pass is about into the bytes that its kernels read. Rows that only fill up see what the
        first drafted one sees, because what sees nothing is no number.
        """
        tree, start, edge, trash = question.tree, question.start, question.edge, self._cache.slots - 1
        numbers, branches, length = _parts(self._host, shape, self._model.dtype)
        ids, picked, places, slots, sight, asked, columns = (part.numpy() for part in numbers)
        first = 0 if shape.from_rows else 1
        ids[:first], ids[first:], picked[:] = (() if shape.from_rows else question.settled), 0, np.arange(len(ids))
        later = {first + n: token.place for n, token in enumerate(tree.tokens) if isinstance(token, Later)}
        ids[first : first + len(tree)] = [0 if isinstance(token, Later) else token for token in tree.tokens]
        picked[list(later)] = [len(ids) + place for place in later.values()]  # behind all that the host wrote
        places[:], slots[:], sight[:] = edge, trash, edge
        real, drafted = slice(0, question.count), slice(shape.settled, shape.settled + len(tree))
        places[real] = slots[real] = np.arange(start, edge)
        sight[real] = places[real] + 1
        places[drafted], slots[drafted] = np.add(tree.depths, edge), np.arange(edge, edge + len(tree))
        asked[0], asked[1:] = question.count - 1, np.arange(shape.settled, shape.rows)
        columns[:] = np.minimum(np.arange(edge, edge + shape.drafted), trash)
        branches.fill_(float("-inf"))
        branches[: len(tree), : len(tree)].masked_fill_(torch.from_numpy(ancestors_of(tree)), 0.0)
        self._control[:length].copy_(self._host[:length], non_blocking=True)
        if later:
            (ids, picked, places, *_), branches, _ = _parts(self._control, shape, self._model.dtype)
            torch.index_select(torch.cat([ids, *tree.deferred.parts]), 0, picked, out=ids)
            for nodes, grown, _ in tree.grown:  # which the host has put side by side
                here, count = slice(nodes.start, nodes.stop), len(nodes)
                places[shape.settled :][here].add_(grown.depths[:count])
                branches[here, here].copy_(grown.sees[:count, :count])

    def forward(self, shape: Shape) -> tuple[Tensor, Tensor]:
        """What is recorded: outcome (4 * (``drafted`` + 1),) and the states of all rows. Reads its buffers only."""
        language_model = self._model.language_model
        (ids, _, places, slots, sight, asked, columns), branches, _ = _parts(self._control, shape, self._model.dtype)
        rows = [self._rows[:, : shape.settled]] if shape.from_rows else []
        rows += [language_model.embed(ids)[None]] if len(ids) else []
        rows = torch.cat(rows, dim=1) if len(rows) > 1 else rows[0]
        # Nodes see the settled rows and their branch, whose slots all lie behind these.
        mask = self._sight[:, : shape.end].index_select(0, sight)
        if shape.drafted:
            mask[shape.settled :].scatter_(1, columns.expand(shape.drafted, -1), branches)
        hidden = language_model(rows, places, mask, self._cache, slots, self._rope.of(places), shape.end)
        logits = language_model.logits(hidden[0].index_select(0, asked))
        return outcome_of(logits, self._tokens, self._apart), hidden


def _parts(control: Tensor, shape: Shape, dtype: torch.dtype) -> tuple[tuple[Tensor, ...], Tensor, int]:
    """The fields of ``shape``, what the rows of the tree may see of each other (``drafted``, ``drafted``) as numbers to
    add, and how many bytes all of it takes.
    """
    integers = NUMBER * sum(shape.fields)
    length = integers + shape.drafted**2 * dtype.itemsize
    branches = control[integers:length].view(dtype).view(shape.drafted, shape.drafted)
    return control[:integers].view(torch.long).split(shape.fields), branches, length
