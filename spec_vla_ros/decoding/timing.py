"""Measures :class:`.costs.PassCosts`: passes of a few sizes, and what drafters take to answer."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import spec_vla_ros
from spec_vla_ros.openvla.action_tokens import ActionTokens
from spec_vla_ros.openvla.loader import LoadedModel

from .costs import LONGEST, ROWS, PassCosts
from .drafters import TRAINING_FREE, DraftContext, Drafter, Observation
from .drafters.habits import CAPACITY, LOOK_BACK, Habits
from .fixed_shapes import TREE_SIZES
from .verifier import Verifier

ROUNDS = 2  # through all sizes: what disturbs one moment shall not make one size look dear
TIMED = 6  # answers of a drafter of which the least counts; the first one builds what is missing
RAMP = 8  # actions that drafters may look back on while they are timed
RADIUS = 9  # bins; the usual one
ALIKE, LITTLE = 1.5, 0.01  # times; and of the pass over the prompt, which decides nothing
SLOW = 0.5  # s


def about(loaded: LoadedModel, verifier: Verifier, trained: Mapping[str, Drafter], prompt_rows: int) -> dict[str, Any]:
    """What the times depend on: model, device, precision, software, and heads. Of the prompt its rounded length."""
    device = loaded.model.device
    cuda = device.type == "cuda"
    return {
        "model": hashlib.sha256(repr(loaded.config).encode()).hexdigest(),
        "parameters": int(loaded.model.parameter_count),
        "precision": loaded.model.arithmetic,
        "device": torch.cuda.get_device_name(device) if cuda else f"cpu, {torch.get_num_threads()} threads",
        "fixed_shapes": verifier.fixed,
        "recorded": bool(verifier.pool.records),
        "prompt_rows": prompt_rows,
        "heads": sorted(trained),
        "drafters": sorted(TRAINING_FREE),
        "torch": torch.__version__,
        "spec_vla_ros": spec_vla_ros.__version__,
    }


def measure(verifier: Verifier, drafters: Sequence[Drafter], observation: Observation, action_dim: int) -> PassCosts:
    """Time passes behind a prompt like that of ``observation``, and ``drafters``; a few seconds for OpenVLA-7B.

    What is in the verifier's cache is lost.
    """
    rows = TREE_SIZES if verifier.fixed else ROWS
    prompt_rows = observation.prompt.shape[1]
    first, later = [LONGEST] * len(rows), [LONGEST] * len(rows)
    for _ in range(ROUNDS):
        for place, count in enumerate(rows):
            first[place] = min(first[place], verifier.time_pass(count, prompt_rows=prompt_rows))
            later[place] = min(later[place], verifier.time_pass(count))
        if max(first) > SLOW:  # seconds each: nothing that disturbs it is that long
            break
    return PassCosts(
        rows=rows,
        first=tuple(first),
        later=tuple(later),
        steps=verifier.fixed,
        drafting={
            drafter.name: time_drafting(drafter, verifier.tokens, observation, action_dim) for drafter in drafters
        },
    )


def agree(
    costs: PassCosts, verifier: Verifier, drafters: Sequence[Drafter], observation: Observation, action_dim: int
) -> bool:
    """Whether a table from an earlier time has all of ``drafters``, and they and a pass take about as long as it says:
    it may have been measured while something else kept the device busy. What is in the verifier's cache is lost.
    """
    if not all(drafter.name in costs.drafting for drafter in drafters):
        return False  # whoever is missing would count as free
    last, prompt_rows = costs.rows[-1], observation.prompt.shape[1]
    then = [costs.first[0], costs.first[-1], costs.later[0], costs.later[-1]]
    now = [
        verifier.time_pass(0, prompt_rows=prompt_rows),
        verifier.time_pass(last, prompt_rows=prompt_rows),
        verifier.time_pass(0),
        verifier.time_pass(last),
    ]
    for drafter in drafters:
        then += costs.drafting[drafter.name]
        now += time_drafting(drafter, verifier.tokens, observation, action_dim)
    little = LITTLE * now[0]
    return all(a <= ALIKE * b + little and b <= ALIKE * a + little for a, b in zip(now, then, strict=True))


@dataclass(frozen=True)
class Settled:
    """As many states as the pass over the prompt leaves: its own rows, which are as good to compute with."""

    hidden: Tensor

    def among(self) -> tuple[Tensor, Sequence[int]]:
        """All of them."""
        return self.hidden, range(self.hidden.shape[1])


def time_drafting(
    drafter: Drafter, tokens: ActionTokens, observation: Observation, action_dim: int
) -> tuple[float, float]:
    """Seconds of asking for one branch and for all: of a new image, and of who builds on the verifier after a pass that
    settled one token.
    """
    first = 1 if drafter.from_verifier else 0
    # Of a motion that changes a little, so that nothing is ruled out and nothing is sure.
    middle = tokens.bins // 2
    *history, said = (tokens.to_ids([middle + 5 * step] * action_dim).tolist() for step in range(RAMP + 1))
    widths = (drafter.widest,) if drafter.one_width else (1, drafter.widest)
    times, habits = [], _usual(action_dim, tokens.bins)
    for width in widths:
        context = DraftContext(
            first=first,
            count=max(action_dim - 1 - first, 1),
            width=width,
            radii=[RADIUS] * (action_dim - 1) + [0],
            tokens=tokens,
            history=history,
            emitted=said[:first],
            rejected=said[first:-1] if first else (),
            states=Settled(observation.prompt) if first else None,
            rows=said[:first],
            habits=habits,
        )
        taken = []
        for _ in range(TIMED):
            began = time.perf_counter()
            drafter.begin(observation)
            habits.begin()
            drafter.propose(context)
            taken.append(time.perf_counter() - began)
        times.append(min(taken))
    drafter.begin(None)
    return times[0], times[-1]


def _usual(action_dim: int, bins: int) -> Habits:
    """A full memory."""
    moments = np.arange(CAPACITY * (LOOK_BACK + 1) * action_dim) % bins
    return Habits.of(moments.reshape(CAPACITY, LOOK_BACK + 1, action_dim), bins)
