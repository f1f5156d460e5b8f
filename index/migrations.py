"""The schema of the catalogue, step by step.

Each step runs in one transaction together with the new `user_version`: after a crash the catalogue
is at one version or the next, and says which. A step that has been released is never edited; a
change is a new step.
"""

import sqlite3
from dataclasses import dataclass

from index.errors import CatalogueNewerError


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    version: int
    name: str
    statements: tuple[str, ...]


EDITIONS_SINCE = 2
TERMS_SINCE = 3
UNRECORDED_SINCE = 4
"""A catalogue that an older program left, opened for reading only, lacks what came since."""

MIGRATIONS = (
    Migration(
        1,
        "chunks, their indices and the facts of rows",
        (
            """
            CREATE TABLE chunks (
                day TEXT PRIMARY KEY NOT NULL,
                revision INTEGER NOT NULL CHECK (revision >= 0),
                unsealed INTEGER NOT NULL CHECK (unsealed IN (0, 1)),
                events INTEGER NOT NULL,
                duplicates INTEGER NOT NULL,
                late INTEGER NOT NULL,
                first_ns INTEGER,
                last_ns INTEGER,
                bytes INTEGER NOT NULL,
                crc INTEGER NOT NULL
            ) STRICT, WITHOUT ROWID
            """,
            """
            CREATE TABLE chunk_indices (
                day TEXT NOT NULL REFERENCES chunks (day) ON DELETE CASCADE,
                index_name TEXT NOT NULL,
                state TEXT NOT NULL CHECK (state IN ('pending', 'committed', 'failed')),
                revision INTEGER,
                rows INTEGER NOT NULL,
                attempts INTEGER NOT NULL,
                next_retry_ns INTEGER,
                error TEXT,
                model TEXT,
                coverage_json TEXT NOT NULL,
                crc INTEGER NOT NULL,
                PRIMARY KEY (day, index_name)
            ) STRICT, WITHOUT ROWID
            """,
            """
            CREATE TABLE row_facts (
                index_name TEXT NOT NULL,
                day TEXT NOT NULL,
                revision INTEGER NOT NULL,
                row INTEGER NOT NULL,
                kind TEXT NOT NULL,
                label TEXT NOT NULL,
                weight INTEGER NOT NULL,
                first_ns INTEGER NOT NULL,
                last_ns INTEGER NOT NULL,
                detail TEXT NOT NULL,
                crc INTEGER NOT NULL,
                PRIMARY KEY (index_name, day, revision, row)
            ) STRICT, WITHOUT ROWID
            """,
            # The label of an event row is its event_id: stored once, found by this.
            "CREATE INDEX row_facts_event ON row_facts (label) WHERE kind = 'event'",
        ),
    ),
    Migration(
        EDITIONS_SINCE,
        "editions of an index, one for each model",
        (
            """
            CREATE TABLE editions (
                edition TEXT PRIMARY KEY NOT NULL,
                index_name TEXT NOT NULL,
                role TEXT NOT NULL CHECK (role IN ('serving', 'next', 'kept')),
                model_name TEXT,
                model_sha256 TEXT,
                crc INTEGER NOT NULL
            ) STRICT, WITHOUT ROWID
            """,
            """
            CREATE TABLE kept_days (
                day TEXT NOT NULL REFERENCES chunks (day) ON DELETE CASCADE,
                index_name TEXT NOT NULL,
                edition TEXT NOT NULL,
                crc INTEGER NOT NULL,
                PRIMARY KEY (day, index_name)
            ) STRICT, WITHOUT ROWID
            """,
        ),
    ),
    Migration(
        TERMS_SINCE,
        "which rows hold which value, for conditions",
        (
            # Empty at first: made from the facts, revision by revision, as days are committed.
            """
            CREATE TABLE row_terms (
                index_name TEXT NOT NULL,
                day TEXT NOT NULL,
                revision INTEGER NOT NULL,
                field TEXT NOT NULL,
                term TEXT NOT NULL,
                rows BLOB NOT NULL,
                crc INTEGER NOT NULL,
                PRIMARY KEY (index_name, day, revision, field, term)
            ) STRICT, WITHOUT ROWID
            """,
            """
            CREATE TABLE termed_revisions (
                index_name TEXT NOT NULL,
                day TEXT NOT NULL,
                revision INTEGER NOT NULL,
                terms INTEGER NOT NULL,
                crc INTEGER NOT NULL,
                PRIMARY KEY (index_name, day, revision)
            ) STRICT, WITHOUT ROWID
            """,
        ),
    ),
    Migration(
        UNRECORDED_SINCE,
        "no record of the steps, which nothing read and no checksum covered",
        ("DROP TABLE migrations",),
    ),
)


def schema_version(connection: sqlite3.Connection) -> int:
    """The version the catalogue is at; 0 for an empty file."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def wrong_schema(connection: sqlite3.Connection) -> list[str]:
    """Names of tables and indices whose definition in the file is not that of the steps it took.

    SQLite reads a table's definition without regard to the case of letters and to comments, so its own
    check does not see every flipped bit in there.
    """
    version = schema_version(connection)
    blank = sqlite3.connect(":memory:", isolation_level=None)
    try:
        if version:
            steps = tuple(step for step in MIGRATIONS if step.version <= version)
            migrate(blank, ":memory:", steps)
        expected, found = _definitions(blank), _definitions(connection)
    finally:
        blank.close()
    return sorted(name for name in expected | found if expected.get(name) != found.get(name))


def _definitions(connection: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
    rows = connection.execute(
        "SELECT name, type, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    )
    return {name: tuple(rest) for name, *rest in rows}


def refuse_newer(
    connection: sqlite3.Connection, path: str, migrations: tuple[Migration, ...] = MIGRATIONS
) -> int:
    """Give the version of the catalogue.

    Raises:
        CatalogueNewerError: it is later than the last of `migrations`.
    """
    version = schema_version(connection)
    known = migrations[-1].version
    if version > known:
        raise CatalogueNewerError(
            f"catalogue {path} has schema {version}, this program knows up to {known}; "
            "install the newer version again, or restore the catalogue from before it."
        )
    return version


def migrate(
    connection: sqlite3.Connection,
    path: str,
    migrations: tuple[Migration, ...] = MIGRATIONS,
) -> list[int]:
    """Bring the catalogue to the last of `migrations`. Gives the versions applied now.

    The connection must be in autocommit mode (`isolation_level=None`).

    Raises:
        CatalogueNewerError: it is later than this program.
        sqlite3.Error: a step failed; its transaction was rolled back.
    """
    applied = []
    refuse_newer(connection, path, migrations)
    for migration in migrations:
        if migration.version <= schema_version(connection):
            continue
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have taken the step while this one waited for the lock.
            if refuse_newer(connection, path, migrations) < migration.version:
                _take(connection, migration)
                applied.append(migration.version)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return applied


def _take(connection: sqlite3.Connection, migration: Migration) -> None:
    if migration.version < UNRECORDED_SINCE:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY NOT NULL, "
            "name TEXT NOT NULL, applied_ns INTEGER NOT NULL) STRICT"
        )
    for statement in migration.statements:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {migration.version:d}")
