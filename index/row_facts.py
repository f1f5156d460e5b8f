"""The table of row facts: what each vector means.

Facts are staged under their revision in small transactions while a chunk is embedded, so nobody
waits for it; `settle` then makes them the only facts of the day inside the catalogue's flip.
Each record has a checksum that is compared whenever it is read.
"""

import json
import math
import sqlite3
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from types import MappingProxyType
from typing import Any

import numpy as np

from index.catalogue_file import CatalogueFile
from index.chunk_table import as_day
from index.chunks import FactsLike, RowKey, StoredRow
from index.errors import CatalogueCorruptError, CatalogueError, RowsReplacedError
from index.row_terms import (
    Revision,
    Rows,
    agree,
    drop_terms,
    drop_terms_of_day,
    postings_of,
    read_matches,
    read_termed,
    stray_terms,
    write_terms,
)
from index.store import RowIds, row_id
from index.terms import TermMatch

_INSERT = """
    INSERT OR REPLACE INTO row_facts
        (index_name, day, revision, row, kind, label, weight, first_ns, last_ns, detail, crc)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_SELECT = """
    SELECT index_name, day, revision, row, kind, label, weight, first_ns, last_ns, detail, crc
    FROM row_facts
"""
_STAGED_AT_ONCE = 5_000
_MAX_CHECK_FAULTS = 20
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class RowFactsTable:
    """Facts of rows in the file of a catalogue."""

    def __init__(self, file: CatalogueFile) -> None:
        self._file = file

    def stage(
        self, index: str, day: date, revision: int, first_row: int, facts: Sequence[FactsLike]
    ) -> None:
        """Store facts of consecutive rows, replacing what an earlier attempt left."""
        for start in range(0, len(facts), _STAGED_AT_ONCE):
            part = facts[start : start + _STAGED_AT_ONCE]
            records = _records(index, day, revision, first_row + start, part)
            with self._file.writing() as connection:
                drop_terms(connection, Revision.of(index, day, revision))
                connection.executemany(_INSERT, records)

    def settle(
        self, connection: sqlite3.Connection, index: str, day: date, revision: int, rows: int
    ) -> None:
        """Within the caller's transaction: keep rows 0 to `rows` - 1 of one revision only.

        Raises:
            CatalogueError: not all of them are staged.
        """
        key = (index, day.isoformat())
        drop_terms_of_day(connection, index, day)
        connection.execute(
            "DELETE FROM row_facts WHERE index_name = ? AND day = ? AND revision < ?",
            (*key, revision),
        )
        connection.execute(
            "DELETE FROM row_facts WHERE index_name = ? AND day = ? AND revision > ?",
            (*key, revision),
        )
        connection.execute(
            "DELETE FROM row_facts WHERE index_name = ? AND day = ? AND revision = ? AND row >= ?",
            (*key, revision, rows),
        )
        staged = connection.execute(
            "SELECT count(*) FROM row_facts WHERE index_name = ? AND day = ?", key
        ).fetchone()[0]
        if staged != rows:
            raise CatalogueError(
                f"index {index} of {day}, revision {revision}: {staged} facts staged for "
                f"{rows} rows; embed the day again."
            )

    def forget(self, connection: sqlite3.Connection, day: date, indices: Collection[str]) -> None:
        """Within the caller's transaction: delete every fact of a day in these indices."""
        for index in indices:
            drop_terms_of_day(connection, index, day)
            connection.execute(
                "DELETE FROM row_facts WHERE index_name = ? AND day = ?", (index, day.isoformat())
            )

    def rows(self, index: str, keys: Sequence[RowKey]) -> list[StoredRow]:
        """Facts by key, in order; see `Catalogue.rows`."""
        found = []
        with self._file.reading() as connection:
            for key in keys:
                record = connection.execute(
                    _SELECT + "WHERE index_name = ? AND day = ? AND revision = ? AND row = ?",
                    (index, key.day.isoformat(), key.revision, key.row),
                ).fetchone()
                if record is None:
                    raise RowsReplacedError(
                        f"row {key.row} of {key.day}, revision {key.revision}, is no longer in "
                        f"index {index}; refresh it and search again."
                    )
                found.append(_stored(record))
        return found

    def all_of(self, index: str, day: date, revision: int) -> list[StoredRow]:
        """Facts of every row of one revision, in row order."""
        with self._file.reading() as connection:
            records = connection.execute(
                _SELECT + "WHERE index_name = ? AND day = ? AND revision = ? ORDER BY row",
                (index, day.isoformat(), revision),
            ).fetchall()
        return [_stored(record) for record in records]

    def labels(self, index: str, day: date, revision: int, kind: str) -> list[tuple[int, str, int]]:
        """Row, label and weight of the rows of one kind, in row order; their checksum is not read.

        It covers the detail too, which may be a hundred times as large.
        """
        with self._file.reading() as connection:
            return connection.execute(
                "SELECT row, label, weight FROM row_facts WHERE index_name = ? AND day = ? "
                "AND revision = ? AND kind = ? ORDER BY row",
                (index, day.isoformat(), revision, kind),
            ).fetchall()

    def events(self, event_id: str) -> list[StoredRow]:
        """Event rows by identifier, of any revision."""
        with self._file.reading() as connection:
            records = connection.execute(
                _SELECT + "WHERE kind = 'event' AND label = ? ORDER BY index_name, day, row",
                (event_id,),
            ).fetchall()
        return [_stored(record) for record in records]

    def where(
        self, index: str, field: str, value: str | float, revisions: Mapping[date, int]
    ) -> RowIds:
        """Identifiers of matching rows among the given revisions, sorted."""
        term = TermMatch(field, value)
        found = [np.empty(0, dtype=np.int64)]
        with self._file.reading() as connection:
            termed = read_termed(connection, index) if term.is_listed else {}
            for day in sorted(revisions):
                revision = Revision.of(index, day, revisions[day])
                rows = read_matches(connection, revision, term) if revision in termed else None
                if rows is None:
                    rows = _matches(connection, revision, term)
                found.append(row_id(day, revision.number, 0) + rows.astype(np.int64))
        return np.concatenate(found)

    def make_terms(self, index: str, revisions: Mapping[date, int]) -> int:
        """Make the terms of those revisions that have none; gives how many.

        Only for whoever may commit to the index: facts that change meanwhile are left alone.
        """
        with self._file.reading() as connection:
            termed = read_termed(connection, index)
        made = 0
        for day, number in revisions.items():
            revision = Revision.of(index, day, number)
            if revision in termed:
                continue
            with self._file.reading() as connection:
                before = _state_of(connection, revision)
                postings = postings_of(_details(connection, revision))
            with self._file.writing() as connection:
                if _state_of(connection, revision) == before:
                    write_terms(connection, revision, postings)
                    made += 1
        return made

    def counts(self) -> dict[tuple[str, date, int], int]:
        """How many facts are stored by index, day and revision."""
        with self._file.reading() as connection:
            return {
                (index, as_day(day), revision): count
                for index, day, revision, count in connection.execute(
                    "SELECT index_name, day, revision, count(*) FROM row_facts GROUP BY 1, 2, 3"
                )
            }

    def check(self) -> list[tuple[str, str]]:
        """Records that fail their checksum, as (where, detail); the first twenty."""
        faults: list[tuple[str, str]] = []
        for record in self._scan():
            try:
                _checked(record)
            except CatalogueCorruptError as error:
                faults.append((f"{record[0]} {record[1]} row {record[3]}", str(error)))
                if len(faults) == _MAX_CHECK_FAULTS:
                    break
        return faults

    def wrong_terms(self) -> list[Revision]:
        """Revisions whose terms are not those of their facts, or fail a checksum.

        Facts that fail theirs are told of by `check`, not here.
        """
        with self._file.reading() as connection:
            wrong = stray_terms(connection)
            for revision, total in read_termed(connection).items():
                with suppress(CatalogueCorruptError):
                    postings = postings_of(_details(connection, revision))
                    if total != len(postings) or not agree(connection, revision, postings):
                        wrong.add(revision)
        return sorted(wrong, key=lambda revision: revision.key)

    def drop_wrong_terms(self) -> list[Revision]:
        """Forget the terms that are wrong; they are made again after the next commit."""
        wrong = self.wrong_terms()
        for revision in wrong:
            with self._file.writing() as connection:
                drop_terms(connection, revision)
        return wrong

    def _scan(self) -> Iterator[tuple[Any, ...]]:
        with self._file.reading() as connection:
            yield from connection.execute(_SELECT)


