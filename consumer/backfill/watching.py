"""`dayfold watch-logs`: from a folder of logs into the days, until it is told to stop."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import structlog

from consumer.backfill.sinks import POLL_S, Sink
from consumer.backfill.watch_logs import LogWatcher, WatchCounts
from consumer.backfill.writer import open_sink
from consumer.care.offline import service_is_live
from consumer.clock import Clock
from consumer.errors import UnreachableError
from consumer.settings import Settings

log = structlog.get_logger("watch")

BATCH = 512
WAIT_S = 0.5
#: How long a stop waits for a service that has gone, seconds.
GIVE_UP_S = 5.0


@dataclass(frozen=True, slots=True)
class WatchReport:
    """What a watch did from its start to its end."""

    counts: WatchCounts
    read: int
    added: int
    duplicates: int
    refused: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """As `dayfold watch-logs --json` prints it."""
        rejected = dict(self.counts.rejected)
        for reason, count in self.refused.items():
            rejected[reason] = rejected.get(reason, 0) + count
        return {
            "lines": self.counts.lines,
            "read": self.read + sum(self.counts.rejected.values()),
            "added": self.added,
            "duplicates": self.duplicates,
            "rejected": rejected,
            "truncations": self.counts.truncations,
        }


class PatientWait:
    """Waits for the service however long it is gone, until a stop is asked.

    Args:
        stopping: set when the watch is to end.
    """

    def __init__(self, data_dir: Path, stopping: threading.Event) -> None:
        self._data_dir = data_dir
        self._stopping = stopping
        self._warned = False
        self._asked: float | None = None

    def __call__(self) -> None:
        """Sleep a little.

        Raises:
            UnreachableError: a stop is asked and there is no service that could take the rest.
        """
        live = service_is_live(self._data_dir)
        if not live and not self._warned:
            log.warning("the service is gone; waiting for it", data=str(self._data_dir))
        self._warned = not live
        if self._stopping.is_set() and not live:
            self._asked = self._asked or time.monotonic()
            if time.monotonic() - self._asked > GIVE_UP_S:
                raise UnreachableError(
                    f"the service on data.dir = {self._data_dir} is gone: what was handed over "
                    "waits for its next start, and the next watch goes on with the rest"
                )
        time.sleep(POLL_S)


def watch(
    settings: Settings,
    folder: Path,
    *,
    local: ZoneInfo,
    clock: Clock,
    stopping: threading.Event,
    once: bool = False,
) -> WatchReport:
    """Follow the logs of a folder until `stopping` is set, or with `once` until all is read.

    Raises:
        UsageError: there is no such folder.
        JournalError: the journal does not take the events; another command may write it.
        UnreachableError: a stop was asked while the service was gone.
    """
    data_dir = settings.data.dir
    wait = PatientWait(data_dir, stopping)
    with open_sink(settings, clock=clock, wait=wait, close_days=True) as sink:
        source = LogWatcher(
            folder, positions_file(data_dir, folder), clock=clock, sync=sink.flush, local=local
        )
        with source:
            log.info("following logs", folder=str(source.folder))
            read = _follow(source, sink, stopping, once=once)
        while arrivals := source.take(BATCH, 0.0):
            sink.put(arrivals)
            read += len(arrivals)
        sink.flush()
        outcome = sink.outcome
    return WatchReport(
        counts=source.counts,
        read=read,
        added=sum(outcome.added.values()),
        duplicates=outcome.duplicates,
        refused=outcome.refused,
    )


def _follow(source: LogWatcher, sink: Sink, stopping: threading.Event, *, once: bool) -> int:
    read = 0
    had_room = True
    while not stopping.is_set():
        room = sink.room()
        if room != had_room:
            log.warning("following resumes" if room else "following stops: disk almost full")
        had_room = room
        if not room:
            stopping.wait(1.0)
            continue
        arrivals = source.take(BATCH, 0.0 if once else WAIT_S)
        if arrivals:
            sink.put(arrivals)
            read += len(arrivals)
        elif once:
            break
    return read


def positions_file(data_dir: Path, folder: Path) -> Path:
    """Where the positions of a followed folder are kept."""
    name = hashlib.blake2b(str(folder.resolve()).encode(), digest_size=8).hexdigest()
    return data_dir / "import" / f"positions-{name}.json"
