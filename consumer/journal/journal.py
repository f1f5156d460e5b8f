"""The journal: the durable record of every day's events.

Three locks, always taken in this order:

- `Housekeeper.at_work`: one seal, or one round of housekeeping, at a time.
- inside `GroupCommit`: one sync at a time; a file is closed only while none is under way.
- the state lock: the days. Never held while the disk syncs, so `append` never waits for that.
"""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import structlog

from consumer.clock import Clock
from consumer.errors import JournalError, JournalWriteError
from consumer.journal.commit import GroupCommit, Sync
from consumer.journal.counts import DayCounts, write_counts
from consumer.journal.day import DayJournal
from consumer.journal.durable import fsync_folder, make_folder
from consumer.journal.failure import Failure
from consumer.journal.folders import day_folders, hold_zone
from consumer.journal.housekeeping import Housekeeper
from consumer.journal.record import encode
from consumer.journal.recovery import Recovered
from consumer.journal.removal import DayRemoval
from consumer.journal.retired import Why, is_retired
from consumer.journal.seal import Seal, write_seal
from consumer.journal.segment import SegmentWriter, Write
from consumer.wire.admitted import Admitted, Batch, by_day

log = structlog.get_logger("journal")

SEGMENT_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of a batch: events added, repeats dropped, and how many of the added were late."""

    added: int
    duplicates: int
    late: int


@dataclass(frozen=True, slots=True)
class _Written:
    """Events of one day that lie in a segment and are not counted yet."""

    state: DayJournal
    writer: SegmentWriter
    events: Batch
    size: int


class Journal:
    """Every day's events, each once, in the order of their arrival. One writer per folder.

    Append never waits for the disk to sync: a thread syncs what was appended, about every
    `commit_interval_s`. A power cut costs at most the events of one such interval and of the sync
    that was under way; a crash of the process costs none. The caller holds the DataLock. `append`
    belongs to one thread; all else may be called from any.

    Args:
        root: the journal's own folder; each day has a folder in it.
        zone: time zone of a day.
        clock: the machine's clock; its time of day is what `last_append_ns` returns.
        segment_bytes: a segment is closed when the next batch would make it larger.
        commit_interval_s: how long events gather before they are synced.
        on_fatal: called once, from any thread, when the journal stops for good. Let it only set a
            flag: the journal's locks may be held.
        no_room: called without a lock by `append` with the error of a batch that found no room;
            True has it try the same batch again, so it is the place to wait.
        write: writes to a segment.
        sync: makes a segment durable.
    """

    def __init__(
        self,
        root: Path,
        *,
        zone: ZoneInfo,
        clock: Clock,
        segment_bytes: int = SEGMENT_BYTES,
        commit_interval_s: float = 0.1,
        on_fatal: Callable[[JournalError], None],
        no_room: Callable[[JournalWriteError], bool] = lambda _: False,
        write: Write = os.write,
        sync: Sync = os.fdatasync,
    ) -> None:
        #: Highest effective time of any event; survives a restart. UTC ns.
        self.watermark_ns: int | None = None
        #: What was not in order when days were opened. Logged as well.
        self.recovered: list[Recovered] = []
        self._root = root
        self._zone = zone
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._write = write
        self._no_room = no_room
        self._running = False
        self._lock = threading.Lock()
        self._days: dict[date, DayJournal] = {}
        self._failure = Failure(root, on_fatal)
        self._commits = GroupCommit(
            self._lock, self._failure, interval_s=commit_interval_s, sync=sync
        )
        self._house = Housekeeper(self._days, self._lock, self._commits, self._failure, clock)
        self._retired: set[date] = set()
        self._removal = DayRemoval(
            root, self._days, self._retired, self._lock, self._commits, self._house
        )

    def start(self) -> None:
        """Open every day, recover what a crash left, and start the journal's threads. Once only.

        What was not in order is logged and stands in `recovered`. Raises JournalError if the folder
        cannot be used, or holds days that were cut in another time zone.
        """
        try:
            if make_folder(self._root):
                fsync_folder(self._root.parent)
            hold_zone(self._root, self._zone)
            for day, folder in day_folders(self._root):
                if is_retired(folder):
                    self._removal.found_retired(day, folder)
                else:
                    self._open_day(day, folder)
        except OSError as error:
            raise JournalError(f"the journal at {self._root} cannot be opened: {error}") from error
        self._report(0)
        self._running = True
        self._commits.start()
        self._house.start()

    def _open_day(self, day: date, folder: Path) -> None:
        state = self._new_day(day, folder)
        reported = len(self.recovered)
        state.open(self.recovered)
        if len(self.recovered) > reported:
            # What is kept now has been synced; the marks of before may lie beyond its end.
            write_counts(folder, state.kept_counts(), durable=True)
        self._days[day] = state
        last_ns = state.counts().last_ns
        if last_ns is not None:
            self._raise_watermark(last_ns)

    def _new_day(self, day: date, folder: Path) -> DayJournal:
        return DayJournal(folder, day, segment_bytes=self._segment_bytes, write=self._write)

    def stop(self) -> None:
        """Stop the threads, sync everything and close the files. Does nothing the second time.

        Raises JournalWriteError if the last sync fails; what was durable before stays so.
        """
        if not self._running:
            return
        self._running = False
        self._commits.stop()
        self._house.stop()
        with self._house.at_work:
            try:
                if self._failure.error is None:
                    self._house.settle()
            finally:
                with self._commits.quiet():
                    for state in self._days.values():
                        for writer in state.let_go():
                            self._commits.close(writer)

    @property
    def failed(self) -> JournalWriteError | None:
        """Why the journal stopped for good, or None."""
        return self._failure.error

    @property
    def appended_events(self) -> int:
        """Events added since the start."""
        return self._commits.appended

    @property
    def durable_events(self) -> int:
        """How many of those are on the disk for certain: the first so many."""
        return self._commits.durable

    def append(self, events: Sequence[Admitted]) -> Appended:
        """Add the events that are new to their day: all of a batch, or none of it.

        Best in batches of 64 to 1000. They are durable once `durable_events` has counted them.
        Raises JournalWriteError: if `failed` is None there was no room on the disk, nothing of the
        batch was kept, and the same batch may be appended again; else the journal has stopped.
        """
        while True:
            try:
                with self._lock:
                    self._check_running()
                    done = self._append(events)
            except OSError as error:
                refused = self._failure.refuse(error, f"{len(events)} events not appended")
                if self._failure.error is None and self._no_room(refused):
                    continue
                raise refused from error
            self._commits.wake()
            return done

    def _append(self, events: Sequence[Admitted]) -> Appended:
        written: list[_Written] = []
        repeats: list[tuple[DayJournal, int]] = []
        reported = len(self.recovered)
        try:
            for batch in by_day(events):
                state = self._day(batch.day)
                new = state.load_dedupe(self.recovered).new(batch.digests)
                if len(new) < len(batch):
                    repeats.append((state, len(batch) - len(new)))
                    batch = batch.only(new)
                if batch:
                    self._write_batch(state, batch, written)
        except BaseException:
            self._undo(written)
            raise
        finally:
            self._report(reported)
        return self._count(written, repeats)

    def _write_batch(self, state: DayJournal, batch: Batch, written: list[_Written]) -> None:
        data = encode(batch)
        writer, created = state.room_for(len(data))
        if created:
            self._commits.created((state.folder, self._root))
            self._house.wake()  # the segment before it may have been retired
        written.append(_Written(state, writer, batch, len(data)))
        writer.append(data)

    def _undo(self, written: Sequence[_Written]) -> None:
        """Cut every segment back to what it was before the batch."""
        for part in written:
            try:
                part.writer.cut_back()
            except OSError as error:
                raise self._failure.stop(f"{part.writer.path} cannot be cut back", error) from error

    def _count(
        self, written: Sequence[_Written], repeats: Sequence[tuple[DayJournal, int]]
    ) -> Appended:
        added = late = duplicates = 0
        now_ns, used = self._clock.now_ns(), self._clock.monotonic()
        for part in written:
            state, count = part.state, len(part.events)
            added += count
            late += count if state.closed_once else 0
            state.confirm(part.writer, part.events, part.size, now_ns)
            state.last_used = used
            self._commits.written(part.writer, count)
            self._house.counted(state)
            self._raise_watermark(max(part.events.times_ns))
        for state, count in repeats:
            duplicates += count
            state.duplicates += count
            state.last_used = used
            self._house.counted(state)
        return Appended(added, duplicates, late)

    def _raise_watermark(self, time_ns: int) -> None:
        if self.watermark_ns is None or time_ns > self.watermark_ns:
            self.watermark_ns = time_ns

    def _day(self, day: date) -> DayJournal:
        state = self._days.get(day)
        if state is None:
            if day in self._retired:
                raise JournalError(
                    f"day {day} takes no more events: its journal was let go, and a new revision "
                    "would replace its rows"
                )
            state = self._days[day] = self._new_day(day, self._root / day.isoformat())
        return state

    def sync(self) -> None:
        """Make everything that was appended before this call durable. Raises JournalWriteError."""
        self._check_running()
        self._commits.commit()
        self._house.write_counts()

    def days(self) -> list[date]:
        """Return the days that hold events, in order."""
        with self._lock:
            return sorted(day for day, state in self._days.items() if state.has_events)

    def counts(self, day: date) -> DayCounts:
        """Return what a day holds; zeros for a day without events."""
        with self._lock:
            state = self._days.get(day)
            return DayCounts(0, 0, 0, None, None, 0) if state is None else state.counts()

    def unsealed(self, day: date) -> bool:
        """Whether the day has events that its latest seal does not cover."""
        with self._lock:
            state = self._days.get(day)
            return state is not None and state.unsealed

    def last_append_ns(self, day: date) -> int:
        """Return when the last event of a day was appended, UTC ns. Raises JournalError for none.

        After a restart it is the latest arrival in the day's records.
        """
        with self._lock:
            state = self._days.get(day)
            last = None if state is None else state.latest_arrival_ns()
        if last is None:
            raise JournalError(f"day {day} has no events in {self._root}")
        return last

    def latest_seal(self, day: date) -> Seal | None:
        """Return the latest seal of a day that can be read, or None."""
        with self._lock:
            state = self._days.get(day)
            return None if state is None else state.seal

    def seal(self, day: date) -> Seal:
        """Close a day: everything it holds becomes its next revision. Repeats change nothing.

        Without new events the last seal is returned. Events that are appended meanwhile belong to
        the revision after. Raises JournalError for a day without events, JournalCorruptError if a
        segment of it is damaged, JournalWriteError if there is no room or the journal has stopped.
        """
        with self._house.at_work:
            with self._lock:
                self._check_running()
                state = self._days.get(day)
                if state is None or not state.has_events:
                    raise JournalError(f"day {day} has no events in {self._root}")
                if state.seal is not None and not state.unsealed:
                    return state.seal
                numbers = state.freeze()
                state.sealing = True
            try:
                return self._seal(state, numbers)
            except OSError as error:
                raise self._failure.refuse(error, f"day {day} not sealed") from error
            finally:
                state.sealing = False

    def _seal(self, state: DayJournal, numbers: Sequence[int]) -> Seal:
        self._house.finish_retired(state)
        with self._lock:
            seal = state.new_seal(numbers)
        write_seal(state.folder, seal)
        with self._lock:
            state.sealed(seal)
            self._house.counted(state)
        self._house.write_counts(durable=True)
        return seal

    def is_retired(self, day: date) -> bool:
        """Whether the day's events were let go: it takes no more, and is not embedded again."""
        return day in self._retired

    def retire(self, day: date, *, why: Why = "retention") -> int:
        """Let the events of a closed day go; return how many bytes that freed.

        Raises JournalError if it has events that no seal covers, or the disk does not let it.
        """
        self._check_running()
        try:
            return self._removal.retire(day, why, self._clock.now_ns())
        except OSError as error:
            raise JournalError(f"day {day} cannot be retired: {error}") from error

    def forget(self, day: date) -> None:
        """Remove all that there is of a day. What arrives for it later begins it anew.

        A crash leaves either all of it, or a folder that the next call removes. Raises JournalError
        if the disk does not let it.
        """
        self._check_running()
        try:
            self._removal.forget(day)
        except OSError as error:
            raise JournalError(f"day {day} cannot be removed: {error}") from error

    def _check_running(self) -> None:
        self._failure.check()
        if not self._running:
            raise JournalError(f"the journal at {self._root} is not started")

    def _report(self, since: int) -> None:
        for found in self.recovered[since:]:
            log.warning("journal recovered", kind=found.kind, detail=found.message)
