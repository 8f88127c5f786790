"""The vision drafter's network: from what the verifier is about to read to a guess of what it will say.

It sees the projected patches, the embedded instruction and the action before, none of which needs a pass of the
language model, so its guesses can be verified inside the pass over the prompt. A small encoder mixes them once per
image. A still smaller decoder then names the bins dimension by dimension, each conditioned on the ones before: the
guess is consistent in itself, and after a partial hit it goes on from the tokens that were emitted.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spec_vla_ros.openvla.llama import ALIGNED, Embedding

NO_ACTION = -1  # in ``last``: there was no action before this one


@dataclass(frozen=True)
class VisionHeadConfig:
    """``hidden``: width of the verifier's rows. ``patches``, ``action_dim``: A, ``bins``: decoded values per dimension.

    ``text_rows``: longest instruction part of a prompt that is read; longer ones lose their beginning.
    """

    hidden: int
    patches: int
    action_dim: int = 7
    bins: int = 255
    width: int = 128
    encoder_layers: int = 2
    decoder_layers: int = 1
    heads: int = 4
    text_rows: int = 48

    def to_dict(self) -> dict[str, Any]:
        """As stored beside the weights."""
        return asdict(self)


class _Block(nn.Module):
    """Pre-norm attention and MLP; with ``memory`` the queries look at it as well."""

    def __init__(self, width: int, heads: int, cross: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(3 * width, width)
        if cross:
            self.norm3, self.query = nn.LayerNorm(width), nn.Linear(width, width)
            self.key_value, self.cross_out = nn.Linear(width, 2 * width), nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:
        """(B, N, parts * width) to (B, parts * heads, N, head_dim)."""
        return x.unflatten(-1, (-1, self.out.in_features // self.heads)).transpose(1, 2)

    def memory(self, encoded: Tensor) -> Tensor:
        """Keys and values (B, 2 * heads, N, head_dim) of the encoder's rows, computed once per image."""
        return self.split(self.key_value(encoded))

    def project(self, x: Tensor) -> Tensor:
        """Queries, keys and values of rows (B, N, width), side by side."""
        return self.qkv(self.norm1(x))

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        projected: Tensor | None = None,
    ) -> Tensor:
        """Rows (B, N, width) to rows (B, N, width). Masks: True = may see, or 0 and -inf as numbers to add.

        ``projected``: of :meth:`project`, where the caller has it; of more rows than x, of which x are the last.
        """
        qkv = self.split(self.project(x) if projected is None else projected)
        x = x + self._attend(self.out, qkv[:, : self.heads, -x.shape[1] :], qkv[:, self.heads :], mask)
        if memory is not None:
            query = self.split(self.query(self.norm3(x)))
            x = x + self._attend(self.cross_out, query, memory, memory_mask)
        return x + self.down(F.gelu(self.up(self.norm2(x))))

    @staticmethod
    def _attend(out: nn.Linear, query: Tensor, keys_values: Tensor, mask: Tensor | None) -> Tensor:
        seen = F.scaled_dot_product_attention(query, *keys_values.chunk(2, dim=1), attn_mask=mask)
        return out(seen.transpose(1, 2).flatten(2))


