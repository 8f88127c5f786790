"""Figures made of measurements: medians, histograms, and the confidence intervals of rates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a rate, 0..1; (0, 1) without trials.

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference (1927). Unlike the normal
    approximation it stays meaningful where every trial succeeds.
    """
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / trials
    centre = (rate + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * (rate * (1 - rate) / trials + z**2 / (4 * trials**2)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def histogram(values: Sequence[int]) -> dict[str, int]:
    """How often each value occurs; keys are text because JSON wants it, in numerical order."""
    return {str(value): count for value, count in sorted(Counter(values).items())}


def median_p99(values: Sequence[float]) -> dict[str, float | None]:
    """Median and 99th percentile, None without values."""
    if len(values) == 0:
        return {"median": None, "p99": None}
    median, p99 = np.percentile(values, [50, 99])
    return {"median": round(float(median), 3), "p99": round(float(p99), 3)}
