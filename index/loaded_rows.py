"""The shards of one generation in memory: exactly while they are few, else as codes."""

from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import numpy as np

from index.approximate import ApproximateRows, RowDamagedError, Trained
from index.code_files import CodeList, expect_codes, read_codes, read_list, read_trained
from index.errors import StoreCorruptError
from index.exact_rows import RowIndex, Selection
from index.manifest import Manifest
from index.row_reader import RowReader
from index.shards import SHARD_FOLDER, ids_of, read_shard
from index.store import Hit, RowIds, Shard, Vectors, day_range, row_id, split_row_id

Answer = TypeVar("Answer")
# Files of codes that the disk reads while earlier ones are added: as fast as one large file.
READ_AHEAD = 8


class LoadedRows:
    """Holds the rows of the manifest it shows, each shard checked as it was read.

    A shard that fails is left out whole and named in `damaged`; the others are searched. Not safe
    for several threads; the store that owns it takes care of that.

    Args:
        folder: the folder of the index.
        make: the index in memory for a dimension, while rows are fewer than `approximate_from`.
        approximate_from: rows from which on codes are searched, if there are any.
    """

    def __init__(
        self, folder: Path, make: Callable[[int], RowIndex], approximate_from: int
    ) -> None:
        self._folder = folder
        self._make = make
        self._approximate_from = approximate_from
        self._manifest: Manifest | None = None
        self._rows: RowIndex | None = None
        self._reader: RowReader | None = None
        self._damaged: dict[date, StoreCorruptError] = {}

    @property
    def trained(self) -> Trained | None:
        """What the rows are searched by, unless they are searched exactly."""
        return self._rows.trained if isinstance(self._rows, ApproximateRows) else None

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
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._damaged = {}

    def show(self, manifest: Manifest) -> None:
        """Bring memory to `manifest`, reading only the shards it does not hold yet.

        What was damaged before is read again. After any other error than a damaged shard nothing
        is held: half of a generation is never searched unsaid.
        """
        listed = read_list(self._folder) if manifest.rows >= self._approximate_from else None
        known = self.trained.sha256 if self.trained else None
        if self._rows is not None and known != (listed.trained_sha256 if listed else None):
            self.forget()
        held = self._sound() if self._manifest else {}
        if self._rows is None:
            self._rows = self._made(manifest, listed)
        if self._reader is not None:
            self._reader.show(manifest)
        rows = self._rows
        self._manifest = None
        self._damaged = {}
        try:
            for day, shard in held.items():
                if manifest.shards.get(day) != shard:
                    rows.remove(*_id_range(shard))
            rows.reserve(manifest.rows)
            wanted = [shard for day, shard in manifest.shards.items() if held.get(day) != shard]
            self._add_all(rows, manifest, wanted, listed)
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
        selection = Selection(start, end, wanted, barred)
        found = self._believed(lambda: rows.search(queries, k, selection))
        return [
            [
                Hit(*split_row_id(identifier), score)
                for score, identifier in zip(scores.tolist(), ids.tolist(), strict=True)
            ]
            for scores, ids in found
        ]

    def vectors(self, ids: RowIds) -> Vectors:
        """Vectors by identifier; every one must be held.

        Raises:
            StoreCorruptError: one of them is not what it was.
        """
        rows = self._held()

        def read() -> Vectors:
            for day in self._damaged:
                if any(split_row_id(int(one))[0] == day for one in ids[:1]):
                    raise self._damaged[day]
            return rows.vectors(ids)

        return self._believed(read)

    def day_rows(self) -> tuple[list[date], Vectors]:
        """The days that can be trusted, oldest first, and row 0 of each."""
        rows = self._held()

        def read() -> tuple[list[date], Vectors]:
            return list(self._sound()), rows.vectors(self.day_row_ids())

        return self._believed(read)

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

    def _believed(self, ask: Callable[[], Answer]) -> Answer:
        """An answer from sound rows alone: a day whose row turns out damaged goes, and it is again.

        Only rows that are read as they are asked for, the approximate ones, can turn out so.
        """
        while True:
            try:
                return ask()
            except (RowDamagedError, StoreCorruptError) as error:
                day = error.day
                manifest = self._manifest
                if day is None or manifest is None or day in self._damaged:
                    raise
                shard = manifest.shards[day]
                self._held().remove(*_id_range(shard))
                file = f"{SHARD_FOLDER}/{shard.file}"
                self._damaged[day] = (
                    error
                    if isinstance(error, StoreCorruptError)
                    else StoreCorruptError(manifest.index, file, "fails its checksum", day)
                )

    def _made(self, manifest: Manifest, listed: CodeList | None) -> RowIndex:
        trained = read_trained(self._folder, listed) if listed else None
        if trained is None:
            return self._make(manifest.dimension)
        self._reader = RowReader(self._folder, manifest)
        return ApproximateRows(trained, self._reader)

    def _add_all(
        self, rows: RowIndex, manifest: Manifest, wanted: list[Shard], listed: CodeList | None
    ) -> None:
        for place, shard in enumerate(wanted):
            if listed and place + READ_AHEAD < len(wanted):
                expect_codes(self._folder, listed, wanted[place + READ_AHEAD])
            try:
                self._add(rows, manifest, shard, listed)
            except StoreCorruptError as error:
                # Blocks that came before the fault showed are believed no more than it.
                rows.remove(*_id_range(shard))
                self._damaged[shard.day] = error

    def _add(
        self, rows: RowIndex, manifest: Manifest, shard: Shard, listed: CodeList | None
    ) -> None:
        ids = ids_of(shard)
        if isinstance(rows, ApproximateRows) and self._reader and listed:
            # The vectors are read, and held against their checksums, as answers need them.
            self._reader.check_size(shard)
            found = read_codes(self._folder, listed, shard, rows.width)
            if found is not None:
                rows.add_codes(ids, *found)
                return
        start = 0
        blocks = read_shard(self._folder, shard, index=manifest.index, dimension=manifest.dimension)
        for block in blocks:
            rows.add(ids[start : start + len(block)], block)
            start += len(block)


def _id_range(shard: Shard) -> tuple[int, int]:
    base = row_id(shard.day, shard.revision, 0)
    return base, base + shard.rows
