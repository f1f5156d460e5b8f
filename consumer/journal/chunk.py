"""Reading a sealed day back, whole. Needs no lock: what is sealed never changes."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

from consumer.days import day_bounds_ns
from consumer.errors import JournalCorruptError, JournalError
from consumer.journal.frames import BadFrameError, read_frames
from consumer.journal.record import RULES, Record, decode
from consumer.journal.retired import is_retired
from consumer.journal.seal import Seal, SealedSegment, read_seal, sealed_revisions
from consumer.journal.segment import HEADER_BYTES, segment_header, segment_number


@dataclass(frozen=True, slots=True)
class SealedChunk:
    """One revision of a day. Its records come in the order in which they were appended.

    `start_ns` and `end_ns` are the bounds `[start, end)` of the calendar day, UTC ns since 1970.
    """

    folder: Path
    seal: Seal
    start_ns: int
    end_ns: int

    @property
    def day(self) -> date:
        """The day."""
        return self.seal.day

    @property
    def revision(self) -> int:
        """Which closing of the day this is, from 1."""
        return self.seal.revision

    @property
    def events(self) -> int:
        """How many records `batches` yields in all."""
        return self.seal.events

    def batches(self, size: int) -> Iterator[list[Record]]:
        """Yield all records, `size` at a time; only the last batch may be smaller.

        Holds one block of a segment (512 KiB) and one batch in memory. Every checksum is checked, and
        the number of records against the seal. Raises JournalCorruptError, which names day, segment
        and offset, at the first record that is not right, and ValueError for a size below 1.
        """
        if size < 1:
            raise ValueError(f"a batch has at least one record, not {size}")
        batch: list[Record] = []
        for entry in self.seal.segments:
            for records in self._records(entry):
                batch += records
                begin = 0
                while len(batch) - begin >= size:
                    yield batch[begin : begin + size]
                    begin += size
                batch = batch[begin:]
        if batch:
            yield batch

    def _records(self, entry: SealedSegment) -> Iterator[list[Record]]:
        path = self.folder / entry.name
        seen = 0
        try:
            with path.open("rb", buffering=0) as file:
                self._check_start(entry, file.read(HEADER_BYTES), os.fstat(file.fileno()).st_size)
                for frames in read_frames(file, HEADER_BYTES, entry.bytes, RULES):
                    seen += len(frames)
                    yield decode(frames)
        except BadFrameError as bad:
            raise self._corrupt(entry, bad.offset, bad.reason) from bad
        except OSError as error:
            raise self._corrupt(entry, 0, f"cannot be read: {error}") from error
        if seen != entry.records:
            reason = f"{seen} records, sealed with {entry.records}"
            raise self._corrupt(entry, entry.bytes, reason)

    def _check_start(self, entry: SealedSegment, header: bytes, size: int) -> None:
        if size != entry.bytes:
            reason = f"{size} bytes, sealed with {entry.bytes}"
            raise self._corrupt(entry, min(size, entry.bytes), reason)
        if header != segment_header(self.day, segment_number(entry.name) or 0):
            raise self._corrupt(entry, 0, "not the header of this segment")

    def _corrupt(self, entry: SealedSegment, offset: int, reason: str) -> JournalCorruptError:
        return JournalCorruptError(
            f"day {self.day}: segment {entry.name} of revision {self.revision} at offset {offset}: "
            f"{reason}. `dayfold repair` carries over what is valid"
        )


def open_chunk(
    root: Path, day: date, revision: int | None = None, *, zone: ZoneInfo
) -> SealedChunk:
    """Open a sealed day below the journal's folder `root`; the latest revision if none is given.

    Raises JournalError if the day was never sealed, has no such revision, or its events were let
    go; JournalCorruptError if its seal is damaged.
    """
    folder = root / day.isoformat()
    if is_retired(folder):
        raise JournalError(
            f"day {day}: its journal was let go, so it cannot be embedded again; a snapshot from "
            "before has it"
        )
    if revision is None:
        revisions = sealed_revisions(folder) if folder.is_dir() else []
        if not revisions:
            raise JournalError(f"day {day} was never sealed in {root}: close it first")
        revision = revisions[-1]
    seal = read_seal(folder, day, revision)
    start_ns, end_ns = day_bounds_ns(day, zone)
    return SealedChunk(folder, seal, start_ns, end_ns)
