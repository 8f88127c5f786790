"""One pass of the language model over settled rows and a tree of drafted tokens, on a cache of fixed size.

What a pass is about travels to the device as one vector of integers, its outcome comes back as another; masks,
positions and the judgement of the tree are made on the device. With fixed shapes a pass has one of few sizes, filled up
with rows that nobody reads, so that it can be recorded as a CUDA graph.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from spec_vla_ros.errors import InstructionError, NonFiniteError
from spec_vla_ros.openvla.action_tokens import ActionTokens
from spec_vla_ros.openvla.llama import KVCache, rope_tables
from spec_vla_ros.openvla.loader import LoadedModel
from spec_vla_ros.openvla.model import OpenVLA
from spec_vla_ros.openvla.prompt import MAX_PROMPT_IDS

from .acceptance import UNLIMITED, best_node, margins_of
from .graphs import Pool, Replay
from .tree import ROOT, DraftTree, ancestors_of

NO_DRAFT = DraftTree()
TREE_ROWS = 64  # drafted rows of a pass at most; the cache has room for them
TREE_LEVELS = 6  # of fixed shapes; exact ones go as deep as the tree
TEXT_SIZES = (32, 64, MAX_PROMPT_IDS)  # prompt ids, filled up to one of these
TREE_SIZES = (0, 8, 32, TREE_ROWS)
MICRO = 1_000_000  # margins travel as whole micronats
HEADER = 5  # start, settled rows, budget, token, drafted rows
PER_ROW = 5  # of each drafted row: id, parent, depth, radius, cost of a bin


def cache_slots(loaded: LoadedModel) -> int:
    """Rows that a cache needs: the longest prompt, an action, the largest tree and a spare one, in whole blocks."""
    rows = loaded.config.towers[0].patches + MAX_PROMPT_IDS + loaded.statistics.action_dim + TREE_ROWS + 1
    return -(-rows // 64) * 64


@dataclass(frozen=True)
class Verdict:
    """``greedy``: the verifier's argmax after the last settled row, then after each node of the tree (M + 1 ids).
    ``margins``: how sure it is of each, nats (:func:`.acceptance.margins_of`). ``path``: the accepted nodes from the
    root on. ``states``: gives ``hidden`` when asked, before the next pass.
    ``finished``: when the pass was over, ``time.perf_counter()``.
    """

    greedy: list[int]
    margins: list[float]
    path: list[int]
    states: Callable[[], Tensor]
    finished: float

    @property
    def hidden(self) -> Tensor:
        """States (1, K + len(path), H) of the settled and the accepted rows, after the final norm; only until the next
        pass runs.
        """
        return self.states()

    def after(self, node: int) -> int:
        """The verifier's choice after ``node`` (-1: after the settled rows)."""
        return self.greedy[node + 1]


@dataclass(frozen=True)
class Shape:
    """Size of a pass: ``settled`` and ``drafted`` rows, cache slots before ``end`` in sight, ``levels`` of the tree.
    ``prompt``: settled rows are given as such, not as one token. ``at``: their first slot where that is settled when
    the pass is built; -1 = it travels with the pass, and rows that only fill up go to the cache's last slot.
    """

    settled: int
    drafted: int
    end: int
    levels: int
    prompt: bool
    at: int = -1


