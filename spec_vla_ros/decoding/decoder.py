"""How the A tokens of an action come out of few passes of the language model.

The whole of speculative decoding is :func:`decode_speculative`; :func:`decode_autoregressive` is what it must equal
at radius 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from spec_vla_ros.errors import NonActionTokenError
from spec_vla_ros.openvla.action_tokens import ActionTokens
from spec_vla_ros.policy_types import DecodeReport, DecodeSettings
from spec_vla_ros.tolerance import Tolerance

from .acceptance import UNLIMITED, bin_distance
from .deferred import Deferred
from .drafters import DraftContext, Drafter, Observation, Refine, SecondLook, branches_of
from .drafters.habits import Habits
from .planner import Planner
from .tree import ROOT, DraftTree
from .verifier import TREE_ROWS, Verdict, Verifier


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
    passes, emitted, settled, start = [], [], prompt, 0
    while len(emitted) < action_dim:
        passes.append(verifier.run(settled, start))
        emitted.append(_action(passes[-1].greedy[0], len(emitted), verifier.tokens))
        settled, start = emitted[-1], prompt.shape[1] + len(emitted) - 1
    report = DecodeReport(
        decoder="autoregressive",
        verifier_passes=len(passes),
        accepted_per_pass=(0,) * len(passes),
        drafted_per_pass=(0,) * len(passes),
        drafter_per_pass=("",) * len(passes),
        rows_per_pass=tuple(verdict.rows for verdict in passes),
        token_source=("verifier",) * action_dim,
        max_accepted_distance=0,
        tolerance=Tolerance.exact(action_dim),
        draft_depth=0,
        emit=settings.emit,
    )
    return Decoded(tuple(emitted), report, passes[0].finished, passes[-1].finished)


def decode_speculative(
    verifier: Verifier,
    prompt: Tensor,
    tolerance: Tolerance,
    drafters: Sequence[Drafter],
    settings: DecodeSettings,
    history: Sequence[Sequence[int]] = (),
    observation: Observation | None = None,
    planner: Planner | None = None,
    habits: Habits | None = None,
) -> Decoded:
    """Decode ``prompt`` (1, P, hidden), checking drafted tokens already in the pass over the prompt.

    Each pass carries the rows that are settled (first the prompt, later the last emitted token) and a tree of drafts
    for the dimensions after them. The best branch whose tokens lie within ``tolerance`` of the verifier's argmax stands
    (:mod:`.acceptance`); the argmax after it is emitted as well, so every pass settles at least one token and the
    last dimension is never drafted. The prompt plus a branch of A - 1 drafted rows can therefore settle the whole
    action in one pass.

    ``emit="draft"`` emits the accepted tokens themselves (Spec-VLA, arXiv 2507.22424). ``emit="verifier"`` emits
    the verifier's argmax in their place: the draft then only conditions the later dimensions. In both cases the
    cache keeps the rows of the *accepted draft*, because the later tokens were computed from them; every emitted
    token is thus the verifier's greedy choice (or, with "draft", within the radius of it) after a prefix that lies
    within the radius. At radius 0 accepted and greedy tokens are the same, and so is the outcome of
    :func:`decode_autoregressive`, whatever the drafters, depth, width and emission.

    A prefix that is only nearly the model's own can tip a choice between two motions that it likes equally well. With
    ``settings.second_look`` an action in which some choice was that close is verified once more, with its own tokens
    as the draft: what comes out is conditioned on a prefix that is far nearer to the greedy one.

    ``drafters`` in the order in which their branches enter the tree; ``history``: tokens of earlier actions, newest
    last; ``observation``: what drafters that look at the image need; ``planner``: chooses the branches where
    ``settings.draft_width`` is 0; without one all that drafters give are verified, as far as there are rows.
    ``habits``: that were told of ``history``.
    Where the model, after a prefix of drafts that is only nearly its own, chooses a word, the action is decoded once
    more without any tolerance.

    Raises :class:`NonFiniteError`, and :class:`NonActionTokenError` where the model's choice after a prefix of its own
    choices is no action, as :func:`decode_autoregressive` does; nothing else that it says, and nothing that drafters
    propose, raises.
    """
    tokens, radii, costs, action_dim = verifier.tokens, tolerance.bins, tolerance.costs, tolerance.action_dim
    limit = budget = UNLIMITED if tolerance.budget is None else tolerance.budget
    passes, drafted, names, emitted, sources, distance, margins, looked = [], [], [], [], [], 0, [], False
    settled, start, rejected, kept, said = prompt, 0, (), [], []
    planner = planner if settings.draft_width == 0 else None
    if planner is not None:
        planner.begin(tolerance, settings.draft_depth)
    for drafter in drafters:
        drafter.begin(observation)
    while len(emitted) < action_dim:
        first = len(emitted)
        count = min(settings.draft_depth, action_dim - 1 - first)
        defers = verifier.defers and _fit_apart(drafters, settings, planner, first, count)
        context = DraftContext(
            first, count, settings.draft_width or TREE_ROWS, radii, tokens, history, tuple(emitted), rejected,
            passes[-1] if passes else None, tuple(kept), habits,
            Deferred(shapes=planner is None) if defers else None,
        )  # fmt: skip
        history = context.history  # which need not be looked through again
        tree = _grow(drafters, context, planner, not looked, settings.draft_width > 0)
        wanted = slice(first, first + count)
        verdict = verifier.run(settled, start, tree, radii[wanted], budget, costs[wanted])
        passes.append(verdict)
        drafted.append(len(tree))
        tree, _ = tree.known
        names.append("+".join(tree.drafters))
        if planner is not None and not looked:
            planner.passed(first + len(verdict.path) + 1)

        for node, before in zip(verdict.path, [ROOT, *verdict.path], strict=False):
            choice = verdict.after(before)
            margins.append(verdict.margins[before + 1])
            emitted.append(tree.tokens[node] if settings.emit == "draft" else choice)
            sources.append(tree.names[node])
            kept.append(tree.tokens[node])
            said.append(choice)
            gap = bin_distance(tree.tokens[node], choice, tokens)
            distance, budget = max(distance, gap), budget - gap * costs[len(emitted) - 1]
        last = verdict.path[-1] if verdict.path else ROOT
        choice = verdict.after(last)
        if kept != said and not tokens.is_action(choice):
            # A prefix that is only nearly the model's own has led it to a word. What plain decoding would say is found
            # without any tolerance, from the first token on, which follows the prompt alone.
            looked, drafters, radii, limit = True, (Refine(), SecondLook(said)), (0,) * action_dim, UNLIMITED
            emitted, sources, kept, rejected = said[:1], ["verifier"], said[:1], ()
            settled, start, budget, said = said[0], prompt.shape[1], limit, said[:1]
            continue
        emitted.append(_action(choice, len(emitted), tokens))
        sources.append("verifier")
        margins.append(verdict.margins[last + 1])
        kept.append(emitted[-1])
        said.append(emitted[-1])
        rejected = _second_thoughts(tree, verdict, last, tokens)
        settled, start = emitted[-1], prompt.shape[1] + len(emitted) - 1
        doubtful = distance > 0 and settings.emit == "verifier" and min(margins[1:], default=0.0) < settings.second_look
        if len(emitted) == action_dim and doubtful and not looked:
            looked, drafters = True, (Refine(), SecondLook(emitted))
            emitted, sources, kept, rejected = emitted[:1], ["verifier"], emitted[:1], ()
            said = said[:1]
            settled, start, budget = emitted[0], prompt.shape[1], limit  # distance goes on: the report is of all passes
    if planner is not None:
        planner.end(emitted, tokens)
    report = DecodeReport(
        decoder="speculative",
        verifier_passes=len(passes),
        accepted_per_pass=tuple(len(verdict.path) for verdict in passes),
        drafted_per_pass=tuple(drafted),
        drafter_per_pass=tuple(names),
        rows_per_pass=tuple(verdict.rows for verdict in passes),
        token_source=tuple(sources),
        max_accepted_distance=distance,
        tolerance=tolerance,
        draft_depth=settings.draft_depth,
        draft_width=settings.draft_width,
        emit=settings.emit,
    )
    return Decoded(tuple(emitted), report, passes[0].finished, passes[-1].finished)


def _grow(
    drafters: Sequence[Drafter], context: DraftContext, planner: Planner | None, learn: bool, fixed: bool
) -> DraftTree:
    """The branches of the drafters in one tree.

    ``fixed``: the operator has chosen the width.
    """
    if context.count < 1:
        return DraftTree()
    if planner is not None:
        planned, more, room = planner.chains(drafters, context, learn)
        tree = DraftTree.of(planned, TREE_ROWS, True, context.deferred)
        return DraftTree.of([*planned, *more], room, True, context.deferred) if more and len(tree) < room else tree
    proposed = [
        (drafter.name, branch)
        for drafter in drafters
        for branch in branches_of(drafter, context if fixed else context.with_width(drafter.widest))
    ]
    return DraftTree.of(proposed, TREE_ROWS, deferred=context.deferred)


def _fit_apart(
    drafters: Sequence[Drafter], settings: DecodeSettings, planner: Planner | None, first: int, count: int
) -> bool:
    """Whether all branches fit into a pass although those with deferred ids share no beginnings. Where they do not, ids
    have to be known, so that as many branches are verified as can be.
    """
    if planner is not None:  # which counts rows itself
        return True
    asked = [drafter for drafter in drafters if not (drafter.opening_only if first else drafter.from_verifier)]
    return sum(drafter.most_rows(settings.draft_width or drafter.widest, count) for drafter in asked) <= TREE_ROWS


def _second_thoughts(tree: DraftTree, verdict: Verdict, last: int, tokens: ActionTokens) -> tuple[int, ...]:
    """What the verifier said on the rows of the nearest branch that it rejected: choices for the dimensions after
    the emitted ones, conditioned on a prefix that was not kept. Where the tree had no rows left for what follows the
    accepted node, what follows the node beside it is as good a beginning.
    """
    choice, said = verdict.after(last), []
    nodes = tree.children(last)
    if last != ROOT and not nodes:
        beside = sorted(tree.children(tree.parents[last]), key=lambda n: abs(tree.tokens[n] - tree.tokens[last]))
        nodes = next((found for node in beside if (found := tree.children(node))), [])
    while nodes:
        node = nodes[0] if said else min(nodes, key=lambda n: abs(tree.tokens[n] - choice))
        said.append(verdict.after(node))
        nodes = tree.children(node)
    return tuple(said)


def _action(token: int, dimension: int, tokens: ActionTokens) -> int:
    if not tokens.is_action(token):
        raise NonActionTokenError(
            f"dimension {dimension}: the model chose token {token}, outside the action range "
            f"{tokens.first}..{tokens.vocab_end - 1}"
        )
    return token
