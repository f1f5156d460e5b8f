"""Admitted events on their way into the journal: one by one, and as the columns of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import chain, repeat
from typing import Any, NamedTuple, Self, overload


class Admitted(NamedTuple):
    """An event on its way into the journal.

    `time_ns` is the effective time, which decides the day; `own_time` says whether it is the
    event's own or that of its arrival. `payload` is what is stored: the LZ4 block as received if
    `compressed`, else the protobuf message. Times are UTC ns since 1970, sizes are bytes.
    """

    day: date
    time_ns: int
    own_time: bool
    digest: bytes
    arrival_ns: int
    payload: bytes
    raw_size: int
    compressed: bool


@dataclass(frozen=True, slots=True)
class Batch(Sequence[Admitted]):
    """Events of one day as columns, so that reception need not make a row of each.

    The columns are those of `Admitted`, one entry an event. As a sequence it gives the rows.
    """

    day: date
    times_ns: list[int]
    own_times: list[bool]
    digests: list[bytes]
    arrivals_ns: list[int]
    payloads: list[bytes]
    raw_sizes: list[int]
    compressed: list[bool]

    @classmethod
    def of(cls, events: Sequence[Admitted]) -> Self:
        """The columns of events. Raises ValueError if there are none, or of more than one day."""
        days = {event.day for event in events}
        if len(days) != 1:
            raise ValueError(f"a batch is of one day, not of {len(days)}")
        _, *columns = map(list, zip(*events, strict=True))
        return cls(days.pop(), *columns)

    def only(self, places: Sequence[int]) -> Batch:
        """The events at these places."""
        return Batch(self.day, *([column[at] for at in places] for column in self.columns()))

    def columns(self) -> tuple[list[Any], ...]:
        """All columns but the day, in their order."""
        return (
            self.times_ns,
            self.own_times,
            self.digests,
            self.arrivals_ns,
            self.payloads,
            self.raw_sizes,
            self.compressed,
        )

    def __len__(self) -> int:
        return len(self.digests)

    def __iter__(self) -> Iterator[Admitted]:
        return map(Admitted, repeat(self.day), *self.columns())

    @overload
    def __getitem__(self, place: int) -> Admitted: ...

    @overload
    def __getitem__(self, place: slice) -> Batch: ...

    def __getitem__(self, place: int | slice) -> Admitted | Batch:
        found: Any = [column[place] for column in self.columns()]
        return Batch(self.day, *found) if isinstance(place, slice) else Admitted(self.day, *found)


def by_day(events: Sequence[Admitted]) -> list[Batch]:
    """The same events as one batch for each day, in the order of the days."""
    if isinstance(events, Batch):
        return [events]
    days = sorted({event.day for event in events})
    return [Batch.of([event for event in events if event.day == day]) for day in days]


def joined(parts: Sequence[Batch]) -> Sequence[Admitted]:
    """The events of all parts, one behind the other: as one batch if they are of one day."""
    if len({part.day for part in parts}) != 1:
        return list(chain.from_iterable(parts))
    columns = zip(*(part.columns() for part in parts), strict=True)
    return Batch(parts[0].day, *(list(chain.from_iterable(pieces)) for pieces in columns))
