"""Training of the Spec-VLA draft head on the verifier's own states and greedy tokens.

The published recipe: the regression of the next state (smooth L1) plus a tenth of the cross-entropy to the verifier's
distribution, on the rows that predict tokens 2 to A; noise on the input states; output head and embeddings frozen.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..decoding.heads.eagle_head import EagleHead
from ..openvla.llama import causal_mask, rope_tables
from ..openvla.loader import LoadedModel
from .draft_shards import Samples

NOISE = 0.2  # width of the uniform noise on input states, as the public settings name it
TOKEN_WEIGHT = 0.1
FINAL_RATE = 0.02  # of the peak


@torch.no_grad()
def verifier_rows(loaded: LoadedModel, patches: Tensor, ids: list[int], tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Input rows and states (B, P + T + A - 1, H) of one prompt over several images, with the action's tokens read.

    ``patches`` (B, P, H); ``ids`` the prompt; ``tokens`` (B, A).
    """
    model = loaded.model
    text = torch.tensor([ids], device=model.device).expand(len(patches), -1)
    prompt = model.prompt_embeds(patches.to(model.device, model.dtype), text)
    rows = torch.cat([prompt, model.language_model.embed(tokens[:, :-1].to(model.device))], dim=1)
    positions = torch.arange(rows.shape[1], device=rows.device)
    return rows, model.language_model(rows, positions, causal_mask(len(positions), rows.device))


class EagleRecipe:
    """See :class:`.draft_loop.Recipe`. ``rows``: the answers that may be learnt from."""

    name, peak_rate, warm_up, clip = "eagle", 1e-3, 100, 0.5

    def __init__(self, samples: Samples, loaded: LoadedModel, rows: Tensor) -> None:
        self.samples, self.loaded = samples, loaded
        order = rows[torch.argsort(samples.task[rows], stable=True)]
        tasks, counts = samples.task[order].unique_consecutive(return_counts=True)
        self._by_task = dict(zip(tasks.tolist(), order.split(counts.tolist()), strict=True))

    def make(self) -> EagleHead:
        """A new head."""
        head = EagleHead(self.loaded.config.llama)
        for name, p in head.named_parameters():
            if p.dim() == 2:
                gain = 0.5 if "o_proj" in name or "down_proj" in name else 1.0
                torch.nn.init.normal_(p, std=gain * p.shape[1] ** -0.5)
        return head

    def optimizer(self, head: EagleHead) -> torch.optim.Optimizer:
        """No decay."""
        return torch.optim.AdamW(head.parameters(), betas=(0.9, 0.95), weight_decay=0.0)

    def decay(self, progress: float) -> float:
        """A straight line."""
        return max(FINAL_RATE, 1 - progress)

    def loss(self, forward: Callable[..., Tensor], rows: Tensor, generator: torch.Generator) -> Tensor:
        """Regression and cross-entropy on one prompt per step, that of the first row, so that no row is padding."""
        samples, loaded = self.samples, self.loaded
        task = int(samples.task[rows[0]])
        of_task = self._by_task[task]
        rows = of_task[torch.randint(len(of_task), (len(rows),), generator=generator)]
        tokens = samples.tokens[rows].long()
        with torch.autocast(samples.device.type, enabled=False):  # the verifier in its own precision
            embeds, states = verifier_rows(loaded, samples.patches(rows), samples.prompts[task], tokens)
        embeds, states = embeds.float(), states.float()
        noise = torch.rand(states.shape, generator=generator).to(states.device)
        noisy = states + (noise - 0.5) * NOISE
        positions = torch.arange(states.shape[1] - 1, device=states.device)
        mask = causal_mask(len(positions), states.device)
        out = forward(embeds[:, 1:], noisy[:, :-1], rope_tables(loaded.config.llama, positions, states.dtype), mask)
        wanted = states[:, 1:]
        last = slice(-(tokens.shape[1] - 1), None)  # rows whose next state predicts tokens 2..A
        action = slice(loaded.tokens.first, loaded.tokens.vocab_end)
        output = loaded.model.language_model.lm_head.weight[action].detach().float()
        regression = F.smooth_l1_loss(out[:, last].float(), wanted[:, last])
        with torch.autocast(samples.device.type, enabled=False):
            target = (wanted[:, last] @ output.T).softmax(-1)
            guess = (out[:, last].float() @ output.T).log_softmax(-1)
        return regression - TOKEN_WEIGHT * (target * guess).sum(-1).mean()
