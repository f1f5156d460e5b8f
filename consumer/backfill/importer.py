"""`dayfold import`: brings the past in, each event once.

Files are taken in the order of `layout.plan`. When all events of a file are durable it is noted as
finished, so that an import that was broken off goes on where it was; and because every event is
known by its identity, or recognised by what its record says, doing it twice changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import structlog

from consumer.backfill.artifacts import ArtifactImport, ArtifactReader, RecordNames
from consumer.backfill.events import PastEvent, PastEvents, past_event
from consumer.backfill.finished import (
    Finished,
    FinishedFiles,
    Stamp,
    content_digest,
    stamp_of,
)
from consumer.backfill.known import KnownEvents
from consumer.backfill.layout import (
    ArtifactFolder,
    ArtifactGroup,
    LogFile,
    Part,
    Recording,
    Unit,
    groups_of,
)
from consumer.backfill.local_time import logged_about_ns
from consumer.backfill.logfile import LogImport
from consumer.backfill.sinks import Sink
from consumer.backfill.tally import ImportResult, OnProgress, Progress, Tally
from consumer.clock import Clock
from consumer.days import NS_PER_SECOND
from consumer.errors import UsageError
from consumer.replay.recordings import read_recording
from consumer.wire.keys import Key

log = structlog.get_logger("import")

#: Reasons for which another import, with another key or at another time, may do better.
MENDABLE = frozenset({"unknown_key", "unreadable", "future"})
#: About how large the file of an artifact is, bytes; for the progress only.
_FILE_BYTES = 2048
#: Events of a recording that are put in the order of their time together.
_SORTED = 4096


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How to import.

    Attributes:
        zone: time zone of the journal's days.
        local: time zone of the dates in the names of files.
        node: sensor that flows of a Parquet file come from.
        keys: of sealed artifacts.
        ahead_s: how far after now an event may be, seconds.
        max_event_bytes: largest event.
        again: whether to read files that an earlier import has finished.
    """

    zone: ZoneInfo
    local: ZoneInfo
    node: str
    keys: tuple[Key, ...]
    ahead_s: float
    max_event_bytes: int
    again: bool = False


