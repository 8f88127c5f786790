"""The acceptance rule: which drafted tokens the verifier lets stand. Pure functions.

A drafted token is accepted when it and the verifier's own choice are both action tokens, their decoded bins lie at
most ``radius`` apart, and everything before it on its branch is accepted. Of all accepted branches the longest wins;
of equally long ones the one nearest to the verifier's choices, so an exact one before any other. Radius 0 is the
strict rule (equal action), any other radius the relaxed one of Spec-VLA (arXiv 2507.22424), with these differences:
distances are in decoded bins instead of raw ids, each dimension has its own radius, a branch may be given a budget
for the sum of its distances, and no token outside the action range is ever within reach.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spec_vla_ros.openvla.action_tokens import ActionTokens

UNLIMITED = 1 << 30  # a budget that nothing exhausts
FAR = 36  # bins; a choice further away means another motion, not the same one a little longer


def bin_distance(draft: Tensor, verifier: Tensor, tokens: ActionTokens) -> Tensor:
    """Distance in decoded bins of two id tensors of one shape; the largest integer where either is no action."""
    bins = [(tokens.vocab_end - 1 - ids).clamp(max=tokens.bins - 1) for ids in (draft, verifier)]
    action = [(ids >= tokens.first) & (ids < tokens.vocab_end) for ids in (draft, verifier)]
    return (bins[0] - bins[1]).abs().masked_fill(~(action[0] & action[1]), torch.iinfo(draft.dtype).max)


def best_node(
    draft: Tensor,
    verifier: Tensor,
    radii: Tensor,
    ancestors: Tensor,
    tokens: ActionTokens,
    budget: int = UNLIMITED,
    costs: Tensor | None = None,
) -> Tensor:
    """The last node of the winning branch, int64 scalar; -1 where no branch begins well.

    ``draft`` (M,) ids; ``verifier`` (M,) its argmax at each node's parent; ``radii`` (M,) bins; ``ancestors`` (M, M)
    boolean, a node's path with itself; ``budget``: bins that the distances of a branch may add up to; ``costs`` (M,)
    1, or 0 where a distance takes nothing from it (every bin is the same command), None = 1 everywhere.

    At radius 0 the ids themselves must be equal, although two ids share the topmost bin: the rows after a draft
    are conditioned on its id, and strict decoding promises what autoregressive decoding would have said.
    """
    if not len(draft):
        return draft.new_full((), -1)
    gaps = bin_distance(draft, verifier, tokens)
    fine = (gaps <= radii) & ((radii > 0) | (draft == verifier))
    path = ancestors.to(torch.float32)  # exact for these small whole numbers, and matrix products exist everywhere
    broken = path @ (~fine).float()
    near = gaps.clamp(max=tokens.bins).float()
    off = path @ near
    spent = off if costs is None else path @ (near * costs)
    accepted = (broken == 0) & (spent <= budget)
    # A prefix of an affordable branch is affordable, so accepted nodes form branches without holes.
    longest = path.sum(1)
    score = (longest * (tokens.bins * len(draft) + 1) - off).masked_fill(~accepted, -1.0)
    return score.argmax().masked_fill(~accepted.any(), -1)


def margins_of(logits: Tensor, tokens: ActionTokens) -> Tensor:
    """How sure the verifier is of each of its choices (M,), in nats: the logit of its best action token less that of
    the best one more than ``FAR`` bins away. ``logits`` (M, vocabulary).
    """
    action = logits[:, tokens.first : tokens.vocab_end]
    best, choice = action.max(-1, keepdim=True)
    far = (torch.arange(action.shape[1], device=logits.device) - choice).abs() > FAR
    return (best[:, 0] - action.masked_fill(~far, float("-inf")).amax(-1)).clamp(max=1e6)
