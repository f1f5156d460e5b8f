"""Records of `chunks` and `chunk_indices`, each with a checksum compared at every reading."""

import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from types import MappingProxyType
from typing import Any

from index.chunks import INDEX_NAMES, Chunk, Counts, IndexState
from index.edition_table import Edition, read_kept, serving
from index.errors import CatalogueCorruptError

_WRITE_CHUNK = """
    INSERT INTO chunks
        (day, revision, unsealed, events, duplicates, late, first_ns, last_ns, bytes, crc)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (day) DO UPDATE SET
        revision = excluded.revision, unsealed = excluded.unsealed, events = excluded.events,
        duplicates = excluded.duplicates, late = excluded.late, first_ns = excluded.first_ns,
        last_ns = excluded.last_ns, bytes = excluded.bytes, crc = excluded.crc
"""
_READ_CHUNK = """
    SELECT day, revision, unsealed, events, duplicates, late, first_ns, last_ns, bytes, crc
    FROM chunks WHERE day = ?
"""
_WRITE_STATE = """
    INSERT OR REPLACE INTO chunk_indices
        (day, index_name, state, revision, rows, attempts, next_retry_ns, error, model,
         coverage_json, crc)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_READ_STATES = """
    SELECT day, index_name, state, revision, rows, attempts, next_retry_ns, error, model,
        coverage_json, crc
    FROM chunk_indices WHERE day = ?
"""


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """The row of a day in `chunks`; see `Chunk` for the meaning of each field."""

    day: date
    revision: int
    unsealed: bool
    events: int
    duplicates: int
    late: int
    first_ns: int | None
    last_ns: int | None
    size: int

    @classmethod
    def of(cls, day: date, revision: int, counts: Counts, *, unsealed: bool) -> "ChunkRecord":
        """A record with the journal's counts."""
        return cls(
            day,
            revision,
            unsealed,
            counts.events,
            counts.duplicates,
            counts.late,
            counts.first_ns,
            counts.last_ns,
            counts.bytes,
        )


def write_record(connection: sqlite3.Connection, record: ChunkRecord) -> None:
    """Insert or update the record of a day."""
    values = (
        record.day.isoformat(),
        record.revision,
        int(record.unsealed),
        record.events,
        record.duplicates,
        record.late,
        record.first_ns,
        record.last_ns,
        record.size,
    )
    connection.execute(_WRITE_CHUNK, (*values, _checksum(values)))
    held = read_states(connection, record.day)
    for name in INDEX_NAMES:
        if name not in held:
            write_state(connection, record.day, name, IndexState())


def read_record(connection: sqlite3.Connection, day: date) -> ChunkRecord | None:
    """The record of a day, or None.

    Raises:
        CatalogueCorruptError: it fails its checksum.
    """
    found = connection.execute(_READ_CHUNK, (day.isoformat(),)).fetchone()
    if found is None:
        return None
    *values, crc = found
    if crc != _checksum(tuple(values)):
        raise CatalogueCorruptError(
            f"the catalogue's record of {day} fails its checksum; run `dayfold repair`."
        )
    _, revision, unsealed, events, duplicates, late, first_ns, last_ns, size = values
    return ChunkRecord(
        day, revision, bool(unsealed), events, duplicates, late, first_ns, last_ns, size
    )


def write_state(connection: sqlite3.Connection, day: date, index: str, state: IndexState) -> None:
    """Insert or replace how one index stands to a day."""
    values = (
        day.isoformat(),
        index,
        state.state,
        state.revision,
        state.rows,
        state.attempts,
        state.next_retry_ns,
        state.error,
        state.model,
        json.dumps(dict(state.coverage), sort_keys=True),
    )
    connection.execute(_WRITE_STATE, (*values, _checksum(values)))


def read_states(connection: sqlite3.Connection, day: date) -> dict[str, IndexState]:
    """How each index stands to a day, by name.

    Raises:
        CatalogueCorruptError: a record fails its checksum.
    """
    states = {}
    for *values, crc in connection.execute(_READ_STATES, (day.isoformat(),)):
        if crc != _checksum(tuple(values)):
            raise CatalogueCorruptError(
                f"the catalogue's record of index {values[1]} of {day} fails its checksum; "
                "run `dayfold repair`."
            )
        _, name, state, revision, rows, attempts, next_retry_ns, error, model, coverage = values
        states[name] = IndexState(
            state,
            revision,
            rows,
            attempts,
            next_retry_ns,
            error,
            model,
            MappingProxyType(json.loads(coverage)),
        )
    return states


def read_chunk(connection: sqlite3.Connection, day: date, editions: list[Edition]) -> Chunk | None:
    """A day and its indices, or None.

    Args:
        editions: every edition that has a record, as `read_editions` gives them.

    Raises:
        CatalogueCorruptError: a record fails its checksum or is missing.
    """
    record = read_record(connection, day)
    if record is None:
        return None
    states = read_states(connection, day)
    if not set(states).issuperset(INDEX_NAMES):
        raise CatalogueCorruptError(f"the catalogue lacks an index of {day}; run `dayfold repair`.")
    some_kept = any(edition.role == "kept" for edition in editions)
    kept = read_kept(connection, day) if some_kept else {}
    indices: Mapping[str, IndexState] = {
        name: replace(states[name], edition=kept.get(name) or serving(editions, name))
        for name in INDEX_NAMES
    }
    upcoming = {
        edition.index: replace(states[edition.name], edition=edition.name)
        for edition in editions
        if edition.role == "next" and edition.name in states
    }
    return Chunk(
        day=day,
        revision=record.revision,
        unsealed=record.unsealed,
        events=record.events,
        duplicates=record.duplicates,
        late=record.late,
        first_ns=record.first_ns,
        last_ns=record.last_ns,
        size=record.size,
        indices=MappingProxyType(dict(indices)),
        upcoming=MappingProxyType(upcoming),
    )


def read_days(connection: sqlite3.Connection) -> Iterator[date]:
    """Every day of the catalogue, oldest first, those without a chunk record included.

    Raises:
        CatalogueCorruptError: a day that is no date, or records of a day without its chunk.
    """
    # The lists are read apart: a damaged key must show, not hide its day from a join.
    chunks = [text for (text,) in connection.execute("SELECT day FROM chunks ORDER BY day")]
    indices = {text for (text,) in connection.execute("SELECT DISTINCT day FROM chunk_indices")}
    stray = indices.difference(chunks)
    if stray:
        raise CatalogueCorruptError(
            f"the catalogue has indices of {min(stray)!r} and no such day; run `dayfold repair`."
        )
    yield from map(as_day, chunks)


def as_day(text: str) -> date:
    """A day as the catalogue writes it.

    Raises:
        CatalogueCorruptError: it is no date.
    """
    try:
        return date.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise CatalogueCorruptError(
            f"the catalogue has a day {text!r}; run `dayfold repair`."
        ) from error


def _checksum(values: tuple[Any, ...]) -> int:
    return zlib.crc32(repr(tuple(values)).encode())
