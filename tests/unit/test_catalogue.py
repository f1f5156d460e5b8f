import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from index.catalogue import Catalogue
from index.chunks import INDEX_NAMES, Due
from index.errors import (
    CatalogueCorruptError,
    CatalogueError,
    CatalogueWriteError,
    StoreMissingError,
)
from tests.index_samples import COVERAGE, MONDAY, NOON_NS, TUESDAY, DayCounts, facts_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "catalogue.sqlite"


@pytest.fixture
def catalogue(path: Path) -> Iterator[Catalogue]:
    with Catalogue.open(path) as opened:
        yield opened


def commit(catalogue: Catalogue, index: str, revision: int = 1, rows: int = 3) -> None:
    catalogue.stage_rows(index, TUESDAY, revision, 0, facts_of(rows))
    catalogue.commit_index(
        TUESDAY, index, revision=revision, rows=rows, model="a1", coverage=COVERAGE
    )


def test_a_noted_day_is_open_with_the_counts_of_the_journal(catalogue: Catalogue) -> None:
    catalogue.note_chunk(TUESDAY, DayCounts())
    chunk = catalogue.chunk(TUESDAY)
    assert chunk is not None
    assert (chunk.state, chunk.revision, chunk.unsealed) == ("open", 0, True)
    assert (chunk.events, chunk.duplicates, chunk.late, chunk.size) == (7, 2, 1, 4096)
    assert (chunk.first_ns, chunk.last_ns) == (NOON_NS, NOON_NS + 1_500_000_000)
    assert [state.state for state in chunk.indices.values()] == ["pending"] * 3


def test_noting_again_replaces_the_counts(catalogue: Catalogue) -> None:
    catalogue.note_chunk(TUESDAY, DayCounts(events=0, first_ns=None, last_ns=None))
    catalogue.note_chunk(TUESDAY, DayCounts(events=9))
    chunk = catalogue.chunk(TUESDAY)
    assert chunk is not None
    assert chunk.events == 9


def test_a_sealed_day_is_pending_in_every_index(catalogue: Catalogue) -> None:
    catalogue.note_chunk(TUESDAY, DayCounts())
    catalogue.seal_chunk(TUESDAY, 1, DayCounts())
    chunk = catalogue.chunk(TUESDAY)
    assert chunk is not None
    assert (chunk.state, chunk.revision) == ("closing", 1)
    assert catalogue.due(0) == [Due(TUESDAY, name, 1, 0) for name in INDEX_NAMES]


def test_a_day_is_committed_once_all_three_are(catalogue: Catalogue) -> None:
    catalogue.seal_chunk(TUESDAY, 1, DayCounts())
    states = []
    for name in INDEX_NAMES:
        commit(catalogue, name)
        (chunk,) = catalogue.chunks()
        states.append(chunk.state)
    assert states == ["closing", "closing", "committed"]
    assert chunk.indices["attack"].attempts == 1
    assert chunk.indices["attack"].coverage == COVERAGE
    assert catalogue.due(NOON_NS) == []


def test_a_late_event_opens_the_day_and_the_next_seal_makes_all_pending(
    catalogue: Catalogue,
) -> None:
    catalogue.seal_chunk(TUESDAY, 1, DayCounts())
    for name in INDEX_NAMES:
        commit(catalogue, name)
    catalogue.note_chunk(TUESDAY, DayCounts(events=8))
    chunk = catalogue.chunk(TUESDAY)
    assert chunk is not None
    assert (chunk.state, chunk.revision) == ("open", 1)
    catalogue.seal_chunk(TUESDAY, 2, DayCounts(events=8))
    chunk = catalogue.chunk(TUESDAY)
    assert chunk is not None
    assert chunk.state == "closing"
    state = chunk.indices["semantic"]
    assert (state.state, state.revision, state.rows, state.attempts) == ("pending", 1, 3, 0)


def test_duplicates_alone_do_not_open_a_day_again(catalogue: Catalogue) -> None:
    catalogue.seal_chunk(TUESDAY, 1, DayCounts())
    catalogue.note_chunk(TUESDAY, DayCounts(duplicates=99), unsealed=False)
    chunk = catalogue.chunk(TUESDAY)
    assert chunk is not None
    assert (chunk.state, chunk.duplicates) == ("closing", 99)


def test_a_day_never_sealed_stays_open(catalogue: Catalogue) -> None:
    catalogue.note_chunk(TUESDAY, DayCounts(), unsealed=False)
    chunk = catalogue.chunk(TUESDAY)
    assert chunk is not None
    assert chunk.state == "open"


