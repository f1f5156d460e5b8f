"""What every vector index is: its facts, its promises, and how a row is named.

A row is one vector of one revision of one day. Its 64-bit identifier carries all three,
``day ordinal << 40 | revision << 28 | row``, so that a range of days is a range of identifiers
and rows of two revisions can never be taken for each other.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from index.errors import RevisionError, StoreCorruptError

ROW_BITS = 28
REVISION_BITS = 12
DAY_SHIFT = ROW_BITS + REVISION_BITS
MAX_ROWS = 1 << ROW_BITS
MAX_REVISION = (1 << REVISION_BITS) - 1
NORM_TOLERANCE = 1e-4
"""How far the length of a vector may be from 1. Single precision stays a hundred times closer."""

Vectors = NDArray[np.float32]
RowIds = NDArray[np.int64]


class ModelLike(Protocol):
    """Anything that names a model and its weights."""

    @property
    def name(self) -> str: ...  # noqa: D102 - a protocol member says what its class says

    @property
    def sha256(self) -> str: ...  # noqa: D102 - as above


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """The model that made the rows of an index. Two models are the same if their sha256 is."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Shard:
    """The rows of one revision of one day, in one immutable file."""

    day: date
    revision: int
    rows: int
    file: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Hit:
    """One row found. `score` is the inner product: the cosine, for the vectors are normalised."""

    day: date
    revision: int
    row: int
    score: float


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that verification found wrong.

    Attributes:
        what: the kind of fault, one or two words.
        where: file or record, so that a person finds it.
        detail: what was expected and what was there.
        repair: what mends it.
        index: name of the index it belongs to, if any.
        day: the day it belongs to, if any.
    """

    what: str
    where: str
    detail: str
    repair: str
    index: str | None = None
    day: date | None = None

    def to_json(self) -> dict[str, str | None]:
        """As `dayfold verify --json` prints it."""
        return {
            "what": self.what,
            "where": self.where,
            "detail": self.detail,
            "repair": self.repair,
            "index": self.index,
            "day": self.day.isoformat() if self.day else None,
        }


def row_id(day: date, revision: int, row: int) -> int:
    """The identifier of a row.

    Raises:
        RevisionError: revision or row does not fit (1 to 4095, 0 to 268,435,455).
    """
    if not 1 <= revision <= MAX_REVISION:
        raise RevisionError(
            f"revision {revision} of {day} is not between 1 and {MAX_REVISION}; "
            "delete the day and import it anew."
        )
    if not 0 <= row < MAX_ROWS:
        raise RevisionError(f"row {row} of {day} is not between 0 and {MAX_ROWS - 1}.")
    return day.toordinal() << DAY_SHIFT | revision << ROW_BITS | row


def split_row_id(identifier: int) -> tuple[date, int, int]:
    """Day, revision and row of an identifier."""
    return (
        date.fromordinal(identifier >> DAY_SHIFT),
        identifier >> ROW_BITS & MAX_REVISION,
        identifier & (MAX_ROWS - 1),
    )


def day_range(first: date | None, last: date | None) -> tuple[int, int]:
    """Identifiers [start, end) of all rows from `first` to `last`, both included; None is open."""
    start = (first or date.min).toordinal() << DAY_SHIFT
    return start, ((last or date.max).toordinal() + 1) << DAY_SHIFT


class VectorStore(ABC):
    """One index: normalised float32 vectors by day, searched exactly by inner product.

    An implementation promises:

    * A commit shows all rows of a revision or none, in every process, at any moment of a crash.
    * Committing the same rows again changes nothing.
    * What cannot be read is never served as empty: without its manifest an index raises
      `StoreCorruptError`; a day whose shard is damaged is left out of what is found, and `damaged`
      names it, so that whoever answers can say what is missing from the answer.
    * One writer at a time, any number of readers, in any process. Methods may be called from
      several threads.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the index."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Length of each vector."""

    @property
    @abstractmethod
    def model(self) -> ModelIdentity:
        """The model that made every row of this index."""

    @property
    @abstractmethod
    def generation(self) -> int:
        """Grows with every change that readers can see."""

    @abstractmethod
    def commit(self, day: date, revision: int, blocks: Iterable[Vectors]) -> int:
        """Replace what the index holds of `day` by these rows, numbered from 0 in their order.

        Args:
            day: the day.
            revision: 1 to 4095.
            blocks: float32 arrays (n, dimension), each row of length 1. Taken one at a time.

        Returns:
            The number of rows.

        Raises:
            VectorError: no rows, wrong shape or type, not finite, not normalised.
            RevisionError: a later revision is held, or it does not fit.
            StoreWriteError: nothing changed, or opened for reading only.
        """

    @abstractmethod
    def drop(self, day: date) -> None:
        """Forget a day. A day that is not held is no error."""

    @abstractmethod
    def shards(self) -> Mapping[date, Shard]:
        """What the index holds, by day, oldest first."""

    @abstractmethod
    def search(
        self,
        queries: Vectors,
        k: int,
        *,
        first: date | None = None,
        last: date | None = None,
        only: RowIds | None = None,
        members_only: bool = False,
    ) -> list[list[Hit]]:
        """The `k` nearest rows of each query, best first; ties by day, then row.

        Args:
            queries: float32 (m, dimension), each of length 1.
            k: at least 1; fewer hits come back when fewer rows qualify.
            first: earliest day, included.
            last: latest day, included.
            only: identifiers of the rows to consider; unknown ones are ignored.
            members_only: leave out row 0, which stands for the whole day.

        Raises:
            VectorError: queries of the wrong shape or type, not finite, not normalised.
            StoreCorruptError: the manifest cannot be trusted.
        """

    @abstractmethod
    def vectors(self, day: date, rows: Sequence[int] | None = None) -> Vectors:
        """Vectors of a day, (n, dimension): all rows, or those asked for, in that order.

        Raises:
            DayMissingError: the day or a row is not held.
            StoreCorruptError: the shard of that day cannot be trusted.
        """

    @abstractmethod
    def day_rows(self) -> tuple[list[date], Vectors]:
        """Row 0 of every day, oldest first: the days and an array (days, dimension).

        Days that are `damaged` are left out.
        """

    @abstractmethod
    def damaged(self) -> Mapping[date, StoreCorruptError]:
        """The days whose rows cannot be trusted and are left out of every answer, and why."""

    @abstractmethod
    def verify(self, *, deep: bool) -> list[Fault]:
        """Check what is on disk. Gives faults, raises none of them.

        With `deep` every vector is looked at, not only every checksum.
        """

    @abstractmethod
    def refresh(self) -> bool:
        """Pick up a newer generation committed elsewhere. True if there was one."""

    @abstractmethod
    def close(self) -> None:
        """Give up memory and the right to write. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
