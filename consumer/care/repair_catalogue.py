"""The part of `dayfold repair` that mends the catalogue. Needs the DataLock, and nothing open.

A catalogue that fails any of its checksums is set aside whole and made anew: days that the journal
has are noted again from there, by the same step as at every start, and embedded again. Only of days
whose journal was let go is anything taken over from the damaged one, record by record, where the
checksums agree.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import date
from pathlib import Path

from consumer.care.repair_account import Account
from consumer.care.snapshot_files import CATALOGUE
from consumer.clock import Clock
from consumer.errors import JournalCorruptError, JournalError
from consumer.journal import DayCounts
from consumer.journal.durable import fsync_folder, make_folder
from consumer.journal.folders import day_folders
from consumer.journal.retired import (
    RETIRED_NAME,
    Retired,
    is_retired,
    read_retired,
    remove_events,
    write_retired,
)
from consumer.retention.forget import read_tombstone
from index.catalogue import Catalogue
from index.chunks import INDEX_NAMES, Chunk
from index.editions import adopt
from index.errors import CatalogueCorruptError, CatalogueError, StoreError
from index.repair import set_aside


class CatalogueRepair:
    """One repair of the catalogue of a data folder."""

    def __init__(self, data_dir: Path, clock: Clock, account: Account) -> None:
        self._data_dir = data_dir
        self._journal = data_dir / "journal"
        self._path = data_dir / CATALOGUE
        self._clock = clock
        self._account = account

    def run(self, emptied: set[date]) -> None:
        """Make the catalogue trustworthy, and let it agree with journals that are gone.

        Args:
            emptied: days of which a damaged journal has no event left.

        Raises:
            CatalogueNewerError: it was written by a newer program.
            CatalogueError: the disk does not let it.
            JournalError: likewise.
        """
        folders = dict(day_folders(self._journal)) if self._journal.is_dir() else {}
        old_path = self._set_aside_if_damaged()
        if not self._path.exists() and not folders:
            return
        try:
            with ExitStack() as stack:
                old = None
                if old_path is not None:
                    with suppress(StoreError):
                        old = stack.enter_context(Catalogue.open(old_path, read_only=True))
                catalogue = stack.enter_context(Catalogue.open(self._path))
                for name in INDEX_NAMES:
                    adopt(self._data_dir / "index", catalogue, name)
                for day, folder in folders.items():
                    if is_retired(folder):
                        self._repair_retired(day, folder, catalogue, old)
                    elif day in emptied:
                        self._let_go(day, folder, catalogue.chunk(day), catalogue)
                for chunk in catalogue.chunks():
                    if chunk.day not in folders and not self._is_going(chunk.day):
                        self._let_go(chunk.day, None, chunk, catalogue)
        except OSError as error:
            raise JournalError(f"{self._journal} cannot be repaired: {error}") from error

    def _set_aside_if_damaged(self) -> Path | None:
        if not self._path.exists():
            if self._journal.is_dir() and any(day_folders(self._journal)):
                detail = "was missing; made anew from the journals"
                self._account.mended("catalogue", str(self._path), detail)
            return None
        try:
            with Catalogue.open(self._path) as catalogue:
                for where in catalogue.drop_wrong_terms():
                    detail = "its terms are dropped; the next fold makes them of its facts"
                    self._account.mended("catalogue", where, detail)
                wrong = [detail for _, detail in catalogue.check(deep=True)]
        except CatalogueCorruptError as error:
            wrong = [str(error)]
        if not wrong:
            return None
        aside = set_aside(self._path, self._clock.now_ns())
        detail = f"set aside as {aside.name} and made anew from the journals: {wrong[0]}"
        self._account.mended("catalogue", str(self._path), detail, kept=aside.name)
        return aside

    def _is_going(self, day: date) -> bool:
        tombstone = read_tombstone(self._data_dir, day)
        return tombstone is not None and tombstone.finished_ns is None

    def _repair_retired(
        self, day: date, folder: Path, catalogue: Catalogue, old: Catalogue | None
    ) -> None:
        chunk = catalogue.chunk(day)
        known = chunk or _chunk_of(old, day)
        try:
            mark = read_retired(folder, day)
        except JournalCorruptError as error:
            if known is None:
                self._set_folder_aside(day, folder)
                return
            mark = Retired(
                day, known.revision, _counts_of(known), "retention", self._clock.now_ns()
            )
            write_retired(folder, mark)
            self._account.mended("retired day", f"{day}/{RETIRED_NAME}", f"written again: {error}")
        if chunk is None:
            catalogue.seal_chunk(day, mark.revision, mark.counts)
            if old is not None:
                self._take_over(day, mark.revision, catalogue, old)

    def _take_over(self, day: date, revision: int, catalogue: Catalogue, old: Catalogue) -> None:
        """Bring the rows' facts of a day over, index by index, where they can still be read."""
        chunk = _chunk_of(old, day)
        for name, state in chunk.indices.items() if chunk else ():
            edition = catalogue.serving(name)
            if state.revision != revision or state.model is None:
                continue
            try:
                # JSON knows plain mappings only.
                facts = [replace(row, detail=dict(row.detail)) for row in old.facts_of(name, day)]
                catalogue.stage_rows(edition, day, revision, 0, facts)
                catalogue.commit_index(
                    day,
                    edition,
                    revision=revision,
                    rows=len(facts),
                    model=state.model,
                    coverage=state.coverage,
                )
            except CatalogueError:
                continue  # told later: the index holds rows without facts
            self._account.mended(
                "catalogue", f"index {name}, {day}", f"{len(facts)} facts taken over"
            )

    def _let_go(
        self, day: date, folder: Path | None, chunk: Chunk | None, catalogue: Catalogue
    ) -> None:
        """A day whose events are gone: its rows stay if there are any, and it is marked."""
        held = chunk is not None and any(
            state.revision is not None for state in chunk.indices.values()
        )
        if chunk is not None and held:
            folder = folder or self._journal / day.isoformat()
            make_folder(folder)
            now_ns = self._clock.now_ns()
            mark = Retired(day, chunk.revision, _counts_of(chunk), "lost", now_ns)
            write_retired(folder, mark)
            fsync_folder(folder.parent)
            remove_events(folder, mark)
            self._account.lost(
                "journal",
                str(day),
                f"none of {chunk.events} events is left; the rows in the indices stay",
                day=day.isoformat(),
                events=chunk.events,
                first_ns=chunk.first_ns,
                last_ns=chunk.last_ns,
            )
            return
        if folder is not None:
            self._set_folder_aside(day, folder)
        else:
            events = chunk.events if chunk else 0
            detail = f"none of {events} events is left, and no index has rows of them"
            self._account.lost("journal", str(day), detail, day=day.isoformat(), events=events)
        catalogue.delete_day(day)

    def _set_folder_aside(self, day: date, folder: Path) -> None:
        aside = folder.with_name(f"{folder.name}.damaged-{self._clock.now_ns()}")
        folder.rename(aside)
        fsync_folder(folder.parent)
        detail = "nothing of the day can be read, and no index has rows of it"
        self._account.lost("journal", str(day), detail, day=day.isoformat(), kept=aside.name)


def _chunk_of(old: Catalogue | None, day: date) -> Chunk | None:
    if old is None:
        return None
    try:
        return old.chunk(day)
    except CatalogueError:
        return None


def _counts_of(chunk: Chunk) -> DayCounts:
    return DayCounts(
        chunk.events, chunk.duplicates, chunk.late, chunk.first_ns, chunk.last_ns, chunk.size
    )
