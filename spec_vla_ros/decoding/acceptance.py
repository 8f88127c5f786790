"""The acceptance rule: which drafted tokens the verifier lets stand.

A drafted token is accepted when it and the verifier's own choice are both action tokens and their decoded bins lie
at most ``radius`` apart; the accepted draft is the longest leading run of such tokens. Radius 0 is the strict rule
(equal action), any other radius the relaxed one of Spec-VLA (arXiv 2507.22424), with three differences: distances
are in decoded bins instead of raw ids, each dimension has its own radius, and no other token is ever within reach.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spec_vla_ros.openvla.action_tokens import ActionTokens


def bin_distance(draft: Tensor, verifier: Tensor, tokens: ActionTokens) -> Tensor:
    """Distance in decoded bins of two id tensors of one shape; the largest integer where either is no action."""
    bins = [(tokens.vocab_end - 1 - ids).clamp(max=tokens.bins - 1) for ids in (draft, verifier)]
    action = [(ids >= tokens.first) & (ids < tokens.vocab_end) for ids in (draft, verifier)]
    return torch.where(action[0] & action[1], (bins[0] - bins[1]).abs(), torch.iinfo(draft.dtype).max)


def accepted_length(draft: Tensor, verifier: Tensor, radii: Tensor, tokens: ActionTokens) -> Tensor:
    """Number of leading tokens accepted, int64.

    ``draft``, ``verifier`` (..., D) ids, the verifier's being its argmax at the same dimensions, each conditioned
    on the drafted tokens before it; ``radii`` (D,) in bins. Returns (...).

    At radius 0 the ids themselves must be equal, although two ids share the topmost bin: the rows after a draft
    are conditioned on its id, and strict decoding promises what autoregressive decoding would have said.
    """
    exact = draft == verifier
    near = (bin_distance(draft, verifier, tokens) <= radii) & ((radii > 0) | exact)
    return near.long().cumprod(-1).sum(-1)
