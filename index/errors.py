"""The error tree of the indices and the catalogue.

::

    StoreError
    ├── StoreMissingError       no index there yet (reading only)
    ├── StoreLockedError        another process writes this index
    ├── StoreCorruptError       a file that fails its checksum, is missing or cannot be read
    ├── StoreWriteError         a write, fsync or rename failed; nothing of it is visible
    ├── VectorError             rows or queries that cannot be compared
    ├── ModelMismatchError      rows of two models would meet in one index
    ├── RevisionError           an older revision than the one held
    ├── DayMissingError         the index holds no rows of that day
    └── CatalogueError          the catalogue refuses, or cannot be used
        ├── CatalogueNewerError     written by a newer version
        ├── CatalogueCorruptError   damaged file, or a record that fails its checksum
        ├── CatalogueWriteError     full disk, failed write, or busy for too long
        └── RowsReplacedError       facts asked for by a key that a newer revision has replaced

Every message names the thing, its value and the remedy.
"""

from datetime import date


class StoreError(Exception):
    """Root of every error that this package raises on purpose."""


class StoreMissingError(StoreError):
    """There is no index in that folder yet. It is made by the first writable open."""


class StoreLockedError(StoreError):
    """Another process has this index open for writing."""


class StoreCorruptError(StoreError):
    """A file of an index is damaged or missing. Never an empty index.

    Attributes:
        index: name of the index.
        day: the day whose shard is hurt; None when the manifest itself is.
        file: the file, relative to the folder of the index.
    """

    def __init__(self, index: str, file: str, detail: str, day: date | None = None) -> None:
        self.index = index
        self.day = day
        self.file = file
        self.detail = detail
        of = f" (day {day})" if day else ""
        super().__init__(
            f"index {index}: {file}{of} {detail}. Run `dayfold repair`: it is rebuilt from the journal."
        )


class StoreWriteError(StoreError):
    """A file could not be made durable. What was visible before still is, unchanged."""


class VectorError(StoreError):
    """Vectors of the wrong shape or type, not finite or not normalised."""


class ModelMismatchError(StoreError):
    """The index was built with another model, or another dimension."""


class RevisionError(StoreError):
    """The index holds a later revision of the day, or the revision cannot be encoded."""


class DayMissingError(StoreError):
    """The index holds no rows of that day, or not that row."""


class CatalogueError(StoreError):
    """The catalogue cannot do what was asked."""


class CatalogueNewerError(CatalogueError):
    """The catalogue was written by a newer version of the program."""


class CatalogueCorruptError(CatalogueError):
    """The catalogue is damaged: SQLite says so, or a record fails its checksum."""


class CatalogueWriteError(CatalogueError):
    """SQLite could not write: the disk is full, the write failed or another writer held on."""


class RowsReplacedError(CatalogueError):
    """Facts were asked for by the key of a revision that has been replaced.

    The remedy is to refresh the index and search again.
    """
