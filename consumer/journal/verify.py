"""Checking a day on the disk: every checksum, every count, every cross-reference.

Reads only, and needs no lock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from consumer.days import day_bounds_ns
from consumer.errors import JournalError
from consumer.journal.counts import COUNTS_NAME, why_unreadable
from consumer.journal.durable import file_sha256
from consumer.journal.folders import held_zone
from consumer.journal.idtable import IdTable
from consumer.journal.retired import RETIRED_NAME, is_retired, read_retired
from consumer.journal.seal import Seal, SealedSegment, read_seal, sealed_revisions
from consumer.journal.segment import (
    SEGMENT_SUFFIX,
    SegmentScan,
    scan_segment,
    segment_number,
)
from consumer.journal.sidecar import read_facts, read_table, sidecar_path

#: How many digests are compared at a time when repeats are searched.
DIGESTS_AT_A_TIME = 1 << 20

_SALVAGE = "dayfold repair: carries over what is valid, then close the day again"
_RESEAL = "close the day again: a new revision is written"
_RECOUNT = "dayfold repair: begins anew; only the number of duplicates is lost"
_RESTART = "start the service: it is rebuilt"


@dataclass(frozen=True, slots=True)
class JournalFault:
    """One thing that is not right: what, where (day/file, offset), the detail, the remedy."""

    what: str
    where: str
    detail: str
    repair: str


def verify_day(
    root: Path, day: date, *, deep: bool = True, live: bool = False
) -> list[JournalFault]:
    """Return what is wrong with a day below the journal's folder `root`; nothing if all is well.

    `deep` reads and checks every record; without it only seals, sizes and sidecar headers are
    compared. `live` says that a service is writing: a last record that is not whole yet is no
    fault then. A day whose events were let go has nothing but its mark to be checked. Raises
    JournalError if the folder cannot be listed.
    """
    if is_retired(root / day.isoformat()):
        return _check_mark(root, day)
    return _Check(root, day, deep=deep, live=live).run()


class _Check:
    def __init__(self, root: Path, day: date, *, deep: bool, live: bool) -> None:
        self._folder = root / day.isoformat()
        self._day = day
        self._deep = deep
        self._live = live
        self._zone = held_zone(root)
        self._faults: list[JournalFault] = []
        self._tables: list[IdTable] = []

    def run(self) -> list[JournalFault]:
        try:
            names = sorted(path.name for path in self._folder.iterdir())
        except OSError as error:
            raise JournalError(f"day {self._day}: {self._folder}: {error}") from error
        entries = self._check_seals()
        damaged = why_unreadable(self._folder)
        if damaged is not None:
            self._fault("counts", COUNTS_NAME, damaged, _RECOUNT)
        segments = [name for name in names if name.endswith(SEGMENT_SUFFIX)]
        for name in sorted(set(segments) | set(entries)):
            number = segment_number(name)
            if number is not None:
                is_last = name == max(segments, default="")
                self._check_segment(name, number, entries.get(name), is_last=is_last)
        if self._deep:
            self._check_once()
        return self._faults

    def _fault(self, what: str, name: str, detail: str, repair: str) -> None:
        where = f"{self._day.isoformat()}/{name}"
        self._faults.append(JournalFault(what, where, detail, repair))

    def _check_seals(self) -> dict[str, SealedSegment]:
        """Check every seal against itself; return the segments of the latest."""
        seal: Seal | None = None
        for revision in sealed_revisions(self._folder):
            name = f"seal-{revision:06d}.json"
            try:
                seal = read_seal(self._folder, self._day, revision)
            except JournalError as error:
                self._fault("seal", name, str(error), _RESEAL)
                continue
            events = sum(entry.records for entry in seal.segments)
            if events != seal.events:
                detail = f"{seal.events} events, its segments have {events}"
                self._fault("seal", name, detail, _RESEAL)
        return {entry.name: entry for entry in seal.segments} if seal else {}

    def _check_segment(
        self, name: str, number: int, entry: SealedSegment | None, *, is_last: bool
    ) -> None:
        path = self._folder / name
        try:
            size = path.stat().st_size
            if entry is not None and size != entry.bytes:
                detail = f"{size} bytes, sealed with {entry.bytes}"
                self._fault("segment size", name, detail, _SALVAGE)
            growing = entry is None and is_last
            if self._deep:
                self._check_records(path, number, entry, growing=growing)
            elif not (growing and self._live):
                self._check_facts(path, number)
        except FileNotFoundError:
            if entry is not None:
                self._fault(
                    "segment", name, f"missing, sealed with {entry.records} records", _SALVAGE
                )
        except OSError as error:
            self._fault("segment", name, f"cannot be read: {error}", _SALVAGE)

    def _check_facts(self, path: Path, number: int) -> None:
        """A sidecar has to be sound and of its segment's size. It may be missing."""
        if sidecar_path(path).exists() and read_facts(path, number) is None:
            detail = "damaged, or of another size of segment"
            self._fault("id sidecar", sidecar_path(path).name, detail, _RESTART)

    def _check_records(
        self, path: Path, number: int, entry: SealedSegment | None, *, growing: bool
    ) -> None:
        scan = scan_segment(path, self._day, number)
        for gap in scan.gaps:
            torn = entry is None and gap.start == scan.torn_at
            if torn and growing and self._live:
                continue
            where = f"{path.name}@{gap.start}"
            detail = f"{gap.end - gap.start} bytes: {gap.reason}"
            if torn:
                remedy = "start the service: the tail is cut, and kept beside"
                self._fault("torn tail", where, detail, remedy)
            else:
                self._fault("record", where, detail, _SALVAGE)
        if entry is not None:
            self._compare_with_seal(scan, entry)
        self._check_times(scan)
        self._check_sidecar(scan, number)

    def _compare_with_seal(self, scan: SegmentScan, entry: SealedSegment) -> None:
        if scan.extent.records != entry.records:
            detail = f"{scan.extent.records} valid records, sealed with {entry.records}"
            self._fault("segment count", entry.name, detail, _SALVAGE)
        if scan.extent.bytes == entry.bytes:
            sha256 = file_sha256(scan.path, entry.bytes)
            if sha256 != entry.sha256:
                detail = f"SHA-256 is {sha256}, sealed with {entry.sha256}"
                self._fault("segment checksum", entry.name, detail, _SALVAGE)

    def _check_times(self, scan: SegmentScan) -> None:
        first, last = scan.extent.first_ns, scan.extent.last_ns
        if self._zone is None or first is None or last is None:
            return
        start, end = day_bounds_ns(self._day, self._zone)
        if first < start or last >= end:
            detail = f"events from {first} to {last} ns, the day is [{start}, {end})"
            remedy = "none: a faulty writer put them here; import them again elsewhere"
            self._fault("event time", scan.path.name, detail, remedy)

    def _check_sidecar(self, scan: SegmentScan, number: int) -> None:
        """Compare the sidecar with the records, and keep the digests for `_check_once`."""
        table = IdTable.of(scan.ids)
        if not scan.gaps:  # else the segment is at fault, not the sidecar
            self._check_facts(scan.path, number)
            facts = read_facts(scan.path, number)
            mapped = None if facts is None else read_table(scan.path, facts)
            if mapped is not None and mapped.same_as(table):
                table = mapped  # costs no memory while it waits for the comparison
            elif facts is not None:
                detail = "its digests are not those of the segment"
                self._fault("id sidecar", sidecar_path(scan.path).name, detail, _RESTART)
        self._tables.append(table)

    def _check_once(self) -> None:
        """Look for events that the day has twice, one range of digests after the other."""
        total = sum(len(table) for table in self._tables)
        parts = total // DIGESTS_AT_A_TIME + 1
        repeats = 0
        for part in range(parts):
            low, high = (2**64 * part) // parts, (2**64 * (part + 1)) // parts - 1
            repeats += _repeats([table.between(low, high) for table in self._tables])
        if repeats:
            detail = f"{repeats} events are in the journal more than once"
            self._fault("repeated event", "", detail, "none: readers of the day see them twice")


def _check_mark(root: Path, day: date) -> list[JournalFault]:
    try:
        read_retired(root / day.isoformat(), day)
    except JournalError as error:
        where = f"{day.isoformat()}/{RETIRED_NAME}"
        return [JournalFault("retired day", where, str(error), "dayfold repair")]
    return []


def _repeats(tables: Sequence[IdTable]) -> int:
    merged = IdTable.merged(tables)
    order = np.lexsort((merged.second, merged.first))
    first, second = merged.first[order], merged.second[order]
    return int(np.sum((first[1:] == first[:-1]) & (second[1:] == second[:-1])))
