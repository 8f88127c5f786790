"""One pass of the language model over known rows and drafted tokens, on a cache of fixed size."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spec_vla_ros.errors import InstructionError, NonFiniteError
from spec_vla_ros.openvla.action_tokens import ActionTokens
from spec_vla_ros.openvla.llama import KVCache, causal_mask, rope_tables
from spec_vla_ros.openvla.model import OpenVLA

from .acceptance import accepted_length


@dataclass(frozen=True)
class Verdict:
    """``greedy``: the verifier's argmax after the last known row and after each drafted token (D + 1 ids).
    ``accepted``: how many drafted tokens stand. ``finished``: when the pass was over, ``time.perf_counter()``.
    """

    greedy: list[int]
    accepted: int
    finished: float


class Verifier:
    """The model, its key/value cache and everything of fixed shape, allocated once.

    ``slots``: rows that the cache holds: prompt and action. The draft is a single chain, so its rows simply follow
    the known ones; a tree of drafts would need nothing but another mask and another list of positions.
    """

    def __init__(self, model: OpenVLA, tokens: ActionTokens, slots: int) -> None:
        self.model, self.tokens = model, tokens
        self.cache = KVCache(model.config.llama, slots, model.device, model.dtype)
        self.positions = torch.arange(slots, device=model.device)
        self.cos, self.sin = rope_tables(model.config.llama, self.positions, model.dtype)
        self.mask = causal_mask(slots, model.device)

    @torch.inference_mode()
    def run(self, known: Tensor, start: int, draft: Sequence[int] = (), radii: Sequence[int] = ()) -> Verdict:
        """Append rows to the cache at slot ``start`` and judge the draft, with a single transfer to the host.

        ``known`` (1, N, hidden): input rows whose tokens are settled. ``draft``: D ids that may follow, ``radii``
        the D distances in bins within which they stand. Slots from ``start`` on are overwritten, so the rows of
        rejected tokens vanish by starting the next pass on top of them.

        Raises :class:`NonFiniteError` and, when the cache is too small, :class:`InstructionError`.
        """
        language_model, device = self.model.language_model, known.device
        end = start + known.shape[1] + len(draft)
        if end > self.cache.slots:
            raise InstructionError(f"the prompt needs {end} rows, the cache has {self.cache.slots}")
        ids = torch.tensor(draft, dtype=torch.long, device=device)
        rows = torch.cat([known, language_model.embed(ids)[None]], dim=1) if draft else known
        mask = self.mask[start:end, :end] if end - start > 1 else None
        rope = self.cos[..., start:end, :], self.sin[..., start:end, :]
        hidden = language_model(rows, self.positions[start:end], mask, self.cache, start, rope)
        logits = language_model.logits(hidden[0, known.shape[1] - 1 :])  # [D + 1, vocabulary]
        greedy = logits.argmax(-1)  # the lowest id where logits tie
        accepted = accepted_length(ids, greedy[:-1], torch.tensor(radii, device=device), self.tokens)
        outcome = torch.cat([greedy, accepted[None], logits.isfinite().all()[None].long()])
        *greedy, accepted, finite = outcome.tolist()  # the only wait for the device
        if not finite:
            raise NonFiniteError("the language model gave logits that are NaN or infinite")
        return Verdict(greedy, accepted, time.perf_counter())
