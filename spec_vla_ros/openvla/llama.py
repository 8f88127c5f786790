"""A Llama decoder with a static key/value cache and a free attention mask.

Rows may be anything: a prompt, one token, or the rows of a draft tree. The caller says at which position every row
stands and which cache slots it may see; that is all that speculative verification needs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spec_vla_ros.kernels.kernel import Kernel
from spec_vla_ros.kernels.operators import rotary_write, silu_times, turnable

from .config import LlamaConfig

ALIGNED = 8  # slots that a mask's rows are filled up to a multiple of: attention would do it itself in every layer
GATED_CLOSE = 1e-5  # of a number: the quick exponential of a GPU is not that of torch
TURNED_CLOSE = 1e-5  # between numbers of about 1: what float32 loses where two of them nearly cancel
Rope = tuple[Tensor, Tensor] | Tensor  # of :func:`rope_tables` or of :func:`rope_matrices`


class KVCache:
    """Keys and values of all layers in one tensor (layers, 2, batch, heads, slots, head_dim), allocated once."""

    def __init__(
        self, config: LlamaConfig, slots: int, device: torch.device | str, dtype: torch.dtype, batch: int = 1
    ) -> None:
        shape = (config.num_hidden_layers, 2, batch, config.num_attention_heads, slots, config.head_dim)
        self.data = torch.zeros(shape, device=device, dtype=dtype)
        self.slots = slots

    def write(self, layer: int, at: int | Tensor, k: Tensor, v: Tensor, end: int) -> tuple[Tensor, Tensor]:
        """Store k, v (1, heads, N, head_dim) from slot ``at`` on, or in the slots ``at`` (N,); slots 0..end follow."""
        for part, rows in zip(self.data[layer], (k, v), strict=True):
            if isinstance(at, int):
                part[:, :, at : at + rows.shape[2]] = rows
            else:
                part.index_copy_(2, at, rows)
        return self.seen(layer, end)

    def seen(self, layer: int, end: int) -> tuple[Tensor, Tensor]:
        """Keys and values (batch, heads, ``end``, head_dim) of the slots before ``end``."""
        return self.data[layer, 0, :, :, :end], self.data[layer, 1, :, :, :end]

    def clear(self) -> None:
        """Forget everything; a slot that is not a number would spoil even rows that may not see it."""
        self.data.zero_()

    def move(self, slots: list[int], start: int) -> None:
        """Move the rows of ``slots``, which ascend and none of which lies before its place, to ``start``,
        ``start`` + 1, ... Copies whole stretches: to index with numbers of Python, a GPU would have to be waited for.
        """
        done = 0
        while done < len(slots):
            source, target = slots[done], start + done
            count = 1
            while done + count < len(slots) and slots[done + count] == source + count:
                count += 1
            if source != target:
                count = min(count, source - target)  # a stretch must not overlap itself
                self.data[..., target : target + count, :] = self.data[..., source : source + count, :]
            done += count


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32 as the reference does."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of x. Elsewhere than on a CPU that is one kernel, which rounds once."""
        if x.device.type != "cpu" and x.dtype == self.weight.dtype:
            return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)
        return self.weight * F.rms_norm(x.float(), x.shape[-1:], None, self.eps).to(x.dtype)


def rope_tables(config: LlamaConfig, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine (..., 1, N, head_dim) for integer ``positions`` (..., N); angles in float32, rotate-half."""
    half = torch.arange(0, config.head_dim, 2, device=positions.device, dtype=torch.float32)
    angles = positions.float()[..., None] * (config.rope_theta ** (-half / config.head_dim))
    angles = torch.cat([angles, angles], dim=-1).unsqueeze(-3)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def causal_mask(rows: int, device: torch.device | str) -> Tensor:
    """(rows, rows) boolean: every row sees itself and the rows before it."""
    return torch.ones(rows, rows, dtype=torch.bool, device=device).tril()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply the rotary embedding to x (B, heads, N, head_dim)."""
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-high, low], dim=-1) * sin


