"""Sorted tables of event digests, in memory or mapped from a sidecar.

A digest is 16 bytes, held as two little-endian u64. A table is sorted by the first of them;
digests that share it stand next to each other. Looking up a batch is one binary search in C.
"""

import mmap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from consumer.wire.identity import DIGEST_BYTES

#: uint64, shape (n, 2): n digests.
Ids = NDArray[np.uint64]
#: uint64, shape (n,).
Halves = NDArray[np.uint64]
#: bool, shape (n,).
Flags = NDArray[np.bool_]


def ids_of(digests: bytes) -> Ids:
    """Return the digests that lie one behind the other in `digests`. Shape (n, 2), not a copy.

    Raises ValueError if the length is not a multiple of 16.
    """
    return np.frombuffer(digests, dtype="<u8").reshape(-1, 2)


class IdTable:
    """An immutable set of digests. Memory: 16 bytes each; if they are mapped, what was looked at."""

    __slots__ = ("_pages", "first", "second")

    def __init__(self, first: Halves, second: Halves, pages: mmap.mmap | None = None) -> None:
        """Take both halves; `pages` are what they are mapped from, if they are."""
        self.first = first
        self.second = second
        self._pages = pages

    @classmethod
    def of(cls, ids: Ids) -> "IdTable":
        """Sort digests, shape (n, 2), into a table."""
        order = np.argsort(ids[:, 0])
        return cls(ids[order, 0], ids[order, 1])

    @classmethod
    def merged(cls, tables: Sequence["IdTable"]) -> "IdTable":
        """Return one table of all that is in `tables`."""
        first = np.concatenate([table.first for table in tables] or [np.empty(0, np.uint64)])
        second = np.concatenate([table.second for table in tables] or [np.empty(0, np.uint64)])
        order = np.argsort(first, kind="stable")
        return cls(first[order], second[order])

    def __len__(self) -> int:
        return len(self.first)

    @property
    def nbytes(self) -> int:
        """Size of the digests, bytes."""
        return len(self) * DIGEST_BYTES

    def leave_memory(self) -> None:
        """Give back the memory of mapped digests: they are read again when they are asked."""
        if self._pages is not None:
            self._pages.madvise(mmap.MADV_DONTNEED)

    def between(self, low: int, high: int) -> "IdTable":
        """Return the digests whose first half is in `[low, high]`. Not a copy."""
        begin = np.searchsorted(self.first, np.uint64(low))
        end = np.searchsorted(self.first, np.uint64(high), side="right")
        return IdTable(self.first[begin:end], self.second[begin:end])

    def same_as(self, other: "IdTable") -> bool:
        """Whether both hold the same digests."""
        pairs = np.stack([other.first, other.second], axis=1)
        return len(self) == len(other) and bool(self.contains(pairs).all())

    def contains(self, ids: Ids) -> Flags:
        """Return which of `ids`, shape (n, 2), are in the table."""
        found = np.zeros(len(ids), dtype=np.bool_)
        if not len(self):
            return found
        at = np.searchsorted(self.first, ids[:, 0])
        np.minimum(at, len(self) - 1, out=at)
        asked = np.flatnonzero(self.first[at] == ids[:, 0])
        at = at[asked]
        while len(asked):
            hit = self.second[at] == ids[asked, 1]
            found[asked[hit]] = True
            # Digests that share their first half stand in a row: go on until it ends.
            at, asked = at[~hit] + 1, asked[~hit]
            inside = at < len(self)
            at, asked = at[inside], asked[inside]
            same = self.first[at] == ids[asked, 0]
            at, asked = at[same], asked[same]
        return found
