"""Drafted continuations of an action, joined into one tree whose nodes are verified in a single pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .deferred import Deferred, Later

ROOT = -1  # parent of the nodes that continue what is settled
TREE_ROWS = 64  # drafted rows of a pass at most; the verifier's cache has room for them


@dataclass(frozen=True)
class DraftTree:
    """M nodes, every parent before its children. ``tokens``: ids, or what stands for those that are in ``deferred``
    until the pass has run. ``parents``: node before it, -1 for none. ``names``: whose guess a node is (the first
    drafter's where several agree).
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
    def known(self) -> tuple[DraftTree, Sequence[int]]:
        """The tree with all its ids and equal beginnings joined, and which node of this one each of its nodes is, of
        equal ones the first. Raises ``IndexError`` before the pass has run.
        """
        if self.deferred is None:
            return self, range(len(self))
        tokens, parents, nodes = self.deferred.known(self.tokens), [], []
        found: dict[tuple[int, int], int] = {}
        places: list[int] = []  # of the nodes of this tree in the other one
        for node, (token, parent) in enumerate(zip(tokens, self.parents, strict=True)):
            key = ROOT if parent == ROOT else places[parent], token
            if key not in found:
                found[key] = len(nodes)
                parents.append(key[0])
                nodes.append(node)
            places.append(found[key])
        names = tuple(self.names[node] for node in nodes)
        return DraftTree(tuple(tokens[node] for node in nodes), tuple(parents), names), nodes

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
