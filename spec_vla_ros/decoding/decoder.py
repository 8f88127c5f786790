"""How the A tokens of an action come out of few passes of the language model.

The whole of speculative decoding is :func:`decode_speculative`; :func:`decode_autoregressive` is what it must equal
at radius 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spec_vla_ros.errors import NonActionTokenError
from spec_vla_ros.openvla.action_tokens import ActionTokens
from spec_vla_ros.policy_types import DecodeReport, DecodeSettings

from .drafters import DraftContext, Drafter
from .verifier import Verifier


@dataclass(frozen=True)
class Decoded:
    """``tokens``: the A action tokens. ``first_pass_end``, ``end``: ``time.perf_counter()`` after the passes."""

    tokens: tuple[int, ...]
    report: DecodeReport
    first_pass_end: float
    end: float


def decode_autoregressive(verifier: Verifier, prompt: Tensor, action_dim: int, settings: DecodeSettings) -> Decoded:
    """Greedy decoding of ``prompt`` (1, P, hidden): one pass over the prompt, then ``action_dim`` - 1 single rows.

    Raises :class:`NonActionTokenError`, :class:`NonFiniteError`.
    """
    passes, emitted, rows, start = [], [], prompt, 0
    while len(emitted) < action_dim:
        passes.append(verifier.run(rows, start))
        emitted.append(_action(passes[-1].greedy[0], len(emitted), verifier.tokens))
        rows, start = _row(verifier, emitted[-1]), prompt.shape[1] + len(emitted) - 1
    report = DecodeReport(
        decoder="autoregressive",
        verifier_passes=len(passes),
        accepted_per_pass=(0,) * len(passes),
        drafted_per_pass=(0,) * len(passes),
        drafter_per_pass=("",) * len(passes),
        token_source=("verifier",) * action_dim,
        max_accepted_distance=0,
        acceptance_radius=(0,) * action_dim,
        draft_depth=0,
        emit=settings.emit,
    )
    return Decoded(tuple(emitted), report, passes[0].finished, passes[-1].finished)


def decode_speculative(
    verifier: Verifier,
    prompt: Tensor,
    action_dim: int,
    drafters: Sequence[Drafter],
    settings: DecodeSettings,
    history: Sequence[Sequence[int]] = (),
) -> Decoded:
    """Decode ``prompt`` (1, P, hidden), checking drafted tokens already in the pass over the prompt.

    Each pass carries the rows that are settled (first the prompt, later the last emitted token) and the draft for
    the dimensions after them. The leading drafted tokens within the radius of the verifier's argmax stand; the
    argmax after them is emitted as well, so every pass settles at least one token and the last dimension is never
    drafted. The prompt plus ``action_dim`` - 1 drafted rows can therefore settle the whole action in one pass.

    ``emit="draft"`` emits the accepted tokens themselves (Spec-VLA, arXiv 2507.22424). ``emit="verifier"`` emits
    the verifier's argmax in their place: the draft then only conditions the later dimensions. In both cases the
    cache keeps the rows of the *accepted draft*, because the later tokens were computed from them; every emitted
    token is thus the verifier's greedy choice (or, with "draft", within the radius of it) after a prefix that lies
    within the radius. At radius 0 accepted and greedy tokens are the same, and so is the outcome of
    :func:`decode_autoregressive`, whatever the drafters, depth and emission.

    ``drafters`` in the order in which they are asked; ``history``: tokens of earlier actions, newest last.
    Raises :class:`NonActionTokenError`, :class:`NonFiniteError`.
    """
    tokens, radii = verifier.tokens, settings.radii(action_dim)
    passes, drafts, names, emitted, sources, distance = [], [], [], [], [], 0
    rows, start, rejected = prompt, 0, ()
    while len(emitted) < action_dim:
        first = len(emitted)
        count = min(settings.draft_depth, action_dim - 1 - first)
        name, draft = _draft(drafters, DraftContext(first, count, tokens, history, rejected))
        verdict = verifier.run(rows, start, draft, radii[first : first + len(draft)])

        greedy, accepted = verdict.greedy, verdict.accepted
        kept = draft[:accepted] if settings.emit == "draft" else greedy[:accepted]
        emitted += [*kept, _action(greedy[accepted], first + accepted, tokens)]
        sources += [name] * accepted + ["verifier"]
        rejected = greedy[accepted + 1 :]
        rows, start = _row(verifier, emitted[-1]), prompt.shape[1] + len(emitted) - 1

        if accepted:
            gap = abs(tokens.to_bins(draft[:accepted]) - tokens.to_bins(greedy[:accepted]))
            distance = max(distance, int(gap.max()))
        passes.append(verdict)
        drafts.append(len(draft))
        names.append(name)
    report = DecodeReport(
        decoder="speculative",
        verifier_passes=len(passes),
        accepted_per_pass=tuple(verdict.accepted for verdict in passes),
        drafted_per_pass=tuple(drafts),
        drafter_per_pass=tuple(names),
        token_source=tuple(sources),
        max_accepted_distance=distance,
        acceptance_radius=radii,
        draft_depth=settings.draft_depth,
        emit=settings.emit,
    )
    return Decoded(tuple(emitted), report, passes[0].finished, passes[-1].finished)


def _draft(drafters: Sequence[Drafter], context: DraftContext) -> tuple[str, list[int]]:
    """Name and tokens of the first drafter that has a guess, cut before anything that is not an action token."""
    if context.count > 0:
        for drafter in drafters:
            draft = []
            for token in list(drafter.propose(context))[: context.count]:
                if not context.tokens.is_action(token):
                    break
                draft.append(int(token))
            if draft:
                return drafter.name, draft
    return "", []


def _action(token: int, dimension: int, tokens: ActionTokens) -> int:
    if not tokens.is_action(token):
        raise NonActionTokenError(
            f"dimension {dimension}: the model chose token {token}, outside the action range "
            f"{tokens.first}..{tokens.vocab_end - 1}"
        )
    return token


@torch.inference_mode()
def _row(verifier: Verifier, token: int) -> Tensor:
    """Input row (1, 1, hidden) of a token."""
    model = verifier.model
    return model.language_model.embed(torch.tensor([[token]], device=model.device))