def _matches(connection: sqlite3.Connection, revision: Revision, term: TermMatch) -> Rows:
    """The rows of a revision that meet a condition, ascending, by their facts."""
    records = connection.execute(
        _SELECT + "WHERE index_name = ? AND day = ? AND revision = ? "
        r"AND detail LIKE ? ESCAPE '\' ORDER BY row",
        (*revision.key, term.pattern),
    )
    # Many rows may match, so only what the condition needs is taken apart.
    rows = [record[3] for record in map(_checked, records) if term.matches(json.loads(record[-2]))]
    return np.array(rows, dtype=np.uint32)


def _details(
    connection: sqlite3.Connection, revision: Revision
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Number and detail of each row of a revision, in order."""
    for record in connection.execute(
        _SELECT + "WHERE index_name = ? AND day = ? AND revision = ? ORDER BY row", revision.key
    ):
        yield record[3], json.loads(_checked(record)[-2])


def _state_of(connection: sqlite3.Connection, revision: Revision) -> tuple[int, float]:
    """Differs from an earlier one if the facts of the revision have changed."""
    rows, sums = connection.execute(
        "SELECT count(*), total(crc) FROM row_facts "
        "WHERE index_name = ? AND day = ? AND revision = ?",
        revision.key,
    ).fetchone()
    return rows, sums


def _records(
    index: str, day: date, revision: int, first_row: int, facts: Sequence[FactsLike]
) -> list[tuple[Any, ...]]:
    text = day.isoformat()
    records = []
    for row, fact in enumerate(facts, first_row):
        try:
            values = (
                index,
                text,
                revision,
                row,
                fact.kind,
                fact.label,
                int(fact.weight),
                int(fact.first_ns),
                int(fact.last_ns),
                _detail_json(fact.detail),
            )
            records.append((*values, _checksum(values)))
        except UnicodeEncodeError as error:
            raise CatalogueError(
                f"index {index} of {day}, row {row}: kind or label is no text ({error})."
            ) from error
        except (TypeError, ValueError, RecursionError) as error:
            raise CatalogueError(
                f"index {index} of {day}, row {row}: its detail is no JSON ({error})."
            ) from error
    return records


def _detail_json(detail: Mapping[str, Any]) -> str:
    try:
        return _encode(detail)
    except ValueError:
        # JSON has no NaN and no infinity; a detector may well send them.
        return _encode(_finite(detail))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def _checksum(values: tuple[Any, ...]) -> int:
    # One formatted string is twice as fast as repr, and a hundred thousand rows pass here.
    return zlib.crc32("\0%s\0%s\0%s\0%s\0%s\0%s\0%s\0%s\0%s\0%s".__mod__(values).encode())


def _checked(record: tuple[Any, ...]) -> tuple[Any, ...]:
    if _checksum(record[:-1]) != record[-1]:
        index, day, _, row, *_ = record
        raise CatalogueCorruptError(
            f"the facts of row {row} of {day} in index {index} fail their checksum; "
            "run `dayfold repair`."
        )
    return record


def _stored(record: tuple[Any, ...]) -> StoredRow:
    index, day, revision, row, kind, label, weight, first_ns, last_ns, detail, _ = _checked(record)
    return StoredRow(
        index,
        as_day(day),
        revision,
        row,
        kind,
        label,
        weight,
        first_ns,
        last_ns,
        MappingProxyType(json.loads(detail)),
    )
