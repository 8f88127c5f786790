"""Draft from the verifier's own states: the tree of Spec-VLA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from spec_vla_ros.decoding.heads.eagle_head import EagleHead
from spec_vla_ros.decoding.tree import ROOT, DraftTree
from spec_vla_ros.decoding.verifier import cache_slots
from spec_vla_ros.openvla.llama import causal_mask, rope_tables
from spec_vla_ros.openvla.loader import LoadedModel
from spec_vla_ros.openvla.model import OpenVLA

from .base import DraftContext, Drafter, Observation

NODES = 49  # of the published tree, its root not counted
LEVELS = 6  # of a tree, as deep as an action of seven tokens lets it be


def eagle_slots(loaded: LoadedModel) -> int:
    """Rows that the head's cache needs: what the verifier settles, and a full frontier on all levels but the last."""
    return cache_slots(loaded) + (LEVELS - 1) * NODES


class Eagle(Drafter):
    """The dynamic tree of EAGLE-2 over the head's guesses: per level the ``width`` most probable nodes are expanded
    by ``width`` children each, and of all scored nodes the best ``NODES`` are drafted. A level is never wider than
    that (what is not among its best cannot be among the best of all), and growth ends where the cache of ``slots`` rows
    is full, which within the ranges of the node's parameters (:func:`eagle_slots`) it never is.

    Costs a layer of the verifier's size per level. Needs the verifier's states, so it has nothing to say before the
    first pass. Only action tokens are drafted. Rows stand at their true positions; the public implementation starts its
    levels at 0, which heads trained by it have never seen in training: ``published_positions`` repeats that for
    comparison.
    """

    name: ClassVar[str] = "eagle"
    from_verifier: ClassVar[bool] = True
    widest: ClassVar[int] = 8
    expected: ClassVar[tuple[float, float]] = (0.1, 0.4)

    def __init__(self, head: EagleHead, model: OpenVLA, slots: int, published_positions: bool = False) -> None:
        self.head, self.model = head, model
        self.published_positions = published_positions
        self.cache = head.make_cache(slots, model.device, model.dtype)
        self._rope = rope_tables(model.config.llama, torch.arange(slots, device=model.device), model.dtype)
        self._mask = causal_mask(slots, model.device)
        self._observation: Observation | None = None
        self._rows = 0  # caught up with

    def begin(self, observation: Observation | None) -> None:
        """A new prompt: nothing of the old one stays."""
        self._observation, self._rows = observation, 0

    @torch.inference_mode()
    def propose(self, context: DraftContext) -> Sequence[Sequence[int]]:
        """The branches of the tree, the likeliest leaf first; nothing where it was not asked behind every pass."""
        if context.states is None or self._observation is None:
            return []
        states = context.states.hidden
        if self._rows + states.shape[1] != self._observation.prompt.shape[1] + len(context.rows) - 1:
            return []  # the states of an earlier pass are gone
        state = self._catch_up(context, states)
        width = min(context.width, NODES, context.tokens.n_bins)
        parents, tokens, scores = self._expand(state, context, width)
        keep = sorted(sorted(range(len(tokens)), key=lambda n: -scores[n])[:NODES])
        inner = {parents[n] for n in keep}
        leaves = sorted((n for n in keep if n not in inner), key=lambda n: -scores[n])
        tree = DraftTree(tuple(tokens), tuple(parents))
        return [[tokens[node] for node in tree.path(leaf)] for leaf in leaves]

    def _catch_up(self, context: DraftContext, states: Tensor) -> Tensor:
        """Feed the rows that the verifier has settled since; the estimate (1, 1, H) after the last of them."""
        prompt = self._observation.prompt
        kept = self.model.language_model.embed(torch.tensor([list(context.rows)], device=prompt.device))
        embeds = torch.cat([prompt, kept], dim=1)[:, self._rows + 1 :]
        end = self._rows + states.shape[1]
        mask = self._mask[self._rows : end, :end]
        out = self.head(embeds, states, self._tables(range(self._rows, end)), mask, self.cache, self._rows)
        self._rows = end
        return out[:, -1:]

    def _expand(self, state: Tensor, context: DraftContext, width: int) -> tuple[list[int], list[int], list[float]]:
        """All scored nodes: parents, tokens, cumulative log-probabilities, parents first."""
        log_p, ids = self._guess(state, context, width)
        parents, tokens, scores = [ROOT] * width, ids[0].tolist(), log_p[0].tolist()
        frontier, score = list(range(width)), log_p[0]
        states = state.expand(1, width, -1)
        ancestors = torch.zeros(0, 0, dtype=torch.bool, device=state.device)
        above = [[] for _ in frontier]  # places in the cache, behind the settled rows, that each frontier node sees
        for level in range(1, context.count):
            used = ancestors.shape[0]
            if self._rows + used + width > self.cache.slots:
                break
            rows = torch.tensor([[tokens[n] for n in frontier]], device=state.device)
            grown = torch.eye(used + width, dtype=torch.bool, device=state.device)
            grown[:used, :used] = ancestors
            for i, seen in enumerate(above):
                grown[used + i, seen] = True
            ancestors = grown
            prefix = torch.ones(width, self._rows, dtype=torch.bool, device=state.device)
            mask = torch.cat([prefix, ancestors[used:]], dim=1)
            place = self._rows + level - 1 if not self.published_positions else level - 1
            rope = self._tables([place] * width)
            embeds = self.model.language_model.embed(rows)
            states = self.head(embeds, states, rope, mask, self.cache, self._rows + used)
            log_p, ids = self._guess(states, context, width)  # [width, width]
            total = score[:, None] + log_p
            first = len(tokens)
            for i, node in enumerate(frontier):
                parents += [node] * width
                tokens += ids[i].tolist()
                scores += total[i].tolist()
            score, best = total.flatten().topk(width)
            origin = (best // width).tolist()
            frontier = [first + n for n in best.tolist()]
            above = [[*above[i], used + i] for i in origin]
            states = states[:, origin]
        return parents, tokens, scores

    def _guess(self, states: Tensor, context: DraftContext, width: int) -> tuple[Tensor, Tensor]:
        """The ``width`` likeliest action tokens after each of the states (1, N, H): log-probabilities and ids."""
        tokens = context.tokens
        weight = self.model.language_model.lm_head.weight[tokens.first : tokens.vocab_end]
        log_p = (states[0] @ weight.T).float().log_softmax(-1)
        values, places = log_p.topk(width)
        return values, places + tokens.first

    def _tables(self, places: Sequence[int]) -> tuple[Tensor, Tensor]:
        index = torch.tensor(list(places), device=self._mask.device)
        return self._rope[0][..., index, :], self._rope[1][..., index, :]
