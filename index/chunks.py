"""What the catalogue says of a day, as frozen facts, and their JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Any, Literal, Protocol

INDEX_NAMES = ("timeseries", "semantic", "attack")
"""The indices of every chunk. A chunk is committed when all of them hold its revision."""

ChunkState = Literal["open", "closing", "committed", "degraded"]
IndexStateName = Literal["pending", "committed", "failed"]
Json = Any
_SECOND = 1_000_000_000


class Counts(Protocol):
    """What the journal counted of a day. Times are UTC nanoseconds; None when it is empty."""

    @property
    def events(self) -> int: ...  # noqa: D102 - a protocol member says what its class says
    @property
    def duplicates(self) -> int: ...  # noqa: D102 - as above
    @property
    def late(self) -> int: ...  # noqa: D102 - as above
    @property
    def first_ns(self) -> int | None: ...  # noqa: D102 - as above
    @property
    def last_ns(self) -> int | None: ...  # noqa: D102 - as above
    @property
    def bytes(self) -> int: ...  # noqa: D102 - as above


class FactsLike(Protocol):
    """What an embedder says of one row. Times are UTC nanoseconds."""

    @property
    def kind(self) -> str: ...  # noqa: D102 - a protocol member says what its class says
    @property
    def label(self) -> str: ...  # noqa: D102 - as above
    @property
    def weight(self) -> int: ...  # noqa: D102 - as above
    @property
    def first_ns(self) -> int: ...  # noqa: D102 - as above
    @property
    def last_ns(self) -> int: ...  # noqa: D102 - as above
    @property
    def detail(self) -> Mapping[str, Json]: ...  # noqa: D102 - as above


@dataclass(frozen=True, slots=True)
class IndexState:
    """How one index stands to a chunk.

    Attributes:
        state: `pending` until the chunk's revision is in, `failed` when the last attempt failed.
        revision: what the index holds now, which may be older than the chunk; None for nothing.
        rows: rows of that revision.
        attempts: attempts made at the chunk's revision.
        next_retry_ns: when a failed one is tried again, UTC nanoseconds.
        error: what the last attempt failed with.
        model: SHA-256 of the model that made the rows.
        coverage: proof of that revision.
        edition: the edition of the index that has the rows (see `index.edition_table`).
    """

    state: IndexStateName = "pending"
    revision: int | None = None
    rows: int = 0
    attempts: int = 0
    next_retry_ns: int | None = None
    error: str | None = None
    model: str | None = None
    coverage: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    edition: str = ""

    def to_json(self) -> dict[str, Json]:
        """One entry of `indices` in a DAY."""
        return {
            "state": self.state,
            "revision": self.revision,
            "rows": self.rows,
            "attempts": self.attempts,
            "next_retry": rfc3339(self.next_retry_ns),
            "error": self.error,
            "model": self.model,
        }


@dataclass(frozen=True, slots=True)
class Chunk:
    """One day as the catalogue knows it.

    Attributes:
        day: the day.
        revision: the last revision sealed; 0 when it never was.
        unsealed: events have come since the last seal, or it never was sealed.
        events: distinct events; `duplicates` and `late` likewise as the journal counts them.
        first_ns: time of the earliest event, UTC nanoseconds.
        last_ns: time of the latest event.
        size: bytes in the journal.
        indices: how each index stands, by name.
        upcoming: how the next edition of an index stands, by index, while one is being made.
    """

    day: date
    revision: int
    unsealed: bool
    events: int
    duplicates: int
    late: int
    first_ns: int | None
    last_ns: int | None
    size: int
    indices: Mapping[str, IndexState]
    upcoming: Mapping[str, IndexState] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def state(self) -> ChunkState:
        """Open while unsealed; then committed, degraded or closing by what the indices say."""
        if self.unsealed:
            return "open"
        if any(index.state == "failed" for index in self.indices.values()):
            return "degraded"
        if all(
            index.state == "committed" and index.revision == self.revision
            for index in self.indices.values()
        ):
            return "committed"
        return "closing"

    def to_json(self) -> dict[str, Json]:
        """The DAY that `dayfold show --json` and the API print."""
        return {
            "day": self.day.isoformat(),
            "revision": self.revision,
            "state": self.state,
            "events": self.events,
            "duplicates": self.duplicates,
            "late": self.late,
            "first_event": rfc3339(self.first_ns),
            "last_event": rfc3339(self.last_ns),
            "bytes": self.size,
            "indices": {
                name: {
                    **state.to_json(),
                    # Embedded anew by another model; the rows above are served meanwhile.
                    "next": self.upcoming[name].to_json() if name in self.upcoming else None,
                }
                for name, state in self.indices.items()
            },
            "coverage": {name: dict(state.coverage) for name, state in self.indices.items()},
        }


@dataclass(frozen=True, slots=True)
class Due:
    """An index that is behind a sealed chunk and may be tried now.

    Attributes:
        edition: the next edition of the index that lacks the day; None for the one served.
    """

    day: date
    index: str
    revision: int
    attempts: int
    edition: str | None = None

    @property
    def key(self) -> str:
        """The name under which the catalogue keeps its state."""
        return self.edition or self.index


@dataclass(frozen=True, slots=True)
class RowKey:
    """Names a row of an index."""

    day: date
    revision: int
    row: int


@dataclass(frozen=True, slots=True)
class StoredRow:
    """The facts of one row. Times are UTC nanoseconds."""

    index: str
    day: date
    revision: int
    row: int
    kind: str
    label: str
    weight: int
    first_ns: int
    last_ns: int
    detail: Mapping[str, Json]

    def to_json(self) -> dict[str, Json]:
        """As search results carry it."""
        return {
            "day": self.day.isoformat(),
            "revision": self.revision,
            "row": self.row,
            "kind": self.kind,
            "label": self.label,
            "weight": self.weight,
            "first": rfc3339(self.first_ns),
            "last": rfc3339(self.last_ns),
            "detail": dict(self.detail),
        }


def rfc3339(ns: int | None) -> str | None:
    """UTC time with 0, 3, 6 or 9 digits of fraction, as protobuf's JSON mapping writes it.

    None, and a time outside the years 1 to 9999, give None.
    """
    if ns is None:
        return None
    seconds, fraction = divmod(ns, _SECOND)
    try:
        whole = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()
    except (OverflowError, ValueError, OSError):
        return None
    digits = f"{fraction:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{whole}.{digits}Z" if digits else f"{whole}Z"
