"""What to do with a segment that was not closed, or does not read well.

Two kinds of damage look alike and must not be treated alike.

A *torn tail* is what a crash leaves: the last write got only part of the way. Nothing valid follows
it, it was never acknowledged, and appending can go on once it is cut. The bytes that are cut are
kept beside the segment as `.torn`.

*Rot* is damage that valid records follow: the disk lost something that it had. The segment is left
as it is, appending goes on in a new one, and whoever reads the day is told. `repair_day` salvages
what is valid; the damaged file is kept as `.damaged`. A power cut may also leave a hole in what was
written but not yet synced. Nobody can prove then that it was not, so it counts as rot.
"""

import os
import shutil
import zlib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from consumer.journal.durable import (
    UNFINISHED_SUFFIX,
    checked_json,
    file_sha256,
    fsync_folder,
    open_private,
    parse_checked_json,
    replace_file,
    write_all,
)
from consumer.journal.frames import FRAME, Gap
from consumer.journal.idtable import IdTable
from consumer.journal.segment import (
    DAMAGED_SUFFIX,
    REPAIRED_SUFFIX,
    TORN_SUFFIX,
    Extent,
    SegmentScan,
    scan_segment,
    segment_header,
    segment_name,
    valid_frames,
)
from consumer.journal.sidecar import SegmentFacts, sidecar_path, write_sidecar


@dataclass(frozen=True, slots=True)
class Recovered:
    """Something that was not in order when a day was opened, and what became of it.

    Attributes:
        name: the file, inside the day's folder.
        kind: torn: a tail was cut. salvaged: valid records were carried over into a new file.
            rot: damage that stays until it is repaired. lost: bytes that had been synced are not
            there. seal: a seal that cannot be read. counts: `counts.json` was begun anew.
        offset: where the damage begins.
        bytes: how many bytes are damaged.
        synced_bytes: how many of them are known to have been synced: acknowledged events. It may
            have been more; a torn tail may hold the last second's.
        kept: the file that holds the damaged bytes now, or None.
    """

    day: date
    name: str
    kind: Literal["torn", "salvaged", "rot", "lost", "seal", "counts"]
    offset: int
    bytes: int
    synced_bytes: int
    kept: str | None
    detail: str

    @property
    def message(self) -> str:
        """One line for a log: day, file, place, damage."""
        kept = f"; kept as {self.kept}" if self.kept else ""
        return (
            f"day {self.day}: {self.name} at offset {self.offset}: {self.kind}, "
            f"{self.bytes} bytes, {self.synced_bytes} of them known to have been synced: "
            f"{self.detail}{kept}"
        )


def recover_segment(
    folder: Path, day: date, number: int, synced: int | None, report: list[Recovered]
) -> SegmentFacts | None:
    """Make a segment whole that has no sidecar, and write its sidecar.

    `synced` is the size up to which it is known to have been synced, None if that is not known.
    Returns its facts; None if it is rotten and was left alone, or if nothing was in it and it was
    removed. What was not in order goes to `report`. Raises OSError.
    """
    path = folder / segment_name(number)
    scan = scan_segment(path, day, number)
    if scan.rot is not None:
        report += _facts_of(scan, day, "rot", synced, None)
        return None
    size = scan.extent.bytes
    if synced is not None and size < synced:
        detail = f"{synced} bytes had been synced, the file has {size}"
        lost = synced - size
        report.append(Recovered(day, path.name, "lost", size, lost, lost, None, detail))
    torn_at = scan.torn_at
    if torn_at is not None:
        kept = _keep_tail(path, torn_at) if torn_at < size else None
        if torn_at < size:
            report += _facts_of(scan, day, "torn", synced, kept)
        if torn_at == 0:
            path.unlink()
            fsync_folder(folder)
            return None
    return _close(scan, number, size if torn_at is None else torn_at)


def salvage(folder: Path, day: date, number: int) -> str:
    """Carry the valid records of a segment over into a new file of its name.

    Returns the name under which the damaged file is kept. At every moment of a crash the segment's
    name belongs to the one file or to the other. Raises OSError.
    """
    path = folder / segment_name(number)
    kept = _free_name(path, DAMAGED_SUFFIX)
    kept.hardlink_to(path)
    fsync_folder(folder)
    fresh = path.with_name(path.name + UNFINISHED_SUFFIX)
    out = open_private(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        write_all(out, segment_header(day, number))
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            for frames in valid_frames(file, size, day, number, []):
                write_all(out, b"".join(_frame_again(body) for _, body in frames))
        os.fsync(out)
        mark_repaired(path, os.fstat(out).st_size)
    finally:
        os.close(out)
    sidecar_path(path).unlink(missing_ok=True)
    fresh.replace(path)
    fsync_folder(folder)
    return kept.name


def mark_repaired(path: Path, size: int) -> None:
    """Note that a segment may be `size` bytes long, whatever its seal says. Raises OSError."""
    replace_file(path.with_suffix(REPAIRED_SUFFIX), checked_json({"bytes": size}))


def is_repaired(path: Path) -> bool:
    """Whether a segment is what a repair left of it. Raises OSError."""
    try:
        marked = parse_checked_json(path.with_suffix(REPAIRED_SUFFIX).read_bytes())
        return bool(marked["bytes"] == path.stat().st_size)
    except (FileNotFoundError, ValueError, KeyError):
        return False


def _frame_again(body: memoryview) -> bytes:
    return FRAME.pack(len(body), zlib.crc32(body)) + body


def _close(scan: SegmentScan, number: int, size: int) -> SegmentFacts:
    """Cut a segment to `size`, sync it, and write its sidecar."""
    fd = os.open(scan.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if size < scan.extent.bytes:
            os.ftruncate(fd, size)
        os.fsync(fd)
    finally:
        os.close(fd)
    was = scan.extent
    extent = Extent(size, was.records, was.first_ns, was.last_ns, was.last_arrival_ns)
    facts = SegmentFacts(number, extent, file_sha256(scan.path, size))
    write_sidecar(scan.path, facts, IdTable.of(scan.ids))
    return facts


def _keep_tail(path: Path, start: int) -> str:
    kept = _free_name(path, TORN_SUFFIX)
    with (
        path.open("rb") as source,
        os.fdopen(open_private(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as target,
    ):
        source.seek(start)
        shutil.copyfileobj(source, target, 1 << 20)
        target.flush()
        os.fsync(target.fileno())
    fsync_folder(path.parent)
    return kept.name


def _free_name(path: Path, suffix: str) -> Path:
    kept = path.with_suffix(suffix)
    attempt = 1
    while kept.exists():
        attempt += 1
        kept = path.with_name(f"{path.stem}-{attempt}{suffix}")
    return kept


def _facts_of(
    scan: SegmentScan,
    day: date,
    kind: Literal["torn", "salvaged", "rot"],
    synced: int | None,
    kept: str | None,
) -> list[Recovered]:
    return [
        Recovered(
            day=day,
            name=scan.path.name,
            kind=kind,
            offset=gap.start,
            bytes=gap.end - gap.start,
            synced_bytes=_overlap(gap, synced),
            kept=kept,
            detail=gap.reason,
        )
        for gap in scan.gaps
    ]


def _overlap(gap: Gap, synced: int | None) -> int:
    return max(0, min(gap.end, synced or 0) - gap.start)