class Verifier:
    """The model, its key/value cache and everything of fixed shape, allocated once.

    ``slots``: rows that the cache holds: prompt, action, the largest tree and a spare one. ``fixed_shapes``: fill
    passes up to one of few sizes, by default on CUDA only; ``graphs``: record them there. ``uniform``: fill every
    pass up to the largest size, so that all kernels see one shape; for comparing decoders bit by bit.
    """

    def __init__(
        self,
        model: OpenVLA,
        tokens: ActionTokens,
        slots: int,
        *,
        fixed_shapes: bool | None = None,
        graphs: bool = True,
        uniform: bool = False,
    ) -> None:
        self.model, self.tokens = model, tokens
        self.cache = KVCache(model.config.llama, slots, model.device, model.dtype)
        self.fixed = (model.device.type == "cuda" if fixed_shapes is None else fixed_shapes) or uniform
        self.pool = Pool(model.device, graphs and self.fixed)
        self._uniform = uniform
        self._positions = torch.arange(slots, device=model.device)
        self._cos, self._sin = rope_tables(model.config.llama, self._positions, model.dtype)
        self._patches = model.config.towers[0].patches
        self._room = slots - 1  # rows of the largest prompt and everything behind it
        self._rows = torch.zeros(1, slots, model.config.llama.hidden_size, device=model.device, dtype=model.dtype)
        length = HEADER + PER_ROW * TREE_ROWS
        self._host = torch.zeros(length, dtype=torch.long, pin_memory=model.device.type == "cuda")
        self._control = torch.zeros(length, dtype=torch.long, device=model.device)
        self._passes: dict[Shape, Replay] = {}
        self._prompt_rows = 0  # size of the prompt that is in the cache

    @torch.inference_mode()
    def run(
        self,
        settled: Tensor | int,
        start: int,
        tree: DraftTree = NO_DRAFT,
        radii: Sequence[int] = (),
        budget: int = UNLIMITED,
        costs: Sequence[int] = (),
    ) -> Verdict:
        """Append rows to the cache at slot ``start`` and judge the tree, with a single transfer to the host.

        ``settled``: input rows (1, K, hidden) of a prompt, or the id of one settled token. ``tree``: ids that may
        follow; ``radii``: distance in bins within which they stand, by depth; ``budget``: of the sum along a branch;
        ``costs``: 1, or 0 where a bin takes nothing from it, by depth; none = 1 everywhere.
        Slots from ``start`` on are overwritten; afterwards the cache holds the settled and the accepted rows without a
        gap, and what lies behind them is forgotten by starting the next pass there.

        Raises :class:`NonFiniteError` and, when the cache is too small, :class:`InstructionError`.
        """
        count = 1 if isinstance(settled, int) else settled.shape[1]
        edge = start + count
        if edge + len(tree) > self._room or len(tree) > TREE_ROWS:
            raise InstructionError(f"the prompt needs {edge + len(tree)} rows, the cache has {self._room}")
        shape = self._shape(settled, start, count, tree)
        token = settled if isinstance(settled, int) else 0
        if shape.prompt:
            self._rows[:, :count] = self._embedded(token) if isinstance(settled, int) else settled
            self._rows[:, count : shape.settled] = 0
        self._tell(shape, start, count, budget, token, tree, radii, costs or (1,) * len(radii))
        outcome, hidden = self._pass(shape)()
        said = outcome.tolist()  # the only wait for the device
        judged = shape.drafted + 1
        choices, (node, finite), margins = said[:judged], said[judged : judged + 2], said[judged + 2 :]
        if not finite:
            self.cache.clear()
            raise NonFiniteError("the language model gave logits that are NaN or infinite")
        real = len(tree) + 1  # what lies behind only filled up
        choices, margins, path = self._judgement(
            choices[:real], [margin / MICRO for margin in margins[:real]], tree, node
        )
        if path != list(range(len(path))):
            self.cache.move([edge + n for n in path], edge)
        kept = [*range(count), *(shape.settled + n for n in path)]
        return Verdict(choices, margins, path, lambda: hidden[:, kept], time.perf_counter())

    def warm_up(self) -> None:
        """Build and record every pass of fixed shape, so that none of it happens while an arm moves."""
        if not self.fixed or self._uniform:
            return
        width = self.model.config.llama.hidden_size
        for text in TEXT_SIZES:
            count = self._patches + text
            if count + TREE_ROWS + TREE_LEVELS > self._room:
                continue
            rows = torch.zeros(1, count, width, device=self.model.device, dtype=self.model.dtype)
            for size in TREE_SIZES:
                tree = DraftTree((0,) * size, (ROOT,) * size, ("",) * size)
                self.run(rows, 0, tree, (0,))
                self.run(0, count, tree, (0,))
        self.cache.clear()

    def _shape(self, settled: Tensor | int, start: int, count: int, tree: DraftTree) -> Shape:
        prompt, drafted = not isinstance(settled, int), len(tree)
        levels = max(tree.depths, default=-1) + 1
        if not self.fixed:
            return Shape(count, drafted, start + count + drafted, levels, prompt, start)
        levels = max(TREE_LEVELS, levels)  # actions of more than seven dimensions may want deeper trees
        if self._uniform:
            return Shape(self._room - TREE_ROWS, TREE_ROWS, self.cache.slots, levels, True)
        if prompt:
            sizes = [self._patches + text for text in TEXT_SIZES]
            self._prompt_rows = next((size for size in sizes if size >= count), count)
        size = next(size for size in TREE_SIZES if size >= drafted)
        end = max(self._prompt_rows + TREE_LEVELS + 1 + TREE_ROWS, start + count + drafted)
        return Shape(self._prompt_rows if prompt else 1, size, min(end, self.cache.slots), levels, prompt)

    def _judgement(
        self, choices: list[int], margins: list[float], tree: DraftTree, node: int
    ) -> tuple[list[int], list[float], list[int]]:
        """The verifier's choices, their margins and the accepted path, as the device found them; a bench replays
        others.
        """
        return choices, margins, tree.path(node)

    def _embedded(self, token: int) -> Tensor:
        return self.model.language_model.embed(self._positions.new_tensor([[token]]))

    def _tell(
        self, shape: Shape, start: int, count: int, budget: int, token: int, tree: DraftTree, radii: Sequence[int],
        costs: Sequence[int],
    ) -> None:  # fmt: skip
        """Write what this pass is about into the vector that its kernels read."""
        pad = [0] * (shape.drafted - len(tree))
        values = [start, count, budget, token, len(tree), *tree.tokens, *pad]
        values += [*(parent + 1 for parent in tree.parents), *pad]
        values += [*tree.depths, *pad, *(radii[depth] for depth in tree.depths), *pad]
        values += [*(costs[depth] for depth in tree.depths), *pad]
        self._host[: len(values)] = torch.tensor(values)
        self._control.copy_(self._host, non_blocking=True)

    def _pass(self, shape: Shape) -> Callable[[], tuple[Tensor, Tensor]]:
        if not self.fixed:
            return partial(self._forward, shape)  # shapes without number: nothing to keep
        if shape not in self._passes:
            self._passes[shape] = Replay(partial(self._forward, shape), self.pool)
        return self._passes[shape]

    def _forward(self, shape: Shape) -> tuple[Tensor, Tensor]:
        """The pass itself: outcome (2 * drafted + 4,) int64 and the states of all rows. Reads its buffers only."""
        language_model, count = self.model.language_model, shape.drafted
        start, settled, budget, token, drafted = self._control[:HEADER].unbind()
        about = self._control[HEADER : HEADER + PER_ROW * count].view(PER_ROW, count)
        ids, parents, depths, limits, costs = about.unbind()
        edge = start + settled
        rows = self._rows[:, : shape.settled] if shape.prompt else language_model.embed(token.view(1, 1))
        if count:
            rows = torch.cat([rows, language_model.embed(ids)[None]], dim=1)
        first, nodes = self._positions[: shape.settled], self._positions[:count]
        places = torch.cat([start + first, edge + depths]).clamp(max=self.cache.slots - 1)
        ancestors = ancestors_of(parents, shape.levels)
        mask = self._mask(shape, start, edge, ancestors)
        at: int | Tensor = shape.at
        if shape.at < 0:
            slots = torch.cat([start + first, edge + nodes])
            real = torch.cat([first < settled, nodes < drafted])
            at = slots.masked_fill(~real, self.cache.slots - 1)
        rope = self._cos[..., places, :], self._sin[..., places, :]
        hidden = language_model(rows, places, mask, self.cache, at, rope, shape.end)
        if shape.at < 0:
            said = hidden[0].index_select(0, torch.cat([(settled - 1)[None], shape.settled + nodes]))
        else:
            said = hidden[0, shape.settled - 1 :]
        logits = language_model.logits(said)  # [drafted + 1, vocabulary]
        greedy = logits.argmax(-1)  # the lowest id where logits tie
        best = best_node(ids, greedy[parents], limits, ancestors, self.tokens, budget, costs)
        finite = logits.isfinite().all(-1) | (self._positions[: count + 1] > drafted)
        margins = (margins_of(logits, self.tokens) * MICRO).long()
        return torch.cat([greedy, best[None], finite.all()[None].long(), margins]), hidden

    def _mask(self, shape: Shape, start: Tensor, edge: Tensor, ancestors: Tensor) -> Tensor | None:
        """(rows, slots in sight): settled rows see what is before them, nodes the settled rows and their branch."""
        if shape.settled + shape.drafted == 1 and shape.at >= 0:
            return None
        columns = self._positions[: shape.end]
        mask = columns <= (start + self._positions[: shape.settled])[:, None]
        if shape.drafted:
            offset = columns - edge
            inside = (offset >= 0) & (offset < shape.drafted)
            branch = ancestors[:, offset.clamp(0, shape.drafted - 1)] & inside
            mask = torch.cat([mask, branch | (columns < edge)])
        if mask.device.type == "cuda":  # attention would convert it once more in every layer
            return torch.zeros(mask.shape, dtype=self.model.dtype, device=mask.device).masked_fill_(
                ~mask, float("-inf")
            )
        return mask