def turn(x: Tensor, matrices: Tensor) -> Tensor:
    """The same for x (parts, 1, heads, N, head_dim) by ``matrices`` (N, head_dim, head_dim)."""
    parts, _, heads, n, width = x.shape
    rows = x[:, 0].permute(2, 0, 1, 3).reshape(n, parts * heads, width)
    return torch.bmm(rows, matrices).view(n, parts, heads, width).permute(1, 2, 0, 3).unsqueeze(1)


def rope_matrices(config: LlamaConfig, positions: Tensor, dtype: torch.dtype) -> Tensor:
    """The same as matrices (N, head_dim, head_dim) to multiply rows with, for ``positions`` (N,): a product is a single
    kernel, and rounds once.
    """
    cos, sin = rope_tables(config, positions, dtype)
    directions = torch.eye(config.head_dim, device=positions.device, dtype=dtype)
    return rotate(directions, cos.transpose(0, 1), sin.transpose(0, 1))


class Rotations:
    """What turns rows at any of ``positions`` (S,), in one tensor, of which one launch takes that of a pass.

    ``tables``: where our own kernel turns them (:attr:`Llama.wants_tables`), else matrices.
    """

    def __init__(self, config: LlamaConfig, positions: Tensor, dtype: torch.dtype, tables: bool) -> None:
        self._tables = tables
        made = (rope_tables if tables else rope_matrices)(config, positions, dtype)
        self._made = torch.stack(made) if tables else made

    def of(self, places: Tensor) -> Rope:
        """Of the rows at ``places`` (N,) among the positions."""
        return self._made.index_select(2, places).unbind() if self._tables else self._made.index_select(0, places)


def turned(qkv: Tensor, rope: Rope) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of ``qkv`` (3, B, heads, N, head_dim), of which the first two are turned."""
    q, k = turn(qkv[:2], rope) if isinstance(rope, Tensor) else rotate(qkv[:2], *rope)
    return q, k, qkv[2]


def _fits(qkv: Tensor, rope: Rope, cache: KVCache) -> bool:
    """Whether :func:`.kernels.operators.rotary_write` knows such rows: one sequence, with tables, of the cache's type
    (not so under autocast), of which nothing is learnt.
    """
    return (
        isinstance(rope, tuple)
        and len(qkv) == cache.data.shape[2] == 1
        and qkv.dtype == rope[0].dtype == cache.data.dtype
        and not torch.is_grad_enabled()
    )


def try_rotary(config: LlamaConfig, device: torch.device, dtype: torch.dtype) -> None:
    """Run the kernel and plain torch. Raises ``RuntimeError`` where they differ, and what a compiler does."""
    heads, size, slots, rows = config.num_attention_heads, config.head_dim, 7, 3
    parts = torch.randn(3, 1, heads, rows, size, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    qkv = parts.permute(1, 3, 0, 2, 4).reshape(1, rows, -1)
    tables = rope_tables(config, torch.tensor([0, 3, 200], device=device), dtype)
    # In float32, as the kernel does: a product of matrices may be rounded otherwise there.
    q, k = rotate(parts[:2].float(), *(table.float() for table in tables)).to(dtype)
    for at in (2, torch.tensor([5, 0, 3], device=device)):
        found, expected = (torch.full((2, 1, heads, slots, size), 9.0, device=device, dtype=dtype) for _ in range(2))
        places = torch.arange(at, at + rows, device=device) if isinstance(at, int) else at
        expected.index_copy_(3, places, torch.stack([k, parts[2]]))
        pairs = (rotary_write(qkv, *tables, found, at), q), (found, expected)
        close = {"rtol": 2 * torch.finfo(dtype).eps, "atol": TURNED_CLOSE}
        if not all(torch.allclose(one.float(), other.float(), **close) for one, other in pairs):
            raise RuntimeError("rotary embedding and writes are not what plain torch says")


def _fuse(*layers: nn.Linear) -> Tensor:
    """One matrix of several; the layers keep their names and become views of it."""
    fused = torch.cat([layer.weight.detach() for layer in layers])
    for layer, part in zip(layers, fused.split([layer.out_features for layer in layers]), strict=True):
        layer.weight = nn.Parameter(part, requires_grad=False)
    return fused


def _times(x: Tensor, joined: Tensor | nn.Module) -> Tensor:
    """Several layers at once: rows times their one matrix, or through the one layer that quantising made of them."""
    return F.linear(x, joined) if isinstance(joined, Tensor) else joined(x)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of (B, heads, N, head_dim), in float32 under CPU autocast, whose bf16 backward pass is far slower."""
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=mask)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _added(x: Tensor, h: Tensor, layer: nn.Module, owned: bool) -> Tensor:
    """Rows (B, N, C) of x + ``layer`` (h); where ``x`` may be overwritten, added by the product itself."""
    if owned and not torch.is_grad_enabled() and isinstance(layer, nn.Linear) and x.dtype == h.dtype:
        x.view(-1, x.shape[-1]).addmm_(h.reshape(-1, h.shape[-1]), layer.weight.t())
        return x
    return x + layer(h)


