"""Where events come from: the seam between reception and the intake.

A live subscriber, an import of log files and a recording all look the same from here: something
that is started, asked for the next messages, and stopped.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import compress, groupby
from operator import attrgetter
from types import TracebackType
from typing import NamedTuple, Self, overload


class Arrival(NamedTuple):
    """One message as it arrived.

    Attributes:
        detector: instance name of the detector that sent it.
        arrival_ns: time of arrival, UTC nanoseconds since 1970.
        message: the message as received.
        sealed: True if `message` is in its envelope (encrypted); False if it is the bare payload.
    """

    detector: str
    arrival_ns: int
    message: bytes
    sealed: bool = True


class Run(NamedTuple):
    """Messages of one detector that arrived one after the other, as columns; see `Arrival`."""

    detector: str
    arrivals_ns: list[int]
    messages: list[bytes]
    sealed: bool = True

    def rows(self) -> list[Arrival]:
        """The messages one by one."""
        columns = zip(self.arrivals_ns, self.messages, strict=True)
        return [Arrival(self.detector, at_ns, message, self.sealed) for at_ns, message in columns]

    def between(self, begin: int, end: int) -> Run:
        """The messages from place `begin` up to `end`."""
        return self._replace(
            arrivals_ns=self.arrivals_ns[begin:end], messages=self.messages[begin:end]
        )

    def where(self, chosen: Sequence[bool]) -> Run:
        """The messages that are chosen, one answer for each."""
        return self._replace(
            arrivals_ns=list(compress(self.arrivals_ns, chosen)),
            messages=list(compress(self.messages, chosen)),
        )


class Arrivals(Sequence[Arrival]):
    """What was taken, as runs, so that reception need not make a row of each message.

    As a sequence it gives the rows.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs

    def __len__(self) -> int:
        return sum(len(run.messages) for run in self.runs)

    def __iter__(self) -> Iterator[Arrival]:
        return (arrival for run in self.runs for arrival in run.rows())

    @overload
    def __getitem__(self, place: int) -> Arrival: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Arrival]: ...

    def __getitem__(self, place: int | slice) -> Arrival | Sequence[Arrival]:
        return list(self)[place]


def runs_of(arrivals: Sequence[Arrival]) -> Sequence[Run]:
    """The same messages as runs, as few as keep their order."""
    if isinstance(arrivals, Arrivals):
        return arrivals.runs
    runs: list[Run] = []
    for (detector, sealed), group in groupby(arrivals, attrgetter("detector", "sealed")):
        rows = list(group)
        times = [arrival.arrival_ns for arrival in rows]
        runs.append(Run(detector, times, [arrival.message for arrival in rows], sealed))
    return runs


class EventSource(ABC):
    """Something that messages can be taken from.

    Promises of every implementation:

    - each message is handed out exactly once, and those of one detector in their order of arrival;
    - `take` never gives more than it was asked for, and never waits longer than it was told;
    - what was received before `stop` can still be taken after it; then `drained` becomes true and
      stays so;
    - `stop` is safe at any time, more than once, and from another thread than the one that takes.

    `take` is called from one thread at a time. A source is started once and is also a context
    manager that starts and stops it.
    """

    @abstractmethod
    def start(self) -> None:
        """Begin to receive.

        Raises:
            UsageError: the source was started before.
        """

    @abstractmethod
    def stop(self) -> None:
        """Receive nothing more. Returns once the source's threads have ended; never hangs."""

    @abstractmethod
    def take(self, limit: int, timeout_s: float) -> Sequence[Arrival]:
        """Hand out up to `limit` messages, waiting up to `timeout_s` seconds for the first.

        Nothing means that the time passed or that the source is drained. With `timeout_s`
        zero or less this never waits.

        Raises:
            ValueError: `limit` is less than 1.
            DayfoldError: the source broke down; what it had received before was handed out first.
        """

    @property
    @abstractmethod
    def drained(self) -> bool:
        """Whether no message will ever come again: the source has ended and all is taken."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
