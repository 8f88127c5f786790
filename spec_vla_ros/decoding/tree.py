"""Drafted continuations of an action, joined into one tree whose nodes are verified in a single pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

ROOT = -1  # parent of the nodes that continue what is settled


@dataclass(frozen=True)
class DraftTree:
    """M nodes, every parent before its children. ``tokens``: ids. ``parents``: node before it, -1 for none.
    ``names``: whose guess a node is (the first drafter's where several agree).
    """

    tokens: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()
    names: tuple[str, ...] = ()

    @staticmethod
    def of(chains: Iterable[tuple[str, Sequence[int]]], rows: int) -> DraftTree:
        """Join chains (name, ids), the likeliest first; equal beginnings share their nodes. At most ``rows`` nodes:
        what comes later is cut.
        """
        tokens: list[int] = []
        parents: list[int] = []
        names: list[str] = []
        children: dict[tuple[int, int], int] = {}
        for name, chain in chains:
            at = ROOT
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

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.tokens)

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


@dataclass(frozen=True)
class Topology:
    """The shape of a tree as tensors; ``depths`` (M,) from 0, ``parents`` (M,) shifted so that 0 is the root, and
    ``ancestors`` (M, M) boolean, row m marking m and all before it on its path.
    """

    depths: Tensor
    parents: Tensor
    ancestors: Tensor

    @staticmethod
    def of(parents: Sequence[int], device: torch.device) -> Topology:
        """The topology of these parents."""
        count = len(parents)
        ancestors = torch.eye(count, dtype=torch.bool)
        depths = torch.zeros(count, dtype=torch.long)
        for node, parent in enumerate(parents):
            if parent != ROOT:
                ancestors[node] |= ancestors[parent]
                depths[node] = depths[parent] + 1
        above = torch.tensor(parents, dtype=torch.long) + 1
        return Topology(depths.to(device), above.to(device), ancestors.to(device))
