"""A tree of guesses that grows where its head computes: no step of it has to be known on the host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spec_vla_ros.decoding.deferred import Grown
from spec_vla_ros.decoding.tree import ROOT
from spec_vla_ros.openvla.action_tokens import ActionTokens
from spec_vla_ros.openvla.model import OpenVLA

Guess = Callable[[Tensor], tuple[Tensor, Tensor]]
Step = Callable[[int, Tensor, Tensor, Tensor], Tensor]  # see grow


@dataclass(frozen=True)
class Best:
    """The N likeliest nodes, every parent before its children; ``ids``, ``parents``, ``scores`` as of a
    :class:`..deferred.Grown`, ``places`` (N,): of them among all that were scored, ascending.
    """

    ids: Tensor
    parents: Tensor
    scores: Tensor
    places: Tensor


def guesses(model: OpenVLA, width: int) -> Guess:
    """Gives the ``width`` likeliest action tokens after states (1, N, H): log-probabilities and ids (N, width)."""
    tokens = ActionTokens(model.config.action_vocab_end, model.config.n_action_bins)
    weight, nothing = model.language_model.lm_head.weight[tokens.first : tokens.vocab_end], float("-inf")

    def guess(states: Tensor) -> tuple[Tensor, Tensor]:
        log_p = (states[0] @ weight.T).float().log_softmax(-1)
        values, places = log_p.topk(width)
        # What is no number is worth nothing: a child of it would count as likelier than its parent.
        return values.nan_to_num_(nan=nothing, neginf=nothing), places + tokens.first

    return guess


def grow(
    guess: Guess, step: Step, state: Tensor, slots: Tensor, width: int, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, parents (places among these, -1 for none) and scores (T,) of ``count`` levels: ``width`` nodes, and per
    further level ``width`` children of each of the ``width`` likeliest of the level before.

    ``state`` (1, 1, H): after the last settled row. ``slots`` (at least ``width`` * (``count`` - 1),): of the cache,
    for the nodes that are expanded. ``step``: states (1, width, H) after those of a level; it is told the level, from 1
    on, their ids (width,), the states (1, width, H) before them, and (width, level) the slots of each one's branch, its
    own last.
    """
    log_p, ids = guess(state)
    score, said = log_p[0], ids[0]
    numbers = torch.arange(scored(width, count), device=said.device)
    all_ids, all_parents, all_scores = [said], [torch.full_like(said, ROOT)], [score]
    frontier, above, states = numbers[:width], slots[:width, None], state.expand(1, width, -1)
    for level in range(1, count):
        states = step(level, said, states, above)
        log_p, ids = guess(states)
        total = (score[:, None] + log_p).flatten()
        all_ids.append(ids.flatten())
        all_parents.append(frontier[:, None].expand(width, width).flatten())
        all_scores.append(total)
        if level == count - 1:
            break
        score, best = total.topk(width)
        origin = best // width
        said, frontier = all_ids[-1].index_select(0, best), best + scored(width, level)
        own = slots[level * width : (level + 1) * width, None]
        above = torch.cat([above.index_select(0, origin), own], dim=1)
        states = states.index_select(1, origin)
    return torch.cat(all_ids), torch.cat(all_parents), torch.cat(all_scores)


def scored(width: int, count: int) -> int:
    """Nodes that :func:`grow` scores in ``count`` levels."""
    return width + (count - 1) * width**2


def best_of(ids: Tensor, parents: Tensor, scores: Tensor, nodes: int) -> Best:
    """The best ``nodes`` of what :func:`grow` gives, of equal ones the first: none is better than its parent, so
    whoever is among them has its parent there.
    """
    places = scores.sort(descending=True, stable=True).indices[:nodes].sort().values
    numbered = torch.cat([parents[:1], places])  # which is none, and comes before all nodes
    above = torch.searchsorted(numbered, parents.index_select(0, places))
    return Best(ids.index_select(0, places), above, scores.index_select(0, places), places)


def laid_out(best: Best, width: int, count: int, dtype: torch.dtype) -> Grown:
    """``best`` of ``count`` levels with all that a pass wants to know of them, masks in ``dtype``."""
    nodes = len(best.ids)
    depths = (best.places + (width**2 - width)) // width**2
    line = [torch.arange(1, nodes + 1, device=best.ids.device), best.parents]  # numbers of each node's branch, upwards
    above = torch.cat([best.parents.new_zeros(1), best.parents])  # nobody is above nobody
    for _ in range(count - 2):
        line.append(above.index_select(0, line[-1]))
    sees = torch.full((nodes, nodes + 1), float("-inf"), device=best.ids.device, dtype=dtype)
    sees.scatter_(1, torch.stack(line, dim=1), 0.0)
    return Grown(best.ids, best.parents, best.scores, depths, sees[:, 1:])
