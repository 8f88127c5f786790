"""One pass of the language model over settled rows and a tree of drafted tokens, on a cache of fixed size.

A pass goes like this: :meth:`Verifier.run` puts the question together (:mod:`.outcome`); :mod:`.exact_shapes` or
:mod:`.fixed_shapes` runs the model; the outcome comes back in one transfer, and the host judges the tree; the rows of
the accepted branch move to where the next pass expects them when there is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spec_vla_ros.errors import InstructionError, NonFiniteError
from spec_vla_ros.openvla.action_tokens import ActionTokens
from spec_vla_ros.openvla.llama import KVCache
from spec_vla_ros.openvla.loader import LoadedModel
from spec_vla_ros.openvla.model import OpenVLA
from spec_vla_ros.openvla.prompt import MAX_PROMPT_IDS

from .acceptance import UNLIMITED
from .exact_shapes import ExactShapes
from .fixed_shapes import TEXT_SIZES, TREE_LEVELS, FewSizes, FixedShapes, OneSize
from .graphs import Pool
from .outcome import NO_DRAFT, Judgement, Question, read_outcome
from .tree import TREE_ROWS, DraftTree

TIMED = 5  # passes of which the least counts: whatever else the machine does adds to it
SLOW = 0.5  # s; a pass that takes longer is timed once
ANY = 0  # the id that blank passes run on; no action, so nothing of them is accepted

Judge = Callable[[DraftTree, Judgement], Judgement]


def cache_slots(loaded: LoadedModel) -> int:
    """Rows that a cache needs: the longest prompt, an action, the largest tree and a spare one, in whole blocks."""
    rows = loaded.config.towers[0].patches + MAX_PROMPT_IDS + loaded.statistics.action_dim + TREE_ROWS + 1
    return -(-rows // 64) * 64


@dataclass(frozen=True)
class Verdict:
    """``greedy``: the verifier's argmax after the last settled row, then after each node (M + 1 ids) of the tree whose
    ids are all known (:attr:`.tree.DraftTree.known`). ``margins``: how sure it is of each, nats
    (:func:`.acceptance.margins_of`). ``path``: the accepted nodes from the root on. ``among``: gives the states
    (1, R, H) of all rows of the pass, and which of them are settled or accepted, when asked before the next one.
    ``finished``: when the pass was over, ``time.perf_counter()``. ``rows``: that were computed, those that only fill a
    pass up included; 0 where no model was asked.
    """

    greedy: list[int]
    margins: list[float]
    path: list[int]
    among: Callable[[], tuple[Tensor, Sequence[int]]]
    finished: float
    rows: int = 0

    @property
    def hidden(self) -> Tensor:
        """States (1, K + len(path), H) of the settled and the accepted rows, after the final norm; only until the next
        pass runs.
        """
        hidden, kept = self.among()
        return hidden[:, kept]

    def after(self, node: int) -> int:
        """The verifier's choice after ``node`` (-1: after the settled rows)."""
        return self.greedy[node + 1]


