"""The acceptance rule: which drafted tokens the verifier lets stand. Pure functions.

A drafted token is accepted when it and the verifier's own choice are both action tokens, their decoded bins lie at
most ``radius`` apart, and everything before it on its branch is accepted. Of all accepted branches the longest wins;
of equally long ones the one nearest to the verifier's choices, so an exact one before any other. Radius 0 is the
strict rule (equal action), any other radius the relaxed one of Spec-VLA (arXiv 2507.22424), with these differences:
distances are in decoded bins instead of raw ids, each dimension has its own radius, a branch may be given a budget
for the sum of its distances, and no token outside the action range is ever within reach.

The rule runs on the host: a tree has at most 64 nodes, and on a GPU each step of it would be a launch of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spec_vla_ros.openvla.action_tokens import ActionTokens

from .tree import ROOT, DraftTree

UNLIMITED = 1 << 30  # a budget that nothing exhausts
FAR = 36  # bins; a choice further away means another motion, not the same one a little longer


def bin_distance(draft: int, verifier: int, tokens: ActionTokens) -> int | None:
    """Distance in decoded bins of two ids; None where either is no action."""
    if not (tokens.is_action(draft) and tokens.is_action(verifier)):
        return None
    bins = [min(tokens.vocab_end - 1 - token, tokens.bins - 1) for token in (draft, verifier)]
    return abs(bins[0] - bins[1])


def best_node(
    tree: DraftTree,
    choices: Sequence[int],
    radii: Sequence[int],
    tokens: ActionTokens,
    budget: int = UNLIMITED,
    costs: Sequence[int] = (),
) -> int:
    """The last node of the winning branch; -1 where no branch begins well, of equal ones the earlier.

    ``choices``: the verifier's argmax at the root, then after each node (M + 1 ids). By depth: ``radii``, in bins, and
    ``costs``, 1, or 0 where a distance takes nothing from the budget (every bin is the same command); () = 1
    everywhere. ``budget``: bins that the distances of a branch may add up to.

    At radius 0 the ids themselves must be equal, although two ids share the topmost bin: the rows after a draft
    are conditioned on its id, and strict decoding promises what autoregressive decoding would have said.
    """
    best, rank = ROOT, (0, 0)
    standing = {ROOT: (0, 0)}  # of accepted nodes: how far off their branch is, and what that takes of the budget
    for node, (token, parent, depth) in enumerate(zip(tree.tokens, tree.parents, tree.depths, strict=True)):
        if parent not in standing:
            continue
        choice, radius = choices[parent + 1], radii[depth]
        gap = bin_distance(token, choice, tokens)
        if gap is None or gap > radius or (radius == 0 and token != choice):
            continue
        off, spent = standing[parent]
        off, spent = off + gap, spent + gap * (costs[depth] if costs else 1)
        if spent > budget:
            continue
        standing[node] = off, spent
        if (depth + 1, -off) > rank:
            best, rank = node, (depth + 1, -off)
    return best


def far_apart(tokens: ActionTokens, device: torch.device | str) -> Tensor:
    """(n, n) float32 for action tokens: 0 where two are more than ``FAR`` bins apart, minus infinity elsewhere."""
    places = torch.arange(tokens.vocab_end - tokens.first, device=device, dtype=torch.float32)
    near = (places[:, None] - places).abs() <= FAR
    return torch.zeros(near.shape, device=device).masked_fill_(near, float("-inf"))


def margins_of(logits: Tensor, tokens: ActionTokens, apart: Tensor) -> Tensor:
    """How sure the verifier is of each of its choices (M,), in nats: the logit of its best action token less that of
    the best one more than ``FAR`` bins away; infinite where there is none. ``logits`` (M, vocabulary); ``apart``: of
    :func:`far_apart`.
    """
    action = logits[:, tokens.first : tokens.vocab_end]
    best, choice = action.max(-1)
    return best - (action + apart.index_select(0, choice)).amax(-1)
