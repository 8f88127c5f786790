"""A pass that has one of few sizes, filled up with rows that nobody reads, so that a GPU can replay a recording of it.

A recording always reads the same memory and has no branches: whatever changes from pass to pass, the number of real
rows included, travels to the device as one vector of integers. Rows behind the real ones go to the cache's last
slot, which no real row sees, and their outcomes are cut off on the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from spec_vla_ros.errors import InstructionError
from spec_vla_ros.openvla.action_tokens import ActionTokens
from spec_vla_ros.openvla.llama import KVCache, rope_tables
from spec_vla_ros.openvla.model import OpenVLA
from spec_vla_ros.openvla.prompt import MAX_PROMPT_IDS

from .graphs import Pool, Replay
from .outcome import Answer, Nodes, Question, bias_of, outcome_of
from .tree import TREE_ROWS, ancestors_of

TREE_LEVELS = 6  # of a tree; actions of more than seven dimensions may want deeper ones
TEXT_SIZES = (32, 64, MAX_PROMPT_IDS)  # prompt ids, filled up to one of these
TREE_SIZES = (0, 8, 32, TREE_ROWS)
HEADER = 5  # start, settled rows, budget, token, drafted rows
PER_ROW = len(Nodes._fields)


@dataclass(frozen=True)
class Shape:
    """Size of a pass: ``settled`` and ``drafted`` rows, cache slots before ``end`` in sight, ``levels`` of the tree.
    ``from_rows``: settled rows lie in the buffer for them; else there is one, whose token travels with the pass.
    """

    settled: int
    drafted: int
    end: int
    levels: int
    from_rows: bool


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
        end = max(self._prompt + TREE_LEVELS + 1 + TREE_ROWS, question.edge + drafted)
        return Shape(
            self._prompt if prompt else 1, size, min(end, self._slots), max(TREE_LEVELS, question.tree.levels), prompt
        )

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
        return Shape(settled, TREE_ROWS, self._slots, max(TREE_LEVELS, question.tree.levels), True)

    def ahead(self) -> Iterator[tuple[int, int]]:
        """Nothing: this is for comparing decoders, not for driving an arm."""
        return iter(())


class FixedShapes:
    """Runs passes of ``model`` on ``cache`` at ``sizes``; ``pool`` decides whether they are recorded."""

    def __init__(self, model: OpenVLA, tokens: ActionTokens, cache: KVCache, sizes: Sizes, pool: Pool) -> None:
        self._model, self._tokens, self._cache, self._sizes, self._pool = model, tokens, cache, sizes, pool
        self._positions = torch.arange(cache.slots, device=model.device)
        self._cos, self._sin = rope_tables(model.config.llama, self._positions, model.dtype)
        # What every recording reads: rows of a prompt, and the vector that says what the pass is about.
        width, length = model.config.llama.hidden_size, HEADER + PER_ROW * TREE_ROWS
        self._rows = torch.zeros(1, cache.slots, width, device=model.device, dtype=model.dtype)
        self._control = torch.zeros(length, dtype=torch.long, device=model.device)
        self._host = torch.zeros(length, dtype=torch.long, pin_memory=model.device.type == "cuda")
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
            self.passes[shape] = Replay(partial(self.forward, shape), self._pool)
        outcome, hidden = self.passes[shape]()
        return Answer(outcome, hidden, shape.settled)

    def _show(self, question: Question, shape: Shape) -> None:
        """Copy the settled rows to where the pass reads them."""
        rows = question.settled
        if isinstance(rows, int):
            rows = self._model.language_model.embed(self._positions.new_tensor([[rows]]))
        self._rows[:, : question.count] = rows
        self._rows[:, question.count : shape.settled] = 0

    def _tell(self, question: Question, shape: Shape) -> None:
        """Write the numbers of this pass into the vector that its kernels read."""
        tree, token = question.tree, question.settled if isinstance(question.settled, int) else 0
        pad = [0] * (shape.drafted - len(tree))
        values = [question.start, question.count, question.budget, token, len(tree)]
        for row in question.nodes:
            values += [*row, *pad]
        self._host[: len(values)] = torch.tensor(values)
        self._control.copy_(self._host, non_blocking=True)

    def forward(self, shape: Shape) -> tuple[Tensor, Tensor]:
        """What is recorded: outcome (2 ``drafted`` + 4,) int64 and the states of all rows. Reads its buffers only."""
        language_model, count = self._model.language_model, shape.drafted
        start, settled, budget, token, drafted = self._control[:HEADER].unbind()
        nodes = Nodes(*self._control[HEADER : HEADER + PER_ROW * count].view(PER_ROW, count).unbind())
        edge, trash = start + settled, self._cache.slots - 1
        rows = self._rows[:, : shape.settled] if shape.from_rows else language_model.embed(token.view(1, 1))
        if count:
            rows = torch.cat([rows, language_model.embed(nodes.ids)[None]], dim=1)
        first, behind = self._positions[: shape.settled], self._positions[:count]
        places = torch.cat([start + first, edge + nodes.depths]).clamp(max=trash)
        real = torch.cat([first < settled, behind < drafted])
        slots = torch.cat([start + first, edge + behind]).masked_fill(~real, trash)
        ancestors = ancestors_of(nodes.parents, shape.levels)
        rope = self._cos[..., places, :], self._sin[..., places, :]
        mask = self._mask(shape, start, edge, ancestors)
        hidden = language_model(rows, places, mask, self._cache, slots, rope, shape.end)
        said = hidden[0].index_select(0, torch.cat([(settled - 1)[None], shape.settled + behind]))
        unread = self._positions[: count + 1] > drafted
        logits = language_model.logits(said)  # [drafted + 1, vocabulary]
        return outcome_of(logits, nodes, ancestors, self._tokens, budget, unread), hidden

    def _mask(self, shape: Shape, start: Tensor, edge: Tensor, ancestors: Tensor) -> Tensor:
        """(rows, slots in sight): settled rows see what is before them, nodes the settled rows and their branch."""
        columns = self._positions[: shape.end]
        seen = columns <= (start + self._positions[: shape.settled])[:, None]
        if shape.drafted:
            offset = columns - edge
            inside = (offset >= 0) & (offset < shape.drafted)
            branch = ancestors[:, offset.clamp(0, shape.drafted - 1)] & inside
            seen = torch.cat([seen, branch | (columns < edge)])
        return bias_of(seen, self._model.dtype)
