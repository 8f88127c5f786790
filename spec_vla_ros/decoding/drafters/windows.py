"""Acceptance windows laid side by side."""

from __future__ import annotations

from .base import DraftContext


def spaced(token: int, dimension: int, context: DraftContext) -> list[int]:
    """Ids of ``dimension`` from ``token`` outwards, as far apart that their acceptance windows touch.

    Whatever the verifier says, one of them is within the radius, as far as they reach.
    """
    step = 2 * context.radii[dimension] + 1
    centre = int(context.tokens.to_bins(token))
    bins = sorted(range(centre % step, context.tokens.bins, step), key=lambda place: abs(place - centre))
    return context.tokens.to_ids(bins).tolist()