class SelfAttention(nn.Module):
    """Projections of one attention layer; what attends to what is the caller's business."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)
        self.register_buffer("qkv", None, persistent=False)
        self.at_once = False  # rotary embedding and both writes to the cache are one kernel of our own

    def project(self, x: Tensor) -> Tensor:
        """Queries, keys and values of rows (B, N, C) side by side, (B, N, 3 * heads * head_dim)."""
        if self.qkv is None:
            return torch.cat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], dim=-1)
        return _times(x, self.qkv)

    def split(self, qkv: Tensor) -> Tensor:
        """The same as queries, keys and values (B, heads, N, head_dim), stacked as (3, ...)."""
        return qkv.view(*qkv.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)


def gated(both: Tensor) -> Tensor:
    """What :func:`.kernels.operators.silu_times` says, in plain torch."""
    gate, up = both.chunk(2, dim=-1)
    return F.silu(gate) * up


def try_gated(width: int, device: torch.device, dtype: torch.dtype) -> None:
    """Run the kernel and plain torch. Raises ``RuntimeError`` where they differ, and what a compiler does."""
    both = torch.linspace(-20, 20, 6 * width, device=device).view(3, 2 * width).to(dtype)
    found, expected = silu_times(both).float(), gated(both).float()
    if not torch.allclose(found, expected, rtol=max(2 * torch.finfo(dtype).eps, GATED_CLOSE), atol=1e-6):
        raise RuntimeError("SiLU and multiplication are not what plain torch says")


class Mlp(nn.Module):
    """Gated MLP (SwiGLU)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.register_buffer("gate_up", None, persistent=False)
        self.at_once = False  # SiLU and the multiplication are one kernel of our own

    def inner(self, x: Tensor) -> Tensor:
        """Rows (..., C) to what ``down_proj`` takes."""
        if self.gate_up is None:
            return F.silu(self.gate_proj(x)) * self.up_proj(x)
        both = _times(x, self.gate_up)
        return silu_times(both) if self.at_once else gated(both)

    def forward(self, x: Tensor) -> Tensor:
        """Rows (..., C) to rows (..., C)."""
        return self.down_proj(self.inner(x))


class DecoderLayer(nn.Module):
    """Attention and MLP with residuals. ``index``: its place in the cache; ``input_norm``: published draft heads have
    no norm before their attention.
    """

    def __init__(self, config: LlamaConfig, index: int, *, input_norm: bool = True) -> None:
        super().__init__()
        self.index = index
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps) if input_norm else nn.Identity()
        self.self_attn = SelfAttention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = Mlp(config)

    def forward(
        self,
        x: Tensor,
        rope: Rope,
        mask: Tensor | None,
        cache: KVCache | None,
        start: int | Tensor,
        end: int | None = None,
        owned: bool = False,
    ) -> Tensor:
        """Rows (B, N, C) to rows (B, N, C); the arguments as in :class:`Llama`. ``owned``: nobody needs ``x`` any more,
        so that it may be overwritten.
        """
        b, n, width = x.shape
        attn = self.self_attn
        qkv = attn.project(self.input_layernorm(x))
        end = start + n if end is None else end
        if attn.at_once and attn.qkv is not None and cache is not None and _fits(qkv, rope, cache):
            q = rotary_write(qkv, *rope, cache.data[self.index], start)
            k, v = cache.seen(self.index, end)
        else:
            q, k, v = turned(attn.split(qkv), rope)
            k, v = (k, v) if cache is None else cache.write(self.index, start, k, v, end)
        h = attend(q, k, v, mask)
        x = _added(x, h.transpose(1, 2).reshape(b, n, width), attn.o_proj, owned)
        return _added(x, self.mlp.inner(self.post_attention_layernorm(x)), self.mlp.down_proj, True)

    @torch.no_grad()
    def fuse(self) -> None:
        """As :meth:`Llama.fuse`, of this layer."""
        attn, mlp = self.self_attn, self.mlp
        attn.qkv = _fuse(attn.q_proj, attn.k_proj, attn.v_proj)
        mlp.gate_up = _fuse(mlp.gate_proj, mlp.up_proj)


