"""Closing and reconciling without a running service, by the same parts that the service uses."""

from __future__ import annotations

import random
import time
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Self

from consumer.clock import SystemClock
from consumer.closing import CloseRule
from consumer.coordinator import Coordinator
from consumer.errors import JournalError, UsageError
from consumer.executor import ChildProcess
from consumer.journal import DataLock, Journal
from consumer.requests import Requests
from consumer.settings import MIB, Settings
from consumer.status import is_live, read_status
from index.catalogue import Catalogue
from index.chunks import Chunk


def service_is_live(data_dir: Path) -> bool:
    """Whether a service runs on this data folder now."""
    picture = read_status(data_dir)
    return picture is not None and is_live(picture, time.time_ns())


def _raise(error: JournalError) -> None:
    raise error


class OfflineDays:
    """The writer of a data folder for the length of a `with` block.

    Raises:
        JournalLockedError: a service, or another command, writes this folder.
    """

    def __init__(self, settings: Settings) -> None:
        data_dir = settings.data.dir
        if not data_dir.is_dir():
            raise UsageError(f"data.dir = {data_dir}: there is no such folder")
        clock = SystemClock()
        self._lock = DataLock(data_dir)
        self._catalogue: Catalogue | None = None
        self.journal = Journal(
            data_dir / "journal",
            zone=settings.day.zone,
            clock=clock,
            segment_bytes=settings.journal.segment_mb * MIB,
            commit_interval_s=settings.journal.commit_interval_ms / 1000,
            on_fatal=_raise,
        )
        self._settings = settings
        self._clock = clock

    def __enter__(self) -> Self:
        """Take the lock and open journal and catalogue."""
        self._lock.__enter__()
        data_dir = self._settings.data.dir
        self._catalogue = Catalogue.open(data_dir / "catalogue.sqlite")
        self.journal.start()
        self._coordinator = Coordinator(
            self.journal,
            self._catalogue,
            ChildProcess(timeout_s=self._settings.fold.timeout_s),
            Requests(data_dir),
            data_dir=data_dir,
            zone=self._settings.day.zone,
            clock=self._clock,
            day_clock=lambda: None,
            rule=CloseRule(self._settings.day.grace_s, self._settings.day.settle_s),
            fold=self._settings.fold,
            models_cache=self._settings.models.cache_dir,
            random=random.Random(),  # noqa: S311 - jitter, not a secret
        )
        self._coordinator.catch_up()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Sync the journal and let go."""
        self.journal.stop()
        if self._catalogue is not None:
            self._catalogue.close()
        self._lock.__exit__(kind, error, trace)

    def close(self, day: date) -> Chunk:
        """Seal a day if it has new events, and commit it. Closing twice changes nothing.

        Raises:
            UsageError: there are no events of that day.
        """
        assert self._catalogue is not None  # noqa: S101 - inside the with block
        if day not in self.journal.days():
            raise UsageError(f"{day}: the journal has no events of this day")
        if self.journal.unsealed(day):
            self._coordinator.close(day)
        self._coordinator.fold_what_is_behind(at_once=True)
        chunk = self._catalogue.chunk(day)
        if chunk is None:
            raise UsageError(f"{day}: the day could not be closed; see `dayfold verify`")
        return chunk

    def reconcile(self) -> list[Chunk]:
        """Commit whatever is behind, now."""
        assert self._catalogue is not None  # noqa: S101 - inside the with block
        self._coordinator.fold_what_is_behind(at_once=True)
        return self._catalogue.chunks()
