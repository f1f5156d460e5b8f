"""The writer of the data folder for the length of a backfill, when no service runs on it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from consumer.backfill.appending import appender_of, feed_of
from consumer.backfill.sinks import POLL_S, JournalSink, Sink, SpoolSink
from consumer.care.offline import OfflineDays, service_is_live
from consumer.clock import Clock
from consumer.disk import DiskRoom
from consumer.errors import UnreachableError
from consumer.folding.closing import CloseRule
from consumer.folding.coordinator import Coordinator
from consumer.folding.executor import ChildProcess
from consumer.folding.requests import Requests
from consumer.journal import Journal
from consumer.settings import Settings
from index.catalogue import Catalogue

STOP_S = 30.0
#: How long a service may be silent before an import gives up on it, seconds.
GONE_S = 15.0


@contextmanager
def open_sink(
    settings: Settings, *, clock: Clock, wait: Callable[[], None], close_days: bool = False
) -> Iterator[Sink]:
    """Where to put events now: into the running service if there is one, else into the journal.

    Args:
        wait: see `SpoolSink`.
        close_days: without a service, also close and fold days meanwhile, as a service would.

    Raises:
        JournalLockedError: another command writes this data folder.
        JournalError: the journal cannot be opened.
    """
    data_dir = settings.data.dir
    if service_is_live(data_dir):
        yield SpoolSink(data_dir, clock=clock, wait=wait)
        return
    with _writer(settings, clock, close_days=close_days) as sink:
        yield sink


@contextmanager
def _writer(settings: Settings, clock: Clock, *, close_days: bool) -> Iterator[Sink]:
    data_dir = settings.data.dir
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with OfflineDays(settings) as offline, ExitStack() as stack:
        journal = offline.journal
        appender = appender_of(settings, journal, clock)
        sink = JournalSink(
            journal, appender, DiskRoom(data_dir, min_free_mb=settings.data.min_free_mb)
        )
        # What was handed to a service that stopped before it took it.
        feed = feed_of(settings, journal, clock)
        while feed.step():
            pass
        stack.callback(_note_days, journal, offline.catalogue)
        if close_days:
            coordinator = _coordinator(settings, journal, offline.catalogue, clock)
            coordinator.start()
            stack.callback(coordinator.stop, STOP_S)
        yield sink


def _note_days(journal: Journal, catalogue: Catalogue) -> None:
    """Show what was added as open days, so that `dayfold days` has them."""
    if journal.failed is None:
        for day in journal.days():
            if journal.unsealed(day):
                catalogue.note_chunk(day, journal.counts(day))


def _coordinator(
    settings: Settings, journal: Journal, catalogue: Catalogue, clock: Clock
) -> Coordinator:
    def day_clock() -> int | None:
        return journal.watermark_ns if settings.day.clock == "event" else clock.now_ns()

    return Coordinator(
        journal,
        catalogue,
        ChildProcess(timeout_s=settings.fold.timeout_s),
        Requests(settings.data.dir),
        data_dir=settings.data.dir,
        zone=settings.day.zone,
        clock=clock,
        day_clock=day_clock,
        rule=CloseRule(settings.day.grace_s, settings.day.settle_s),
        fold=settings.fold,
        models_cache=settings.models.cache_dir,
        sensors=settings.detector.all_profiles.sensors(),
        random=random.Random(),  # noqa: S311 - jitter, not a secret
    )


class WaitForService:
    """Waits for a running service, and gives up when it has been gone for `GONE_S`."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._seen = time.monotonic()

    def __call__(self) -> None:
        """Sleep a little.

        Raises:
            UnreachableError: the service has gone.
        """
        if service_is_live(self._data_dir):
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > GONE_S:
            raise UnreachableError(
                f"the service on data.dir = {self._data_dir} has stopped: what was handed over "
                "waits for its next start; run this again to bring in the rest"
            )
        time.sleep(POLL_S)