class Embedding(nn.Embedding):
    """Draws no values for tensors without data: torch would import its compiler for it, a second of every start."""

    def reset_parameters(self) -> None:
        """Draw the first values, where there is room for them."""
        if not self.weight.is_meta:
            super().reset_parameters()


class _Decoder(nn.Module):
    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Llama(nn.Module):
    """Language model with checkpoint names ``model.*`` and ``lm_head``."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.model = _Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.kernels: dict[str, Kernel] = {}  # of :meth:`use_kernels`

    def forward(
        self,
        embeds: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        cache: KVCache | None = None,
        start: int | Tensor = 0,
        rope: Rope | None = None,
        end: int | None = None,
    ) -> Tensor:
        """Hidden states after the final norm, (B, N, C).

        ``embeds`` (B, N, C); ``positions`` (N,) or (B, N) int; ``mask`` boolean, True = may see, or 0 and -inf as
        numbers to add, broadcastable to (B, heads, N, S) with S = ``end`` when a cache is given, else N. Rows are
        written to the cache slots ``start`` .. ``start`` + N - 1, or to those that ``start`` (N,) names, and may see
        the slots before ``end``, which by default is the one after the last row; every row must see at least one.
        ``rope``: the tables of ``positions``, or their matrices (of a single sequence), where the caller has them.
        """
        x, rope = embeds, rope_tables(self.config, positions, embeds.dtype) if rope is None else rope
        for layer in self.model.layers:
            x = layer(x, rope, mask, cache, start, end, owned=x is not embeds)
        return self.model.norm(x)

    @torch.no_grad()
    def fuse(self) -> None:
        """Join q|k|v and gate|up into one matrix each: fewer, larger multiplications with the same result.

        For inference only, once the weights are on their device: the separate layers stay as views, so names and
        ``state_dict`` are as before.
        """
        for layer in self.model.layers:
            layer.fuse()

    def use_kernels(self, wanted: bool | None = None) -> None:
        """Run kernels of our own where two or three of torch's would have to (``wanted`` as in
        :class:`.kernels.kernel.Kernel`), for inference only and once weights are where they stay; where matrices are
        joined. That of the rotary embedding is for passes that are given tables.
        """
        config, width, weight = self.config, self.config.intermediate_size, self.lm_head.weight
        device, dtype = weight.device, weight.dtype
        product = Kernel("silu_times", device, lambda: try_gated(width, device, dtype), wanted)
        known = wanted if turnable(config.head_dim) else False
        rotary = Kernel("rotary_write", device, lambda: try_rotary(config, device, dtype), known)
        self.kernels = {"silu_times": product, "rotary_write": rotary}
        for layer in self.model.layers:
            layer.mlp.at_once, layer.self_attn.at_once = product.on, rotary.on

    @property
    def wants_tables(self) -> bool:
        """Whether a pass takes less with the tables of its positions than with their matrices."""
        return any(layer.self_attn.at_once for layer in self.model.layers)

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings of token ids."""
        return self.model.embed_tokens(ids)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits over the whole vocabulary, float32."""
        return self.lm_head(hidden).float()
