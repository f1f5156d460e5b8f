"""The catalogue: which index holds which revision of which day, and what every row means.

It is the one place that says whether a day is whole. Row facts live in it beside the states, so
that flipping an index to a new revision and forgetting the facts of the old one is a single
transaction.
"""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Self

from index.catalogue_file import BUSY_TIMEOUT_S, CatalogueFile
from index.chunk_table import (
    ChunkRecord,
    read_chunk,
    read_days,
    read_record,
    read_states,
    write_record,
    write_state,
)
from index.chunks import (
    INDEX_NAMES,
    Chunk,
    Counts,
    Due,
    FactsLike,
    IndexState,
    RowKey,
    StoredRow,
)
from index.edition_records import EditionRecords
from index.edition_table import delete_kept, read_editions, state_key
from index.errors import CatalogueError
from index.row_facts import RowFactsTable
from index.store import RowIds

__all__ = ["Catalogue", "Chunk"]

#: No wait is too long.
MAX_WAIT_NS = 1 << 63
SHOWN_DAYS = 31


class Catalogue(EditionRecords):
    """Made by `Catalogue.open`. Its methods may be called from several threads.

    Every method may raise `CatalogueError` or one of its kinds: `CatalogueCorruptError` for a
    record that fails its checksum, `CatalogueWriteError` when nothing could be written.
    """

    def __init__(self, file: CatalogueFile) -> None:
        super().__init__(file)
        self._facts = RowFactsTable(file)
        self._last_held: tuple[tuple[str, int, int], dict[date, int]] | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        read_only: bool = False,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
    ) -> Self:
        """Open the catalogue at `path`, made and migrated if need be unless `read_only`.

        Raises:
            StoreMissingError: reading, and there is none.
            CatalogueNewerError: written by a newer program; it is left as it is.
            CatalogueCorruptError: the file is damaged.
            CatalogueWriteError: it cannot be made or written.
        """
        return cls(CatalogueFile(path, read_only=read_only, busy_timeout_s=busy_timeout_s))

    @property
    def path(self) -> Path:
        """Where the catalogue lies."""
        return self._file.path

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._file.close()

    def note_chunk(self, day: date, counts: Counts, *, unsealed: bool = True) -> None:
        """Record the journal's counts of a day, and whether it has unsealed events.

        A day that never was sealed stays unsealed whatever is said here.
        """
        with self._file.writing() as connection:
            held = read_record(connection, day)
            revision = held.revision if held else 0
            still_open = unsealed or revision == 0
            write_record(connection, ChunkRecord.of(day, revision, counts, unsealed=still_open))

    def seal_chunk(self, day: date, revision: int, counts: Counts) -> None:
        """Record that a day was sealed: every index that lacks the revision becomes pending.

        Sealing the same revision again changes the counts and nothing else; an earlier one than
        the last is a CatalogueError.
        """
        if revision < 1:
            raise CatalogueError(f"{day} cannot be sealed as revision {revision}; the first is 1.")
        with self._file.writing() as connection:
            held = read_record(connection, day)
            before = held.revision if held else 0
            if revision < before:
                raise CatalogueError(
                    f"{day} is sealed at revision {before}; it cannot go back to {revision}."
                )
            write_record(connection, ChunkRecord.of(day, revision, counts, unsealed=False))
            if revision > before:
                states = read_states(connection, day)
                for edition in read_editions(connection):
                    if edition.role == "next":
                        states.setdefault(edition.name, IndexState())
                for name, state in states.items():
                    write_state(connection, day, name, _pending(state))

    def mark_failed(
        self, day: date, index: str, *, error: str, attempts: int, next_retry_ns: int | None
    ) -> None:
        """Record a failed attempt. What the index holds of an older revision stays served."""
        with self._file.writing() as connection:
            state = _state_of(connection, day, index)
            failed = replace(
                state, state="failed", attempts=attempts, next_retry_ns=next_retry_ns, error=error
            )
            write_state(connection, day, index, failed)

    def mark_pending(self, day: date, index: str, *, lost: bool = False) -> None:
        """Ask for an index of a day to be made again; `lost` when it holds nothing any more."""
        with self._file.writing() as connection:
            state = _state_of(connection, day, index)
            write_state(connection, day, index, IndexState() if lost else _pending(state))

    def stage_rows(
        self, index: str, day: date, revision: int, first_row: int, facts: Sequence[FactsLike]
    ) -> None:
        """Store facts of rows from `first_row` on, durably, before their vectors are shown.

        Staging a row again replaces it. Nothing finds staged rows but `rows` by their exact key.

        Raises:
            CatalogueError: facts that JSON cannot hold.
        """
        self._facts.stage(index, day, revision, first_row, facts)

    def commit_index(
        self,
        day: date,
        index: str,
        *,
        revision: int,
        rows: int,
        model: str,
        coverage: Mapping[str, int],
    ) -> None:
        """Flip an index to a revision whose facts are staged, and forget all others of the day.

        One transaction: a reader sees the old revision with its facts or the new one.

        Raises:
            CatalogueError: the day was sealed anew meanwhile, or facts are missing.
        """
        with self._file.writing() as connection:
            held = read_record(connection, day)
            if held is None or held.revision != revision:
                sealed = f"sealed at revision {held.revision}" if held else "not known"
                raise CatalogueError(
                    f"{day} is {sealed}, so revision {revision} of index {index} is not "
                    "committed; close the day again."
                )
            key = state_key(read_editions(connection), index)
            state = _state_of(connection, day, key)
            self._facts.settle(connection, index, day, revision, rows)
            if key in INDEX_NAMES:
                delete_kept(connection, day, key)
            committed = IndexState(
                state="committed",
                revision=revision,
                rows=rows,
                attempts=state.attempts + 1,
                model=model,
                coverage=coverage,
            )
            write_state(connection, day, key, committed)

    def delete_day(self, day: date) -> None:
        """Forget a day: its chunk, the state of its indices, the facts of its rows."""
        with self._file.writing() as connection:
            connection.execute("DELETE FROM chunks WHERE day = ?", (day.isoformat(),))
            names = {*INDEX_NAMES, *(edition.name for edition in read_editions(connection))}
            self._facts.forget(connection, day, names)

    def erase_day(self, day: date) -> None:
        """Forget a day as `delete_day` does, and leave no trace of it in the file or beside it."""
        self._file.overwrite_deleted()
        self.delete_day(day)
        self._file.empty_journal()

    def copy_to(self, target: Path) -> None:
        """Write the catalogue, as it is at one moment, to a new file; nobody waits for it."""
        self._file.copy_to(target)

    def version(self) -> tuple[int, int]:
        """Equal to an earlier one only if nothing was written to the catalogue since."""
        return self._file.version()

    def chunk(self, day: date) -> Chunk | None:
        """One day, or None when the catalogue does not know it."""
        with self._file.reading() as connection:
            return read_chunk(connection, day, read_editions(connection))

    def chunks(self) -> list[Chunk]:
        """Every day, oldest first."""
        with self._file.reading() as connection:
            editions = read_editions(connection)
            found = (read_chunk(connection, day, editions) for day in read_days(connection))
            return [chunk for chunk in found if chunk is not None]

    def due(self, now_ns: int, longest_wait_ns: int = MAX_WAIT_NS) -> list[Due]:
        """Indices behind their chunk that may be tried at `now_ns`, oldest day first.

        Days that a next edition lacks come after them. An index with a next edition waits for it:
        the model of the one that is served is not there any more. One that would have to wait for
        more than `longest_wait_ns` was put off by a clock that has been set back since: it is due.
        """

        def behind(state: IndexState) -> bool:
            retry_ns = state.next_retry_ns
            due = retry_ns is not None and not 0 < retry_ns - now_ns <= longest_wait_ns
            return state.state == "pending" or (state.state == "failed" and due)

        sealed = [chunk for chunk in self.chunks() if chunk.revision > 0]
        return [
            Due(chunk.day, name, chunk.revision, state.attempts)
            for chunk in sealed
            for name, state in chunk.indices.items()
            if name not in chunk.upcoming and behind(state)
        ] + [
            Due(chunk.day, name, chunk.revision, state.attempts, state.edition)
            for chunk in sealed
            for name, state in chunk.upcoming.items()
            if behind(state)
        ]

    def forget_facts(self, edition: str, but: Collection[date]) -> None:
        """Delete what is stored of the rows of an edition, day by day, except of these days."""
        for name, day, _ in self._facts.counts():
            if name == edition and day not in but:
                with self._file.writing() as connection:
                    self._facts.forget(connection, day, [edition])

    def state(self, day: date, edition: str) -> IndexState | None:
        """How an edition, or the one of an index that is served, stands to a day."""
        with self._file.reading() as connection:
            return read_states(connection, day).get(state_key(read_editions(connection), edition))

    def rows(self, index: str, keys: Sequence[RowKey]) -> list[StoredRow]:
        """Facts of rows, in the order of `keys`.

        Raises:
            RowsReplacedError: a newer revision has replaced some; refresh and search again.
        """
        return self._facts.rows(index, keys)

    def facts_of(self, index: str, day: date) -> list[StoredRow]:
        """Facts of every row that an index holds of a day, in row order; empty for none."""
        chunk = self.chunk(day)
        state = chunk.indices[index] if chunk else IndexState()
        if state.revision is None:
            return []
        return self._facts.all_of(state.edition, day, state.revision)

    def latest_days(self) -> list[dict[str, object]]:
        """The latest 31 days as people are shown them, and every older one that is not committed."""
        chunks = self.chunks()
        return [
            chunk.to_json()
            for place, chunk in enumerate(chunks, start=1)
            if place > len(chunks) - SHOWN_DAYS or chunk.state != "committed"
        ]

    def held_revisions(self, edition: str) -> dict[date, int]:
        """The revision that an edition which is served or kept holds of each day, oldest first.

        The last answer is kept until somebody writes: a search asks for it with each condition.
        """
        version = (edition, *self.version())
        if self._last_held is None or self._last_held[0] != version:
            self._last_held = (version, self._revisions(edition, upcoming=False))
        return dict(self._last_held[1])

    def labels(self, index: str, day: date, revision: int, kind: str) -> list[tuple[int, str, int]]:
        """Row, label and weight of the rows of one kind, in row order; good for ranking.

        They are not checked against their checksum. What is shown to anyone is to be read with
        `rows`, which is.
        """
        return self._facts.labels(index, day, revision, kind)

    def find_event(self, event_id: str) -> list[StoredRow]:
        """Rows of the events with this identifier: several when nodes or days share it."""
        return [row for row in self._facts.events(event_id) if self._is_held(row)]

    def rows_where(self, index: str, field: str, value: str | float) -> RowIds:
        """Identifiers of the rows whose detail has `value` in `field`, sorted.

        See `index.terms.TermMatch` for what matches. Give the result to `VectorStore.search` as
        `only`.
        """
        return self._facts.where(index, field, value, self.held_revisions(index))

    def make_terms(self, edition: str) -> int:
        """Make what answers `rows_where` fast, for each day of an edition that lacks it.

        Nobody waits for it: without it the facts of the day are read. Gives how many days got it.
        Only for whoever may commit to the edition.
        """
        return self._facts.make_terms(edition, self._revisions(edition))

    def drop_wrong_terms(self) -> list[str]:
        """Forget what `make_terms` made where it does not agree with the facts; names the days."""
        return [f"{wrong.index} {wrong.day}" for wrong in self._facts.drop_wrong_terms()]

    def check(self, *, deep: bool) -> list[tuple[str, str]]:
        """What is wrong inside the catalogue, as (where, detail); raises none of it.

        SQLite's own check, then the checksum of every record; with `deep` also of every row fact,
        and the terms made of them.
        """
        found = [(str(self.path), line) for line in self._file.check()]
        if found:
            return found
        try:
            self.chunks()
            if not deep:
                return []
            return self._facts.check() + [
                (f"{wrong.index} {wrong.day}", "its terms are not those of its facts")
                for wrong in self._facts.wrong_terms()
            ]
        except CatalogueError as error:
            return [(str(self.path), str(error))]

    def count_facts(self) -> dict[tuple[str, date, int], int]:
        """How many facts are stored by index, day and revision, staged ones included."""
        return self._facts.counts()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _revisions(self, edition: str, *, upcoming: bool = True) -> dict[date, int]:
        return {
            chunk.day: state.revision
            for chunk in self.chunks()
            for state in (*chunk.indices.values(), *(chunk.upcoming.values() if upcoming else ()))
            if state.edition == edition and state.revision is not None
        }

    def _is_held(self, row: StoredRow) -> bool:
        chunk = self.chunk(row.day)
        return chunk is not None and any(
            (state.edition, state.revision) == (row.index, row.revision)
            for state in chunk.indices.values()
        )


def _pending(state: IndexState) -> IndexState:
    """Nothing tried yet at the chunk's revision; what is held of an older one stays."""
    return IndexState(
        revision=state.revision, rows=state.rows, model=state.model, coverage=state.coverage
    )


def _state_of(connection: sqlite3.Connection, day: date, index: str) -> IndexState:
    states = read_states(connection, day)
    if index not in states:
        raise CatalogueError(f"the catalogue knows no index {index} of {day}.")
    return states[index]
