"""Where events come from: the seam between reception and the intake.

A live subscriber, an import of log files and a recording all look the same from here: something
that is started, asked for the next messages, and stopped.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import NamedTuple, Self


class Arrival(NamedTuple):
    """One message as it arrived. A named tuple, because each message makes one.

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
    def take(self, limit: int, timeout_s: float) -> list[Arrival]:
        """Hand out up to `limit` messages, waiting up to `timeout_s` seconds for the first.

        An empty list means that the time passed or that the source is drained. With `timeout_s`
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
