"""Rows in memory as one byte a number, searched by lists and ranked by their exact vectors.

`IndexIVFScalarQuantizer` of FAISS holds each row as the difference to the centre of its list, one
byte for each dimension: a quarter of the exact vectors, which stay in their shards on the disk. A
search looks through the lists whose centres are nearest, and what it finds there is read from the
shards, compared with its checksum and ranked by its true inner product. So scores are exact, and
only rows in lists that were not looked through can be missed; `index.tending` measures how many.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index import lazy_faiss as faiss
from index.exact_rows import RowIndex, Scores, Selection, best_of, nothing
from index.store import RowIds, Vectors, split_row_id

Codes = NDArray[np.uint8]
Sums = NDArray[np.uint32]
# Candidates that are ranked by their exact vectors, for each one that is wanted, and beyond. Codes
# tell scores apart to about a thousandth, so that few are needed.
CANDIDATES = 1.5
SPARE = 20
# So few rows are read and compared without the lists.
DIRECT = 512


class RowDamagedError(Exception):
    """A row of the shard of `day` is not what it was when it was encoded."""

    def __init__(self, day: date) -> None:
        self.day = day
        super().__init__(f"a row of {day} fails its checksum")


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained, empty index, and what was measured of it.

    Attributes:
        index: an `IndexIVFScalarQuantizer` without rows; never added to.
        sha256: of its file.
        rows: how many rows there were when it was trained.
        lists_searched: how many lists a search of everything looks through.
        recall_at_10: share of the ten truly nearest that were found, over `sample` queries.
        measured_rows: how many rows there were then.
        sample: number of queries.
    """

    index: Any
    sha256: str
    rows: int
    lists_searched: int
    recall_at_10: float
    measured_rows: int
    sample: int


def row_sums(vectors: Vectors) -> Sums:
    """CRC-32 of each row."""
    return np.fromiter((zlib.crc32(row) for row in vectors), np.uint32, len(vectors))


def encode(trained: Any, vectors: Vectors) -> Codes:
    """Code of each row: the number of its list and one byte for each dimension."""
    codes: Codes = trained.sa_encode(np.ascontiguousarray(vectors))
    return codes