class Verifier:
    """The model, its key/value cache and everything of fixed shape, allocated once.

    ``slots``: rows that the cache holds: prompt, action, the largest tree and a spare one. ``fixed_shapes``: fill
    passes up to one of few sizes, by default on CUDA only; ``graphs``: record them there. ``uniform``: fill every
    pass up to the largest size, so that all kernels see one shape; for comparing decoders bit by bit.
    ``judge``: is shown the tree of each pass and what the pass has found, and says what shall count; by default that.
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
        judge: Judge | None = None,
    ) -> None:
        self.model, self.tokens = model, tokens
        self.cache = KVCache(model.config.llama, slots, model.device, model.dtype)
        self.fixed = (model.device.type == "cuda" if fixed_shapes is None else fixed_shapes) or uniform
        self.pool = Pool(model.device, graphs and self.fixed)
        self.shapes: ExactShapes | FixedShapes
        if self.fixed:
            sizes = OneSize(slots) if uniform else FewSizes(model.config.towers[0].patches, slots)
            self.shapes = FixedShapes(model, tokens, self.cache, sizes, self.pool)
        else:
            self.shapes = ExactShapes(model, tokens, self.cache)
        self.defers = self.fixed  # whether trees may have ids that are on the device
        self._judge = judge
        self._room = slots - 1  # rows of the largest prompt and everything behind it
        self._accepted: tuple[int, list[int]] = 0, []  # where the tree of the last pass began, and what stood of it

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
        follow, known afterwards where they are deferred; ``radii``: distance in bins within which they stand, by depth;
        ``budget``: of the sum along a branch, of which a bin takes what ``costs`` says, by depth (1 where it says
        nothing).
        Slots from ``start`` on are overwritten; the next pass finds the settled and the accepted rows without a gap,
        as far as it begins behind them, and what lies behind its beginning is forgotten. Rows move when a pass needs
        it, so never behind the last one of an action.

        Raises :class:`NonFiniteError`, :class:`InstructionError` when the cache is too small for the prompt, and
        ``ValueError`` for a tree of more than ``TREE_ROWS`` nodes.
        """
        if len(tree) > TREE_ROWS:
            raise ValueError(f"the tree has {len(tree)} nodes, a pass has at most {TREE_ROWS} drafted rows")
        question = Question(settled, start, tree, radii, budget, costs)
        edge, needed = question.edge, question.edge + len(tree)
        if needed > self._room:
            raise InstructionError(f"the prompt needs {needed} rows, the cache has {self._room}")
        self._close_gaps(start)
        answer = self.shapes.run(question)
        found = read_outcome(answer.outcome, question, self.tokens)
        if found is None:
            self.cache.clear()
            raise NonFiniteError("the language model gave logits that are NaN or infinite")
        tree, nodes = tree.known
        if self._judge is not None:
            found = self._judge(tree, found)
        path, hidden = [nodes[node] for node in found.path], answer.hidden
        self._accepted = edge, path
        kept = [*range(question.count), *(answer.nodes_at + node for node in path)]
        among, rows = lambda: (hidden, kept), hidden.shape[1]
        return Verdict(found.greedy, found.margins, found.path, among, time.perf_counter(), rows)

    def _close_gaps(self, start: int) -> None:
        """Move the accepted rows of the last pass to where one that begins at ``start`` expects them."""
        edge, path = self._accepted
        path = path[: max(start - edge, 0)]
        if path != list(range(len(path))):
            self.cache.move([edge + node for node in path], edge)

    def warm_up(self) -> None:
        """Build and record every pass of fixed shape, so that none of it happens while an arm moves."""
        for prompt_rows, drafted in self.shapes.sizes():
            self._idle(self._blank(prompt_rows), 0, drafted)
            self._idle(ANY, prompt_rows, drafted)
        self.cache.clear()

    def time_pass(self, rows: int, *, prompt_rows: int | None = None) -> float:
        """Seconds that a pass with ``rows`` drafted rows takes, until its outcome is there; the least of few.

        ``prompt_rows``: together with a prompt of so many rows; None = with one settled token behind a short prompt.
        It runs on zeros, and what is in the cache is lost. Raises what :meth:`run` raises.
        """
        short = self.model.config.towers[0].patches + TEXT_SIZES[0]
        short = min(short, self._room - TREE_ROWS - 1)
        if prompt_rows is None:
            settled, start = ANY, short
            self._idle(self._blank(short), 0, 0)  # the token looks back on it
        else:
            settled, start = self._blank(prompt_rows), 0
        times = []
        for _ in range(TIMED + 1):
            began = time.perf_counter()
            self._idle(settled, start, rows)
            times.append(time.perf_counter() - began)
            if len(times) > 1 and times[-1] > SLOW:
                break
        self.cache.clear()
        return min(times[1:])  # the first one builds what is missing

    def _blank(self, count: int) -> Tensor:
        width = self.model.config.llama.hidden_size
        return torch.zeros(1, count, width, device=self.model.device, dtype=self.model.dtype)

    def _idle(self, settled: Tensor | int, start: int, drafted: int) -> None:
        """A pass that nobody wants to know anything of, with branches as long as those of seven tokens."""
        self.run(settled, start, DraftTree.filled(drafted, ANY, TREE_LEVELS), (0,) * TREE_LEVELS)
