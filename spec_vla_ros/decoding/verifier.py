"""One pass of the language model over known rows and a tree of drafted tokens, on a cache of fixed size."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spec_vla_ros.errors import InstructionError, NonFiniteError
from spec_vla_ros.openvla.action_tokens import ActionTokens
from spec_vla_ros.openvla.llama import KVCache, causal_mask, rope_tables
from spec_vla_ros.openvla.loader import LoadedModel
from spec_vla_ros.openvla.model import OpenVLA
from spec_vla_ros.openvla.prompt import MAX_PROMPT_IDS

from .acceptance import UNLIMITED, best_node
from .tree import DraftTree, Topology

NO_DRAFT = DraftTree()
TOPOLOGIES = 512  # shapes of trees that are kept
TREE_ROWS = 64  # drafted rows of a pass at most; the cache has room for them


def cache_slots(loaded: LoadedModel) -> int:
    """Rows that a cache needs: the longest prompt, an action and the largest tree, in whole blocks."""
    rows = loaded.config.towers[0].patches + MAX_PROMPT_IDS + loaded.statistics.action_dim + TREE_ROWS
    return -(-rows // 64) * 64


@dataclass(frozen=True)
class Verdict:
    """``greedy``: the verifier's argmax after the last known row, then after each node of the tree (M + 1 ids).
    ``path``: the accepted nodes from the root on. ``hidden`` (1, K + len(path), H): states of the known and the
    accepted rows, after the final norm. ``finished``: when the pass was over, ``time.perf_counter()``.
    """

    greedy: list[int]
    path: list[int]
    hidden: Tensor
    finished: float

    def after(self, node: int) -> int:
        """The verifier's choice after ``node`` (-1: after the known rows)."""
        return self.greedy[node + 1]


class Verifier:
    """The model, its key/value cache and everything of fixed shape, allocated once.

    ``slots``: rows that the cache holds: prompt, action and the largest tree.
    """

    def __init__(self, model: OpenVLA, tokens: ActionTokens, slots: int) -> None:
        self.model, self.tokens = model, tokens
        self.cache = KVCache(model.config.llama, slots, model.device, model.dtype)
        self.positions = torch.arange(slots, device=model.device)
        self.cos, self.sin = rope_tables(model.config.llama, self.positions, model.dtype)
        self.mask = causal_mask(slots, model.device)
        self._topologies: dict[tuple[int, ...], Topology] = {}

    @torch.inference_mode()
    def run(
        self,
        known: Tensor,
        start: int,
        tree: DraftTree = NO_DRAFT,
        radii: Sequence[int] = (),
        budget: int = UNLIMITED,
    ) -> Verdict:
        """Append rows to the cache at slot ``start`` and judge the tree, with a single transfer to the host.

        ``known`` (1, K, hidden): input rows whose tokens are settled. ``tree``: ids that may follow; ``radii``:
        distance in bins within which they stand, by depth; ``budget``: of the sum along a branch. Slots from
        ``start`` on are overwritten; afterwards the cache holds the known and the accepted rows without a gap, and
        what lies behind them is forgotten by starting the next pass there.

        Raises :class:`NonFiniteError` and, when the cache is too small, :class:`InstructionError`.
        """
        language_model, device = self.model.language_model, known.device
        settled, end = start + known.shape[1], start + known.shape[1] + len(tree)
        if end > self.cache.slots:
            raise InstructionError(f"the prompt needs {end} rows, the cache has {self.cache.slots}")
        shape = self._topology(tree.parents)
        ids = torch.tensor(tree.tokens, dtype=torch.long, device=device)
        rows = torch.cat([known, language_model.embed(ids)[None]], dim=1) if tree else known
        places = torch.cat([self.positions[start:settled], settled + shape.depths])
        mask = self._mask(start, settled, shape)
        rope = self.cos[..., places, :], self.sin[..., places, :]
        hidden = language_model(rows, places, mask, self.cache, start, rope)
        logits = language_model.logits(hidden[0, known.shape[1] - 1 :])  # [M + 1, vocabulary]
        greedy = logits.argmax(-1)  # the lowest id where logits tie
        limits = torch.tensor(radii, dtype=torch.long, device=device)[shape.depths] if tree else ids
        best = best_node(ids, greedy[shape.parents], limits, shape.ancestors, self.tokens, budget)
        outcome = torch.cat([greedy, best[None], logits.isfinite().all()[None].long()])
        *choices, node, finite = outcome.tolist()  # the only wait for the device
        if not finite:
            raise NonFiniteError("the language model gave logits that are NaN or infinite")
        path = tree.path(node)
        if path != list(range(len(path))):
            self.cache.move([settled + n for n in path], settled)
        kept = [*range(known.shape[1]), *(known.shape[1] + n for n in path)]
        return Verdict(choices, path, hidden[:, kept], time.perf_counter())

    def _mask(self, start: int, settled: int, shape: Topology) -> Tensor | None:
        """(rows, slots up to the end): known rows see what is before them, nodes the known rows and their branch."""
        count = len(shape.depths)
        if settled - start + count == 1:
            return None
        mask = torch.zeros(settled - start + count, settled + count, dtype=torch.bool, device=self.mask.device)
        mask[: settled - start, :settled] = self.mask[start:settled, :settled]
        mask[settled - start :, :settled] = True
        mask[settled - start :, settled:] = shape.ancestors
        return mask

    def _topology(self, parents: tuple[int, ...]) -> Topology:
        found = self._topologies.get(parents)
        if found is None:
            if len(self._topologies) >= TOPOLOGIES:
                self._topologies.clear()
            found = self._topologies[parents] = Topology.of(parents, self.mask.device)
        return found