class VisionHead(nn.Module):
    """See the module docstring. Own positions and embeddings; shares nothing with the verifier but its inputs."""

    def __init__(self, config: VisionHeadConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.patch_in, self.text_in = nn.Linear(config.hidden, width), nn.Linear(config.hidden, width)
        self.patch_norm, self.text_norm = nn.LayerNorm(config.hidden), nn.LayerNorm(config.hidden)
        self.patch_place = nn.Parameter(torch.randn(config.patches, width) * 0.02)
        self.text_place = nn.Parameter(torch.randn(config.text_rows, width) * 0.02)
        # One table per dimension; the last row of each is "none" (no earlier action) or "start" (nothing emitted yet).
        self.last = Embedding(config.action_dim * (config.bins + 1), width)
        self.emitted = Embedding(config.action_dim * (config.bins + 1), width)
        self.place = nn.Parameter(torch.randn(config.action_dim, width) * 0.02)
        self.encoder = nn.ModuleList(_Block(width, config.heads) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(_Block(width, config.heads, cross=True) for _ in range(config.decoder_layers))
        self.encoded_norm, self.out_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.out = nn.Linear(width, config.action_dim * config.bins)

    def encode(
        self, patches: Tensor, text: Tensor, last: Tensor, text_mask: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor | None]:
        """Keys and values (B, 2 * heads, N, head_dim) that each layer of the decoder looks at, and their mask; once per
        image.

        ``patches`` (B, P, hidden) projected; ``text`` (B, T, hidden) embedded prompt without BOS, T at most
        ``text_rows``; ``last`` (B, A) bins of the action before, -1 = none; ``text_mask`` (B, T) True = present, or 0
        and -inf as numbers to add.
        """
        config = self.config
        rows = [
            self.patch_in(self.patch_norm(patches)) + self.patch_place,
            self.text_in(self.text_norm(text)) + self.text_place[: text.shape[1]],
            self.last(self._index(last % (config.bins + 1))),  # which makes the last row of no action
        ]
        x, mask = torch.cat(rows, dim=1), None
        if text_mask is not None:
            count = x.shape[1]
            seen = text_mask.new_full((len(x), -(-count // ALIGNED) * ALIGNED), text_mask.dtype == torch.bool)
            seen[:, config.patches : config.patches + text.shape[1]] = text_mask
            mask = seen[:, None, None, :count]
        for block in self.encoder:
            x = block(x, mask)
        x = self.encoded_norm(x)
        return [block.memory(x) for block in self.decoder], mask

    def forward(self, patches: Tensor, text: Tensor, last: Tensor, bins: Tensor, text_mask: Tensor | None) -> Tensor:
        """Logits (B, A, bins) with the true ``bins`` (B, A) of the dimensions before shown; for training."""
        memory, memory_mask = self.encode(patches, text, last, text_mask)
        shown = torch.cat([torch.full_like(bins[:, :1], self.config.bins), bins[:, :-1]], dim=1)
        x = self.emitted(self._index(shown)) + self.place
        count = self.config.action_dim
        mask = torch.ones(count, count, dtype=torch.bool, device=x.device).tril()
        for block, seen in zip(self.decoder, memory, strict=True):
            x = block(x, mask, seen, memory_mask)
        weight = self.out.weight.view(count, self.config.bins, -1)
        return torch.einsum("bnw,nkw->bnk", self.out_norm(x), weight) + self.out.bias.view(count, -1)

    def _index(self, bins: Tensor) -> Tensor:
        """Row of the joint table for each dimension's bin, (B, A)."""
        return bins + torch.arange(bins.shape[1], device=bins.device) * (self.config.bins + 1)


class Steps:
    """The decoder of ``head``, one dimension after the other, for inference: weights must not change any more.

    What the first layer makes of a row before it looks at others depends on its dimension and bin alone, and is looked
    up; keys and values of earlier dimensions need then not be kept, nor be re-ordered where beams are.
    """

    @torch.no_grad()
    def __init__(self, head: VisionHead) -> None:
        self._head, config = head, head.config
        rows = head.emitted.weight.view(config.action_dim, config.bins + 1, -1) + head.place[:, None]
        self._rows = torch.cat([rows, head.decoder[0].project(rows)], dim=-1)
        self._dimensions = torch.arange(config.action_dim, device=rows.device)
        self._causal = torch.ones(config.action_dim, config.action_dim, dtype=torch.bool, device=rows.device).tril()

    def __call__(self, memory: list[Tensor], chains: Tensor, memory_mask: Tensor | None = None) -> Tensor:
        """Logits (B, bins) of dimension t, in the type of the head.

        ``chains`` (B, t + 1): ``bins`` ("start"), then the bins of the dimensions before t. ``memory``,
        ``memory_mask``: of :meth:`VisionHead.encode`, for one image.
        """
        head, (batch, count) = self._head, chains.shape
        config, (first, *others) = head.config, head.decoder
        rows = self._rows[self._dimensions[:count], chains]
        x, projected = rows[..., : config.width], rows[..., config.width :]
        mask = self._causal[:count, :count] if others else None
        if not others:
            x = x[:, -1:]
        seen = [layer.expand(batch, -1, -1, -1) for layer in memory]
        x = first(x, mask, seen[0], memory_mask, projected)
        for block, layer in zip(others, seen[1:], strict=True):
            x = block(x, mask, layer, memory_mask)
        part = slice((count - 1) * config.bins, count * config.bins)
        return F.linear(head.out_norm(x[:, -1]), head.out.weight[part], head.out.bias[part])
