"""The draft head of Spec-VLA: one decoder layer that predicts the verifier's next state from its last one.

Row j joins the embedding of token j + 1 with the verifier's state at j and estimates the state at j + 1; the verifier's
own output head turns that into a guess for token j + 2 (EAGLE, arXiv 2401.15077; Spec-VLA, arXiv 2507.22424). Parameter
names are those of the published heads.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from spec_vla_ros.openvla.config import LlamaConfig
from spec_vla_ros.openvla.llama import DecoderLayer, KVCache, Llama, Rope


class EagleHead(nn.Module):
    """``fc`` joins embedding and state, one layer looks back; embedding table and output head are the verifier's."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.fc = nn.Linear(2 * config.hidden_size, config.hidden_size)
        self.layers = nn.ModuleList([DecoderLayer(config, 0, input_norm=False)])

    def forward(
        self,
        embeds: Tensor,
        states: Tensor,
        rope: Rope,
        mask: Tensor | None,
        cache: KVCache | None = None,
        start: int | Tensor = 0,
        end: int | None = None,
    ) -> Tensor:
        """Estimated next states (B, N, H).

        ``embeds`` (B, N, H) of the tokens one further, ``states`` (B, N, H) of the verifier or estimated; ``rope``
        the tables or matrices of the rows' positions; ``mask``, ``start`` and ``end`` as in
        :class:`..openvla.llama.Llama`.
        """
        x = self.fc(torch.cat([embeds, states], dim=-1))
        return self.layers[0](x, rope, mask, cache, start, end, owned=True)

    def fuse(self, like: Llama) -> None:
        """Join matrices and run kernels of our own as the verifier does, for inference only and once weights are where
        they stay.
        """
        (ours,), theirs = self.layers, like.model.layers[0]
        ours.fuse()
        ours.mlp.at_once, ours.self_attn.at_once = theirs.mlp.at_once, theirs.self_attn.at_once

    @property
    def wants_tables(self) -> bool:
        """As of :class:`..openvla.llama.Llama`."""
        return self.layers[0].self_attn.at_once

    def make_cache(self, slots: int, device: torch.device, dtype: torch.dtype) -> KVCache:
        """A cache for this head's single layer."""
        return KVCache(replace(self.config, num_hidden_layers=1), slots, device, dtype)
