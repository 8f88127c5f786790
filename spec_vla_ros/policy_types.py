"""What crosses the border between a policy and whoever executes its actions. No torch, no ROS.

A policy is anything with the two methods of :class:`Policy`. The node, the replay tool, the benchmarks and the
simulator's closed loop all speak to that protocol only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from .tolerance import Tolerance

Emit = Literal["verifier", "draft"]
Decoder = Literal["autoregressive", "speculative"]


@dataclass(frozen=True)
class DecodeSettings:
    """Everything about decoding that may change while running; read once per inference.

    The defaults here are those of the node, the tools and the measurements, which read them from this class; only a
    preset they choose for themselves.

    ``preset``: a name of :mod:`.decoding.presets`, which then decides decoder, drafters, width and emission.
    ``drafters``: by name, in the order of their branches.
    ``acceptance_radius``: bins; a draft token is accepted within this distance of the verifier's argmax. The last
    dimension, the gripper, is never drafted: its token is always the verifier's own.
    ``radius_mm``, ``radius_mrad``: optional, bound the distance further by what it means for the arm: mm of one step in
    x, y and z, mrad in roll, pitch and yaw, rounded down to whole bins of the checkpoint's statistics.
    ``radius_per_dimension``: optional A values in bins, bound it further; the last one is 0.
    ``draft_depth``: at most this many drafted tokens per pass (0 = none, A - 1 = all).
    ``draft_width``: at most this many branches of each drafter per pass; 0 = automatic: of the drafters named those are
    asked, and so many of their branches verified, that the action is expected to take the least time on this device.
    ``radius_sum``: optional, bins that the distances of all accepted tokens of an action may add up to. Dimensions of
    zero width, where every bin is the same command, do not count.
    ``second_look``: nats; after relaxed acceptance the action is verified once more, from the second dimension on and
    with its own tokens as the draft, if any choice of the model was less sure than this (0 = never). Takes effect with
    ``emit="verifier"``.
    ``emit``: at accepted positions emit the verifier's argmax (default) or the draft's token (the paper's rule).
    """

    preset: str = "custom"
    decoder: Decoder = "speculative"
    drafters: tuple[str, ...] = ("hold", "refine")
    acceptance_radius: int = 9
    draft_depth: int = 6
    draft_width: int = 0
    radius_sum: int | None = None
    second_look: float = 0.5
    emit: Emit = "verifier"
    radius_per_dimension: tuple[int, ...] | None = None
    radius_mm: float | None = None
    radius_mrad: float | None = None

    def tolerance(self, bin_width: Sequence[float]) -> Tolerance:
        """What all bounds come to where bins have ``bin_width`` (A,) m, rad, gripper units; or ``ValueError``."""
        return Tolerance.within(
            bin_width, self.acceptance_radius, self.radius_mm, self.radius_mrad, self.radius_per_dimension,
            self.radius_sum,
        )  # fmt: skip


@dataclass(frozen=True)
class DecodeReport:
    """What one action cost.

    ``verifier_passes``: forward passes of the language model, the prefill included (autoregressive: A). What is said
    per pass is said of all of them: where an action was looked at twice, the drafter "second_look" marks the beginning.
    ``drafted_per_pass``: drafted rows of each pass. ``accepted_per_pass``: how many of them stood in that pass; those
    of a first look may have fallen in the second.
    ``rows_per_pass``: rows that each pass computed, those that only fill it up to a size included.
    ``drafters``: those that were asked. ``drafter_per_pass``: those whose rows each pass verified, joined by "+" (""
    = nothing was drafted).
    ``token_source``: for each of the A tokens "verifier" (bonus or plain decoding) or the accepted drafter's name.
    ``max_accepted_distance``: bins between an accepted draft token and the verifier's argmax, maximum over all passes,
    so those of a first look count although the second has judged anew. ``tolerance``: what was accepted.
    Times in milliseconds: image preprocessing, vision towers + projector, first pass, remaining passes, total.
    """

    decoder: Decoder
    verifier_passes: int
    accepted_per_pass: tuple[int, ...]
    drafted_per_pass: tuple[int, ...]
    drafter_per_pass: tuple[str, ...]
    token_source: tuple[str, ...]
    max_accepted_distance: int
    tolerance: Tolerance
    draft_depth: int
    emit: Emit
    draft_width: int = 0
    drafters: tuple[str, ...] = ()
    rows_per_pass: tuple[int, ...] = field(default=(), compare=False)  # as times, of how and not of what
    preprocess_ms: float = 0.0
    vision_ms: float = 0.0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0
    total_ms: float = 0.0

    @property
    def accepted_tokens(self) -> int:
        """Tokens of the action where a draft stood in the end; each counts once, however often it was looked at."""
        return sum(source != "verifier" for source in self.token_source)


@dataclass(frozen=True)
class PolicyResult:
    """One action.

    ``values``: (A,) float64, un-normalised: metres, radians, gripper (1 = open, 0 = closed), per ``step_dt``.
    ``tokens``: (A,) int64 token ids. ``bins``: (A,) int64 decoded bin index, 0 = -1 ... 254 = +1.
    ``prompt``: what the model read, in words; empty where nothing reads. ``picture``: how the image became what it saw,
    likewise.
    """

    values: np.ndarray
    tokens: np.ndarray
    bins: np.ndarray
    report: DecodeReport
    prompt: str = ""
    picture: str = ""


@runtime_checkable
class Policy(Protocol):
    """Observation and instruction in, action out. One thread calls it; it is not re-entrant."""

    action_dim: int

    def infer(self, image: np.ndarray, instruction: str, settings: DecodeSettings) -> PolicyResult:
        """Return the next action for ``image`` (H, W, 3) uint8 RGB.

        Raises a :class:`spec_vla_ros.errors.SpecVlaError`; never returns a partial or non-finite action.
        """

    def reset(self) -> None:
        """Forget the action history (new episode, new instruction, re-activation)."""

    def describe(self) -> dict[str, str]:
        """Model id, statistics key, device, dtype and so on, for logs and diagnostics."""