def test_sealing_the_same_revision_again_undoes_no_commit(catalogue: Catalogue) -> None:
    catalogue.seal_chunk(TUESDAY, 1, DayCounts())
    for name in INDEX_NAMES:
        commit(catalogue, name)
    catalogue.seal_chunk(TUESDAY, 1, DayCounts())
    chunk = catalogue.chunk(TUESDAY)
    assert chunk is not None
    assert chunk.state == "committed"


@pytest.mark.parametrize("revision", [0, 1])
def test_a_seal_cannot_go_back(catalogue: Catalogue, revision: int) -> None:
    catalogue.seal_chunk(TUESDAY, 2, DayCounts())
    with pytest.raises(CatalogueError, match=f"{revision}"):
        catalogue.seal_chunk(TUESDAY, revision, DayCounts())


def test_a_failed_index_is_due_when_its_time_has_come(catalogue: Catalogue) -> None:
    catalogue.seal_chunk(TUESDAY, 1, DayCounts())
    commit(catalogue, "timeseries")
    commit(catalogue, "semantic")
    catalogue.mark_failed(TUESDAY, "attack", error="no memory", attempts=2, next_retry_ns=NOON_NS)
    chunk = catalogue.chunk(TUESDAY)
    assert chunk is not None
    assert chunk.state == "degraded"
    assert chunk.indices["attack"].error == "no memory"
    assert catalogue.due(NOON_NS - 1) == []
    assert catalogue.due(NOON_NS) == [Due(TUESDAY, "attack", 1, 2)]
    commit(catalogue, "attack")
    chunk = catalogue.chunk(TUESDAY)
    assert chunk is not None
    assert chunk.state == "committed"
    assert chunk.indices["attack"].attempts == 3
    assert chunk.indices["attack"].error is None


def test_a_retry_that_a_clock_of_the_future_put_off_is_due(catalogue: Catalogue) -> None:
    catalogue.seal_chunk(TUESDAY, 1, DayCounts())
    for name in INDEX_NAMES:
        catalogue.mark_failed(
            TUESDAY, name, error="no memory", attempts=2, next_retry_ns=NOON_NS + 3 * 10**14
        )
    assert catalogue.due(NOON_NS, longest_wait_ns=3 * 10**14) == []
    assert len(catalogue.due(NOON_NS, longest_wait_ns=3 * 10**14 - 1)) == 3


def test_a_failed_index_without_a_time_waits_for_a_person(catalogue: Catalogue) -> None:
    catalogue.seal_chunk(TUESDAY, 1, DayCounts())
    for name in INDEX_NAMES:
        catalogue.mark_failed(TUESDAY, name, error="bad model", attempts=1, next_retry_ns=None)
    assert catalogue.due(1 << 62) == []
    catalogue.mark_pending(TUESDAY, "attack")
    assert catalogue.due(0) == [Due(TUESDAY, "attack", 1, 0)]


def test_an_index_that_lost_its_rows_holds_nothing(catalogue: Catalogue) -> None:
    catalogue.seal_chunk(TUESDAY, 1, DayCounts())
    commit(catalogue, "attack")
    catalogue.mark_pending(TUESDAY, "attack", lost=True)
    chunk = catalogue.chunk(TUESDAY)
    assert chunk is not None
    assert (chunk.indices["attack"].state, chunk.indices["attack"].revision) == ("pending", None)


def test_a_revision_that_is_not_the_sealed_one_is_not_committed(catalogue: Catalogue) -> None:
    with pytest.raises(CatalogueError, match="not known"):
        commit(catalogue, "attack")
    catalogue.seal_chunk(TUESDAY, 2, DayCounts())
    with pytest.raises(CatalogueError, match="sealed at revision 2"):
        commit(catalogue, "attack", revision=1)


def test_an_index_without_all_its_facts_is_not_committed(catalogue: Catalogue) -> None:
    catalogue.seal_chunk(TUESDAY, 1, DayCounts())
    catalogue.stage_rows("attack", TUESDAY, 1, 0, facts_of(3))
    with pytest.raises(CatalogueError, match="3 facts staged for 4 rows"):
        catalogue.commit_index(TUESDAY, "attack", revision=1, rows=4, model="a1", coverage={})
    assert catalogue.count_facts() == {("attack", TUESDAY, 1): 3}


def test_days_come_oldest_first_and_an_unknown_one_is_none(catalogue: Catalogue) -> None:
    catalogue.note_chunk(TUESDAY, DayCounts())
    catalogue.note_chunk(MONDAY, DayCounts())
    assert [chunk.day for chunk in catalogue.chunks()] == [MONDAY, TUESDAY]
    assert catalogue.chunk(MONDAY.replace(year=2016)) is None


