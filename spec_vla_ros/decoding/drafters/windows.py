"""Acceptance windows laid side by side."""

from __future__ import annotations

from .base import DraftContext


def spaced(token: int, dimension: int, context: DraftContext) -> list[int]:
    """Ids of ``dimension`` from ``token`` outwards, as far apart that their acceptance windows touch.

    Whatever the verifier says, one of them is within the radius.
    """
    radius, top = context.radii[dimension], context.tokens.bins - 1
    step, centre = 2 * radius + 1, int(context.tokens.to_bins(token))
    bins = list(range(centre % step, top + 1, step))
    # The outermost windows may end before the range does, and full motions lie at its ends.
    bins += [0] * (bins[0] > radius) + [top] * (top - bins[-1] > radius)
    return context.tokens.to_ids(sorted(bins, key=lambda place: abs(place - centre))).tolist()