class Importer:
    """One import. `run` may be called once.

    Args:
        sink: where events go.
        data_dir: its `journal` is read, its `import` remembers finished files. One import of it at
            a time.
        on_progress: told now and then how far it is.
    """

    def __init__(
        self,
        sink: Sink,
        data_dir: Path,
        options: ImportOptions,
        *,
        clock: Clock,
        on_progress: OnProgress = lambda _: None,
    ) -> None:
        self._sink = sink
        self._options = options
        self._on_progress = on_progress
        self._finished = FinishedFiles(data_dir / "import")
        self._tally = Tally(options.zone)
        self._counted = Counter[str]()
        known = KnownEvents(data_dir / "journal")
        names = RecordNames()
        self._events = PastEvents(
            sink,
            known,
            self._tally,
            now_ns=clock.now_ns(),
            ahead_ns=round(options.ahead_s * NS_PER_SECOND),
        )
        self._artifacts = ArtifactImport(
            ArtifactReader(options.keys, clock=clock, max_event_bytes=options.max_event_bytes),
            self._events,
            known,
            self._tally,
            names,
            zone=options.zone,
            local=options.local,
        )
        self._logs = LogImport(
            self._events,
            known,
            self._tally,
            names,
            zone=options.zone,
            local=options.local,
        )

    def run(self, units: Sequence[Unit]) -> ImportResult:
        """Import what `layout.plan` found.

        Raises:
            JournalError: the journal does not take the events.
            UnreachableError: the service that was to take them has gone.
        """
        weights = [_weight(unit) for unit in units]
        total = sum(weights)
        done = 0
        for unit, weight in zip(units, weights, strict=True):
            if isinstance(unit, ArtifactFolder):
                self._folder(unit, done, total)
            else:
                on_bytes = partial(self._tell, done, total, unit.path.name)
                on_bytes(0)
                self._part(unit, on_bytes)
            done += weight
        self._sink.flush()
        self._on_progress(Progress(total, total, ""))
        return self._result()

    def _tell(self, before: int, total: int, reading: str, size: int) -> None:
        self._on_progress(Progress(before + size, total, reading))

    def _folder(self, unit: ArtifactFolder, before: int, total: int) -> None:
        done = 0
        try:
            for group in groups_of(unit):
                self._tell(before, total, str(unit.folder), done)
                self._part(group, lambda _: None)
                done += sum(len(artifact.paths) for artifact in group.artifacts) * _FILE_BYTES
        except OSError as error:
            self._unreadable(str(unit.folder), str(error))
            self._counted["unfinished"] += 1

    def _part(self, part: Part, on_bytes: Callable[[int], None]) -> None:
        before = self._snapshot()
        try:
            stamp = stamp_of(part)
            known = None if self._options.again else self._finished.find(part, self._sink.events_of)
            if known is not None:
                self._skip(known)
                return
            if not isinstance(part, ArtifactGroup):
                stamp = replace(stamp, digest=content_digest(part.path))
        except OSError as error:
            where = part.folder if isinstance(part, ArtifactGroup) else part.path
            self._unreadable(str(where), str(error))
            self._counted["unfinished"] += 1
            return
        try:
            self._read(part, stamp, on_bytes)
        except OSError as error:
            self._unreadable(stamp.key, str(error))
        self._sink.flush()
        self._settle(stamp, before)

    def _read(self, part: Part, stamp: Stamp, on_bytes: Callable[[int], None]) -> None:
        if isinstance(part, ArtifactGroup):
            self._artifacts.run(part)
        elif isinstance(part, LogFile):
            self._logs.run(part, stamp.size, on_bytes)
        else:
            self._recording(part)

    def _recording(self, unit: Recording) -> None:
        node = self._options.node if unit.path.suffix == ".parquet" else None
        written_ns = logged_about_ns(unit.path, None, self._options.local)
        waiting: list[PastEvent] = []
        try:
            for event in read_recording(unit.path, node=node):
                waiting.append(past_event(event.payload, written_ns))
                if len(waiting) == _SORTED:
                    self._events.put(waiting)
                    waiting = []
        except UsageError as error:
            self._unreadable(str(unit.path), str(error))
        self._events.put(waiting)

    def _unreadable(self, where: str, detail: str) -> None:
        self._tally.reject(where, "unreadable", detail)
        log.warning("not imported", file=where, detail=detail)

    def _snapshot(self) -> tuple[int, Counter[str], Counter[date]]:
        tally = self._tally
        return tally.read, self._rejected(), Counter(tally.days)

    def _rejected(self) -> Counter[str]:
        return self._tally.rejected + Counter(self._sink.outcome.refused)

    def _settle(self, stamp: Stamp, before: tuple[int, Counter[str], Counter[date]]) -> None:
        """Note a file as finished, unless there is something in it that may be had another time."""
        read, rejected, days = self._snapshot()
        rejected -= before[1]
        touched = days - before[2]
        if MENDABLE.isdisjoint(rejected):
            self._counted["imported"] += 1
            self._finished.add(
                Finished(
                    stamp,
                    read - before[0],
                    dict(rejected),
                    {
                        day.isoformat(): (count, self._sink.events_of(day))
                        for day, count in sorted(touched.items())
                    },
                )
            )
        else:
            self._counted["unfinished"] += 1

    def _skip(self, finished: Finished) -> None:
        """Count a file that was finished before: all that it has to give is there."""
        tally = self._tally
        tally.read += finished.read
        tally.duplicates += finished.read - sum(finished.rejected.values())
        tally.rejected.update(finished.rejected)
        for day, (read, _) in finished.days.items():
            tally.days[date.fromisoformat(day)] += read
        self._counted["skipped"] += 1

    def _result(self) -> ImportResult:
        tally, outcome = self._tally, self._sink.outcome
        days = set(tally.days) | set(outcome.added)
        return ImportResult(
            read=tally.read,
            added=sum(outcome.added.values()),
            duplicates=tally.duplicates + outcome.duplicates,
            rejected=dict(self._rejected()),
            days={day: (tally.days[day], outcome.added.get(day, 0)) for day in days},
            files={name: self._counted[name] for name in ("imported", "skipped", "unfinished")},
            faults=tuple(tally.faults),
        )


def _weight(unit: Unit) -> int:
    """About how many bytes there are to read; for the progress only."""
    if isinstance(unit, ArtifactFolder):
        return unit.files * _FILE_BYTES
    try:
        return unit.path.stat().st_size
    except OSError:
        return 0
