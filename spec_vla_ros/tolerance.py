"""How far drafted tokens may be off the model's own choices, as one value that everybody reads alike.

A user bounds the distance in bins, in mm and mrad per step, per dimension, or of an action in all; every bound that
is given holds. What they come to for the statistics of one checkpoint is worked out here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

TRANSLATIONS, ROTATIONS = 3, 3  # x y z roll pitch yaw, then the gripper
NO_GRIPPER_RADIUS = (
    "is no longer there and never had an effect: the gripper's token is never drafted, it is always the model's own; "
    "delete it"
)


@dataclass(frozen=True)
class Tolerance:
    """What one action may be off.

    ``bins``: (A,) distance from the verifier's choice within which a drafted token of each dimension is accepted. The
    last dimension is never drafted and has 0. ``costs``: (A,) what a bin takes from the budget: 1, or 0 in a dimension
    of zero width, where every bin is the same command. Such a dimension has ``bins`` all the same, because later tokens
    are conditioned on it. ``budget``: bins that the distances of an action may add up to, None = no limit.

    Raises ``ValueError`` for what is no tolerance.
    """

    bins: tuple[int, ...]
    costs: tuple[int, ...]
    budget: int | None = None

    def __post_init__(self) -> None:
        """Check every value."""
        if not self.bins or len(self.bins) != len(self.costs):
            raise ValueError(f"a tolerance of {len(self.bins)} dimensions has {len(self.costs)} costs")
        for name, values in (("tolerance", self.bins), ("budget", () if self.budget is None else (self.budget,))):
            if wrong := [value for value in values if not isinstance(value, int | np.integer) or value < 0]:
                raise ValueError(f"a {name} is a whole number of bins from 0, got {wrong[0]!r}")
        if self.bins[-1]:
            raise ValueError(f"the last dimension is never drafted: its tolerance is 0, got {self.bins[-1]}")

    @classmethod
    def within(
        cls,
        bin_width: Sequence[float],
        acceptance_radius: int,
        radius_mm: float | None = None,
        radius_mrad: float | None = None,
        radius_per_dimension: Sequence[int] | None = None,
        radius_sum: int | None = None,
    ) -> Tolerance:
        """The tightest of all bounds in each dimension, in whole bins.

        ``bin_width``: (A,) m, rad and gripper units of one bin. ``acceptance_radius``: bins, of all dimensions.
        ``radius_mm``: mm, of x y z. ``radius_mrad``: mrad, of roll pitch yaw. ``radius_per_dimension``: (A,) bins, with
        0 for the last one. ``radius_sum``: bins, of an action in all. None: no such bound. In a dimension of zero width
        every distance is 0 mm or mrad, so these do not bound it.

        Raises ``ValueError``, also where the dimensions do not fit.
        """
        for name, value in (("radius_mm", radius_mm), ("radius_mrad", radius_mrad)):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be finite and not negative, got {value}")
        dims = len(bin_width)
        own = [acceptance_radius] * (dims - 1) + [0] if radius_per_dimension is None else list(radius_per_dimension)
        if len(own) != dims:
            raise ValueError(f"radius_per_dimension has {len(own)} values, the action has {dims}")
        metric = ([radius_mm] * TRANSLATIONS + [radius_mrad] * ROTATIONS + [None] * dims)[:dims]
        bins = [
            min(most, _whole(limit, width, acceptance_radius))
            for most, limit, width in zip(own[:-1], metric, bin_width, strict=False)
        ]
        return cls.of_bins([*bins, own[-1]], bin_width, radius_sum)

    @classmethod
    def of_bins(cls, bins: Sequence[int], bin_width: Sequence[float], budget: int | None = None) -> Tolerance:
        """``bins`` (A,) as they are, in statistics of ``bin_width`` (A,)."""
        return cls(tuple(bins), tuple(int(width > 0) for width in bin_width), budget)

    @classmethod
    def exact(cls, action_dim: int) -> Tolerance:
        """No draft may be off."""
        return cls((0,) * action_dim, (1,) * action_dim)

    @property
    def action_dim(self) -> int:
        """A: number of dimensions."""
        return len(self.bins)

    def in_units(self, bin_width: Sequence[float]) -> tuple[float, ...]:
        """(A,) m, rad and gripper units that ``bins`` are in statistics of ``bin_width`` (A,)."""
        return tuple(float(bins * width) for bins, width in zip(self.bins, bin_width, strict=True))

    def beyond(self, distances: ArrayLike) -> np.ndarray:
        """(..., A) whether ``distances`` (..., A), bins, make commands that are further apart than is tolerated."""
        return (np.asarray(distances) > self.bins) & (np.array(self.costs) > 0)

    def spent(self, distances: ArrayLike) -> np.ndarray:
        """(...,) bins that ``distances`` (..., A), bins, take from the budget."""
        return np.asarray(distances) @ np.array(self.costs)

    def over_budget(self, distances: ArrayLike) -> np.ndarray:
        """(...,) whether ``distances`` (..., A), bins, take more than there is."""
        return self.spent(distances) > (math.inf if self.budget is None else self.budget)


def _whole(limit: float | None, width: float, most: int) -> int:
    """Bins of ``width`` (m or rad) within ``limit`` (mm or mrad), at most ``most``."""
    if limit is None or width <= 0:
        return most
    return int(min(most, math.floor(min(limit / 1000 / width, 1e9) + 1e-9)))  # 0.3 mm are three bins of 0.1 mm
