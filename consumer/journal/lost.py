"""Naming the events that damage took, one by one, as far as anything still tells them.

The sidecar of a segment has the digest of every event, and its seal the number of them; the records
before and after a gap bound the time of what was in it; and of a damaged record often only the
payload is hurt, so that its head still says when it was, and its payload who it was. A name is only
given where it proves itself: the digest of the identity that was read must be one of those missing.
"""

import io
import json
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import lz4.block
import numpy as np
from google.protobuf.message import DecodeError

from consumer.days import NS_PER_SECOND
from consumer.journal.durable import replace_file
from consumer.journal.frames import FRAME, FRAME_BYTES, Gap
from consumer.journal.idtable import IdTable
from consumer.journal.record import COMPRESSED, HEAD, HEAD_BYTES, MAX_PAYLOAD_BYTES
from consumer.journal.retired import LOST_SUFFIX
from consumer.journal.seal import SealedSegment
from consumer.journal.segment import HEADER_BYTES, Extent, scan_segment, valid_frames
from consumer.journal.sidecar import SegmentFacts, read_facts, read_table
from consumer.wire.identity import identity_digest
from proto.admission_pb2 import AdmissionEvent


@dataclass(frozen=True, slots=True)
class LostEvent:
    """An event that was in the journal. What cannot be told any more is None; times are UTC ns."""

    digest: str
    offset: int | None = None
    time_ns: int | None = None
    event_id: str | None = None
    node: str | None = None


@dataclass(frozen=True, slots=True)
class LostPart:
    """What a segment has lost.

    Attributes:
        name: of the segment.
        ranges: damaged bytes `[start, end)`; up to the sealed size if the file is shorter.
        events: how many events are lost; None if nothing tells.
        after_ns: time of the last valid record before the damage, UTC ns; None at the start.
        before_ns: time of the first valid record after it; None at the end.
        named: the lost events that can be told from others, in the order of their place.
    """

    day: date
    name: str
    ranges: tuple[tuple[int, int], ...]
    events: int | None
    after_ns: int | None
    before_ns: int | None
    named: tuple[LostEvent, ...]

    @property
    def list_name(self) -> str:
        """The file in the day's folder that `write_list` makes."""
        return Path(self.name).with_suffix(LOST_SUFFIX).name

    def write_list(self, folder: Path) -> None:
        """Write every named event to `list_name`, one JSON object a line. Raises OSError."""
        lines = [json.dumps(asdict(event)) + "\n" for event in self.named]
        replace_file(folder / self.list_name, "".join(lines).encode())

    def to_json(self, shown: int = 20) -> dict[str, Any]:
        """As `dayfold repair --json` prints it, with the first `shown` of the named events."""
        return {
            "day": self.day.isoformat(),
            "segment": self.name,
            "ranges": [list(part) for part in self.ranges],
            "bytes": sum(end - start for start, end in self.ranges),
            "events": self.events,
            "after_ns": self.after_ns,
            "before_ns": self.before_ns,
            "named": [asdict(event) for event in self.named[:shown]],
            "list": self.list_name if self.named else None,
        }


def find_lost(folder: Path, day: date, number: int, entry: SealedSegment | None) -> LostPart | None:
    """Say what a segment has lost against its seal and its sidecar; None if it is whole.

    To be called before the segment is repaired, because that removes the sidecar. Raises OSError.
    """
    path = folder / f"{number:06d}.seg"
    table = _digests(path, number, entry)
    if not path.exists():
        size = entry.bytes if entry else 0
        named = tuple(LostEvent(digest) for digest in sorted(_hex(table)))
        events = entry.records if entry else _count(table)
        return LostPart(day, path.name, ((0, size),), events, None, None, named)
    scan = scan_segment(path, day, number)
    ranges = [(gap.start, gap.end) for gap in scan.gaps]
    if entry is not None and entry.bytes > scan.extent.bytes:
        ranges.append((scan.extent.bytes, entry.bytes))
    missing = _hex(table, without=IdTable.of(scan.ids))
    if not ranges and not missing:
        return None
    with path.open("rb", buffering=0) as file:
        read = list(_in_gaps(file, scan.gaps, missing if table is not None else None))
        after_ns, before_ns = _neighbours(file, day, number, ranges)
    placed = {event.digest for event in read}
    named = (*read, *(LostEvent(digest) for digest in sorted(missing - placed)))
    if entry is not None:
        events = max(0, entry.records - scan.extent.records)
    else:
        events = len(missing) if table is not None else None
    return LostPart(day, path.name, tuple(ranges), events, after_ns, before_ns, named)


