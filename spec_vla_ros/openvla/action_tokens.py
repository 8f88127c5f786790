"""Action tokens: ids <-> bins <-> normalised values <-> metres and radians.

The last ``n_bins`` ids below the padding are the action tokens. A higher id is a smaller action: with V = 32000 and
256 bins, -1 -> 31999, 0 -> 31872, +1 -> 31744. There are 255 bin centres, so the two lowest ids decode alike; "bin"
below is the index of the centre, 0 (-0.996) ... 254 (+0.996). OpenVLA, arXiv 2406.09246, section 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from spec_vla_ros.errors import NonActionTokenError, NonFiniteError, StatisticsError


@dataclass(frozen=True)
class ActionTokens:
    """``vocab_end``: one past the highest action id; ``n_bins``: number of action ids."""

    vocab_end: int = 32000
    n_bins: int = 256

    @property
    def first(self) -> int:
        """Lowest action id (the largest action)."""
        return self.vocab_end - self.n_bins

    @property
    def bins(self) -> int:
        """Number of distinct decoded values."""
        return self.n_bins - 1

    @property
    def centres(self) -> np.ndarray:
        """(bins,) normalised value of each bin."""
        edges = np.linspace(-1, 1, self.n_bins)
        return (edges[:-1] + edges[1:]) / 2

    def is_action(self, token: int) -> bool:
        """Whether ``token`` is one of the action ids."""
        return self.first <= token < self.vocab_end

    def encode(self, normalised: ArrayLike) -> np.ndarray:
        """Ids of normalised values (clipped to -1..1), any shape. Raises :class:`NonFiniteError`."""
        normalised = np.asarray(normalised, dtype=np.float64)
        if not np.isfinite(normalised).all():
            raise NonFiniteError("cannot encode a non-finite action")
        edges = np.linspace(-1, 1, self.n_bins)
        return self.vocab_end - np.digitize(np.clip(normalised, -1, 1), edges)

    def to_bins(self, ids: ArrayLike) -> np.ndarray:
        """Decoded bin of each id, int64. Raises :class:`NonActionTokenError` for any other id, nothing is clipped."""
        ids = np.asarray(ids, dtype=np.int64)
        if bad := [int(token) for token in ids.ravel() if not self.is_action(token)]:
            raise NonActionTokenError(f"tokens {bad} are outside the action range {self.first}..{self.vocab_end - 1}")
        return np.minimum(self.vocab_end - 1 - ids, self.bins - 1)

    def to_ids(self, bins: ArrayLike) -> np.ndarray:
        """Id of each bin 0..bins-1 (the higher one where two ids share the bin)."""
        return self.vocab_end - 1 - np.asarray(bins, dtype=np.int64)

    def decode(self, ids: ArrayLike) -> np.ndarray:
        """Normalised value of each id. Raises :class:`NonActionTokenError`."""
        return self.centres[self.to_bins(ids)]


@dataclass(frozen=True)
class ActionStatistics:
    """How one data set normalised its actions. ``q01``, ``q99`` (A,) in action units; ``mask`` (A,): normalised."""

    key: str
    q01: np.ndarray
    q99: np.ndarray
    mask: np.ndarray

    @property
    def action_dim(self) -> int:
        """A: number of dimensions, hence of action tokens."""
        return len(self.q01)

    def unnormalise(self, normalised: np.ndarray) -> np.ndarray:
        """(..., A) in -1..1 -> action units; dimensions outside the mask (the gripper) pass unchanged."""
        return np.where(self.mask, 0.5 * (normalised + 1) * (self.q99 - self.q01) + self.q01, normalised)

    def normalise(self, values: np.ndarray) -> np.ndarray:
        """(..., A) action units -> -1..1 as the training data were normalised; constant dimensions become 0."""
        scaled = np.clip(2 * (values - self.q01) / (self.q99 - self.q01 + 1e-8) - 1, -1, 1)
        return np.where(self.mask, np.where(self.q99 == self.q01, 0.0, scaled), values)

    def bin_width(self, n_bins: int = 256) -> np.ndarray:
        """(A,) distance of neighbouring bins in action units (m, rad; 2/255 where nothing is normalised)."""
        return np.where(self.mask, self.q99 - self.q01, 2.0) / (n_bins - 1)


def choose_statistics(statistics: Mapping[str, Any], key: str | None) -> ActionStatistics:
    """The statistics of ``key``, validated.

    Without a key the only entry is taken; several entries need a key, because a wrong one scales every motion.
    "k_no_noops" stands in for "k" (LIBERO). Raises :class:`StatisticsError`, which lists the keys.
    """
    available = f"this checkpoint has: {', '.join(sorted(statistics)) or 'none'}"
    if key is None:
        if len(statistics) != 1:
            raise StatisticsError(f"unnorm_key must be set; {available}")
        key = next(iter(statistics))
    if key not in statistics:
        if f"{key}_no_noops" not in statistics:
            raise StatisticsError(f"unnorm_key {key!r} not found; {available}")
        key = f"{key}_no_noops"
    try:
        action = statistics[key]["action"]
        q01, q99 = (np.asarray(action[name], dtype=np.float64) for name in ("q01", "q99"))
        mask = np.ones(len(q01), dtype=bool) if action.get("mask") is None else np.asarray(action["mask"], dtype=bool)
    except (KeyError, TypeError, ValueError) as error:
        raise StatisticsError(f"statistics {key!r} are unreadable: {error!r}") from error
    if q01.ndim != 1 or len(q01) == 0 or not q01.shape == q99.shape == mask.shape:
        raise StatisticsError(f"statistics {key!r}: q01, q99 and mask differ in length or are empty")
    if not (np.isfinite(q01).all() and np.isfinite(q99).all() and (q99 >= q01).all()):
        raise StatisticsError(f"statistics {key!r}: q01 and q99 must be finite, with q99 >= q01")
    return ActionStatistics(key, q01, q99, mask)
