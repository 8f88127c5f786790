"""Drafted continuations of an action, joined into one tree whose nodes are verified in a single pass."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .deferred import Deferred, Grown, Later

ROOT = -1  # parent of the nodes that continue what is settled
TREE_ROWS = 64  # drafted rows of a pass at most; the verifier's cache has room for them


@dataclass(frozen=True)
class DraftTree:
    """M nodes, every parent before its children. ``tokens``: ids, or what stands for those that are in ``deferred``
    until the pass has run. ``parents``: node before it, -1 for none, until then for all of ``grown``. ``names``: whose
    guess a node is (the first drafter's where several agree).
    """

    tokens: tuple[int | Later, ...] = ()
    parents: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    deferred: Deferred | None = field(default=None, compare=False)

    @staticmethod
    def of(
        chains: Iterable[tuple[str, Sequence[int | Later]]],
        rows: int,
        whole: bool = False,
        deferred: Deferred | None = None,
    ) -> DraftTree:
        """Join chains (name, ids), the likeliest first; equal beginnings share their nodes, as far as they are known.
        At most ``rows`` nodes: what comes later is cut, or, with ``whole``, a chain that does not fit is left out: one
        that is cut short gives short second thoughts where it turns out to be the nearest.
        """
        tokens: list[int | Later] = []
        parents: list[int] = []
        names: list[str] = []
        children: dict[tuple[int, int | Later], int] = {}
        for name, chain in chains:
            at = ROOT
            if whole and len(tokens) + _new(children, chain) > rows:
                continue
            for token in chain:
                node = children.get((at, token))
                if node is None:
                    if len(tokens) == rows:
                        break
                    node = children[at, token] = len(tokens)
                    tokens.append(token)
                    parents.append(at)
                    names.append(name)
                at = node
        return DraftTree(tuple(tokens), tuple(parents), tuple(names), deferred)

    @staticmethod
    def filled(rows: int, token: int, depth: int) -> DraftTree:
        """``rows`` nodes of one ``token`` in branches of ``depth``: where nothing but the size of a tree matters."""
        parents = tuple(ROOT if node % depth == 0 else node - 1 for node in range(rows))
        return DraftTree((token,) * rows, parents, ("",) * rows)

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.tokens)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """Nodes before each one on its path."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(0 if parent == ROOT else depths[parent] + 1)
        return tuple(depths)

    @cached_property
    def drafters(self) -> tuple[str, ...]:
        """Who contributed, in order."""
        return tuple(dict.fromkeys(self.names))

    @cached_property
    def grown(self) -> list[tuple[range, Grown, int]]:
        """What grew on the device: its nodes of this tree, as many as there was room for, and its place among all that
        is deferred.
        """
        found = []
        for number, (place, grown) in enumerate(self.deferred.grown if self.deferred is not None else ()):
            first = next((node for node, token in enumerate(self.tokens) if token == Later(place)), len(self))
            found.append((range(first, min(first + len(grown), len(self))), grown, number))
        return found

    @cached_property
    def known(self) -> tuple[DraftTree, Sequence[int]]:
        """The tree with all its ids and equal beginnings joined, and which node of this one each of its nodes is, of
        equal ones the first. Raises ``IndexError`` before the pass has run.
        """
        if self.deferred is None:
            return self, range(len(self))
        tokens, nodes, (before, order) = self.deferred.known(self.tokens), [], self._shape()
        found: dict[tuple[int, int], int] = {}
        places: dict[int, int] = {ROOT: ROOT}  # of the nodes of this tree in the other one
        parents = []
        for node in order:
            key = places[before[node]], tokens[node]
            if key not in found:
                found[key] = len(nodes)
                parents.append(key[0])
                nodes.append(node)
            places[node] = found[key]
        names = tuple(self.names[node] for node in nodes)
        return DraftTree(tuple(tokens[node] for node in nodes), tuple(parents), names), nodes

    def _shape(self) -> tuple[list[int], list[int]]:
        """Parents, what grew on the device included, and the nodes in the order in which their branches are given."""
        parents, order = list(self.parents), list(range(len(self)))
        for nodes, _, number in self.grown:
            first, shape = nodes.start, self.deferred.shape(number).first(len(nodes))
            parents[first : nodes.stop] = [first + above - 1 if above else ROOT for above in shape.parents]
            order[first : nodes.stop] = [first + n for n in dict.fromkeys(itertools.chain(*shape.branches()))]
        return parents, order

    def path(self, node: int) -> list[int]:
        """Nodes from the root to ``node``, which is the last; empty for the root."""
        nodes = []
        while node != ROOT:
            nodes.append(node)
            node = self.parents[node]
        return nodes[::-1]

    def children(self, node: int) -> list[int]:
        """Nodes that continue ``node``, in order."""
        return [child for child, parent in enumerate(self.parents) if parent == node]


def _new(children: Mapping[tuple[int, int | Later], int], chain: Sequence[int | Later]) -> int:
    """Nodes that ``chain`` would add."""
    at = ROOT
    for shared, token in enumerate(chain):
        if (node := children.get((at, token))) is None:
            return len(chain) - shared
        at = node
    return 0


def ancestors_of(tree: DraftTree) -> np.ndarray:
    """(M, M) boolean, row m marking node m and all before it on its path."""
    seen = np.eye(len(tree), dtype=bool)
    for node, parent in enumerate(tree.parents):  # which comes before it
        if parent != ROOT:
            seen[node] |= seen[parent]
    return seen