def test_a_deleted_day_leaves_nothing(catalogue: Catalogue) -> None:
    catalogue.seal_chunk(TUESDAY, 1, DayCounts())
    commit(catalogue, "attack")
    catalogue.delete_day(TUESDAY)
    assert catalogue.chunks() == []
    assert catalogue.count_facts() == {}
    assert catalogue.check(deep=True) == []


def test_the_catalogue_is_for_its_owner_only(catalogue: Catalogue, path: Path) -> None:
    catalogue.note_chunk(TUESDAY, DayCounts())
    found = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert found == {
        "catalogue.sqlite": 0o600,
        "catalogue.sqlite-wal": 0o600,
        "catalogue.sqlite-shm": 0o600,
    }
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_commit_is_durable_and_keys_are_enforced(catalogue: Catalogue) -> None:
    with catalogue._file.reading() as connection:
        pragmas = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_reader_sees_what_is_written_and_cannot_write(catalogue: Catalogue, path: Path) -> None:
    with Catalogue.open(path, read_only=True) as reader:
        assert reader.chunks() == []
        catalogue.note_chunk(TUESDAY, DayCounts())
        assert [chunk.day for chunk in reader.chunks()] == [TUESDAY]
        with pytest.raises(CatalogueWriteError, match="reading only"):
            reader.note_chunk(MONDAY, DayCounts())


def test_a_reader_can_open_a_catalogue_that_nobody_has_open(path: Path) -> None:
    with Catalogue.open(path) as catalogue:
        catalogue.note_chunk(TUESDAY, DayCounts())
    with Catalogue.open(path, read_only=True) as reader:
        assert [chunk.day for chunk in reader.chunks()] == [TUESDAY]


def test_reading_where_no_catalogue_is_yet_says_so(path: Path) -> None:
    with pytest.raises(StoreMissingError, match="no catalogue"):
        Catalogue.open(path, read_only=True)
    assert not path.parent.exists()
    path.parent.mkdir()
    path.touch()
    with pytest.raises(StoreMissingError, match="is empty"):
        Catalogue.open(path, read_only=True)


def test_a_second_writer_waits_and_then_gives_up_with_a_clear_error(
    catalogue: Catalogue, path: Path
) -> None:
    with Catalogue.open(path, busy_timeout_s=0.05) as other, catalogue._file.writing():
        with pytest.raises(CatalogueWriteError, match="another writer"):
            other.note_chunk(TUESDAY, DayCounts())
        assert other.chunks() == []


def test_an_error_inside_a_transaction_leaves_nothing_of_it(catalogue: Catalogue) -> None:
    def write_and_fail() -> None:
        with catalogue._file.writing() as connection:
            connection.execute("DELETE FROM chunks")
            raise KeyError

    catalogue.note_chunk(TUESDAY, DayCounts())
    with pytest.raises(KeyError):
        write_and_fail()
    assert [chunk.day for chunk in catalogue.chunks()] == [TUESDAY]


@pytest.mark.parametrize("content", [b"not a database, whatever its name says" * 200, b"\0" * 8192])
def test_a_file_that_is_no_catalogue_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(CatalogueCorruptError, match="dayfold repair"):
        Catalogue.open(path)
    assert path.read_bytes() == content


def test_a_record_that_was_altered_is_not_believed(catalogue: Catalogue, path: Path) -> None:
    catalogue.seal_chunk(TUESDAY, 1, DayCounts())
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE chunks SET duplicates = duplicates + 1")
    connection.close()
    with pytest.raises(CatalogueCorruptError, match="2017-07-04 fails its checksum"):
        catalogue.chunks()
    assert catalogue.check(deep=False)


def test_a_state_that_was_altered_is_not_believed(catalogue: Catalogue, path: Path) -> None:
    catalogue.seal_chunk(TUESDAY, 1, DayCounts())
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE chunk_indices SET state = 'committed'")
    connection.close()
    with pytest.raises(CatalogueCorruptError, match=r"index \w+ of 2017-07-04"):
        catalogue.chunks()


def test_threads_may_share_a_catalogue(catalogue: Catalogue) -> None:
    failures: list[Exception] = []

    def work(number: int) -> None:
        try:
            for step in range(10):
                day = MONDAY.replace(day=number + 1)
                catalogue.note_chunk(day, replace(DayCounts(), events=step))
                found = catalogue.chunk(day)
                assert found is not None
                assert found.events == step
        except Exception as error:  # noqa: BLE001 - handed to the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(catalogue.chunks()) == 4
