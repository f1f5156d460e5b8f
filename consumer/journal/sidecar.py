"""The `.ids` sidecar: the digests of one segment, sorted, and the facts about it.

Little-endian::

    magic            8 B   "dayfoldI"
    version          u32   1
    body checksum    u32   CRC-32 of the body
    segment bytes    u64   the sidecar describes a segment of exactly this size
    records          u64
    first_ns         i64   lowest effective time, UTC ns (0 if there is no record)
    last_ns          i64   highest effective time
    last_arrival_ns  i64   latest arrival
    sha256           32 B  of the segment
    unused           4 B   so that the body is aligned to 8 bytes, without which it is copied
                           whenever it is searched
    checksum         u32   CRC-32 of the header before it
    body                   records x u64: first halves, sorted; records x u64: second halves

It saves reading the segment. It is rebuilt from the segment when it is missing, bad, or describes
another size, so it may be removed at any time.
"""

import mmap
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from consumer.journal.durable import replace_file
from consumer.journal.idtable import IdTable
from consumer.journal.segment import IDS_SUFFIX, Extent
from consumer.wire.identity import DIGEST_BYTES

MAGIC = b"dayfoldI"
VERSION = 1
HEADER = struct.Struct("<8sIIQQqqq32s4xI")
_CHECKSUM_BYTES = 4
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """A segment that nobody appends to: how far it goes, and the SHA-256 (hex) of its bytes."""

    number: int
    extent: Extent
    sha256: str


def sidecar_path(segment: Path) -> Path:
    """Return where the sidecar of a segment lies."""
    return segment.with_suffix(IDS_SUFFIX)


def write_sidecar(segment: Path, facts: SegmentFacts, table: IdTable) -> None:
    """Write the sidecar of `segment`, durably. Raises OSError."""
    extent = facts.extent
    first = np.ascontiguousarray(table.first, dtype="<u8").tobytes()
    second = np.ascontiguousarray(table.second, dtype="<u8").tobytes()
    header = HEADER.pack(
        MAGIC,
        VERSION,
        zlib.crc32(second, zlib.crc32(first)),
        extent.bytes,
        extent.records,
        extent.first_ns or 0,
        extent.last_ns or 0,
        extent.last_arrival_ns or 0,
        bytes.fromhex(facts.sha256),
        0,
    )[:-_CHECKSUM_BYTES]
    checksum = zlib.crc32(header).to_bytes(_CHECKSUM_BYTES, "little")
    replace_file(sidecar_path(segment), header + checksum, first, second)


def read_facts(segment: Path, number: int) -> SegmentFacts | None:
    """Return what the sidecar says, or None if it is missing, bad, or of another size of segment.

    Raises OSError if the sidecar is there but cannot be read.
    """
    try:
        with sidecar_path(segment).open("rb") as file:
            header = file.read(HEADER.size)
    except FileNotFoundError:
        return None
    facts = _parse(header, number)
    if facts is None or facts.extent.bytes != segment.stat().st_size:
        return None
    return facts


def read_table(segment: Path, facts: SegmentFacts) -> IdTable | None:
    """Return the digests, mapped from the sidecar, or None if it is not the one of `facts`.

    All were compared with their checksum; none is in memory yet.

    Raises OSError if the sidecar is there but cannot be read.
    """
    path = sidecar_path(segment)
    records = facts.extent.records
    try:
        with path.open("rb") as file:
            header = file.read(HEADER.size)
            stated = _parse(header, facts.number)
            if stated is None or stated.sha256 != facts.sha256 or stated.extent.records != records:
                return None
            if os.fstat(file.fileno()).st_size != HEADER.size + records * DIGEST_BYTES:
                return None
            # Read, not mapped yet: a bad sector is an error here, and would be a signal there.
            checksum = 0
            while block := file.read(_BLOCK_BYTES):
                checksum = zlib.crc32(block, checksum)
            if checksum != HEADER.unpack(header)[2]:
                return None
            pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        return None
    body: NDArray[np.uint64] = np.frombuffer(pages, dtype="<u8", offset=HEADER.size)
    return IdTable(body[:records], body[records:], pages)


def _parse(header: bytes, number: int) -> SegmentFacts | None:
    if len(header) != HEADER.size:
        return None
    magic, version, _, size, records, first, last, arrival, sha256, checksum = HEADER.unpack(header)
    if magic != MAGIC or version != VERSION:
        return None
    if zlib.crc32(header[:-_CHECKSUM_BYTES]) != checksum:
        return None
    times = (first, last, arrival) if records else (None, None, None)
    return SegmentFacts(number, Extent(size, records, *times), sha256.hex())
