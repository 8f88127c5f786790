"""Verifiers without a model: they say what was recorded, and judge drafts by the rule of the real one.

The rows that a pass leaves behind, the tree and its judgement are those of :class:`..decoding.verifier.Verifier`; only
where a model would compute its choice, a recorded action is looked up.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from spec_vla_ros.decoding.acceptance import UNLIMITED
from spec_vla_ros.decoding.graphs import Pool
from spec_vla_ros.decoding.outcome import NO_DRAFT, Question
from spec_vla_ros.decoding.tree import DraftTree
from spec_vla_ros.decoding.verifier import Verdict
from spec_vla_ros.openvla.action_tokens import ActionTokens

MODE_SHARE = 0.1  # of tipped tokens that go to another motion of the stream
SHIFT = 0.5  # bins that the others move at most, per bin of the prefix's distance
SWITCH = 3  # bins; a dimension that has no more of them in a whole stream has modes only
_WORD = 8  # bytes of one draw


class RecordedVerifier:
    """Says the recorded token of a dimension whatever stands before it, and is always sure.

    ``tokens`` and ``pool`` are what a policy wants of a verifier, and ``defers`` is what decoding does; ``run`` judges
    as the real one does.
    """

    stub = "recorded"
    defers = False  # there is no device
    assumption = (
        "The model says the recorded token whatever was drafted before it, so what it would change after a draft that "
        "is only nearly right is not in these figures: expect more passes of a real model."
    )

    def __init__(self, tokens: ActionTokens) -> None:
        self.tokens, self.pool = tokens, Pool(torch.device("cpu"), False)
        ids = range(tokens.first, tokens.vocab_end)
        self._bin = dict(zip(ids, tokens.to_bins(ids).tolist(), strict=True))
        self._action: Sequence[int] = ()
        self._prompt, self._rows = 0, ()

    def expect(self, action: Sequence[int], episode: int, step: int) -> None:
        """The next action that is decoded is ``action`` (A,) ids, in place ``step`` of ``episode``."""
        self._action, self._prompt, self._rows = tuple(map(int, action)), 0, ()

    def run(
        self,
        settled: Tensor | int,
        start: int,
        tree: DraftTree = NO_DRAFT,
        radii: Sequence[int] = (),
        budget: int = UNLIMITED,
        costs: Sequence[int] = (),
    ) -> Verdict:
        """As :meth:`..decoding.verifier.Verifier.run`; margins are infinite, and there are no states."""
        if isinstance(settled, int):
            self._rows = (*self._rows[: start - self._prompt], settled)
        else:
            self._prompt, self._rows = start + settled.shape[1], ()
        rows, distance = self._rows, 0
        for place, token in enumerate(rows):
            distance += self._gap(token, self.said(rows[:place], distance))
        prefixes, distances = [rows], [distance]  # of the settled rows, then of each node
        greedy = [self.said(rows, distance)]
        for token, parent in zip(tree.tokens, tree.parents, strict=True):
            prefixes.append((*prefixes[parent + 1], token))
            distances.append(distances[parent + 1] + self._gap(token, greedy[parent + 1]))
            greedy.append(self.said(prefixes[-1], distances[-1]))
        path = Question(settled, start, tree, radii, budget, costs).path(greedy, self.tokens)
        self._rows = prefixes[path[-1] + 1] if path else rows
        return Verdict(greedy, [float("inf")] * len(greedy), path, _no_states, time.perf_counter())

    def said(self, prefix: Sequence[int], distance: int) -> int:
        """The choice after ``prefix``, the ids of this action so far. ``distance``: bins by which its tokens differ
        from what was said at their places, added up.
        """
        return self._action[min(len(prefix), len(self._action) - 1)]  # nobody emits what follows a whole action

    def _gap(self, token: int, said: int) -> int:
        return abs(self._bin[token] - self._bin[said])


class TippedVerifier(RecordedVerifier):
    """Says something else, now and then, where the tokens before are not those that it said itself.

    After an exact prefix it is a :class:`RecordedVerifier`. After any other, each prefix of each action draws once,
    with probability ``share``, that its token is tipped. A tipped token is, with probability ``MODE_SHARE``, the one
    of a random action of the stream in that dimension; else the recorded one moved up or down by 1 to
    max(1, ``SHIFT`` * distance) bins, all equally probable, and stopped at the end of the range. Dimensions of at most
    ``SWITCH`` bins in the whole stream, such as grippers, are only ever tipped to another mode. Rows behind rejected
    drafts are tipped like all others. The same prefix of the same action always gets the same answer.
    """

    stub = "tipped"

    def __init__(self, tokens: ActionTokens, actions: np.ndarray, share: float) -> None:
        """``actions`` (N, A) ids of the whole stream; ``share`` 0..1."""
        super().__init__(tokens)
        self._columns = [column.tolist() for column in actions.T]
        self._switches = [len({self._bin[token] for token in column}) <= SWITCH for column in self._columns]
        self._share, self._place, self._known = share, (0, 0), {}
        self.assumption = (
            f"After a draft that differs from what the model would have said, each later token is another one with "
            f"probability {share:g}: moved by up to {SHIFT:g} bins per bin of difference, or in one of "
            f"{round(1 / MODE_SHARE)} cases one of another action of the stream. This rule is invented, not measured "
            "on a model."
        )

    def expect(self, action: Sequence[int], episode: int, step: int) -> None:
        """See :class:`RecordedVerifier`; the place seeds what is drawn."""
        super().expect(action, episode, step)
        self._place, self._known = (episode, step), {}

    def said(self, prefix: Sequence[int], distance: int) -> int:
        """See :class:`RecordedVerifier`."""
        if not distance or len(prefix) >= len(self._action):
            return super().said(prefix, distance)
        prefix = tuple(prefix)
        if prefix not in self._known:
            self._known[prefix] = self._tipped(prefix, distance)
        return self._known[prefix]

    def _tipped(self, prefix: tuple[int, ...], distance: int) -> int:
        dimension, recorded = len(prefix), super().said(prefix, distance)
        seed = repr((*self._place, dimension, prefix)).encode()
        digest = hashlib.blake2b(seed, digest_size=4 * _WORD).digest()
        whether, which, where, way = (
            int.from_bytes(digest[i : i + _WORD]) / 256**_WORD for i in range(0, len(digest), _WORD)
        )
        if whether >= self._share:
            return recorded
        if which < MODE_SHARE:
            column = self._columns[dimension]
            return column[min(int(where * len(column)), len(column) - 1)]
        if self._switches[dimension]:
            return recorded
        most = max(1, int(SHIFT * distance))
        moved = self._bin[recorded] + (1 + min(int(where * most), most - 1)) * (1 if way < 0.5 else -1)
        return int(self.tokens.to_ids(min(max(moved, 0), self.tokens.bins - 1)))


def _no_states() -> Tensor:
    raise NotImplementedError("a recorded stream has no states of a model: drafters that read them need one")
