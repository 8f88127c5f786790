"""Training of the Spec-VLA draft head on the verifier's own states and greedy tokens.

The published recipe: the regression of the next state (smooth L1) plus a tenth of the cross-entropy to the verifier's
distribution, on the rows that predict tokens 2 to A; noise on the input states; output head and embeddings frozen.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..decoding.heads.eagle_head import EagleHead
from ..openvla.llama import causal_mask, rope_tables
from ..openvla.loader import LoadedModel
from .train_vision_head import Samples

NOISE = 0.2  # width of the uniform noise on input states, as the public settings name it
TOKEN_WEIGHT = 0.1


@torch.inference_mode()
def verifier_rows(loaded: LoadedModel, patches: Tensor, ids: list[int], tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Input rows and states (B, P + T + A - 1, H) of one prompt over several images, with the action's tokens read.

    ``patches`` (B, P, H); ``ids`` the prompt; ``tokens`` (B, A).
    """
    model = loaded.model
    prompt = model.prompt_embeds(patches, torch.tensor([ids]).expand(len(patches), -1))
    rows = torch.cat([prompt, model.language_model.embed(tokens[:, :-1])], dim=1)
    positions = torch.arange(rows.shape[1])
    return rows, model.language_model(rows, positions, causal_mask(len(positions), rows.device))


def train(
    loaded: LoadedModel,
    samples: Samples,
    prompts: list[list[int]],
    minutes: float,
    seed: int,
    log: Callable[[str], None],
    save: Callable[[EagleHead], None],
    batch: int = 16,
    peak_rate: float = 1e-3,
    initial: dict[str, Tensor] | None = None,
) -> EagleHead:
    """Train for ``minutes``; ``save`` is called every two minutes. ``prompts`` in the order of ``samples.task``."""
    torch.manual_seed(seed)
    config = loaded.config.llama
    head = EagleHead(config)
    for name, p in head.named_parameters():
        if p.dim() == 2:
            torch.nn.init.normal_(p, std=(0.5 if "o_proj" in name or "down_proj" in name else 1.0) * p.shape[1] ** -0.5)
    if initial is not None:
        head.load_state_dict(initial)
    optimizer = torch.optim.AdamW(head.parameters(), betas=(0.9, 0.95), weight_decay=0.0)
    rng = np.random.default_rng(seed)
    by_task = [torch.nonzero(samples.task == task).flatten() for task in range(len(prompts))]
    action = slice(loaded.tokens.first, loaded.tokens.vocab_end)
    output = loaded.model.language_model.lm_head.weight[action].float()
    start = saved = time.monotonic()
    step, running = 0, None
    while (progress := (time.monotonic() - start) / 60 / minutes) < 1:
        if time.monotonic() - saved > 120:
            saved = time.monotonic()
            save(head)
        for group in optimizer.param_groups:
            group["lr"] = peak_rate * min(1.0, (step + 1) / 100) * max(0.02, 1 - progress)
        task = int(rng.integers(len(prompts)))  # one prompt per step, so that no row is padding
        rows = by_task[task][torch.from_numpy(rng.integers(len(by_task[task]), size=batch))]
        tokens = samples.tokens[rows]
        with torch.no_grad():
            embeds, states = verifier_rows(loaded, samples.patches[samples.frame[rows]].float(), prompts[task], tokens)
        embeds, states = embeds.clone(), states.clone()
        noisy = states + (torch.rand_like(states) - 0.5) * NOISE
        positions = torch.arange(states.shape[1] - 1)
        mask = causal_mask(len(positions), states.device)
        out = head(embeds[:, 1:], noisy[:, :-1], rope_tables(config, positions, states.dtype), mask)
        wanted = states[:, 1:]
        last = slice(-(samples.tokens.shape[1] - 1), None)  # rows whose next state predicts tokens 2..A
        regression = F.smooth_l1_loss(out[:, last], wanted[:, last])
        target = (wanted[:, last] @ output.T).softmax(-1)
        guess = (out[:, last] @ output.T).log_softmax(-1)
        loss = regression - TOKEN_WEIGHT * (target * guess).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 0.5)
        optimizer.step()
        step += 1
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        if step % 200 == 0:
            log(f"eagle head {progress:5.1%} step {step} loss {running:.4f}")
    log(f"eagle head done after {step} steps, loss {running}")
    save(head)
    return head.eval()
