"""The segment: an append-only file of records, one day's events in the order of their arrival.

::

    magic       8 B     "dayfoldJ"
    version     u16     1
    header      u16     size of this header, 24
    day         u32     proleptic Gregorian ordinal of the day
    number      u32     the number in the file's name
    checksum    u32     CRC-32 of the 20 bytes before it
    records ...

Segments of a day are numbered from 1 in the order in which they were begun: `000001.seg`.
"""

import io
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from consumer.journal.durable import open_private
from consumer.journal.frames import Frames, Gap, walk_frames
from consumer.journal.idtable import Ids, ids_of
from consumer.journal.record import HEAD, RULES

SEGMENT_SUFFIX = ".seg"
IDS_SUFFIX = ".ids"
DAMAGED_SUFFIX = ".damaged"
TORN_SUFFIX = ".torn"
REPAIRED_SUFFIX = ".repaired"

MAGIC = b"dayfoldJ"
VERSION = 1
HEADER = struct.Struct("<8sHHIII")
HEADER_BYTES = HEADER.size

_NAME = re.compile(r"(\d{6,})(?:-\d+)?\.(?:seg|ids|torn|damaged|repaired)")

Write = Callable[[int, bytes | memoryview], int]


def segment_name(number: int) -> str:
    """Return the file name of a segment."""
    return f"{number:06d}{SEGMENT_SUFFIX}"


def segment_number(name: str) -> int | None:
    """Return the number in the name of a segment, or of a file that belongs to one."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def segment_header(day: date, number: int) -> bytes:
    """Return the 24 bytes that a segment begins with."""
    bare = HEADER.pack(MAGIC, VERSION, HEADER_BYTES, day.toordinal(), number, 0)[:-4]
    return bare + zlib.crc32(bare).to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a segment goes, and what is in it. Times are UTC ns; None while it is empty."""

    bytes: int
    records: int
    first_ns: int | None
    last_ns: int | None
    last_arrival_ns: int | None


class SegmentWriter:
    """The one appender of one segment. Not thread-safe; the journal's lock guards it.

    `extent` describes what was appended and confirmed; bytes of a write that failed half-way lie
    behind `extent.bytes` until `cut_back` removes them.
    """

    def __init__(self, path: Path, fd: int, number: int, extent: Extent, write: Write) -> None:
        self.path = path
        self.fd = fd
        self.number = number
        self.extent = extent
        self.synced_bytes = 0
        self._write = write

    @classmethod
    def create(cls, folder: Path, day: date, number: int, write: Write) -> "SegmentWriter":
        """Begin a segment. Raises OSError, and then leaves no file behind."""
        path = folder / segment_name(number)
        fd = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
        writer = cls(path, fd, number, Extent(HEADER_BYTES, 0, None, None, None), write)
        try:
            writer.append(segment_header(day, number))
        except OSError:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        return writer

    @classmethod
    def reopen(cls, path: Path, number: int, extent: Extent, write: Write) -> "SegmentWriter":
        """Go on with a segment that ends where `extent` says. Raises OSError."""
        fd = open_private(path, os.O_WRONLY | os.O_APPEND)
        writer = cls(path, fd, number, extent, write)
        writer.synced_bytes = extent.bytes
        size = os.fstat(fd).st_size
        if size != extent.bytes:
            os.close(fd)
            raise OSError(f"{path} has {size} bytes, not {extent.bytes}: another program wrote it")
        return writer

    def append(self, data: bytes) -> None:
        """Write all of `data` behind what is there. Raises OSError; then call `cut_back`."""
        view = memoryview(data)
        while view:
            view = view[self._write(self.fd, view) :]

    def confirm(self, size: int, records: int, times: list[int], arrival_ns: int) -> None:
        """Count `size` bytes of `records` records that `append` has written."""
        was = self.extent
        first, last = min(times), max(times)
        self.extent = Extent(
            was.bytes + size,
            was.records + records,
            first if was.first_ns is None else min(was.first_ns, first),
            last if was.last_ns is None else max(was.last_ns, last),
            arrival_ns if was.last_arrival_ns is None else max(was.last_arrival_ns, arrival_ns),
        )

    def cut_back(self) -> None:
        """Remove what was written but not confirmed. Raises OSError."""
        os.ftruncate(self.fd, self.extent.bytes)


@dataclass(frozen=True, slots=True)
class SegmentScan:
    """What every byte of a segment says.

    Attributes:
        extent: of the valid records; `extent.bytes` is the size of the whole file.
        ids: digests of the valid records, in their order.
        gaps: where no valid record lies, in order. A header that is not right is a gap, too.
    """

    path: Path
    extent: Extent
    ids: Ids
    gaps: tuple[Gap, ...]

    @property
    def torn_at(self) -> int | None:
        """Where the file stops making sense for good: no valid record follows. None if it ends well."""
        last = self.gaps[-1] if self.gaps else None
        if last is None or last.end < self.extent.bytes or last.unreadable:
            return None
        return last.start

    @property
    def rot(self) -> Gap | None:
        """The first damage that is not a torn tail: valid records may follow it. Else None."""
        for gap in self.gaps:
            if gap.end < self.extent.bytes or gap.unreadable:
                return gap
        return None


def scan_segment(path: Path, day: date, number: int) -> SegmentScan:
    """Read all of a segment and check every checksum. Raises OSError only."""
    gaps: list[Gap] = []
    digests = bytearray()
    records = 0
    bounds: list[int] = []
    last_arrival: int | None = None
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        for frames in valid_frames(file, size, day, number, gaps):
            heads = [HEAD.unpack_from(body) for _, body in frames]
            digests += b"".join([head[2] for head in heads])
            records += len(heads)
            times = [head[0] for head in heads]
            bounds += (min(times), max(times))
            arrived = max(head[1] for head in heads)
            last_arrival = arrived if last_arrival is None else max(last_arrival, arrived)
    first, last = (min(bounds), max(bounds)) if bounds else (None, None)
    extent = Extent(size, records, first, last, last_arrival)
    return SegmentScan(path, extent, ids_of(bytes(digests)), tuple(gaps))


def valid_frames(
    file: io.FileIO, size: int, day: date, number: int, gaps: list[Gap]
) -> Iterator[Frames]:
    """Yield the valid frames of a segment of `size` bytes; what is wrong is added to `gaps`."""
    header = _header_of(file)
    if header == segment_header(day, number):
        yield from walk_frames(file, HEADER_BYTES, size, RULES, gaps)
        return
    reason = "not the header of this segment"
    body_gaps: list[Gap] = []
    found = False
    for frames in walk_frames(file, min(HEADER_BYTES, size), size, RULES, body_gaps):
        if not found:
            gaps.append(Gap(0, frames[0][0], reason))
            found = True
        yield frames
    if found:
        gaps.extend(
            gap for gap in body_gaps if gap.start > gaps[0].start and gap.start >= gaps[0].end
        )
    else:
        gaps.append(Gap(0, size, reason))


def _header_of(file: io.FileIO) -> bytes:
    try:
        return os.pread(file.fileno(), HEADER_BYTES, 0)
    except OSError:  # the records that follow tell the same story, in a gap of their own
        return b""
