"""Making a damaged day whole again, as far as that goes. Needs the DataLock, and no open journal."""

from dataclasses import replace
from datetime import date
from pathlib import Path

from consumer.errors import JournalCorruptError, JournalError
from consumer.journal.counts import read_counts, write_counts
from consumer.journal.durable import file_sha256, replace_file
from consumer.journal.idtable import IdTable
from consumer.journal.recovery import Recovered, is_repaired, mark_repaired, salvage
from consumer.journal.retired import is_retired
from consumer.journal.seal import SealedSegment, read_seal, sealed_revisions
from consumer.journal.segment import (
    HEADER_BYTES,
    SEGMENT_SUFFIX,
    scan_segment,
    segment_header,
    segment_number,
)
from consumer.journal.sidecar import read_facts, read_table, sidecar_path


def repair_day(root: Path, day: date) -> list[Recovered]:
    """Carry over every valid record of damaged segments; return what was done, nothing if nothing.

    Damaged files are kept beside as `.damaged`. Sidecars that do not fit their segment are removed,
    for the journal to rebuild. A day that was sealed becomes unsealed where a segment changed: the
    next closing makes a new revision of what is left. Raises JournalError if the disk does not let
    it.
    """
    folder = root / day.isoformat()
    if is_retired(folder):
        return []
    try:
        entries = _sealed_segments(folder, day)
        names = {path.name for path in folder.iterdir() if path.suffix == SEGMENT_SUFFIX}
        done: list[Recovered] = []
        for name in sorted(names | set(entries)):
            number = segment_number(name)
            if number is not None:
                done += _repair_segment(folder, day, number, name, entries.get(name))
        _forget_marks(folder, done)
    except OSError as error:
        raise JournalError(f"day {day} cannot be repaired: {error}") from error
    return done


def _sealed_segments(folder: Path, day: date) -> dict[str, SealedSegment]:
    for revision in reversed(sealed_revisions(folder)):
        try:
            seal = read_seal(folder, day, revision)
        except JournalCorruptError:
            continue  # closing the day again writes a new one
        return {entry.name: entry for entry in seal.segments}
    return {}


def _repair_segment(
    folder: Path, day: date, number: int, name: str, entry: SealedSegment | None
) -> list[Recovered]:
    path = folder / name
    if not path.exists():
        return [_replace_missing(folder, day, number, name, entry)]
    scan = scan_segment(path, day, number)
    if scan.gaps:
        if scan.rot is None and entry is None:
            return []  # an unsealed torn tail is for the next start, which knows what was synced
        first = scan.gaps[0]
        lost = sum(gap.end - gap.start for gap in scan.gaps)
        kept = salvage(folder, day, number)
        detail = f"{first.reason}; {scan.extent.records} valid records carried over"
        return [Recovered(day, name, "salvaged", first.start, lost, lost, kept, detail)]
    size = scan.extent.bytes
    if entry is not None and not is_repaired(path) and not _is_as_sealed(path, size, entry):
        lost = max(0, entry.bytes - size)
        kept = salvage(folder, day, number)
        detail = f"not as it was sealed; {scan.extent.records} valid records carried over"
        return [Recovered(day, name, "lost", size, lost, lost, kept, detail)]
    facts = read_facts(path, number)
    table = None if facts is None else read_table(path, facts)
    if table is None or not table.same_as(IdTable.of(scan.ids)):
        sidecar_path(path).unlink(missing_ok=True)
    return []


def _is_as_sealed(path: Path, size: int, entry: SealedSegment) -> bool:
    return size == entry.bytes and file_sha256(path, size) == entry.sha256


def _replace_missing(
    folder: Path, day: date, number: int, name: str, entry: SealedSegment | None
) -> Recovered:
    """Put an empty segment where a sealed one is missing."""
    path = folder / name
    lost = entry.bytes if entry is not None else 0
    records = entry.records if entry is not None else 0
    mark_repaired(path, HEADER_BYTES)
    replace_file(path, segment_header(day, number))
    sidecar_path(path).unlink(missing_ok=True)
    return Recovered(day, name, "lost", 0, lost, lost, None, f"missing, with {records} records")


def _forget_marks(folder: Path, done: list[Recovered]) -> None:
    """Forget up to where salvaged segments were synced: they are other files now."""
    numbers = {segment_number(found.name) for found in done}
    kept = read_counts(folder)
    synced = {number: size for number, size in kept.synced.items() if number not in numbers}
    if len(synced) != len(kept.synced):
        write_counts(folder, replace(kept, synced=synced), durable=True)
