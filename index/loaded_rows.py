"""The shards of one generation in memory."""

from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from types import MappingProxyType

import numpy as np

from index.errors import StoreCorruptError
from index.exact_rows import RowIndex, Selection
from index.manifest import Manifest
from index.shards import ids_of, read_shard
from index.store import Hit, RowIds, Shard, Vectors, day_range, row_id, split_row_id


class LoadedRows:
    """Holds the rows of the manifest it shows, each shard checked as it was read.

    A shard that fails is left out whole and named in `damaged`; the others are searched. Not safe for several threads; the store that owns it takes care of that.
    """

    def __init__(self, folder: Path, make: Callable[[int], RowIndex]) -> None:
        self._folder = folder
        self._make = make
        self._manifest: Manifest | None = None
        self._rows: RowIndex | None = None
        self._damaged: dict[date, StoreCorruptError] = {}

    @property
    def damaged(self) -> Mapping[date, StoreCorruptError]:
        """The days of the shown generation that cannot be trusted, and why."""
        return MappingProxyType(self._damaged)

    @property
    def loaded(self) -> bool:
        """Whether anything is in memory."""
        return self._manifest is not None

    def shows(self, manifest: Manifest) -> bool:
        """Whether memory holds the rows of this generation."""
        return self._manifest is not None and self._manifest.generation == manifest.generation

    def forget(self) -> None:
        """Give the memory back."""
        self._manifest = None
        self._rows = None
        self._damaged = {}

    def show(self, manifest: Manifest) -> None:
        """Bring memory to `manifest`, reading only the shards it does not hold yet.

        What was damaged before is read again. After any other error than a damaged shard nothing
        is held: half of a generation is never searched unsaid.
        """
        held = self._sound() if self._manifest else {}
        if self._rows is None:
            self._rows = self._make(manifest.dimension)
        rows = self._rows
        self._manifest = None
        self._damaged = {}
        try:
            for day, shard in held.items():
                if manifest.shards.get(day) != shard:
                    rows.remove(*_id_range(shard))
            rows.reserve(manifest.rows)
            for day, shard in manifest.shards.items():
                if held.get(day) != shard:
                    try:
                        self._add(rows, manifest, shard)
                    except StoreCorruptError as error:
                        # Blocks that came before the fault showed are believed no more than it.
                        rows.remove(*_id_range(shard))
                        self._damaged[day] = error
        except BaseException:
            self.forget()
            raise
        self._manifest = manifest

    def search(
        self,
        queries: Vectors,
        k: int,
        *,
        first: date | None,
        last: date | None,
        only: RowIds | None,
        members_only: bool,
    ) -> list[list[Hit]]:
        """Hits of each query, best first, ties by day and row."""
        rows = self._held()
        start, end = day_range(first, last)
        barred = self.day_row_ids() if members_only else None
        wanted = None if only is None else np.asarray(only, dtype=np.int64)
        return [
            [
                Hit(*split_row_id(identifier), score)
                for score, identifier in zip(scores.tolist(), ids.tolist(), strict=True)
            ]
            for scores, ids in rows.search(queries, k, Selection(start, end, wanted, barred))
        ]

    def vectors(self, ids: RowIds) -> Vectors:
        """Vectors by identifier; every one must be held."""
        return self._held().vectors(ids)

    def day_row_ids(self) -> RowIds:
        """Identifiers of row 0 of every day that can be trusted, oldest first."""
        shards = self._sound().values()
        return np.array([row_id(shard.day, shard.revision, 0) for shard in shards], dtype=np.int64)

    def _sound(self) -> dict[date, Shard]:
        shards = self._manifest.shards if self._manifest else {}
        return {day: shard for day, shard in shards.items() if day not in self._damaged}

    def _held(self) -> RowIndex:
        if self._rows is None or self._manifest is None:
            raise AssertionError("searched before a generation was shown")
        return self._rows

    def _add(self, rows: RowIndex, manifest: Manifest, shard: Shard) -> None:
        ids = ids_of(shard)
        start = 0
        blocks = read_shard(self._folder, shard, index=manifest.index, dimension=manifest.dimension)
        for block in blocks:
            rows.add(ids[start : start + len(block)], block)
            start += len(block)


def _id_range(shard: Shard) -> tuple[int, int]:
    base = row_id(shard.day, shard.revision, 0)
    return base, base + shard.rows
