"""Drafted continuations of an action, joined into one tree whose nodes are verified in a single pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

ROOT = -1  # parent of the nodes that continue what is settled
TREE_ROWS = 64  # drafted rows of a pass at most; the verifier's cache has room for them


@dataclass(frozen=True)
class DraftTree:
    """M nodes, every parent before its children. ``tokens``: ids. ``parents``: node before it, -1 for none.
    ``names``: whose guess a node is (the first drafter's where several agree).
    """

    tokens: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()
    names: tuple[str, ...] = ()

    @staticmethod
    def of(chains: Iterable[tuple[str, Sequence[int]]], rows: int, whole: bool = False) -> DraftTree:
        """Join chains (name, ids), the likeliest first; equal beginnings share their nodes. At most ``rows`` nodes:
        what comes later is cut, or, with ``whole``, a chain that does not fit is left out: one that is cut short gives
        short second thoughts where it turns out to be the nearest.
        """
        tokens: list[int] = []
        parents: list[int] = []
        names: list[str] = []
        children: dict[tuple[int, int], int] = {}
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
        return DraftTree(tuple(tokens), tuple(parents), tuple(names))

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


def _new(children: Mapping[tuple[int, int], int], chain: Sequence[int]) -> int:
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