def _digests(path: Path, number: int, entry: SealedSegment | None) -> IdTable | None:
    """The digests of every event that the segment had, or None if nothing has them."""
    try:
        if entry is not None:
            extent = Extent(entry.bytes, entry.records, None, None, None)
            return read_table(path, SegmentFacts(number, extent, entry.sha256))
        facts = read_facts(path, number) if path.exists() else None
        return None if facts is None else read_table(path, facts)
    except OSError:
        return None


def _hex(table: IdTable | None, without: IdTable | None = None) -> set[str]:
    if table is None or not len(table):
        return set()
    pairs = np.stack([table.first, table.second], axis=1).astype("<u8")
    if without is not None:
        pairs = pairs[~without.contains(pairs)]
    return {pair.tobytes().hex() for pair in pairs}


def _count(table: IdTable | None) -> int | None:
    return None if table is None else len(table)


def _in_gaps(
    file: io.FileIO, gaps: Sequence[Gap], missing: Collection[str] | None
) -> Iterator[LostEvent]:
    """The records in damaged bytes whose head, at least, can still be believed."""
    for gap in gaps:
        if gap.unreadable:
            continue
        data = os.pread(file.fileno(), gap.end - gap.start, gap.start)
        at = HEADER_BYTES if gap.start == 0 else 0
        while at + FRAME_BYTES + HEAD_BYTES <= len(data):
            length: int = FRAME.unpack_from(data, at)[0]
            event = _read(data[at + FRAME_BYTES : at + FRAME_BYTES + length], gap.start + at)
            known = event.event_id is not None if missing is None else event.digest in missing
            if not known:
                break
            yield event
            at += FRAME_BYTES + length


def _read(body: bytes, offset: int) -> LostEvent:
    if len(body) < HEAD_BYTES:
        return LostEvent("", offset)
    time_ns, _, digest, flags, raw_size = HEAD.unpack_from(body)
    payload = body[HEAD_BYTES:]
    event_id = node = None
    try:
        if flags & COMPRESSED:
            if raw_size > MAX_PAYLOAD_BYTES:
                raise ValueError
            payload = lz4.block.decompress(payload, uncompressed_size=raw_size)
        event = AdmissionEvent.FromString(payload)
    except (lz4.block.LZ4BlockError, DecodeError, ValueError):
        pass
    else:
        stamp = event.event_timestamp
        own_ns = stamp.seconds * NS_PER_SECOND + stamp.nanos
        if digest == identity_digest(event.originating_node_id, event.event_id, own_ns):
            event_id, node = event.event_id, event.originating_node_id
    return LostEvent(digest.hex(), offset, time_ns, event_id, node)


def _neighbours(
    file: io.FileIO, day: date, number: int, ranges: Sequence[tuple[int, int]]
) -> tuple[int | None, int | None]:
    """Times of the last valid record before the first range, and of the first after the last."""
    if not ranges:
        return None, None
    after_ns = before_ns = None
    size = os.fstat(file.fileno()).st_size
    for frames in valid_frames(file, size, day, number, []):
        for offset, body in frames:
            if offset < ranges[0][0]:
                after_ns = HEAD.unpack_from(body)[0]
            elif offset >= ranges[-1][1]:
                return after_ns, HEAD.unpack_from(body)[0]
    return after_ns, before_ns
