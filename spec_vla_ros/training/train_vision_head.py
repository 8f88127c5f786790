"""Distillation of the vision drafter on the verifier's own greedy tokens."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..decoding.heads.vision_head import VisionHead, VisionHeadConfig
from ..openvla.loader import LoadedModel
from .draft_data import DraftFrames

SPREAD = 3.0  # bins; neighbours of the verifier's choice would be accepted as well
NOISE = (0, 2, 6)  # bins by which shown earlier tokens are off, drawn per sample: after a relaxed hit they are


class Samples:
    """Tensors of labelled frames, and batches of them."""

    def __init__(self, frames: DraftFrames, loaded: LoadedModel, instructions: list[str], text_rows: int) -> None:
        """``instructions`` in the order of ``frames.task``."""
        tokens = loaded.tokens
        good = ((frames.tokens >= tokens.first) & (frames.tokens < tokens.vocab_end)).all(1)
        self.patches = torch.from_numpy(frames.patches)
        self.frame, self.task = (torch.from_numpy(x[good].astype(np.int64)) for x in (frames.frame, frames.task))
        self.last = torch.from_numpy(frames.last[good].astype(np.int64))
        self.tokens = torch.from_numpy(frames.tokens[good].astype(np.int64))
        self.bins = torch.from_numpy(tokens.to_bins(frames.tokens[good]))
        ids = [loaded.prompt.ids(text)[1:][-text_rows:] for text in instructions]
        longest = max(map(len, ids))
        self.text = torch.zeros(len(ids), longest, loaded.config.llama.hidden_size)
        self.text_mask = torch.zeros(len(ids), longest, dtype=torch.bool)
        for i, row in enumerate(ids):
            self.text[i, : len(row)] = loaded.model.language_model.embed(torch.tensor(row)).float()
            self.text_mask[i, : len(row)] = True

    def __len__(self) -> int:
        """Number of labelled pairs."""
        return len(self.task)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Patches, text, last, bins and text mask of these rows."""
        task = self.task[rows]
        patches = self.patches[self.frame[rows]].float()
        return patches, self.text[task], self.last[rows], self.bins[rows], self.text_mask[task]


def loss_of(logits: Tensor, bins: Tensor) -> Tensor:
    """Cross-entropy (scalar) of logits (B, A, bins) to the true bins spread over their neighbours; gripper exact."""
    columns = torch.arange(logits.shape[-1])
    width = torch.tensor([SPREAD] * (bins.shape[1] - 1) + [0.25])[:, None]
    target = torch.softmax(-0.5 * ((columns - bins[..., None]) / width) ** 2, dim=-1)
    return -(target * logits.float().log_softmax(-1)).sum(-1).mean()


def train(
    samples: Samples,
    config: VisionHeadConfig,
    minutes: float,
    seed: int,
    log: Callable[[str], None],
    save: Callable[[VisionHead], None],
    refresh: Callable[[], Samples | None] = lambda: None,
    batch: int = 64,
    peak_rate: float = 1e-3,
    initial: dict[str, Tensor] | None = None,
) -> VisionHead:
    """Train for ``minutes``; ``refresh`` may bring more samples, ``save`` is called every two minutes."""
    torch.manual_seed(seed)
    head = VisionHead(config)
    if initial is not None:
        head.load_state_dict(initial)
    decay = [p for p in head.parameters() if p.dim() == 2]
    rest = [p for p in head.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.03}, {"params": rest, "weight_decay": 0.0}], betas=(0.9, 0.98)
    )
    forward = torch.compile(head)
    generator = torch.Generator().manual_seed(seed)
    average = {name: p.detach().clone() for name, p in head.state_dict().items()}
    start = saved = time.monotonic()
    step, running = 0, None
    while (progress := (time.monotonic() - start) / 60 / minutes) < 1:
        if time.monotonic() - saved > 120:
            saved = time.monotonic()
            save(_averaged(head, average))
            samples = refresh() or samples
        rate = peak_rate * min(1.0, (step + 1) / 200) * max(0.02, 0.5 * (1 + np.cos(np.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows = torch.randint(len(samples), (batch,), generator=generator)
        patches, text, last, bins, text_mask = samples.batch(rows)
        spread = torch.tensor(NOISE)[torch.randint(len(NOISE), (batch, 1), generator=generator)]
        shown = bins + (torch.randn(bins.shape, generator=generator) * spread).round().long()
        shown[:, -1] = bins[:, -1]
        with torch.autocast("cpu", torch.bfloat16):
            logits = forward(patches, text, last, shown.clamp(0, config.bins - 1), text_mask)
        loss = loss_of(logits, bins)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            keep = min(0.999, step / (step + 50))
            for name, p in head.state_dict().items():
                average[name].lerp_(p, 1 - keep)
        step += 1
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        if step % 200 == 0:
            log(f"vision head {progress:5.1%} step {step} pairs {len(samples)} loss {running:.3f}")
    log(f"vision head done after {step} steps, loss {running}")
    head = _averaged(head, average)
    save(head)
    return head


def _averaged(head: VisionHead, average: dict[str, Tensor]) -> VisionHead:
    """A copy with the averaged weights."""
    copy = VisionHead(head.config)
    copy.load_state_dict(average)
    return copy.eval()


@torch.inference_mode()
def agreement(head: VisionHead, samples: Samples, radii: Tensor, limit: int = 4000) -> dict[str, object]:
    """How the head's single best guess fares against the verifier's greedy tokens, offline.

    Per dimension with the true tokens before it, and whole guesses with its own; within ``radii`` (A,) bins.
    """
    rows = torch.linspace(0, len(samples) - 1, min(limit, len(samples))).long()
    near, whole, exact = [], [], []
    for part in rows.split(256):
        patches, text, last, bins, text_mask = samples.batch(part)
        logits = head(patches, text, last, bins, text_mask)
        distance = (logits.argmax(-1) - bins).abs()
        near.append((distance <= radii).float())
        exact.append((distance == 0).float())
        chain = torch.full_like(bins, 0)
        for d in range(bins.shape[1]):  # free running
            chain[:, d] = head(patches, text, last, chain, text_mask)[:, d].argmax(-1)
        hit = ((chain - bins).abs() <= radii)[:, :-1]  # the last dimension is never drafted
        whole.append(hit.all(1).float())
    return {
        "pairs": len(rows),
        "within_radius_per_dimension": [round(v, 3) for v in torch.cat(near).mean(0).tolist()],
        "exact_per_dimension": [round(v, 3) for v in torch.cat(exact).mean(0).tolist()],
        "whole_action_within_radius": round(float(torch.cat(whole).mean()), 4),
    }
