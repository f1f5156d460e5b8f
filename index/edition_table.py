"""The editions of an index: its rows by one model each, and which of them is served.

An index begins with one edition that has its own name and no record here. When the model changes,
another edition is begun as `next`; its days are committed beside, under its own name, while the
old one is served. When all of it is there, one transaction makes it the one that is served. What
the old one has of days whose journal was let go stays in it as `kept`.

The name of an edition is the name of its folder, and the one under which its facts are stored.
"""

import hashlib
import sqlite3
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from index.errors import CatalogueCorruptError
from index.migrations import EDITIONS_SINCE, schema_version
from index.store import ModelIdentity, ModelLike

Role = Literal["serving", "next", "kept"]


@dataclass(frozen=True, slots=True)
class Edition:
    """One edition that has a record.

    Attributes:
        name: of its folder and its facts.
        index: the index it belongs to.
        role: `serving`, `next` (in the making) or `kept` (days that cannot be made again).
        model: what made its rows; None for the first edition, whose manifest alone says it.
    """

    name: str
    index: str
    role: Role
    model: ModelIdentity | None


def edition_name(index: str, model: ModelLike) -> str:
    """The name of the edition of an index by one model, recipe included."""
    digest = hashlib.sha256(f"{model.name}:{model.sha256}".encode()).hexdigest()
    return f"{index}-{digest[:12]}"


def read_editions(connection: sqlite3.Connection) -> list[Edition]:
    """Every edition that has a record.

    Raises:
        CatalogueCorruptError: a record fails its checksum.
    """
    if schema_version(connection) < EDITIONS_SINCE:
        return []
    found = []
    for *values, crc in connection.execute(
        "SELECT edition, index_name, role, model_name, model_sha256, crc FROM editions "
        "ORDER BY edition"
    ):
        name, index, role, model_name, sha256 = values
        if crc != _checksum(tuple(values)):
            raise CatalogueCorruptError(
                f"the catalogue's record of edition {name} of index {index} fails its checksum; "
                "run `dayfold repair`."
            )
        model = None if sha256 is None else ModelIdentity(model_name, sha256)
        found.append(Edition(name, index, role, model))
    return found


def write_edition(connection: sqlite3.Connection, edition: Edition) -> None:
    """Insert or replace the record of an edition."""
    model = edition.model
    values = (
        edition.name,
        edition.index,
        edition.role,
        None if model is None else model.name,
        None if model is None else model.sha256,
    )
    connection.execute(
        "INSERT OR REPLACE INTO editions VALUES (?, ?, ?, ?, ?, ?)", (*values, _checksum(values))
    )


def delete_edition(connection: sqlite3.Connection, name: str) -> None:
    """Remove the record of an edition, and what the catalogue says of its days; not its facts."""
    connection.execute("DELETE FROM editions WHERE edition = ?", (name,))
    connection.execute("DELETE FROM chunk_indices WHERE index_name = ?", (name,))


def read_kept(connection: sqlite3.Connection, day: date) -> Mapping[str, str]:
    """Of the indices whose rows of a day are in a kept edition, its name.

    Raises:
        CatalogueCorruptError: a record fails its checksum.
    """
    if schema_version(connection) < EDITIONS_SINCE:
        return {}
    kept = {}
    for *values, crc in connection.execute(
        "SELECT day, index_name, edition, crc FROM kept_days WHERE day = ?", (day.isoformat(),)
    ):
        if crc != _checksum(tuple(values)):
            raise CatalogueCorruptError(
                f"the catalogue's record of the edition of {day} fails its checksum; "
                "run `dayfold repair`."
            )
        kept[values[1]] = values[2]
    return kept


def write_kept(connection: sqlite3.Connection, day: date, index: str, edition: str) -> None:
    """Record that the rows of a day stay in `edition`."""
    values = (day.isoformat(), index, edition)
    connection.execute(
        "INSERT OR REPLACE INTO kept_days VALUES (?, ?, ?, ?)", (*values, _checksum(values))
    )


def delete_kept(connection: sqlite3.Connection, day: date, index: str) -> None:
    """Forget that the rows of a day are in a kept edition."""
    if schema_version(connection) >= EDITIONS_SINCE:
        connection.execute(
            "DELETE FROM kept_days WHERE day = ? AND index_name = ?", (day.isoformat(), index)
        )


def serving(editions: list[Edition], index: str) -> str:
    """Name of the edition of an index that is served."""
    return next((e.name for e in editions if (e.index, e.role) == (index, "serving")), index)


def in_the_making(editions: list[Edition], index: str) -> Edition | None:
    """The next edition of an index, if one is being made."""
    return next((e for e in editions if (e.index, e.role) == (index, "next")), None)


def state_key(editions: list[Edition], name: str) -> str:
    """Under which name the catalogue keeps the states of an edition: its index's once served."""
    return next((e.index for e in editions if (e.name, e.role) == (name, "serving")), name)


def _checksum(values: tuple[str | None, ...]) -> int:
    return zlib.crc32(repr(values).encode())
