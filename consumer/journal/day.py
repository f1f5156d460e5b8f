"""One day of the journal: its segments, its seals, and what it already has.

Not thread-safe: the journal's lock guards it. Nothing here waits for the disk to sync, except
`open`, which recovers what a crash left.
"""

import contextlib
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from consumer.errors import JournalCorruptError
from consumer.journal.counts import COUNTS_NAME, DayCounts, KeptCounts, read_counts, why_unreadable
from consumer.journal.dedupe import DayDedupe
from consumer.journal.durable import UNFINISHED_SUFFIX, make_folder
from consumer.journal.idtable import IdTable
from consumer.journal.recovery import Recovered, is_repaired, recover_segment
from consumer.journal.seal import Seal, SealedSegment, read_seal, sealed_revisions
from consumer.journal.segment import (
    SEGMENT_SUFFIX,
    Extent,
    SegmentWriter,
    Write,
    scan_segment,
    segment_name,
    segment_number,
)
from consumer.journal.sidecar import (
    SegmentFacts,
    read_facts,
    read_table,
    sidecar_path,
    write_sidecar,
)
from consumer.wire.admitted import Batch

#: A segment is also closed after so many records: until then their digests are held in memory.
LARGEST_SEGMENT_RECORDS = 1 << 18


class DayJournal:
    """The state of one day. Light until something is appended, light again after `release`."""

    def __init__(self, folder: Path, day: date, *, segment_bytes: int, write: Write) -> None:
        self.folder = folder
        self.day = day
        self.writer: SegmentWriter | None = None
        #: Segments that are full, or belong to a seal, and are not finished yet.
        self.retired: dict[int, SegmentWriter] = {}
        self.seal: Seal | None = None
        self.unsealed = False
        self.sealing = False
        self.duplicates = 0
        #: What `counts.json` says.
        self.kept = KeptCounts()
        self.last_append_ns: int | None = None
        self.last_used = 0.0
        self.dedupe: DayDedupe | None = None
        self._segment_bytes = segment_bytes
        self._write = write
        self._facts: dict[int, SegmentFacts] = {}
        self._damage: dict[int, str] = {}
        self._first_seal_events: int | None = None
        self._last_revision = 0
        self._last_number = 0
        # Up to this number no segment is appended to again: it is sealed, or about to be.
        self._frozen = 0

    def open(self, report: list[Recovered]) -> None:
        """Read what is on the disk, and make whole what a crash left. Raises OSError."""
        names = {path.name for path in self.folder.iterdir()}
        for name in names:
            if name.endswith(UNFINISHED_SUFFIX):
                (self.folder / name).unlink()
        numbers = [number for name in names if (number := segment_number(name)) is not None]
        self._last_number = max(numbers, default=0)
        torn = why_unreadable(self.folder)
        if torn is not None:
            size = (self.folder / COUNTS_NAME).stat().st_size
            detail = f"begun anew, without the number of duplicates: {torn}"
            report.append(Recovered(self.day, COUNTS_NAME, "counts", 0, size, 0, None, detail))
        self.kept = kept = read_counts(self.folder)
        self.duplicates = kept.duplicates
        self._read_seals(report)
        sealed = {entry.name: entry for entry in self.seal.segments} if self.seal else {}
        for name in sorted(names | set(sealed)):
            number = segment_number(name)
            if number is None or not name.endswith(SEGMENT_SUFFIX):
                continue
            entry = sealed.get(name)
            if entry is None or (not self._is_as_sealed(entry) and is_repaired(self.folder / name)):
                self._take_unsealed(number, kept.synced.get(number), report)
            else:
                self._take_sealed(number, entry, report)
        self.unsealed = self._is_unsealed()

    def _read_seals(self, report: list[Recovered]) -> None:
        """Read the latest seal that can be read. A damaged one is reported and made again."""
        revisions = sealed_revisions(self.folder)
        self._last_revision = revisions[-1] if revisions else 0
        for revision in reversed(revisions):
            try:
                self.seal = read_seal(self.folder, self.day, revision)
            except JournalCorruptError as error:
                name = f"seal of revision {revision}"
                report.append(Recovered(self.day, name, "seal", 0, 0, 0, None, str(error)))
            else:
                break
        if self.seal is not None:
            self._frozen = max(
                (segment_number(entry.name) or 0 for entry in self.seal.segments), default=0
            )
            self._note_first(revisions)

    def _note_first(self, revisions: Sequence[int]) -> None:
        try:
            self._first_seal_events = read_seal(self.folder, self.day, revisions[0]).events
        except JournalCorruptError:
            self._first_seal_events = self.seal.events if self.seal else None

    def _is_as_sealed(self, entry: SealedSegment) -> bool:
        path = self.folder / entry.name
        return path.exists() and path.stat().st_size == entry.bytes

    def _take_sealed(self, number: int, entry: SealedSegment, report: list[Recovered]) -> None:
        """Take in a segment of the seal. It is never cut and never appended to."""
        if not self._is_as_sealed(entry):
            path = self.folder / entry.name
            size = path.stat().st_size if path.exists() else 0
            detail = f"sealed with {entry.bytes} bytes, has {size}"
            lost = max(0, entry.bytes - size)
            found = Recovered(self.day, entry.name, "lost", size, lost, lost, None, detail)
            self._damage[number] = found.message
            report.append(found)
        extent = Extent(entry.bytes, entry.records, None, None, None)
        self._facts[number] = SegmentFacts(number, extent, entry.sha256)

    def _take_unsealed(self, number: int, synced: int | None, report: list[Recovered]) -> None:
        path = self.folder / segment_name(number)
        facts = read_facts(path, number)
        if facts is None:
            found: list[Recovered] = []
            facts = recover_segment(self.folder, self.day, number, synced, found)
            report += found
            if facts is None and path.exists():
                self._damage[number] = found[-1].message
                self._facts[number] = _facts_of_valid(path, self.day, number)
        if facts is not None:
            self._facts[number] = facts

    @property
    def damage(self) -> list[str]:
        """What keeps the day from being sealed, one line for each segment."""
        return list(self._damage.values())

    @property
    def closed_once(self) -> bool:
        """Whether the day was sealed before, or is being sealed: what comes now is late."""
        return self.seal is not None or self.sealing

    @property
    def has_events(self) -> bool:
        """Whether the day holds any event."""
        return any(facts.extent.records for facts in self._facts.values()) or any(
            writer.extent.records for writer in self._writers()
        )

    def counts(self) -> DayCounts:
        """Return what the day holds now."""
        extents = [facts.extent for facts in self._facts.values()]
        extents += [writer.extent for writer in self._writers()]
        firsts = [extent.first_ns for extent in extents if extent.first_ns is not None]
        lasts = [extent.last_ns for extent in extents if extent.last_ns is not None]
        if self.seal is not None:
            firsts.append(self.seal.first_ns)
            lasts.append(self.seal.last_ns)
        events = sum(extent.records for extent in extents)
        first_seal = self._first_seal_events
        return DayCounts(
            events=events,
            duplicates=self.duplicates,
            late=0 if first_seal is None else max(0, events - first_seal),
            first_ns=min(firsts, default=None),
            last_ns=max(lasts, default=None),
            bytes=sum(extent.bytes for extent in extents),
        )

    def kept_counts(self) -> KeptCounts:
        """Return what `counts.json` is to keep."""
        synced = {writer.number: writer.synced_bytes for writer in self._writers()}
        return KeptCounts(self.duplicates, synced)

    @property
    def is_synced(self) -> bool:
        """Whether all that was appended is durable."""
        return all(writer.synced_bytes >= writer.extent.bytes for writer in self._writers())

    def latest_arrival_ns(self) -> int | None:
        """Return when the latest event came, by the records. None if there is none."""
        if self.last_append_ns is not None:
            return self.last_append_ns
        arrivals = [facts.extent.last_arrival_ns for facts in self._facts.values()]
        known = [arrival for arrival in arrivals if arrival is not None]
        if not known and self._facts:
            number = max(self._facts)
            facts = read_facts(self.folder / segment_name(number), number)
            return facts.extent.last_arrival_ns if facts else None
        return max(known, default=None)

    def _writers(self) -> list[SegmentWriter]:
        writers = list(self.retired.values())
        return [*writers, self.writer] if self.writer else writers

    def load_dedupe(self, report: list[Recovered]) -> DayDedupe:
        """Return what the day already has, loading it if it was released. Raises OSError."""
        if self.dedupe is None:
            dedupe = DayDedupe()
            for number, facts in sorted(self._facts.items()):
                dedupe.load(number, self._load_table(number, facts, report))
            self.dedupe = dedupe
        return self.dedupe

    def _load_table(self, number: int, facts: SegmentFacts, report: list[Recovered]) -> IdTable:
        path = self.folder / segment_name(number)
        table = _table_in_sidecar(path, facts)
        if table is not None:
            return table
        if not path.exists():
            return IdTable.merged([])
        scan = scan_segment(path, self.day, number)
        table = IdTable.of(scan.ids)
        if not scan.gaps and scan.extent.bytes == facts.extent.bytes:
            complete = SegmentFacts(number, scan.extent, facts.sha256)
            with contextlib.suppress(OSError):  # it only saves reading the segment again
                write_sidecar(path, complete, table)
        elif scan.gaps and number not in self._damage:
            gap = scan.gaps[0]
            lost = gap.end - gap.start
            found = Recovered(self.day, path.name, "rot", gap.start, lost, lost, None, gap.reason)
            self._damage[number] = found.message
            report.append(found)
        return table

    def room_for(self, size: int) -> tuple[SegmentWriter, bool]:
        """Return the writer for `size` more bytes, and whether a file was created for it.

        Raises OSError; nothing has changed then, except that a full segment may have been retired.
        """
        writer = self.writer
        if writer is not None:
            if self._has_room(writer.extent, size) or not writer.extent.records:
                return writer, False
            self.retire()
        last = self._facts.get(self._last_number)
        if last is not None and self._appendable(last, size):
            path = self.folder / segment_name(last.number)
            # A sidecar always describes a whole segment, so it goes before the segment grows.
            sidecar_path(path).unlink(missing_ok=True)
            self.writer = SegmentWriter.reopen(path, last.number, last.extent, self._write)
            del self._facts[last.number]
            return self.writer, False
        make_folder(self.folder)
        number = self._last_number + 1
        self.writer = SegmentWriter.create(self.folder, self.day, number, self._write)
        self._last_number = number
        return self.writer, True

    def _appendable(self, facts: SegmentFacts, size: int) -> bool:
        return (
            facts.number > self._frozen
            and facts.number not in self._damage
            and self._has_room(facts.extent, size)
        )

    def _has_room(self, extent: Extent, size: int) -> bool:
        return (
            extent.bytes + size <= self._segment_bytes and extent.records < LARGEST_SEGMENT_RECORDS
        )

    def confirm(self, writer: SegmentWriter, events: Batch, size: int, now_ns: int) -> None:
        """Count events that were written to `writer`, and remember their digests."""
        writer.confirm(size, len(events), events.times_ns, events.arrivals_ns[-1])
        if self.dedupe is not None:
            self.dedupe.add(writer.number, events.digests)
        self.last_append_ns = now_ns
        self.unsealed = True

    def retire(self) -> None:
        """Append no more to the segment that is open, if there is one."""
        if self.writer is not None:
            if self.dedupe is not None:
                self.dedupe.settle(self.writer.number)
            self.retired[self.writer.number] = self.writer
            self.writer = None

    def freeze(self) -> list[int]:
        """Retire what is open and return the numbers of all segments that have events.

        None of them is appended to again. Raises JournalCorruptError if one is damaged.
        """
        if self._damage:
            raise JournalCorruptError(
                f"day {self.day} cannot be sealed: {'; '.join(self.damage)}. "
                "`dayfold repair` carries over what is valid"
            )
        self.retire()
        self._frozen = self._last_number
        numbers = [number for number, facts in self._facts.items() if facts.extent.records]
        numbers += [number for number, writer in self.retired.items() if writer.extent.records]
        return sorted(numbers)

    def settled_tables(self, number: int) -> list[IdTable]:
        """Return the digests of segment `number`, which is being written or was retired."""
        if self.dedupe is None:
            return []
        if self.writer is not None and self.writer.number == number:
            return self.dedupe.settle(number)
        return self.dedupe.tables_of(number)

    def finished(self, facts: SegmentFacts, table: IdTable | None) -> None:
        """Note that a retired segment has its sidecar and is closed."""
        self._facts[facts.number] = facts
        self.retired.pop(facts.number, None)
        if self.dedupe is not None and table is not None:
            self.dedupe.replace(facts.number, table)

    def release(self, facts: SegmentFacts | None) -> None:
        """Forget what only appending needs. `facts` are those of the segment that was open."""
        if facts is not None:
            self._facts[facts.number] = facts
        self.writer = None
        self.dedupe = None

    def let_go(self) -> list[SegmentWriter]:
        """Return all writers for the caller to close, and have none."""
        writers = self._writers()
        self.retired = {}
        self.writer = None
        return writers

    def new_seal(self, numbers: Sequence[int]) -> Seal:
        """Return the next seal, of segments that are all finished."""
        facts = [self._facts[number] for number in numbers]
        firsts = [fact.extent.first_ns for fact in facts if fact.extent.first_ns is not None]
        lasts = [fact.extent.last_ns for fact in facts if fact.extent.last_ns is not None]
        if self.seal is not None:
            firsts.append(self.seal.first_ns)
            lasts.append(self.seal.last_ns)
        return Seal(
            day=self.day,
            revision=self._last_revision + 1,
            events=sum(fact.extent.records for fact in facts),
            first_ns=min(firsts),
            last_ns=max(lasts),
            bytes=sum(fact.extent.bytes for fact in facts),
            segments=tuple(
                SealedSegment(
                    segment_name(fact.number), fact.extent.bytes, fact.extent.records, fact.sha256
                )
                for fact in facts
            ),
        )

    def sealed(self, seal: Seal) -> None:
        """Note that `seal` is on the disk."""
        self.seal = seal
        self._last_revision = seal.revision
        if self._first_seal_events is None:
            self._first_seal_events = seal.events
        self.unsealed = self._is_unsealed()

    def _is_unsealed(self) -> bool:
        """Whether there are events, and not in the segments of the seal: more, or after damage less."""
        entries = self.seal.segments if self.seal else ()
        sealed = {(entry.name, entry.bytes, entry.records) for entry in entries}
        extents = {number: facts.extent for number, facts in self._facts.items()}
        extents |= {writer.number: writer.extent for writer in self._writers()}
        held = {
            (segment_name(number), extent.bytes, extent.records)
            for number, extent in extents.items()
            if extent.records
        }
        return bool(held) and held != sealed


def _table_in_sidecar(path: Path, facts: SegmentFacts) -> IdTable | None:
    try:
        return read_table(path, facts)
    except OSError:  # a bad sector under a sidecar: the segment knows as well
        return None


def _facts_of_valid(path: Path, day: date, number: int) -> SegmentFacts:
    """Facts of a damaged segment: its valid records, and no checksum to compare."""
    return SegmentFacts(number, scan_segment(path, day, number).extent, "0" * 64)
