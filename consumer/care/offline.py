"""Closing and reconciling without a running service, by the same parts that the service uses."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from consumer.clock import SystemClock
from consumer.errors import ForgetError, JournalError, UsageError
from consumer.folding.closing import CloseRule
from consumer.folding.coordinator import Coordinator
from consumer.folding.executor import ChildProcess, FoldExecutor
from consumer.folding.installed import Models, models_of
from consumer.folding.requests import Requests
from consumer.health.status import is_live, read_status
from consumer.journal import DataLock, Journal
from consumer.quarantine.quarantine import Quarantine
from consumer.retention.forget import Forgetting
from consumer.settings import MIB, Settings
from index.catalogue import Catalogue
from index.chunks import Chunk

log = structlog.get_logger("offline")


def service_is_live(data_dir: Path) -> bool:
    """Whether a service runs on this data folder now."""
    picture = read_status(data_dir)
    return picture is not None and is_live(picture, time.time_ns())


def _raise(error: JournalError) -> None:
    raise error


class OfflineDays:
    """The writer of a data folder for the length of a `with` block.

    What was to be forgotten and is not yet is forgotten first.

    Args:
        settings: name the data folder.
        prepare: called when the lock is held and nothing is open yet.
        executor: where folds run; a child process unless a test says otherwise.
        models: what `executor` makes rows with; indices are brought to it. The installed ones for
            the child process.

    Raises:
        JournalLockedError: a service, or another command, writes this folder.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        prepare: Callable[[], None] | None = None,
        executor: FoldExecutor | None = None,
        models: Models | None = None,
    ) -> None:
        data_dir = settings.data.dir
        if not data_dir.is_dir():
            raise UsageError(f"data.dir = {data_dir}: there is no such folder")
        clock = SystemClock()
        self._lock = DataLock(data_dir)
        self._prepare = prepare
        self._executor = executor or ChildProcess(timeout_s=settings.fold.timeout_s)
        self._models = models if executor else models_of(settings.models.cache_dir)
        self._open = ExitStack()
        self._catalogue: Catalogue | None = None
        self._quarantine: Quarantine | None = None
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
        with ExitStack() as stack:
            stack.enter_context(self._lock)
            if self._prepare is not None:
                self._prepare()
            self._catalogue = stack.enter_context(
                Catalogue.open(self._settings.data.dir / "catalogue.sqlite")
            )
            self.journal.start()
            stack.callback(self.journal.stop)
            self._quarantine = Quarantine(
                self._settings.data.dir / "quarantine",
                self._clock,
                max_bytes=self._settings.quarantine.max_mb * MIB,
                max_age_days=self._settings.quarantine.max_age_days,
            )
            stack.callback(self._quarantine.close)
            for tombstone in self.forgetting.unfinished():
                try:
                    self.forgetting.finish(tombstone)
                except ForgetError as error:
                    log.error("day not forgotten", day=str(tombstone.day), error=str(error))
            self.coordinator = self._new_coordinator(self._catalogue)
            self.coordinator.catch_up()
            self._open = stack.pop_all()
        return self

    def _new_coordinator(self, catalogue: Catalogue) -> Coordinator:
        data_dir = self._settings.data.dir
        return Coordinator(
            self.journal,
            catalogue,
            self._executor,
            Requests(data_dir),
            data_dir=data_dir,
            zone=self._settings.day.zone,
            clock=self._clock,
            day_clock=lambda: None,
            rule=CloseRule(self._settings.day.grace_s, self._settings.day.settle_s),
            fold=self._settings.fold,
            models_cache=self._settings.models.cache_dir,
            sensors=self._settings.detector.all_profiles.sensors(),
            random=random.Random(),  # noqa: S311 - jitter, not a secret
            models=self._models,
        )

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue, open for writing. Inside the `with` block only."""
        assert self._catalogue is not None  # noqa: S101 - inside the with block
        return self._catalogue

    @property
    def forgetting(self) -> Forgetting:
        """Removes days for good. Inside the `with` block only."""
        assert self._quarantine is not None  # noqa: S101 - inside the with block
        return Forgetting(
            self.journal,
            self.catalogue,
            self._quarantine,
            data_dir=self._settings.data.dir,
            zone=self._settings.day.zone,
            clock=self._clock,
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Sync the journal and let go."""
        self._open.close()

    def close(self, day: date) -> Chunk:
        """Seal a day if it has new events, and commit it. Closing twice changes nothing.

        Raises:
            UsageError: there are no events of that day.
        """
        if day not in self.journal.days():
            raise UsageError(f"{day}: the journal has no events of this day")
        if self.journal.unsealed(day):
            self.coordinator.close(day)
        self.coordinator.fold_what_is_behind(at_once=True)
        chunk = self.catalogue.chunk(day)
        if chunk is None:
            raise UsageError(f"{day}: the day could not be closed; see `dayfold verify`")
        return chunk

    def reconcile(self) -> list[Chunk]:
        """Commit whatever is behind, now."""
        self.coordinator.fold_what_is_behind(at_once=True)
        return self.catalogue.chunks()
