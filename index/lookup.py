"""Searching an index and reading what its rows mean, as one step.

Vectors and facts are read one after the other while a commit may come between. A hit whose facts
were replaced meanwhile is never shown: the index is refreshed and searched again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce

import numpy as np

from index.catalogue import Catalogue
from index.chunks import RowKey, StoredRow
from index.errors import RowsReplacedError
from index.store import Hit, RowIds, Vectors, VectorStore

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Found:
    """A hit and the facts of its row."""

    hit: Hit
    facts: StoredRow


def find_rows(
    store: VectorStore,
    catalogue: Catalogue,
    queries: Vectors,
    k: int,
    *,
    first: date | None = None,
    last: date | None = None,
    where: Sequence[tuple[str, str | float]] = (),
    members_only: bool = False,
) -> list[list[Found]]:
    """The `k` nearest rows of each query with their facts, best first.

    Args:
        store: the index; refreshed when a newer generation has replaced rows.
        catalogue: the catalogue the index was committed with.
        queries: float32 (m, dimension), each of length 1.
        k: at least 1.
        first: earliest day, included.
        last: latest day, included.
        where: conditions (field, value) that a row's detail must all meet; see `TermMatch`.
        members_only: leave out the rows that stand for a whole day.

    Raises:
        VectorError: queries that cannot be compared.
        StoreCorruptError: the index cannot be trusted.
        RowsReplacedError: rows without facts remain after refreshing; `dayfold verify` tells why.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        store.refresh()
        only = _matching(catalogue, store.name, where)
        hits = store.search(
            queries, k, first=first, last=last, only=only, members_only=members_only
        )
        try:
            return [_with_facts(catalogue, store.name, of_query) for of_query in hits]
        except RowsReplacedError:
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _matching(
    catalogue: Catalogue, index: str, where: Sequence[tuple[str, str | float]]
) -> RowIds | None:
    if not where:
        return None
    sets = [catalogue.rows_where(index, field, value) for field, value in where]
    return reduce(np.intersect1d, sets)


def _with_facts(catalogue: Catalogue, index: str, hits: Sequence[Hit]) -> list[Found]:
    keys = [RowKey(hit.day, hit.revision, hit.row) for hit in hits]
    rows = catalogue.rows(index, keys)
    return [Found(hit, facts) for hit, facts in zip(hits, rows, strict=True)]
