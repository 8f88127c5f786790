"""Logits of all kinds, and what a step of beams makes of them in plain, exact arithmetic; rows of attention."""

import torch

from spec_vla_ros.openvla.config import LlamaConfig
from spec_vla_ros.openvla.llama import rope_tables, rotate

BINS = 255


def random_steps(rounds, seed=0):
    """Logits (B, bins), scores (B,), chains (B, t + 1), radius, width; without ties."""
    generator = torch.Generator().manual_seed(seed)
    for number in range(rounds):
        for beams, width in ((1, 1), (1, 2), (1, 8), (2, 2), (3, 5), (4, 8), (8, 8)):
            radius = (0, 1, 3, 9, 40, 127, 254, 1000)[number % 8]
            logits = torch.randn(beams, BINS, generator=generator) * (0.5 + number % 7)
            scores = torch.rand(beams, generator=generator) + 0.05
            chains = torch.randint(0, BINS + 1, (beams, 1 + number % 7), generator=generator)
            yield logits, scores, chains, radius, width


def odd_logits():
    """(8, bins): plateaus, spikes, ties, what is hardly there, and what is no number."""
    columns = torch.arange(BINS)
    yield torch.zeros(8, BINS)
    yield torch.where(columns == torch.tensor([0, 1, 9, 127, 128, 245, 253, 254])[:, None], 100.0, 0.0)
    yield torch.where(columns % 2 == 0, 3.0, -3.0).expand(8, -1)
    yield torch.where(columns < 128, 0.0, float("-inf")).expand(8, -1)
    yield torch.where(columns == 200, 0.0, float("-inf")).expand(8, -1)
    yield (-0.5 * columns.float()).expand(8, -1)
    yield torch.full((8, BINS), float("-inf"))
    yield torch.full((8, BINS), float("inf"))
    yield torch.full((8, BINS), float("nan"))
    yield torch.where(columns == torch.arange(8)[:, None], float("nan"), 0.0)
    yield torch.where(columns == torch.arange(8)[:, None], float("inf"), 0.0)


def exact_masses(probability, radius):
    """What lies within the radius of each bin, of one row (bins,) of whole numbers, (bins,)."""
    padded = torch.nn.functional.pad(probability.cumsum(0), (1, 0))
    columns = torch.arange(len(probability))
    return padded[(columns + radius + 1).clamp(max=len(probability))] - padded[(columns - radius).clamp(min=0)]


def exact_modes(probability, radius, count):
    """Bins and masses (whole numbers) of one row; of equal ones the lowest bin."""
    left, columns, found = probability.clone(), torch.arange(len(probability)), []
    for _ in range(count):
        masses = exact_masses(left, radius).tolist()
        best = masses.index(max(masses))
        found.append((best, masses[best]))
        left[(columns - best).abs() <= radius] = 0
    return found


def rows_of_attention(heads, size, rows, dtype=torch.float32, seed=0):
    """Queries, keys and values side by side (1, rows, 3 * heads * size), and tables of positions in no order."""
    generator = torch.Generator().manual_seed(seed)
    config = LlamaConfig(hidden_size=heads * size, num_attention_heads=heads)
    places = torch.randint(0, 600, (rows,), generator=generator)
    qkv = torch.randn(1, rows, 3 * heads * size, generator=generator).to(dtype)
    return qkv, *rope_tables(config, places, dtype)


def plain_rotary(qkv, cos, sin, cache, slots, start):
    """Queries turned in float32 and rounded once, and what goes to the cache."""
    _, rows, _ = qkv.shape
    q, k, v = qkv.view(1, rows, 3, cache.shape[2], -1).permute(2, 0, 3, 1, 4)
    q, k = (rotate(x.float(), cos.float(), sin.float()).to(x.dtype) for x in (q, k))
    places = torch.arange(start, start + rows) if slots is None else slots
    cache.index_copy_(3, places, torch.stack([k, v]))
    return q
