"""Taking days out of a journal that runs: their events alone, or everything.

Used by `Journal.retire` and `Journal.forget`. Appending never waits for the disk meanwhile: the day
leaves the journal's memory under its lock, and the files go afterwards.
"""

import shutil
import threading
from datetime import date
from pathlib import Path

from consumer.errors import JournalError
from consumer.journal.commit import GroupCommit
from consumer.journal.day import DayJournal
from consumer.journal.durable import fsync_folder
from consumer.journal.housekeeping import Housekeeper
from consumer.journal.retired import Retired, Why, read_retired, remove_events, write_retired

#: A day's folder gets this ending before it is removed, so that no part of it is taken for a day.
FORGOTTEN_SUFFIX = ".forgotten"


class DayRemoval:
    """Shares the journal's days and locks.

    Args:
        days: every day by date; changed under `state` only.
        retired: the days whose events were let go; likewise.
    """

    def __init__(
        self,
        root: Path,
        days: dict[date, DayJournal],
        retired: set[date],
        state: threading.Lock,
        commits: GroupCommit,
        house: Housekeeper,
    ) -> None:
        self._root = root
        self._days = days
        self._retired = retired
        self._state = state
        self._commits = commits
        self._house = house

    def found_retired(self, day: date, folder: Path) -> None:
        """Take in a retired day at the start, and finish what a crash cut short. Raises OSError.

        Nothing is removed beside a mark that is damaged: it does not say what may go.
        """
        self._retired.add(day)
        try:
            mark = read_retired(folder, day)
        except JournalError:
            return
        remove_events(folder, mark)

    def retire(self, day: date, why: Why, now_ns: int) -> int:
        """See `Journal.retire`. Raises OSError."""
        with self._house.at_work:
            with self._state:
                held = self._days.get(day)
                if held is None or held.seal is None or held.unsealed:
                    raise JournalError(
                        f"day {day} is not closed, or has events that its last seal does not "
                        "cover: its journal stays; close the day first"
                    )
                mark = Retired(day, held.seal.revision, held.counts(), why, now_ns)
                del self._days[day]
                self._retired.add(day)
                self._house.dropped(held)
            try:
                write_retired(held.folder, mark)
            except OSError:
                with self._state:
                    self._retired.discard(day)
                    self._days[day] = held
                raise
            with self._commits.quiet():
                for writer in held.let_go():
                    self._commits.close(writer)
            return remove_events(held.folder, mark)

    def forget(self, day: date) -> None:
        """See `Journal.forget`. Raises OSError."""
        folder = self._root / day.isoformat()
        leaving = folder.with_name(folder.name + FORGOTTEN_SUFFIX)
        with self._house.at_work:
            if leaving.exists():
                shutil.rmtree(leaving)
            with self._commits.quiet():
                held = self._days.pop(day, None)
                self._retired.discard(day)
                if held is not None:
                    self._house.dropped(held)
                    for writer in held.let_go():
                        self._commits.close(writer)
                self._commits.dropped(folder)
                # Before the lock is given up: what arrives next begins the folder anew.
                if folder.exists():
                    folder.rename(leaving)
            if leaving.exists():
                fsync_folder(self._root)
                shutil.rmtree(leaving)
                fsync_folder(self._root)
