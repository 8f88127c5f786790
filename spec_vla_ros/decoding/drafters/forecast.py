"""Where the next tokens probably are, judged by how well simple guesses have done so far: a tree spent on that."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from .base import DraftContext, Drafter
from .habits import MEMORY, NEVER, SPREADS, Habits
from .windows import ids_of

TRUST = 0.5  # of what was seen: guesses of neighbouring actions fail together, so they are not as many as they seem
HABIT = 0.1  # of the probability, for what was said in this episode before, wherever the motion seems to go
ANYTHING = 0.02  # of the probability, for every bin alike
COMBINATIONS = 4096  # of windows that are compared
CANDIDATES = 96  # of them, the likeliest, that compete for rows
WINDOWS = 4  # of one dimension
TIE = 1e-3  # by which the likelier middle counts: windows that reach everything are all worth the same
NOTHING = 1e-6  # of the likeliest branch; what is less likely is not worth a row


class Forecast(Drafter):
    """Branches through the likeliest acceptance windows, as many as the rows of a pass hold.

    For each dimension the next bin is guessed in several ways: as before, further by the last difference or by half of
    it, the mean of the last two, no motion. Each guess counts as a Laplace distribution of several widths, with the
    weight that its success in this episode gives it (Bayes' rule with forgetting), and so do the guesses of
    :class:`.habits.Habits`, where there are some. A little is left for what was said before and for anything. Windows
    as wide as relaxed acceptance are laid where most probability lies, and combined over the dimensions. A branch is
    worth its probability per row that it adds to the tree.

    Of the drafters without a head the dearest: more than a millisecond of a processor, before the first pass only.
    """

    name: ClassVar[str] = "forecast"
    opening_only: ClassVar[bool] = True
    widest: ClassVar[int] = 64
    expected: ClassVar[tuple[float, float]] = (0.06, 0.3)

    def propose(self, context: DraftContext) -> Sequence[Sequence[int]]:
        """Up to ``context.width`` branches; nothing after the first pass, when the verifier itself has spoken."""
        if context.emitted:
            return []
        from spec_vla_ros.decoding.tree import TREE_ROWS  # with torch; the names of drafters are wanted without

        tokens, count = context.tokens, context.count
        history = np.array([action[:count] for action in context.history], dtype=int).reshape(-1, count)
        density = forecast(tokens.to_bins(history), tokens.bins, context.habits)
        bins, mass = windows(density, np.array(context.radii[:count]), _windows_of(count))
        ids = ids_of(bins, context.first, context).tolist()
        return [
            [of_dimension[place] for of_dimension, place in zip(ids, places, strict=True)]
            for places in branches(mass, TREE_ROWS)[: context.width]
        ]


def forecast(said: np.ndarray, bins: int, habits: Habits | None = None) -> np.ndarray:
    """(D, ``bins``) probabilities of the next bin of each dimension, after the actions ``said`` (N, D) bins, of which
    ``habits`` have been told.
    """
    still = np.full((3, said.shape[1]), (bins - 1) // 2)
    padded = np.concatenate([still, said]).astype(np.float64)
    newest, before = padded[2:], padded[1:-1]
    guesses = np.stack(
        [
            newest,
            2 * newest - before,
            1.5 * newest - 0.5 * before,
            (newest + before) / 2,
            np.full_like(newest, still[0, 0]),
        ]
    ).clip(0, bins - 1)  # [guess, N + 1, D]: of each action that was said, and of the next
    weight = np.zeros((len(guesses), len(SPREADS), said.shape[1]))
    if len(said):
        missed = np.abs(guesses[:, :-1] - said)[:, None]  # [guess, 1, N, D]
        spread = SPREADS[:, None, None]
        likely = np.log(np.exp(-missed / spread) / (2 * spread) + NEVER)
        ages = MEMORY ** np.arange(len(said) - 1, -1, -1)
        weight = TRUST * (likely * ages[:, None]).sum(2)
    weight = weight.reshape(-1, said.shape[1])
    ahead = np.rint(guesses[:, -1]).astype(int)  # [guess, D]
    columns = np.arange(bins)
    shapes = _laplace(bins)[:, bins - 1 + columns - ahead[:, :, None]]  # [spread, guess, D, bins]
    shapes /= shapes.sum(-1, keepdims=True)
    shapes = shapes.swapaxes(0, 1).reshape(-1, *shapes.shape[2:])  # [guess and spread, D, bins]
    if habits is not None:
        recalled, evidence = habits.ahead()
        shapes = np.concatenate([shapes, recalled[:, : said.shape[1]]])
        weight = np.concatenate([weight, TRUST * evidence[:, : said.shape[1]]])
    weight = np.exp(weight - weight.max(0))
    weight /= weight.sum(0)
    density = np.einsum("gd,gdb->db", weight, shapes)
    habit = HABIT * len(said) / (len(said) + 10)
    density *= 1 - ANYTHING - habit
    density += ANYTHING / bins
    for dimension in range(said.shape[1]):
        np.add.at(density[dimension], said[:, dimension], habit / max(len(said), 1))
    return density


def windows(density: np.ndarray, radii: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Middles and probabilities, both (D, ``count``), of the acceptance windows where most of ``density`` lies.

    Windows of one dimension do not overlap: what one would accept is out of the race for the next.
    """
    left, columns, rows = density.copy(), np.arange(density.shape[1]), np.arange(len(density))
    below = (columns - radii[:, None]).clip(min=0)
    above = (columns + radii[:, None] + 1).clip(max=len(columns))
    middles, masses = [], []
    for _ in range(count):
        total = np.pad(left.cumsum(1), ((0, 0), (1, 0)))
        mass = np.take_along_axis(total, above, 1) - np.take_along_axis(total, below, 1)
        best = (mass + TIE * left).argmax(1)
        middles.append(best)
        masses.append(mass[rows, best])
        left[np.abs(columns - best[:, None]) <= radii[:, None]] = 0.0
    return np.stack(middles, 1), np.stack(masses, 1)


def branches(mass: np.ndarray, rows: int) -> list[tuple[int, ...]]:
    """Which windows to combine, one of each dimension: of ``mass`` (D, W), for a tree of at most ``rows`` rows.

    Taken one by one, the one that adds most probability per row that it adds; independent dimensions are assumed.
    """
    dimensions, choices = mass.shape
    logs = np.log(mass.clip(min=1e-12))
    total = logs[0]
    for row in logs[1:]:
        total = (total[..., None] + row).reshape(-1)
    likely = np.argsort(-total, kind="stable")[:CANDIDATES]
    # A prefix of a combination is its number without the last digits, in the base of the choices.
    prefixes = likely[:, None] // choices ** np.arange(dimensions - 1, -1, -1)
    prefixes = prefixes + np.arange(dimensions) * choices**dimensions  # told apart by their length
    worth, found, held = np.exp(total[likely]), [], np.zeros(dimensions * choices**dimensions, dtype=bool)
    open_ = worth > NOTHING * worth.max()
    while True:
        added = dimensions - held[prefixes].sum(1)
        fits = open_ & (added <= rows)
        if not fits.any():
            return found
        best = int(np.where(fits, worth / added.clip(min=1), -1.0).argmax())
        open_[best] = False
        held[prefixes[best]] = True
        rows -= int(added[best])
        found.append(tuple(int(n) for n in np.unravel_index(likely[best], (choices,) * dimensions)))


def _windows_of(dimensions: int) -> int:
    return next(count for count in range(WINDOWS, 0, -1) if count**dimensions <= COMBINATIONS)


@functools.cache
def _laplace(bins: int) -> np.ndarray:
    """(spreads, 2 bins - 1), the middle at ``bins - 1``."""
    return np.exp(-np.abs(np.arange(1 - bins, bins)) / SPREADS[:, None])