class ApproximateRows(RowIndex):
    """See the module. Equals that compete for the last place are not chosen by identifier.

    Args:
        trained: see `Trained`.
        read: gives the exact vectors of identifiers, float32 (n, d), unchecked.

    Attributes:
        lists_searched: how many lists a search of everything looks through.
    """

    def __init__(self, trained: Trained, read: Callable[[RowIds], Vectors]) -> None:
        # A few lists are not worth a second thread, and OpenMP's threads spin while they wait.
        faiss.omp_set_num_threads(1)
        self.trained = trained
        self.lists_searched = trained.lists_searched
        self._index: Any = faiss.clone_index(trained.index)
        self._read = read
        # By place: the order in which rows were added. A removed row leaves its place empty. Places
        # beyond the last one wait for rows to come.
        self._places_taken = 0
        self._room_of_ids: RowIds = np.empty(0, np.int64)
        self._room_of_sums: Sums = np.empty(0, np.uint32)
        self._by_id: NDArray[np.int64] | None = None
        self._last: tuple[Selection, NDArray[np.bool_], int] | None = None

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return int(self._index.ntotal)

    @property
    def width(self) -> int:
        """Bytes of a row's code."""
        return int(self._index.sa_code_size())

    @property
    def _ids(self) -> RowIds:
        return self._room_of_ids[: self._places_taken]

    @property
    def _sums(self) -> Sums:
        return self._room_of_sums[: self._places_taken]

    def reserve(self, rows: int) -> None:
        """Make room for the identifiers; the lists of codes grow by themselves."""
        self._make_room(self._places_taken + rows - self.rows)

    def add(self, ids: RowIds, vectors: Vectors) -> None:
        """Add rows by their vectors."""
        self.add_codes(ids, encode(self._index, vectors), row_sums(vectors))

    def add_codes(self, ids: RowIds, codes: Codes, sums: Sums) -> None:
        """Add rows that are encoded already.

        Args:
            ids: int64 (n,).
            codes: as `encode` gave them, (n, bytes).
            sums: as `row_sums` gave them.
        """
        first, end = self._places_taken, self._places_taken + len(ids)
        if end > len(self._room_of_ids):
            self._make_room(max(end, 2 * first))
        self._index.add_sa_codes(codes, np.arange(first, end, dtype=np.int64))
        self._room_of_ids[first:end] = ids
        self._room_of_sums[first:end] = sums
        self._places_taken = end
        self._changed()

    def remove(self, start: int, end: int) -> None:
        """Forget a range of identifiers."""
        gone = np.flatnonzero((self._ids >= start) & (self._ids < end))
        if len(gone):
            self._index.remove_ids(faiss.IDSelectorRange(int(gone[0]), int(gone[-1]) + 1))
            self._ids[gone] = -1
            self._changed()

    def search(self, queries: Vectors, k: int, selection: Selection) -> list[tuple[Scores, RowIds]]:
        """Search the nearest lists, as many more of them as the selection leaves fewer rows.

        Raises:
            RowDamagedError: a row that was found is not what it was.
        """
        if selection.only is not None and len(selection.only) <= DIRECT:
            return self._directly(queries, k, self._few(selection))
        allowed, count = self._allowed(selection)
        if count <= max(DIRECT, k):
            return self._directly(queries, k, np.sort(self._ids[allowed]))
        take = min(int(CANDIDATES * k) + SPARE, count)
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe = min(self._index.nlist, -(-self.lists_searched * self.rows // count))
        bits = np.packbits(allowed, bitorder="little")
        selector = _bitmap(bits)
        if count < self.rows:
            parameters.sel = selector
        _, found = self._index.search(queries, take, params=parameters)
        ranked = []
        for query, places in zip(queries, found, strict=True):
            ids = np.sort(self._ids[places[places >= 0]])
            ranked.append(best_of(self.vectors(ids) @ query, ids, k))
        return ranked

    def vectors(self, ids: RowIds) -> Vectors:
        """Exact vectors by identifier, from the shards.

        Raises:
            RowDamagedError: one of them is not what it was.
        """
        vectors = self._read(ids)
        wrong = np.flatnonzero(row_sums(vectors) != self._sums[self._places(ids)])
        if len(wrong):
            raise RowDamagedError(split_row_id(int(ids[wrong[0]]))[0])
        return vectors

    def _directly(self, queries: Vectors, k: int, ids: RowIds) -> list[tuple[Scores, RowIds]]:
        if not len(ids):
            return [nothing() for _ in queries]
        vectors = self.vectors(ids)
        return [best_of(vectors @ query, ids, k) for query in queries]

    def _few(self, selection: Selection) -> RowIds:
        """The identifiers that a selection of few rows leaves, ascending."""
        only = np.unique(np.asarray(selection.only, dtype=np.int64))
        only = only[(only >= selection.start) & (only < selection.end)]
        if selection.excluded is not None:
            only = only[~np.isin(only, selection.excluded)]
        return only[self._places(only) >= 0]

    def _make_room(self, places: int) -> None:
        more = places - len(self._room_of_ids)
        if more > 0:
            self._room_of_ids = np.pad(self._room_of_ids, (0, more))
            self._room_of_sums = np.pad(self._room_of_sums, (0, more))

    def _changed(self) -> None:
        self._by_id = None
        self._last = None

    def _places(self, ids: RowIds) -> NDArray[np.int64]:
        """Place of each identifier; -1 for one that is not held."""
        if self._by_id is None:
            self._by_id = np.argsort(self._ids, kind="stable")
        at = np.searchsorted(self._ids, ids, sorter=self._by_id)
        found: NDArray[np.int64] = self._by_id[np.minimum(at, len(self._by_id) - 1)]
        return np.where(self._ids[found] == ids, found, -1)

    def _allowed(self, selection: Selection) -> tuple[NDArray[np.bool_], int]:
        """Which places a selection admits, and how many; the last answer is kept."""
        if self._last is not None and _same(self._last[0], selection):
            return self._last[1], self._last[2]
        allowed = (self._ids >= max(selection.start, 0)) & (self._ids < selection.end)
        if selection.only is not None:
            held = np.zeros(len(self._ids), dtype=np.bool_)
            places = self._places(selection.only)
            held[places[places >= 0]] = True
            allowed &= held
        if selection.excluded is not None and len(selection.excluded):
            places = self._places(selection.excluded)
            allowed[places[places >= 0]] = False
        count = int(np.count_nonzero(allowed))
        self._last = (selection, allowed, count)
        return allowed, count


def _bitmap(bits: NDArray[np.uint8]) -> Any:
    make: Any = faiss.IDSelectorBitmap
    return make(bits)


def _same(one: Selection, other: Selection) -> bool:
    return (one.start, one.end) == (other.start, other.end) and all(
        a is b or (a is not None and b is not None and np.array_equal(a, b))
        for a, b in ((one.only, other.only), (one.excluded, other.excluded))
    )
