"""Bins as the ids that the model would say, and acceptance windows laid side by side."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .base import DraftContext


def ids_of(bins: ArrayLike, first: int, context: DraftContext) -> np.ndarray:
    """Ids of ``bins`` (D, ...), whose rows are the dimensions from ``first`` on.

    Two ids share the topmost bin, and only one of them is what the model says and what its later tokens expect to
    stand before them: the one that it said last in that dimension of this episode, or that saturated data have.
    """
    ids = context.tokens.to_ids(bins)
    topmost = ids == context.tokens.first + 1  # which is how the bin is converted, whatever is said of it
    for row in np.flatnonzero(topmost.reshape(len(ids), -1).any(1)):
        ids[row : row + 1][topmost[row : row + 1]] = topmost_id(first + int(row), context)
    return ids


def spaced(token: int, dimension: int, context: DraftContext) -> list[int]:
    """Ids of ``dimension`` from ``token`` outwards, as far apart that their acceptance windows touch.

    Whatever the verifier says, one of them is within the radius.
    """
    radius, top = context.radii[dimension], context.tokens.bins - 1
    step, centre = 2 * radius + 1, int(context.tokens.to_bins(token))
    bins = list(range(centre % step, top + 1, step))
    # The outermost windows may end before the range does, and full motions lie at its ends.
    bins += [0] * (bins[0] > radius) + [top] * (top - bins[-1] > radius)
    others = sorted(bins, key=lambda place: abs(place - centre))[1:]
    return [token, *ids_of([others], dimension, context)[0].tolist()]


def topmost_id(dimension: int, context: DraftContext) -> int:
    """Of the two ids of the topmost bin the one that is said in ``dimension``."""
    lowest = context.tokens.first
    said = (int(action[dimension]) for action in reversed(context.history))
    return next((token for token in said if token <= lowest + 1), lowest)
