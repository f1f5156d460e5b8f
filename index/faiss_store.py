"""A `VectorStore` of immutable FAISS files by day, under a manifest.

Layout below ``index/<name>/``::

    CURRENT                          the generation in force, and the checksum of its manifest
    manifest-00000012.json           what that generation holds
    manifest-00000011.json           the one before, kept with its shards until the next commit
    shards/2017-07-04-r0001.faiss    one revision of one day, never changed once named
    writer.lock                      held by the one process that may write

Order of a commit: the shard is durable, the manifest is durable, `CURRENT` is replaced, what
neither of the last two generations names is removed. A crash at any point leaves the old
generation or the new one; leftovers go at the next writable open.
"""

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Self

import numpy as np

from index.durable_file import DurableFile, sync_folder
from index.errors import (
    DayMissingError,
    ModelMismatchError,
    RevisionError,
    StoreCorruptError,
    StoreMissingError,
    StoreWriteError,
)
from index.exact_rows import ExactRows, RowIndex
from index.loaded_rows import LoadedRows
from index.manifest import (
    Manifest,
    read_current,
    read_manifest,
    write_manifest,
)
from index.shards import SHARD_FOLDER, shard_name, shard_size, write_shard
from index.store import (
    Fault,
    Hit,
    ModelIdentity,
    ModelLike,
    RowIds,
    Shard,
    Vectors,
    VectorStore,
    row_id,
)
from index.store_folder import file_stamp, previous_files, remove_leftovers, take_lock
from index.vectors import check_vectors
from index.verify_files import verify_files

_STALE_READS = 5
APPROXIMATE_FROM = 20_000
"""Where a search of every row takes 6 ms of a core, on the machines that this is for."""


