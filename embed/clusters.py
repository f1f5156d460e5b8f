"""Weighted prototypes of a stream of vectors: bounded, in one pass, always the same.

Leader clustering (J. A. Hartigan, "Clustering Algorithms", 1975): a vector joins the nearest
leader if it is near enough, else it becomes a leader itself. When there are as many leaders as
allowed, "near enough" is made twice as wide and leaders that are now near each other are merged
(the doubling algorithm of M. Charikar et al., 1997), so that what comes late in a day finds a place
of its own as well as what came early. A prototype is the sum of all its members: each has a part
in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embed.pooling import normalise
from embed.rows import Vectors

Groups = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a block of vectors went.

    Attributes:
        groups: the group of each vector, int64 (n,), numbered after any merging.
        merged: the new number of each group that was there before, or None if nothing merged.
    """

    groups: Groups
    merged: Groups | None


class LeaderClusters:
    """Groups unit vectors.

    Args:
        dimension: their width.
        most: how many groups there may be, at least 2.
        near: inner product from which a vector belongs to a leader, at first.
    """

    def __init__(self, dimension: int, *, most: int, near: float) -> None:
        if most < 2 or not -1.0 < near < 1.0:
            raise ValueError(f"clusters need most >= 2 and near below 1, not {most} and {near}")
        self._most = most
        self.near = near
        self._size = 0
        self._leaders = np.zeros((most, dimension), dtype=np.float32)
        self._sums = np.zeros((most, dimension))
        self._counts: Groups = np.zeros(most, dtype=np.int64)

    def __len__(self) -> int:
        return self._size

    @property
    def counts(self) -> Groups:
        """How many vectors each group has, int64 (groups,)."""
        return self._counts[: self._size]

    def add(self, vectors: Vectors) -> Placed:
        """Add a block of vectors, float32 (n, d) of length 1."""
        before = len(self)
        moved = np.arange(before)
        groups = np.full(len(vectors), -1, dtype=np.int64)
        while True:
            self._join(vectors, groups)
            self._lead(vectors, groups)
            if (groups >= 0).all():
                break
            step = self._coarsen()
            moved = step[moved]
            placed = groups >= 0
            groups[placed] = step[groups[placed]]
        self._sum_up(vectors, groups)
        same = bool((moved == np.arange(before)).all())
        return Placed(groups, None if same else moved)

    def vectors(self) -> Vectors:
        """The prototypes, float32 (groups, d) of length 1."""
        return normalise(self._sums[: self._size])

    def _sum_up(self, vectors: Vectors, groups: Groups) -> None:
        """Add each vector to the sum of its group, those of one group in their order."""
        order = np.argsort(groups, kind="stable")
        found, starts, counts = np.unique(groups[order], return_index=True, return_counts=True)
        # A tenth of what np.add.at takes for rows.
        self._sums[found] += np.add.reduceat(vectors[order].astype(np.float64), starts, axis=0)
        self._counts[found] += counts

    def _join(self, vectors: Vectors, groups: Groups) -> None:
        """Those near a leader join the nearest one."""
        left = np.flatnonzero(groups < 0)
        if not left.size or not len(self):
            return
        likeness = vectors[left] @ self._leaders[: self._size].T
        best = likeness.argmax(axis=1)
        near = likeness[np.arange(left.size), best] >= self.near
        groups[left[near]] = best[near]

    def _lead(self, vectors: Vectors, groups: Groups) -> None:
        """The first that is left becomes a leader, and so on while there is room."""
        while len(self) < self._most and (left := np.flatnonzero(groups < 0)).size:
            leader = vectors[left[0]]
            joins = vectors[left] @ leader >= self.near
            joins[0] = True
            groups[left[joins]] = self._size
            self._leaders[self._size] = leader
            self._size += 1

    def _coarsen(self) -> Groups:
        """Double what near means and merge leaders; returns the new number of each group."""
        # In squared distance, 2 - 2 near; two opposite vectors are at most 4 apart.
        self.near = max(1.0 - 2.0 * (1.0 - self.near), -1.0)
        number = np.full(len(self), -1, dtype=np.int64)
        kept: list[int] = []
        for place in range(len(self)):
            if number[place] >= 0:
                continue
            open_ = np.flatnonzero(number < 0)
            joins = self._leaders[open_] @ self._leaders[place] >= self.near
            joins[open_ == place] = True
            number[open_[joins]] = len(kept)
            kept.append(place)
        sums, counts = np.zeros_like(self._sums), np.zeros_like(self._counts)
        np.add.at(sums, number, self._sums[: self._size])
        np.add.at(counts, number, self.counts)
        self._leaders[: len(kept)] = self._leaders[kept]
        self._sums, self._counts, self._size = sums, counts, len(kept)
        return number
