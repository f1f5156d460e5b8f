"""Where backfill puts events: straight into the journal, or through the running service."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

from consumer.backfill.appending import BATCH, Appender
from consumer.backfill.spool import (
    DONE_SUFFIX,
    FOLDER,
    Outcome,
    forget_old,
    write_batch,
)
from consumer.clock import Clock
from consumer.disk import DiskRoom
from consumer.errors import JournalError
from consumer.journal import Journal
from consumer.reception.sources import Arrival
from index.catalogue import Catalogue

#: A batch of the spool ends at so many events, or so many bytes.
SPOOL_EVENTS = 2048
SPOOL_BYTES = 4 * 1024 * 1024
#: So many batches may wait for the service.
SPOOL_BATCHES = 4
POLL_S = 0.02
OLD_NS = 3600 * 1_000_000_000


class Sink(ABC):
    """Takes events without an envelope. `outcome` is complete after a `flush`."""

    def __init__(self) -> None:
        #: What became of the events so far.
        self.outcome = Outcome()

    @abstractmethod
    def put(self, arrivals: Sequence[Arrival]) -> None:
        """Take some events. May wait.

        Raises:
            JournalError: they cannot be appended.
            UnreachableError: the service that was to take them has gone.
        """

    @abstractmethod
    def flush(self) -> None:
        """Return when all that was put is durable. Raises as `put` does."""

    @abstractmethod
    def events_of(self, day: date) -> int:
        """How many events the journal holds of a day, or a little earlier held."""

    @abstractmethod
    def room(self) -> bool:
        """Whether the disk has room for more."""


class JournalSink(Sink):
    """Appends to a journal that this process writes."""

    def __init__(self, journal: Journal, appender: Appender, disk: DiskRoom) -> None:
        super().__init__()
        self._journal = journal
        self._appender = appender
        self._disk = disk

    def put(self, arrivals: Sequence[Arrival]) -> None:
        """Append some events."""
        if not self.room():
            raise JournalError(
                f"the disk has {self._disk.free_mb} MiB left, less than data.min_free_mb = "
                f"{self._disk.min_free_mb}: free some and run this again; what was added stays"
            )
        for start in range(0, len(arrivals), BATCH):
            self.outcome.add(self._appender.append(arrivals[start : start + BATCH]))

    def flush(self) -> None:
        """Sync the journal."""
        self._journal.sync()

    def events_of(self, day: date) -> int:
        """What the journal counts."""
        return self._journal.counts(day).events

    def room(self) -> bool:
        """What the disk says now."""
        self._disk.measure()
        return self._disk.room()


class SpoolSink(Sink):
    """Hands events to the running service and waits for what it says of them.

    Args:
        data_dir: the service's data folder.
        wait: called between two looks at the answers; sleeps a little, and raises to give up.
    """

    def __init__(self, data_dir: Path, *, clock: Clock, wait: Callable[[], None]) -> None:
        super().__init__()
        self._folder = data_dir / FOLDER
        self._catalogue = data_dir / "catalogue.sqlite"
        self._wait = wait
        self._open: list[Arrival] = []
        self._open_bytes = 0
        self._handed: deque[Path] = deque()
        self._name = f"{clock.now_ns():020d}-{os.getpid()}"
        self._number = 0
        forget_old(self._folder, clock.now_ns() - OLD_NS)

    def put(self, arrivals: Sequence[Arrival]) -> None:
        """Put some events into the spool; waits while too much lies in it."""
        for arrival in arrivals:
            self._open.append(arrival)
            self._open_bytes += len(arrival.message)
            if len(self._open) >= SPOOL_EVENTS or self._open_bytes >= SPOOL_BYTES:
                self._hand_over()

    def flush(self) -> None:
        """Wait until the service has made everything durable."""
        self._hand_over()
        self._wait_for(0)

    def events_of(self, day: date) -> int:
        """What the catalogue says, which the service keeps up to date."""
        if not self._catalogue.exists():
            return 0
        with Catalogue.open(self._catalogue, read_only=True) as catalogue:
            chunk = catalogue.chunk(day)
        return 0 if chunk is None else chunk.events

    def room(self) -> bool:
        """Always: the service takes nothing while the disk is almost full, and this waits."""
        return True

    def _hand_over(self) -> None:
        if not self._open:
            return
        self._wait_for(SPOOL_BATCHES - 1)
        self._number += 1
        try:
            batch = write_batch(self._folder, f"{self._name}-{self._number:06d}", self._open)
        except OSError as error:
            raise JournalError(f"{self._folder}: cannot hand events over: {error}") from error
        self._handed.append(batch.with_suffix(DONE_SUFFIX))
        self._open, self._open_bytes = [], 0

    def _wait_for(self, left: int) -> None:
        while len(self._handed) > left:
            if self._handed[0].exists():
                self._take_answer(self._handed.popleft())
            else:
                self._wait()

    def _take_answer(self, path: Path) -> None:
        try:
            document = json.loads(path.read_bytes())
            error = document.get("error")
            if error is None:
                self.outcome.add(Outcome.from_json(document))
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            raise JournalError(f"{path}: not an answer of the service: {fault}") from fault
        path.unlink(missing_ok=True)
        if error is not None:
            raise JournalError(f"the service could not read what was handed over: {error}")
