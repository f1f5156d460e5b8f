"""The table of terms: which rows of a revision hold which value in which field.

It is derived from the facts of rows, so that a condition reads a few short records and not the
facts of every row that may meet it. It is made after a commit, revision by revision, and nobody
waits for it: a revision without it, or with a record of it that fails its checksum, is looked
through fact by fact. Whatever changes the facts of a revision drops its terms in the same
transaction.
"""

import sqlite3
import sys
import zlib
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.migrations import TERMS_SINCE, schema_version
from index.terms import Spellings, TermMatch, is_listed

Rows = NDArray[np.uint32]
_NONE = np.empty(0, "<u4")
Postings = Mapping[tuple[str, str], "array[int]"]


@dataclass(frozen=True)
class Revision:
    """A revision of a day in an index (or in an edition of one), as the catalogue's keys have it."""

    index: str
    day: str
    number: int

    @classmethod
    def of(cls, index: str, day: date, number: int) -> "Revision":
        """The key of a revision."""
        return cls(index, day.isoformat(), number)

    @property
    def key(self) -> tuple[str, str, int]:
        """As SQL takes it."""
        return self.index, self.day, self.number

    @cached_property
    def crc(self) -> int:
        """CRC-32 of the key."""
        return zlib.crc32("\0".join(map(str, self.key)).encode())


def postings_of(details: Iterable[tuple[int, Mapping[str, Any]]]) -> Postings:
    """The rows of each field and term, ascending.

    Args:
        details: number and detail of each row, ascending.
    """
    spelled = Spellings()
    fields: dict[str, dict[str, array[int]]] = {}
    for row, detail in details:
        for field, held in detail.items():
            if field not in fields:
                if not is_listed(field):
                    continue
                fields[field] = {}
            by_term = fields[field]
            for term in spelled.terms(held):
                rows = by_term.get(term)
                if rows is None:
                    by_term[term] = array("I", (row,))
                elif rows[-1] != row:
                    rows.append(row)
    return {
        (field, term): rows for field, by_term in fields.items() for term, rows in by_term.items()
    }


def write_terms(connection: sqlite3.Connection, revision: Revision, postings: Postings) -> None:
    """Within the caller's transaction: make these the terms of a revision."""
    drop_terms(connection, revision)
    key, total = revision.key, len(postings)
    connection.executemany(
        "INSERT INTO row_terms VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (*key, field, term, packed, _checksum(revision, field, term, packed))
            # In the order of the table, so that each page is filled once.
            for (field, term), rows in sorted(postings.items(), key=itemgetter(0))
            for packed in [_packed(rows)]
        ),
    )
    connection.execute(
        "INSERT INTO termed_revisions VALUES (?, ?, ?, ?, ?)",
        (*key, total, _sum_of_total(revision, total)),
    )


def drop_terms(connection: sqlite3.Connection, revision: Revision) -> None:
    """Within the caller's transaction: forget the terms of a revision."""
    for statement in (
        "DELETE FROM row_terms WHERE index_name = ? AND day = ? AND revision = ?",
        "DELETE FROM termed_revisions WHERE index_name = ? AND day = ? AND revision = ?",
    ):
        connection.execute(statement, revision.key)


def drop_terms_of_day(connection: sqlite3.Connection, index: str, day: date) -> None:
    """Within the caller's transaction: forget the terms of every revision of a day."""
    for statement in (
        "DELETE FROM row_terms WHERE index_name = ? AND day = ?",
        "DELETE FROM termed_revisions WHERE index_name = ? AND day = ?",
    ):
        connection.execute(statement, (index, day.isoformat()))


def read_termed(connection: sqlite3.Connection, index: str | None = None) -> dict[Revision, int]:
    """The revisions whose terms are there, and how many; of one index or of all.

    One whose record fails its checksum is left out.
    """
    if schema_version(connection) < TERMS_SINCE:
        return {}
    found = connection.execute(
        "SELECT index_name, day, revision, terms, crc FROM termed_revisions "
        "WHERE index_name = coalesce(?, index_name)",
        (index,),
    )
    return {
        revision: total
        for *key, total, crc in found
        for revision in [Revision(*key)]
        if crc == _sum_of_total(revision, total)
    }


def read_matches(
    connection: sqlite3.Connection, revision: Revision, term: TermMatch
) -> Rows | None:
    """The rows of a revision that meet a condition, ascending; None if a record is damaged."""
    found = []
    for field in term.names:
        record = connection.execute(
            "SELECT rows, crc FROM row_terms "
            "WHERE index_name = ? AND day = ? AND revision = ? AND field = ? AND term = ?",
            (*revision.key, field, term.term),
        ).fetchone()
        if record is not None:
            packed, crc = record
            if crc != _checksum(revision, field, term.term, packed):
                return None
            found.append(np.frombuffer(packed, "<u4"))
    return found[0] if len(found) == 1 else np.unique(np.concatenate([_NONE, *found]))


def agree(connection: sqlite3.Connection, revision: Revision, postings: Postings) -> bool:
    """Whether the terms of a revision are these, each with its checksum."""
    left = dict(postings)
    for field, term, packed, crc in connection.execute(
        "SELECT field, term, rows, crc FROM row_terms "
        "WHERE index_name = ? AND day = ? AND revision = ?",
        revision.key,
    ):
        rows = left.pop((field, term), None)
        if rows is None or packed != _packed(rows):
            return False
        if crc != _checksum(revision, field, term, packed):
            return False
    return not left


def stray_terms(connection: sqlite3.Connection) -> set[Revision]:
    """Revisions that have terms, or a damaged record of them, and are not among `read_termed`."""
    if schema_version(connection) < TERMS_SINCE:
        return set()
    named = connection.execute(
        "SELECT index_name, day, revision FROM row_terms "
        "UNION SELECT index_name, day, revision FROM termed_revisions"
    )
    return {Revision(*key) for key in named}.difference(read_termed(connection))


def _packed(rows: "array[int]") -> bytes:
    if sys.byteorder == "big":
        rows = array("I", rows)
        rows.byteswap()
    return rows.tobytes()


def _checksum(revision: Revision, field: str, term: str, packed: bytes) -> int:
    return zlib.crc32(packed, zlib.crc32(f"{field}\0{term}".encode(), revision.crc))


def _sum_of_total(revision: Revision, total: int) -> int:
    return zlib.crc32(str(total).encode(), revision.crc)
