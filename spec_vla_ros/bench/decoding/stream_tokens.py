"""Recorded actions as action tokens: checked, encoded where they are not tokens yet, and added up for lower rates."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from spec_vla_ros.errors import CommandError, StatisticsError
from spec_vla_ros.foreign_text import shortened
from spec_vla_ros.openvla.action_tokens import ActionStatistics, ActionTokens, choose_statistics

TOKENS = ActionTokens()  # of the published models
IDS, BINS, ACTIONS = "ids", "bins", "actions"
WIDEST = 9  # dimensions of an action
QUANTILES = (0.01, 0.99)
OUTSIDE = 0.05  # share of numbers that statistics cut off; more is said
WHOLE_TIMES = 1e-3  # by which a rate may miss a whole divisor


class StreamError(CommandError):
    """A file cannot be used as a stream of actions; the message is for the person at the keyboard."""


@dataclass
class Recorded:
    """What a file holds. ``values`` (N, A) float64; ``kind``: ``IDS``, ``BINS`` or ``ACTIONS``. ``lengths``: actions of
    each episode. ``notes``: what was understood. ``place``: words for row i. ``own``: whose quantiles encode actions.
    """

    path: str
    kind: str
    values: np.ndarray
    lengths: list[int]
    rate_hz: float | None = None
    notes: list[str] = field(default_factory=list)
    place: Callable[[int], str] = "row {}".format
    own: str = "this file"


@dataclass(frozen=True)
class Stream:
    """``episodes``: (T, A) ids each. ``normalised``: the same actions on the scale of -1..1, not cut off.
    ``rate_hz``: actions per second, None = not known; ``recorded_rate_hz``: of the file. ``encoding``: how the tokens
    came about. ``notes``: what else was understood.
    """

    path: str
    episodes: list[np.ndarray]
    normalised: list[np.ndarray]
    encoding: str
    rate_hz: float | None = None
    recorded_rate_hz: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def action_dim(self) -> int:
        """A."""
        return self.episodes[0].shape[1]

    def facts(self) -> dict[str, Any]:
        """How lively it is: the share of actions equal to the one before, and different bins per dimension."""
        pairs = [(episode[1:] == episode[:-1]).all(1) for episode in self.episodes]
        equal = np.concatenate(pairs)
        bins = TOKENS.to_bins(np.concatenate(self.episodes))
        return {
            "equal_to_previous_share": round(float(equal.mean()), 4) if len(equal) else None,
            "distinct_bins": [len(np.unique(column)) for column in bins.T],
            "encoding": self.encoding,
            "notes": list(self.notes),
        }

    def words(self) -> str:
        """A line for people."""
        facts, count = self.facts(), sum(map(len, self.episodes))
        rate = "rate not known (--rate)" if self.rate_hz is None else f"{self.rate_hz:.3g} Hz"
        equal = facts["equal_to_previous_share"]
        return "; ".join([
            f"{self.path}: {count} actions of {self.action_dim} tokens in {len(self.episodes)} episodes, {rate}",
            self.encoding,
            "no action follows another" if equal is None else f"{100 * equal:.0f} % equal the action before",
            f"bins per dimension {' '.join(map(str, facts['distinct_bins']))}",
            *self.notes,
        ])  # fmt: skip


def table(path: str, rows: Sequence[Sequence[float]], place: Callable[[int], str]) -> np.ndarray:
    """(N, A) of rows of numbers. Raises :class:`StreamError` for what cannot be actions, with its place."""
    if not len(rows):
        raise StreamError(f"{path} holds no actions")
    width = len(rows[0])
    for i, row in enumerate(rows):
        if len(row) != width:
            cut = " (is the file cut off?)" if i == len(rows) - 1 and len(row) < width else ""
            raise StreamError(
                f"{path}: {place(i)} has {len(row)} numbers, {place(0)} has {width}{cut}: all actions of a file have "
                "to be equally wide"
            )
    try:
        values = np.array(rows, dtype=np.float64)
    except OverflowError as error:
        raise StreamError(f"{path} has a whole number of hundreds of digits: {error}") from error
    return checked(path, values.reshape(len(rows), width), place)


def checked(path: str, values: np.ndarray, place: Callable[[int], str]) -> np.ndarray:
    """``values`` (N, A) as float64. Raises :class:`StreamError`."""
    if values.ndim != 2 or not 1 <= values.shape[1] <= WIDEST:
        raise StreamError(
            f"{path}: expected actions of 1 to {WIDEST} numbers, one action per row, got an array of shape "
            f"{values.shape}: leave out what is no action, or give one arm at a time"
        )
    if not len(values):
        raise StreamError(f"{path} holds no actions")
    if values.dtype.kind not in "iuf":
        raise StreamError(f"{path}: the actions are {values.dtype}, expected numbers")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise StreamError(
            f"{path}: {place(int(row))} has {values[row, column]} in dimension {column}: take that episode out, or "
            "repair the recording"
        )
    return values


def kind_of(path: str, values: np.ndarray, said: str, place: Callable[[int], str]) -> str:
    """What the numbers are. ``said``: "tokens", "bins" or "actions" where the file calls them so, else "".

    Ids and bins are whole numbers in ranges that do not meet: 31744..31999 and 0..255. Numbers that nobody named are
    actions where one of them is not whole, or where none lies beyond -1..1. Raises :class:`StreamError` with the first
    number that is out of its range.
    """
    if said == "actions":
        return ACTIONS
    whole = values == np.round(values)
    many_ids = np.median(values) >= TOKENS.first  # then a number that is not whole is a slip
    if not said and not many_ids and (not whole.all() or np.abs(values).max() <= 1):
        return ACTIONS
    low, high = {"bins": (0, TOKENS.n_bins - 1)}.get(said, (TOKENS.first, TOKENS.vocab_end - 1))
    kind = BINS if said == "bins" else IDS
    if said != "bins" and np.median(values) < TOKENS.n_bins:  # the many decide, so that a slip is named as one
        low, high, kind = 0, TOKENS.n_bins - 1, BINS
    wrong = ~whole | (values < low) | (values > high)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise StreamError(
            f"{path}: {place(int(row))} has {values[row, column]:g} in dimension {column}, which is no "
            f"{'bin' if kind == BINS else 'action id'} ({low}..{high}): ids are {TOKENS.first}..{TOKENS.vocab_end - 1}"
            f", bins 0..{TOKENS.n_bins - 1}, and anything else has to be called actions"
        )
    return kind


def split(path: str, lengths: Any, count: int) -> list[int]:
    """Checked lengths of episodes of ``count`` actions. Raises :class:`StreamError`."""
    found = np.asarray(lengths)
    if found.ndim != 1 or found.dtype.kind not in "iu" or not len(found) or (found <= 0).any():
        raise StreamError(
            f"{path}: lengths is {shortened(found.tolist())}, expected one whole number above 0 per episode"
        )
    if found.sum() != count:
        raise StreamError(
            f"{path}: lengths add up to {found.sum()}, but there are {count} actions: is one of the two cut off?"
        )
    return found.tolist()


def read_statistics(given: str) -> ActionStatistics:
    """Of ``FILE[:KEY]``: a dataset_statistics.json, a config.json with norm_stats, or the folder of a checkpoint.

    Raises :class:`StreamError`, which lists the keys.
    """
    from spec_vla_ros.errors import CheckpointError
    from spec_vla_ros.openvla.checkpoint import CONFIG_FILE, STATISTICS_FILE, read_json

    name, key = given, None
    if not os.path.exists(given) and ":" in given:
        name, _, key = given.rpartition(":")
    path = Path(name)
    if path.is_dir():
        path = path / STATISTICS_FILE if (path / STATISTICS_FILE).exists() else path / CONFIG_FILE
    try:
        data = read_json(path)
        found = data.get("norm_stats", data)
        if not isinstance(found, dict):
            raise StreamError(f"{path}: norm_stats is a {type(found).__name__}, expected an object")
        return choose_statistics(found, key or None)
    except StatisticsError as error:
        raise StreamError(f"--statistics {path}:KEY: {error}") from error
    except CheckpointError as error:
        raise StreamError(f"--statistics: {error}") from error


def encoded(recorded: Recorded, statistics: ActionStatistics | None = None, rate_hz: float | None = None) -> Stream:
    """Tokens of ``recorded``. ``statistics``: of actions, None = quantiles of the actions themselves. ``rate_hz``:
    where the file does not say it. Raises :class:`StreamError`.
    """
    values, notes = recorded.values, list(recorded.notes)
    if recorded.kind == ACTIONS:
        ids, normalised, encoding = _from_actions(recorded, statistics, notes)
    else:
        ids = values.astype(np.int64) if recorded.kind == IDS else TOKENS.vocab_end - 1 - values.astype(np.int64)
        normalised, encoding = TOKENS.decode(ids), f"recorded as {recorded.kind}"
        if statistics is not None:
            notes.append("--statistics has no effect on tokens")
    rate = recorded.rate_hz or rate_hz
    if rate_hz and recorded.rate_hz and abs(recorded.rate_hz / rate_hz - 1) > OUTSIDE:
        notes.append(f"it says {recorded.rate_hz:.3g} Hz itself, which counts")
    places = np.cumsum(recorded.lengths)[:-1]
    return Stream(
        recorded.path, np.split(ids, places), np.split(normalised, places), encoding, rate, rate, tuple(notes)
    )


def _from_actions(
    recorded: Recorded, statistics: ActionStatistics | None, notes: list[str]
) -> tuple[np.ndarray, np.ndarray, str]:
    """Ids, normalised values and how they came about."""
    values, width = recorded.values, recorded.values.shape[1]
    if statistics is None:
        low, high = np.quantile(values, QUANTILES, axis=0)
        mask = np.ones(width, bool)
        mask[-1] = bool((np.abs(values[:, -1]) > 1).any())  # a gripper is not normalised
        statistics = ActionStatistics("", low, high, mask)
        encoding = (
            f"actions, encoded with the 1st and 99th percentile of {recorded.own} itself (--statistics for others)"
        )
        if not mask[-1]:
            encoding += ", the last dimension as it is"
    else:
        encoding = f"actions, encoded with the statistics {statistics.key!r}"
    if statistics.action_dim != width:
        raise StreamError(
            f"{recorded.path}: its actions have {width} numbers, the statistics {statistics.key!r} have "
            f"{statistics.action_dim}: choose those of this data set"
        )
    span = np.where(statistics.q99 > statistics.q01, statistics.q99 - statistics.q01, np.inf)  # constant: the middle
    unit = np.where(np.isfinite(span), 2 * (values - statistics.q01) / span - 1, 0.0)
    normalised = np.where(statistics.mask, unit, values)
    cut = float((np.abs(normalised) > 1).mean())
    if cut > OUTSIDE:
        notes.append(f"{100 * cut:.0f} % of the numbers lie outside these statistics and were cut off: do they fit?")
    return TOKENS.encode(statistics.normalise(values)), normalised, encoding


def at_rate(stream: Stream, hz: float) -> Stream:
    """The stream of an arm that is asked at a lower rate, a whole divisor of its own. Raises :class:`StreamError`.

    One action in place of n: what n actions move, added up; the last dimension, the gripper, is that of the last one.
    Whether they were distances or velocities makes no difference, because statistics of that rate would take the factor
    out again. Such statistics are made by moving the 1st and 99th percentile of the sums to where those of single
    actions lay, so that the stream fills the range as it did. What is left at the end of an episode is dropped.
    """
    if not stream.rate_hz:
        raise StreamError(
            f"{stream.path}: at which rate it was recorded is not known, so {hz:g} Hz cannot be: give --rate"
        )
    times = round(stream.rate_hz / hz)
    if times < 1 or abs(stream.rate_hz / hz / times - 1) > WHOLE_TIMES:
        usual = ", ".join(f"{stream.rate_hz / n:.4g}" for n in range(1, 6))
        raise StreamError(
            f"{stream.path}: {hz:g} Hz is no whole fraction of the recorded {stream.rate_hz:.4g} Hz; such are {usual}"
        )
    if times == 1:
        return stream
    groups = [
        episode[: len(episode) // times * times].reshape(-1, times, stream.action_dim)
        for episode in stream.normalised
        if len(episode) >= times
    ]
    if not groups:
        raise StreamError(f"{stream.path}: no episode has the {times} actions that one at {hz:g} Hz is made of")
    singles, together = np.concatenate(stream.normalised), np.concatenate(groups).sum(1)
    sums = [_on_the_grid(singles, group.sum(1), together, times) for group in groups]
    for total, group in zip(sums, groups, strict=True):
        total[:, -1] = group[:, -1, -1]
    dropped = len(stream.normalised) - len(groups)
    notes = (f"{dropped} episodes are shorter than that and were left out",) if dropped else ()
    return replace(
        stream,
        episodes=[TOKENS.encode(total) for total in sums],
        normalised=sums,
        encoding=f"{stream.encoding}; {times} actions added up",
        rate_hz=stream.rate_hz / times,
        notes=(*stream.notes, *notes),
    )


def _on_the_grid(single: np.ndarray, sums: np.ndarray, together: np.ndarray, times: int) -> np.ndarray:
    """``sums`` (M, A) of ``times`` actions, scaled as all of them, ``together``, have to be to fill the range as
    ``single`` actions do; a dimension that hardly ever moves is averaged.
    """
    low, high = np.quantile(np.clip(single, -1, 1), QUANTILES, axis=0)
    lowest, highest = np.quantile(together, QUANTILES, axis=0)
    moves = (high > low) & (highest > lowest)
    scaled = low + (high - low) * (sums - lowest) / np.where(moves, highest - lowest, 1.0)
    return np.where(moves, scaled, sums / times)