class FaissStore(VectorStore):
    """Made by `FaissStore.open`. Vectors are read at the first search, or by `load`."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        lock: int | None,
        rows: Callable[[int], RowIndex],
        approximate_from: int = APPROXIMATE_FROM,
    ) -> None:
        self._folder = folder
        self._manifest = manifest
        self._lock = lock
        self._rows = LoadedRows(folder, rows, approximate_from)
        self._seen_damaged: dict[date, tuple[int, int] | None] = {}
        # Two locks, because embedding may feed a commit for minutes while searches go on.
        self._writing = threading.RLock()
        self._reading = threading.RLock()

    @classmethod
    def open(
        cls,
        root: Path,
        name: str,
        *,
        dimension: int | None = None,
        model: ModelLike | None = None,
        writable: bool = False,
        rebuild: bool = False,
        rows: Callable[[int], RowIndex] = ExactRows,
        approximate_from: int = APPROXIMATE_FROM,
    ) -> Self:
        """Open the index `name` below `root`.

        Args:
            root: folder of all indices.
            name: name of the index, also of its folder.
            dimension: length of a vector; needed to write, otherwise compared if given.
            model: the model of rows and queries; needed to write, otherwise compared if given.
            writable: take the right to write, make the index if there is none, tidy up.
            rebuild: when the index is of another model or dimension, begin an empty generation
                with this one instead of refusing. Every day is then to be committed anew.
            rows: makes the index in memory for a dimension.
            approximate_from: rows from which on `index.approximate` is used, if it was trained.

        Raises:
            StoreMissingError: reading, and there is none.
            StoreLockedError: writing, and another process does.
            StoreCorruptError: manifest or `CURRENT` is damaged.
            ModelMismatchError: built with another model or dimension.
            StoreWriteError: the folder cannot be written.
        """
        folder = root / name
        if not writable:
            manifest = read_manifest(folder, name)
            _check_identity(manifest, dimension, model)
            return cls(folder, manifest, None, rows, approximate_from)
        if dimension is None or model is None:
            raise ModelMismatchError(f"index {name}: writing needs its dimension and its model.")
        lock = take_lock(folder)
        try:
            manifest = _open_to_write(folder, name, dimension, model, rebuild=rebuild)
            remove_leftovers(folder, manifest)
        except BaseException:
            os.close(lock)
            raise
        return cls(folder, manifest, lock, rows, approximate_from)

    @property
    def name(self) -> str:
        """Name of the index."""
        return self._manifest.index

    @property
    def dimension(self) -> int:
        """Length of each vector."""
        return self._manifest.dimension

    @property
    def model(self) -> ModelIdentity:
        """The model that made every row of this index."""
        return self._manifest.model

    @property
    def generation(self) -> int:
        """The generation this object shows."""
        return self._manifest.generation

    @property
    def folder(self) -> Path:
        """The folder of the index."""
        return self._folder

    def commit(self, day: date, revision: int, blocks: Iterable[Vectors]) -> int:
        """See `VectorStore.commit`. One block is in memory at a time."""
        row_id(day, revision, 0)
        with self._writing:
            manifest = self._writable_manifest()
            held = manifest.shards.get(day)
            if held and held.revision > revision:
                raise RevisionError(
                    f"index {self.name} holds revision {held.revision} of {day}; "
                    f"revision {revision} is older and was not committed."
                )
            plain = shard_name(day, revision)
            with DurableFile(self._folder / SHARD_FOLDER / plain, patched=True) as file:
                rows = write_shard(
                    file, blocks, day=day, revision=revision, dimension=self.dimension
                )
                digest = file.sha256()
                if held and (held.revision, held.sha256) == (revision, digest):
                    # The same bytes again: at most this heals a file that was damaged.
                    file.publish(held.file)
                    return rows
                name = plain
                if plain in manifest.files() | previous_files(self._folder, manifest):
                    name = shard_name(day, revision, manifest.generation + 1)
                file.publish(name)
            shard = Shard(day, revision, rows, name, shard_size(self.dimension, rows), digest)
            self._publish(manifest, {**manifest.shards, day: shard})
            return rows

    def drop(self, day: date) -> None:
        """See `VectorStore.drop`."""
        with self._writing:
            manifest = self._writable_manifest()
            if day in manifest.shards:
                left = {held: shard for held, shard in manifest.shards.items() if held != day}
                self._publish(manifest, left)

    def shards(self) -> Mapping[date, Shard]:
        """See `VectorStore.shards`."""
        return self._manifest.shards

    def load(self) -> None:
        """Read every shard now, so that the first search need not.

        Raises:
            StoreCorruptError: a shard cannot be trusted; the error names its day.
        """
        with self._reading:
            self._loaded()

    def search(
        self,
        queries: Vectors,
        k: int,
        *,
        first: date | None = None,
        last: date | None = None,
        only: RowIds | None = None,
        members_only: bool = False,
    ) -> list[list[Hit]]:
        """See `VectorStore.search`. Searches of several threads take turns."""
        if k < 1:
            raise ValueError(f"k is {k}; at least 1 is needed.")
        checked = check_vectors(queries, self.dimension, f"index {self.name}: query")
        with self._reading:
            return self._loaded().search(
                checked, k, first=first, last=last, only=only, members_only=members_only
            )

    def vectors(self, day: date, rows: Sequence[int] | None = None) -> Vectors:
        """See `VectorStore.vectors`."""
        with self._reading:
            loaded = self._loaded()
            shard = self._manifest.shards.get(day)
            if shard is None:
                raise DayMissingError(f"index {self.name} holds no rows of {day}.")
            wanted = range(shard.rows) if rows is None else rows
            bad = next((row for row in wanted if not 0 <= row < shard.rows), None)
            if bad is not None:
                raise DayMissingError(
                    f"index {self.name} holds rows 0 to {shard.rows - 1} of {day}, not row {bad}."
                )
            if day in loaded.damaged:
                raise loaded.damaged[day]
            base = row_id(day, shard.revision, 0)
            return loaded.vectors(base + np.asarray(wanted, dtype=np.int64))

    def day_rows(self) -> tuple[list[date], Vectors]:
        """See `VectorStore.day_rows`."""
        with self._reading:
            return self._loaded().day_rows()

    def damaged(self) -> Mapping[date, StoreCorruptError]:
        """See `VectorStore.damaged`."""
        with self._reading:
            return MappingProxyType(dict(self._loaded().damaged))

    def verify(self, *, deep: bool) -> list[Fault]:
        """See `VectorStore.verify`."""
        return verify_files(self._folder, self.name, deep=deep).faults

    def refresh(self) -> bool:
        """See `VectorStore.refresh`. On an error the generation shown stays what it was.

        Raises:
            StoreCorruptError: the newer generation cannot be trusted.
            ModelMismatchError: it was built with another model; open the index anew.
        """
        with self._reading:
            if read_current(self._folder, self.name)[0] == self._manifest.generation:
                if self._rows.damaged and self._damaged_files() != self._seen_damaged:
                    # A repair puts the same bytes back under the same name and generation.
                    self._load(self._manifest)
                return False
            newer = read_manifest(self._folder, self.name)
            _check_identity(newer, self.dimension, self.model)
            if self._rows.loaded:
                self._load(newer)
            else:
                self._manifest = newer
            return True

    def close(self) -> None:
        """See `VectorStore.close`."""
        with self._writing, self._reading:
            self._rows.forget()
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def search_facts(self) -> dict[str, int | float | str]:
        """How this index is searched: rows, `exact` or `approximate`, and the measured recall."""
        with self._reading:
            trained = self._loaded().trained
            rows = self._manifest.rows
            if trained is None:
                return {"rows": rows, "search": "exact", "recall_at_10": 1.0}
            return {
                "rows": rows,
                "search": "approximate",
                "recall_at_10": trained.recall_at_10,
                "measured_at_rows": trained.measured_rows,
            }

    def _loaded(self) -> LoadedRows:
        if not self._rows.shows(self._manifest):
            self._load(self._manifest)
        return self._rows

    def _load(self, manifest: Manifest) -> None:
        """Bring memory to `manifest`, or to a newer one if its files have gone meanwhile."""
        for _ in range(_STALE_READS):
            self._rows.show(manifest)
            newer = read_manifest(self._folder, self.name) if self._rows.damaged else manifest
            if newer.generation == manifest.generation:
                self._manifest = manifest
                self._seen_damaged = self._damaged_files()
                return
            _check_identity(newer, self.dimension, self.model)
            manifest = newer
        raise StoreMissingError(
            f"index {self.name} changed {_STALE_READS} times while it was read; try again."
        )

    def _damaged_files(self) -> dict[date, tuple[int, int] | None]:
        """Which file each damaged day has now, so that another one in its place is noticed."""
        return {
            day: file_stamp(self._folder / SHARD_FOLDER / self._manifest.shards[day].file)
            for day in self._rows.damaged
            if day in self._manifest.shards
        }

    def _writable_manifest(self) -> Manifest:
        if self._lock is None:
            raise StoreWriteError(f"index {self.name} was opened for reading only, or is closed.")
        # Read anew: after a failed commit only the disk knows which generation is in force.
        return read_manifest(self._folder, self.name)

    def _publish(self, manifest: Manifest, shards: Mapping[date, Shard]) -> None:
        following = manifest.following(shards)
        write_manifest(self._folder, following)
        with self._reading:
            self._manifest = following
        remove_leftovers(self._folder, following)


def _open_to_write(
    folder: Path, name: str, dimension: int, model: ModelLike, *, rebuild: bool
) -> Manifest:
    identity = ModelIdentity(model.name, model.sha256)
    try:
        manifest = read_manifest(folder, name)
    except StoreMissingError:
        manifest = Manifest(name, 1, dimension, identity)
        write_manifest(folder, manifest)
        sync_folder(folder.parent)
        sync_folder(folder.parent.parent)
        return manifest
    try:
        _check_identity(manifest, dimension, model)
    except ModelMismatchError:
        if not rebuild:
            raise
        empty = MappingProxyType[date, Shard]({})
        manifest = Manifest(name, manifest.generation + 1, dimension, identity, empty)
        write_manifest(folder, manifest)
    return manifest


def _check_identity(manifest: Manifest, dimension: int | None, model: ModelLike | None) -> None:
    if dimension is not None and dimension != manifest.dimension:
        raise ModelMismatchError(
            f"index {manifest.index} has vectors of {manifest.dimension}, not {dimension}; "
            "rebuild it to change that."
        )
    if model is not None and model.sha256 != manifest.model.sha256:
        raise ModelMismatchError(
            f"index {manifest.index} was built with {manifest.model.name} "
            f"({manifest.model.sha256[:12]}), not with {model.name} ({model.sha256[:12]}); "
            "vectors of two models cannot be compared. Rebuild the index, or use that model."
        )
