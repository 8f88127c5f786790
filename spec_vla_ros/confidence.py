"""Confidence intervals of measured rates."""

from __future__ import annotations

from statistics import NormalDist


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
