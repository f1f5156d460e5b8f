"""What the journal does on the side: finish full segments, release idle days, keep counts."""

import contextlib
import threading
from collections.abc import Mapping
from datetime import date

import structlog

from consumer.clock import Clock
from consumer.errors import JournalError
from consumer.journal.background import Background
from consumer.journal.commit import GroupCommit
from consumer.journal.counts import write_counts
from consumer.journal.day import DayJournal
from consumer.journal.durable import file_sha256
from consumer.journal.failure import Failure
from consumer.journal.idtable import IdTable
from consumer.journal.segment import SegmentWriter
from consumer.journal.sidecar import SegmentFacts, read_table, sidecar_path, write_sidecar

log = structlog.get_logger("journal")

PERIOD_S = 1.0
#: A day nobody appended to for so long is released from memory ...
IDLE_S = 600.0
#: ... and so are those used least recently, if there are more than this.
LOADED_DAYS = 16


class Housekeeper:
    """Owns a thread that looks after the days. Its methods may be called from any thread.

    Args:
        days: every day by date; read under `state`.
        state: the journal's lock on the state of the days.
    """

    def __init__(
        self,
        days: Mapping[date, DayJournal],
        state: threading.Lock,
        commits: GroupCommit,
        failure: Failure,
        clock: Clock,
    ) -> None:
        #: One seal, or one round of housekeeping, at a time. Taken before any other lock.
        self.at_work = threading.RLock()
        self._days = days
        self._state = state
        self._commits = commits
        self._failure = failure
        self._clock = clock
        self._counted: set[DayJournal] = set()
        # One writer of counts at a time. Taken before the state lock.
        self._keeping = threading.Lock()
        self._thread = Background(
            "journal-house", self._keep_house, period_s=PERIOD_S, on_death=self._died
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, once the round in progress is done."""
        self._thread.stop()

    def wake(self) -> None:
        """Ask for a round now. Never waits."""
        self._thread.wake()

    def counted(self, day: DayJournal) -> None:
        """Note that a day's counts have changed. The caller holds the state lock."""
        self._counted.add(day)

    def dropped(self, day: DayJournal) -> None:
        """Note that a day has left the journal. The caller holds the state lock."""
        self._counted.discard(day)

    def write_counts(self, *, durable: bool = False) -> None:
        """Keep the counts of every day where they changed. A full disk is no reason to stop."""
        with self._keeping:
            with self._state:
                due = [(day, day.kept_counts()) for day in self._counted]
                # What is not synced yet changes the counts once more.
                self._counted = {day for day in self._counted if not day.is_synced}
            for day, counts in due:
                if counts == day.kept and not durable:
                    continue
                try:
                    write_counts(day.folder, counts, durable=durable)
                    day.kept = counts
                except OSError as error:
                    log.warning("counts not kept", day=day.folder.name, error=str(error))

    def finish_retired(self, day: DayJournal) -> None:
        """Sync the retired segments of a day, write their sidecars and close them.

        Raises OSError, after which the rest stays retired; JournalWriteError.
        """
        for writer in list(day.retired.values()):
            self._commits.commit()
            facts = self._write_sidecar(day, writer)
            table = read_table(writer.path, facts)
            with self._commits.quiet():
                day.finished(facts, table)
                self._commits.close(writer)

    def release(self, day: DayJournal) -> None:
        """Let go of a day's memory and file, unless something is appended meanwhile.

        Raises OSError, after which nothing has changed; JournalWriteError.
        """
        with self._state:
            writer = day.writer
            if day.retired:
                return
            if writer is None:
                day.release(None)
                return
        self._commits.commit()
        facts = self._write_sidecar(day, writer)
        with self._commits.quiet():
            if day.writer is writer and writer.extent == facts.extent:
                day.release(facts)
                self._commits.close(writer)
            else:
                sidecar_path(writer.path).unlink(missing_ok=True)

    def _write_sidecar(self, day: DayJournal, writer: SegmentWriter) -> SegmentFacts:
        with self._state:
            tables = day.settled_tables(writer.number)
            extent = writer.extent
        facts = SegmentFacts(writer.number, extent, file_sha256(writer.path, extent.bytes))
        write_sidecar(writer.path, facts, IdTable.merged(tables))
        return facts

    def settle(self) -> None:
        """Leave everything on the disk so that the next start has nothing to read again.

        A full disk only makes the next start slower. Raises JournalWriteError.
        """
        self._commits.commit()
        self.write_counts(durable=True)
        for day in list(self._days.values()):
            self._tidy(day, release=True)

    def _keep_house(self) -> None:
        with self.at_work, contextlib.suppress(JournalError):  # the failure has been told already
            if self._failure.error is not None:
                return
            self.write_counts()
            with self._state:
                days = list(self._days.values())
            idle = self._idle(days)
            for day in days:
                self._tidy(day, release=day in idle)

    def _tidy(self, day: DayJournal, *, release: bool) -> None:
        try:
            if day.retired:
                self.finish_retired(day)
            if release:
                self.release(day)
        except OSError as error:
            log.warning("segment not finished", day=str(day.day), error=str(error))

    def _idle(self, days: list[DayJournal]) -> set[DayJournal]:
        loaded = [day for day in days if day.dedupe is not None]
        loaded.sort(key=lambda day: day.last_used, reverse=True)
        oldest = self._clock.monotonic() - IDLE_S
        return {
            day
            for place, day in enumerate(loaded)
            if place >= LOADED_DAYS or day.last_used < oldest
        }

    def _died(self) -> None:
        self._failure.stop("its housekeeping thread died")
