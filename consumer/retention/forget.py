"""Forgetting a day: everything of it, everywhere, for privacy requests.

`dayfold forget DATE` leaves a tombstone, `forgotten/DATE.json`; who writes the data folder then
removes the day and notes there what was removed. Until the tombstone says that this is finished,
every start begins with it again, so a crash leaves nothing half forgotten. Afterwards it stays as
the record that the day was forgotten; nothing of the day itself is in it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import structlog

from consumer.clock import Clock
from consumer.days import day_bounds_ns
from consumer.errors import DayfoldError, ForgetError
from consumer.journal import Journal
from consumer.journal.durable import (
    checked_json,
    fsync_folder,
    make_folder,
    parse_checked_json,
    replace_file,
)
from consumer.quarantine.quarantine import Quarantine
from index.catalogue import Catalogue
from index.errors import StoreError
from index.forget import forget_day

log = structlog.get_logger("forget")

FOLDER = "forgotten"
FORMAT = "dayfold-forgotten-1"


@dataclass(frozen=True, slots=True)
class Removed:
    """What there was of a day before it was removed.

    Attributes:
        events: in the journal; for a day whose journal was let go before, as last counted.
        bytes: size of the files in the day's folder of the journal.
        rows: rows by index.
        quarantined: messages that arrived on that day.
        copies: damaged catalogues that had been set aside, which may hold facts of the day.
    """

    events: int = 0
    bytes: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)
    quarantined: int = 0
    copies: int = 0


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A day that is to be forgotten, or was. Times are UTC ns; `error` is of the last try."""

    day: date
    asked_ns: int
    finished_ns: int | None = None
    removed: Removed | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As `dayfold forget --json` prints it."""
        return {**asdict(self), "day": self.day.isoformat()}


def ask_to_forget(data_dir: Path, day: date, now_ns: int) -> None:
    """Leave the tombstone of a day. It is durable when this returns. Raises ForgetError.

    One that is not finished stays, with its account of what was removed so far.
    """
    folder = data_dir / FOLDER
    begun = None
    with suppress(ForgetError):  # a damaged one is written anew
        begun = read_tombstone(data_dir, day)
    if begun is None or begun.finished_ns is not None:
        begun = Tombstone(day, now_ns)
    try:
        if make_folder(folder):
            fsync_folder(data_dir)
        _write(folder, replace(begun, error=None))
    except OSError as error:
        raise ForgetError(f"{day} cannot be forgotten: {folder}: {error}") from error


def read_tombstone(data_dir: Path, day: date) -> Tombstone | None:
    """The tombstone of a day, None if there is none. Raises ForgetError for a damaged one."""
    return _read(data_dir / FOLDER / f"{day.isoformat()}.json")


def tombstones(data_dir: Path) -> list[Path]:
    """The files of all tombstones, oldest day first."""
    folder = data_dir / FOLDER
    return sorted(folder.glob("????-??-??.json")) if folder.is_dir() else []


class Forgetting:
    """Removes the days that were asked for. For the thread that closes days."""

    def __init__(
        self,
        journal: Journal,
        catalogue: Catalogue,
        quarantine: Quarantine,
        *,
        data_dir: Path,
        zone: ZoneInfo,
        clock: Clock,
    ) -> None:
        self._journal = journal
        self._catalogue = catalogue
        self._quarantine = quarantine
        self._data_dir = data_dir
        self._folder = data_dir / FOLDER
        self._zone = zone
        self._clock = clock
        self._finished: dict[Path, int] = {}

    def unfinished(self) -> list[Tombstone]:
        """Days that are still to be forgotten. A damaged tombstone is left to `dayfold verify`."""
        found = []
        for path in tombstones(self._data_dir):
            changed_ns = path.stat().st_mtime_ns
            if self._finished.get(path) == changed_ns:
                continue
            try:
                tombstone = _read(path)
            except ForgetError as error:
                log.error("tombstone damaged", error=str(error))
                tombstone = None
            if tombstone is not None and tombstone.finished_ns is None:
                found.append(tombstone)
            else:
                self._finished[path] = changed_ns
        return found

    def finish(self, tombstone: Tombstone) -> Tombstone:
        """Remove the day, or what an earlier try left of it. Gives the finished tombstone.

        Raises:
            ForgetError: something cannot be removed; the tombstone says so and stays unfinished.
        """
        try:
            finished = self._finish(tombstone)
        except (DayfoldError, StoreError, OSError) as error:
            _write(self._folder, replace(tombstone, error=str(error)))
            raise ForgetError(f"{tombstone.day} is not wholly forgotten yet: {error}") from error
        log.info("day forgotten", day=str(finished.day))
        return finished

    def _finish(self, tombstone: Tombstone) -> Tombstone:
        day = tombstone.day
        if tombstone.removed is None:
            # Before anything goes, so that a crash does not cost the account of it.
            tombstone = replace(tombstone, removed=self._there_is(day), error=None)
            _write(self._folder, tombstone)
        self._journal.forget(day)
        root = self._data_dir / "index"
        # Every edition of an index, also one that is being made or is about to go.
        for folder in sorted(root.iterdir()) if root.is_dir() else []:
            forget_day(root, folder.name, day)
        self._catalogue.erase_day(day)
        for copy in self._copies():
            copy.unlink(missing_ok=True)
        # What a fold that was cut short has left there.
        shutil.rmtree(self._data_dir / "scratch", ignore_errors=True)
        # Digests of the day's descriptions, by which a guessed text could be confirmed.
        shutil.rmtree(self._data_dir / "cache", ignore_errors=True)
        taken = self._forget_quarantined(day)
        removed = tombstone.removed or Removed()
        removed = replace(removed, quarantined=removed.quarantined + taken)
        done = replace(tombstone, removed=removed, finished_ns=self._clock.now_ns(), error=None)
        _write(self._folder, done)
        return done

    def _there_is(self, day: date) -> Removed:
        chunk = self._catalogue.chunk(day)
        folder = self._data_dir / "journal" / day.isoformat()
        files = list(folder.iterdir()) if folder.is_dir() else []
        events = self._journal.counts(day).events or (chunk.events if chunk else 0)
        return Removed(
            events=events,
            bytes=sum(path.stat().st_size for path in files),
            rows={name: state.rows for name, state in chunk.indices.items()} if chunk else {},
            copies=len(self._copies()),
        )

    def _copies(self) -> list[Path]:
        return sorted(self._data_dir.glob("catalogue.sqlite.damaged-*"))

    def _forget_quarantined(self, day: date) -> int:
        start_ns, end_ns = day_bounds_ns(day, self._zone)
        taken = sum(
            self._quarantine.take(reason, lambda message: start_ns <= message.arrival_ns < end_ns)
            for reason in self._quarantine.counts()
        )
        self._quarantine.sync()
        return taken


def _read(path: Path) -> Tombstone | None:
    try:
        document = parse_checked_json(path.read_bytes())
        if document.pop("format") != FORMAT:
            raise ValueError(f"the format is not {FORMAT}")
        day = date.fromisoformat(document.pop("day"))
        removed = document.pop("removed")
        return Tombstone(day, removed=Removed(**removed) if removed else None, **document)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ForgetError(f"{path} cannot be read: {error}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise ForgetError(
            f"{path} is damaged ({error}): ask again with `dayfold forget {path.stem}`"
        ) from error


def _write(folder: Path, tombstone: Tombstone) -> None:
    document = {"format": FORMAT, **tombstone.to_json()}
    replace_file(folder / f"{tombstone.day.isoformat()}.json", checked_json(document))
