import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from index.catalogue import Catalogue
from index.errors import CatalogueNewerError
from index.migrations import MIGRATIONS, Migration, migrate, schema_version
from tests.index_samples import TUESDAY, DayCounts

KNOWN = len(MIGRATIONS)
ADDED = Migration(
    KNOWN + 1,
    "a further table",
    ("CREATE TABLE further (x INTEGER)", "INSERT INTO further VALUES (1)"),
)
BROKEN = Migration(
    KNOWN + 1,
    "half of it fails",
    ("CREATE TABLE further (x INTEGER)", "INSERT INTO absent VALUES (1)"),
)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(tmp_path / "c.sqlite", isolation_level=None)
    yield opened
    opened.close()


def test_every_step_is_taken_once_and_in_order(connection: sqlite3.Connection) -> None:
    assert migrate(connection, "c", (*MIGRATIONS, ADDED)) == list(range(1, KNOWN + 2))
    assert schema_version(connection) == KNOWN + 1


def test_migrating_again_does_nothing(connection: sqlite3.Connection) -> None:
    migrate(connection, "c")
    assert migrate(connection, "c") == []
    assert schema_version(connection) == KNOWN


def test_a_catalogue_in_use_is_brought_forward_with_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    with Catalogue.open(path) as catalogue:
        catalogue.seal_chunk(TUESDAY, 1, DayCounts())
    connection = sqlite3.connect(path, isolation_level=None)
    assert migrate(connection, "c", (*MIGRATIONS, ADDED)) == [KNOWN + 1]
    assert connection.execute("SELECT day FROM chunks").fetchall() == [("2017-07-04",)]
    assert connection.execute("SELECT x FROM further").fetchall() == [(1,)]
    connection.close()


def test_a_step_that_fails_leaves_nothing_of_its_changes(
    connection: sqlite3.Connection,
) -> None:
    with pytest.raises(sqlite3.OperationalError, match="absent"):
        migrate(connection, "c", (*MIGRATIONS, BROKEN))
    assert schema_version(connection) == KNOWN
    tables = connection.execute("SELECT name FROM sqlite_master WHERE name = 'further'")
    assert tables.fetchall() == []
    assert migrate(connection, "c", (*MIGRATIONS, ADDED)) == [KNOWN + 1]


def test_a_catalogue_of_a_newer_program_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    connection = sqlite3.connect(path, isolation_level=None)
    migrate(connection, "c", (*MIGRATIONS, ADDED))
    connection.close()
    before = path.read_bytes()
    for read_only in (True, False):
        with pytest.raises(
            CatalogueNewerError, match=f"schema {KNOWN + 1}, this program knows up to {KNOWN}"
        ):
            Catalogue.open(path, read_only=read_only)
    assert path.read_bytes() == before


def test_steps_are_numbered_from_one_without_a_gap() -> None:
    assert [step.version for step in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))


def test_every_altered_letter_of_a_definition_is_found(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"
    with Catalogue.open(path) as catalogue:
        assert catalogue.check(deep=True) == []
    sound = path.read_bytes()
    for word in (b"coverage_json TEXT", b"termed_revisions (", b"ON DELETE CASCADE"):
        altered = bytearray(sound)
        # Another case of the same letter: to SQLite the definition is the same.
        altered[sound.index(word)] ^= 0x20
        path.write_bytes(altered)
        with Catalogue.open(path) as catalogue:
            ((_, detail),) = catalogue.check(deep=False)
        assert "is not as it was made" in detail
