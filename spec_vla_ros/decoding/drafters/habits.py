"""What the model is in the habit of saying: what followed similar actions, in this episode and in earlier ones."""

from __future__ import annotations

import functools

import numpy as np

CAPACITY = 2000  # actions that are remembered: 400 s at 5 Hz; the oldest make room
LOOK_BACK = 3  # actions that what follows is judged by
FEWEST = 5  # actions below which nothing can be said
NEIGHBOURS = 12  # similar moments that are asked what followed
NEAR = 10.0  # bins; moments that are nearer than this count about the same
BLUR = 3.0  # bins; how far what follows may be off what followed
SPREADS = np.array([2.0, 6.0, 18.0, 50.0])  # bins; how far a trend may be off, from sure to hardly a guess
MEMORY = 0.85  # per action; what was right long ago says less of now
NEVER = 1e-5  # probability of what a guess excludes
FADE = 0.999  # per action, of what trends are computed from
RIDGE = 3.0  # of that computation, in actions: few of them do not make a trend
SCALE = 50.0  # bins; a large motion


class Habits:
    """Guesses the next bins of each dimension from what followed before. One thread uses it.

    It is told of every action (:meth:`learn`) and of the beginning of every episode (:meth:`begin`). Its guesses:

    - recall: what followed in the most similar moments, said again or as the same change; moments are similar by the
      last ``LOOK_BACK`` actions, once by all dimensions and once by the very dimension,
    - trend: a linear regression of the next change on those actions, as Laplace distributions of several widths.

    How good each has been in this episode (``evidence``) is for whoever mixes them with other guesses, so memories that
    say nothing of now lose their weight. Bounded in size and time (about 0.5 ms per action); nothing is random.
    """

    def __init__(self, action_dim: int, bins: int) -> None:
        """Nothing is remembered. ``bins``: of each of ``action_dim`` dimensions."""
        self.action_dim, self.bins = action_dim, bins
        # [LOOK_BACK + 1, A, CAPACITY]: the actions before, the oldest first, and what followed
        self._moments = np.zeros((LOOK_BACK + 1, action_dim, CAPACITY), dtype=np.int16)
        self._count, self._next = 0, 0
        features = LOOK_BACK * action_dim + 1
        self._products = np.zeros((features, features))
        self._targets = np.zeros((features, action_dim))
        self.begin()

    @property
    def moments(self) -> np.ndarray:
        """(N, LOOK_BACK + 1, A) int16 bins, the oldest moment first: the actions before, and what followed."""
        first = self._next if self._count == CAPACITY else 0
        order = (first + np.arange(self._count)) % CAPACITY
        return self._moments[:, :, order].transpose(2, 0, 1)

    @classmethod
    def of(cls, moments: np.ndarray, bins: int) -> Habits:
        """From :attr:`moments` of an earlier time, the oldest first."""
        habits = cls(moments.shape[2], bins)
        for moment in moments[-CAPACITY:]:
            habits._keep(moment)
        return habits

    def begin(self) -> None:
        """A new episode: before it the arm stood still. What was remembered stays."""
        self._recent = np.full((LOOK_BACK, self.action_dim), (self.bins - 1) // 2, dtype=np.int16)
        self._evidence: np.ndarray | float = 0.0
        self._ahead: np.ndarray | None = None

    def ahead(self) -> tuple[np.ndarray, np.ndarray]:
        """(G, A, bins) probabilities of the next bins by each guess, and (G, A) the logarithms of what the guess gave
        to the actions of this episode, added up with forgetting; no guesses where too little is remembered.
        """
        if self._count < FEWEST:
            return np.zeros((0, self.action_dim, self.bins)), np.zeros((0, self.action_dim))
        if self._ahead is None:
            self._ahead = np.concatenate([self._trend(), self._recall()])
        return self._ahead, np.broadcast_to(self._evidence, self._ahead.shape[:2])

    def learn(self, action: np.ndarray) -> None:
        """The next action of the episode, (A,) bins, is known."""
        guesses, _ = self.ahead()
        action = np.asarray(action)
        given = guesses[:, np.arange(self.action_dim), action] if len(guesses) else 1 / self.bins
        self._evidence = MEMORY * self._evidence + np.log(given + NEVER)
        self._keep(np.concatenate([self._recent, [action]]))
        self._recent = np.concatenate([self._recent[1:], [action]]).astype(np.int16)
        self._ahead = None

    def _keep(self, moment: np.ndarray) -> None:
        self._moments[:, :, self._next] = moment
        self._next = (self._next + 1) % CAPACITY
        self._count = min(self._count + 1, CAPACITY)
        told, change = _features(moment[:-1], self.bins), (moment[-1] - moment[-2].astype(float)) / SCALE
        self._products = FADE * self._products + np.outer(told, told)
        self._targets = FADE * self._targets + np.outer(told, change)

    def _trend(self) -> np.ndarray:
        """(spreads, A, bins)."""
        weights = np.linalg.solve(self._products + RIDGE * np.eye(len(self._products)), self._targets)
        middle = self._recent[-1] + SCALE * _features(self._recent, self.bins) @ weights
        place = np.rint(middle.clip(0, self.bins - 1)).astype(int)
        return np.stack([_laplace(self.bins, spread)[place] for spread in SPREADS])

    def _recall(self) -> np.ndarray:
        """(4, A, bins): by all dimensions and by the very dimension, each what was said and what changed."""
        moments = self._moments[:, :, : self._count]
        apart = np.abs(moments[:-1] - self._recent[:, :, None]).sum(0)  # [A, N]
        apart = np.concatenate([apart, apart.sum(0, keepdims=True)])  # [A + 1, N]
        nearest = np.argpartition(apart, min(NEIGHBOURS, self._count) - 1, axis=1)[:, :NEIGHBOURS]
        weight = 1 / (np.take_along_axis(apart, nearest, 1) + NEAR)
        weight /= weight.sum(1, keepdims=True)
        rows = np.arange(self.action_dim)[:, None]
        said = np.zeros((4, self.action_dim, self.bins))
        for kind, (found, share) in enumerate(((nearest[-1:], weight[-1:]), (nearest[:-1], weight[:-1]))):
            followed = moments[-1][rows, found].astype(int)  # [A, NEIGHBOURS]
            change = followed - moments[-2][rows, found]
            moved = (self._recent[-1][:, None] + change).clip(0, self.bins - 1)
            for place, bins in ((2 * kind, followed), (2 * kind + 1, moved)):
                np.add.at(said[place], (rows, bins), share)
        return said @ _laplace(self.bins, BLUR)


def _features(actions: np.ndarray, bins: int) -> np.ndarray:
    """What a trend is computed from: (LOOK_BACK, A) bins as the newest action, the changes to it, and a constant."""
    far = (actions.astype(float) - (bins - 1) // 2) / SCALE
    return np.concatenate([far[-1], np.diff(far, axis=0).ravel(), [0.2]])


@functools.cache
def _laplace(bins: int, spread: float) -> np.ndarray:
    """(bins, bins) probabilities around each bin."""
    columns = np.arange(bins)
    shapes = np.exp(-np.abs(columns - columns[:, None]) / spread)
    return shapes / shapes.sum(1, keepdims=True)
