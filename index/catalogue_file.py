"""The SQLite file of the catalogue: opening it, transactions, and its errors in our words."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from index.errors import (
    CatalogueCorruptError,
    CatalogueError,
    CatalogueWriteError,
    StoreMissingError,
)
from index.migrations import migrate, refuse_newer, schema_version, wrong_schema

BUSY_TIMEOUT_S = 20.0
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_UNWRITABLE = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
}


class CatalogueFile:
    """One connection, used by one thread at a time under its own lock.

    Writing is WAL with ``synchronous=FULL``: what a transaction committed survives a power cut.
    Readers never wait for the writer, in this process or another.
    """

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
    ) -> None:
        self.path = path
        self.read_only = read_only
        self._lock = threading.RLock()
        with self._in_our_words():
            self._connection = self._open(busy_timeout_s)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees one state of the catalogue throughout."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that becomes durable at the end of the block, or leaves nothing.

        Raises:
            CatalogueWriteError: opened for reading only, busy for too long, disk full.
        """
        if self.read_only:
            raise CatalogueWriteError(f"catalogue {self.path} was opened for reading only.")
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    def version(self) -> tuple[int, int]:
        """Differs from an earlier one if anybody, this object included, wrote meanwhile."""
        with self._lock, self._in_our_words():
            others = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
            return others, self._connection.total_changes

    def check(self) -> list[str]:
        """What SQLite's own integrity check finds wrong, and definitions that changed; else empty."""
        try:
            with self._lock, self._in_our_words():
                found = [row[0] for row in self._connection.execute("PRAGMA integrity_check(20)")]
                altered = wrong_schema(self._connection)
        except CatalogueCorruptError as error:
            return [str(error)]
        lines = [] if found == ["ok"] else [str(line) for line in found]
        return lines + [f"the definition of {name} is not as it was made" for name in altered]

    def copy_to(self, target: Path) -> None:
        """Write the catalogue, as it is at one moment, to a new file without a journal beside it.

        Nobody waits for this. What came before in `target` is replaced; it is not synced.
        """
        with self._lock, self._in_our_words():
            os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            copy = sqlite3.connect(target, isolation_level=None)
            try:
                # In one step: a copy in several begins anew whenever another process writes.
                self._connection.backup(copy, pages=-1)
                copy.execute("PRAGMA journal_mode = DELETE")
            finally:
                copy.close()

    def overwrite_deleted(self) -> None:
        """From now on what is deleted is overwritten with zeros."""
        with self._lock, self._in_our_words():
            self._connection.execute("PRAGMA secure_delete = ON")

    def empty_journal(self) -> None:
        """Bring all of SQLite's own journal into the file, and leave it empty."""
        with self._lock, self._in_our_words():
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close the connection. May be called twice."""
        with self._lock:
            self._connection.close()

    def _open(self, busy_timeout_s: float) -> sqlite3.Connection:
        if not self.read_only:
            # SQLite gives its journal and shared memory the mode of the file itself.
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        elif not self.path.exists():
            raise StoreMissingError(
                f"there is no catalogue {self.path} yet; it is made when the service starts."
            )
        mode = "ro" if self.read_only else "rw"
        return sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )

    def _prepare(self) -> None:
        connection = self._connection
        # Before anything else: a newer catalogue is left exactly as it is.
        refuse_newer(connection, str(self.path))
        connection.execute("PRAGMA foreign_keys = ON")
        if self.read_only:
            connection.execute("PRAGMA query_only = ON")
            if schema_version(connection) == 0:
                raise StoreMissingError(
                    f"catalogue {self.path} is empty; it is filled when the service starts."
                )
            return
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        migrate(connection, str(self.path))

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock, self._in_our_words():
            self._connection.execute(begin)
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite may have rolled back by itself, for example on a full disk.
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _in_our_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CatalogueWriteError(
                f"catalogue {self.path} cannot be opened: {error.strerror or error}."
            ) from error
        except UnicodeDecodeError as error:
            # SQLite quotes a damaged schema in its message, and Python cannot read that.
            raise CatalogueCorruptError(
                f"catalogue {self.path} is damaged (its schema is no text). "
                "Run `dayfold repair`: it is rebuilt from the journals."
            ) from error
        except OverflowError as error:
            raise CatalogueError(f"catalogue {self.path}: a number beyond 64 bits.") from error
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code in _CORRUPT or "decode to UTF-8" in str(error):
                raise CatalogueCorruptError(
                    f"catalogue {self.path} is damaged ({error}). "
                    "Run `dayfold repair`: it is rebuilt from the journals."
                ) from error
            if code in _BUSY:
                raise CatalogueWriteError(
                    f"catalogue {self.path} is held by another writer ({error}); try again."
                ) from error
            if code in _UNWRITABLE:
                raise CatalogueWriteError(
                    f"catalogue {self.path} cannot be written ({error}); "
                    "free space or repair the disk. Nothing that was committed is lost."
                ) from error
            raise CatalogueError(f"catalogue {self.path}: {error}.") from error
