"""Rows in memory, searched exactly.

`RowIndex` is all that a store asks of what it searches. `ExactRows` looks at every row, which is
right up to some ten thousand rows (10 ms a query at 100,000); beyond that `index.approximate` has
another.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index import lazy_faiss as faiss
from index.store import RowIds, Vectors

Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows a search may find: identifiers in [start, end), in `only`, not in `excluded`."""

    start: int
    end: int
    only: RowIds | None = None
    excluded: RowIds | None = None


class RowIndex(ABC):
    """Vectors by identifier, in memory. Not safe for several threads; the store sees to that."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """How many rows it holds."""

    @abstractmethod
    def reserve(self, rows: int) -> None:
        """Make room for `rows` in all, so that adding them does not copy what is there."""

    @abstractmethod
    def add(self, ids: RowIds, vectors: Vectors) -> None:
        """Add rows whose identifiers are not held yet."""

    @abstractmethod
    def remove(self, start: int, end: int) -> None:
        """Forget every row whose identifier is in [start, end)."""

    @abstractmethod
    def search(self, queries: Vectors, k: int, selection: Selection) -> list[tuple[Scores, RowIds]]:
        """For each query up to `k` scores and identifiers, best first, ties by identifier."""

    @abstractmethod
    def vectors(self, ids: RowIds) -> Vectors:
        """Vectors of identifiers that are held, in their order."""


class ExactRows(RowIndex):
    """`IndexIDMap2` over `IndexFlatIP`: every row is compared with every query."""

    def __init__(self, dimension: int) -> None:
        # Reception has the other core, and OpenMP's threads spin while they wait for each other.
        faiss.omp_set_num_threads(1)
        self._dimension = dimension
        self._flat = faiss.IndexFlatIP(dimension)
        self._index = faiss.IndexIDMap2(self._flat)

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return int(self._index.ntotal)

    def reserve(self, rows: int) -> None:
        """Grow the storage once; a vector that doubles as it grows would hold two copies."""
        codes: Any = self._flat.codes
        held = codes.size()
        wanted = rows * self._dimension * 4
        if wanted > held:
            codes.resize(wanted)
            codes.resize(held)

    def add(self, ids: RowIds, vectors: Vectors) -> None:
        """Add rows. FAISS would take an identifier twice; the store never offers one twice."""
        self._index.add_with_ids(vectors, ids)

    def remove(self, start: int, end: int) -> None:
        """Forget a range of identifiers."""
        self._index.remove_ids(faiss.IDSelectorRange(start, end))

    def search(self, queries: Vectors, k: int, selection: Selection) -> list[tuple[Scores, RowIds]]:
        """Exact search with ties in a fixed order.

        A selector is always given. Without one FAISS takes another route for a single query,
        whose scores differ in the last bit from those of a batch.
        """
        if self.rows == 0 or (selection.only is not None and not len(selection.only)):
            return [nothing() for _ in queries]
        kept: list[Any] = []
        parameters = faiss.SearchParameters()
        parameters.sel = _selector(selection, kept)
        take = min(k + 1, self.rows)
        scores, ids = self._index.search(queries, take, params=parameters)
        found = []
        for query, row_scores, row_ids in zip(queries, scores, ids, strict=True):
            held = take
            # Which of several equal rows fills the last place must not depend on their order in
            # memory, so equals are taken in until the place is decided.
            while held > k and row_ids[-1] >= 0 and row_scores[-1] == row_scores[k - 1]:
                if held == self.rows:
                    break
                held = min(held * 4, self.rows)
                more_scores, more_ids = self._index.search(
                    query[np.newaxis], held, params=parameters
                )
                row_scores, row_ids = more_scores[0], more_ids[0]
            valid = row_ids >= 0
            found.append(best_of(row_scores[valid], row_ids[valid], k))
        return found

    def vectors(self, ids: RowIds) -> Vectors:
        """Vectors by identifier, through the reverse map of `IndexIDMap2`."""
        found: Vectors = self._index.reconstruct_batch(ids)
        return found


def _selector(selection: Selection, kept: list[Any]) -> Any:
    """A FAISS selector. Its parts go to `kept`: FAISS holds pointers to them, Python does not."""
    chosen: Any = faiss.IDSelectorRange(selection.start, selection.end)
    kept.append(chosen)
    if selection.only is not None:
        inside = (selection.only >= selection.start) & (selection.only < selection.end)
        chosen = faiss.IDSelectorBatch(np.ascontiguousarray(selection.only[inside]))
        kept.append(chosen)
    if selection.excluded is not None and len(selection.excluded):
        barred = faiss.IDSelectorBatch(np.ascontiguousarray(selection.excluded))
        allowed = faiss.IDSelectorNot(barred)
        both = faiss.IDSelectorAnd(chosen, allowed)
        kept.extend((barred, allowed, both))
        chosen = both
    return chosen


def best_of(scores: Scores, ids: RowIds, k: int) -> tuple[Scores, RowIds]:
    """The `k` best scores with their identifiers, best first, ties by identifier."""
    order = np.lexsort((ids, -scores))[:k]
    return scores[order], ids[order]


def nothing() -> tuple[Scores, RowIds]:
    """The answer of a search that nothing qualifies for."""
    return np.empty(0, np.float32), np.empty(0, np.int64)
